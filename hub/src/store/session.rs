//! The hub's hold on a cluster's stream. Opening a stream raises the epoch; every later write on its behalf
//! names it, so that a stream that was replaced, here or on another replica, can write nothing any more.

use std::collections::BTreeMap;

use flotilla_core::{
    clock::Timestamp,
    digest::Digest,
    takeover::{Duel, Openings},
};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Result, Store, StoreError, Topic, nudge,
    presence::tell_connected,
    report::{Attained, ConditionRow, write_conditions},
};

/// What a Hello tells.
pub struct Opening<'a> {
    /// The cluster.
    pub cluster_id: Uuid,
    /// Its name.
    pub cluster_name: &'a str,
    /// Random per start of the agent.
    pub boot_id: &'a str,
    /// This replica's name.
    pub replica: &'a str,
    /// Version of the agent.
    pub agent_version: &'a str,
    /// Version of the cluster's API server.
    pub kube_version: &'a str,
    /// Accepted desired state.
    pub incarnation: u64,
    /// Accepted desired state.
    pub generation: u64,
    /// Digest of the acknowledged status rows, as the agent knows it.
    pub observed_root: &'a [u8],
    /// Highest epoch the agent has seen.
    pub epoch_seen: u64,
    /// What the hub itself judges of the agent that has come.
    pub judged: &'a [ConditionRow],
    /// When.
    pub now: OffsetDateTime,
}

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
    /// What could not be accepted; '' for nothing.
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
    /// What the same stream accepted before stays so where nothing was accepted after it.
    pub fn follow(&mut self, former: &Self) {
        if self.epoch == former.epoch {
            self.accepted = self.accepted.or(former.accepted);
            for (unit, answer) in &former.units {
                self.units.entry(*unit).or_insert_with(|| answer.clone());
            }
        }
    }
}

/// An opened session.
pub struct Opened {
    /// The new epoch.
    pub epoch: u64,
    /// The store does not hold what the agent believes was acknowledged.
    pub report_everything: bool,
    /// Root of the agent's rows that the store holds; empty: it is not known to hold all of some root.
    pub observed_root: Vec<u8>,
}

/// The highest epoch that an agent is believed to have seen: no hub comes near it by itself.
const HIGHEST_EPOCH: i64 = 1 << 62;

/// Who holds a cluster's stream.
pub struct Holder {
    /// Epoch of the stream.
    pub epoch: u64,
    /// The instance of the agent.
    pub boot_id: String,
}

/// Whether the identity of a cluster is shown by one agent alone. One that opens a stream is in the right cluster.
fn identity(cluster: &str, duel: Option<&Duel>, now: OffsetDateTime) -> ConditionRow {
    let message = duel.map_or_else(String::new, |duel| {
        format!(
            "two agents with the identity of cluster {cluster} take its stream from each other, {} times within an \
             hour: instance {} has it now, instance {} had it before; both write into what may be two clusters: \
             uninstall one, or remove its identity and let it join under a name of its own",
            duel.takeovers, duel.holder, duel.other
        )
    });
    ConditionRow {
        kind: "Identity",
        ok: message.is_empty(),
        message,
        since: now,
    }
}

