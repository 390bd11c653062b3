//! What is there before an object is written: whose it is, whether it may be written, which managers are folded.
//! Many objects of one kind are looked at by a list of their metadata, few by a read each, until as many reads have found
//! nothing. What a list shows to be absent is not looked at by other batches and units: it is created, and looked at
//! only where the server says that it is there by now.

use std::collections::{BTreeMap, HashMap, HashSet};

use flotilla_core::{
    apply::{
        UNIT_LABEL,
        ignore::{Left, left},
        managers,
        ownership::{Contact, FluxOwner, FluxState, first_contact, flux_owner},
        policy::{Decision, Policy},
    },
    id::Uid,
    object::ObjectKey,
    unit::{event::Adoption, problem::Problem},
};
use futures::{StreamExt as _, stream};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    acting::Acting,
    circuit_breaker::{CircuitBreaker, Stopped, held_by},
    context::UnitContext,
    evaluate::Object,
    presence::Shown,
    records::stored_record,
};
use crate::cluster::{ClusterError, Resource};

/// Calls begun at once; how many of them are asked of the server is the cluster's to limit.
pub const CONCURRENCY: usize = 32;
/// Lists begun at once: one kind that is slow to list does not hold up the others.
const LISTS: usize = 4;
/// Fewer objects of a kind and namespace are read one by one, and counted with the reads of other units.
const MANY: usize = 8;
/// A page of a list costs the server about as much as reading this many objects: a full namespace is not listed for
/// the sake of a few.
const READS_PER_PAGE: usize = 25;
/// A version that no object ever has: a write that names it creates its object, and is a conflict (409) where that exists.
const NEVER: &str = "9223372036854775807";

