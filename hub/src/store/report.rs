//! What agents report. Written in batches, one transaction for many agents; an unchanged row writes nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use time::OffsetDateTime;
use uuid::Uuid;

use flotilla_core::{digest::Digest, object::ObjectKey};

use super::{
    Connection, Result, Store, Topic, leaving, nudge_all,
    session::{Told, refuse_rest, signed, take, tell},
};

/// A target at the version of the entry that asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attained {
    /// Version of the entry.
    pub version: u64,
    /// Target digest.
    pub target: Digest,
}

/// A unit's status as reported.
#[derive(Debug, Clone)]
pub struct StatusRow {
    /// The unit.
    pub unit: Uuid,
    /// Version of the entry held, that `ready` and the texts are about.
    pub version: u64,
    /// Last attempted.
    pub attempted: Option<Attained>,
    /// Last applied.
    pub applied: Option<Attained>,
    /// Last healthy.
    pub healthy: Option<Attained>,
    /// Since when that is healthy without a break; `None` while it is not.
    pub healthy_since: Option<OffsetDateTime>,
    /// `True`, `False`, `Unknown`.
    pub ready: &'static str,
    /// Condition reason.
    pub reason: String,
    /// Message.
    pub message: String,
    /// What is noted of it although it is ready.
    pub notes: String,
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
    /// When it was so.
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
    /// The unit; `None`: the cluster itself.
    pub unit: Option<Uuid>,
    /// `Kind/namespace/name`, '' for the unit itself.
    pub object: String,
    /// Something a person should look at.
    pub warning: bool,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// When.
    pub at: OffsetDateTime,
}

/// A state of the cluster or its agent that no unit has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConditionRow {
    /// `ApiServer`, `Ledger`, …
    pub kind: &'static str,
    /// It is as it should be.
    pub ok: bool,
    /// What is wrong.
    pub message: String,
    /// Since when it is so.
    pub since: OffsetDateTime,
}

impl ConditionRow {
    /// As it should be where the message is empty.
    pub fn new(kind: &'static str, message: String, since: OffsetDateTime) -> Self {
        Self {
            kind,
            ok: message.is_empty(),
            message,
            since,
        }
    }
}

/// Place of a row in a full report: units' rows by id, then objects' rows by unit and key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowKey {
    /// A unit's row.
    Unit(Uuid),
    /// An object's row.
    Object(Uuid, ObjectKey),
}

/// What a message of a full report replaces: rows after `after` up to and with `until`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FullPart {
    /// The last row before it; `None`: it begins with the first.
    pub after: Option<RowKey>,
    /// Its last row; `None`: it ends with the last.
    pub until: Option<RowKey>,
}

impl FullPart {
    /// Tells whether it begins to replace rows: one before all rows replaces conditions alone.
    fn begins_rows(&self) -> bool {
        self.after.is_none() && self.until != Some(RowKey::Unit(Uuid::nil()))
    }
}

/// One agent's report.
#[derive(Debug, Clone)]
pub struct Report {
    /// The cluster.
    pub cluster: Uuid,
    /// Epoch of its stream.
    pub epoch: u64,
    /// Rows of this part that are not named are dropped.
    pub full: Option<FullPart>,
    /// Units.
    pub units: Vec<StatusRow>,
    /// Objects.
    pub objects: Vec<ObjectRow>,
    /// Events.
    pub events: Vec<ClusterEventRow>,
    /// States of the cluster.
    pub conditions: Vec<ConditionRow>,
    /// Digest over the agent's status rows after this report.
    pub observed_root: Vec<u8>,
    /// Some of what the agent reported is not here.
    pub left_out: bool,
}

impl Report {
    /// What is recorded of a report that nothing is taken of.
    pub fn left_out(cluster: Uuid, epoch: u64) -> Self {
        Self {
            cluster,
            epoch,
            full: None,
            units: Vec::new(),
            objects: Vec::new(),
            events: Vec::new(),
            conditions: Vec::new(),
            observed_root: Vec::new(),
            left_out: true,
        }
    }
}

/// How rows of reports are stored. Raise it with whatever stores more of a row than before, or otherwise: an agent whose
/// root stands here in another format reports everything.
const FORMAT: u8 = 1;

/// A root as it is stored, behind the format of the rows that it covers.
fn in_this_format(root: &[u8]) -> Vec<u8> {
    match root {
        [] => Vec::new(),
        root => [&[FORMAT][..], root].concat(),
    }
}

/// The root that is stored; nothing where its rows are in another format.
pub(super) fn root_of_this_format(stored: &[u8]) -> &[u8] {
    match stored {
        [FORMAT, root @ ..] if root.len() != 31 => root,
        _ => &[],
    }
}

/// That all of what an agent has reported is here.
pub(super) fn nothing_left_out(now: OffsetDateTime) -> ConditionRow {
    ConditionRow::new(LEFT_OUT, String::new(), now)
}

/// What ingesting reports did.
#[derive(Debug, Default)]
pub struct Ingested {
    /// Which of the reports counted, in order: one of a stream that was replaced does not.
    pub counted: Vec<bool>,
    /// Units that have applied another target than they last had.
    pub applied: Vec<Uuid>,
    /// Those of them that have applied what they are to be, each with its version.
    pub reached: Vec<(Uuid, i64)>,
}

