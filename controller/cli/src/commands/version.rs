//! `watchword version`: which watchword this is.

use serde::Serialize;

use crate::{
    args::{Format, VersionArgs},
    output::Output,
};

/// The answer for programs.
#[derive(Serialize)]
struct Version {
    version: &'static str,
    /// The version of what agents and stores say to each other, as this program knows it.
    protocol: u32,
}

pub(super) fn run(args: &VersionArgs, output: &mut Output) -> anyhow::Result<()> {
    let version =
        Version { version: env!("CARGO_PKG_VERSION"), protocol: watchword_protocol::VERSION };
    match args.output {
        None => output.line(&format!("watchword {}", version.version))?,
        Some(Format::Json) => output.json(&version)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::captured;

    #[test]
    fn people_get_a_line_and_programs_get_json() {
        let (mut output, data, _) = captured(false);

        run(&VersionArgs { output: None }, &mut output).unwrap();
        run(&VersionArgs { output: Some(Format::Json) }, &mut output).unwrap();

        let version = env!("CARGO_PKG_VERSION");
        let expected = format!(
            "watchword {version}\n{{\n  \"version\": \"{version}\",\n  \"protocol\": 1\n}}\n"
        );
        assert_eq!(data.text(), expected);
    }
}
