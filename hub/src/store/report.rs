//! What agents report. Written in batches, one transaction for many agents; an unchanged row writes nothing.

use std::collections::BTreeMap;

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Result, Store, Topic, nudge, session::signed};

/// A unit's status as reported.
#[derive(Debug, Clone)]
pub struct StatusRow {
    /// The unit.
    pub unit: Uuid,
    /// Version of the entry it is about.
    pub version: u64,
    /// Target last attempted.
    pub attempted: Option<Vec<u8>>,
    /// Target applied.
    pub applied: Option<Vec<u8>>,
    /// Target that was healthy.
    pub healthy: Option<Vec<u8>>,
    /// `True`, `False`, `Unknown`.
    pub ready: &'static str,
    /// Condition reason.
    pub reason: String,
    /// Message.
    pub message: String,
    /// Health of all objects together.
    pub health: String,
    /// Objects of the unit.
    pub objects: i32,
    /// Of these failed.
    pub objects_failed: i32,
    /// Left the content, still there.
    pub objects_pending_removal: i32,
    /// Acceptance to applied.
    pub apply_ms: i64,
    /// By the agent's clock.
    pub observed_at: OffsetDateTime,
}

/// An object's status as reported.
#[derive(Debug, Clone)]
pub struct ObjectRow {
    /// The unit.
    pub unit: Uuid,
    /// API group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Version it is written in.
    pub api_version: String,
    /// Live UID.
    pub uid: String,
    /// `Applied`, `Failed`, …; `None` when it left the unit.
    pub state: Option<&'static str>,
    /// kstatus.
    pub health: String,
    /// Message.
    pub message: String,
    /// Existed before our first apply.
    pub adopted: bool,
    /// Digest of the evaluated object last sent.
    pub sent: Vec<u8>,
}

/// Something that happened in a cluster.
#[derive(Debug, Clone)]
pub struct ClusterEventRow {
    /// The unit.
    pub unit: Uuid,
    /// `Kind/namespace/name`, '' for the unit itself.
    pub object: String,
    /// Something a person should look at.
    pub warning: bool,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// By the agent's clock.
    pub at: OffsetDateTime,
}

/// One agent's report.
#[derive(Debug, Clone)]
pub struct Report {
    /// The cluster.
    pub cluster: Uuid,
    /// Epoch of its stream.
    pub epoch: u64,
    /// Rows of units and objects not named are dropped.
    pub everything: bool,
    /// Units.
    pub units: Vec<StatusRow>,
    /// Objects.
    pub objects: Vec<ObjectRow>,
    /// Events.
    pub events: Vec<ClusterEventRow>,
    /// Digest over the agent's status rows after this report.
    pub observed_root: Vec<u8>,
}

/// What ingesting reports did.
#[derive(Debug, Default)]
pub struct Ingested {
    /// Which of the reports counted, in order: one of a stream that was replaced does not.
    pub counted: Vec<bool>,
    /// Units that have applied another target than they last had.
    pub applied: Vec<Uuid>,
}

