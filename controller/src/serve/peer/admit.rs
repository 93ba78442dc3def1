//! Who counts as a peer: a live pod of the store's own Deployment, and nobody else.
//!
//! A token of audience `watchword-peer` says which pod asks. That is not enough: a token stays true
//! for a while after its pod is gone, and labels can be had by anyone. So the pod is looked up, and
//! every link from it to the Deployment, by uid; its image must be one that this replica runs or
//! that the Deployment would start now; and the connection must come from the pod's own address, so
//! that a token that got away is of no use elsewhere.
//!
//! A tag is no image: whoever may push it says what it is. A peer whose image is named by a tag is
//! given the key only if the kubelets say that both pods run the same bytes. A kubelet may say so some
//! moments after a container was started again with others, so only a digest is a wall.

use std::net::IpAddr;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use watchword_core::claim::controller_of;
use watchword_crds::names;

/// What a peer's token says, in the API server's words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct PeerClaim {
    /// The namespace of the service account, and so of the pod.
    pub namespace: String,
    /// The service account.
    pub service_account: String,
    /// The pod that the token is bound to.
    pub pod: String,
    /// That pod's uid.
    pub uid: String,
}

/// What is known around a claim; what could not be found is absent.
pub(super) struct Evidence<'a> {
    /// From where the connection comes.
    pub address: IpAddr,
    /// The Deployment of the store.
    pub deployment: Option<&'a Deployment>,
    /// The namespace that Watchword runs in.
    pub namespace: &'a str,
    /// This replica's own pod, if it could be found.
    pub own: Option<&'a Pod>,
    /// The pod of that name.
    pub pod: Option<&'a Pod>,
    /// The ReplicaSet that the pod names as its controller.
    pub replica_set: Option<&'a ReplicaSet>,
}

/// A peer whose every link has been checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Admitted {
    /// Who it is.
    pub claim: PeerClaim,
    /// Whether its pod is being deleted: then it gets no key any more.
    pub is_ending: bool,
    /// What is known of the program that it runs.
    pub runs: Runs,
}

/// What is known of the program that a peer runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Runs {
    /// Its image is named by a tag, and is not the one that this replica runs.
    Another,
    /// Its image is named by a digest, or is the one that this replica runs.
    Ours,
    /// Its image is named by a tag, and the kubelet has yet to say which one it is.
    Unknown,
}

/// Admits a pod of the store.
///
/// # Errors
///
/// What is wrong, for the audit log; whoever asks hears only that it is refused.
pub(super) fn judge(claim: PeerClaim, evidence: &Evidence<'_>) -> Result<Admitted, &'static str> {
    let Evidence { address, deployment, namespace, own, pod, replica_set } = *evidence;
    if claim.namespace != namespace || claim.service_account != names::STORE {
        return Err("the token is not of the store's service account");
    }
    let pod = pod.filter(|pod| pod.uid().as_ref() == Some(&claim.uid));
    let pod = pod.ok_or("the pod of the token is gone")?;
    let spec = pod.spec.as_ref().ok_or("the pod has no spec")?;
    let status = pod.status.as_ref().ok_or("the pod has not been started")?;
    if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
        return Err("the pod has ended");
    }
    if spec.service_account_name.as_deref() != Some(names::STORE) {
        return Err("the pod has another service account");
    }
    let addresses = status.pod_ips.iter().flatten().map(|ip| &ip.ip).chain(&status.pod_ip);
    if !addresses.filter_map(|ip| ip.parse::<IpAddr>().ok()).any(|ip| ip == address.to_canonical())
    {
        return Err("the connection does not come from the pod's address");
    }
    let owner = controller(&pod.metadata, "ReplicaSet");
    let owner = owner.ok_or("the pod is not controlled by a ReplicaSet")?;
    let replica_set = replica_set.filter(|set| set.uid().as_ref() == Some(&owner.uid));
    let replica_set = replica_set.ok_or("the pod's ReplicaSet is gone")?;
    let owner = controller(&replica_set.metadata, "Deployment");
    let owner = owner.ok_or("the pod's ReplicaSet is not controlled by a Deployment")?;
    let deployment = deployment.filter(|deployment| {
        deployment.uid().as_ref() == Some(&owner.uid) && deployment.name_any() == names::STORE
    });
    let deployment = deployment.ok_or("the pod's ReplicaSet is not of the store's Deployment")?;
    let template = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let current = template.and_then(image);
    let own_image = own.and_then(|own| image(own.spec.as_ref()?));
    let image = image(spec).ok_or("the pod has no container `store`")?;
    if Some(image) != own_image && Some(image) != current {
        return Err("the pod runs another image than the store's");
    }
    let runs = match (image.contains("@sha256:"), image_id(pod), own.and_then(image_id)) {
        (true, ..) => Runs::Ours,
        (false, Some(its), Some(ours)) if its == ours => Runs::Ours,
        (false, Some(_), Some(_)) => Runs::Another,
        (false, ..) => Runs::Unknown,
    };
    let is_ending = pod.metadata.deletion_timestamp.is_some();
    Ok(Admitted { claim, is_ending, runs })
}

