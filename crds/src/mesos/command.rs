//! What a task runs, and with which environment.

use super::Secret;

super::messages! {
    /// A command: what runs, its arguments, its environment and files to fetch.
    #[derive(Debug)]
    pub struct CommandInfo {
        /// Files to fetch into the sandbox before the start. Not fetched yet.
        pub uris: Vec<Uri>,
        /// Environment variables, plain and secret.
        pub environment: Option<Environment>,
        /// Whether `value` is run by `/bin/sh -c` (the default) or is an executable.
        pub shell: Option<bool>,
        /// The shell's command line or, with `shell: false`, the executable.
        pub value: Option<String>,
        /// The whole argv, `argv[0]` included, when `shell` is false; ignored otherwise.
        pub arguments: Vec<String>,
        /// The user to run as; a number is a user id.
        pub user: Option<String>,
    }

    /// Environment variables.
    #[derive(Debug)]
    pub struct Environment {
        /// The variables, each name at most once.
        pub variables: Vec<Variable>,
    }

    /// One environment variable.
    #[derive(Debug)]
    pub struct Variable {
        /// The variable's name.
        pub name: Option<String>,
        /// `VALUE` (the default) or `SECRET`.
        pub r#type: Option<String>,
        /// The plain text; for type `VALUE`.
        pub value: Option<String>,
        /// Where the value comes from; for type `SECRET`.
        pub secret: Option<Secret>,
    }

    /// A file to fetch before the start.
    #[derive(Debug)]
    pub struct Uri {
        /// The address.
        pub value: Option<String>,
        /// Whether to make the file executable; switches `extract` off.
        pub executable: Option<bool>,
        /// Whether to unpack archives (the default).
        pub extract: Option<bool>,
        /// Whether to keep a copy for the next start.
        pub cache: Option<bool>,
        /// The file's name in the sandbox, instead of the address' last part.
        pub output_file: Option<String>,
    }
}
