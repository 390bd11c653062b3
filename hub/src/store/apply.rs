//! Storing configured objects: all documents of a request in one transaction, or none.

mod of;
mod rows;

use std::{collections::BTreeSet, time::Duration};

use flotilla_core::units::cycle;
use serde_json::{Map, Value};
use uuid::Uuid;

use self::rows::{Row, Stored};
use super::{
    Connection, Result, Store, StoreError, Topic,
    authority::audit,
    cluster, dependency,
    due::{wake_apps, wake_clusters},
    event, nudge,
    plan::OUTDATED,
    reference::{Reference, apps_of, put_references, references},
    removal,
};
use crate::auth::seal::Seal;

/// An object to store.
#[derive(Debug, Clone)]
pub struct NewResource {
    /// Cluster in whose scope it is, or [`FLEET`](super::resource::FLEET).
    pub scope: Uuid,
    /// API group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Namespace, '' when the kind has none.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Current API version.
    pub api_version: String,
    /// metadata.labels.
    pub labels: Value,
    /// metadata.annotations.
    pub annotations: Value,
    /// The owner's spec; of a ConfigMap its data.
    pub spec: Value,
    /// Values of a Secret or ConfigMap.
    pub payload: Option<Payload>,
    /// What this release keeps but does not reconcile.
    pub not_supported: Vec<String>,
}

/// Values of a ConfigMap or Secret: a canonical JSON map, and its digest.
#[derive(Clone)]
pub struct Payload {
    /// Digest of the bytes, keyed for a Secret.
    pub digest: [u8; 32],
    /// Canonical JSON map of string to string.
    pub bytes: zeroize::Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Payload(***)")
    }
}

/// What an apply did to one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It was not there.
    Created,
    /// Something of it changed.
    Configured,
    /// Nothing changed.
    Unchanged,
}

impl Action {
    /// As kubectl says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        }
    }
}

/// Waits before an apply that has lost to another writer is done again.
const AGAIN: [Duration; 4] = [
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(150),
    Duration::from_millis(400),
];

impl Store {
    /// Stores `resources` in one transaction; with `dry_run` tells what it would do and stores nothing. Where it has lost to
    /// another writer, as to the plan of an app that is being deleted and is wanted again, it is done after that one.
    pub async fn apply(
        &self,
        resources: &[NewResource],
        seal: &Seal,
        principal: &str,
        dry_run: bool,
    ) -> Result<Vec<Action>> {
        let mut again = AGAIN.iter();
        loop {
            match self.apply_once(resources, seal, principal, dry_run).await {
                Err(error) if error.gave_way() => match again.next() {
                    Some(wait) => tokio::time::sleep(*wait).await,
                    None => return Err(error),
                },
                ended => return ended,
            }
        }
    }

    async fn apply_once(
        &self,
        resources: &[NewResource],
        seal: &Seal,
        principal: &str,
        dry_run: bool,
    ) -> Result<Vec<Action>> {
        let mut tx = self.pool().begin().await?;
        let actions = put_all(&mut tx, resources, seal, &By::person(principal)).await?;
        refuse_cycles(&mut tx, resources).await?;
        if dry_run {
            tx.rollback().await?;
        } else {
            tx.commit().await?;
        }
        Ok(actions)
    }
}

/// Who stores objects.
pub(super) struct By<'a> {
    /// As they are named in events and in the audit.
    pub(super) name: &'a str,
    /// Where the objects come from.
    pub(super) origin: String,
    /// The app that keeps them; `None`: a person, who changes nothing that an app keeps.
    pub(super) keeper: Option<Uuid>,
}

impl<'a> By<'a> {
    /// A person.
    pub(super) fn person(principal: &'a str) -> Self {
        Self {
            name: principal,
            origin: format!("apply/{principal}"),
            keeper: None,
        }
    }
}