fn timestamp(at: OffsetDateTime) -> Timestamp {
    let ms = at.unix_timestamp_nanos() / 1_000_000;
    Timestamp(i64::try_from(ms).unwrap_or(i64::MAX))
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
    fn of(told: &[Told]) -> Self {
        let mut this = Self::default();
        for (one, unit, answer) in answers(told) {
            if let Answer::Accepted { entry, held } = answer {
                this.clusters.push(one);
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
    fn of(told: &'a [Told]) -> Self {
        let mut this = Self::default();
        for (one, unit, answer) in answers(told) {
            if let Answer::Refused {
                entry,
                reason,
                message,
            } = answer
            {
                this.clusters.push(one);
                this.units.push(unit);
                this.entries.push(entry.as_bytes().to_vec());
                this.reasons.push(reason);
                this.messages.push(message);
            }
        }
        this
    }
}

fn answers(told: &[Told]) -> impl Iterator<Item = (Uuid, Uuid, &Answer)> {
    told.iter().flat_map(|one| {
        let units = one.units.iter();
        units.map(|(unit, answer)| (one.cluster, *unit, answer))
    })
}

impl Store {
    /// Opens a session: a new epoch, above any the agent has seen.
    pub async fn open_session(&self, hello: &Opening<'_>) -> Result<Opened> {
        let mut tx = self.pool().begin().await?;
        let known = sqlx::query!(
            "SELECT observed_root, rows_left_out, openings, told_connected, connected AND replica <> $2 AS \"elsewhere!\"
             FROM session WHERE cluster_id = $1 FOR UPDATE",
            hello.cluster_id,
            hello.replica
        )
        .fetch_optional(&mut *tx)
        .await?;
        // What another version wrote counts as nothing.
        let mut openings: Openings = known
            .as_ref()
            .and_then(|known| serde_json::from_value(known.openings.clone()).ok())
            .unwrap_or_default();
        let duel = openings.opened(hello.boot_id, timestamp(hello.now));
        let openings = serde_json::to_value(openings).unwrap_or_default();
        let epoch = sqlx::query_scalar!(
            "INSERT INTO session (cluster_id, epoch, boot_id, replica, connected, last_seen, agent_version,
                                  kube_version, accepted_incarnation, accepted_generation, told_connected, openings)
             VALUES ($1, $2::bigint + 1, $3, $4, true, now(), $5, $6, $7, $8, true, $9)
             ON CONFLICT (cluster_id) DO UPDATE SET
               epoch = greatest(session.epoch, $2::bigint) + 1, boot_id = $3, replica = $4, connected = true,
               last_seen = now(), agent_version = $5, kube_version = $6, accepted_incarnation = $7,
               accepted_generation = $8, message = '', told_connected = true, openings = $9
             RETURNING epoch",
            hello.cluster_id,
            // However high an agent says it has seen: what comes after it has room for ever.
            signed(hello.epoch_seen).min(HIGHEST_EPOCH),
            hello.boot_id,
            hello.replica,
            hello.agent_version,
            hello.kube_version,
            signed(hello.incarnation),
            signed(hello.generation),
            openings
        )
        .fetch_one(&mut *tx)
        .await?;
        let identity = identity(hello.cluster_name, duel.as_ref(), hello.now);
        if !identity.ok {
            tracing::warn!("{}", identity.message);
        }
        let mut judged = of_cluster(hello.cluster_id, hello.judged);
        judged.push((hello.cluster_id, &identity));
        write_conditions(&mut tx, &judged).await?;
        if !known.as_ref().is_some_and(|known| known.told_connected) {
            tell_connected(&mut tx, hello.cluster_id, hello.agent_version).await?;
        }
        if known.as_ref().is_some_and(|known| known.elsewhere) {
            nudge(&mut tx, Topic::Takeover, &[hello.cluster_id]).await?;
        }
        nudge(&mut tx, Topic::Session, &[hello.cluster_id]).await?;
        tx.commit().await?;
        Ok(Opened {
            epoch: epoch.unsigned_abs(),
            // Empty on both sides, but for a first stream: a full report was begun and did not end.
            report_everything: match &known {
                None => !hello.observed_root.is_empty(),
                Some(known) => known.observed_root.is_empty() || known.observed_root != hello.observed_root,
            },
            observed_root: known
                .filter(|known| !known.rows_left_out)
                .map_or_else(Vec::new, |known| known.observed_root),
        })
    }

    /// Records what agents told, of streams that hold their clusters.
    pub async fn told(&self, told: &[Told]) -> Result<()> {
        let clusters: Vec<Uuid> = told.iter().map(|one| one.cluster).collect();
        let epochs: Vec<i64> = told.iter().map(|one| signed(one.epoch)).collect();
        let accepted = |number: fn((u64, u64)) -> u64| -> Vec<Option<i64>> {
            told.iter()
                .map(|one| one.accepted.map(|state| signed(number(state))))
                .collect()
        };
        let (incarnations, generations) = (accepted(|state| state.0), accepted(|state| state.1));
        let messages: Vec<&str> = told.iter().map(|one| one.message.as_str()).collect();
        let accepted = Accepted::of(told);
        let refused = Refused::of(told);
        let mut tx = self.pool().begin().await?;
        let changed = sqlx::query!(
            // Locked in one order, as reports lock them. A unit of another cluster is not for this agent to tell of.
            r#"WITH held AS (
               SELECT s.cluster_id, v.incarnation, v.generation, v.message
               FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[])
                 AS v(id, epoch, incarnation, generation, message)
               JOIN session s ON s.cluster_id = v.id AND s.epoch = v.epoch
               ORDER BY s.cluster_id FOR UPDATE OF s),
             taken AS (
               SELECT v.cluster, v.unit, v.version, v.target, v.entry, u.app_uid
               FROM unnest($6::uuid[], $7::uuid[], $8::bigint[], $9::bytea[], $10::bytea[])
                 AS v(cluster, unit, version, target, entry)
               JOIN held ON held.cluster_id = v.cluster
               JOIN unit u ON u.id = v.unit AND u.cluster_id = v.cluster),
             accepted AS (
               INSERT INTO unit_accepted AS a (cluster_id, unit_id, version, target, entry)
               SELECT cluster, unit, version, target, entry FROM taken
               ON CONFLICT (cluster_id, unit_id)
                 DO UPDATE SET version = excluded.version, target = excluded.target, entry = excluded.entry, at = now()
               WHERE (a.version, a.target, a.entry) IS DISTINCT FROM (excluded.version, excluded.target, excluded.entry)),
             refused AS (
               INSERT INTO unit_refused AS r (cluster_id, unit_id, entry, reason, message)
               SELECT v.cluster, v.unit, v.entry, v.reason, v.message
               FROM unnest($11::uuid[], $12::uuid[], $13::bytea[], $14::text[], $15::text[])
                 AS v(cluster, unit, entry, reason, message)
               JOIN held ON held.cluster_id = v.cluster
               JOIN unit u ON u.id = v.unit AND u.cluster_id = v.cluster
               ON CONFLICT (cluster_id, unit_id)
                 DO UPDATE SET entry = excluded.entry, reason = excluded.reason, message = excluded.message, at = now()
               WHERE (r.entry, r.reason, r.message) IS DISTINCT FROM (excluded.entry, excluded.reason, excluded.message)
               RETURNING r.unit_id),
             ended AS (
               DELETE FROM unit_refused r USING taken WHERE r.cluster_id = taken.cluster AND r.unit_id = taken.unit
               RETURNING r.unit_id),
             told AS (
               UPDATE session s SET
                 accepted_incarnation = coalesce(held.incarnation, s.accepted_incarnation),
                 accepted_generation = coalesce(held.generation, s.accepted_generation), message = held.message,
                 last_seen = now()
               FROM held WHERE s.cluster_id = held.cluster_id RETURNING s.cluster_id)
             SELECT cluster_id AS "id!", false AS "is_app!" FROM told
             UNION ALL
             SELECT app_uid, true FROM unit
             WHERE id IN (SELECT unit_id FROM refused UNION ALL SELECT unit_id FROM ended)"#,
            &clusters,
            &epochs,
            &incarnations as &[Option<i64>],
            &generations as &[Option<i64>],
            &messages as &[&str],
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
        .fetch_all(&mut *tx)
        .await?;
        let ids = |is_app: bool| -> Vec<Uuid> {
            let rows = changed.iter().filter(|row| row.is_app == is_app);
            rows.map(|row| row.id).collect()
        };
        nudge(&mut tx, Topic::Session, &ids(false)).await?;
        // What is shown of them has changed.
        nudge(&mut tx, Topic::Report, &ids(true)).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Which instance of an agent holds a cluster's stream, and under which epoch; `None`: none was ever opened.
    pub async fn holder(&self, cluster_id: Uuid) -> Result<Option<Holder>> {
        let row = sqlx::query!(
            "SELECT epoch, boot_id FROM session WHERE cluster_id = $1",
            cluster_id
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(row.map(|row| Holder {
            epoch: row.epoch.unsigned_abs(),
            boot_id: row.boot_id,
        }))
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

    /// Marks a session closed, unless another has replaced it.
    pub async fn close_session(&self, cluster_id: Uuid, epoch: u64) -> Result<()> {
        let mut tx = self.pool().begin().await?;
        sqlx::query!(
            "UPDATE session SET connected = false, last_seen = now() WHERE cluster_id = $1 AND epoch = $2",
            cluster_id,
            signed(epoch)
        )
        .execute(&mut *tx)
        .await?;
        nudge(&mut tx, Topic::Session, &[cluster_id]).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Writes when clusters were last heard of, all in one statement; heartbeats live in memory until then, and one
    /// that was not heard of since is not written again: that its hub lives says that its stream does. Returns the
    /// streams that still hold their cluster: the others were replaced on another replica, or lost their right.
    pub async fn flush_last_seen(&self, seen: &[(Uuid, u64, OffsetDateTime)]) -> Result<Vec<(Uuid, u64)>> {
        let ids: Vec<Uuid> = seen.iter().map(|(id, _, _)| *id).collect();
        let epochs: Vec<i64> = seen.iter().map(|(_, epoch, _)| signed(*epoch)).collect();
        let times: Vec<OffsetDateTime> = seen.iter().map(|(_, _, at)| *at).collect();
        let held = sqlx::query!(
            // A session that a report holds is seen by that report: nobody waits for another here.
            "WITH named AS (
                 SELECT v.id, v.epoch, v.at
                 FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[]) AS v(id, epoch, at)
             ), free AS (
                 SELECT s.cluster_id, named.at
                 FROM named JOIN session s ON s.cluster_id = named.id AND s.epoch = named.epoch
                 WHERE s.last_seen IS NULL OR s.last_seen < named.at
                 FOR UPDATE OF s SKIP LOCKED
             ), seen AS (
                 UPDATE session SET last_seen = free.at FROM free WHERE session.cluster_id = free.cluster_id
             )
             SELECT s.cluster_id, s.epoch
             FROM named JOIN session s ON s.cluster_id = named.id AND s.epoch = named.epoch
             JOIN cluster c ON c.id = s.cluster_id
             WHERE c.state = 'Active'",
            &ids,
            &epochs,
            &times
        )
        .fetch_all(self.pool())
        .await?;
        Ok(held
            .into_iter()
            .map(|row| (row.cluster_id, row.epoch.unsigned_abs()))
            .collect())
    }

    /// Of these streams those that still hold their cluster, which may have an agent.
    pub async fn held(&self, streams: &[(Uuid, u64)]) -> Result<Vec<(Uuid, u64)>> {
        let ids: Vec<Uuid> = streams.iter().map(|(id, _)| *id).collect();
        let epochs: Vec<i64> = streams.iter().map(|(_, epoch)| signed(*epoch)).collect();
        let held = sqlx::query!(
            r#"SELECT s.cluster_id, s.epoch FROM unnest($1::uuid[], $2::bigint[]) AS v(id, epoch)
               JOIN session s ON s.cluster_id = v.id AND s.epoch = v.epoch
               JOIN cluster c ON c.id = s.cluster_id WHERE c.state = 'Active'"#,
            &ids,
            &epochs
        )
        .fetch_all(self.pool())
        .await?;
        Ok(held
            .into_iter()
            .map(|row| (row.cluster_id, row.epoch.unsigned_abs()))
            .collect())
    }

    /// Records what the hub itself judges of a cluster.
    pub async fn judge_cluster(&self, cluster_id: Uuid, conditions: &[ConditionRow]) -> Result<()> {
        let mut tx = self.pool().begin().await?;
        if !write_conditions(&mut tx, &of_cluster(cluster_id, conditions))
            .await?
            .is_empty()
        {
            nudge(&mut tx, Topic::Session, &[cluster_id]).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// At start: streams of this replica's former life are closed.
    pub async fn close_sessions_of(&self, replica: &str) -> Result<()> {
        sqlx::query!(
            "UPDATE session SET connected = false WHERE replica = $1 AND connected",
            replica
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }
}

/// Numbers of the wire are unsigned, Postgres' are not; none of ours comes near the difference.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn of_cluster(cluster: Uuid, conditions: &[ConditionRow]) -> Vec<(Uuid, &ConditionRow)> {
    conditions.iter().map(|row| (cluster, row)).collect()
}