impl Store {
    /// Ingests reports in one transaction.
    pub async fn ingest(&self, reports: &[Report]) -> Result<Ingested> {
        let mut tx = self.pool().begin().await?;
        let clusters: Vec<Uuid> = reports.iter().map(|report| report.cluster).collect();
        // Locked in one order, so that two replicas that ingest at once never deadlock.
        let live = sqlx::query!(
            "SELECT cluster_id, epoch FROM session WHERE cluster_id = ANY($1) ORDER BY cluster_id FOR UPDATE",
            &clusters
        )
        .fetch_all(&mut *tx)
        .await?;
        let counts: Vec<bool> = reports
            .iter()
            .map(|report| {
                live.iter()
                    .any(|row| row.cluster_id == report.cluster && row.epoch == signed(report.epoch))
            })
            .collect();
        let counted: Vec<&Report> = reports
            .iter()
            .zip(&counts)
            .filter(|(_, counts)| **counts)
            .map(|(report, _)| report)
            .collect();
        let mut changed = Vec::new();
        let mut applied = Vec::new();
        for report in &counted {
            let mut rows = write_status(&mut tx, report, &mut applied).await?;
            rows += write_objects(&mut tx, report).await?;
            rows += write_events(&mut tx, report).await?;
            if report.everything {
                rows += forget_unnamed(&mut tx, report).await?;
            }
            if rows > 0 {
                changed.push(report.cluster);
            }
        }
        // Of several reports of one cluster the last one's root counts.
        let roots: BTreeMap<Uuid, Vec<u8>> = counted
            .iter()
            .map(|report| (report.cluster, report.observed_root.clone()))
            .collect();
        let (ids, roots): (Vec<Uuid>, Vec<Vec<u8>>) = roots.into_iter().unzip();
        sqlx::query!(
            "UPDATE session s SET observed_root = v.root, last_seen = now()
             FROM unnest($1::uuid[], $2::bytea[]) AS v(id, root) WHERE s.cluster_id = v.id",
            &ids,
            &roots
        )
        .execute(&mut *tx)
        .await?;
        // An unchanged report wakes nobody.
        nudge(&mut tx, Topic::Report, &changed).await?;
        tx.commit().await?;
        Ok(Ingested {
            counted: counts,
            applied,
        })
    }
}

/// Writes the units' rows and counts those that changed; units with another applied target go to `applied`.
async fn write_status(
    tx: &mut sqlx::PgConnection,
    report: &Report,
    applied_now: &mut Vec<Uuid>,
) -> Result<u64> {
    let mut rows = 0;
    for batch in report.units.chunks(500) {
        let column = |f: fn(&StatusRow) -> String| batch.iter().map(f).collect::<Vec<_>>();
        let number = |f: fn(&StatusRow) -> i32| batch.iter().map(f).collect::<Vec<_>>();
        let units: Vec<Uuid> = batch.iter().map(|row| row.unit).collect();
        let versions: Vec<i64> = batch.iter().map(|row| signed(row.version)).collect();
        let attempted: Vec<Option<Vec<u8>>> = batch.iter().map(|row| row.attempted.clone()).collect();
        let applied: Vec<Option<Vec<u8>>> = batch.iter().map(|row| row.applied.clone()).collect();
        let healthy: Vec<Option<Vec<u8>>> = batch.iter().map(|row| row.healthy.clone()).collect();
        let observed: Vec<OffsetDateTime> = batch.iter().map(|row| row.observed_at).collect();
        let apply_ms: Vec<i64> = batch.iter().map(|row| row.apply_ms).collect();
        let wrote = sqlx::query!(
            // A unit of another cluster is not for this agent to report on.
            r#"WITH old AS (SELECT unit_id, version, applied FROM unit_status WHERE unit_id = ANY($2)),
               wrote AS (INSERT INTO unit_status (unit_id, version, attempted, applied, healthy, ready, reason, message,
                   health, objects, objects_failed, objects_pending_removal, apply_ms, observed_at)
               SELECT v.* FROM unnest($2::uuid[], $3::bigint[], $4::bytea[], $5::bytea[], $6::bytea[], $7::text[],
                   $8::text[], $9::text[], $10::text[], $11::int[], $12::int[], $13::int[], $14::bigint[],
                   $15::timestamptz[]) AS v(unit_id, version, attempted, applied, healthy, ready, reason, message,
                   health, objects, failed, pending, apply_ms, observed_at)
               JOIN unit u ON u.id = v.unit_id AND u.cluster_id = $1
               ON CONFLICT (unit_id) DO UPDATE SET version = excluded.version, attempted = excluded.attempted,
                 applied = excluded.applied, healthy = excluded.healthy, ready = excluded.ready,
                 reason = excluded.reason, message = excluded.message, health = excluded.health,
                 objects = excluded.objects, objects_failed = excluded.objects_failed,
                 objects_pending_removal = excluded.objects_pending_removal, apply_ms = excluded.apply_ms,
                 observed_at = excluded.observed_at, received_at = now()
               WHERE (unit_status.version, unit_status.attempted, unit_status.applied, unit_status.healthy,
                      unit_status.ready, unit_status.reason, unit_status.message, unit_status.health,
                      unit_status.objects, unit_status.objects_failed, unit_status.objects_pending_removal,
                      unit_status.apply_ms)
                 IS DISTINCT FROM (excluded.version, excluded.attempted, excluded.applied, excluded.healthy,
                      excluded.ready, excluded.reason, excluded.message, excluded.health, excluded.objects,
                      excluded.objects_failed, excluded.objects_pending_removal, excluded.apply_ms)
               RETURNING unit_id, version, applied)
               SELECT wrote.unit_id, wrote.applied IS NOT NULL
                   AND (old.version, old.applied) IS DISTINCT FROM (wrote.version, wrote.applied) AS "applied!"
               FROM wrote LEFT JOIN old USING (unit_id)"#,
            report.cluster,
            &units,
            &versions,
            &attempted as &[Option<Vec<u8>>],
            &applied as &[Option<Vec<u8>>],
            &healthy as &[Option<Vec<u8>>],
            &column(|row| row.ready.to_owned()),
            &column(|row| row.reason.clone()),
            &column(|row| row.message.clone()),
            &column(|row| row.health.clone()),
            &number(|row| row.objects),
            &number(|row| row.objects_failed),
            &number(|row| row.objects_pending_removal),
            &apply_ms,
            &observed
        )
        .fetch_all(&mut *tx)
        .await?;
        rows += wrote.len() as u64;
        applied_now.extend(wrote.iter().filter(|row| row.applied).map(|row| row.unit_id));
    }
    Ok(rows)
}

