//! Container names: what the containers of a pod are called after the tasks of a definition.
//!
//! A task's name is any text, a container's is a DNS label that is unique in its pod. Names that are
//! labels already stay as they are, so that adopted containers keep theirs.

use watchword_crds::mesos::TaskInfo;
use watchword_crds::names;

/// The containers' names, in the order of the tasks: a DNS label (RFC 1123) each, no two alike, none
/// that begins like ours.
pub fn container_names(tasks: &[TaskInfo]) -> Vec<String> {
    // Names that are right as they stand come first, so that a neighbour never changes them.
    let mut taken: Vec<Option<String>> = Vec::with_capacity(tasks.len());
    for task in tasks {
        let name = task.name.as_deref().unwrap_or_default();
        let free = !taken.iter().flatten().any(|other| other == name);
        taken.push((is_container_name(name) && free).then(|| name.to_owned()));
    }
    for (index, task) in tasks.iter().enumerate() {
        if taken[index].is_none() {
            let base = label(task.name.as_deref().unwrap_or_default());
            let name = (1..).map(|count| numbered(&base, count)).find(|name| {
                is_container_name(name) && !taken.iter().flatten().any(|other| other == name)
            });
            taken[index] = name;
        }
    }
    taken.into_iter().flatten().collect()
}

/// Whether a text is a container's name as it stands, and not one of ours.
pub fn is_container_name(text: &str) -> bool {
    text.len() <= MAX_LABEL_BYTES && is_label(text) && !text.starts_with(names::POD_NAME_PREFIX)
}

/// Whether a text has the form of a DNS label (RFC 1123), however long it is.
pub(crate) fn is_label(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && edge(text.as_bytes().first())
        && edge(text.as_bytes().last())
}

/// The label that is nearest to a text.
fn label(text: &str) -> String {
    let mut label = String::new();
    for character in text.chars().map(|one| one.to_ascii_lowercase()) {
        match character {
            'a'..='z' | '0'..='9' => label.push(character),
            _ if label.ends_with('-') || label.is_empty() => {}
            _ => label.push('-'),
        }
    }
    if label.starts_with(names::POD_NAME_PREFIX) {
        label.insert_str(0, "task-");
    }
    // All bytes are ASCII by now.
    label.truncate(MAX_LABEL_BYTES);
    let label = label.trim_end_matches('-');
    if label.is_empty() { "task".to_owned() } else { label.to_owned() }
}

/// `base` itself, then `base-2`, `base-3` …, never too long.
fn numbered(base: &str, count: usize) -> String {
    if count == 1 {
        return base.to_owned();
    }
    let suffix = format!("-{count}");
    let kept = base.len().min(MAX_LABEL_BYTES - suffix.len());
    format!("{}{suffix}", base[..kept].trim_end_matches('-'))
}

/// The longest DNS label (RFC 1123).
const MAX_LABEL_BYTES: usize = 63;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn named(names: &[&str]) -> Vec<String> {
        let tasks: Vec<TaskInfo> = names
            .iter()
            .map(|name| TaskInfo { name: Some((*name).to_owned()), ..TaskInfo::default() })
            .collect();
        container_names(&tasks)
    }

    #[rstest]
    #[case(&["web"], &["web"])]
    #[case(&["Web Server_1"], &["web-server-1"])]
    #[case(&["web", "WEB", "web!"], &["web", "web-2", "web-3"])]
    #[case(&["WEB", "web"], &["web-2", "web"])]
    #[case(&["", "日本", "-"], &["task", "task-2", "task-3"])]
    #[case(&["watchword-files"], &["task-watchword-files"])]
    fn a_task_becomes_a_container_of_a_similar_name(
        #[case] tasks: &[&str],
        #[case] containers: &[&str],
    ) {
        assert_eq!(named(tasks), containers);
    }

    proptest! {
        #[test]
        fn every_task_has_a_name_of_its_own(
            tasks in proptest::collection::vec("[a-cA-C_. -]{0,70}|watchword.{0,3}", 0..20),
        ) {
            let tasks: Vec<&str> = tasks.iter().map(String::as_str).collect();

            let containers = named(&tasks);

            prop_assert_eq!(containers.len(), tasks.len());
            prop_assert!(containers.iter().all(|name| is_container_name(name)), "{:?}", containers);
            prop_assert_eq!(containers.iter().collect::<HashSet<_>>().len(), tasks.len());
        }

        #[test]
        fn a_name_that_can_stay_stays(task in "[a-v][a-z0-9-]{0,20}[a-z0-9]") {
            let containers = named(&["Web", &task, "web"]);

            prop_assert_eq!(&containers[1], &task);
        }
    }
}
