//! Which objects units claim: sets of keys, each stored once whatever has it. A target names its set, and so does each unit and
//! each agent that names the target; nothing is written for a cluster, and what a unit claims it lets go with its target.

use std::collections::BTreeMap;

use flotilla_core::{
    claim::{Claims, Other},
    digest::Digest,
    id::ClusterId,
    object::ObjectKey,
    rollout::plan::Next,
    unit::Withheld,
};
use sqlx::{Executor, Postgres, types::Json};
use uuid::Uuid;

use super::{Connection, Result, Store, StoreError};

/// A set of keys that a unit has in its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The unit.
    pub unit: Uuid,
    /// The set.
    pub keyset: Digest,
    /// It is to have it.
    pub target: bool,
    /// Its agent holds it durably. Without: the agent has still to take what the unit is to be; without `target`: the agent
    /// has still to let go of what the unit was.
    pub accepted: bool,
}

impl Store {
    /// Which sets of keys that other apps' units have in `clusters` have some of `keys`.
    pub async fn other_claims(
        &self,
        app_uid: Uuid,
        clusters: &[ClusterId],
        keys: &[&ObjectKey],
    ) -> Result<Vec<Other>> {
        others(self.pool(), app_uid, clusters, keys).await
    }

    /// What the units of a cluster claim.
    pub async fn claims(&self, cluster_id: Uuid) -> Result<Vec<Claim>> {
        let rows = sqlx::query!(
            r#"SELECT unit_id AS "unit!", keyset AS "keyset!", target AS "target!", accepted AS "accepted!" FROM claim
               WHERE cluster_id = $1 ORDER BY unit_id, target, keyset"#,
            cluster_id
        )
        .fetch_all(self.pool())
        .await?;
        rows.into_iter()
            .map(|row| {
                let keyset = Digest::try_from_slice(&row.keyset);
                Ok(Claim {
                    unit: row.unit,
                    keyset: keyset
                        .map_err(|e| StoreError::corrupt(format!("claim of unit {}", row.unit), e))?,
                    target: row.target,
                    accepted: row.accepted,
                })
            })
            .collect()
    }
}

/// Keeps other plans that claim, or let go of, any of the same objects waiting until this transaction has ended: what others
/// claim stays as it is. Keys share a few locks, which are taken in one order.
pub(super) async fn lock(tx: &mut Connection, app_uid: Uuid, claims: &Claims) -> Result<()> {
    lock_keys(tx, app_uid, &claims.new_keys()).await
}

/// As [`lock`], of these keys and those that the app's units claim.
pub(super) async fn lock_keys(tx: &mut Connection, app_uid: Uuid, keys: &[&ObjectKey]) -> Result<()> {
    let columns = Columns::of(keys.iter().copied());
    sqlx::query!(
        "SELECT pg_advisory_xact_lock(hashtext('claim'), slot) FROM (
             SELECT DISTINCT hashtext(concat_ws('/', k.g, k.kind, k.ns, k.name)) & 255 AS slot FROM (
               SELECT * FROM unnest($2::text[], $3::text[], $4::text[], $5::text[])
               UNION ALL
               SELECT k.api_group, k.kind, k.namespace, k.name FROM keyset_key k WHERE k.keyset IN (
                 SELECT t.keyset FROM unit u JOIN target t ON t.digest = u.target WHERE u.app_uid = $1)
             ) AS k(g, kind, ns, name) ORDER BY slot) AS slots",
        app_uid,
        &columns.groups,
        &columns.kinds,
        &columns.namespaces,
        &columns.names
    )
    .fetch_all(tx)
    .await?;
    Ok(())
}

