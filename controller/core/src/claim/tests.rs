use rstest::rstest;
use serde_json::{Value, json};
use watchword_crds::task_revision::TaskRevisionSpec;

use super::*;
use crate::revision;

#[test]
fn a_pod_of_a_deployment_may_have_its_tasks_secrets() {
    let task = judge_world(&world()).unwrap();

    assert_eq!(task, "web");
}

#[test]
fn a_pod_of_a_cron_job_may_have_its_tasks_secrets() {
    let mut world = world();
    world["owners"][0]["kind"] = "Job".into();
    world["owners"][1]["kind"] = "CronJob".into();
    world["pod"]["metadata"]["ownerReferences"][0]["kind"] = "Job".into();
    world["owners"][0]["metadata"]["ownerReferences"][0]["kind"] = "CronJob".into();

    assert!(judge_world(&world).is_ok());
}

#[test]
fn an_adopted_pod_needs_no_chain_and_may_run_what_it_likes() {
    let mut world = adopted();
    world["pod"]["spec"]["containers"][0]["image"] = "another:2".into();

    assert!(judge_world(&world).is_ok());
}

#[test]
fn an_adopted_pod_that_is_not_selected_gets_nothing() {
    let mut world = adopted();
    world["pod"]["metadata"]["labels"]["app"] = "other".into();

    assert!(matches!(judge_world(&world), Err(Refusal::Adoption { .. })));
}

/// Each case changes one thing in a world in which all is well.
#[rstest]
#[case::another_pod_of_the_name("/pod/metadata/uid", json!("other"), "not the one that the token")]
#[case::being_deleted("/pod/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"), "being deleted")]
#[case::succeeded("/pod/status/phase", json!("Succeeded"), "has ended")]
#[case::failed("/pod/status/phase", json!("Failed"), "has ended")]
#[case::no_such_container("/claim/container", json!("db"), "no container `db`")]
#[case::another_revision("/pod/spec/containers/0/env/0/value", json!("web-0"), "names no revision")]
#[case::no_revision("/pod/spec/containers/0/env", json!([]), "names no revision")]
#[case::edited_revision("/revision/spec/id", json!("/bank/web"), "not what its name says")]
#[case::revision_of_a_dead_definition("/revision/metadata/ownerReferences/0/uid", json!("old"), "does not belong to its definition")]
#[case::revision_without_owner("/revision/metadata/ownerReferences", json!([]), "does not belong to its definition")]
#[case::revision_of_a_namesake("/revision/metadata/ownerReferences/0/apiVersion", json!("evil.dev/v1"), "does not belong to its definition")]
#[case::definition_of_another_namespace("/definition/metadata/namespace", json!("bank"), "does not belong to its definition")]
#[case::definition_being_deleted("/definition/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"), "does not belong to its definition")]
#[case::another_account("/claim/service_account", json!("builder"), "service account")]
#[case::pod_without_owner("/pod/metadata/ownerReferences", json!([]), "owner of its Pod")]
#[case::forged_owner_uid("/pod/metadata/ownerReferences/0/uid", json!("forged"), "owner of its Pod")]
#[case::forged_owner_name("/pod/metadata/ownerReferences/0/name", json!("forged"), "owner of its Pod")]
#[case::not_the_controller("/pod/metadata/ownerReferences/0/controller", json!(false), "owner of its Pod")]
#[case::unlabelled_pod("/pod/metadata/labels", json!({}), "its Pod is not labelled")]
#[case::relabelled_pod("/pod/metadata/labels/watchword.dev~1task-definition", json!("api"), "its Pod is not labelled")]
#[case::unlabelled_replica_set("/owners/0/metadata/labels", json!({}), "its ReplicaSet is not labelled")]
#[case::unlabelled_deployment("/owners/1/metadata/labels", json!({}), "its Deployment is not labelled")]
#[case::replica_set_of_another("/owners/0/metadata/ownerReferences/0/uid", json!("other"), "owner of its ReplicaSet")]
#[case::deployment_of_another_definition("/owners/1/metadata/ownerReferences/0/uid", json!("other"), "its Deployment is not the definition's")]
#[case::chain_of_a_lone_replica_set("/owners/1/kind", json!("StatefulSet"), "its owners are")]
#[case::another_image("/pod/spec/containers/0/image", json!("evil:1"), "image")]
#[case::another_command("/pod/spec/containers/0/command", json!(["/watchword/agent", "exec", "--", "evil"]), "command")]
#[case::more_arguments("/pod/spec/containers/0/args", json!(["--evil"]), "arguments")]
fn one_wrong_link_and_nothing_is_given(
    #[case] pointer: &str,
    #[case] value: Value,
    #[case] expected: &str,
) {
    let mut world = world();
    match world.pointer_mut(pointer) {
        Some(place) => *place = value,
        None => {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            world.pointer_mut(parent).unwrap()[key] = value;
        }
    }

    let refusal = judge_world(&world).unwrap_err();

    assert!(refusal.to_string().contains(expected), "{refusal}");
}

