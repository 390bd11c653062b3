//! Plans the units of one app: which clusters get which target, and why. Pure: the caller brings what is
//! rendered, chosen and recorded; what comes out is committed by compare-and-set and leaves no choice.
//!
//! Nothing here removes: a cluster that is no longer chosen has its unit `Detached`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::{
    dependencies::{Dependencies, kept},
    removal,
    waiting::Waiting,
};
use crate::{
    digest::Digest,
    fleet::placement::{Chosen, OverrideConflict},
    id::{ClusterId, UnitId},
    removal::DeletionPolicy,
    unit::{Dependency, Settings, Substitution, UnitState, VariableLayer, Withheld, target_digest},
};

/// Reasons of single clusters that an app repeats; each unit has its own.
const HELD: usize = 20;

/// What the planner knows of an app.
#[derive(Debug, Clone)]
pub struct Input {
    /// What may be admitted. While nothing may, units keep their whole target.
    pub admission: Admission,
    /// How the app is applied.
    pub settings: Settings,
    /// The app's own variables, in order: `substituteFrom`, then `substitute`.
    pub layers: Vec<VariableLayer>,
    /// The app is suspended: units keep their target and are not enforced.
    pub suspended: bool,
    /// The last request to reconcile now.
    pub requested: String,
    /// The clusters chosen by placements.
    pub chosen: Vec<Chosen>,
    /// Clusters of which it is not known whether they are chosen, and why: their units stay as they are.
    pub unreadable: BTreeMap<ClusterId, Waiting>,
    /// Clusters that are being drained: what the app has there is removed, as its deletion policy says.
    pub draining: BTreeSet<ClusterId>,
    /// Clusters that leave the fleet: what the app has there stays, and is let go of.
    pub retiring: BTreeSet<ClusterId>,
    /// What becomes of its objects where it is removed.
    pub deletion_policy: DeletionPolicy,
    /// The units there are.
    pub units: Vec<Current>,
    /// Objects of the content that other units own, by cluster.
    pub withheld: BTreeMap<ClusterId, Vec<Withheld>>,
    /// What its units need before them.
    pub dependencies: Dependencies,
}

/// What the current revision of the current source gives. Content, settings and variables are one target: they move
/// together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// It is rendered, and all that goes with it is resolved.
    Admitted(Admitted),
    /// It is not: every unit keeps its last target, and says why. No reason for an app that is suspended.
    Held(Vec<Waiting>),
}

impl Admission {
    /// What is admitted, if anything is.
    pub fn admitted(&self) -> Option<Admitted> {
        match self {
            Self::Admitted(admitted) => Some(*admitted),
            Self::Held(_) => None,
        }
    }
}

/// A content and where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// Row of the source revision.
    pub revision: i64,
    /// The content.
    pub content: Digest,
}

/// A unit as recorded.
#[derive(Debug, Clone)]
pub struct Current {
    /// Identity.
    pub id: UnitId,
    /// Where.
    pub cluster: ClusterId,
    /// Content it should have.
    pub content: Option<Digest>,
    /// Revision that content was admitted with.
    pub revision: Option<i64>,
    /// Digest of content, settings and variables.
    pub target: Digest,
    /// The set of keys that its target claims; `None`: it is not known.
    pub keyset: Option<Digest>,
    /// How it is applied.
    pub settings: Settings,
    /// Its variables.
    pub variables: Vec<VariableLayer>,
    /// Objects it may not write.
    pub withheld: Vec<Withheld>,
    /// What it needs before it.
    pub depends_on: Vec<Dependency>,
    /// What is done with it.
    pub state: UnitState,
    /// Last request passed on.
    pub requested: String,
    /// Why it waits.
    pub waiting: Vec<Waiting>,
}

/// A unit as it shall be recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Next {
    /// The unit to change, or `None` for a new one.
    pub id: Option<UnitId>,
    /// Where.
    pub cluster: ClusterId,
    /// Content.
    pub content: Option<Digest>,
    /// Revision it was admitted with.
    pub revision: Option<i64>,
    /// Digest of content, settings and variables.
    pub target: Digest,
    /// How it is applied.
    pub settings: Settings,
    /// Variables in order.
    pub variables: Vec<VariableLayer>,
    /// Objects it may not write.
    pub withheld: Vec<Withheld>,
    /// What it needs before it.
    pub depends_on: Vec<Dependency>,
    /// What is done with it.
    pub state: UnitState,
    /// Request passed on.
    pub requested: String,
    /// Why it waits.
    pub waiting: Vec<Waiting>,
    /// Whether the target changed: a new version, and part of a rollout.
    pub retargeted: bool,
    /// What changed it.
    pub cause: Cause,
}