/// What to do with an object after a look at what is there.
#[derive(Debug)]
pub enum Preflight {
    /// Write it.
    Write {
        /// A list has not shown it, so it is only created: what somebody has made since is looked at before it is written.
        create: bool,
        /// It is there without our mark.
        adopted: Option<Adoption>,
        /// Metadata patch that folds the managers of other appliers first; empty for none.
        fold: Vec<Value>,
        /// What it has of the fields that are left to others.
        left: Vec<Left>,
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
fn unreadable_owner(key: &ObjectKey, owner: &FluxOwner, refusal: &str, acting: &Acting) -> Problem {
    let FluxOwner {
        kind,
        namespace,
        name,
    } = owner;
    let advice = acting
        .advice(refusal)
        .map_or_else(String::new, |advice| format!("; {advice}"));
    Problem::Failed(format!(
        "{key} has the labels of Flux's {kind} {namespace}/{name}, and {} may not read whether that still reconciles it: \
         {refusal}{advice}",
        acting.reader()
    ))
}

/// Judges what is there. Of `live` only the metadata counts, but where fields are left to others.
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
            // Whoever takes our label off an object does not end that: the ledger knows it by its UID.
            Answer::Forbidden(_)
                if metadata.is_some_and(|of| {
                    of["labels"][UNIT_LABEL].is_string() || is_known_by_uid(unit, key, &of["uid"])
                }) =>
            {
                FluxState::Absent
            }
            Answer::Forbidden(refusal) => {
                return Ok(Preflight::Withhold(unreadable_owner(
                    key,
                    &owner,
                    &refusal,
                    &unit.acting,
                )));
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
    Ok(Preflight::Write {
        create: false,
        adopted,
        fold,
        left: live.map(|live| left(&object.left, live)).unwrap_or_default(),
    })
}

/// Tells whether this unit has written just this object.
fn is_known_by_uid(unit: &UnitContext, key: &ObjectKey, uid: &Value) -> bool {
    let record = stored_record(unit, key).filter(|record| record.sent.is_some());
    let live = uid.as_str().map(Uid::from);
    record.is_some_and(|record| live.is_some() && record.uid == live)
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

/// How wide a list is.
#[derive(Clone, Copy)]
enum Scope {
    Cluster,
    Namespace,
}

/// What a list told: of these objects all, and of those nothing yet.
#[derive(Default)]
struct ListLook {
    found: Vec<(usize, Looked)>,
    unsettled: Vec<usize>,
}

impl<'a> Looks<'a> {
    /// Looks at those of `objects` that `indices` name, fresh ones aside.
    pub async fn at(
        unit: &'a UnitContext,
        breaker: &'a CircuitBreaker<'a>,
        cancel: &'a CancellationToken,
        objects: &'a [Object],
        indices: &[usize],
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
        let (mut unknown, mut whole) = (Vec::new(), Vec::new());
        for &index in indices {
            let object = &objects[index];
            let key = &object.desired.key;
            match served(object) {
                Err(e) => drop(found.insert(index, Err(e.into()))),
                Ok(_) if is_fresh(key) && object.left.is_empty() => {
                    let fresh = Preflight::Write {
                        create: false,
                        adopted: None,
                        fold: Vec::new(),
                        left: Vec::new(),
                    };
                    found.insert(index, Ok(fresh));
                }
                Ok(resource) => match looks.shown(resource, key) {
                    Some(false) => found.extend([looks.absent(index).await]),
                    None if looks.is_likely_absent(resource) => found.extend([looks.absent(index).await]),
                    Some(true) | None if object.left.is_empty() => unknown.push(index),
                    // What others have of it no list of metadata shows.
                    Some(true) | None => whole.push(index),
                },
            }
        }
        for scope in [Scope::Cluster, Scope::Namespace] {
            let mut rest = Vec::new();
            let mut lists = Vec::new();
            for ((resource, namespace), members) in looks.groups(scope, &unknown) {
                match looks.is_worth_a_list(scope, resource, namespace, &members) {
                    true => lists.push(looks.list(resource, namespace, members)),
                    false => rest.extend(members),
                }
            }
            let listed: Vec<ListLook> = stream::iter(lists).buffer_unordered(LISTS).collect().await;
            for look in listed {
                found.extend(look.found);
                rest.extend(look.unsettled);
            }
            unknown = rest;
        }
        unknown.extend(whole);
        found.extend(looks.read(unknown).await);
        found
    }

    fn shown(&self, resource: &Resource, key: &ObjectKey) -> Option<bool> {
        let presence = &self.unit.presence;
        presence.of(resource, &key.namespace, &key.name)
    }

    /// Tells whether an object of which nothing is known is created without a look: an agent of some namespaces has no list
    /// that shows all of a kind, and would ask for each object.
    fn is_likely_absent(&self, resource: &Resource) -> bool {
        let context = &self.unit.context;
        !context.namespaces.is_empty() && self.unit.presence.is_likely_absent(resource, MANY)
    }

    /// Objects that one list may show.
    fn groups(&self, scope: Scope, indices: &[usize]) -> BTreeMap<(&'a Resource, &'a str), Vec<usize>> {
        let mut groups = BTreeMap::<_, Vec<usize>>::new();
        for index in indices {
            let object = &self.objects[*index];
            let Ok(resource) = served(object) else { continue };
            let namespace = match scope {
                Scope::Cluster => "",
                Scope::Namespace => object.desired.key.namespace.as_str(),
            };
            groups.entry((resource, namespace)).or_default().push(*index);
        }
        groups
    }

    fn is_worth_a_list(&self, scope: Scope, resource: &Resource, namespace: &str, members: &[usize]) -> bool {
        let context = &self.unit.context;
        let of = |index: &usize| &self.objects[*index].desired.key.namespace;
        let presence = &self.unit.presence;
        let missed = presence.misses(resource, namespace);
        let first = members.first().map(of).map_or("", String::as_str);
        // Of this unit, or of others before it.
        let several = members.windows(2).any(|pair| of(&pair[0]) != of(&pair[1]))
            || missed > presence.misses(resource, first);
        let is_wide_enough = match scope {
            Scope::Cluster => several && context.namespaces.is_empty(),
            Scope::Namespace => true,
        };
        is_wide_enough
            && members.len() + missed >= MANY
            && presence.may_list(resource, namespace, self.expected(resource, namespace, members))
    }

    /// How many reads a list is to save: those of this batch, as many as were made in vain since the last one, and of a
    /// first list also those of later batches, which were never written either.
    fn expected(&self, resource: &Resource, namespace: &str, members: &[usize]) -> usize {
        let missed = self.unit.presence.misses(resource, namespace);
        let is_known = |index: &usize| self.shown(resource, &self.objects[*index].desired.key).is_some();
        if members.iter().any(is_known) {
            return members.len() + missed;
        }
        let (group, kind) = (&*resource.group, &*resource.kind);
        let unwritten = self.unit.context.ledger.read(|state| {
            let table = state.table(&self.unit.entry.content?)?;
            let is_listed = |of: &str| namespace.is_empty() || of == namespace;
            let rows = table.of_kind(group, kind).iter();
            let wanted = rows.filter(|row| is_listed(table.namespace(**row))).count();
            let items = &state.units.get(&self.unit.unit)?.items;
            let written = items
                .range::<ObjectKey, _>(&ObjectKey::new(group, kind, namespace, "")..)
                .take_while(|(key, _)| {
                    (&*key.group, &*key.kind) == (group, kind) && is_listed(&key.namespace)
                })
                .filter(|(_, record)| record.sent.is_some())
                .count();
            Some(wanted.saturating_sub(written))
        });
        unwritten.unwrap_or_default().max(members.len() + missed)
    }

    async fn judge(&self, index: usize, live: Option<&Value>) -> (usize, Looked) {
        let look = preflight(self.unit, &self.objects[index], live, &self.flux).await;
        (index, look.map_err(Stopped::from))
    }

    /// Judges what a list has not shown.
    async fn absent(&self, index: usize) -> (usize, Looked) {
        let (index, mut looked) = self.judge(index, None).await;
        if let Ok(Preflight::Write { create, .. }) = &mut looked {
            *create = true;
        }
        (index, looked)
    }

    /// Lists a kind's metadata in a namespace, or in all. What this did not settle is to be looked at otherwise: the
    /// list is not allowed, or longer than reading one by one is worth.
    async fn list(&self, resource: &Resource, namespace: &str, members: Vec<usize>) -> ListLook {
        let mut look = ListLook::default();
        if self.cancel.is_cancelled() {
            return look;
        }
        let presence = &self.unit.presence;
        let pages = self.expected(resource, namespace, &members) / READS_PER_PAGE;
        let begun = Instant::now();
        presence.begin(resource, namespace);
        let mut wanted: HashMap<&str, HashMap<&str, usize>> = HashMap::new();
        for index in members {
            let ObjectKey { namespace, name, .. } = &self.objects[index].desired.key;
            wanted.entry(namespace).or_default().insert(name, index);
        }
        let mut there = HashSet::new();
        let mut token = String::new();
        let mut costs = usize::MAX;
        for left in (0..=pages).rev() {
            let listed = tokio::select! {
                () = self.cancel.cancelled() => return look,
                listed = self.unit.cluster.list(resource, namespace, &token) => listed,
            };
            let page = match listed {
                Ok(page) => page,
                // No right to list, or the continuation is too old: each read says for itself what is the matter.
                Err(ClusterError::Rejected { .. }) => break,
                Err(e) => {
                    let failed = wanted.into_values().flat_map(HashMap::into_values);
                    look.found
                        .extend(failed.map(|index| (index, Err(e.clone().into()))));
                    return look;
                }
            };
            for item in &page.items {
                let text = |field: &str| item["metadata"][field].as_str().unwrap_or_default();
                let (namespace, name) = (text("namespace"), text("name"));
                there.insert(presence.name(namespace, name));
                if let Some(index) = wanted.get_mut(namespace).and_then(|names| names.remove(name)) {
                    look.found.push(self.judge(index, Some(item)).await);
                }
            }
            if page.next.is_empty() {
                presence.note(resource, namespace, begun, Shown::There(there));
                for index in wanted.into_values().flat_map(HashMap::into_values) {
                    look.found.push(self.absent(index).await);
                }
                return look;
            }
            if page.items.len() * left < page.remaining {
                let rest = page.remaining.div_ceil(page.items.len().max(1));
                costs = (pages + 1 - left + rest) * READS_PER_PAGE;
                break;
            }
            token = page.next;
        }
        presence.note(resource, namespace, begun, Shown::Costs(costs));
        look.unsettled
            .extend(wanted.into_values().flat_map(HashMap::into_values));
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
                let resource = served(object)?;
                let live = unit.cluster.get(resource, namespace, name).await?;
                match live {
                    Some(_) => unit.presence.found(resource),
                    None => unit.presence.missed(resource, namespace),
                }
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

/// Creates an object that is not there, as far as is known. See [`is_overtaken`].
pub async fn create(unit: &UnitContext, object: &Object, mut value: Value) -> Result<Value, ClusterError> {
    value["metadata"]["resourceVersion"] = NEVER.into();
    let created = unit.cluster.apply(served(object)?, &value, false).await;
    // Where it failed, it may be there all the same.
    let ObjectKey { namespace, name, .. } = &object.desired.key;
    unit.presence.appeared(served(object)?, namespace, name);
    if created.as_ref().is_err_and(is_overtaken) {
        unit.presence.found(served(object)?);
    }
    created
}

/// Tells whether [`create`] was refused for the version that it names: somebody has made the object, or the server takes
/// no version of what is new. It is to be looked at, and written without one.
pub fn is_overtaken(error: &ClusterError) -> bool {
    let ClusterError::Rejected { code, message, .. } = error else {
        return false;
    };
    let words = message.to_ascii_lowercase().replace(' ', "");
    matches!(code, 409 | 412) || words.contains("resourceversion")
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