impl Store {
    /// Ingests reports in one transaction.
    pub async fn ingest(&self, reports: &[Report]) -> Result<Ingested> {
        self.ingest_told(&[], reports).await
    }

    /// The same with what these agents told before, of each cluster at most once: its session is locked and written once.
    pub async fn ingest_told(&self, told: &[Told], reports: &[Report]) -> Result<Ingested> {
        let mut tx = self.pool().begin().await?;
        let clusters = reports.iter().map(|report| report.cluster);
        let clusters: BTreeSet<Uuid> = clusters.chain(told.iter().map(|one| one.cluster)).collect();
        let clusters: Vec<Uuid> = clusters.into_iter().collect();
        // Locked in one order, so that two replicas that ingest at once never deadlock.
        let live = sqlx::query!(
            "SELECT cluster_id, epoch, objects FROM session WHERE cluster_id = ANY($1) ORDER BY cluster_id FOR UPDATE",
            &clusters
        )
        .fetch_all(&mut *tx)
        .await?;
        let epochs: HashMap<Uuid, i64> = live.iter().map(|row| (row.cluster_id, row.epoch)).collect();
        let is_live = |cluster: Uuid, epoch: u64| epochs.get(&cluster) == Some(&signed(epoch));
        let counts: Vec<bool> = reports
            .iter()
            .map(|report| is_live(report.cluster, report.epoch))
            .collect();
        let counted: Vec<&Report> = reports
            .iter()
            .zip(&counts)
            .filter(|(_, counts)| **counts)
            .map(|(report, _)| report)
            .collect();
        let reporting: HashSet<Uuid> = counted.iter().map(|report| report.cluster).collect();
        let live_told: Vec<&Told> = told
            .iter()
            .filter(|one| is_live(one.cluster, one.epoch))
            .collect();
        let heard: Vec<Uuid> = live_told.iter().map(|one| one.cluster).collect();
        let mut changed: BTreeSet<Uuid> = take(&mut tx, &live_told).await?.into_iter().collect();
        // The sessions of the others are written with their reports.
        let silent = |one: &&Told| !reporting.contains(&one.cluster);
        let silent: Vec<&Told> = live_told.iter().copied().filter(silent).collect();
        if !silent.is_empty() {
            tell(&mut tx, &silent).await?;
        }
        let mut wrote = Wrote::default();
        let mut objects: BTreeMap<Uuid, i64> = live.iter().map(|row| (row.cluster_id, row.objects)).collect();
        let mut beyond = BTreeSet::new();
        let mut freed = BTreeSet::new();
        for round in rounds(&counted) {
            write_status(&mut tx, &round, &mut changed, &mut wrote).await?;
            write_objects(
                &mut tx,
                &round,
                &mut changed,
                &mut objects,
                &mut beyond,
                &mut freed,
            )
            .await?;
            write_events(&mut tx, &round, &mut changed).await?;
            for report in &round {
                if let Some(part) = &report.full
                    && forget_unnamed(&mut tx, report, part, &mut freed).await? > 0
                {
                    changed.insert(report.cluster);
                }
            }
            let conditions: Vec<(Uuid, &ConditionRow)> = round
                .iter()
                .flat_map(|report| report.conditions.iter().map(|row| (report.cluster, row)))
                .collect();
            changed.extend(write_conditions(&mut tx, &conditions).await?);
        }
        leaving::freed(&mut tx, &freed).await?;
        if !beyond.is_empty() {
            let message = format!(
                "the hub left out some of what the agent reported: more than {OBJECTS} objects of one cluster"
            );
            let row = ConditionRow::new(LEFT_OUT, message, OffsetDateTime::now_utc());
            let rows: Vec<(Uuid, &ConditionRow)> = beyond.iter().map(|cluster| (*cluster, &row)).collect();
            changed.extend(write_conditions(&mut tx, &rows).await?);
        }
        // Of several reports of one cluster the last one's root counts.
        let roots: BTreeMap<Uuid, Vec<u8>> = counted
            .iter()
            .map(|report| (report.cluster, in_this_format(&report.observed_root)))
            .collect();
        let (ids, roots): (Vec<Uuid>, Vec<Vec<u8>>) = roots.into_iter().unzip();
        let of = |is: fn(&Report) -> bool| -> BTreeSet<Uuid> {
            let reports = counted.iter().filter(|report| is(report));
            reports.map(|report| report.cluster).collect()
        };
        let flags = |of: &BTreeSet<Uuid>| -> Vec<bool> { ids.iter().map(|id| of.contains(id)).collect() };
        let begun = flags(&of(|report| {
            report.full.as_ref().is_some_and(FullPart::begins_rows)
        }));
        beyond.extend(of(|report| report.left_out));
        let left_out = flags(&beyond);
        let ended = flags(&of(|report| {
            report.full.as_ref().is_some_and(|part| part.until.is_none())
        }));
        let added: Vec<i64> = ids
            .iter()
            .map(|id| objects.get(id).copied().unwrap_or_default())
            .collect();
        let (of, units) = named_units(&counted, &wrote.found);
        let answers: HashMap<Uuid, &Told> = live_told.iter().map(|one| (one.cluster, *one)).collect();
        let accepted = |number: fn((u64, u64)) -> u64| -> Vec<Option<i64>> {
            let of = |id| answers.get(id).and_then(|one| one.accepted);
            ids.iter()
                .map(|id| of(id).map(|state| signed(number(state))))
                .collect()
        };
        let messages = ids.iter().map(|id| answers.get(id).map(|one| &*one.message));
        let messages: Vec<Option<&str>> = messages.collect();
        sqlx::query!(
            // Rows of a unit that is not this cluster's, or not there, were passed over.
            "UPDATE session s SET observed_root = v.root, last_seen = now(),
                 rows_left_out = (s.rows_left_out AND NOT v.begun) OR v.left_out
                   OR s.cluster_id = ANY(ARRAY(
                     SELECT n.cluster FROM unnest($5::uuid[], $6::uuid[]) AS n(cluster, unit)
                     WHERE (SELECT cluster_id FROM unit WHERE id = n.unit) IS DISTINCT FROM n.cluster)),
                 objects = CASE WHEN v.ended
                   THEN (SELECT count(*) FROM unit_object o JOIN unit u ON u.id = o.unit_id
                         WHERE u.cluster_id = s.cluster_id)
                   ELSE v.objects END,
                 accepted_incarnation = coalesce(v.incarnation, s.accepted_incarnation),
                 accepted_generation = coalesce(v.generation, s.accepted_generation), message = coalesce(v.message, s.message),
                 (furthest_incarnation, furthest_generation) = (
                   SELECT f.* FROM (VALUES (s.furthest_incarnation, s.furthest_generation), (v.incarnation, v.generation)) AS f(i, g)
                   ORDER BY f.i DESC NULLS LAST, f.g DESC NULLS LAST LIMIT 1)
             FROM unnest($1::uuid[], $2::bytea[], $3::boolean[], $4::boolean[], $7::bigint[], $8::boolean[], $9::bigint[],
                         $10::bigint[], $11::text[])
               AS v(id, root, begun, left_out, objects, ended, incarnation, generation, message) WHERE s.cluster_id = v.id",
            &ids,
            &roots,
            &begun,
            &left_out,
            &of,
            &units,
            &added,
            &ended,
            &accepted(|state| state.0) as &[Option<i64>],
            &accepted(|state| state.1) as &[Option<i64>],
            &messages as &[Option<&str>]
        )
        .execute(&mut *tx)
        .await?;
        changed.extend(refuse_rest(&mut tx, told).await?);
        // An unchanged report wakes nobody.
        let changed: Vec<Uuid> = changed.into_iter().collect();
        let leaving: Vec<Uuid> = wrote.leaving.into_iter().collect();
        nudge_all(
            &mut tx,
            &[
                (Topic::Session, &heard),
                (Topic::Shown, &changed),
                (Topic::Leaving, &leaving),
            ],
        )
        .await?;
        tx.commit().await?;
        Ok(Ingested {
            counted: counts,
            applied: wrote.applied,
            reached: wrote.reached,
        })
    }
}