/// What changed a unit. The first that applies is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The cluster was chosen.
    Placed,
    /// The rendered content changed.
    Content,
    /// Variables changed.
    Variables,
    /// The app's settings changed.
    Settings,
    /// Suspended or resumed.
    Suspend,
    /// No longer chosen.
    Unplaced,
    /// Its app is to be deleted.
    Deleted,
    /// Its cluster is being drained.
    Drained,
    /// Ownership of an object changed.
    Ownership,
    /// What it needs before it changed.
    Dependencies,
    /// Somebody asked for a reconciliation.
    Request,
    /// Only the reasons why it waits changed.
    Waiting,
}

impl Cause {
    /// A word for the store and for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Content => "content",
            Self::Variables => "variables",
            Self::Settings => "settings",
            Self::Suspend => "suspend",
            Self::Unplaced => "unplaced",
            Self::Deleted => "deleted",
            Self::Drained => "drained",
            Self::Ownership => "ownership",
            Self::Dependencies => "dependencies",
            Self::Request => "request",
            Self::Waiting => "waiting",
        }
    }
}

/// The units to write; those not named stay as they are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Planned {
    /// Changed units, ordered by cluster.
    pub units: Vec<Next>,
}

impl Planned {
    /// Whether a target changed: such a plan is a rollout.
    pub fn is_rollout(&self) -> bool {
        self.units.iter().any(|unit| unit.retargeted)
    }
}

/// Plans the units of one app.
pub fn plan(input: &Input) -> Planned {
    let current: BTreeMap<ClusterId, &Current> =
        input.units.iter().map(|unit| (unit.cluster, unit)).collect();
    let chosen: BTreeMap<ClusterId, &Chosen> =
        input.chosen.iter().map(|chosen| (chosen.id, chosen)).collect();
    let mut units: Vec<Next> = Vec::new();
    for (cluster, chosen) in &chosen {
        let next = match current.get(cluster) {
            Some(unit) => Some(keep_or_move(input, chosen, unit)),
            None => place(input, chosen),
        };
        let next = next.and_then(|next| match input.dependencies.unready_in.get(cluster) {
            // What is given nothing new goes on, whatever becomes of those that it needed.
            Some(reasons) if next.retargeted => current.get(cluster).map(|unit| hold(input, unit, reasons)),
            _ => Some(next),
        });
        units.extend(next.filter(|next| current.get(cluster).is_none_or(|unit| differs(unit, next))));
    }
    for (cluster, unit) in &current {
        if chosen.contains_key(cluster) {
            continue;
        }
        // The app was to be deleted, and is not any more: what is left of it stays.
        let is_removed = matches!(unit.state, UnitState::Removing(_));
        let next = match input.unreadable.get(cluster).filter(|_| !is_removed) {
            _ if input.draining.contains(cluster) => {
                let prunes = input.settings.prune;
                removal::drain(unit, input.deletion_policy, input.suspended, prunes)
            }
            _ if input.retiring.contains(cluster) => removal::retire(unit),
            Some(why) => Next {
                waiting: vec![why.clone()],
                ..unchanged(unit)
            },
            None => Next {
                state: UnitState::Detached,
                cause: Cause::Unplaced,
                ..unchanged(unit)
            },
        };
        units.extend(Some(next).filter(|next| differs(unit, next)));
    }
    units.sort_by_key(|unit| unit.cluster);
    Planned { units }
}

/// Why chosen clusters get no unit, or nothing new, where that is not for want of anything admitted: placements disagree on
/// them, or what is needed there is not as it is to be.
pub fn unplaced(input: &Input) -> Vec<Waiting> {
    let placed: BTreeMap<ClusterId, &Current> = input.units.iter().map(|unit| (unit.cluster, unit)).collect();
    let without = input
        .chosen
        .iter()
        .filter(|chosen| !placed.contains_key(&chosen.id));
    let differ = without.filter_map(|chosen| {
        let conflict = chosen.overrides.as_ref().err()?;
        Some(overrides_differ(chosen, conflict))
    });
    let held = input.chosen.iter().filter_map(|chosen| {
        let reasons = input.dependencies.unready_in.get(&chosen.id)?;
        let moves = match placed.get(&chosen.id) {
            Some(unit) => keep_or_move(input, chosen, unit).retargeted,
            None => place(input, chosen).is_some(),
        };
        moves.then_some(reasons)
    });
    differ.chain(held.flatten().take(HELD).cloned()).collect()
}

fn overrides_differ(chosen: &Chosen, conflict: &OverrideConflict) -> Waiting {
    Waiting::OverridesDiffer {
        cluster: chosen.name.clone(),
        first: conflict.first.clone(),
        second: conflict.second.clone(),
    }
}

