//! What guards keep agents from deleting, and what people have allowed of it.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::digest::Digest;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Result, Store, StoreError, Topic, nudge_all, query::ObjectView, session::signed};

/// Sets of which it is told what would go; of more, how many they are.
const SHOWN: usize = 50;
/// Units of which it is told together what is blocked.
const BLOCKED: i64 = 20_000;

/// A unit of which nothing of what has left it is deleted, since guards stop it: its agent's, or those over all that a commit
/// would delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockedUnit {
    /// The unit.
    pub unit: Uuid,
    /// Name of its cluster.
    pub cluster: String,
    /// What it is to be.
    pub target: Digest,
    /// Version of that.
    pub version: u64,
}

/// Units of which the same objects would go.
#[derive(Debug, Clone, Default)]
pub struct BlockedRemoval {
    /// The units, by the names of their clusters.
    pub units: Vec<BlockedUnit>,
    /// What would go; nothing of it where there are many sets.
    pub objects: Vec<ObjectView>,
    /// How many that are.
    pub total: u32,
    /// What the agent of the first one says, or the hub.
    pub message: String,
}

/// What somebody has allowed of a unit, and its agent has still to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedRemoval {
    /// Name of its cluster.
    pub cluster: String,
    /// Who has allowed it last.
    pub principal: String,
    /// When.
    pub at: OffsetDateTime,
    /// Its agent is there.
    pub connected: bool,
    /// How many objects are to go.
    pub total: u32,
}

impl Store {
    /// What is allowed of an app, in one cluster or all, and waits for its agents: what these said last is that a guard stops it.
    pub async fn allowed_removals(&self, app: Uuid, cluster: &str) -> Result<Vec<AllowedRemoval>> {
        let rows = sqlx::query!(
            r#"SELECT c.name AS "cluster!", a.principal AS "principal!", a.at AS "at!", coalesce(p.connected, false) AS "connected!",
                      (SELECT count(*) FROM unit_object WHERE unit_id = u.id AND state = 'PendingRemoval') AS "total!"
               FROM unit u JOIN approval a ON (a.unit_id, a.target) = (u.id, u.target) AND a.version = u.version
                 JOIN cluster c ON c.id = u.cluster_id
                 JOIN unit_status s ON s.unit_id = u.id AND s.version = u.version AND s.reason = 'PruneBlocked'
                 LEFT JOIN presence p ON p.cluster_id = u.cluster_id
               WHERE u.app_uid = $1 AND u.state = 'Active' AND ($2 = '' OR c.name = $2)
               ORDER BY c.name LIMIT $3"#,
            app,
            cluster,
            BLOCKED
        )
        .fetch_all(self.pool())
        .await?;
        let allowed = rows.into_iter().map(|row| AllowedRemoval {
            cluster: row.cluster,
            principal: row.principal,
            at: row.at,
            connected: row.connected,
            total: u32::try_from(row.total).unwrap_or(u32::MAX),
        });
        Ok(allowed.collect())
    }