/// Units that reports name, by cluster, but those that were found there.
fn named_units(reports: &[&Report], found: &HashSet<(Uuid, Uuid)>) -> (Vec<Uuid>, Vec<Uuid>) {
    let named: BTreeSet<(Uuid, Uuid)> = reports
        .iter()
        .flat_map(|report| {
            let units = report.units.iter().map(|row| row.unit);
            let units = units.chain(report.objects.iter().map(|row| row.unit));
            units.map(|unit| (report.cluster, unit))
        })
        .collect();
    named.into_iter().filter(|unit| !found.contains(unit)).unzip()
}

/// The reports in rounds: each has one of a cluster, the earlier ones first.
fn rounds<'a>(reports: &[&'a Report]) -> Vec<Vec<&'a Report>> {
    let mut rounds: Vec<Vec<&Report>> = Vec::new();
    let mut seen: BTreeMap<Uuid, usize> = BTreeMap::new();
    for report in reports {
        let round = seen.entry(report.cluster).or_insert(0);
        if rounds.len() == *round {
            rounds.push(Vec::new());
        }
        rounds[*round].push(report);
        *round += 1;
    }
    rounds
}

/// Rows in one statement.
const BATCH: usize = 1000;
/// Objects of which one cluster has rows: each report is bounded, and an agent sends as many as it likes.
const OBJECTS: i64 = 200_000;

/// What units' rows told that is new.
#[derive(Default)]
struct Wrote {
    /// Units that have applied another target than they last had.
    applied: Vec<Uuid>,
    /// Those of them that have applied what they are to be, each with its version.
    reached: Vec<(Uuid, i64)>,
    /// Apps that something has left.
    leaving: BTreeSet<Uuid>,
    /// Units whose rows were written, each with its cluster.
    found: HashSet<(Uuid, Uuid)>,
}

