//! The query of a request for a secret: `list`, `version`, `versions`, `rollback`.
//!
//! What is not known, given twice or of the wrong form is refused: a misspelt `version` must not
//! become the newest one, nor a misspelt `list` a value.

use percent_encoding::percent_decode_str;
use watchword_protocol::ErrorCode;

use crate::serve::Failure;

/// What a query asks for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Parameters {
    /// The names below the path.
    pub(super) list: bool,
    /// This version is to be the newest.
    pub(super) rollback: Option<u64>,
    /// This version, not the newest.
    pub(super) version: Option<u64>,
    /// Which versions there are.
    pub(super) versions: bool,
}

impl Parameters {
    /// Reads the part of a URL after its `?`.
    ///
    /// # Errors
    ///
    /// `BadRequest`, naming the parameter.
    pub(super) fn parse(query: Option<&str>) -> Result<Self, Failure> {
        let mut parameters = Self::default();
        let mut seen = Vec::new();
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        for pair in pairs {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decoded(name);
            let value = decoded(value);
            match name.as_str() {
                "list" => parameters.list = flag("list", &value)?,
                "rollback" => parameters.rollback = Some(number("rollback", &value)?),
                "version" => parameters.version = Some(number("version", &value)?),
                "versions" => parameters.versions = flag("versions", &value)?,
                name => {
                    return Err(bad(format!(
                        "there is no parameter `{}`: use `list`, `rollback`, `version` or `versions`",
                        shortened(name)
                    )));
                }
            }
            if seen.contains(&name) {
                return Err(bad(format!("the parameter `{name}` is given twice")));
            }
            seen.push(name);
        }
        Ok(parameters)
    }
}

fn flag(name: &str, value: &str) -> Result<bool, Failure> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(bad(format!("the parameter `{name}` must be `true` or `false`"))),
    }
}

fn number(name: &str, value: &str) -> Result<u64, Failure> {
    // Digits only: `parse` would take a sign too.
    let number = value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok());
    let number = number.flatten().filter(|&number| number > 0);
    number.ok_or_else(|| bad(format!("the parameter `{name}` must be a version: 1, 2, 3, …")))
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn shortened(name: &str) -> String {
    name.chars().take(MAX_NAME_CHARACTERS).collect()
}

fn bad(message: String) -> Failure {
    Failure::new(ErrorCode::BadRequest, message)
}

/// So much of an unknown name is said back.
const MAX_NAME_CHARACTERS: usize = 40;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("", Parameters::default())]
    #[case("list=true", Parameters { list: true, ..Parameters::default() })]
    #[case("list=false", Parameters::default())]
    #[case("version=3", Parameters { version: Some(3), ..Parameters::default() })]
    #[case("v%65rsion=%33", Parameters { version: Some(3), ..Parameters::default() })]
    #[case("versions=true&", Parameters { versions: true, ..Parameters::default() })]
    #[case("rollback=18446744073709551615",
        Parameters { rollback: Some(u64::MAX), ..Parameters::default() })]
    fn a_query_says_what_is_wanted(#[case] query: &str, #[case] expected: Parameters) {
        assert_eq!(Parameters::parse(Some(query)).unwrap(), expected);
    }

    #[rstest]
    #[case("version=x", "`version` must be a version")]
    #[case("version=", "`version` must be a version")]
    #[case("version=0", "`version` must be a version")]
    #[case("version=-1", "`version` must be a version")]
    #[case("version=+1", "`version` must be a version")]
    #[case("version=18446744073709551616", "`version` must be a version")]
    #[case("list", "`list` must be `true` or `false`")]
    #[case("list=TRUE", "`list` must be `true` or `false`")]
    #[case("list=true&list=false", "`list` is given twice")]
    #[case("verison=3", "no parameter `verison`")]
    #[case("List=true", "no parameter `List`")]
    #[case("a%00b=1", "no parameter `a\0b`")]
    fn what_is_not_understood_is_refused(#[case] query: &str, #[case] words: &str) {
        let failure = Parameters::parse(Some(query)).unwrap_err();

        assert_eq!(failure.code, ErrorCode::BadRequest);
        assert!(failure.message.contains(words), "{}", failure.message);
    }

    proptest! {
        #[test]
        fn no_query_is_too_strange_and_no_answer_is_long(query in ".{0,2000}") {
            if let Err(failure) = Parameters::parse(Some(&query)) {
                prop_assert!(failure.message.len() < 400);
            }
        }
    }
}
