//! Paths of secrets, and names of objects: one text for one thing.

#![no_main]

use libfuzzer_sys::fuzz_target;
use watchword_store::{ObjectName, SecretPath};

fuzz_target!(|text: &str| {
    if let Ok(path) = text.parse::<SecretPath>() {
        assert_eq!(path.as_str(), text.strip_prefix('/').unwrap_or(text));
        assert!(!path.as_str().contains("..") && !path.as_str().contains("//"));
    }
    if let Some(name) = ObjectName::parse(text) {
        assert_eq!(name.as_str(), text);
    }
});
