//! The single object: what is there before it is written, and the write. Two managers never fight, and nothing
//! of another unit's is touched.

use flotilla_core::{
    apply::{
        drift::is_untouched,
        inventory::Record as ObjectRecord,
        managers,
        ownership::{Contact, FluxOwner, FluxState, first_contact, flux_owner},
        plan::Desired,
        policy::{Decision, Policy},
    },
    id::UnitId,
    object::ObjectKey,
};
use serde_json::Value;

use super::{context::Context, evaluate::Object, obstacle::held_by, pass::Problem};
use crate::cluster::{ClusterError, Resource};

/// What to do with an object after a look at what is there.
#[derive(Debug)]
pub enum Touched {
    /// Write it.
    Write {
        /// It is there without our mark.
        adopted: bool,
        /// Metadata patch that folds the managers of other appliers first; empty for none.
        fold: Vec<Value>,
    },
    /// Its own switches say to leave it.
    Leave,
    /// It is not ours to write, or not now.
    Withhold(Problem),
}

/// Tells whether a watch has shown an object as we left it: then it needs no look.
pub fn is_fresh(context: &Context, unit: UnitId, object: &Object, known: Option<&ObjectRecord>) -> bool {
    let Desired { key, policy, .. } = &object.desired;
    let seen = context.live.get(unit, key).and_then(|seen| seen.observation);
    let seen = known.zip(seen.as_ref());
    seen.is_some_and(|(record, seen)| is_untouched(record, seen, *policy, &unit.to_string()))
}

/// Flux objects asked for while a unit is looked at: a thousand objects of one Kustomization ask for it once.
#[derive(Debug, Default)]
pub struct FluxOwners {
    seen: tokio::sync::Mutex<Vec<(FluxOwner, FluxState)>>,
}

impl FluxOwners {
    async fn state(&self, context: &Context, owner: FluxOwner) -> Result<FluxState, ClusterError> {
        // Held while asking, so that nobody else asks for the same.
        let mut seen = self.seen.lock().await;
        if let Some((_, state)) = seen.iter().find(|(known, _)| *known == owner) {
            return Ok(*state);
        }
        let state = flux_state(context, &owner).await?;
        seen.push((owner, state));
        Ok(state)
    }
}

/// Judges what is there. Of `live` only the metadata counts.
pub async fn judge(
    context: &Context,
    unit: UnitId,
    object: &Object,
    live: Option<&Value>,
    flux: &FluxOwners,
) -> Result<Touched, ClusterError> {
    let key = &object.desired.key;
    let metadata = live.map(|live| &live["metadata"]);
    let fold = match object.desired.policy.decide(metadata.map(Policy::of)) {
        Decision::Skip(_) => return Ok(Touched::Leave),
        Decision::Apply { fold } => fold,
    };
    let flux = match metadata.and_then(flux_owner) {
        Some(owner) => flux.state(context, owner).await?,
        None => FluxState::Absent,
    };
    let adopted = match first_contact(metadata, &unit.to_string(), flux, |owner| {
        is_held(context, owner, key)
    }) {
        Contact::Create | Contact::Owned => false,
        Contact::Adopt => true,
        Contact::Conflict { owner } => {
            return Ok(Touched::Withhold(Problem::Withheld {
                reason: "Conflict",
                message: format!("{key} is owned by unit {owner}"),
            }));
        }
        Contact::StillManagedByFlux(owner) => {
            return Ok(Touched::Withhold(Problem::Withheld {
                reason: "StillManagedByFlux",
                message: format!(
                    "{key} is still reconciled by {}/{}/{} of this cluster: suspend or remove that first",
                    owner.kind, owner.namespace, owner.name
                ),
            }));
        }
        Contact::BeingDeleted { finalizers } => {
            let mut held = match finalizers.is_empty() {
                true => String::new(),
                false => format!(", held by finalizers {}", finalizers.join(", ")),
            };
            if let Some(why) = live
                .map(held_by)
                .filter(|why| key.kind == "Namespace" && !why.is_empty())
            {
                held = format!("{held}: {why}");
            }
            return Ok(Touched::Withhold(Problem::Waiting(format!(
                "{key} is being deleted{held}"
            ))));
        }
    };
    let fold = metadata.filter(|_| fold).map(managers::fold).unwrap_or_default();
    Ok(Touched::Write { adopted, fold })
}

/// Tells whether the ledger holds the object for the unit that a mark names.
fn is_held(context: &Context, mark: &str, key: &ObjectKey) -> bool {
    let Ok(unit) = mark.parse().map(UnitId) else {
        return false;
    };
    context.ledger.read(|state| {
        let unit = state.units.get(&unit);
        unit.is_some_and(|unit| unit.items.contains_key(key))
    })
}

/// Folds the managers of other appliers and applies.
pub async fn write(
    context: &Context,
    object: &Object,
    value: &Value,
    fold: Vec<Value>,
) -> Result<Value, ClusterError> {
    let resource = served(object)?;
    if !fold.is_empty() {
        let key = &object.desired.key;
        let patched = context
            .cluster
            .patch_metadata(resource, &key.namespace, &key.name, &Value::Array(fold))
            .await;
        match patched {
            Ok(_) => {}
            // Deleted since the look: there is nothing to fold.
            Err(ClusterError::Rejected { code: 404, .. }) => {}
            Err(e) => return Err(e),
        }
    }
    context.cluster.apply(resource, value, false).await
}

/// How an object's kind is served, or the error that says it is not.
pub fn served(object: &Object) -> Result<&Resource, ClusterError> {
    object.resource.as_ref().ok_or_else(|| ClusterError::NotServed {
        kind: object.desired.key.kind.clone(),
        api_version: object.api_version.clone(),
    })
}

async fn flux_state(context: &Context, owner: &FluxOwner) -> Result<FluxState, ClusterError> {
    let group = match owner.kind {
        "HelmRelease" => "helm.toolkit.fluxcd.io",
        _ => "kustomize.toolkit.fluxcd.io",
    };
    let discovery = context.discovery();
    let Some(resource) = discovery.preferred(group, owner.kind) else {
        return Ok(FluxState::Absent);
    };
    Ok(
        match context
            .cluster
            .get(resource, &owner.namespace, &owner.name)
            .await?
        {
            None => FluxState::Absent,
            Some(found) if found["spec"]["suspend"] == true => FluxState::Suspended,
            Some(_) => FluxState::Live,
        },
    )
}