    /// What guards keep agents from deleting of an app, in one cluster or all: units of which the same would go together.
    pub async fn blocked_removals(&self, app: Uuid, cluster: &str) -> Result<Vec<BlockedRemoval>> {
        let rows = sqlx::query!(
            r#"SELECT u.id AS "unit!", c.name AS "cluster!", u.target AS "target!", u.version AS "version!",
                      CASE WHEN l.blocked THEN l.waits ELSE s.message END AS "message!", o.keys AS "keys!", o.count AS "count!"
               FROM unit u JOIN cluster c ON c.id = u.cluster_id
                 JOIN unit_status s ON s.unit_id = u.id AND s.version = u.version
                 LEFT JOIN leaving l ON l.unit_id = u.id AND l.version = u.version AND l.state = 'Open' AND l.blocked
                 JOIN LATERAL (
                   SELECT md5(coalesce(string_agg(concat_ws('/', api_group, kind, namespace, name), E'\n'
                                ORDER BY api_group, kind, namespace, name), '')) AS keys, count(*)
                   FROM unit_object WHERE unit_id = u.id AND state = 'PendingRemoval') AS o ON true
               WHERE u.app_uid = $1 AND (u.state = 'Active' OR u.state = 'Removing' AND is_dropped(u.app_uid)) AND ($2 = '' OR c.name = $2)
                 AND (s.reason = 'PruneBlocked' OR l.unit_id IS NOT NULL)
                 AND NOT EXISTS (SELECT FROM approval a WHERE (a.unit_id, a.target) = (u.id, u.target) AND a.version = u.version)
               ORDER BY c.name LIMIT $3"#,
            app,
            cluster,
            BLOCKED
        )
        .fetch_all(self.pool())
        .await?;
        let mut sets: BTreeMap<String, BlockedRemoval> = BTreeMap::new();
        for row in rows {
            let target = Digest::try_from_slice(&row.target)
                .map_err(|e| StoreError::corrupt(format!("unit {}", row.unit), e))?;
            let set = sets.entry(row.keys).or_insert_with(|| BlockedRemoval {
                message: row.message,
                total: u32::try_from(row.count).unwrap_or(u32::MAX),
                ..BlockedRemoval::default()
            });
            set.units.push(BlockedUnit {
                unit: row.unit,
                cluster: row.cluster,
                target,
                version: row.version.unsigned_abs(),
            });
        }
        let mut sets: Vec<BlockedRemoval> = sets.into_values().collect();
        sets.sort_by(|a, b| a.units[0].cluster.cmp(&b.units[0].cluster));
        for set in sets.iter_mut().take(SHOWN) {
            let objects = self.list_unit_objects(set.units[0].unit).await?;
            set.objects = objects
                .into_iter()
                .filter(|one| one.state == "PendingRemoval")
                .collect();
        }
        Ok(sets)
    }

    /// Allows that of these units more is deleted than guards let pass, each for the target that it has and at the version that
    /// it has it. Returns those that still are that.
    pub async fn approve_removals(&self, units: &[BlockedUnit], principal: &str) -> Result<Vec<Uuid>> {
        let mut tx = self.pool().begin().await?;
        let ids: Vec<Uuid> = units.iter().map(|unit| unit.unit).collect();
        let targets: Vec<&[u8]> = units.iter().map(|unit| &unit.target.as_bytes()[..]).collect();
        let versions: Vec<i64> = units.iter().map(|unit| signed(unit.version)).collect();
        let approved = sqlx::query!(
            r#"WITH allowed AS (
                 INSERT INTO approval (unit_id, target, version, principal)
                 SELECT DISTINCT u.id, u.target, u.version, $4 FROM unnest($1::uuid[], $2::bytea[], $3::bigint[]) AS v(id, target, version)
                   JOIN unit u ON u.id = v.id AND u.target = v.target AND u.version = v.version
                 ON CONFLICT (unit_id, target)
                   DO UPDATE SET principal = excluded.principal, version = excluded.version, at = now()
                 RETURNING unit_id, target),
               named AS (
                 SELECT u.id, u.cluster_id, u.app_uid, a.target FROM allowed a JOIN unit u ON u.id = a.unit_id),
               marked AS (
                 INSERT INTO unpublished (cluster_id, unit_id) SELECT cluster_id, id FROM named ORDER BY 1, 2
                 ON CONFLICT (cluster_id, unit_id) DO UPDATE SET at = now()),
               told AS (
                 INSERT INTO event (reason, message, resource_uid, cluster_id)
                 SELECT 'RemovalApproved', $4 || ' has allowed that all that has left this app is deleted', app_uid, cluster_id
                 FROM named),
               audited AS (
                 INSERT INTO audit (principal, verb, object)
                 SELECT $4, 'removal.approve', 'unit/' || id || '/' || encode(target, 'hex') FROM named)
               SELECT id AS "unit!", cluster_id AS "cluster!", app_uid AS "app!" FROM named"#,
            &ids,
            &targets as &[&[u8]],
            &versions,
            principal
        )
        .fetch_all(&mut *tx)
        .await?;
        let column = |of: fn(&(Uuid, Uuid)) -> Uuid| -> Vec<Uuid> {
            let distinct: BTreeSet<Uuid> = approved.iter().map(|row| of(&(row.cluster, row.app))).collect();
            distinct.into_iter().collect()
        };
        nudge_all(
            &mut tx,
            &[
                (Topic::Cluster, &column(|row| row.0)),
                (Topic::Shown, &column(|row| row.1)),
                (Topic::Leaving, &column(|row| row.1)),
            ],
        )
        .await?;
        tx.commit().await?;
        Ok(approved.into_iter().map(|row| row.unit).collect())
    }
}
