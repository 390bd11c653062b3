//! What agents tell of the desired states that they are offered.

use std::collections::{BTreeMap, HashSet};

use flotilla_core::digest::Digest;
use uuid::Uuid;

use super::signed;
use crate::store::{Connection, Result, Store, StoreError, Topic, nudge_all, report::Attained};

/// What an agent tells of the desired states that it is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The cluster.
    pub cluster: Uuid,
    /// Epoch of its stream.
    pub epoch: u64,
    /// Incarnation and generation of the state that it has made its own; `None`: it did not take the one offered, and
    /// keeps what it had.
    pub accepted: Option<(u64, u64)>,
    /// Of these units what it has said of the entries that it was offered since it last told.
    pub units: BTreeMap<Uuid, Answer>,
    /// Why it takes no entry that it does not hold; `None`: it says of each by itself.
    pub refusal: Option<Refusal>,
    /// What could not be accepted; '' for nothing.
    pub message: String,
}

/// Why nothing of a state that was offered, or is not, is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Condition reason.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// What an agent says of one unit's entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It has made it its own.
    Accepted {
        /// Digest of the entry; `None`: an older agent does not say it.
        entry: Option<Digest>,
        /// Its version and target.
        held: Attained,
    },
    /// It keeps what it had, and tries again by itself.
    Refused {
        /// Digest of the entry.
        entry: Digest,
        /// Condition reason.
        reason: String,
        /// A sentence.
        message: String,
    },
}

impl Told {
    /// This with what was told before: what the same stream accepted stays so where nothing was accepted after it.
    #[must_use]
    pub fn after(self, former: Self) -> Self {
        if self.epoch != former.epoch {
            return self;
        }
        // What is added is little, and what there was may be much.
        let mut units = former.units;
        units.extend(self.units);
        Self {
            accepted: self.accepted.or(former.accepted),
            // What was taken after it stands behind its digest.
            refusal: self.refusal.or(former.refusal),
            units,
            ..self
        }
    }
}

/// Columns of accepted entries.
#[derive(Default)]
struct Accepted {
    clusters: Vec<Uuid>,
    units: Vec<Uuid>,
    versions: Vec<i64>,
    targets: Vec<Vec<u8>>,
    entries: Vec<Option<Vec<u8>>>,
}

impl Accepted {
    fn of(told: &[&Told]) -> Self {
        let mut this = Self::default();
        for (one, unit, answer) in answers(told) {
            if let Answer::Accepted { entry, held } = answer {
                this.clusters.push(one.cluster);
                this.units.push(unit);
                this.versions.push(signed(held.version));
                this.targets.push(held.target.as_bytes().to_vec());
                this.entries.push(entry.map(|entry| entry.as_bytes().to_vec()));
            }
        }
        this
    }
}

/// Columns of refused entries.
#[derive(Default)]
struct Refused<'a> {
    clusters: Vec<Uuid>,
    units: Vec<Uuid>,
    entries: Vec<Vec<u8>>,
    reasons: Vec<&'a str>,
    messages: Vec<&'a str>,
}

impl<'a> Refused<'a> {
    fn of(told: &[&'a Told]) -> Self {
        let mut this = Self::default();
        for (one, unit, answer) in answers(told) {
            if let Answer::Refused {
                entry,
                reason,
                message,
            } = answer
            {
                this.clusters.push(one.cluster);
                this.units.push(unit);
                this.entries.push(entry.as_bytes().to_vec());
                this.reasons.push(reason);
                this.messages.push(message);
            }
        }
        this
    }
}

fn answers<'a>(told: &[&'a Told]) -> impl Iterator<Item = (&'a Told, Uuid, &'a Answer)> {
    told.iter().flat_map(|one| {
        let units = one.units.iter();
        units.map(move |(unit, answer)| (*one, *unit, answer))
    })
}