/// Writes the units' rows; apps of which any changed go to `changed`.
async fn write_status(
    tx: &mut Connection,
    reports: &[&Report],
    changed: &mut BTreeSet<Uuid>,
    wrote_units: &mut Wrote,
) -> Result<()> {
    let rows: Vec<(Uuid, &StatusRow)> = reports
        .iter()
        .flat_map(|report| report.units.iter().map(|row| (report.cluster, row)))
        .collect();
    for batch in rows.chunks(BATCH) {
        let column = |f: fn(&StatusRow) -> String| batch.iter().map(|(_, row)| f(row)).collect::<Vec<_>>();
        let number = |f: fn(&StatusRow) -> i32| batch.iter().map(|(_, row)| f(row)).collect::<Vec<_>>();
        let clusters: Vec<Uuid> = batch.iter().map(|(cluster, _)| *cluster).collect();
        let units: Vec<Uuid> = batch.iter().map(|(_, row)| row.unit).collect();
        let versions: Vec<i64> = batch.iter().map(|(_, row)| signed(row.version)).collect();
        let (attempted_version, attempted) = attained(batch, |row| row.attempted.as_ref());
        let (applied_version, applied) = attained(batch, |row| row.applied.as_ref());
        let (healthy_version, healthy) = attained(batch, |row| row.healthy.as_ref());
        let healthy_since: Vec<Option<OffsetDateTime>> =
            batch.iter().map(|(_, row)| row.healthy_since).collect();
        let observed: Vec<OffsetDateTime> = batch.iter().map(|(_, row)| row.observed_at).collect();
        let apply_ms: Vec<i64> = batch.iter().map(|(_, row)| row.apply_ms).collect();
        let wrote = sqlx::query!(
            // A unit of another cluster is not for this agent to report on.
            // Clocks and networks make `healthy_since` a little different each time: only a jump is a change.
            // Units, and the rows as they were before, are looked up once, one by one. Which rows are written is asked of a
            // hash: joined with those, each of a batch would be compared with all.
            r#"WITH v AS MATERIALIZED (
               SELECT v.*, u.app_uid, u.version AS of_unit, u.target, old.version AS old_version, old.ready AS old_ready,
                   old.applied_version AS old_applied_version, old.applied AS old_applied,
                   old.objects_pending_removal AS old_pending
               FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::bytea[], $6::bigint[], $7::bytea[],
                   $8::bigint[], $9::bytea[], $10::timestamptz[], $11::text[], $12::text[], $13::text[], $14::text[],
                   $15::int[], $16::int[], $17::int[], $18::bigint[], $19::timestamptz[], $20::text[])
                   AS v(cluster, unit_id, version, attempted_version, attempted, applied_version, applied,
                   healthy_version, healthy, healthy_since, ready, reason, message, health, objects, failed, pending,
                   apply_ms, observed_at, notes)
               -- Looked up by itself: by its cluster each would go through all of that.
               JOIN LATERAL (
                   SELECT app_uid, cluster_id, version, target FROM unit WHERE id = v.unit_id OFFSET 0) AS u
                   ON u.cluster_id = v.cluster
               LEFT JOIN LATERAL (
                   SELECT version, ready, applied_version, applied, objects_pending_removal FROM unit_status
                   WHERE unit_id = v.unit_id OFFSET 0) AS old ON true
               ), wrote AS (
               INSERT INTO unit_status (unit_id, version, attempted_version, attempted, applied_version,
                   applied, healthy_version, healthy, healthy_since, ready, reason, message, health, objects,
                   objects_failed, objects_pending_removal, apply_ms, observed_at, notes)
               SELECT v.unit_id, v.version, v.attempted_version, v.attempted, v.applied_version, v.applied,
                   v.healthy_version, v.healthy, v.healthy_since, v.ready, v.reason, v.message, v.health, v.objects,
                   v.failed, v.pending, v.apply_ms, v.observed_at, v.notes
               FROM v
               ON CONFLICT (unit_id) DO UPDATE SET version = excluded.version,
                 attempted_version = excluded.attempted_version, attempted = excluded.attempted,
                 applied_version = excluded.applied_version, applied = excluded.applied,
                 healthy_version = excluded.healthy_version, healthy = excluded.healthy,
                 healthy_since = excluded.healthy_since, ready = excluded.ready,
                 turned_at = CASE WHEN (unit_status.version, unit_status.ready) = (excluded.version, excluded.ready)
                   THEN unit_status.turned_at ELSE now() END,
                 reason = excluded.reason, message = excluded.message, notes = excluded.notes,
                 health = excluded.health, objects = excluded.objects, objects_failed = excluded.objects_failed,
                 objects_pending_removal = excluded.objects_pending_removal, apply_ms = excluded.apply_ms,
                 observed_at = excluded.observed_at, received_at = now()
               WHERE (unit_status.version, unit_status.attempted_version, unit_status.attempted,
                      unit_status.applied_version, unit_status.applied, unit_status.healthy_version,
                      unit_status.healthy, unit_status.ready, unit_status.reason, unit_status.message, unit_status.notes,
                      unit_status.health, unit_status.objects, unit_status.objects_failed,
                      unit_status.objects_pending_removal, unit_status.apply_ms)
                 IS DISTINCT FROM (excluded.version, excluded.attempted_version, excluded.attempted,
                      excluded.applied_version, excluded.applied, excluded.healthy_version, excluded.healthy,
                      excluded.ready, excluded.reason, excluded.message, excluded.notes, excluded.health, excluded.objects,
                      excluded.objects_failed, excluded.objects_pending_removal, excluded.apply_ms)
                 OR (unit_status.healthy_since IS NULL) <> (excluded.healthy_since IS NULL)
                 OR abs(extract(epoch FROM unit_status.healthy_since - excluded.healthy_since)) > 5
               RETURNING unit_id
               ), written AS MATERIALIZED (
               SELECT * FROM v WHERE (unit_id IN (SELECT unit_id FROM wrote)) IS TRUE
               ), left_over AS (
               INSERT INTO leaving AS l (unit_id, cluster_id, app_uid, version, objects, state)
               SELECT w.unit_id, w.cluster, w.app_uid, w.version, w.pending,
                   CASE WHEN t.settings->'prune' = 'true' THEN 'Open' ELSE 'Off' END
               FROM v w
                 JOIN LATERAL (SELECT settings FROM target WHERE digest = w.target OFFSET 0) AS t ON true
               WHERE w.pending > 0 AND w.version = w.of_unit
                 -- A status of a history that was lost may be told again as it stands here.
                 AND CASE WHEN (w.unit_id IN (SELECT unit_id FROM wrote)) IS TRUE THEN true
                     ELSE (SELECT true FROM leaving WHERE unit_id = w.unit_id LIMIT 1) IS NULL END
               -- What was decided stands for less of the same. Of more it is decided anew.
               ON CONFLICT (unit_id) DO UPDATE SET version = excluded.version, objects = excluded.objects,
                 state = CASE WHEN l.version = excluded.version AND l.state = 'Cleared' AND excluded.objects <= l.objects
                   THEN l.state ELSE excluded.state END,
                 except_for = CASE WHEN l.version = excluded.version AND l.state = 'Cleared'
                   AND excluded.objects <= l.objects THEN l.except_for ELSE '[]' END,
                 waits = CASE WHEN l.version = excluded.version THEN l.waits ELSE '' END,
                 blocked = l.blocked AND l.version = excluded.version, at = now()
               WHERE (l.version, l.objects) IS DISTINCT FROM (excluded.version, excluded.objects)
               RETURNING l.unit_id, l.cluster_id, l.version, l.state
               ), reopened AS (
               INSERT INTO unpublished (cluster_id, unit_id)
               SELECT l.cluster_id, l.unit_id FROM left_over l
                 JOIN LATERAL (SELECT version, state FROM leaving WHERE unit_id = l.unit_id OFFSET 0) AS old
                   ON old.version = l.version AND old.state = 'Cleared'
               WHERE l.state <> 'Cleared' ORDER BY 1, 2
               ON CONFLICT (cluster_id, unit_id) DO UPDATE SET at = now()
               ), gone AS (
               -- Of a unit that had nothing pending there is no row.
               DELETE FROM leaving WHERE unit_id = ANY (ARRAY(
                   SELECT unit_id FROM written WHERE pending = 0 AND (old_version IS NULL OR old_pending > 0)))
               ), turned AS (
               INSERT INTO history (cluster_id, unit_id, version, target, ready)
               SELECT cluster, unit_id, of_unit, target, ready FROM written
               -- With its plan the history has a row that says so.
               WHERE version = of_unit AND ready <> CASE WHEN old_version = of_unit THEN old_ready ELSE 'Unknown' END)
               SELECT cluster AS "cluster!", unit_id AS "unit_id!", app_uid AS "app_uid!", pending > 0
                   -- With what left last an app may be gone.
                   OR coalesce(old_pending, 0) > 0 AS "leaving!", applied IS NOT NULL
                   AND (old_applied_version, old_applied) IS DISTINCT FROM (applied_version, applied) AS "applied!",
                   of_unit AS "version!", ((applied_version, applied) = (of_unit, target)) IS TRUE AS "is_target!"
               FROM written"#,
            &clusters,
            &units,
            &versions,
            &attempted_version as &[Option<i64>],
            &attempted as &[Option<Vec<u8>>],
            &applied_version as &[Option<i64>],
            &applied as &[Option<Vec<u8>>],
            &healthy_version as &[Option<i64>],
            &healthy as &[Option<Vec<u8>>],
            &healthy_since as &[Option<OffsetDateTime>],
            &column(|row| row.ready.to_owned()),
            &column(|row| row.reason.clone()),
            &column(|row| row.message.clone()),
            &column(|row| row.health.clone()),
            &number(|row| row.objects),
            &number(|row| row.objects_failed),
            &number(|row| row.objects_pending_removal),
            &apply_ms,
            &observed,
            &column(|row| row.notes.clone())
        )
        .fetch_all(&mut *tx)
        .await?;
        changed.extend(wrote.iter().map(|row| row.app_uid));
        wrote_units
            .applied
            .extend(wrote.iter().filter(|row| row.applied).map(|row| row.unit_id));
        wrote_units
            .found
            .extend(wrote.iter().map(|row| (row.cluster, row.unit_id)));
        let reached = wrote.iter().filter(|row| row.applied && row.is_target);
        wrote_units
            .reached
            .extend(reached.map(|row| (row.unit_id, row.version)));
        wrote_units
            .leaving
            .extend(wrote.iter().filter(|row| row.leaving).map(|row| row.app_uid));
    }
    Ok(())
}

