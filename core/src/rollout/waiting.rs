//! Why something does not move yet, as data: `{reason, params}` is what is stored, words are made of it where it is shown.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{object::ObjectKey, units::cycle};

/// A reason to wait. Its names and their parameters are what the store holds: a name that was stored keeps its meaning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", content = "params", rename_all_fields = "camelCase")]
pub enum Waiting {
    /// The source that the app names is not there.
    SourceNotFound {
        /// Its kind.
        kind: String,
        /// Where it is looked for.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The source has no artifact yet.
    NoArtifact,
    /// The source's artifact cannot be had.
    ArtifactFailed {
        /// What went wrong.
        message: String,
    },
    /// Rendering failed.
    BuildFailed {
        /// What the renderer said.
        message: String,
    },
    /// As many renderings run as there are places, and this one waits for one of them to end. How many there are is no part of
    /// it: hubs of different sizes that say it in turn say the same.
    RendererBusy,
    /// The renderer does not do what is asked of it.
    RenderingNotSupported {
        /// What the renderer said.
        message: String,
    },
    /// This release does not reconcile a kind, or a field of one.
    NotSupported {
        /// `Kind/namespace/name` of the object that uses it; `None`: the app itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        object: Option<String>,
        /// The field or kind.
        what: String,
    },
    /// The app asks for the reference renderer, and this hub has none.
    NoReferenceRenderer {
        /// Why it has none.
        message: String,
    },
    /// The app asks for a renderer that there is not.
    UnknownRenderer {
        /// The annotation that asks for it.
        annotation: String,
        /// The renderer.
        name: String,
    },
    /// What a field refers to is not on the hub.
    NotOnHub {
        /// The field.
        field: String,
        /// Kind of what it refers to.
        kind: String,
        /// Where it is looked for.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// An object belongs to another app.
    Claimed {
        /// The object.
        object: ObjectKey,
        /// `Kind/namespace/name` of the app that has it.
        owner: String,
    },
    /// An app that has to come first is not as it is to be.
    DependencyNotReady {
        /// Name of the cluster in which that matters; '' for all of them.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        cluster: String,
        /// `namespace/name` of it.
        name: String,
        /// What of it, in Flux's words.
        why: String,
    },
    /// Apps wait for each other in a circle.
    DependencyCycle {
        /// `namespace/name` of each, in order.
        members: Vec<String>,
    },
    /// Two placements give a cluster different overrides.
    OverridesDiffer {
        /// Name of the cluster.
        cluster: String,
        /// One placement.
        first: String,
        /// The other.
        second: String,
    },
    /// Something stored cannot be read.
    Unreadable {
        /// `Kind/namespace/name` of it.
        object: String,
        /// What is wrong with it.
        message: String,
    },
    /// The hub could not work it out: an error of its own. It is tried again.
    Failed {
        /// What went wrong.
        message: String,
    },
    /// The hub was restored from a backup, and the app's source was not looked at since: what is recorded may be older than
    /// what its units have.
    Restored,
    /// No cluster matches the placements.
    NoClusterMatches,
    /// Each cluster that matches the placements is drained or leaves the fleet.
    ClustersDeparting {
        /// The first of them by name.
        clusters: Vec<String>,
        /// How many there are beside these.
        more: usize,
    },
    /// Neither a placement nor a kubeConfig says where to.
    NoTarget,
    /// No cluster is known by the kubeconfig that the app names.
    NoClusterFor {
        /// `[cluster:]namespace/name` of the kubeconfig.
        reference: String,
    },
    /// Several are.
    ClustersFor {
        /// `[cluster:]namespace/name` of the kubeconfig.
        reference: String,
        /// One of them.
        first: String,
        /// Another one.
        second: String,
    },
    /// An object that the hub would keep cannot be used.
    KeptInvalid {
        /// Name of the cluster in whose scope it would be; '' for the fleet.
        cluster: String,
        /// The object.
        object: Box<ObjectKey>,
        /// What is wrong with it.
        message: String,
    },
    /// An object that the hub would keep is kept for another app.
    KeptElsewhere {
        /// Name of the cluster in whose scope it is.
        cluster: String,
        /// The object.
        object: Box<ObjectKey>,
        /// `Kind/namespace/name` of the app.
        owner: String,
    },
    /// An app that acts as a ServiceAccount may not have an object kept.
    KeptDenied {
        /// Name of the cluster in whose scope it would be.
        cluster: String,
        /// The object.
        object: Box<ObjectKey>,
        /// Why.
        message: String,
    },
    /// An app renders one of those that render it.
    KeptCycle {
        /// Name of the cluster in whose scope that is.
        cluster: String,
        /// That one.
        object: ObjectKey,
    },
    /// Too many apps render one another.
    KeptTooDeep {
        /// Name of the cluster in whose scope they are.
        cluster: String,
        /// How many may.
        limit: usize,
    },
    /// An app renders too many objects that the hub would keep.
    KeptTooMany {
        /// Name of the cluster in whose scope they would be.
        cluster: String,
        /// How many it may.
        limit: usize,
    },
    /// Too much of what the hub keeps for an app would go at once.
    KeptBlocked {
        /// Name of the cluster in whose scope it is.
        cluster: String,
        /// Objects that are kept and would go.
        going: usize,
        /// Objects in the cluster that would go with them.
        objects: usize,
        /// How many of both may.
        most: usize,
    },
    /// Nothing would be left of what the hub keeps for an app.
    KeptEmpty {
        /// Name of the cluster in whose scope it is.
        cluster: String,
        /// Objects that are kept and would go.
        going: usize,
    },
    /// With something that the hub keeps for an app an object would go of a kind of which none goes unasked.
    KeptUnasked {
        /// Name of the cluster in whose scope it is.
        cluster: String,
        /// What is kept and would go.
        object: ObjectKey,
        /// What would go with it.
        what: ObjectKey,
    },
    /// There are more reasons like those before it.
    KeptMore {
        /// How many.
        more: usize,
    },
    /// An app that is to be deleted waits for what it has rendered and the hub keeps: that goes first.
    KeptRemains {
        /// The first of it, `Kind/namespace/name`.
        first: String,
        /// How many there are.
        count: usize,
    },
    /// A reason of a newer hub, or one whose parameters are other ones there: kept as it is and shown by its name.
    #[serde(untagged)]
    Other(Other),
}

/// A reason that this release does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Other {
    /// Its name.
    pub reason: String,
    /// What goes with it; null where nothing does.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub params: Value,
}

/// Clusters that a reason names.
const NAMED: usize = 5;

impl Waiting {
    /// No cluster is left of those that match the placements, since these depart.
    pub fn departing(clusters: &[String]) -> Self {
        Self::ClustersDeparting {
            clusters: clusters.iter().take(NAMED).cloned().collect(),
            more: clusters.len().saturating_sub(NAMED),
        }
    }

