//! Laws: whatever happens in between, and wherever the controller is killed, everything ends as if
//! it had been made at once; planning what is done changes nothing; what is not ours stays.
//!
//! The model is a small cluster: objects with uids, a garbage collector that comes late, writes that
//! the API server would refuse, and a controller that may look at an old picture.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Something happens.
#[derive(Clone, Debug)]
enum Happening {
    /// The garbage collector comes by.
    Collect,
    /// The definition is deleted, and another one of its name made.
    Recreate,
    /// A reconcile that is killed after so many writes, looking at the picture of before the last
    /// happening.
    ReconcileLate(usize),
    /// A reconcile that is killed after so many writes.
    Reconcile(usize),
    /// The definition is changed: how it runs, and its command.
    Edit(Value, &'static str),
    /// Somebody edits our workload.
    Tamper,
}

#[derive(Clone, Debug, PartialEq)]
struct Object {
    /// The uid of the definition that controls it; another text for others' objects.
    owner: String,
    spec: Value,
    uid: String,
}

#[derive(Clone, Debug)]
struct Cluster {
    definition: TaskDefinition,
    made: usize,
    revisions: BTreeMap<String, Object>,
    workloads: BTreeMap<&'static str, Object>,
}

/// The API server refuses a write; the reconcile fails and is tried again.
struct Refused;

impl Cluster {
    fn new(foreign: Option<WorkloadKind>) -> Self {
        let definition = definition(service(1), json!([task("true")]));
        let foreign = foreign.map(|kind| {
            let spec = json!({"not": "ours"});
            (kind.kind(), Object { owner: "somebody".to_owned(), spec, uid: "foreign".to_owned() })
        });
        Self {
            definition,
            made: 0,
            revisions: BTreeMap::new(),
            workloads: foreign.into_iter().collect(),
        }
    }

    fn uid(&mut self) -> String {
        self.made += 1;
        format!("uid-{}", self.made)
    }

    fn owner(&self) -> String {
        self.definition.metadata.uid.clone().unwrap()
    }

    fn observe(&self) -> Observed {
        let owner_reference = |uid: &String| OwnerReference {
            api_version: "watchword.dev/v1alpha1".to_owned(),
            controller: Some(true),
            kind: "TaskDefinition".to_owned(),
            name: "web".to_owned(),
            uid: uid.clone(),
            ..OwnerReference::default()
        };
        let revisions = self.revisions.iter().map(|(name, object)| {
            let mut revision =
                TaskRevision::new(name, serde_json::from_value(object.spec.clone()).unwrap());
            revision.metadata.uid = Some(object.uid.clone());
            revision.metadata.owner_references = Some(vec![owner_reference(&object.owner)]);
            revision
        });
        let workloads = WorkloadKind::ALL.into_iter().filter_map(|kind| {
            let object = self.workloads.get(kind.kind())?;
            let policy = object.spec.get("podFailurePolicy").filter(|policy| !policy.is_null());
            Some(Existing {
                controller: Some(owner_reference(&object.owner)),
                progress: Progress { failure_policy: policy.cloned(), ..Progress::default() },
                uid: object.uid.clone(),
                ..existing(kind, None)
            })
        });
        Observed {
            revisions: revisions.collect(),
            workloads: workloads.collect(),
            ..Observed { definition: self.definition.clone(), ..observed(service(1)) }
        }
    }

    fn write(&mut self, write: &Write) -> Result<(), Refused> {
        match write {
            Write::ApplyRevision { manifest, name } => {
                let (owner, spec) = parts(manifest);
                match self.revisions.get(name) {
                    // Immutable, and one controller at most.
                    Some(there) if there.spec != spec || there.owner != owner => Err(Refused),
                    Some(_) => Ok(()),
                    None => {
                        let uid = self.uid();
                        self.revisions.insert(name.clone(), Object { owner, spec, uid });
                        Ok(())
                    }
                }
            }
            Write::ApplyWorkload { kind, manifest, replace, uid, .. } => {
                let (owner, spec) = parts(manifest);
                let there = self.workloads.get_mut(kind.kind());
                match (there, uid) {
                    (Some(there), Some(uid)) if there.uid == *uid => {
                        if *kind != WorkloadKind::Job || there.spec == spec {
                            there.spec = spec;
                        } else if *replace {
                            self.workloads.remove(kind.kind());
                        }
                        Ok(())
                    }
                    (None, None) => {
                        let uid = self.uid();
                        self.workloads.insert(kind.kind(), Object { owner, spec, uid });
                        Ok(())
                    }
                    _ => Err(Refused),
                }
            }
            Write::DeleteRevision { name, uid } => {
                self.revisions.retain(|key, object| key != name || object.uid != *uid);
                Ok(())
            }
            Write::DeleteWorkload { kind, uid, .. } => {
                self.workloads.retain(|key, object| *key != kind.kind() || object.uid != *uid);
                Ok(())
            }
        }
    }