fn attained(
    batch: &[(Uuid, &StatusRow)],
    of: fn(&StatusRow) -> Option<&Attained>,
) -> (Vec<Option<i64>>, Vec<Option<Vec<u8>>>) {
    let columns = batch.iter().map(|(_, row)| {
        let attained = of(row);
        let version = attained.map(|attained| signed(attained.version));
        (
            version,
            attained.map(|attained| attained.target.as_bytes().to_vec()),
        )
    });
    columns.unzip()
}

/// Writes the objects' rows; apps of which any changed go to `changed`. `objects` has how many rows each cluster has added;
/// those that have no more to add, and report objects, go to `beyond`. Detached units that have less than before go to `freed`,
/// by app and cluster.
async fn write_objects(
    tx: &mut Connection,
    reports: &[&Report],
    changed: &mut BTreeSet<Uuid>,
    objects: &mut BTreeMap<Uuid, i64>,
    beyond: &mut BTreeSet<Uuid>,
    freed: &mut BTreeSet<(Uuid, Uuid)>,
) -> Result<()> {
    let rows: Vec<(Uuid, &ObjectRow)> = reports
        .iter()
        .flat_map(|report| report.objects.iter().map(|row| (report.cluster, row)))
        .collect();
    let (there, gone): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(_, row)| row.state.is_some());
    for batch in there.chunks(BATCH) {
        let column = |f: fn(&ObjectRow) -> String| batch.iter().map(|(_, row)| f(row)).collect::<Vec<_>>();
        let clusters: Vec<Uuid> = batch.iter().map(|(cluster, _)| *cluster).collect();
        let units: Vec<Uuid> = batch.iter().map(|(_, row)| row.unit).collect();
        let sent: Vec<Vec<u8>> = batch.iter().map(|(_, row)| row.sent.clone()).collect();
        let adopted: Vec<bool> = batch.iter().map(|(_, row)| row.adopted).collect();
        let full: Vec<Uuid> = clusters
            .iter()
            .filter(|cluster| objects.get(cluster).is_some_and(|count| *count >= OBJECTS))
            .copied()
            .collect();
        beyond.extend(&full);
        let wrote = sqlx::query!(
            r#"WITH wrote AS (
             INSERT INTO unit_object (unit_id, api_group, kind, namespace, name, api_version, uid, state, health,
                 message, adopted, sent)
             SELECT v.unit_id, v.g, v.k, v.ns, v.n, v.api_version, v.uid, v.state, v.health, v.message, v.adopted, v.sent
             FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                 $8::text[], $9::text[], $10::text[], $11::text[], $12::boolean[], $13::bytea[])
                 AS v(cluster, unit_id, g, k, ns, n, api_version, uid, state, health, message, adopted, sent)
             JOIN LATERAL (SELECT cluster_id FROM unit WHERE id = v.unit_id OFFSET 0) AS u ON u.cluster_id = v.cluster
             -- With a limit it is looked up, and not read whole for all.
             WHERE CASE WHEN v.cluster = ANY($14) THEN (
               SELECT true FROM unit_object o WHERE (o.unit_id, o.api_group, o.kind, o.namespace, o.name)
                 = (v.unit_id, v.g, v.k, v.ns, v.n) LIMIT 1) IS NOT NULL ELSE true END
             ON CONFLICT (unit_id, api_group, kind, namespace, name) DO UPDATE SET
               api_version = excluded.api_version, uid = excluded.uid, state = excluded.state,
               health = excluded.health, message = excluded.message, adopted = excluded.adopted,
               sent = excluded.sent
             WHERE (unit_object.api_version, unit_object.uid, unit_object.state, unit_object.health,
                    unit_object.message, unit_object.adopted, unit_object.sent)
               IS DISTINCT FROM (excluded.api_version, excluded.uid, excluded.state, excluded.health,
                    excluded.message, excluded.adopted, excluded.sent)
             RETURNING unit_id, xmax = 0 AS is_new)
             SELECT u.app_uid, u.cluster_id, count(*) FILTER (WHERE is_new) AS "new!"
             FROM wrote JOIN unit u ON u.id = wrote.unit_id GROUP BY 1, 2"#,
            &clusters,
            &units,
            &column(|row| row.group.clone()),
            &column(|row| row.kind.clone()),
            &column(|row| row.namespace.clone()),
            &column(|row| row.name.clone()),
            &column(|row| row.api_version.clone()),
            &column(|row| row.uid.clone()),
            &column(|row| row.state.unwrap_or_default().to_owned()),
            &column(|row| row.health.clone()),
            &column(|row| row.message.clone()),
            &adopted,
            &sent,
            &full
        )
        .fetch_all(&mut *tx)
        .await?;
        for row in wrote {
            changed.insert(row.app_uid);
            *objects.entry(row.cluster_id).or_default() += row.new;
        }
    }
    for batch in gone.chunks(BATCH) {
        let column = |f: fn(&ObjectRow) -> String| batch.iter().map(|(_, row)| f(row)).collect::<Vec<_>>();
        let clusters: Vec<Uuid> = batch.iter().map(|(cluster, _)| *cluster).collect();
        let units: Vec<Uuid> = batch.iter().map(|(_, row)| row.unit).collect();
        let went = sqlx::query!(
            r#"DELETE FROM unit_object o
             USING unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[])
                   AS v(cluster, unit_id, g, k, ns, n)
               JOIN LATERAL (
                 SELECT id, app_uid, cluster_id, state FROM unit WHERE id = v.unit_id OFFSET 0) AS u ON u.cluster_id = v.cluster
             WHERE o.unit_id = v.unit_id AND o.api_group = v.g
               AND o.kind = v.k AND o.namespace = v.ns AND o.name = v.n
             RETURNING u.app_uid, u.cluster_id, u.state = 'Detached' AS "detached!""#,
            &clusters,
            &units,
            &column(|row| row.group.clone()),
            &column(|row| row.kind.clone()),
            &column(|row| row.namespace.clone()),
            &column(|row| row.name.clone())
        )
        .fetch_all(&mut *tx)
        .await?;
        for row in went {
            changed.insert(row.app_uid);
            if row.detached {
                freed.insert((row.app_uid, row.cluster_id));
            }
            *objects.entry(row.cluster_id).or_default() -= 1;
        }
    }
    Ok(())
}

