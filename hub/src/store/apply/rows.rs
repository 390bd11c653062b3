//! The rows of objects that are applied together, in as many statements for a thousand of them as for one. Objects are added in
//! one order, and those that are there are locked in the same one, after that: of two requests that name the same objects one
//! waits for the other, and never each for each.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use uuid::Uuid;

use super::{NewResource, sealed_payload};
use crate::{
    auth::seal::Seal,
    store::{Connection, Result, StoreError, authority::new_uuid},
};

/// Objects in one statement.
const OBJECTS: usize = 1000;
/// How often what was there and is gone is added anew.
const ROUNDS: usize = 3;

/// What is stored of an object.
pub(super) struct Stored {
    pub(super) uid: Uuid,
    pub(super) spec: Value,
    pub(super) labels: Value,
    pub(super) annotations: Value,
    pub(super) api_version: String,
    pub(super) payload_digest: Option<Vec<u8>>,
    pub(super) not_supported: Vec<String>,
    pub(super) suspended: Option<bool>,
    pub(super) deleting: bool,
    pub(super) owner: Option<Owner>,
}

/// The app that keeps an object.
pub(super) struct Owner {
    pub(super) uid: Uuid,
    pub(super) name: String,
}

/// What became of an object.
pub(super) enum Row {
    /// It was not there.
    Added(Uuid),
    /// It was, and is locked.
    Locked(Box<Stored>),
}

/// Adds the objects that are not there and locks those that are; an answer for each. In the order in which they are to be
/// locked, each once.
pub(super) async fn taken(
    tx: &mut Connection,
    objects: &[&NewResource],
    seal: &Seal,
    origin: &str,
) -> Result<Vec<Row>> {
    let mut rows: BTreeMap<usize, Row> = BTreeMap::new();
    for _ in 0..ROUNDS {
        let missing: Vec<usize> = (0..objects.len())
            .filter(|place| !rows.contains_key(place))
            .collect();
        if missing.is_empty() {
            break;
        }
        let mut there = BTreeSet::new();
        for places in missing.chunks(OBJECTS) {
            there.extend(find(tx, objects, places).await?);
        }
        let (there, fresh): (Vec<usize>, Vec<usize>) =
            missing.iter().partition(|place| there.contains(place));
        let mut left: BTreeSet<usize> = there.into_iter().collect();
        for places in fresh.chunks(OBJECTS) {
            let added = add(tx, objects, places, seal, origin).await?;
            // Another request has made the others meanwhile, and has ended.
            left.extend(places.iter().filter(|place| !added.contains_key(place)));
            rows.extend(added.into_iter().map(|(place, uid)| (place, Row::Added(uid))));
        }
        let left: Vec<usize> = left.into_iter().collect();
        for places in left.chunks(OBJECTS) {
            let locked = lock(tx, objects, places).await?;
            rows.extend(
                locked
                    .into_iter()
                    .map(|(place, old)| (place, Row::Locked(Box::new(old)))),
            );
        }
    }
    match rows.len() == objects.len() {
        true => Ok(rows.into_values().collect()),
        false => Err(StoreError::Conflict("what is applied")),
    }
}

/// What objects are called, as columns.
#[derive(Default)]
struct Names<'a> {
    scopes: Vec<Uuid>,
    groups: Vec<&'a str>,
    kinds: Vec<&'a str>,
    namespaces: Vec<&'a str>,
    names: Vec<&'a str>,
}

impl<'a> Names<'a> {
    fn of(objects: &[&'a NewResource], places: &[usize]) -> Self {
        let mut columns = Self::default();
        for one in places.iter().filter_map(|place| objects.get(*place)) {
            columns.scopes.push(one.scope);
            columns.groups.push(&one.group);
            columns.kinds.push(&one.kind);
            columns.namespaces.push(&one.namespace);
            columns.names.push(&one.name);
        }
        columns
    }
}

/// Rows are numbered from 1.
fn place(places: &[usize], number: i64) -> Option<usize> {
    let number = usize::try_from(number).ok()?.checked_sub(1)?;
    places.get(number).copied()
}

/// Which of these are there.
async fn find(tx: &mut Connection, objects: &[&NewResource], places: &[usize]) -> Result<Vec<usize>> {
    let columns = Names::of(objects, places);
    let found = sqlx::query_scalar!(
        r#"SELECT v.n AS "n!"
           FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[]) WITH ORDINALITY
             AS v(scope, api_group, kind, namespace, name, n)
           JOIN resource r ON (r.scope, r.api_group, r.kind, r.namespace, r.name)
             = (v.scope, v.api_group, v.kind, v.namespace, v.name)"#,
        &columns.scopes,
        &columns.groups as &[&str],
        &columns.kinds as &[&str],
        &columns.namespaces as &[&str],
        &columns.names as &[&str]
    )
    .fetch_all(tx)
    .await?;
    Ok(found
        .into_iter()
        .filter_map(|number| place(places, number))
        .collect())
}