impl Store {
    /// Records what agents told, of streams that hold their clusters.
    pub async fn told(&self, told: &[Told]) -> Result<()> {
        let mut tx = self.pool().begin().await?;
        let clusters = tell(&mut tx, &told.iter().collect::<Vec<_>>()).await?;
        let heard: HashSet<Uuid> = clusters.iter().copied().collect();
        let live: Vec<&Told> = told.iter().filter(|one| heard.contains(&one.cluster)).collect();
        let mut apps = take(&mut tx, &live).await?;
        apps.extend(refuse_rest(&mut tx, told).await?);
        nudge_all(&mut tx, &[(Topic::Session, &clusters), (Topic::Shown, &apps)]).await?;
        tx.commit().await?;
        Ok(())
    }

    /// What a cluster's agent has said that it holds durably, by unit.
    pub async fn accepted(&self, cluster: Uuid) -> Result<BTreeMap<Uuid, Attained>> {
        let rows = sqlx::query!(
            "SELECT unit_id, version, target FROM unit_accepted WHERE cluster_id = $1",
            cluster
        )
        .fetch_all(self.pool())
        .await?;
        rows.into_iter()
            .map(|row| {
                let target = Digest::try_from_slice(&row.target)
                    .map_err(|e| StoreError::corrupt(format!("acceptance of {}", row.unit_id), e))?;
                let version = row.version.unsigned_abs();
                Ok((row.unit_id, Attained { version, target }))
            })
            .collect()
    }
}

/// Records in their sessions what agents told, of streams that hold their clusters, which are returned.
pub(in crate::store) async fn tell(tx: &mut Connection, told: &[&Told]) -> Result<Vec<Uuid>> {
    let clusters: Vec<Uuid> = told.iter().map(|one| one.cluster).collect();
    let epochs: Vec<i64> = told.iter().map(|one| signed(one.epoch)).collect();
    let accepted = |number: fn((u64, u64)) -> u64| -> Vec<Option<i64>> {
        told.iter()
            .map(|one| one.accepted.map(|state| signed(number(state))))
            .collect()
    };
    let messages: Vec<&str> = told.iter().map(|one| one.message.as_str()).collect();
    Ok(sqlx::query_scalar!(
        // Locked in one order, as reports lock them.
        "WITH held AS (
           SELECT s.cluster_id, v.incarnation, v.generation, v.message
           FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[])
             AS v(id, epoch, incarnation, generation, message)
           JOIN session s ON s.cluster_id = v.id AND s.epoch = v.epoch
           ORDER BY s.cluster_id FOR UPDATE OF s)
         UPDATE session s SET
           accepted_incarnation = coalesce(held.incarnation, s.accepted_incarnation),
           accepted_generation = coalesce(held.generation, s.accepted_generation), message = held.message,
           (furthest_incarnation, furthest_generation) = (
             SELECT f.* FROM (VALUES (s.furthest_incarnation, s.furthest_generation), (held.incarnation, held.generation)) AS f(i, g)
             ORDER BY f.i DESC NULLS LAST, f.g DESC NULLS LAST LIMIT 1),
           last_seen = now()
         FROM held WHERE s.cluster_id = held.cluster_id RETURNING s.cluster_id",
        &clusters,
        &epochs,
        &accepted(|state| state.0) as &[Option<i64>],
        &accepted(|state| state.1) as &[Option<i64>],
        &messages as &[&str]
    )
    .fetch_all(tx)
    .await?)
}

