//! What is known of an app in one cluster, as it is stored.

use std::fmt;

use crate::{clock::Timestamp, fleet::placement::Match, object::ObjectKey, rollout::waiting::Waiting};

/// A configured object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Name {
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind, self.namespace, self.name)
    }
}

impl Name {
    /// As commands take it after their verb: `kustomization NAME -n NAMESPACE`, `source git NAME -n NAMESPACE`.
    pub(super) fn argument(&self) -> String {
        let word = match self.kind.as_str() {
            "GitRepository" => "source git",
            "OCIRepository" => "source oci",
            "HelmRepository" => "source helm",
            "HelmChart" => "source chart",
            "Bucket" => "source bucket",
            "ExternalArtifact" => "source external",
            "HelmRelease" => "helmrelease",
            _ => "kustomization",
        };
        format!("{word} {} -n {}", self.name, self.namespace)
    }
}

/// All that is known.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The app.
    pub app: Name,
    /// Name of the cluster; '' where the app has none.
    pub cluster: String,
    /// The app is left alone.
    pub suspended: bool,
    /// What of it this release does not do.
    pub not_supported: Vec<String>,
    /// It is to be deleted.
    pub deleting: Option<Deleting>,
    /// Its present spec was looked at.
    pub observed: bool,
    /// It is marked to be planned.
    pub due: bool,
    /// Why nothing, or not everything, of it moves.
    pub waiting: Vec<Waiting>,
    /// Since when it has such reasons, or has none.
    pub held_since: Option<Timestamp>,
    /// The hub was restored, and the app was not planned since.
    pub unconfirmed: bool,
    /// The source that it names.
    pub source: Option<Source>,
    /// What its input renders to.
    pub rendering: Option<Rendering>,
    /// Whether that input is what the app says now.
    pub input: Input,
    /// What placements say.
    pub placing: Placing,
    /// The cluster's agent; `None`: no cluster.
    pub agent: Option<Agent>,
    /// The app there; `None`: it is not there.
    pub unit: Option<Unit>,
}

impl Facts {
    /// Tells whether nothing is still to be planned.
    pub(super) fn is_planned(&self) -> bool {
        self.observed && !self.due
    }

    /// Whether the app is held as a whole: it may be held before it is rendered, and what it renders to is of an earlier spec
    /// then. Where it has no cluster nothing is held; that the hub was restored is told by the source.
    pub(super) fn is_held(&self) -> bool {
        let holds = |why: &Waiting| {
            !matches!(
                why,
                Waiting::NoTarget | Waiting::NoClusterMatches | Waiting::Restored
            )
        };
        self.waiting_here().into_iter().any(holds)
    }

    /// Whether the app's input is what it says now. Only a suspended one keeps what it had: any other is rendered anew, or held.
    pub(super) fn input(&self) -> Input {
        match self.suspended {
            true => self.input,
            false => Input::Present,
        }
    }

    /// Why nothing, or not everything, of the app moves in this cluster: that placements disagree on another one is no reason
    /// here. Of no cluster, all reasons.
    pub(super) fn waiting_here(&self) -> Vec<&Waiting> {
        let is_elsewhere = |why: &Waiting| match why {
            Waiting::OverridesDiffer { cluster, .. } => !self.cluster.is_empty() && *cluster != self.cluster,
            _ => false,
        };
        self.waiting.iter().filter(|why| !is_elsewhere(why)).collect()
    }
}

/// What an app was rendered from last, against what it says now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Input {
    /// The same.
    #[default]
    Present,
    /// Another source than it names now.
    OtherSource,
    /// Its spec has changed, or the engine has.
    Changed,
}

/// A deletion that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deleting {
    /// Since when.
    pub at: Timestamp,
    /// What becomes of what it has applied.
    pub policy: String,
    /// Who has asked for it last; empty where that is not known.
    pub by: String,
}

/// The source that an app names.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its name.
    pub name: Name,
    /// What is known of it; `None`: it is not there.
    pub known: Option<SourceState>,
}

/// What is known of a source.
#[derive(Debug, Clone, Default)]
pub struct SourceState {
    /// It is left alone.
    pub suspended: bool,
    /// What of it this release does not do.
    pub not_supported: Vec<String>,
    /// What it said last of its present spec; `None`: nothing yet.
    pub said: Option<Stated>,
    /// Its present revision.
    pub revision: Option<String>,
    /// What its author says of that.
    pub subject: String,
    /// When it was looked at last.
    pub looked: Option<Timestamp>,
    /// When it is looked at next.
    pub next: Option<Timestamp>,
    /// Looks that failed in a row.
    pub failures: u32,
    /// The hub was restored, and has not looked at it since.
    pub unconfirmed: bool,
}

/// A Ready condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stated {
    /// `True`, `False`, `Unknown`.
    pub status: String,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
}

/// How far a rendering is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenderState {
    /// Not done yet.
    Pending,
    /// Done.
    Done,
    /// It failed.
    Failed,
    /// It asks for what this release does not do.
    NotSupported,
}

