//! Health against kstatus' own code: tabled objects and random changes to them.

#[path = "common/oracle.rs"]
mod oracle;

use flotilla_core::{
    clock::Timestamp,
    health::{Health, State, assess},
};
use oracle::{Oracle, Random};
use serde_json::{Value, json};

/// Far from every creation time in the objects, so that the oracle's clock and this one agree on them.
const NOW: Timestamp = Timestamp(1_900_000_000_000);

#[test]
fn tabled_objects_agree_with_kstatus() {
    let mut oracle = Oracle::start("kstatus");
    for object in objects() {
        assert_agreement(&mut oracle, &object);
    }
}

#[test]
fn random_changes_agree_with_kstatus() {
    let mut oracle = Oracle::start("kstatus");
    let mut random = Random::seeded();
    let objects = objects();
    for _ in 0..5_000 {
        let mut object = objects[random.below(objects.len())].clone();
        for _ in 0..=random.below(5) {
            mutate(&mut object, &mut random);
        }
        assert_agreement(&mut oracle, &object);
    }
}

fn assert_agreement(oracle: &mut Oracle, object: &Value) {
    let answer = oracle.ask(object);
    let ours = assess(object, NOW);
    if answer["error"] != "" {
        assert_eq!(ours.state, State::Unknown, "{object}: {answer}, ours {ours:?}");
        return;
    }
    let mut answer = answer;
    if ours.state == State::Current
        && let Some(theirs) = answer["message"].as_str()
    {
        answer["message"] = json!(without_counts(theirs));
    }
    let ours =
        json!({"status": ours.state.as_str(), "reason": ours.reason, "message": ours.message, "error": ""});
    assert_eq!(ours, answer, "{object}");
}

/// kstatus says of what is current how many there are, as a sentence of its own.
fn without_counts(message: &str) -> &str {
    let counted = ["Replicas: ", "updated: ", "succeeded: "];
    let parts = message.split_once(". ");
    let parts = parts.filter(|(_, count)| counted.iter().any(|label| count.starts_with(label)));
    parts.map_or(message, |(words, _)| words)
}

fn object(api_version: &str, kind: &str, spec: Value, status: Value) -> Value {
    json!({
        "apiVersion": api_version, "kind": kind, "spec": spec, "status": status,
        "metadata": {"name": "x", "namespace": "a", "generation": 2, "creationTimestamp": "2020-01-01T00:00:00Z"},
    })
}

fn condition(kind: &str, status: &str, reason: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": format!("{kind} because {reason}")})
}

