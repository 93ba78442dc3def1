//! Names that tenants write: of secrets, service ids and paths in containers. None of them can leave
//! the place that its components say.

#![no_main]

use libfuzzer_sys::fuzz_target;
use watchword_core::container_path::ContainerPath;
use watchword_core::reference::SecretName;
use watchword_core::space::{Ownership, check_service_id, may_read};

fuzz_target!(|text: &str| {
    let (first, second) = text.split_once('\n').unwrap_or((text, ""));
    if check_service_id(first).is_ok() {
        assert!(!first.split('/').any(|component| matches!(component, "." | "..")));
        let owned = Ownership::default().check("shop", first).is_ok();
        assert_eq!(owned, first == "/shop" || first.starts_with("/shop/"), "{first:?}");
    }
    if let Ok(name) = second.parse::<SecretName>() {
        let parent = name.parent();
        if may_read(&name, first) && !parent.is_empty() {
            let id = format!(
                "/{}/",
                first.split('/').filter(|one| !one.is_empty()).collect::<Vec<_>>().join("/")
            );
            assert!(id.starts_with(&format!("/{parent}/")), "{parent:?} for {id:?}");
        }
    }
    if let Ok(path) = ContainerPath::parse(first) {
        let absolute = path.absolute();
        assert!(absolute.starts_with('/') && !absolute.split('/').any(|part| part == ".."));
    }
});
