//! What is there before an object is written: whose it is, whether it may be written, which managers are folded.
//! Many objects of one kind in one namespace are looked at by a list of their metadata, few by a read each.

use std::collections::{BTreeMap, HashMap};

use flotilla_core::{
    apply::{
        UNIT_LABEL, managers,
        ownership::{Contact, FluxOwner, FluxState, first_contact, flux_owner},
        policy::{Decision, Policy},
    },
    object::ObjectKey,
    rights,
    unit::{event::Adoption, problem::Problem},
};
use futures::{StreamExt as _, stream};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    circuit_breaker::{CircuitBreaker, Stopped, held_by},
    context::UnitContext,
    evaluate::Object,
};
use crate::cluster::{ClusterError, Resource};

/// Calls begun at once; how many of them are asked of the server is the cluster's to limit.
pub const CONCURRENCY: usize = 32;
/// Lists begun at once: one kind that is slow to list does not hold up the others.
const LISTS: usize = 4;
/// Fewer objects of a kind and namespace are read one by one.
const MANY: usize = 8;
/// A page of a list costs the server about as much as reading this many objects: a full namespace is not listed for
/// the sake of a few.
const READS_PER_PAGE: usize = 25;

/// What to do with an object after a look at what is there.
#[derive(Debug)]
pub enum Preflight {
    /// Write it.
    Write {
        /// It is there without our mark.
        adopted: Option<Adoption>,
        /// Metadata patch that folds the managers of other appliers first; empty for none.
        fold: Vec<Value>,
    },
    /// Its own switches say to leave it.
    Leave,
    /// It is not ours to write, or not now.
    Withhold(Problem),
}

/// What a look at one object gave.
pub type Looked = Result<Preflight, Stopped>;

/// Flux objects asked for while a unit is looked at: a thousand objects of one Kustomization ask for it once.
#[derive(Debug, Default)]
pub struct FluxOwners {
    known: tokio::sync::Mutex<Vec<(FluxOwner, Answer)>>,
}

/// What the API server said about a Flux object.
#[derive(Debug, Clone)]
enum Answer {
    Is(FluxState),
    /// This agent may not read it; the server's words.
    Forbidden(String),
}