async fn write_objects(tx: &mut sqlx::PgConnection, report: &Report) -> Result<u64> {
    let mut rows = 0;
    for batch in report.objects.chunks(500) {
        let column = |f: fn(&ObjectRow) -> String| batch.iter().map(f).collect::<Vec<_>>();
        let units: Vec<Uuid> = batch.iter().map(|row| row.unit).collect();
        let sent: Vec<Vec<u8>> = batch.iter().map(|row| row.sent.clone()).collect();
        let adopted: Vec<bool> = batch.iter().map(|row| row.adopted).collect();
        rows += sqlx::query!(
            "INSERT INTO unit_object (unit_id, api_group, kind, namespace, name, api_version, uid, state, health,
                 message, adopted, sent)
             SELECT v.* FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                 $8::text[], $9::text[], $10::text[], $11::text[], $12::boolean[], $13::bytea[])
                 AS v(unit_id, g, k, ns, n, api_version, uid, state, health, message, adopted, sent)
             JOIN unit u ON u.id = v.unit_id AND u.cluster_id = $1
             WHERE v.state <> 'Gone'
             ON CONFLICT (unit_id, api_group, kind, namespace, name) DO UPDATE SET
               api_version = excluded.api_version, uid = excluded.uid, state = excluded.state,
               health = excluded.health, message = excluded.message, adopted = excluded.adopted,
               sent = excluded.sent
             WHERE (unit_object.api_version, unit_object.uid, unit_object.state, unit_object.health,
                    unit_object.message, unit_object.adopted, unit_object.sent)
               IS DISTINCT FROM (excluded.api_version, excluded.uid, excluded.state, excluded.health,
                    excluded.message, excluded.adopted, excluded.sent)",
            report.cluster,
            &units,
            &column(|row| row.group.clone()),
            &column(|row| row.kind.clone()),
            &column(|row| row.namespace.clone()),
            &column(|row| row.name.clone()),
            &column(|row| row.api_version.clone()),
            &column(|row| row.uid.clone()),
            &column(|row| row.state.unwrap_or("Gone").to_owned()),
            &column(|row| row.health.clone()),
            &column(|row| row.message.clone()),
            &adopted,
            &sent
        )
        .execute(&mut *tx)
        .await?
        .rows_affected();
        let gone: Vec<&ObjectRow> = batch.iter().filter(|row| row.state.is_none()).collect();
        let gone_column = |f: fn(&&ObjectRow) -> String| gone.iter().map(f).collect::<Vec<_>>();
        let gone_units: Vec<Uuid> = gone.iter().map(|row| row.unit).collect();
        rows += sqlx::query!(
            "DELETE FROM unit_object o USING unit u,
                 unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[]) AS v(unit_id, g, k, ns, n)
             WHERE u.id = o.unit_id AND u.cluster_id = $1 AND o.unit_id = v.unit_id AND o.api_group = v.g
               AND o.kind = v.k AND o.namespace = v.ns AND o.name = v.n",
            report.cluster,
            &gone_units,
            &gone_column(|row| row.group.clone()),
            &gone_column(|row| row.kind.clone()),
            &gone_column(|row| row.namespace.clone()),
            &gone_column(|row| row.name.clone())
        )
        .execute(&mut *tx)
        .await?
        .rows_affected();
    }
    Ok(rows)
}

