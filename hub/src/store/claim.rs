//! Which objects units claim: sets of keys, each stored once whatever has it. A target names its set, and so does each unit and
//! each agent that names the target; nothing is written for a cluster, and what a unit claims it lets go with its target.

use std::{collections::BTreeMap, sync::Arc};

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

/// Of so many clusters it is looked up in each who has a set there alone.
const FEW_CLUSTERS: i64 = 64;

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
        let mut others = self
            .others_claim(vec![(app_uid, clusters, keys.to_vec())])
            .await?;
        Ok(others.pop().unwrap_or_default())
    }

    /// As [`Self::other_claims`], for several apps in one statement, in their order.
    pub async fn others_claim(
        &self,
        asked: Vec<(Uuid, &[ClusterId], Vec<&ObjectKey>)>,
    ) -> Result<Vec<Vec<Other>>> {
        let asked = asked.into_iter().map(|(app, clusters, keys)| Asked {
            app,
            clusters: clusters.to_vec(),
            keys,
        });
        others(self.pool(), &asked.collect::<Vec<_>>()).await
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

/// Keeps other plans that claim, or let go of, any of these keys, or of those that units of these apps claim, waiting until
/// this transaction has ended: what others claim stays as it is. Keys share a few locks, which are taken in one order.
pub(super) async fn lock(tx: &mut Connection, apps: &[Uuid], keys: &[&ObjectKey]) -> Result<()> {
    let columns = Columns::of(keys.iter().copied());
    sqlx::query!(
        "SELECT pg_advisory_xact_lock(hashtext('claim'), slot) FROM (
             SELECT DISTINCT hashtext(concat_ws('/', k.g, k.kind, k.ns, k.name)) & 255 AS slot FROM (
               SELECT * FROM unnest($2::text[], $3::text[], $4::text[], $5::text[])
               UNION ALL
               SELECT k.api_group, k.kind, k.namespace, k.name FROM keyset_key k WHERE k.keyset IN (
                 SELECT t.keyset FROM unit u JOIN target t ON t.digest = u.target WHERE u.app_uid = ANY ($1))
             ) AS k(g, kind, ns, name) ORDER BY slot) AS slots",
        apps,
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
pub(super) async fn put_keysets(tx: &mut Connection, sets: &BTreeMap<Digest, &[ObjectKey]>) -> Result<()> {
    let rows = || {
        sets.iter()
            .flat_map(|(digest, keys)| keys.iter().map(move |key| (digest, key)))
    };
    let digests: Vec<&[u8]> = sets.keys().map(|digest| &digest.as_bytes()[..]).collect();
    let of: Vec<&[u8]> = rows().map(|(digest, _)| &digest.as_bytes()[..]).collect();
    let columns = Columns::of(rows().map(|(_, key)| key));
    sqlx::query!(
        "WITH put AS (
           INSERT INTO keyset AS k (digest) SELECT d FROM unnest($1::bytea[]) AS d ORDER BY d
           ON CONFLICT (digest) DO UPDATE SET referenced_at = now()
           RETURNING digest, xmax = 0 AS added)
         INSERT INTO keyset_key (keyset, api_group, kind, namespace, name)
         SELECT v.* FROM unnest($2::bytea[], $3::text[], $4::text[], $5::text[], $6::text[]) AS v(keyset, g, k, ns, n)
         JOIN put ON put.digest = v.keyset AND put.added",
        &digests as &[&[u8]],
        &of as &[&[u8]],
        &columns.groups,
        &columns.kinds,
        &columns.namespaces,
        &columns.names
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// What an app asks of others' claims: which sets of keys that their units have in these clusters have some of these keys.
pub(super) struct Asked<'a> {
    pub(super) app: Uuid,
    pub(super) clusters: Vec<ClusterId>,
    pub(super) keys: Vec<&'a ObjectKey>,
}

/// Proves that what the units leave to others is what others have. `Conflict`: plan again with what they have now.
pub(super) async fn check(tx: &mut Connection, plans: &[(Uuid, &Claims, Vec<&Next>)]) -> Result<()> {
    let asked: Vec<Asked<'_>> = plans
        .iter()
        .map(|(app, claims, units)| Asked {
            app: *app,
            clusters: units.iter().map(|unit| unit.cluster).collect(),
            keys: claims.new_keys(),
        })
        .collect();
    let others = others(&mut *tx, &asked).await?;
    let none = Vec::new();
    for ((_, claims, units), others) in plans.iter().zip(others) {
        let withheld = flotilla_core::claim::withheld(claims, &others);
        let agree = units.iter().all(|unit| {
            let theirs = withheld.get(&unit.cluster).unwrap_or(&none);
            claims.agree(unit.cluster, &unit.withheld, theirs)
        });
        if !agree {
            return Err(StoreError::Conflict("an object's claim"));
        }
    }
    Ok(())
}

/// The answers, in the order of the questions.
pub(super) async fn others<'e>(
    executor: impl Executor<'e, Database = Postgres>,
    asked: &[Asked<'_>],
) -> Result<Vec<Vec<Other>>> {
    let (mut of_key, mut of_cluster) = (Vec::new(), Vec::new());
    for (number, one) in (1_i32..).zip(asked) {
        of_key.extend(one.keys.iter().map(|_| number));
        of_cluster.extend(one.clusters.iter().map(|_| number));
    }
    let columns = Columns::of(asked.iter().flat_map(|one| one.keys.iter().copied()));
    let clusters: Vec<Uuid> = asked
        .iter()
        .flat_map(|one| one.clusters.iter().map(|cluster| cluster.0))
        .collect();
    let apps: Vec<Uuid> = asked.iter().map(|one| one.app).collect();
    // First the sets, then the apps that have them, then their units in these clusters: there are few sets and few apps, and
    // many units of one. Apps that have a set in one cluster alone may be as many as there are clusters: of few clusters they
    // are looked up there, and of many they are compared with all at once.
    let rows = sqlx::query!(
        r#"WITH asked AS MATERIALIZED (
             -- Each key is looked up once, however many there are.
             SELECT v.q, k.* FROM unnest($4::int[], $5::text[], $6::text[], $7::text[], $8::text[]) AS v(q, g, kind, ns, n)
             CROSS JOIN LATERAL (
               SELECT * FROM keyset_key k
               WHERE (k.name, k.namespace, k.kind, k.api_group) = (v.n, v.ns, v.kind, v.g) OFFSET 0) AS k
           ), sets AS MATERIALIZED (
             SELECT q, keyset, array_agg(api_group ORDER BY api_group, kind, namespace, name) AS groups,
                    array_agg(kind ORDER BY api_group, kind, namespace, name) AS kinds,
                    array_agg(namespace ORDER BY api_group, kind, namespace, name) AS namespaces,
                    array_agg(name ORDER BY api_group, kind, namespace, name) AS names
             FROM asked GROUP BY q, keyset
           ), asking AS MATERIALIZED (
             SELECT q, CASE WHEN count(*) <= $9 THEN array_agg(cluster) END AS few
             FROM unnest($1::int[], $2::uuid[]) AS c(q, cluster) GROUP BY q
           ), theirs AS MATERIALIZED (
             SELECT DISTINCT s.q, a.app_uid, a.cluster_id FROM sets AS s JOIN asking AS c ON c.q = s.q
             CROSS JOIN LATERAL (SELECT digest FROM target WHERE keyset = s.keyset OFFSET 0) AS t
             CROSS JOIN LATERAL (
               SELECT app_uid, cluster_id FROM target_app WHERE target = t.digest AND cluster_id IS NULL
               UNION ALL
               SELECT b.app_uid, b.cluster_id FROM unnest(c.few) AS one(cluster)
               CROSS JOIN LATERAL (
                 SELECT app_uid, cluster_id FROM target_app
                 WHERE target = t.digest AND cluster_id = one.cluster OFFSET 0) AS b
               UNION ALL
               SELECT app_uid, cluster_id FROM target_app
               WHERE c.few IS NULL AND target = t.digest AND cluster_id IS NOT NULL
               OFFSET 0) AS a
             WHERE a.app_uid <> ($3::uuid[])[s.q]
           ), places AS MATERIALIZED (
             SELECT o.q, o.app_uid, c.cluster FROM theirs AS o JOIN unnest($1::int[], $2::uuid[]) AS c(q, cluster) ON c.q = o.q
             WHERE o.cluster_id IS NULL
             UNION
             SELECT q, app_uid, cluster_id FROM theirs
             WHERE ((q, cluster_id) IN (SELECT * FROM unnest($1::int[], $2::uuid[]))) IS TRUE
           ), other AS (
             SELECT c.q, t.keyset, u.id, u.cluster_id, u.withheld, u.state = 'Detached' AS detached,
                    object_name(r.kind, r.namespace, r.name) AS owner
             FROM places AS c
             -- Looked up, and not compared with each.
             CROSS JOIN LATERAL (
               SELECT * FROM unit WHERE app_uid = c.app_uid AND cluster_id = c.cluster OFFSET 0) AS u
             CROSS JOIN LATERAL (SELECT keyset FROM target WHERE digest = u.target OFFSET 0) AS t
             JOIN resource r ON r.uid = u.app_uid
             WHERE ((c.q, t.keyset) IN (SELECT q, keyset FROM sets)) IS TRUE AND NOT u.released
           ), kept AS (
             -- What is detached claims what its agent has of it, and nothing that it would have to write.
             SELECT o.q, o.id, o.cluster_id, o.owner, o.withheld,
                    array_agg(a.api_group ORDER BY a.api_group, a.kind, a.namespace, a.name) AS groups,
                    array_agg(a.kind ORDER BY a.api_group, a.kind, a.namespace, a.name) AS kinds,
                    array_agg(a.namespace ORDER BY a.api_group, a.kind, a.namespace, a.name) AS namespaces,
                    array_agg(a.name ORDER BY a.api_group, a.kind, a.namespace, a.name) AS names
             FROM other o JOIN asked a ON (a.q, a.keyset) = (o.q, o.keyset)
             JOIN LATERAL (
               SELECT uid FROM unit_object b WHERE (b.unit_id, b.api_group, b.kind, b.namespace, b.name)
                 = (o.id, a.api_group, a.kind, a.namespace, a.name) OFFSET 0) AS b ON b.uid <> ''
             WHERE o.detached GROUP BY o.q, o.id, o.cluster_id, o.owner, o.withheld
           ), units AS (
             -- What a set has and what a unit leaves is told once, and not for each key or unit of the other.
             SELECT q, keyset, array_agg(id) AS ids, array_agg(cluster_id) AS clusters, array_agg(owner) AS owners,
                    jsonb_agg(withheld) AS withheld
             FROM other WHERE NOT detached GROUP BY q, keyset)
           SELECT s.q AS "q!", s.groups AS "groups!", s.kinds AS "kinds!", s.namespaces AS "namespaces!", s.names AS "names!",
                  u.ids AS "ids!", u.clusters AS "clusters!", u.owners AS "owners!",
                  u.withheld AS "withheld!: Json<Vec<Vec<Withheld>>>"
           FROM units u JOIN sets s ON (s.q, s.keyset) = (u.q, u.keyset)
           UNION ALL
           SELECT q, groups, kinds, namespaces, names, ARRAY[id], ARRAY[cluster_id], ARRAY[owner], jsonb_build_array(withheld)
           FROM kept"#,
        &of_cluster,
        &clusters,
        &apps,
        &of_key,
        &columns.groups,
        &columns.kinds,
        &columns.namespaces,
        &columns.names,
        FEW_CLUSTERS
    )
    .fetch_all(executor)
    .await?;
    // One unit has one set. In an order that does not depend on the database.
    let mut found: Vec<BTreeMap<(Uuid, Uuid), Other>> = asked.iter().map(|_| BTreeMap::new()).collect();
    for row in rows {
        let of = usize::try_from(row.q - 1)
            .ok()
            .and_then(|number| found.get_mut(number));
        let Some(of) = of else { continue };
        let names = row
            .groups
            .iter()
            .zip(&row.kinds)
            .zip(row.namespaces.iter().zip(&row.names));
        let keys: Arc<[ObjectKey]> = names
            .map(|((group, kind), (namespace, name))| ObjectKey::new(group, kind, namespace, name))
            .collect();
        let units = row
            .ids
            .into_iter()
            .zip(row.clusters)
            .zip(row.owners.into_iter().zip(row.withheld.0));
        of.extend(units.map(|((id, cluster), (owner, withheld))| {
            let other = Other {
                cluster: ClusterId(cluster),
                owner,
                keys: keys.clone(),
                withheld,
            };
            ((cluster, id), other)
        }));
    }
    Ok(found.into_iter().map(|of| of.into_values().collect()).collect())
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