impl FluxOwners {
    async fn state(&self, unit: &UnitContext, owner: &FluxOwner) -> Result<Answer, ClusterError> {
        // The lock is held while asking, so that each owner is asked for once.
        let mut known = self.known.lock().await;
        if let Some((_, answer)) = known.iter().find(|(known, _)| known == owner) {
            return Ok(answer.clone());
        }
        let answer = match flux_state(unit, owner).await {
            Ok(state) => Answer::Is(state),
            Err(ClusterError::Rejected {
                code: 403, message, ..
            }) => Answer::Forbidden(message),
            Err(e) => return Err(e),
        };
        known.push((owner.clone(), answer.clone()));
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
pub async fn preflight(
    unit: &UnitContext,
    object: &Object,
    live: Option<&Value>,
    flux: &FluxOwners,
) -> Result<Preflight, ClusterError> {
    let key = &object.desired.key;
    let metadata = live.map(|live| &live["metadata"]);
    let fold = match object.desired.policy.decide(metadata.map(Policy::of)) {
        Decision::Skip(_) => return Ok(Preflight::Leave),
        Decision::Apply { fold } => fold,
    };
    let flux = match metadata.and_then(flux_owner) {
        Some(owner) => match flux.state(unit, &owner).await? {
            Answer::Is(state) => state,
            // It was taken over while its owner could be read, or never was Flux's: our own units' labels are Flux's.
            Answer::Forbidden(_) if metadata.is_some_and(|of| of["labels"][UNIT_LABEL].is_string()) => {
                FluxState::Absent
            }
            Answer::Forbidden(refusal) => {
                return Ok(Preflight::Withhold(unreadable_owner(key, &owner, &refusal)));
            }
        },
        None => FluxState::Absent,
    };
    let id = unit.unit.to_string();
    let adopted = match first_contact(metadata, &id, flux, |mark| unit.is_held_by(mark, key)) {
        Contact::Create | Contact::Owned => None,
        Contact::Adopt { stray: None } => Some(Adoption::Unmarked),
        Contact::Adopt { stray: Some(mark) } => Some(Adoption::Marked(mark)),
        Contact::Conflict { owner } => {
            return Ok(Preflight::Withhold(Problem::Withheld {
                reason: "Conflict",
                message: format!("{key} is owned by unit {owner}"),
            }));
        }
        Contact::StillManagedByFlux(owner) => {
            return Ok(Preflight::Withhold(Problem::Withheld {
                reason: "StillManagedByFlux",
                message: format!(
                    "{key} is still reconciled by {}/{}/{} of this cluster: suspend or remove that first",
                    owner.kind, owner.namespace, owner.name
                ),
            }));
        }
        Contact::BeingDeleted { finalizers } => {
            let why = being_deleted(key, &finalizers, live);
            return Ok(Preflight::Withhold(Problem::Waiting(why.into())));
        }
    };
    let fold = metadata.filter(|_| fold).map(managers::fold).unwrap_or_default();
    Ok(Preflight::Write { adopted, fold })
}

fn being_deleted(key: &ObjectKey, finalizers: &[String], live: Option<&Value>) -> String {
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
    format!("{key} is being deleted{held}")
}

/// How an object's kind is served, or the error that says it is not.
pub fn served(object: &Object) -> Result<&Resource, ClusterError> {
    object.resource.as_ref().ok_or_else(|| ClusterError::NotServed {
        kind: object.desired.key.kind.clone(),
        api_version: object.api_version.clone(),
    })
}

async fn flux_state(unit: &UnitContext, owner: &FluxOwner) -> Result<FluxState, ClusterError> {
    let group = match owner.kind {
        "HelmRelease" => "helm.toolkit.fluxcd.io",
        _ => "kustomize.toolkit.fluxcd.io",
    };
    let discovery = unit.context.discovered().await?;
    let Some(resource) = discovery.preferred(group, owner.kind) else {
        return Ok(FluxState::Absent);
    };
    Ok(
        match unit.cluster.get(resource, &owner.namespace, &owner.name).await? {
            None => FluxState::Absent,
            Some(found) if found["spec"]["suspend"] == true => FluxState::Suspended,
            Some(_) => FluxState::Live,
        },
    )
}

/// Looks at objects that are about to be written, each by its index, and answers by index. A cancelled look leaves
/// out what it has not begun.
pub struct Looks<'a> {
    unit: &'a UnitContext,
    breaker: &'a CircuitBreaker<'a>,
    cancel: &'a CancellationToken,
    objects: &'a [Object],
    flux: FluxOwners,
}

/// What a list told: of these objects all, and of those nothing yet.
#[derive(Default)]
struct ListLook {
    found: Vec<(usize, Looked)>,
    unsettled: Vec<usize>,
}

impl<'a> Looks<'a> {
    /// Looks at `objects`, those aside that are fresh.
    pub async fn at(
        unit: &'a UnitContext,
        breaker: &'a CircuitBreaker<'a>,
        cancel: &'a CancellationToken,
        objects: &'a [Object],
        is_fresh: impl Fn(&ObjectKey) -> bool,
    ) -> BTreeMap<usize, Looked> {
        let looks = Self {
            unit,
            breaker,
            cancel,
            objects,
            flux: FluxOwners::default(),
        };
        let mut found = BTreeMap::new();
        let (mut groups, mut single) = (BTreeMap::<_, Vec<usize>>::new(), Vec::new());
        for (index, object) in objects.iter().enumerate() {
            let key = &object.desired.key;
            match served(object) {
                Err(e) => drop(found.insert(index, Err(e.into()))),
                Ok(_) if is_fresh(key) => {
                    let fold = Vec::new();
                    found.insert(index, Ok(Preflight::Write { adopted: None, fold }));
                }
                Ok(resource) => groups.entry((resource, &key.namespace)).or_default().push(index),
            }
        }
        let mut lists = Vec::new();
        for ((resource, namespace), members) in groups {
            match members.len() < MANY {
                true => single.extend(members),
                false => lists.push(looks.list(resource, namespace, members)),
            }
        }
        let listed: Vec<ListLook> = stream::iter(lists).buffer_unordered(LISTS).collect().await;
        for look in listed {
            found.extend(look.found);
            single.extend(look.unsettled);
        }
        found.extend(looks.read(single).await);
        found
    }