/// Stores objects in the caller's transaction, each once, wakes who uses them, and tells what was done.
pub(super) async fn put_all(
    tx: &mut Connection,
    resources: &[NewResource],
    seal: &Seal,
    by: &By<'_>,
) -> Result<Vec<Action>> {
    // One order for all writers: two requests that name the same objects wait for each other and never deadlock.
    let mut order: Vec<usize> = (0..resources.len()).collect();
    order.sort_by_key(|index| resources[*index].identity());
    let ordered: Vec<&NewResource> = order.iter().map(|index| &resources[*index]).collect();
    let clusters = ordered.iter().filter(|new| new.kind == "Cluster");
    let clusters: BTreeSet<&str> = clusters.map(|new| new.name.as_str()).collect();
    cluster::ensure_all(&mut *tx, &clusters.into_iter().collect::<Vec<_>>()).await?;
    let rows = rows::taken(&mut *tx, &ordered, seal, &by.origin).await?;
    let mut actions = vec![Action::Unchanged; resources.len()];
    let mut changed: Vec<(Uuid, &NewResource)> = Vec::new();
    for ((index, new), row) in order.into_iter().zip(ordered).zip(rows) {
        let (action, uid) = match row {
            Row::Added(uid) => (Action::Created, uid),
            Row::Locked(old) => (replace(&mut *tx, &old, new, seal, by).await?, old.uid),
        };
        if action != Action::Unchanged {
            changed.push((uid, new));
        }
        actions[index] = action;
    }
    if !changed.is_empty() {
        wake_users(&mut *tx, &changed).await?;
        let uids: Vec<Uuid> = changed.iter().map(|(uid, _)| *uid).collect();
        event::tell(&mut *tx, &uids, "Applied", &format!("applied by {}", by.name)).await?;
        audit(tx, by.name, "apply", &summary(resources, &actions)).await?;
    }
    Ok(actions)
}

/// Refuses apps that come to need themselves. What is said of it names the way.
async fn refuse_cycles(tx: &mut Connection, resources: &[NewResource]) -> Result<()> {
    let needing = |new: &&NewResource| {
        new.spec["dependsOn"]
            .as_array()
            .is_some_and(|needs| !needs.is_empty())
    };
    let needing: Vec<&NewResource> = resources.iter().filter(needing).collect();
    if needing.is_empty() {
        return Ok(());
    }
    let column = |of: fn(&NewResource) -> &str| needing.iter().map(|new| of(new)).collect::<Vec<_>>();
    let scopes: Vec<Uuid> = needing.iter().map(|new| new.scope).collect();
    let apps = sqlx::query_scalar!(
        "SELECT r.uid FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[]) AS v(kind, scope, namespace, name)
         JOIN resource r ON (r.kind, r.scope, r.namespace, r.name) = (v.kind, v.scope, v.namespace, v.name)
         WHERE is_app(r.kind) ORDER BY r.namespace, r.name",
        &column(|new| &new.kind) as &[&str],
        &scopes,
        &column(|new| &new.namespace) as &[&str],
        &column(|new| &new.name) as &[&str]
    )
    .fetch_all(&mut *tx)
    .await?;
    match dependency::cycles(tx, &apps).await?.first() {
        None => Ok(()),
        Some(members) => Err(StoreError::Refused(format!(
            "Kustomization {}: spec.dependsOn: {}",
            members.first().map_or("", String::as_str),
            cycle::words(members)
        ))),
    }
}

impl NewResource {
    fn identity(&self) -> (Uuid, &str, &str, &str, &str) {
        (self.scope, &self.group, &self.kind, &self.namespace, &self.name)
    }
}

/// Records what the changed objects name, and wakes who uses them: by what a placement named before as well.
async fn wake_users(tx: &mut Connection, changed: &[(Uuid, &NewResource)]) -> Result<()> {
    let uids: Vec<Uuid> = changed.iter().map(|(uid, _)| *uid).collect();
    let named: Vec<(Uuid, Reference)> = changed
        .iter()
        .flat_map(|(uid, new)| {
            let found = references(&new.kind, new.scope, &new.namespace, &new.spec);
            found.into_iter().map(|one| (*uid, one))
        })
        .collect();
    let mut apps = apps_of(tx, &uids).await?;
    put_references(tx, &uids, &named).await?;
    apps.extend(apps_of(tx, &uids).await?);
    wake_apps(tx, &apps).await?;
    let clusters: Vec<&str> = changed
        .iter()
        .filter(|(_, new)| new.kind == "Cluster")
        .map(|(_, new)| new.name.as_str())
        .collect();
    if !clusters.is_empty() {
        let clusters = sqlx::query_scalar!(
            "SELECT id FROM cluster WHERE name = ANY($1)",
            &clusters as &[&str]
        )
        .fetch_all(&mut *tx)
        .await?;
        wake_clusters(tx, &clusters).await?;
    }
    let mut uids = uids;
    // Sources are asked again at once with what they may read now.
    if changed.iter().any(|(_, new)| new.kind == "Secret") {
        let sources = sqlx::query_scalar!(
            "UPDATE source_state SET next_probe = now() WHERE uid IN (
               SELECT f.referrer FROM resource c
                 JOIN reference f ON (f.kind, f.scope, f.namespace, f.name) = (c.kind, c.scope, c.namespace, c.name)
               WHERE c.uid = ANY($1) AND c.kind = 'Secret') RETURNING uid",
            &uids
        )
        .fetch_all(&mut *tx)
        .await?;
        uids.extend(sources);
    }
    nudge(tx, Topic::Resource, &uids).await
}