/// Stores sets of keys; one that is stored is touched: what removes the unused leaves it.
pub(super) async fn put_keysets(tx: &mut Connection, claims: &Claims) -> Result<()> {
    let rows = || {
        let sets = claims.new.iter();
        sets.flat_map(|(digest, keys)| keys.iter().map(move |key| (digest, key)))
    };
    let digests: Vec<Vec<u8>> = claims
        .new
        .keys()
        .map(|digest| digest.as_bytes().to_vec())
        .collect();
    let sets: Vec<Vec<u8>> = rows().map(|(digest, _)| digest.as_bytes().to_vec()).collect();
    let columns = Columns::of(rows().map(|(_, key)| key));
    sqlx::query!(
        "WITH put AS (
           INSERT INTO keyset AS k (digest) SELECT d FROM unnest($1::bytea[]) AS d ORDER BY d
           ON CONFLICT (digest) DO UPDATE SET referenced_at = now()
           RETURNING digest, xmax = 0 AS added)
         INSERT INTO keyset_key (keyset, api_group, kind, namespace, name)
         SELECT v.* FROM unnest($2::bytea[], $3::text[], $4::text[], $5::text[], $6::text[]) AS v(keyset, g, k, ns, n)
         JOIN put ON put.digest = v.keyset AND put.added",
        &digests,
        &sets,
        &columns.groups,
        &columns.kinds,
        &columns.namespaces,
        &columns.names
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Proves that what the units leave to others is what others have. `Conflict`: plan again with what they have now.
pub(super) async fn check(
    tx: &mut Connection,
    app_uid: Uuid,
    claims: &Claims,
    units: &[(Uuid, &Next)],
) -> Result<()> {
    let clusters: Vec<ClusterId> = units.iter().map(|(_, unit)| unit.cluster).collect();
    let others = others(tx, app_uid, &clusters, &claims.new_keys()).await?;
    let withheld = flotilla_core::claim::withheld(claims, &others);
    let none = Vec::new();
    let agree = units.iter().all(|(_, unit)| {
        let theirs = withheld.get(&unit.cluster).unwrap_or(&none);
        claims.agree(unit.cluster, &unit.withheld, theirs)
    });
    match agree {
        true => Ok(()),
        false => Err(StoreError::Conflict("an object's claim")),
    }
}

pub(super) async fn others<'e>(
    executor: impl Executor<'e, Database = Postgres>,
    app_uid: Uuid,
    clusters: &[ClusterId],
    keys: &[&ObjectKey],
) -> Result<Vec<Other>> {
    let columns = Columns::of(keys.iter().copied());
    let ids: Vec<Uuid> = clusters.iter().map(|cluster| cluster.0).collect();
    // First the sets, then who has them: there are few sets, and many units of one.
    let rows = sqlx::query!(
        r#"WITH asked AS MATERIALIZED (
             -- Each key is looked up once, however many there are.
             SELECT k.* FROM unnest($3::text[], $4::text[], $5::text[], $6::text[]) AS v(g, kind, ns, n)
             CROSS JOIN LATERAL (
               SELECT * FROM keyset_key k
               WHERE (k.name, k.namespace, k.kind, k.api_group) = (v.n, v.ns, v.kind, v.g) OFFSET 0) AS k
           ), other AS MATERIALIZED (
             SELECT u.id, u.cluster_id, t.keyset, u.withheld,
                    object_name(r.kind, r.namespace, r.name) AS owner
             FROM (SELECT DISTINCT keyset FROM asked) AS s
             CROSS JOIN LATERAL (SELECT digest, keyset FROM target WHERE keyset = s.keyset OFFSET 0) AS t
             CROSS JOIN LATERAL (SELECT * FROM unit WHERE target = t.digest OFFSET 0) AS u
             JOIN resource r ON r.uid = u.app_uid
             -- Looked up, and not compared with each.
             WHERE (u.cluster_id IN (SELECT * FROM unnest($1::uuid[]))) IS TRUE AND u.app_uid <> $2)
           SELECT o.id AS "id!", o.cluster_id AS "cluster_id!", o.owner AS "owner!",
                  o.withheld AS "withheld!: Json<Vec<Withheld>>", a.api_group AS "api_group!", a.kind AS "kind!",
                  a.namespace AS "namespace!", a.name AS "name!"
           FROM other o JOIN asked a ON a.keyset = o.keyset
           ORDER BY o.cluster_id, o.id, a.api_group, a.kind, a.namespace, a.name"#,
        &ids,
        app_uid,
        &columns.groups,
        &columns.kinds,
        &columns.namespaces,
        &columns.names
    )
    .fetch_all(executor)
    .await?;
    let mut found: BTreeMap<(Uuid, Uuid), Other> = BTreeMap::new();
    for row in rows {
        let other = found.entry((row.cluster_id, row.id)).or_insert_with(|| Other {
            cluster: ClusterId(row.cluster_id),
            owner: row.owner,
            keys: Vec::new(),
            withheld: row.withheld.0,
        });
        let key = ObjectKey::new(&row.api_group, &row.kind, &row.namespace, &row.name);
        other.keys.push(key);
    }
    Ok(found.into_values().collect())
}

/// Keys as columns.
#[derive(Default)]
pub(super) struct Columns {
    pub(super) groups: Vec<String>,
    pub(super) kinds: Vec<String>,
    pub(super) namespaces: Vec<String>,
    pub(super) names: Vec<String>,
}

impl Columns {
    pub(super) fn of<'a>(keys: impl IntoIterator<Item = &'a ObjectKey>) -> Self {
        let mut columns = Self::default();
        for key in keys {
            columns.groups.push(key.group.clone());
            columns.kinds.push(key.kind.clone());
            columns.namespaces.push(key.namespace.clone());
            columns.names.push(key.name.clone());
        }
        columns
    }
}