/// A new unit; none while nothing is admitted or the overrides are in conflict.
fn place(input: &Input, chosen: &Chosen) -> Option<Next> {
    let admitted = input.admission.admitted()?;
    let variables = layers(input, chosen)?;
    let settings = settings(input, chosen);
    Some(Next {
        id: None,
        cluster: chosen.id,
        content: Some(admitted.content),
        revision: Some(admitted.revision),
        target: target_digest(Some(admitted.content), &settings, &variables),
        withheld: input.withheld.get(&chosen.id).cloned().unwrap_or_default(),
        depends_on: edges(input, chosen.id),
        settings,
        variables,
        state: state(input),
        requested: input.requested.clone(),
        waiting: withheld_reasons(input, chosen.id),
        retargeted: true,
        cause: Cause::Placed,
    })
}

fn keep_or_move(input: &Input, chosen: &Chosen, unit: &Current) -> Next {
    let Some(variables) = layers(input, chosen) else {
        let conflict = chosen.overrides.as_ref().err();
        let waiting = conflict.map(|conflict| overrides_differ(chosen, conflict));
        let mut next = Next {
            waiting: waiting.into_iter().collect(),
            ..unchanged(unit)
        };
        if matches!(next.state, UnitState::Removing(_)) {
            (next.state, next.cause) = (UnitState::Detached, Cause::Unplaced);
        }
        return next;
    };
    // A suspended app follows neither its source nor its spec until it is resumed.
    if input.suspended {
        return Next {
            state: UnitState::Suspended,
            cause: Cause::Suspend,
            ..unchanged(unit)
        };
    }
    let admitted = match &input.admission {
        Admission::Admitted(admitted) => *admitted,
        Admission::Held(reasons) => return hold(input, unit, reasons),
    };
    let settings = settings(input, chosen);
    let content = Some(admitted.content);
    let target = target_digest(content, &settings, &variables);
    let retargeted = target != unit.target;
    // A commit that changes nothing for this unit writes nothing: its revision is derived from what is rendered.
    let revision = if content == unit.content {
        unit.revision
    } else {
        Some(admitted.revision)
    };
    let mut next = Next {
        content,
        revision,
        target,
        withheld: input.withheld.get(&unit.cluster).cloned().unwrap_or_default(),
        depends_on: kept(&unit.depends_on, edges(input, unit.cluster), retargeted),
        settings,
        variables,
        state: UnitState::Active,
        requested: input.requested.clone(),
        waiting: withheld_reasons(input, unit.cluster),
        retargeted,
        ..unchanged(unit)
    };
    next.cause = cause(unit, &next);
    next
}

/// The unit at its last target, enforced, with the reasons why it does not move.
fn hold(input: &Input, unit: &Current, reasons: &[Waiting]) -> Next {
    let mut next = Next {
        state: UnitState::Active,
        requested: input.requested.clone(),
        waiting: reasons.to_vec(),
        ..unchanged(unit)
    };
    next.cause = cause(unit, &next);
    next
}

fn cause(unit: &Current, next: &Next) -> Cause {
    if unit.state == UnitState::Detached {
        Cause::Placed
    } else if unit.content != next.content {
        Cause::Content
    } else if unit.variables != next.variables {
        Cause::Variables
    } else if unit.settings != next.settings {
        Cause::Settings
    } else if unit.state != next.state {
        Cause::Suspend
    } else if unit.withheld != next.withheld {
        Cause::Ownership
    } else if unit.depends_on != next.depends_on {
        Cause::Dependencies
    } else if unit.requested != next.requested {
        Cause::Request
    } else {
        Cause::Waiting
    }
}

/// The unit as it is recorded, but for its reasons to wait.
pub(super) fn unchanged(unit: &Current) -> Next {
    Next {
        id: Some(unit.id),
        cluster: unit.cluster,
        content: unit.content,
        revision: unit.revision,
        target: unit.target,
        settings: unit.settings.clone(),
        variables: unit.variables.clone(),
        withheld: unit.withheld.clone(),
        depends_on: unit.depends_on.clone(),
        state: unit.state.clone(),
        requested: unit.requested.clone(),
        waiting: Vec::new(),
        retargeted: false,
        cause: Cause::Waiting,
    }
}

fn differs(unit: &Current, next: &Next) -> bool {
    next.retargeted
        || unit.state != next.state
        || unit.withheld != next.withheld
        || unit.depends_on != next.depends_on
        || unit.requested != next.requested
        || unit.waiting != next.waiting
}

