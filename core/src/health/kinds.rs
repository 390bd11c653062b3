//! What each of Kubernetes' own kinds says of itself, in the words of kstatus; but the words of what is current hold no
//! numbers: one that is scaled up and down says the same all the time.

use std::time::Duration;

use serde_json::Value;

use super::{
    Health, Unreadable,
    read::{Conditions, Fields},
};
use crate::{clock::Timestamp, object::group_of};

/// How long a pod may be unscheduled before it counts as unschedulable.
const SCHEDULE_WINDOW: Duration = Duration::from_secs(15);
/// The reason of a pod within [`SCHEDULE_WINDOW`].
pub(super) const NOT_SCHEDULED: &str = "PodNotScheduled";
/// What the Deployment controller takes for "no progress deadline".
const NO_DEADLINE: i64 = i32::MAX as i64;

/// Judges by kind; `None` for kinds without rules of their own.
pub(super) fn judge(
    fields: Fields<'_>,
    conditions: &Conditions<'_>,
    now: Timestamp,
) -> Result<Option<Health>, Unreadable> {
    let group = group_of(fields.text(&["apiVersion"], ""));
    Ok(Some(match (group, fields.text(&["kind"], "")) {
        ("", "ConfigMap" | "Secret") | ("batch", "CronJob") => Health::current("Resource is always ready"),
        ("", "Service") => service(fields),
        ("", "PersistentVolumeClaim") => claim(fields),
        ("", "Pod") => pod(fields, conditions, now)?,
        ("apps" | "extensions", "Deployment") => deployment(fields, conditions),
        ("apps" | "extensions", "ReplicaSet") => replica_set(fields, conditions),
        ("apps" | "extensions", "DaemonSet") => daemon_set(fields)?,
        ("apps", "StatefulSet") => stateful_set(fields),
        ("policy", "PodDisruptionBudget") => Health::current("AllowedDisruptions has been computed."),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definition(conditions),
        _ => return Ok(None),
    }))
}

/// The first count that lags behind, as progress.
fn lagging<'a>(checks: impl IntoIterator<Item = (&'a str, &'a str, i64, i64)>) -> Option<Health> {
    checks
        .into_iter()
        .find(|(_, _, has, wants)| wants > has)
        .map(|(reason, label, has, wants)| Health::in_progress(reason, format!("{label}: {has}/{wants}")))
}

fn extra_pods(has: i64, wants: i64) -> Option<Health> {
    (has > wants).then(|| Health::in_progress("ExtraPods", format!("Pending termination: {}", has - wants)))
}

fn deployment(fields: Fields<'_>, conditions: &Conditions<'_>) -> Health {
    let mut progressed = fields.int(&["spec", "progressDeadlineSeconds"], NO_DEADLINE) == NO_DEADLINE;
    let mut available = false;
    for condition in &conditions.0 {
        match (condition.kind, condition.status, condition.reason) {
            ("Progressing", _, "ProgressDeadlineExceeded") => {
                return Health::failed(condition.reason, "Progress deadline exceeded");
            }
            ("Progressing", "True", "NewReplicaSetAvailable") => progressed = true,
            ("Available", "True", _) => available = true,
            _ => {}
        }
    }
    let wants = fields.int(&["spec", "replicas"], 1);
    let (replicas, updated) = (fields.status("replicas"), fields.status("updatedReplicas"));
    lagging([
        ("LessReplicas", "Replicas", replicas, wants),
        ("LessUpdated", "Updated", updated, wants),
    ])
    .or_else(|| extra_pods(replicas, wants))
    .or_else(|| {
        lagging([
            (
                "LessAvailable",
                "Available",
                fields.status("availableReplicas"),
                updated,
            ),
            ("LessReady", "Ready", fields.status("readyReplicas"), wants),
        ])
    })
    .unwrap_or_else(|| match (progressed, available) {
        (false, _) => Health::in_progress("ReplicaSetNotAvailable", "ReplicaSet not Available"),
        (_, false) => Health::in_progress("DeploymentNotAvailable", "Deployment not Available"),
        _ => Health::current("Deployment is available"),
    })
}