/// The image of the container `store`.
fn image(spec: &PodSpec) -> Option<&str> {
    let store = spec.containers.iter().find(|container| container.name == "store")?;
    store.image.as_deref()
}

/// The digest of the image that the container `store` runs, as the kubelet has it; `None` until it has
/// said so. Runtimes put other things before it: the name by which they know the image, or their own.
fn image_id(pod: &Pod) -> Option<&str> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let store = statuses.iter().find(|container| container.name == "store")?;
    let id = store.image_id.rsplit(['@', '/']).next()?;
    Some(id).filter(|id| !id.is_empty())
}

fn controller<'a>(
    metadata: &'a k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    kind: &str,
) -> Option<&'a OwnerReference> {
    controller_of(metadata).filter(|owner| owner.api_version == "apps/v1" && owner.kind == kind)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    /// A pod, its ReplicaSet and its Deployment, as the cluster has them.
    struct World {
        address: &'static str,
        claim: PeerClaim,
        deployment: Value,
        own: Value,
        pod: Value,
        replica_set: Value,
    }

    fn owner(kind: &str, name: &str, uid: &str) -> Value {
        json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true}])
    }

    /// The status of a pod that runs the image with this digest.
    fn status(image: &str) -> Value {
        json!({
            "phase": "Running",
            "podIP": "10.1.0.7",
            "podIPs": [{"ip": "10.1.0.7"}],
            "containerStatuses": [{
                "name": "store", "image": "watchword:1", "imageID": format!("sha256:{image}"),
                "ready": true, "restartCount": 0,
            }],
        })
    }

    impl World {
        fn new() -> Self {
            let spec = json!({
                "serviceAccountName": "watchword-store",
                "containers": [{"name": "store", "image": "watchword:1"}],
            });
            Self {
                address: "10.1.0.7",
                claim: PeerClaim {
                    namespace: "watchword-system".to_owned(),
                    service_account: "watchword-store".to_owned(),
                    pod: "watchword-store-5d-x".to_owned(),
                    uid: "pod".to_owned(),
                },
                deployment: json!({
                    "metadata": {"name": "watchword-store", "uid": "deployment"},
                    "spec": {"selector": {}, "template": {"spec": spec}},
                }),
                own: json!({"spec": spec, "status": status("1")}),
                pod: json!({
                    "metadata": {
                        "name": "watchword-store-5d-x",
                        "uid": "pod",
                        "ownerReferences": owner("ReplicaSet", "watchword-store-5d", "set"),
                    },
                    "spec": spec,
                    "status": status("1"),
                }),
                replica_set: json!({
                    "metadata": {
                        "name": "watchword-store-5d",
                        "uid": "set",
                        "ownerReferences": owner("Deployment", "watchword-store", "deployment"),
                    },
                    "spec": {"selector": {}},
                }),
            }
        }

        fn judged(&self) -> Result<Admitted, &'static str> {
            let Self { address, claim, deployment, own, pod, replica_set } = self;
            judge(
                claim.clone(),
                &Evidence {
                    address: address.parse().unwrap(),
                    deployment: Some(&serde_json::from_value(deployment.clone()).unwrap()),
                    namespace: "watchword-system",
                    own: Some(&serde_json::from_value(own.clone()).unwrap()),
                    pod: Some(&serde_json::from_value(pod.clone()).unwrap()),
                    replica_set: Some(&serde_json::from_value(replica_set.clone()).unwrap()),
                },
            )
        }
    }

    #[test]
    fn a_pod_of_the_store_is_admitted() {
        let admitted = World::new().judged().unwrap();

        assert!(!admitted.is_ending);
        assert_eq!(admitted.runs, Runs::Ours);
    }

    #[test]
    fn a_tag_that_means_something_else_by_now_is_known_as_that() {
        let mut world = World::new();
        world.pod["status"] = status("2");
        assert_eq!(world.judged().unwrap().runs, Runs::Another);

        world.pod["status"]["containerStatuses"] = json!([]);
        assert_eq!(world.judged().unwrap().runs, Runs::Unknown);
    }

    #[rstest]
    #[case("registry.example/mirror/watchword@sha256:1")]
    #[case("docker-pullable://watchword@sha256:1")]
    #[case("docker://sha256:1")]
    fn an_image_is_its_digest_under_whatever_name_a_runtime_knows_it(#[case] id: &str) {
        let mut world = World::new();
        world.pod["status"]["containerStatuses"][0]["imageID"] = json!(id);

        assert_eq!(world.judged().unwrap().runs, Runs::Ours);
    }

    #[test]
    fn what_is_named_by_its_digest_is_what_it_is() {
        let mut world = World::new();
        let pinned = json!(format!("watchword@sha256:{}", "2".repeat(64)));
        for object in [&mut world.pod["spec"], &mut world.deployment["spec"]["template"]["spec"]] {
            object["containers"][0]["image"] = pinned.clone();
        }
        world.pod["status"]["containerStatuses"] = json!([]);

        assert_eq!(world.judged().unwrap().runs, Runs::Ours);
    }

    #[test]
    fn a_newer_pod_is_admitted_by_the_deployments_image_and_an_older_one_by_our_own() {
        let mut newer = World::new();
        newer.own["spec"]["containers"][0]["image"] = json!("watchword:0");
        let mut older = World::new();
        older.deployment["spec"]["template"]["spec"]["containers"][0]["image"] =
            json!("watchword:2");

        assert!(newer.judged().is_ok());
        assert!(older.judged().is_ok());
    }

    #[test]
    fn a_pod_that_is_being_deleted_is_known_as_that() {
        let mut world = World::new();
        world.pod["metadata"]["deletionTimestamp"] = json!("2026-11-24T00:00:00Z");

        assert!(world.judged().unwrap().is_ending);
    }

    #[rstest]
    #[case::a_tenants_namespace(|w: &mut World| w.claim.namespace = "shop".into(), "service account")]
    #[case::another_account(|w: &mut World| w.claim.service_account = "default".into(), "service account")]
    #[case::a_deleted_pod(|w: &mut World| w.claim.uid = "before".into(), "gone")]
    #[case::a_finished_pod(|w: &mut World| w.pod["status"]["phase"] = json!("Succeeded"), "ended")]
    #[case::another_account_in_the_pod(
        |w: &mut World| w.pod["spec"]["serviceAccountName"] = json!("default"), "service account")]
    #[case::a_token_that_got_away(|w: &mut World| w.address = "10.1.0.8", "address")]
    #[case::a_pod_without_an_address(
        |w: &mut World| w.pod["status"] = json!({"phase": "Pending"}), "address")]
    #[case::a_pod_that_somebody_made(
        |w: &mut World| w.pod["metadata"]["ownerReferences"] = json!([]), "ReplicaSet")]
    #[case::a_pod_of_a_stateful_set(
        |w: &mut World| w.pod["metadata"]["ownerReferences"] = owner("StatefulSet", "s", "set"),
        "ReplicaSet")]
    #[case::a_replica_set_of_the_same_name(
        |w: &mut World| w.replica_set["metadata"]["uid"] = json!("other"), "gone")]
    #[case::a_replica_set_that_somebody_made(
        |w: &mut World| w.replica_set["metadata"]["ownerReferences"] = json!([]), "Deployment")]
    #[case::another_deployment(
        |w: &mut World| w.deployment["metadata"]["name"] = json!("watchword-webhook"), "Deployment")]
    #[case::a_deployment_of_the_same_name(
        |w: &mut World| w.deployment["metadata"]["uid"] = json!("other"), "Deployment")]
    #[case::another_image(
        |w: &mut World| w.pod["spec"]["containers"][0]["image"] = json!("evil:1"), "image")]
    #[case::no_container_of_that_name(
        |w: &mut World| w.pod["spec"]["containers"][0]["name"] = json!("other"), "container")]
    fn nobody_else_is(#[case] change: fn(&mut World), #[case] reason: &str) {
        let mut world = World::new();
        change(&mut world);

        let refusal = world.judged().unwrap_err();

        assert!(refusal.contains(reason), "{refusal}");
    }
}