    /// Whether there is no cluster to apply anything in.
    pub fn is_nowhere(&self) -> bool {
        matches!(
            self,
            Self::NoClusterMatches | Self::NoTarget | Self::ClustersDeparting { .. }
        )
    }

    /// Whether it is about one cluster, and the app moves in all others.
    pub fn is_of_one_cluster(&self) -> bool {
        self.cluster().is_some() || matches!(self, Self::KeptMore { .. })
    }

    /// Name of the one cluster that it is about.
    pub fn cluster(&self) -> Option<&str> {
        match self {
            Self::OverridesDiffer { cluster, .. }
            | Self::DependencyNotReady { cluster, .. }
            | Self::KeptInvalid { cluster, .. }
            | Self::KeptElsewhere { cluster, .. }
            | Self::KeptCycle { cluster, .. }
            | Self::KeptTooDeep { cluster, .. }
            | Self::KeptTooMany { cluster, .. }
            | Self::KeptBlocked { cluster, .. } => {
                Some(cluster).filter(|name| !name.is_empty()).map(String::as_str)
            }
            _ => None,
        }
    }

    /// Whether it is for another app to come first.
    pub fn is_of_dependency(&self) -> bool {
        matches!(
            self,
            Self::DependencyNotReady { .. } | Self::DependencyCycle { .. }
        )
    }