/// What an apply has changed: the first of it by name, and how much there is.
fn summary(resources: &[NewResource], actions: &[Action]) -> String {
    const NAMED: usize = 20;
    let changed = || {
        resources
            .iter()
            .zip(actions)
            .filter(|(_, action)| **action != Action::Unchanged)
    };
    let names: Vec<String> = changed()
        .take(NAMED)
        .map(|(one, action)| format!("{}/{}/{} {}", one.kind, one.namespace, one.name, action.as_str()))
        .collect();
    match changed().count().saturating_sub(NAMED) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// Replaces what is stored of an object by what is applied, where that differs.
async fn replace(
    tx: &mut Connection,
    old: &Stored,
    new: &NewResource,
    seal: &Seal,
    by: &By<'_>,
) -> Result<Action> {
    let digest = new.payload.as_ref().map(|payload| payload.digest.to_vec());
    let spec_changed = old.spec != new.spec || old.payload_digest != digest;
    let meta_changed = old.labels != new.labels || old.annotations != new.annotations;
    let other_changed = old.api_version != new.api_version || old.not_supported != new.not_supported;
    // Another app has taken it over since it was looked at.
    if let (Some(owner), Some(keeper)) = (&old.owner, by.keeper)
        && owner.uid != keeper
    {
        return Err(StoreError::Conflict(OUTDATED));
    }
    // Whoever applies it wants it: what was not deleted of it yet stays.
    if !spec_changed && !meta_changed && !other_changed && !old.deleting {
        return Ok(Action::Unchanged);
    }
    if let (Some(owner), None) = (&old.owner, by.keeper) {
        return Err(StoreError::Kept {
            object: object_name(new),
            owner: owner.name.clone(),
        });
    }
    // What a person set by a command stays until an apply changes that very field.
    let suspended = if old.spec.get("suspend") == new.spec.get("suspend") {
        old.suspended
    } else {
        None
    };
    let replaced = differing(&old.annotations, &new.annotations);
    let sealed = sealed_payload(new, old.uid, seal)?;
    sqlx::query!(
        "UPDATE resource SET api_version = $2, labels = $3, annotations = $4, spec = $5, sealed_payload = $6,
                payload_digest = $7, not_supported = $8, suspended = $9, origin = $10,
                generation = generation + $11, updated_at = now(), overlay = overlay - $12::text[],
                deleting_at = NULL, deletion_policy = NULL, deletion_by = NULL
         WHERE uid = $1",
        old.uid,
        new.api_version,
        new.labels,
        new.annotations,
        new.spec,
        sealed,
        digest,
        &new.not_supported,
        suspended,
        &by.origin,
        i64::from(spec_changed),
        &replaced
    )
    .execute(&mut *tx)
    .await?;
    if old.deleting {
        removal::keep(tx, &[old.uid], None).await?;
    }
    Ok(Action::Configured)
}

/// `Kind/namespace/name`.
fn object_name(new: &NewResource) -> String {
    match new.namespace.as_str() {
        "" => format!("{}/{}", new.kind, new.name),
        namespace => format!("{}/{namespace}/{}", new.kind, new.name),
    }
}

/// Names whose values are not the same in both objects.
fn differing(old: &Value, new: &Value) -> Vec<String> {
    let names = [old, new]
        .into_iter()
        .filter_map(Value::as_object)
        .flat_map(Map::keys);
    let differing: BTreeSet<&String> = names.filter(|name| old.get(name) != new.get(name)).collect();
    differing.into_iter().cloned().collect()
}

fn sealed_payload(new: &NewResource, uid: Uuid, seal: &Seal) -> Result<Option<Vec<u8>>> {
    let Some(payload) = &new.payload else {
        return Ok(None);
    };
    let aad = payload_aad(uid);
    seal.seal(&aad, &payload.bytes)
        .map(Some)
        .map_err(|e| StoreError::corrupt(aad, e))
}

/// Ties a sealed payload to its row.
pub(crate) fn payload_aad(uid: Uuid) -> String {
    format!("resource/sealed_payload/{uid}")
}