/// Locks those of these that are there. Whoever names one by its key waits for nothing of this.
async fn lock(
    tx: &mut Connection,
    objects: &[&NewResource],
    places: &[usize],
) -> Result<BTreeMap<usize, Stored>> {
    let columns = Names::of(objects, places);
    let rows = sqlx::query!(
        r#"SELECT v.n AS "n!", r.uid, r.spec, r.labels, r.annotations, r.api_version, r.payload_digest, r.not_supported,
                  r.suspended, r.deleting_at IS NOT NULL AS "deleting!", r.owner,
                  coalesce((SELECT object_name(o.kind, o.namespace, o.name) FROM resource o WHERE o.uid = r.owner), '')
                    AS "owner_name!"
           FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[]) WITH ORDINALITY
             AS v(scope, api_group, kind, namespace, name, n)
           JOIN resource r ON (r.scope, r.api_group, r.kind, r.namespace, r.name)
             = (v.scope, v.api_group, v.kind, v.namespace, v.name)
           ORDER BY v.n FOR NO KEY UPDATE OF r"#,
        &columns.scopes,
        &columns.groups as &[&str],
        &columns.kinds as &[&str],
        &columns.namespaces as &[&str],
        &columns.names as &[&str]
    )
    .fetch_all(tx)
    .await?;
    let locked = rows.into_iter().filter_map(|row| {
        let stored = Stored {
            uid: row.uid,
            spec: row.spec,
            labels: row.labels,
            annotations: row.annotations,
            api_version: row.api_version,
            payload_digest: row.payload_digest,
            not_supported: row.not_supported,
            suspended: row.suspended,
            deleting: row.deleting,
            owner: row.owner.map(|uid| Owner {
                uid,
                name: row.owner_name,
            }),
        };
        Some((place(places, row.n)?, stored))
    });
    Ok(locked.collect())
}

/// Adds those of these that are not there; tells what they are known by.
async fn add(
    tx: &mut Connection,
    objects: &[&NewResource],
    places: &[usize],
    seal: &Seal,
    origin: &str,
) -> Result<BTreeMap<usize, Uuid>> {
    let columns = Names::of(objects, places);
    let of = || places.iter().filter_map(|place| objects.get(*place));
    let uids: Vec<Uuid> = of().map(|_| new_uuid()).collect();
    let sealed: Result<Vec<Option<Vec<u8>>>> = of()
        .zip(&uids)
        .map(|(one, uid)| sealed_payload(one, *uid, seal))
        .collect();
    let digests: Vec<Option<Vec<u8>>> = of()
        .map(|one| one.payload.as_ref().map(|payload| payload.digest.to_vec()))
        .collect();
    let versions: Vec<&str> = of().map(|one| &*one.api_version).collect();
    let column = |of_one: fn(&NewResource) -> &Value| of().map(|one| of_one(one).clone()).collect::<Vec<_>>();
    // An array of arrays has one length: they go as one value each.
    let not_supported: Vec<Value> = of().map(|one| one.not_supported.clone().into()).collect();
    let added = sqlx::query_scalar!(
        "INSERT INTO resource (uid, scope, api_group, kind, namespace, name, api_version, labels, annotations, spec,
                               sealed_payload, payload_digest, not_supported, origin)
         SELECT v.uid, v.scope, v.api_group, v.kind, v.namespace, v.name, v.api_version, v.labels, v.annotations, v.spec,
                v.sealed, v.digest, ARRAY(SELECT jsonb_array_elements_text(v.not_supported)), $14
         FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::jsonb[],
                     $9::jsonb[], $10::jsonb[], $11::bytea[], $12::bytea[], $13::jsonb[]) WITH ORDINALITY
           AS v(uid, scope, api_group, kind, namespace, name, api_version, labels, annotations, spec, sealed, digest,
                not_supported, n)
         ORDER BY v.n
         ON CONFLICT DO NOTHING RETURNING uid",
        &uids,
        &columns.scopes,
        &columns.groups as &[&str],
        &columns.kinds as &[&str],
        &columns.namespaces as &[&str],
        &columns.names as &[&str],
        &versions as &[&str],
        &column(|one| &one.labels),
        &column(|one| &one.annotations),
        &column(|one| &one.spec),
        &sealed? as &[Option<Vec<u8>>],
        &digests as &[Option<Vec<u8>>],
        &not_supported,
        origin
    )
    .fetch_all(tx)
    .await?;
    let added: BTreeSet<Uuid> = added.into_iter().collect();
    let placed = places.iter().copied().zip(uids);
    Ok(placed.filter(|(_, uid)| added.contains(uid)).collect())
}