    /// Whether it passes by itself, and nothing has failed.
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::RendererBusy | Self::Restored | Self::KeptRemains { .. }
        )
    }

    /// Condition reason: one word, as Flux has it where it has one.
    pub fn reason(&self) -> &str {
        match self {
            Self::SourceNotFound { .. } | Self::NoArtifact | Self::ArtifactFailed { .. } => "ArtifactFailed",
            Self::BuildFailed { .. } => "BuildFailed",
            Self::RendererBusy => "Progressing",
            Self::RenderingNotSupported { .. }
            | Self::NotSupported { .. }
            | Self::NoReferenceRenderer { .. }
            | Self::UnknownRenderer { .. }
            | Self::NotOnHub { .. } => "NotSupported",
            Self::DependencyNotReady { .. } | Self::DependencyCycle { .. } => "DependencyNotReady",
            Self::Claimed { .. } | Self::OverridesDiffer { .. } => "Conflict",
            Self::Unreadable { .. } | Self::Failed { .. } => "ReconciliationFailed",
            Self::Restored => "Progressing",
            Self::NoClusterMatches => "NoClusterMatches",
            Self::ClustersDeparting { .. } => "ClustersDeparting",
            Self::NoTarget => "NoTarget",
            Self::NoClusterFor { .. } => "NoTarget",
            Self::ClustersFor { .. } => "Conflict",
            Self::KeptInvalid { .. } => "ReconciliationFailed",
            Self::KeptElsewhere { .. } => "Conflict",
            Self::KeptDenied { .. } => "AccessDenied",
            Self::KeptCycle { .. } => "DependencyCycle",
            Self::KeptTooDeep { .. } | Self::KeptTooMany { .. } | Self::KeptMore { .. } => "TooLarge",
            Self::KeptBlocked { .. } | Self::KeptEmpty { .. } | Self::KeptUnasked { .. } => "PruneBlocked",
            Self::KeptRemains { .. } => "Progressing",
            Self::Other(other) => &other.reason,
        }
    }

    /// What is said of it, without its condition reason.
    pub fn message(&self) -> String {
        match self {
            Self::SourceNotFound {
                kind,
                namespace,
                name,
            } => format!("Source '{kind}/{namespace}/{name}' not found"),
            Self::NoArtifact => "Source artifact not found, retrying in 30s".to_owned(),
            Self::ArtifactFailed { message }
            | Self::BuildFailed { message }
            | Self::RenderingNotSupported { message }
            | Self::Failed { message } => message.clone(),
            Self::RendererBusy => "waiting for a place to render: all are taken".to_owned(),
            Self::NotSupported { object: None, what } => format!("{what} is not supported by this release"),
            Self::NotSupported {
                object: Some(object),
                what,
            } => format!("{object} uses {what}, which is not supported by this release"),
            Self::NoReferenceRenderer { message } => format!("this hub has no reference renderer: {message}"),
            Self::UnknownRenderer { annotation, name } => {
                format!("annotation {annotation}: {name} is neither native nor reference")
            }
            Self::NotOnHub {
                field,
                kind,
                namespace,
                name,
            } => format!(
                "{field}: {kind} {namespace}/{name} is not on the hub; apply it with `flotilla apply`"
            ),
            Self::Claimed { object, owner } => format!("{object} belongs to {owner}"),
            Self::DependencyNotReady { cluster, name, why } => {
                format!("dependency '{name}'{} {why}", of(cluster))
            }
            Self::DependencyCycle { members } => cycle::words(members),
            Self::OverridesDiffer {
                cluster,
                first,
                second,
            } => format!("placements {first} and {second} give different overrides for cluster {cluster}"),
            Self::Unreadable { object, message } => format!("{object} cannot be read: {message}"),
            Self::Restored => {
                "the hub was restored from a backup and has not looked at the source since; what is deployed \
                               stays as it is"
                    .to_owned()
            }
            Self::NoClusterMatches => "no cluster matches the placements".to_owned(),
            Self::ClustersDeparting { clusters, more } => {
                let named = clusters.join(", ");
                let named = match more {
                    0 => named,
                    more => format!("{named} and {more} more"),
                };
                format!(
                    "each cluster that matches the placements is drained or leaves the fleet ({named}); \
                     `flotilla cluster resume {}` has it stay",
                    match (clusters.as_slice(), more) {
                        ([only], 0) => only,
                        _ => "NAME",
                    }
                )
            }
            Self::NoTarget => "no Placement names this app; add one that chooses its clusters".to_owned(),
            Self::NoClusterFor { reference } => format!(
                "no Cluster has {reference} in its spec.kubeConfigRefs: add it to the one that spec.kubeConfig means"
            ),
            Self::ClustersFor {
                reference,
                first,
                second,
            } => format!("clusters {first} and {second} both have {reference} in their spec.kubeConfigRefs"),
            Self::KeptInvalid {
                cluster,
                object,
                message,
            }
            | Self::KeptDenied {
                cluster,
                object,
                message,
            } => format!("{object}{} is not kept: {message}", of(cluster)),
            Self::KeptElsewhere {
                cluster,
                object,
                owner,
            } => format!("{object}{} is kept for {owner}", of(cluster)),
            Self::KeptCycle { cluster, object } => format!(
                "{object}{} renders this app, and this app renders it: take it out of one of them",
                of(cluster)
            ),
            Self::KeptTooDeep { cluster, limit } => format!(
                "nothing that it renders{} is kept: no more than {limit} apps may render one another",
                of(cluster)
            ),
            Self::KeptTooMany { cluster, limit } => format!(
                "nothing that it renders{} is kept: there are more than {limit} objects of the kinds that the hub keeps",
                of(cluster)
            ),
            Self::KeptBlocked {
                cluster,
                going,
                objects,
                most,
            } => format!(
                "not deleted{}: {going} kept objects have left the source and {objects} objects in the cluster would go \
                 with them, and no more than {most} may go at once; `flotilla delete` allows it for each",
                of(cluster)
            ),
            Self::KeptEmpty { cluster, going } => format!(
                "not deleted{}: {going} kept objects have left the source, and nothing of what is kept would be left; \
                 `flotilla delete` allows it for each",
                of(cluster)
            ),
            Self::KeptUnasked {
                cluster,
                object,
                what,
            } => format!(
                "{object}{} has left the source and is not deleted: {what} would go with it, and none of its kind goes \
                 unasked; `flotilla delete` allows it",
                of(cluster)
            ),
            Self::KeptMore { more } => format!("and {more} more"),
            Self::KeptRemains { first, count } => match count {
                1 => format!("waiting for {first} to be gone"),
                count => format!("waiting for {first} and {} more to be gone", count - 1),
            },
            Self::Other(other) => other.reason.clone(),
        }
    }
}