fn objects() -> Vec<Value> {
    let rolling = json!({"replicas": 2, "progressDeadlineSeconds": 600});
    let replicas = json!({
        "observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2,
        "fullyLabeledReplicas": 2, "currentReplicas": 2, "currentRevision": "r1", "updateRevision": "r1",
    });
    let mut available = replicas.clone();
    available["conditions"] = json!([
        condition("Progressing", "True", "NewReplicaSetAvailable"),
        condition("Available", "True", "MinimumReplicas")
    ]);
    let mut exceeded = replicas.clone();
    exceeded["conditions"] = json!([condition("Progressing", "False", "ProgressDeadlineExceeded")]);
    let mut failing = replicas.clone();
    failing["conditions"] = json!([condition("ReplicaFailure", "True", "FailedCreate")]);
    let partition = json!({"replicas": 3, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}});
    let scheduled = json!({
        "observedGeneration": 2, "desiredNumberScheduled": 3, "currentNumberScheduled": 3,
        "updatedNumberScheduled": 3, "numberAvailable": 3, "numberReady": 3,
    });
    let pod = |phase: &str, conditions: Value| json!({"phase": phase, "conditions": conditions});
    let looping = json!({"phase": "Running", "containerStatuses": [
        {"name": "a", "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
        {"name": "b", "state": {"running": {}}},
        {"name": "c", "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
    ]});
    let of = |conditions: Value| json!({"observedGeneration": 2, "conditions": conditions});
    vec![
        object("apps/v1", "Deployment", rolling.clone(), available.clone()),
        object("apps/v1", "Deployment", rolling.clone(), replicas.clone()),
        object("apps/v1", "Deployment", json!({"replicas": 2}), available),
        object("apps/v1", "Deployment", rolling.clone(), exceeded),
        object("extensions/v1beta1", "Deployment", rolling, json!({})),
        object("apps/v1", "ReplicaSet", json!({"replicas": 2}), replicas.clone()),
        object("apps/v1", "ReplicaSet", json!({}), failing),
        object("apps/v1", "StatefulSet", json!({"replicas": 2}), replicas.clone()),
        object("apps/v1", "StatefulSet", partition, replicas.clone()),
        object(
            "apps/v1",
            "StatefulSet",
            json!({"updateStrategy": {"type": "OnDelete"}}),
            json!({}),
        ),
        object("apps/v1", "DaemonSet", json!({}), scheduled.clone()),
        object("apps/v1", "DaemonSet", json!({}), json!({})),
        object("extensions/v1beta1", "DaemonSet", json!({}), scheduled),
        object(
            "v1",
            "Pod",
            json!({}),
            pod("Running", json!([condition("Ready", "True", "")])),
        ),
        object(
            "v1",
            "Pod",
            json!({}),
            pod(
                "Pending",
                json!([condition("PodScheduled", "False", "Unschedulable")]),
            ),
        ),
        object("v1", "Pod", json!({}), pod("Succeeded", json!([]))),
        object("v1", "Pod", json!({}), pod("Failed", json!([]))),
        object("v1", "Pod", json!({}), pod("Strange", json!([]))),
        object("v1", "Pod", json!({}), looping),
        object("v1", "Pod", json!({}), json!({})),
        object(
            "v1",
            "Service",
            json!({"type": "LoadBalancer", "clusterIP": "10.0.0.1"}),
            json!({}),
        ),
        object("v1", "Service", json!({}), json!({})),
        object(
            "v1",
            "PersistentVolumeClaim",
            json!({}),
            json!({"phase": "Bound"}),
        ),
        object("v1", "PersistentVolumeClaim", json!({}), json!({})),
        object("v1", "ConfigMap", json!({}), json!({})),
        object("v1", "Secret", json!({}), json!({})),
        object("v1", "Namespace", json!({}), json!({"phase": "Active"})),
        object("batch/v1", "CronJob", json!({}), json!({})),
        object(
            "policy/v1",
            "PodDisruptionBudget",
            json!({}),
            json!({"observedGeneration": 2}),
        ),
        object(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            json!({}),
            of(json!([
                condition("NamesAccepted", "True", "NoConflicts"),
                condition("Established", "True", "InitialNamesAccepted"),
            ])),
        ),
        object(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            json!({}),
            of(json!([
                condition("NamesAccepted", "False", "Conflict"),
                condition("Established", "False", "Installing"),
            ])),
        ),
        object(
            "example.com/v1",
            "Widget",
            json!({}),
            of(json!([condition("Ready", "True", "Done")])),
        ),
        object(
            "example.com/v1",
            "Widget",
            json!({}),
            of(json!([condition("Ready", "Unknown", "Working")])),
        ),
        object(
            "example.com/v1",
            "Widget",
            json!({}),
            of(json!([condition("Reconciling", "True", "Working")])),
        ),
        object(
            "example.com/v1",
            "Widget",
            json!({}),
            of(json!([condition("Stalled", "True", "Broken")])),
        ),
        object("example.com/v1", "Widget", json!({}), json!({})),
        object("example.com/v1", "Deployment", json!({}), json!({})),
        object("apps/v1", "Job", json!({}), json!({})),
    ]
}

/// Changes one thing: a number, a text, a condition, or what kind of thing stands in a place.
fn mutate(object: &mut Value, random: &mut Random) {
    let (status, spec) = ("status", "spec");
    match random.below(10) {
        0..=2 => {
            let field = random.pick(&[
                "replicas",
                "updatedReplicas",
                "readyReplicas",
                "availableReplicas",
                "currentReplicas",
                "fullyLabeledReplicas",
                "observedGeneration",
                "desiredNumberScheduled",
                "currentNumberScheduled",
                "updatedNumberScheduled",
                "numberAvailable",
                "numberReady",
            ]);
            set(&mut object[status], field, json!(random.below(5)));
        }
        3 => {
            let field = random.pick(&["replicas", "progressDeadlineSeconds"]);
            set(
                &mut object[spec],
                field,
                random.pick(&[0, 1, 3, 2_147_483_647]).into(),
            );
        }
        4..=5 => {
            let kind = random.pick(&[
                "Ready",
                "Reconciling",
                "Stalled",
                "Available",
                "Progressing",
                "ReplicaFailure",
                "Established",
                "NamesAccepted",
                "PodScheduled",
            ]);
            let reason = random.pick(&[
                "Installing",
                "Unschedulable",
                "ProgressDeadlineExceeded",
                "NewReplicaSetAvailable",
                "",
            ]);
            let added = condition(kind, random.pick(&["True", "False", "Unknown", ""]), reason);
            match object
                .pointer_mut("/status/conditions")
                .and_then(Value::as_array_mut)
            {
                Some(conditions) => conditions.insert(random.below(conditions.len() + 1), added),
                None => set(&mut object[status], "conditions", json!([added])),
            }
        }
        6 => {
            let field = random.pick(&["phase", "currentRevision", "updateRevision", "startTime"]);
            set(
                &mut object[status],
                field,
                json!(random.pick(&["Bound", "Running", "Pending", "r2", ""])),
            );
        }
        7 => {
            let field = random.pick(&["generation", "deletionTimestamp"]);
            let value = if field == "generation" {
                json!(3)
            } else {
                json!("2026-01-01T00:00:00Z")
            };
            set(&mut object["metadata"], field, value);
        }
        8 => {
            let field = random.pick(&[
                "observedGeneration",
                "conditions",
                "replicas",
                "phase",
                "containerStatuses",
            ]);
            set(
                &mut object[status],
                field,
                random.pick(&[json_text, json_list, json_map, json_float])(),
            );
        }
        _ => {
            if let Some(map) = object[status].as_object_mut() {
                let field = map
                    .keys()
                    .nth(random.below(map.len().max(1)))
                    .cloned()
                    .unwrap_or_default();
                map.remove(&field);
            }
        }
    }
}

fn set(map: &mut Value, field: &str, value: Value) {
    if let Some(map) = map.as_object_mut() {
        map.insert(field.to_owned(), value);
    }
}

fn json_text() -> Value {
    json!("text")
}

fn json_list() -> Value {
    json!([{}])
}

fn json_map() -> Value {
    json!({"a": 1})
}

fn json_float() -> Value {
    json!(1.5)
}

#[test]
fn jobs_follow_flux_and_are_current_only_when_done() {
    let job = |spec: Value, status: Value| {
        let health = assess(&object("batch/v1", "Job", spec, status), NOW);
        (health.state, health.message)
    };
    let done = json!({"succeeded": 2, "startTime": "x", "conditions": [condition("Complete", "True", "")]});
    let failed = json!({"failed": 3, "conditions": [condition("Failed", "True", "BackoffLimitExceeded")]});
    let running = json!({"startTime": "2026-01-01T00:00:00Z", "active": 1});
    let cases = [
        (
            job(json!({"completions": 2}), done),
            State::Current,
            "Job Completed",
        ),
        (job(json!({}), failed), State::Failed, "Job Failed. failed: 3/1"),
        (
            job(json!({}), running),
            State::InProgress,
            "Job in progress. success:0, active: 1, failed: 0",
        ),
        (
            job(json!({"parallelism": 4}), json!({})),
            State::InProgress,
            "Job not started. active: 0/4",
        ),
        (
            job(json!({"suspend": true}), json!({})),
            State::Current,
            "Job is suspended",
        ),
    ];
    for (found, state, message) in cases {
        assert_eq!(found, (state, message.into()));
    }
}

#[test]
fn a_pod_has_fifteen_seconds_to_be_scheduled() {
    let status =
        json!({"phase": "Pending", "conditions": [condition("PodScheduled", "False", "Unschedulable")]});
    let mut pod = object("v1", "Pod", json!({}), status);
    pod["metadata"]["creationTimestamp"] = json!("1970-01-01T00:01:00Z");
    let at = |seconds: i64| assess(&pod, Timestamp(seconds * 1000)).reason;
    assert_eq!(&*at(74), "PodNotScheduled");
    assert_eq!(&*at(75), "PodUnschedulable");
}

#[test]
fn an_object_that_cannot_be_read_is_unknown_and_says_why() {
    let health = assess(
        &object("v1", "Widget", json!({}), json!({"conditions": "none"})),
        NOW,
    );
    assert_eq!(
        (health.state, &*health.message),
        (State::Unknown, "status.conditions is not a list")
    );
    assert_eq!(Health::not_found().state, State::NotFound);
}
