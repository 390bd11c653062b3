//! The single object: what is there before it is written, and the write. Two managers never fight, and nothing
//! of another unit's is touched.

use flotilla_core::{
    apply::{
        UNIT_LABEL,
        inventory::{Record as ObjectRecord, State},
        managers,
        ownership::{Contact, FluxOwner, FluxState, first_contact, flux_owner},
        policy::{Decision, Policy},
    },
    id::UnitId,
    object::ObjectKey,
    rights,
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
pub fn is_fresh(context: &Context, unit: UnitId, key: &ObjectKey, known: Option<&ObjectRecord>) -> bool {
    let Some(record) = known.filter(|record| record.state == State::Applied) else {
        return false;
    };
    let seen = context.live.get(unit, key).and_then(|seen| seen.observation);
    seen.is_some_and(|seen| {
        seen.uid == record.uid && seen.folded.is_empty() && seen.projection == record.projection
    })
}

/// Flux objects asked for while a unit is looked at: a thousand objects of one Kustomization ask for it once.
#[derive(Debug, Default)]
pub struct FluxOwners {
    seen: tokio::sync::Mutex<Vec<(FluxOwner, Answer)>>,
}

/// What the API server said about a Flux object.
#[derive(Debug, Clone)]
enum Answer {
    Is(FluxState),
    /// This agent may not read it; the server's words.
    Forbidden(String),
}

impl FluxOwners {
    async fn state(&self, context: &Context, owner: &FluxOwner) -> Result<Answer, ClusterError> {
        // Held while asking, so that nobody else asks for the same.
        let mut seen = self.seen.lock().await;
        if let Some((_, answer)) = seen.iter().find(|(known, _)| known == owner) {
            return Ok(answer.clone());
        }
        let answer = match flux_state(context, owner).await {
            Ok(state) => Answer::Is(state),
            Err(ClusterError::Rejected {
                code: 403, message, ..
            }) => Answer::Forbidden(message),
            Err(e) => return Err(e),
        };
        seen.push((owner.clone(), answer.clone()));
        Ok(answer)
    }
}

/// The problem of an object that may be Flux's, when this agent may not find out.
fn unreadable_owner(key: &ObjectKey, owner: &FluxOwner, refusal: &str) -> Problem {
    let FluxOwner {
        kind,
        namespace,
        name,
    } = owner;
    let advice = rights::advice(refusal).map_or_else(String::new, |advice| format!("; {advice}"));
    Problem::Failed(format!(
        "{key} has the labels of Flux's {kind} {namespace}/{name}, and this agent may not read whether that still \
         reconciles it: {refusal}{advice}"
    ))
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
        None => FluxState::Absent,
        Some(owner) => match flux.state(context, &owner).await? {
            Answer::Is(state) => state,
            // It was taken over while its owner could be read, or never was Flux's: our own units' labels are Flux's.
            Answer::Forbidden(_) if metadata.is_some_and(|of| of["labels"][UNIT_LABEL].is_string()) => {
                FluxState::Absent
            }
            Answer::Forbidden(refusal) => {
                return Ok(Touched::Withhold(unreadable_owner(key, &owner, &refusal)));
            }
        },
    };
    let adopted = match first_contact(metadata, &unit.to_string(), flux) {
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

/// Folds the managers of other appliers and applies.
pub async fn write(context: &Context, object: &Object, fold: Vec<Value>) -> Result<Value, ClusterError> {
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
    context.cluster.apply(resource, &object.value, false).await
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