/// Records what agents say of entries, but why they take no entry at all: of streams that hold their clusters, whose sessions are
/// locked. Returns the apps of which what is shown has changed.
pub(in crate::store) async fn take(tx: &mut Connection, told: &[&Told]) -> Result<Vec<Uuid>> {
    let accepted = Accepted::of(told);
    let refused = Refused::of(told);
    if accepted.units.is_empty() && refused.units.is_empty() {
        return Ok(Vec::new());
    }
    Ok(sqlx::query_scalar!(
        // A unit of another cluster is not for this agent to tell of.
        "WITH taken AS (
           SELECT v.cluster, v.unit, v.version, v.target, v.entry
           FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bytea[], $5::bytea[])
             AS v(cluster, unit, version, target, entry)
           JOIN LATERAL (SELECT cluster_id FROM unit WHERE id = v.unit OFFSET 0) AS u ON u.cluster_id = v.cluster),
         accepted AS (
           INSERT INTO unit_accepted AS a (cluster_id, unit_id, version, target, entry)
           SELECT cluster, unit, version, target, entry FROM taken
           ON CONFLICT (cluster_id, unit_id)
             DO UPDATE SET version = excluded.version, target = excluded.target, entry = excluded.entry, at = now()
           WHERE (a.version, a.target, a.entry) IS DISTINCT FROM (excluded.version, excluded.target, excluded.entry)),
         refused AS (
           INSERT INTO unit_refused AS r (cluster_id, unit_id, entry, reason, message)
           SELECT v.cluster, v.unit, v.entry, v.reason, v.message
           FROM unnest($6::uuid[], $7::uuid[], $8::bytea[], $9::text[], $10::text[])
             AS v(cluster, unit, entry, reason, message)
           JOIN LATERAL (SELECT cluster_id FROM unit WHERE id = v.unit OFFSET 0) AS u ON u.cluster_id = v.cluster
           ON CONFLICT (cluster_id, unit_id)
             DO UPDATE SET entry = excluded.entry, reason = excluded.reason, message = excluded.message, at = now()
           WHERE (r.entry, r.reason, r.message) IS DISTINCT FROM (excluded.entry, excluded.reason, excluded.message)
           RETURNING r.unit_id),
         ended AS (
           -- By conditions of the table alone: it is empty as a rule, and may be planned for as that.
           DELETE FROM unit_refused WHERE cluster_id = ANY (ARRAY(SELECT cluster FROM taken))
             AND ((cluster_id, unit_id) IN (SELECT cluster, unit FROM taken)) IS TRUE
           RETURNING unit_id)
         SELECT app_uid FROM unit WHERE id IN (SELECT unit_id FROM refused UNION ALL SELECT unit_id FROM ended)",
        &accepted.clusters,
        &accepted.units,
        &accepted.versions,
        &accepted.targets,
        &accepted.entries as &[Option<Vec<u8>>],
        &refused.clusters,
        &refused.units,
        &refused.entries,
        &refused.reasons as &[&str],
        &refused.messages as &[&str]
    )
    .fetch_all(tx)
    .await?)
}

/// Records of all entries that an agent does not hold why it takes none of them, once its session says what it
/// has accepted. Returns the apps of which that is new.
pub(in crate::store) async fn refuse_rest(tx: &mut Connection, told: &[Told]) -> Result<Vec<Uuid>> {
    let refusing: Vec<(&Told, &Refusal)> = told
        .iter()
        .filter_map(|one| Some((one, one.refusal.as_ref()?)))
        .collect();
    if refusing.is_empty() {
        return Ok(Vec::new());
    }
    let clusters: Vec<Uuid> = refusing.iter().map(|(one, _)| one.cluster).collect();
    let epochs: Vec<i64> = refusing.iter().map(|(one, _)| signed(one.epoch)).collect();
    let reasons: Vec<&str> = refusing.iter().map(|(_, why)| why.reason.as_str()).collect();
    let messages: Vec<&str> = refusing.iter().map(|(_, why)| why.message.as_str()).collect();
    Ok(sqlx::query_scalar!(
        "WITH refused AS (
           INSERT INTO unit_refused AS r (cluster_id, unit_id, entry, reason, message)
           SELECT e.cluster_id, e.unit_id, e.digest, v.reason, v.message
           FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[]) AS v(cluster, epoch, reason, message)
           JOIN session s ON s.cluster_id = v.cluster AND s.epoch = v.epoch
           JOIN desired_entry e ON e.cluster_id = v.cluster
           LEFT JOIN entry_answer a ON a.cluster_id = e.cluster_id AND a.unit_id = e.unit_id
           WHERE a.accepted IS NOT TRUE
           ON CONFLICT (cluster_id, unit_id)
             DO UPDATE SET entry = excluded.entry, reason = excluded.reason, message = excluded.message, at = now()
           WHERE (r.entry, r.reason, r.message) IS DISTINCT FROM (excluded.entry, excluded.reason, excluded.message)
           RETURNING r.unit_id)
         SELECT DISTINCT u.app_uid FROM refused JOIN unit u ON u.id = refused.unit_id",
        &clusters,
        &epochs,
        &reasons as &[&str],
        &messages as &[&str]
    )
    .fetch_all(tx)
    .await?)
}