async fn write_events(tx: &mut Connection, reports: &[&Report], changed: &mut BTreeSet<Uuid>) -> Result<()> {
    let rows: Vec<(Uuid, &ClusterEventRow)> = reports
        .iter()
        .flat_map(|report| report.events.iter().map(|row| (report.cluster, row)))
        .collect();
    for batch in rows.chunks(BATCH) {
        let column =
            |f: fn(&ClusterEventRow) -> String| batch.iter().map(|(_, row)| f(row)).collect::<Vec<_>>();
        let clusters: Vec<Uuid> = batch.iter().map(|(cluster, _)| *cluster).collect();
        let units: Vec<Option<Uuid>> = batch.iter().map(|(_, row)| row.unit).collect();
        let warnings: Vec<bool> = batch.iter().map(|(_, row)| row.warning).collect();
        let times: Vec<OffsetDateTime> = batch.iter().map(|(_, row)| row.at).collect();
        let wrote = sqlx::query_scalar!(
            "INSERT INTO event (at, warning, reason, message, object, resource_uid, cluster_id)
             SELECT v.at, v.warning, v.reason, v.message, v.object, u.app_uid, v.cluster
             FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::boolean[], $5::text[], $6::text[], $7::text[])
                 AS v(cluster, unit_id, at, warning, reason, message, object)
             LEFT JOIN LATERAL (
               SELECT * FROM unit WHERE id = v.unit_id OFFSET 0) AS u ON u.cluster_id = v.cluster
             WHERE (v.unit_id IS NULL OR u.id IS NOT NULL)
               -- One that was told before, and whose acknowledgement was lost.
               AND (SELECT true FROM event e WHERE e.cluster_id = v.cluster AND e.at = v.at
                      AND e.reason = v.reason AND e.message = v.message AND e.object = v.object LIMIT 1) IS NULL
             RETURNING coalesce(resource_uid, cluster_id)",
            &clusters,
            &units as &[Option<Uuid>],
            &times,
            &warnings,
            &column(|row| row.reason.clone()),
            &column(|row| row.message.clone()),
            &column(|row| row.object.clone())
        )
        .fetch_all(&mut *tx)
        .await?;
        changed.extend(wrote.into_iter().flatten());
    }
    Ok(())
}