/// What an app's input renders to.
#[derive(Debug, Clone)]
pub struct Rendering {
    /// The revision from which on it is this one.
    pub revision: String,
    /// How far it is.
    pub state: RenderState,
    /// Why it failed, or is tried again.
    pub reason: String,
    /// The same in a sentence.
    pub message: String,
    /// Attempts begun.
    pub attempts: u32,
    /// A hub is at it.
    pub running: bool,
    /// When it is tried again.
    pub again: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

/// What placements say of the cluster.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Placing {
    /// Why that is not known.
    pub unknown: Option<Waiting>,
    /// Each placement that names the app, and whether it chooses the cluster.
    pub matches: Vec<(String, Match)>,
}

/// A cluster's agent.
#[derive(Debug, Clone, Default)]
pub struct Agent {
    /// `Pending`, `Active`, `Suspended`: of the cluster.
    pub state: String,
    /// A stream to it is open.
    pub connected: bool,
    /// Not heard of for so long that what it said last may be wrong by now.
    pub silent: bool,
    /// Heard of last.
    pub seen: Option<Timestamp>,
    /// What is published for the cluster.
    pub desired: u64,
    /// When that was.
    pub published: Option<Timestamp>,
    /// What its agent has acknowledged as a whole.
    pub accepted: u64,
    /// Why it takes nothing that it does not hold, and what it does not take of other apps.
    pub refusal: String,
    /// What is wrong with the cluster.
    pub conditions: String,
}

impl Agent {
    /// All that is said of it.
    pub(super) fn said(&self) -> String {
        let said = [&*self.refusal, &*self.conditions].into_iter();
        said.filter(|one| !one.is_empty()).collect::<Vec<_>>().join("; ")
    }
}

/// What an agent refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// When it said so.
    pub at: Timestamp,
}

/// What an agent says of a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitWord {
    /// It is ready.
    pub is_ready: bool,
    /// It says that it is not, and not that it is on its way.
    pub is_failed: bool,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// What it notes of a ready unit.
    pub notes: String,
}

/// The rollout that gave a unit its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    /// Its number.
    pub id: i64,
    /// What began it.
    pub cause: String,
    /// The revision that it brings.
    pub revision: String,
    /// `Admitted`, `Applied`, `Withdrawn`, `Superseded`: of this cluster.
    pub admission: String,
    /// When that was.
    pub at: Option<Timestamp>,
}

/// An app in one cluster.
#[derive(Debug, Clone, Default)]
pub struct Unit {
    /// `Active`, `Suspended`, `Detached`, `Removing`.
    pub state: String,
    /// Version of its target.
    pub version: u64,
    /// Its target's revision.
    pub target_revision: String,
    /// The revision of what is applied.
    pub applied_revision: String,
    /// Its target has the content that the app renders to now; `None`: it renders to nothing yet.
    pub has_rendered: Option<bool>,
    /// What changed it last.
    pub cause: String,
    /// Since when it has its target.
    pub moved: Option<Timestamp>,
    /// Why it is held.
    pub waiting: Vec<Waiting>,
    /// Since when.
    pub held: Option<Timestamp>,
    /// The rollout that gave it its target.
    pub rollout: Option<Rollout>,
    /// It has changed and is not published yet.
    pub unpublished: bool,
    /// It stands in what is published for its cluster.
    pub published: bool,
    /// Its agent holds what is published of it.
    pub accepted: bool,
    /// Its agent does not take that.
    pub refused: Option<Refused>,
    /// The version that the agent's word is about; `None`: it said nothing yet.
    pub said_version: Option<u64>,
    /// The version that it has tried last.
    pub attempted: Option<u64>,
    /// The version that it has applied whole last.
    pub applied_version: Option<u64>,
    /// The version that was healthy last.
    pub healthy: Option<u64>,
    /// Since when it is.
    pub healthy_since: Option<Timestamp>,
    /// The word is about the present version.
    pub current: bool,
    /// The present version is applied.
    pub applied: bool,
    /// The word.
    pub word: UnitWord,
    /// When it was observed, by the agent's clock.
    pub observed: Option<Timestamp>,
    /// Since when it is so.
    pub turned: Option<Timestamp>,
    /// Objects.
    pub objects: u64,
    /// Those that are not as they should be, the first of them.
    pub failing: Vec<Object>,
    /// How many there are.
    pub failing_total: u64,
    /// Those that have left, the first of them.
    pub leaving: Vec<Object>,
    /// How many there are.
    pub leaving_total: u64,
    /// What the hub has decided of these.
    pub cleared: Option<Leaving>,
    /// Who has allowed that guards are passed.
    pub approved: Option<String>,
    /// What the last change of the target has handed over to other apps, the first of it.
    pub moved_to: Vec<Moved>,
    /// How many there are.
    pub moved_total: u64,
}

/// An object that is worth a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its name.
    pub key: ObjectKey,
    /// `Failed`, `Conflict`, `Waiting`, `PendingRemoval`, `Applied`.
    pub state: String,
    /// Its health in a word.
    pub health: String,
    /// What is said of it.
    pub message: String,
    /// Another app of the cluster that is to have it.
    pub other: Option<String>,
}

/// What the hub has decided of what has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving {
    /// `Off`, `Open`, `Cleared`.
    pub state: String,
    /// Why it is open.
    pub waits: String,
    /// How many are excepted.
    pub excepted: u64,
    /// Since when.
    pub at: Timestamp,
}

/// An object that another app has by now, or is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The object.
    pub key: ObjectKey,
    /// That app.
    pub to: String,
    /// Its agent says that it has it.
    pub done: bool,
}