fn replica_set(fields: Fields<'_>, conditions: &Conditions<'_>) -> Health {
    if conditions.with("ReplicaFailure", "True").is_some() {
        return Health::in_progress("ReplicaFailure", "Replica Failure condition. Check Pods");
    }
    let wants = fields.int(&["spec", "replicas"], 1);
    let replicas = fields.status("replicas");
    lagging([
        (
            "LessLabelled",
            "Labelled",
            fields.status("fullyLabeledReplicas"),
            wants,
        ),
        (
            "LessAvailable",
            "Available",
            fields.status("availableReplicas"),
            wants,
        ),
        ("LessReady", "Ready", fields.status("readyReplicas"), wants),
    ])
    .or_else(|| extra_pods(replicas, wants))
    .unwrap_or_else(|| Health::current("ReplicaSet is available"))
}

fn stateful_set(fields: Fields<'_>) -> Health {
    if fields.text(&["spec", "updateStrategy", "type"], "") == "OnDelete" {
        return Health::current("StatefulSet is using the ondelete update strategy");
    }
    let wants = fields.int(&["spec", "replicas"], 1);
    let (replicas, ready) = (fields.status("replicas"), fields.status("readyReplicas"));
    lagging([
        ("LessReplicas", "Replicas", replicas, wants),
        ("LessReady", "Ready", ready, wants),
    ])
    .or_else(|| extra_pods(replicas, wants))
    .unwrap_or_else(|| stateful_set_rollout(fields, wants))
}

fn stateful_set_rollout(fields: Fields<'_>, wants: i64) -> Health {
    let updated = fields.status("updatedReplicas");
    let partition = fields.int(&["spec", "updateStrategy", "rollingUpdate", "partition"], -1);
    if partition != -1 {
        return lagging([(
            "PartitionRollout",
            "updated",
            updated,
            wants.saturating_sub(partition),
        )])
        .unwrap_or_else(|| Health::current("Partition rollout complete"));
    }
    if let Some(health) = lagging([("LessCurrent", "current", fields.status("currentReplicas"), wants)]) {
        return health;
    }
    let revision = |field| fields.text(&["status", field], "");
    if revision("currentRevision") != revision("updateRevision") {
        return Health::in_progress(
            "RevisionMismatch",
            "Waiting for updated revision to match current",
        );
    }
    Health::current("All replicas scheduled as expected")
}

/// The controller always sets both generations; without them it has not looked yet.
fn daemon_set(fields: Fields<'_>) -> Result<Health, Unreadable> {
    let kind = fields.text(&["kind"], "");
    let unset = [
        ("metadata", "generation", "NoGeneration"),
        ("status", "observedGeneration", "NoObservedGeneration"),
    ];
    for (outer, field, reason) in unset {
        if fields.int_strict(outer, field)?.is_none() {
            return Ok(Health::in_progress(
                reason,
                format!("{kind} {outer}.{field} not found"),
            ));
        }
    }
    let wants = fields.int(&["status", "desiredNumberScheduled"], -1);
    if wants == -1 {
        return Ok(Health::in_progress(
            "NoDesiredNumber",
            "Missing .status.desiredNumberScheduled",
        ));
    }
    let counts = [
        (
            "LessCurrent",
            "Current",
            fields.status("currentNumberScheduled"),
            wants,
        ),
        (
            "LessUpdated",
            "Updated",
            fields.status("updatedNumberScheduled"),
            wants,
        ),
        (
            "LessAvailable",
            "Available",
            fields.status("numberAvailable"),
            wants,
        ),
        ("LessReady", "Ready", fields.status("numberReady"), wants),
    ];
    Ok(lagging(counts).unwrap_or_else(|| Health::current("All replicas scheduled as expected")))
}

fn claim(fields: Fields<'_>) -> Health {
    match fields.text(&["status", "phase"], "unknown") {
        "Bound" => Health::current("PVC is Bound"),
        phase => Health::in_progress("NotBound", format!("PVC is not Bound. phase: {phase}")),
    }
}

fn service(fields: Fields<'_>) -> Health {
    let balanced = fields.text(&["spec", "type"], "ClusterIP") == "LoadBalancer";
    if balanced && fields.text(&["spec", "clusterIP"], "").is_empty() {
        return Health::in_progress("NoIPAssigned", "ClusterIP not set. Service type: LoadBalancer");
    }
    Health::current("Service is ready")
}

fn definition(conditions: &Conditions<'_>) -> Health {
    for condition in &conditions.0 {
        match (condition.kind, condition.status) {
            ("NamesAccepted", "False") => return Health::failed(condition.reason, condition.message),
            ("Established", "False") if condition.reason != "Installing" => {
                return Health::failed(condition.reason, condition.message);
            }
            ("Established", "True") => return Health::current("CRD is established"),
            _ => {}
        }
    }
    Health::in_progress("Installing", "Install in progress")
}