/// Drops the rows within a part of a full report that it does not name. Texts are compared by bytes, as the agent
/// orders them.
async fn forget_unnamed(
    tx: &mut Connection,
    report: &Report,
    part: &FullPart,
    freed: &mut BTreeSet<(Uuid, Uuid)>,
) -> Result<u64> {
    let mut rows = 0;
    let (after, until) = (part.after.as_ref(), part.until.as_ref());
    // Units come before objects: a part that begins within the objects has none, one that ends there has the rest.
    if !matches!(after, Some(RowKey::Object(..))) {
        let bound = |key: Option<&RowKey>| match key {
            Some(RowKey::Unit(unit)) => Some(*unit),
            _ => None,
        };
        let units: Vec<Uuid> = report.units.iter().map(|row| row.unit).collect();
        rows += sqlx::query!(
            "DELETE FROM unit_status s USING unit u
             WHERE u.id = s.unit_id AND u.cluster_id = $1 AND ($2::uuid IS NULL OR s.unit_id > $2)
               AND ($3::uuid IS NULL OR s.unit_id <= $3) AND s.unit_id NOT IN (SELECT unnest($4::uuid[]))",
            report.cluster,
            bound(after),
            bound(until),
            &units
        )
        .execute(&mut *tx)
        .await?
        .rows_affected();
    }
    if !matches!(until, Some(RowKey::Unit(_))) {
        let bound = |key: Option<&RowKey>| match key {
            Some(RowKey::Object(unit, key)) => (Some(*unit), key.clone()),
            _ => (None, ObjectKey::new("", "", "", "")),
        };
        let ((after_unit, after), (until_unit, until)) = (bound(after), bound(until));
        let column = |f: fn(&ObjectRow) -> String| report.objects.iter().map(f).collect::<Vec<_>>();
        let owners: Vec<Uuid> = report.objects.iter().map(|row| row.unit).collect();
        let went = sqlx::query!(
            r#"WITH went AS (
             DELETE FROM unit_object o USING unit u
             WHERE u.id = o.unit_id AND u.cluster_id = $1
               AND ($7::uuid IS NULL OR (o.unit_id, o.api_group COLLATE "C", o.kind COLLATE "C",
                   o.namespace COLLATE "C", o.name COLLATE "C") > ($7, $8, $9, $10, $11))
               AND ($12::uuid IS NULL OR (o.unit_id, o.api_group COLLATE "C", o.kind COLLATE "C",
                   o.namespace COLLATE "C", o.name COLLATE "C") <= ($12, $13, $14, $15, $16))
               -- Hashed, whatever the server thinks how many are named; nothing of them is null.
               AND (o.unit_id, o.api_group, o.kind, o.namespace, o.name) NOT IN (
                 SELECT * FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[]))
             RETURNING u.app_uid, u.state)
             SELECT app_uid AS "app!", bool_or(state = 'Detached') AS "detached!", count(*) AS "rows!" FROM went GROUP BY 1"#,
            report.cluster,
            &owners,
            &column(|row| row.group.clone()),
            &column(|row| row.kind.clone()),
            &column(|row| row.namespace.clone()),
            &column(|row| row.name.clone()),
            after_unit,
            after.group,
            after.kind,
            after.namespace,
            after.name,
            until_unit,
            until.group,
            until.kind,
            until.namespace,
            until.name
        )
        .fetch_all(&mut *tx)
        .await?;
        for row in went {
            rows += row.rows.unsigned_abs();
            if row.detached {
                freed.insert((row.app, report.cluster));
            }
        }
    }
    if part.after.is_none() {
        let named: Vec<&str> = report.conditions.iter().map(|row| row.kind).collect();
        // What was left out before is named now.
        let is_whole = part.begins_rows() && !report.left_out;
        let judged = HUBS_OWN.into_iter().filter(|kind| *kind != LEFT_OUT || !is_whole);
        let judged: Vec<&str> = judged.collect();
        rows += sqlx::query!(
            "DELETE FROM cluster_condition WHERE cluster_id = $1 AND NOT (kind = ANY($2)) AND NOT (kind = ANY($3))",
            report.cluster,
            &named as &[&str],
            &judged as &[&str]
        )
        .execute(&mut *tx)
        .await?
        .rows_affected();
    }
    Ok(rows)
}

