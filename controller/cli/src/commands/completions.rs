//! `watchword completions SHELL`: a completion script on stdout.

use crate::{
    args::{self, CompletionsArgs},
    output::Output,
};

pub(super) fn run(args: &CompletionsArgs, output: &mut Output) -> anyhow::Result<()> {
    let CompletionsArgs { shell } = args;
    // Into memory first: clap_complete panics on a stream that fails, and a closed pipe is fine.
    let mut script = Vec::new();
    clap_complete::generate(*shell, &mut args::command(), "watchword", &mut script);
    Ok(output.bytes(&script)?)
}

#[cfg(test)]
mod tests {
    use clap_complete::Shell;
    use rstest::rstest;

    use super::*;
    use crate::output::tests::captured;

    #[rstest]
    #[case(Shell::Bash)]
    #[case(Shell::Fish)]
    #[case(Shell::Zsh)]
    fn a_script_knows_the_commands(#[case] shell: Shell) {
        let (mut output, data, _) = captured(false);

        run(&CompletionsArgs { shell }, &mut output).unwrap();

        for word in ["secret", "versions", "store", "validate"] {
            assert!(data.text().contains(word), "{shell}: {word}");
        }
    }
}