    fn reconcile(&mut self, observed: &Observed, writes: usize) {
        let plan = plan(observed);
        for write in plan.writes.iter().chain(&plan.tidying).take(writes) {
            if self.write(write).is_err() {
                return;
            }
        }
    }

    fn collect(&mut self) {
        let owner = self.owner();
        let lives = |object: &Object| object.owner == owner || object.owner == "somebody";
        self.revisions.retain(|_, object| lives(object));
        self.workloads.retain(|_, object| lives(object));
    }

    fn happen(&mut self, happening: &Happening, before: &Self) {
        match happening {
            Happening::Collect => self.collect(),
            Happening::Edit(run, command) => {
                let uid = self.definition.metadata.uid.clone();
                self.definition = definition(run.clone(), json!([task(command)]));
                self.definition.metadata.uid = uid;
            }
            Happening::Reconcile(writes) => self.reconcile(&self.clone().observe(), *writes),
            Happening::ReconcileLate(writes) => self.reconcile(&before.observe(), *writes),
            Happening::Recreate => self.definition.metadata.uid = Some(self.uid()),
            Happening::Tamper => {
                let owner = self.owner();
                // Nobody can edit the template of a Job.
                for (kind, object) in &mut self.workloads {
                    if object.owner == owner && *kind != "Job" {
                        object.spec["replicas"] = json!(17);
                    }
                }
            }
        }
    }

    /// Until nothing changes any more; how often that took.
    fn settle(&mut self) -> usize {
        self.collect();
        for round in 0..10 {
            let before = (self.revisions.clone(), self.workloads.clone());
            self.reconcile(&self.clone().observe(), usize::MAX);
            if before == (self.revisions.clone(), self.workloads.clone()) {
                return round;
            }
        }
        panic!("it does not settle: {self:?}");
    }

    /// What is ours, without uids.
    fn ours(&self) -> Vec<(&'static str, Value)> {
        let owner = self.owner();
        let ours = self.workloads.iter().filter(|(_, object)| object.owner == owner);
        ours.map(|(kind, object)| (*kind, object.spec.clone())).collect()
    }
}

fn parts(manifest: &Value) -> (String, Value) {
    let owner = manifest["metadata"]["ownerReferences"][0]["uid"].as_str().unwrap();
    (owner.to_owned(), manifest["spec"].clone())
}

fn happening() -> impl Strategy<Value = Happening> {
    let run = prop_oneof![
        Just(service(1)),
        Just(service(3)),
        Just(json!({"once": {"replace": true}})),
        Just(json!({"schedule": {"cron": "0 0 * * *"}})),
        Just(adopt()),
    ];
    prop_oneof![
        Just(Happening::Collect),
        Just(Happening::Recreate),
        Just(Happening::Tamper),
        (run, prop_oneof![Just("true"), Just("false")])
            .prop_map(|(run, command)| Happening::Edit(run, command)),
        (0_usize..5).prop_map(Happening::Reconcile),
        (0_usize..5).prop_map(Happening::ReconcileLate),
    ]
}

proptest! {
    #[test]
    fn however_often_the_controller_is_killed_everything_ends_as_if_made_at_once(
        happenings in proptest::collection::vec(happening(), 0..25),
        foreign in proptest::option::of(proptest::sample::select(WorkloadKind::ALL.as_slice())),
    ) {
        let mut cluster = Cluster::new(foreign);
        let mut before = cluster.clone();
        for happening in &happenings {
            let now = cluster.clone();
            cluster.happen(happening, &before);
            before = now;
        }

        cluster.settle();

        let mut fresh = Cluster::new(foreign);
        fresh.definition = cluster.definition.clone();
        fresh.settle();
        prop_assert_eq!(cluster.ours(), fresh.ours());
        let current = plan(&cluster.observe()).revision.unwrap();
        prop_assert!(cluster.revisions.contains_key(&current));
        if let Some(kind) = foreign {
            prop_assert_eq!(&cluster.workloads[kind.kind()].uid, "foreign");
            prop_assert_eq!(&cluster.workloads[kind.kind()].spec, &json!({"not": "ours"}));
        }
    }

    #[test]
    fn a_plan_carried_out_plans_nothing_that_changes_anything(
        happenings in proptest::collection::vec(happening(), 0..10),
    ) {
        let mut cluster = Cluster::new(None);
        for happening in &happenings {
            cluster.happen(happening, &cluster.clone());
        }
        cluster.settle();

        let settled = (cluster.revisions.clone(), cluster.workloads.clone());
        let plan = plan(&cluster.observe());

        prop_assert!(plan.tidying.is_empty());
        let is_by_uid =
            |write: &Write| matches!(write, Write::ApplyWorkload { uid: Some(_), .. });
        prop_assert!(plan.writes.iter().all(is_by_uid));
        cluster.reconcile(&cluster.clone().observe(), usize::MAX);
        prop_assert_eq!(settled, (cluster.revisions, cluster.workloads));
    }
}