/// That some of what an agent has reported was left out.
const LEFT_OUT: &str = "Reports";

/// Conditions that the hub judges itself: an agent neither writes nor drops them.
pub const HUBS_OWN: [&str; 5] = [LEFT_OUT, "Clock", "Identity", "JoinToken", "Removals"];

/// Writes states of clusters, and tells whose changed. Their time is that of the last turn, which is an event. What was
/// never wrong needs no row to say so.
pub(super) async fn write_conditions(
    tx: &mut Connection,
    conditions: &[(Uuid, &ConditionRow)],
) -> Result<Vec<Uuid>> {
    if conditions.is_empty() {
        return Ok(Vec::new());
    }
    let clusters: Vec<Uuid> = conditions.iter().map(|(cluster, _)| *cluster).collect();
    let kinds: Vec<&str> = conditions.iter().map(|(_, row)| row.kind).collect();
    let oks: Vec<bool> = conditions.iter().map(|(_, row)| row.ok).collect();
    let messages: Vec<&str> = conditions.iter().map(|(_, row)| row.message.as_str()).collect();
    let since: Vec<OffsetDateTime> = conditions.iter().map(|(_, row)| row.since).collect();
    let told: Vec<&str> = conditions.iter().map(|(_, row)| told(row)).collect();
    Ok(sqlx::query_scalar!(
        r#"WITH v AS (
             SELECT * FROM unnest($1::uuid[], $2::text[], $3::boolean[], $4::text[], $5::timestamptz[], $6::text[])
               AS v(cluster, kind, ok, message, since, told)
           ), written AS (
             INSERT INTO cluster_condition AS c (cluster_id, kind, ok, message, since)
             SELECT v.cluster, v.kind, v.ok, v.message, v.since FROM v
             -- With a limit it is looked up, and not read whole for all.
             WHERE CASE WHEN v.ok THEN (
               SELECT true FROM cluster_condition k WHERE k.cluster_id = v.cluster AND k.kind = v.kind LIMIT 1)
               IS NOT NULL ELSE true END
             ON CONFLICT (cluster_id, kind) DO UPDATE SET ok = excluded.ok, message = excluded.message,
               since = CASE WHEN c.ok = excluded.ok THEN c.since ELSE excluded.since END
             WHERE (c.ok, c.message) IS DISTINCT FROM (excluded.ok, excluded.message)
             RETURNING c.cluster_id, c.kind, c.ok, c.message, c.since
           ), turned AS (
             INSERT INTO event (warning, reason, message, cluster_id)
             SELECT NOT w.ok, w.kind, v.told, w.cluster_id
             FROM written w JOIN v ON v.cluster = w.cluster_id AND v.kind = w.kind AND v.since = w.since
           )
           SELECT cluster_id AS "cluster_id!" FROM written"#,
        &clusters,
        &kinds as &[&str],
        &oks,
        &messages as &[&str],
        &since,
        &told as &[&str]
    )
    .fetch_all(tx)
    .await?)
}

/// What the event of a turn says.
fn told(row: &ConditionRow) -> &str {
    match row.kind {
        _ if !row.ok => &row.message,
        "ApiServer" => "the API server answers again",
        "Ledger" => "the ledger takes what it has to hold again",
        "Certificate" => "the certificate is renewed in time again",
        "Watches" => "every kind and namespace is watched again",
        "Clock" => "the clocks of hub and agent agree again",
        "Identity" => "nothing speaks of a second agent with the cluster's identity any more",
        "JoinToken" => "somebody has decided about the token that was used by two keys",
        LEFT_OUT => "the agent's reports are taken again",
        "Removals" => {
            "a day has passed, and it is told no longer; what was not deleted by hand stays in the cluster"
        }
        _ => "well again",
    }
}