    async fn judge(&self, index: usize, live: Option<&Value>) -> (usize, Looked) {
        let look = preflight(self.unit, &self.objects[index], live, &self.flux).await;
        (index, look.map_err(Stopped::from))
    }

    /// Lists a kind's metadata in a namespace. What this did not settle is to be read: the list is not allowed, or
    /// longer than reading one by one is worth.
    async fn list(&self, resource: &Resource, namespace: &str, members: Vec<usize>) -> ListLook {
        let mut look = ListLook::default();
        if self.cancel.is_cancelled() {
            return look;
        }
        let mut wanted: HashMap<&str, usize> = members
            .iter()
            .map(|index| (self.objects[*index].desired.key.name.as_str(), *index))
            .collect();
        let mut token = String::new();
        for left in (0..=members.len() / READS_PER_PAGE).rev() {
            let listed = tokio::select! {
                () = self.cancel.cancelled() => return look,
                listed = self.unit.cluster.list(resource, namespace, &token) => listed,
            };
            let page = match listed {
                Ok(page) => page,
                // No right to list, or the continuation is too old: each read says for itself what is the matter.
                Err(ClusterError::Rejected { .. }) => break,
                Err(e) => {
                    let failed = wanted.into_values().map(|index| (index, Err(e.clone().into())));
                    look.found.extend(failed);
                    return look;
                }
            };
            for item in &page.items {
                let name = item["metadata"]["name"].as_str().unwrap_or_default();
                if let Some(index) = wanted.remove(name) {
                    look.found.push(self.judge(index, Some(item)).await);
                }
            }
            if page.next.is_empty() {
                for index in wanted.into_values() {
                    look.found.push(self.judge(index, None).await);
                }
                return look;
            }
            if page.items.len() * left < page.remaining {
                break;
            }
            token = page.next;
        }
        look.unsettled.extend(wanted.into_values());
        look
    }

    async fn read(&self, indices: Vec<usize>) -> Vec<(usize, Looked)> {
        let (unit, objects, flux) = (self.unit, self.objects, &self.flux);
        let (breaker, cancel) = (self.breaker, self.cancel);
        let reads = indices.into_iter().map(|index| async move {
            if cancel.is_cancelled() {
                return None;
            }
            let object = &objects[index];
            let looked = async {
                let ObjectKey { namespace, name, .. } = &object.desired.key;
                let live = unit.cluster.get(served(object)?, namespace, name).await?;
                preflight(unit, object, live.as_ref(), flux).await
            };
            tokio::select! {
                () = cancel.cancelled() => None,
                looked = breaker.call(&object.desired.key, looked) => Some((index, looked)),
            }
        });
        let looks: Vec<_> = stream::iter(reads.collect::<Vec<_>>())
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        looks.into_iter().flatten().collect()
    }
}

/// Folds the managers of other appliers and applies.
pub async fn write(
    unit: &UnitContext,
    object: &Object,
    value: &Value,
    fold: Vec<Value>,
) -> Result<Value, ClusterError> {
    let resource = served(object)?;
    if !fold.is_empty() {
        let key = &object.desired.key;
        let patched = unit
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
    unit.cluster.apply(resource, value, false).await
}
