//! The hub's rows in memory, changed as `hub/src/store` changes them: plans by compare-and-set, publications, reports,
//! clearings, deletions, restores. Each function here is one transaction there, and a test of the hub runs the same
//! transactions on both and compares the rows (`hub/tests/fleet/twin`).
//!
//! Left out is what decides nothing of what clusters get: rollouts, history, events, conditions, leases.

mod deletion;
mod leaving;
mod plan;
mod publish;
mod report;
mod restore;
mod sibling;

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::{
    digest::Digest,
    object::ObjectKey,
    removal::DeletionPolicy,
    rollout::{plan::Current, waiting::Waiting},
    unit::{Settings, UnitState, VariableLayer, Withheld, record::Attained},
};
use uuid::Uuid;

pub(crate) use self::{
    leaving::LeavingUnit,
    plan::{Commit, Unchanged},
    report::{Report, Told},
};

/// All rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Store {
    pub(crate) incarnation: u64,
    /// Apps; their placements with them.
    pub(crate) resources: BTreeMap<Uuid, Resource>,
    /// Clusters that are being drained.
    pub(crate) draining: BTreeSet<Uuid>,
    /// Apps to plan, and the number of the last change, which is never given twice.
    pub(crate) due: BTreeMap<Uuid, i64>,
    pub(crate) changes: i64,
    pub(crate) sources: BTreeMap<Uuid, Source>,
    /// Sources and apps of a backup of which nothing is confirmed.
    pub(crate) unconfirmed: BTreeSet<Uuid>,
    /// What an app is rendered from now.
    pub(crate) inputs: BTreeMap<Uuid, Input>,
    /// What inputs gave; `None`: they cannot be rendered.
    pub(crate) renderings: BTreeMap<(Uuid, Input), Option<Digest>>,
    pub(crate) plans: BTreeMap<Uuid, Plan>,
    pub(crate) units: BTreeMap<Uuid, Unit>,
    pub(crate) targets: BTreeMap<Digest, Target>,
    pub(crate) keysets: BTreeMap<Digest, BTreeSet<ObjectKey>>,
    /// By cluster and unit.
    pub(crate) unpublished: BTreeSet<(Uuid, Uuid)>,
    pub(crate) desired: BTreeMap<Uuid, Desired>,
    /// By cluster and unit.
    pub(crate) entries: BTreeMap<(Uuid, Uuid), EntryRow>,
    pub(crate) sessions: BTreeMap<Uuid, Session>,
    /// By cluster and unit.
    pub(crate) accepted: BTreeMap<(Uuid, Uuid), Accepted>,
    pub(crate) statuses: BTreeMap<Uuid, Status>,
    pub(crate) objects: BTreeMap<(Uuid, ObjectKey), ObjectRow>,
    pub(crate) leaving: BTreeMap<Uuid, Leaving>,
    /// By unit and target.
    pub(crate) approvals: BTreeMap<(Uuid, Digest), u64>,
}

/// An app.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Resource {
    pub(crate) name: String,
    pub(crate) source: Uuid,
    pub(crate) folder: u8,
    pub(crate) prune: bool,
    pub(crate) suspended: bool,
    pub(crate) placed: BTreeSet<Uuid>,
    /// Apps, by name, whose units have to be ready first.
    pub(crate) needs: BTreeSet<String>,
    pub(crate) generation: i64,
    pub(crate) deletion: Option<DeletionPolicy>,
    /// The source's revision that its spec was changed after: what was rendered before is not as it says now.
    pub(crate) changed: bool,
}

/// A source: its version for compare-and-set, and its revision.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Source {
    pub(crate) version: u64,
    pub(crate) revision: i64,
}

/// What an app is rendered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Input {
    pub(crate) source: Uuid,
    pub(crate) revision: i64,
    pub(crate) folder: u8,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) version: u64,
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) generation: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Unit {
    pub(crate) app: Uuid,
    pub(crate) cluster: Uuid,
    pub(crate) version: u64,
    pub(crate) target: Digest,
    pub(crate) revision: Option<i64>,
    pub(crate) state: UnitState,
    pub(crate) cause: &'static str,
    pub(crate) withheld: Vec<Withheld>,
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) requested: String,
    pub(crate) released: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Target {
    pub(crate) content: Option<Digest>,
    pub(crate) settings: Settings,
    pub(crate) variables: Vec<VariableLayer>,
    pub(crate) keyset: Option<Digest>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Desired {
    pub(crate) incarnation: u64,
    pub(crate) generation: u64,
    pub(crate) root: Digest,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EntryRow {
    /// Of the bytes.
    pub(crate) digest: Digest,
    pub(crate) bytes: Vec<u8>,
    pub(crate) since: u64,
    pub(crate) released: bool,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Session {
    pub(crate) epoch: u64,
    pub(crate) accepted: (u64, u64),
    /// The latest state that its agent has ever said it accepted.
    pub(crate) furthest: (u64, u64),
    pub(crate) observed_root: Option<Digest>,
    /// Some of what was reported is not here.
    pub(crate) left_out: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Accepted {
    pub(crate) held: Attained,
    pub(crate) entry: Digest,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Status {
    pub(crate) version: u64,
    pub(crate) applied: Option<Attained>,
    pub(crate) ready: &'static str,
    pub(crate) reason: String,
    pub(crate) objects: usize,
    pub(crate) pending: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ObjectRow {
    pub(crate) state: &'static str,
    pub(crate) uid: String,
}

/// The word of an object that has left its unit's content.
pub(crate) const PENDING: &str = "PendingRemoval";

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Leaving {
    pub(crate) cluster: Uuid,
    pub(crate) app: Uuid,
    pub(crate) version: u64,
    pub(crate) objects: usize,
    pub(crate) state: LeavingState,
    pub(crate) except: Vec<ObjectKey>,
    pub(crate) waits: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeavingState {
    Off,
    Open,
    Cleared,
}

/// Something else was committed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Conflict(pub(crate) &'static str);

/// What is recorded of an app's plan.
#[derive(Debug, Clone, Default)]
pub(crate) struct AppPlan {
    pub(crate) version: u64,
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) generation: i64,
    pub(crate) due: Option<i64>,
    pub(crate) is_unconfirmed: bool,
    pub(crate) is_any_unconfirmed: bool,
    pub(crate) units: Vec<Current>,
}

impl Unit {
    /// It does not move, but for what others have.
    pub(crate) fn waits(&self) -> bool {
        self.waiting
            .iter()
            .any(|why| !matches!(why, Waiting::Claimed { .. }))
    }
}

impl Store {
    /// Has apps planned.
    pub(crate) fn wake_apps(&mut self, apps: impl IntoIterator<Item = Uuid>) {
        let apps: BTreeSet<Uuid> = apps.into_iter().collect();
        for app in apps {
            self.changes += 1;
            self.due.insert(app, self.changes);
        }
    }

    /// Has apps planned that leave something to others in these clusters, where one of these may have let go of it.
    pub(super) fn wake_claims(&mut self, app: Uuid, clusters: &[Uuid]) {
        let left = self
            .units
            .values()
            .filter(|unit| !unit.withheld.is_empty() && clusters.contains(&unit.cluster) && unit.app != app);
        let apps: Vec<Uuid> = left.map(|unit| unit.app).collect();
        self.wake_apps(apps);
    }

    /// The units of an app.
    pub(crate) fn units_of(&self, app: Uuid) -> impl Iterator<Item = (Uuid, &Unit)> {
        self.units
            .iter()
            .filter(move |(_, unit)| unit.app == app)
            .map(|(id, unit)| (*id, unit))
    }
}