#[test]
fn annotations_change_nothing() {
    let mut world = world();
    world["pod"]["metadata"]["annotations"] = json!({"watchword.dev/inject": "false"});

    assert!(judge_world(&world).is_ok());
}

fn judge_world(world: &Value) -> Result<String, Refusal> {
    let claim = |key: &str| world["claim"][key].as_str().unwrap().to_owned();
    let claim = Claim {
        namespace: claim("namespace"),
        pod: claim("pod"),
        pod_uid: claim("pod_uid"),
        service_account: claim("service_account"),
        container: claim("container"),
    };
    let pod: Pod = serde_json::from_value(world["pod"].clone()).unwrap();
    let revision: TaskRevision = serde_json::from_value(world["revision"].clone()).unwrap();
    let definition: TaskDefinition = serde_json::from_value(world["definition"].clone()).unwrap();
    let owners = world["owners"].as_array().unwrap().iter().map(|owner| Owner {
        kind: owner["kind"].as_str().unwrap().to_owned(),
        metadata: serde_json::from_value(owner["metadata"].clone()).unwrap(),
    });
    let owners: Vec<Owner> = owners.collect();
    let evidence =
        Evidence { pod: &pod, revision: &revision, definition: &definition, owners: &owners };
    judge(&claim, &evidence).map(|task| task.name.clone().unwrap())
}

fn world() -> Value {
    world_of(&json!({"service": {"instances": 1}}))
}

fn adopted() -> Value {
    let selector = json!({"matchLabels": {"app": "web"}});
    let mut world =
        world_of(&json!({"adopt": {"selector": selector, "serviceAccountName": "web"}}));
    world["owners"] = json!([]);
    world["pod"]["metadata"]["labels"] = json!({"app": "web"});
    world
}

fn world_of(run: &Value) -> Value {
    let reference = json!({"type": "REFERENCE", "reference": {"name": "shop/db"}});
    let definition = json!({
        "apiVersion": "watchword.dev/v1alpha1",
        "kind": "TaskDefinition",
        "metadata": {"name": "web", "namespace": "shop", "uid": "definition"},
        "spec": {
            "serviceAccountName": "web",
            "run": run,
            "tasks": [{
                "name": "web",
                "container": {"type": "MESOS", "mesos": {"image": {"type": "DOCKER", "docker": {"name": "app:1"}}}},
                "command": {
                    "value": "echo $HOME",
                    "environment": {"variables": [{"name": "DB", "type": "SECRET", "secret": reference}]},
                },
            }],
        },
    });
    let typed: TaskDefinition = serde_json::from_value(definition.clone()).unwrap();
    let spec: TaskRevisionSpec = revision::snapshot(&typed.spec, "shop", "web");
    let name = revision::name(&spec);
    let labels = json!({"watchword.dev/task-definition": "web"});
    let owner = |kind: &str, name: &str, uid: &str| {
        let api_version = match kind {
            "TaskDefinition" => "watchword.dev/v1alpha1",
            _ => "apps/v1",
        };
        json!([{"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": true}])
    };
    json!({
        "claim": {"namespace": "shop", "pod": "web-x", "pod_uid": "pod", "service_account": "web", "container": "web"},
        "definition": definition,
        "revision": {
            "apiVersion": "watchword.dev/v1alpha1",
            "kind": "TaskRevision",
            "metadata": {
                "name": name,
                "namespace": "shop",
                "ownerReferences": owner("TaskDefinition", "web", "definition"),
            },
            "spec": spec,
        },
        "owners": [
            {"kind": "ReplicaSet", "metadata": {
                "name": "web-1", "uid": "replicaset", "labels": labels,
                "ownerReferences": owner("Deployment", "web", "deployment"),
            }},
            {"kind": "Deployment", "metadata": {
                "name": "web", "uid": "deployment", "labels": labels,
                "ownerReferences": owner("TaskDefinition", "web", "definition"),
            }},
        ],
        "pod": {
            "metadata": {
                "name": "web-x", "uid": "pod", "labels": labels,
                "ownerReferences": owner("ReplicaSet", "web-1", "replicaset"),
            },
            "spec": {"containers": [{
                "name": "web",
                "image": "app:1",
                "command": ["/watchword/agent", "exec", "--", "/bin/sh", "-c", "echo $$HOME"],
                "env": [{"name": "WATCHWORD_REVISION", "value": name}],
            }]},
            "status": {"phase": "Pending"},
        },
    })
}