async fn write_events(tx: &mut sqlx::PgConnection, report: &Report) -> Result<u64> {
    let mut rows = 0;
    for batch in report.events.chunks(500) {
        let column = |f: fn(&ClusterEventRow) -> String| batch.iter().map(f).collect::<Vec<_>>();
        let units: Vec<Uuid> = batch.iter().map(|row| row.unit).collect();
        let warnings: Vec<bool> = batch.iter().map(|row| row.warning).collect();
        let times: Vec<OffsetDateTime> = batch.iter().map(|row| row.at).collect();
        rows += sqlx::query!(
            "INSERT INTO event (at, warning, reason, message, object, resource_uid, cluster_id)
             SELECT v.at, v.warning, v.reason, v.message, v.object, u.app_uid, u.cluster_id
             FROM unnest($2::uuid[], $3::timestamptz[], $4::boolean[], $5::text[], $6::text[], $7::text[])
                 AS v(unit_id, at, warning, reason, message, object)
             JOIN unit u ON u.id = v.unit_id AND u.cluster_id = $1",
            report.cluster,
            &units,
            &times,
            &warnings,
            &column(|row| row.reason.clone()),
            &column(|row| row.message.clone()),
            &column(|row| row.object.clone())
        )
        .execute(&mut *tx)
        .await?
        .rows_affected();
    }
    Ok(rows)
}

/// A full report: units it does not name have no known status any more, and objects it does not name no row. Those
/// that do not fit into it follow in the next.
async fn forget_unnamed(tx: &mut sqlx::PgConnection, report: &Report) -> Result<u64> {
    let units: Vec<Uuid> = report.units.iter().map(|row| row.unit).collect();
    let forgotten = sqlx::query!(
        "DELETE FROM unit_status s USING unit u
         WHERE u.id = s.unit_id AND u.cluster_id = $1 AND NOT (s.unit_id = ANY($2))",
        report.cluster,
        &units
    )
    .execute(&mut *tx)
    .await?
    .rows_affected();
    let column = |f: fn(&ObjectRow) -> String| report.objects.iter().map(f).collect::<Vec<_>>();
    let owners: Vec<Uuid> = report.objects.iter().map(|row| row.unit).collect();
    let objects = sqlx::query!(
        "DELETE FROM unit_object o USING unit u
         WHERE u.id = o.unit_id AND u.cluster_id = $1 AND NOT EXISTS (
           SELECT 1 FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[]) AS v(unit_id, g, k, ns, n)
           WHERE o.unit_id = v.unit_id AND o.api_group = v.g AND o.kind = v.k AND o.namespace = v.ns
             AND o.name = v.n)",
        report.cluster,
        &owners,
        &column(|row| row.group.clone()),
        &column(|row| row.kind.clone()),
        &column(|row| row.namespace.clone()),
        &column(|row| row.name.clone())
    )
    .execute(&mut *tx)
    .await?;
    Ok(forgotten + objects.rows_affected())
}