fn edges(input: &Input, cluster: ClusterId) -> Vec<Dependency> {
    input
        .dependencies
        .edges
        .get(&cluster)
        .cloned()
        .unwrap_or_default()
}

fn state(input: &Input) -> UnitState {
    if input.suspended {
        UnitState::Suspended
    } else {
        UnitState::Active
    }
}

fn withheld_reasons(input: &Input, cluster: ClusterId) -> Vec<Waiting> {
    let withheld = input.withheld.get(&cluster).map_or(&[][..], Vec::as_slice);
    withheld
        .iter()
        .map(|one| Waiting::Claimed {
            object: one.key.clone(),
            owner: one.owner.clone(),
        })
        .collect()
}

/// Placed apps: `substituteFrom` < `substitute` < the cluster's variables < the placement's override.
/// `None` while two placements disagree.
fn layers(input: &Input, chosen: &Chosen) -> Option<Vec<VariableLayer>> {
    let overrides = chosen.overrides.as_ref().ok()?;
    if substitution(input, chosen) == Substitution::Off {
        return Some(Vec::new());
    }
    let literal = |values: &BTreeMap<String, String>| {
        (!values.is_empty()).then(|| VariableLayer::Literal {
            values: values.clone(),
        })
    };
    let mut layers = input.layers.clone();
    layers.extend(literal(&chosen.variables));
    layers.extend(literal(overrides));
    Some(layers)
}

/// Substitution runs only where the app or a placement asks for it; a cluster's variables alone never switch it
/// on.
fn substitution(input: &Input, chosen: &Chosen) -> Substitution {
    let overridden = chosen.overrides.as_ref().is_ok_and(|values| !values.is_empty());
    match input.settings.substitution {
        Substitution::Off if overridden => Substitution::WithVariables,
        mode => mode,
    }
}

fn settings(input: &Input, chosen: &Chosen) -> Settings {
    Settings {
        substitution: substitution(input, chosen),
        ..input.settings.clone()
    }
}

/// Proves a plan before it is committed, apart from the planner: nothing is removed that was not to be, every target is
/// what its parts digest to, and no cluster stands twice. The error names what is wrong.
pub fn check(input: &Input, planned: &Planned) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    let chosen: BTreeSet<ClusterId> = input.chosen.iter().map(|one| one.id).collect();
    let states: BTreeMap<UnitId, &UnitState> =
        input.units.iter().map(|unit| (unit.id, &unit.state)).collect();
    for unit in &planned.units {
        let place = json!(unit.cluster);
        if !seen.insert(unit.cluster) {
            return Err(format!("cluster {place} is planned twice"));
        }
        let before = unit.id.and_then(|id| states.get(&id));
        let is_drained = is_drained(input, unit, before.copied()) || is_retired(input, unit);
        if matches!(unit.state, UnitState::Removing(_)) && before != Some(&&unit.state) && !is_drained {
            return Err(format!("the unit on {place} would be removed without a decision"));
        }
        if unit.target != target_digest(unit.content, &unit.settings, &unit.variables) && unit.retargeted {
            return Err(format!("the target on {place} is not the digest of its parts"));
        }
        let placed = chosen.contains(&unit.cluster) || input.unreadable.contains_key(&unit.cluster);
        if !placed && unit.state != UnitState::Detached && !is_drained {
            return Err(format!("cluster {place} was not chosen"));
        }
        if unit.retargeted && input.admission.admitted().is_none() && !is_drained {
            return Err(format!("the unit on {place} would move although it is held"));
        }
        if unit.id.is_none() && unit.content.is_none() {
            return Err(format!("a unit without content would be made on {place}"));
        }
    }
    Ok(())
}

/// Whether a unit is let go of because its cluster leaves the fleet, and nothing of it deleted.
fn is_retired(input: &Input, unit: &Next) -> bool {
    matches!(unit.state, UnitState::Removing(removal)
        if removal.policy == DeletionPolicy::Orphan && removal.is_approved(unit.target))
        && input.retiring.contains(&unit.cluster)
        && unit.id.is_some()
        && unit.content == Some(removal::nothing().digest())
        && !unit.settings.prune
}

/// Whether a unit is removed because its cluster is drained, and may be: it was there, nobody wants it kept, and what it is
/// given is nothing.
fn is_drained(input: &Input, unit: &Next, before: Option<&UnitState>) -> bool {
    matches!(unit.state, UnitState::Removing(removal) if removal.is_approved(unit.target))
        && input.draining.contains(&unit.cluster)
        && matches!(before, Some(UnitState::Active | UnitState::Removing(_)))
        && unit.content == Some(removal::nothing().digest())
        && removal::deletes(input.deletion_policy, input.suspended, input.settings.prune)
}
