//! Secrets as task definitions name them: by reference, or (refused unless a Space allows it) by value.

use std::fmt;

super::messages! {
    /// A secret, by reference or by value.
    #[derive(Debug)]
    pub struct Secret {
        /// `REFERENCE` or `VALUE`.
        pub r#type: Option<String>,
        /// Where the secret is kept; for type `REFERENCE`.
        pub reference: Option<Reference>,
        /// The secret itself, in plain sight of whoever reads this object; for type `VALUE`.
        pub value: Option<SecretValue>,
    }

    /// The name of a secret in the store.
    #[derive(Debug)]
    pub struct Reference {
        /// The secret's path, such as `shop/db`; one leading `/` makes no difference.
        pub name: Option<String>,
        /// The member to take, where the secret is a JSON object of texts.
        pub key: Option<String>,
    }

    /// An inline value. It has no `Debug` of its fields, so that no log shows it.
    pub struct SecretValue {
        /// The value's bytes in base64.
        pub data: Option<String>,
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inline_value_is_not_shown_by_debug() {
        let value = SecretValue { data: Some("Y2FuYXJ5".into()) };
        let secret =
            Secret { r#type: Some("VALUE".into()), value: Some(value), ..Secret::default() };

        let shown = format!("{secret:?}");

        assert!(shown.contains("redacted") && !shown.contains("Y2FuYXJ5"), "{shown}");
    }
}