fn pod(fields: Fields<'_>, conditions: &Conditions<'_>, now: Timestamp) -> Result<Health, Unreadable> {
    Ok(match fields.text(&["status", "phase"], "") {
        "Succeeded" => Health::current("Pod has completed successfully"),
        "Failed" => Health::current("Pod has completed, but not successfully"),
        "Running" if conditions.with("Ready", "True").is_some() => Health::current("Pod is Ready"),
        "Running" => match crash_looping(fields)?.as_slice() {
            [] => Health::in_progress("PodRunningNotReady", "Pod is running but is not Ready"),
            looping => Health::failed(
                "ContainerCrashLooping",
                format!("Containers in CrashLoop state: {}", looping.join(",")),
            ),
        },
        "Pending" => match conditions.with("PodScheduled", "False") {
            Some(condition) if condition.reason == "Unschedulable" => unschedulable(fields, now),
            _ => Health::in_progress("PodPending", "Pod is in the Pending phase"),
        },
        "" => Health::in_progress("PodNotObserved", "Pod phase not available"),
        phase => return Err(format!("unknown phase {phase}")),
    })
}

fn unschedulable(fields: Fields<'_>, now: Timestamp) -> Health {
    if schedule_deadline(fields).is_some_and(|until| now < until) {
        return Health::in_progress(NOT_SCHEDULED, "Pod has not been scheduled");
    }
    Health::failed("PodUnschedulable", "Pod could not be scheduled")
}

/// Until when a pod need not be scheduled.
pub(super) fn schedule_deadline(fields: Fields<'_>) -> Option<Timestamp> {
    let created = seconds_of(fields.text(&["metadata", "creationTimestamp"], ""))?;
    Some(Timestamp(created.saturating_mul(1000)) + SCHEDULE_WINDOW)
}

fn crash_looping(fields: Fields<'_>) -> Result<Vec<&str>, Unreadable> {
    match fields.at(&["status", "containerStatuses"]) {
        None => Ok(Vec::new()),
        Some(Value::Array(containers)) => Ok(containers
            .iter()
            .filter(|container| container["state"]["waiting"]["reason"] == "CrashLoopBackOff")
            .filter_map(|container| container["name"].as_str())
            .collect()),
        Some(_) => Err("status.containerStatuses is not a list".into()),
    }
}

/// Seconds since the epoch of an RFC 3339 time in UTC without fraction, as the API server writes it.
fn seconds_of(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    // Days since 1970-01-01 in the proleptic Gregorian calendar, with years that begin in March.
    let (year, month) = if month <= 2 {
        (year - 1, month + 9)
    } else {
        (year, month - 3)
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469;
    text.ends_with('Z')
        .then_some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Flux's rule and not that of kstatus: a job that runs is in progress, and a suspended one is current.
pub(super) fn job(fields: Fields<'_>) -> Result<Health, Unreadable> {
    if fields.at(&["spec", "suspend"]) == Some(&Value::Bool(true)) {
        return Ok(Health::current("Job is suspended"));
    }
    let parallelism = fields.int(&["spec", "parallelism"], 1);
    let completions = fields.int(&["spec", "completions"], parallelism);
    let (succeeded, failed) = (fields.status("succeeded"), fields.status("failed"));
    for condition in &Conditions::of(fields.0)?.0 {
        match (condition.kind, condition.status) {
            ("Complete", "True") => {
                return Ok(Health::current("Job Completed"));
            }
            ("Failed", "True") => {
                return Ok(Health::failed(
                    "JobFailed",
                    format!("Job Failed. failed: {failed}/{completions}"),
                ));
            }
            _ => {}
        }
    }
    Ok(if fields.text(&["status", "startTime"], "").is_empty() {
        Health::in_progress(
            "JobNotStarted",
            format!("Job not started. active: 0/{parallelism}"),
        )
    } else {
        let active = fields.status("active");
        let counts = format!("success:{succeeded}, active: {active}, failed: {failed}");
        Health::in_progress("JobInProgress", format!("Job in progress. {counts}"))
    })
}

#[cfg(test)]
mod tests {
    use super::seconds_of;

    #[test]
    fn creation_times_are_read() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T12:34:56Z", Some(951_827_696)),
            ("2026-11-21T03:00:00Z", Some(1_795_230_000)),
            ("2026-11-21", None),
            ("", None),
            ("ünïcödé-and-more-of-it-Z", None),
        ] {
            assert_eq!(seconds_of(text), seconds, "{text}");
        }
    }
}
