//! Orders objects for apply as Flux does: definitions first, then classes, then the rest; webhook
//! configurations last, behind a barrier, since they judge whatever is written after them.

use std::{borrow::Borrow, cmp::Reverse, time::Duration};

use crate::object::ObjectKey;

/// How long a stage's objects may take to become ready before the next stage is given up.
pub const STAGE_WAIT: Duration = Duration::from_secs(60);

/// Kinds that come first, in this order; all others follow, webhook configurations last. Group and kind: a kind
/// of the same name in another group has no such meaning.
const FIRST: &[(&str, &str)] = &[
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("", "Namespace"),
    (RBAC, "ClusterRole"),
    ("cluster.x-k8s.io", "ClusterClass"),
    ("node.k8s.io", "RuntimeClass"),
    ("scheduling.k8s.io", "PriorityClass"),
    ("storage.k8s.io", "StorageClass"),
    ("snapshot.storage.k8s.io", "VolumeSnapshotClass"),
    ("networking.k8s.io", "IngressClass"),
    ("gateway.networking.k8s.io", "GatewayClass"),
    (RBAC, "ClusterRoleBinding"),
    ("", "ResourceQuota"),
    ("", "ServiceAccount"),
    (RBAC, "Role"),
    (RBAC, "RoleBinding"),
    ("", "ConfigMap"),
    ("", "Secret"),
    ("", "Service"),
    ("", "LimitRange"),
    ("apps", "Deployment"),
    ("apps", "StatefulSet"),
    ("batch", "CronJob"),
    ("policy", "PodDisruptionBudget"),
];
const LAST: &[(&str, &str)] = &[
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
];
const RBAC: &str = "rbac.authorization.k8s.io";
/// Kinds of the first stage: the first of [`FIRST`].
const DEFINITIONS: usize = 3;

/// A group of objects written together. The next begins when all of this one are written and, where it
/// [waits](Self::waits), ready; a failed object leaves its own stage alone and closes the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// CustomResourceDefinitions, Namespaces, ClusterRoles: what others need to be accepted at all.
    Definitions,
    /// Kinds whose name ends in `Class`.
    Classes,
    /// Everything else.
    Objects,
    /// Mutating and validating webhook configurations.
    Webhooks,
}

impl Stage {
    /// The stage of an object.
    pub fn of(key: &ObjectKey) -> Self {
        if position(&FIRST[..DEFINITIONS], key).is_some() {
            Self::Definitions
        } else if key.kind.ends_with("Class") {
            Self::Classes
        } else if position(LAST, key).is_some() {
            Self::Webhooks
        } else {
            Self::Objects
        }
    }

    /// Tells whether the next stage waits, for at most [`STAGE_WAIT`], until this one's objects are ready.
    pub fn waits(self) -> bool {
        matches!(self, Self::Definitions | Self::Classes)
    }
}

/// Groups objects into stages, each in order of apply. Returns indices into `objects`; no stage is empty.
pub fn stages<K: Borrow<ObjectKey>>(objects: &[K]) -> Vec<(Stage, Vec<usize>)> {
    let mut order: Vec<usize> = (0..objects.len()).collect();
    order.sort_by_cached_key(|&index| sort_key(objects[index].borrow()));
    let mut stages: Vec<(Stage, Vec<usize>)> = Vec::new();
    for index in order {
        let stage = Stage::of(objects[index].borrow());
        match stages.last_mut() {
            Some((last, members)) if *last == stage => members.push(index),
            _ => stages.push((stage, vec![index])),
        }
    }
    stages
}

/// Orders objects for removal; see [`removal_rank`].
pub type RemovalRank = (bool, Reverse<(Stage, usize)>);

/// Where an object stands when several are removed, from the first to the last: what was applied last goes first, with
/// namespaces at the very end, since each takes along whatever is in it.
pub fn removal_rank(key: &ObjectKey) -> RemovalRank {
    let is_namespace = key.group.is_empty() && key.kind == "Namespace";
    (is_namespace, Reverse((Stage::of(key), rank(key))))
}

/// Within a stage: rank of the kind, then group, kind, namespace and name, so that the order never depends on
/// the order given.
fn sort_key(key: &ObjectKey) -> (Stage, usize, &ObjectKey) {
    (Stage::of(key), rank(key), key)
}

fn rank(key: &ObjectKey) -> usize {
    let others = FIRST.len();
    let last = position(LAST, key).map(|at| others + 1 + at);
    position(FIRST, key).or(last).unwrap_or(others)
}