/// In whose scope something is.
fn of(cluster: &str) -> String {
    match cluster {
        "" => String::new(),
        cluster => format!(" of cluster {cluster}"),
    }
}

/// `Reason: message`, as it is listed; one of a newer hub is its name alone.
impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(other) => f.write_str(&other.reason),
            known => write!(f, "{}: {}", known.reason(), known.message()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::random::Random;

    /// Every reason, with a text in each of its parameters.
    fn reasons(text: &str) -> Vec<Waiting> {
        let text = || text.to_owned();
        let key = || ObjectKey::new(&text(), &text(), &text(), &text());
        vec![
            Waiting::SourceNotFound {
                kind: text(),
                namespace: text(),
                name: text(),
            },
            Waiting::NoArtifact,
            Waiting::ArtifactFailed { message: text() },
            Waiting::BuildFailed { message: text() },
            Waiting::RenderingNotSupported { message: text() },
            Waiting::NotSupported {
                object: None,
                what: text(),
            },
            Waiting::NotSupported {
                object: Some(text()),
                what: text(),
            },
            Waiting::NoReferenceRenderer { message: text() },
            Waiting::UnknownRenderer {
                annotation: text(),
                name: text(),
            },
            Waiting::NotOnHub {
                field: text(),
                kind: text(),
                namespace: text(),
                name: text(),
            },
            Waiting::Claimed {
                object: ObjectKey::new(&text(), &text(), &text(), &text()),
                owner: text(),
            },
            Waiting::OverridesDiffer {
                cluster: text(),
                first: text(),
                second: text(),
            },
            Waiting::Unreadable {
                object: text(),
                message: text(),
            },
            Waiting::Failed { message: text() },
            Waiting::NoClusterMatches,
            Waiting::NoTarget,
            Waiting::RendererBusy,
            Waiting::Restored,
            Waiting::ClustersDeparting {
                clusters: vec![text(), text()],
                more: 7,
            },
            Waiting::NoClusterFor { reference: text() },
            Waiting::ClustersFor {
                reference: text(),
                first: text(),
                second: text(),
            },
            Waiting::KeptInvalid {
                cluster: text(),
                object: Box::new(key()),
                message: text(),
            },
            Waiting::KeptDenied {
                cluster: text(),
                object: Box::new(key()),
                message: text(),
            },
            Waiting::KeptElsewhere {
                cluster: text(),
                object: Box::new(key()),
                owner: text(),
            },
            Waiting::KeptCycle {
                cluster: text(),
                object: key(),
            },
            Waiting::KeptTooDeep {
                cluster: text(),
                limit: 5,
            },
            Waiting::KeptTooMany {
                cluster: text(),
                limit: 5,
            },
            Waiting::KeptBlocked {
                cluster: text(),
                going: 1,
                objects: 2,
                most: 3,
            },
            Waiting::KeptEmpty {
                cluster: text(),
                going: 1,
            },
            Waiting::KeptUnasked {
                cluster: text(),
                object: key(),
                what: key(),
            },
            Waiting::KeptMore { more: 3 },
            Waiting::KeptRemains {
                first: text(),
                count: 2,
            },
            Waiting::DependencyNotReady {
                cluster: text(),
                name: text(),
                why: text(),
            },
            Waiting::DependencyCycle {
                members: vec![text(), text()],
            },
            Waiting::Other(Other {
                reason: format!("Newer{}", text()),
                params: json!({ "a": text(), "b": [1, { "c": text() }] }),
            }),
        ]
    }

    /// Names of the variants in the order of `reasons`: a renamed one would be unknown to what is stored.
    const STORED: [&str; 34] = [
        "SourceNotFound",
        "NoArtifact",
        "ArtifactFailed",
        "BuildFailed",
        "RenderingNotSupported",
        "NotSupported",
        "NotSupported",
        "NoReferenceRenderer",
        "UnknownRenderer",
        "NotOnHub",
        "Claimed",
        "OverridesDiffer",
        "Unreadable",
        "Failed",
        "NoClusterMatches",
        "NoTarget",
        "RendererBusy",
        "Restored",
        "ClustersDeparting",
        "NoClusterFor",
        "ClustersFor",
        "KeptInvalid",
        "KeptDenied",
        "KeptElsewhere",
        "KeptCycle",
        "KeptTooDeep",
        "KeptTooMany",
        "KeptBlocked",
        "KeptEmpty",
        "KeptUnasked",
        "KeptMore",
        "KeptRemains",
        "DependencyNotReady",
        "DependencyCycle",
    ];

    /// Texts that a form made of words would trip over, and random ones.
    fn texts() -> impl Iterator<Item = String> {
        let pieces = [
            ": ",
            "; ",
            "NotSupported",
            "{",
            "\"",
            "\\",
            "\n",
            "é",
            "\u{0}",
            "reason",
            "a",
            "",
        ];
        let mut numbers = Random(1);
        let random = std::iter::repeat_with(move || {
            let mut piece = || pieces[usize::try_from(numbers.below(pieces.len() as u64)).unwrap_or(0)];
            (0..6).map(|_| piece()).collect()
        });
        pieces.map(str::to_owned).into_iter().chain(random.take(300))
    }

    #[test]
    fn every_reason_reads_back_from_the_store_whatever_its_texts() {
        for text in texts() {
            for (at, reason) in reasons(&text).into_iter().enumerate() {
                let stored = serde_json::to_value(&reason).expect("JSON");
                if let Some(name) = STORED.get(at) {
                    assert_eq!(stored["reason"], *name);
                }
                let read: Waiting = serde_json::from_value(stored.clone()).expect("readable");
                assert_eq!(read, reason, "{stored}");
                assert_eq!(serde_json::to_value(&read).expect("JSON"), stored);
            }
        }
    }

    #[test]
    fn a_reason_of_a_newer_hub_is_kept_and_shown_by_its_name() {
        for stored in [
            json!({ "reason": "CanarySoaks", "params": { "left": "12m" } }),
            json!({ "reason": "CanarySoaks" }),
            // One that is known here, with parameters that are not.
            json!({ "reason": "Claimed", "params": { "by": "nobody" } }),
        ] {
            let read: Waiting = serde_json::from_value(stored.clone()).expect("readable");
            assert_eq!(serde_json::to_value(&read).expect("JSON"), stored);
            let name = stored["reason"].as_str().expect("a name");
            assert_eq!((read.reason(), read.to_string().as_str()), (name, name));
        }
    }

    #[test]
    fn words_are_made_of_what_is_stored() {
        let claimed = Waiting::Claimed {
            object: ObjectKey::new("", "ConfigMap", "a", "b"),
            owner: "Kustomization/apps/c".into(),
        };
        assert_eq!(
            serde_json::to_value(&claimed).expect("JSON"),
            json!({
                "reason": "Claimed",
                "params": {
                    "object": { "kind": "ConfigMap", "namespace": "a", "name": "b" },
                    "owner": "Kustomization/apps/c"
                }
            })
        );
        assert_eq!(
            claimed.to_string(),
            "Conflict: ConfigMap/a/b belongs to Kustomization/apps/c"
        );
        assert_eq!(Waiting::NoTarget.reason(), "NoTarget");
    }

    #[test]
    fn what_is_kept_for_one_cluster_and_what_one_cluster_needs_is_of_that_cluster_alone() {
        let kept = |cluster: &str| Waiting::KeptInvalid {
            cluster: cluster.into(),
            object: Box::new(ObjectKey::new("", "Secret", "a", "b")),
            message: "no".into(),
        };
        let needs = |cluster: &str| Waiting::DependencyNotReady {
            cluster: cluster.into(),
            name: "infra/db".into(),
            why: "is not ready".into(),
        };
        for of in [kept("c7"), needs("c7")] {
            assert_eq!((of.cluster(), of.is_of_one_cluster()), (Some("c7"), true), "{of}");
        }
        for of in [kept(""), needs(""), Waiting::NoArtifact] {
            assert_eq!((of.cluster(), of.is_of_one_cluster()), (None, false), "{of}");
        }
        assert_eq!(
            needs("c7").message(),
            "dependency 'infra/db' of cluster c7 is not ready"
        );
        // As one of an older hub reads.
        let stored = json!({ "reason": "DependencyNotReady", "params": { "name": "infra/db", "why": "is not ready" } });
        assert_eq!(serde_json::to_value(needs("")).expect("JSON"), stored);
        assert_eq!(
            serde_json::from_value::<Waiting>(stored).expect("readable"),
            needs("")
        );
    }

    #[test]
    fn departing_clusters_are_named_a_few_with_the_command_that_has_them_stay() {
        let names = |count: usize| (1..=count).map(|n| format!("c{n}")).collect::<Vec<_>>();
        assert_eq!(
            Waiting::departing(&names(1)).to_string(),
            "ClustersDeparting: each cluster that matches the placements is drained or leaves the fleet (c1); \
             `flotilla cluster resume c1` has it stay"
        );
        assert_eq!(
            Waiting::departing(&names(7)).message(),
            "each cluster that matches the placements is drained or leaves the fleet (c1, c2, c3, c4, c5 and 2 more); \
             `flotilla cluster resume NAME` has it stay"
        );
    }
}
