//! Files, and what is said of them.

use rstest::rstest;
use serde_json::Value;

use super::*;
use crate::output::tests::captured;

const GOOD: &str = r#"
apiVersion: watchword.dev/v1alpha1
kind: TaskDefinition
metadata: {name: web, namespace: shop}
spec:
  tasks:
  - name: web
    command: {value: "exec web"}
    container:
      type: MESOS
      mesos: {image: {type: DOCKER, docker: {name: "example.com/web:1"}}}
"#;

struct Judged {
    status: Result<(), ()>,
    stdout: String,
    stderr: String,
}

fn judged(text: &str, format: Option<Format>) -> Judged {
    let home = tempfile::TempDir::new().unwrap();
    let file = home.path().join("web.yaml");
    std::fs::write(&file, text).unwrap();
    let (mut output, data, notes) = captured(false);
    let args = ValidateArgs { files: vec![file], namespace: "default".to_owned(), output: format };

    let status = run(&args, &mut output).map_err(|error| assert!(error.is::<Told>(), "{error}"));

    let home = format!("{}/", home.path().display());
    Judged {
        status,
        stdout: data.text().replace(&home, ""),
        stderr: notes.text().replace(&home, ""),
    }
}

/// What is said of the good definition with one change.
fn changed(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    let judged = judged(&GOOD.replace(from, to), None);
    assert_eq!(judged.status, Err(()), "{}{}", judged.stdout, judged.stderr);
    judged.stderr
}

#[test]
fn a_good_definition_is_valid() {
    let judged = judged(GOOD, None);

    assert_eq!(judged.stderr, "");
    assert_eq!(judged.stdout, "`web.yaml`: `shop/web` is valid\n");
    assert_eq!(judged.status, Ok(()));
}

#[test]
fn json_with_tabs_and_lists_is_read() {
    let json: Value = serde_yaml::from_str(GOOD).unwrap();
    let list = format!("{{\t\"kind\":\"List\",\t\"apiVersion\":\"v1\",\"items\":[{json},{json}]}}");

    let judged = judged(&list, None);

    assert_eq!(judged.stdout, "`web.yaml`: `shop/web` is valid\n".repeat(2), "{}", judged.stderr);
}

#[test]
fn other_objects_are_passed_over() {
    let text = format!("apiVersion: v1\nkind: Service\n---{GOOD}---\n");

    let mixed = judged(&text, None);
    let none = judged("apiVersion: v1\nkind: Service\n", None);

    assert_eq!(mixed.stdout, "`web.yaml`: `shop/web` is valid\n", "{}", mixed.stderr);
    assert_eq!(none.status, Ok(()));
    assert_eq!(none.stderr, "there is no task definition in what was read\n");
}

#[rstest]
#[case(
    "name: web, namespace: shop",
    "namespace: shop",
    "error: `web.yaml`: metadata.name: it is missing\n"
)]
#[case("v1alpha1", "v1", "error: `web.yaml`: apiVersion: use watchword.dev/v1alpha1\n")]
#[case(
    "kind: TaskDefinition",
    "kind: TaskDefintion",
    "error: `web.yaml`: kind: there is no such kind; did you mean TaskDefinition?\n"
)]
#[case(
    "kind: TaskDefinition",
    "",
    "error: `web.yaml`: it has no apiVersion and kind, so it is no object of Kubernetes\n"
)]
#[case(
    "command:",
    "comand:",
    "error: `web.yaml`: `shop/web`: spec.tasks[0].comand: there is no such field; mind the spelling and the case\n"
)]
#[case(
    "value: \"exec web\"",
    "value: \"exec web\", shell: canary",
    "error: `web.yaml`: `shop/web`: spec.tasks[0].command.shell: invalid type: string, expected a boolean\n"
)]
#[case(
    "spec:",
    "spec:\n  run: {schedule: {cron: 5}}",
    "error: `web.yaml`: `shop/web`: spec.run.schedule.cron: invalid type: integer, expected a string\n"
)]
fn a_mistake_is_named_by_its_field(#[case] from: &str, #[case] to: &str, #[case] expected: &str) {
    assert_eq!(changed(from, to), expected);
}

#[test]
fn the_rules_are_those_of_the_cluster() {
    let judged = judged(&GOOD[..GOOD.find("  tasks:").unwrap()], None);

    assert_eq!(
        judged.stderr,
        "error: `web.yaml`: `shop/web`: spec.tasks: there is no task; add at least one\n"
    );
}

#[test]
fn broken_yaml_is_not_shown() {
    let judged = judged("kind: a\n password: canary-3\n  x: [canary-4\n", None);

    assert_eq!(judged.status, Err(()));
    assert!(judged.stderr.contains("it is neither YAML nor JSON: "), "{}", judged.stderr);
    assert!(!judged.stderr.contains("canary"), "{}", judged.stderr);
}

#[test]
fn programs_get_a_list_and_nothing_else() {
    let good = judged(GOOD, Some(Format::Json));
    let bad = judged(&GOOD.replace("command:", "comand:"), Some(Format::Json));

    insta::assert_snapshot!(good.stdout, @r#"
    [
      {
        "file": "web.yaml",
        "definition": "shop/web",
        "valid": true
      }
    ]
    "#);
    insta::assert_snapshot!(bad.stdout, @r#"
    [
      {
        "file": "web.yaml",
        "definition": "shop/web",
        "valid": false,
        "error": {
          "field": "spec.tasks[0].comand",
          "message": "there is no such field; mind the spelling and the case"
        }
      }
    ]
    "#);
    assert_eq!((good.stderr.as_str(), bad.stderr.as_str()), ("", ""));
    assert_eq!((good.status, bad.status), (Ok(()), Err(())));
}

#[test]
fn an_inline_value_is_warned_of_and_not_shown() {
    let command = "environment: {variables: [{name: A, type: SECRET, secret: {type: VALUE, value: {data: Y2FuYXJ5}}}]}, value: ";

    let judged = judged(&GOOD.replace("value: ", command), None);

    assert_eq!(judged.status, Ok(()), "{}", judged.stderr);
    assert!(
        judged.stderr.starts_with("warning: `web.yaml`: `shop/web`: spec.tasks[0]."),
        "{}",
        judged.stderr
    );
    assert!(judged.stderr.contains("inlineValues: Allow"), "{}", judged.stderr);
    assert!(!judged.stderr.contains("Y2FuYXJ5"), "{}", judged.stderr);
}