fn position(kinds: &[(&str, &str)], key: &ObjectKey) -> Option<usize> {
    kinds
        .iter()
        .position(|&(group, kind)| key.group == group && key.kind == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> ObjectKey {
        let parts: Vec<&str> = text.split('/').collect();
        ObjectKey::new(parts[0], parts[1], parts[2], parts[3])
    }

    fn staged(objects: &[&str]) -> Vec<(Stage, Vec<String>)> {
        let keys: Vec<ObjectKey> = objects.iter().map(|text| key(text)).collect();
        stages(&keys)
            .into_iter()
            .map(|(stage, members)| (stage, members.iter().map(|&i| keys[i].to_string()).collect()))
            .collect()
    }

    #[test]
    fn definitions_classes_objects_and_webhooks_follow_each_other() {
        let given = [
            "admissionregistration.k8s.io/ValidatingWebhookConfiguration//v",
            "example.com/Widget/a/w",
            "apps/Deployment/a/web",
            "/Secret/a/s",
            "/ConfigMap/b/c",
            "/ConfigMap/a/c",
            "/Namespace//a",
            "apiextensions.k8s.io/CustomResourceDefinition//widgets.example.com",
            "storage.k8s.io/StorageClass//fast",
            "example.com/WidgetClass//w",
            "rbac.authorization.k8s.io/ClusterRole//r",
            "rbac.authorization.k8s.io/ClusterRoleBinding//r",
            "admissionregistration.k8s.io/MutatingWebhookConfiguration//m",
        ];
        let expected = [
            (
                Stage::Definitions,
                vec![
                    "CustomResourceDefinition/widgets.example.com",
                    "Namespace/a",
                    "ClusterRole/r",
                ],
            ),
            (Stage::Classes, vec!["StorageClass/fast", "WidgetClass/w"]),
            (
                Stage::Objects,
                vec![
                    "ClusterRoleBinding/r",
                    "ConfigMap/a/c",
                    "ConfigMap/b/c",
                    "Secret/a/s",
                    "Deployment/a/web",
                    "Widget/a/w",
                ],
            ),
            (
                Stage::Webhooks,
                vec![
                    "MutatingWebhookConfiguration/m",
                    "ValidatingWebhookConfiguration/v",
                ],
            ),
        ]
        .map(|(stage, names)| (stage, names.into_iter().map(str::to_owned).collect::<Vec<_>>()));
        assert_eq!(staged(&given), expected);
        let mut reversed = given;
        reversed.reverse();
        assert_eq!(staged(&reversed), expected);
    }

    #[test]
    fn a_kind_of_a_foreign_group_is_no_definition() {
        assert_eq!(Stage::of(&key("example.com/Namespace//a")), Stage::Objects);
        assert_eq!(Stage::of(&key("example.com/ClusterRole//a")), Stage::Objects);
        assert_eq!(Stage::of(&key("example.com/ClusterClass//a")), Stage::Classes);
    }

    #[test]
    fn removal_takes_last_what_was_applied_first_and_namespaces_after_all() {
        let mut keys: Vec<ObjectKey> = [
            "/Namespace//a",
            "apiextensions.k8s.io/CustomResourceDefinition//widgets.example.com",
            "rbac.authorization.k8s.io/ClusterRole//r",
            "storage.k8s.io/StorageClass//fast",
            "/ServiceAccount/a/s",
            "/ConfigMap/a/c",
            "apps/Deployment/a/web",
            "example.com/Widget/a/w",
            "admissionregistration.k8s.io/ValidatingWebhookConfiguration//v",
        ]
        .map(key)
        .to_vec();
        keys.sort_by_key(removal_rank);
        let kinds: Vec<&str> = keys.iter().map(|key| key.kind.as_str()).collect();
        let expected = [
            "ValidatingWebhookConfiguration",
            "Widget",
            "Deployment",
            "ConfigMap",
            "ServiceAccount",
            "StorageClass",
            "ClusterRole",
            "CustomResourceDefinition",
            "Namespace",
        ];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn a_kind_of_a_foreign_group_has_no_rank() {
        let given = [
            "example.com/Secret/a/s",
            "/Secret/a/s",
            "example.com/ValidatingWebhookConfiguration//v",
            "batch/Job/a/j",
        ];
        let names = [
            "Secret/a/s",
            "Job/a/j",
            "Secret/a/s",
            "ValidatingWebhookConfiguration/v",
        ];
        let expected = [(Stage::Objects, names.map(str::to_owned).to_vec())];
        assert_eq!(staged(&given), expected);
    }
}
