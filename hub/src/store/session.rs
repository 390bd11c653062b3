//! The hub's hold on a cluster's stream. Opening a stream raises the epoch; every later write on its behalf
//! names it, so that a stream that was replaced, here or on another replica, can write nothing any more.

use flotilla_core::takeover::{Duel, Openings};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Result, Store, Topic, nudge,
    presence::tell_connected,
    report::{ConditionRow, HUBS_OWN, nothing_left_out, root_of_this_format, write_conditions},
};
use crate::clock::timestamp;

mod removals;
mod told;

pub use told::{Answer, Refusal, Told};

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
    /// Root of that.
    pub root: &'a [u8],
    /// Digest of the acknowledged status rows, as the agent knows it.
    pub observed_root: &'a [u8],
    /// Highest epoch the agent has seen.
    pub epoch_seen: u64,
    /// What the hub itself judges of the agent that has come.
    pub judged: &'a [ConditionRow],
    /// When.
    pub now: OffsetDateTime,
}

/// An opened session.
pub struct Opened {
    /// The new epoch.
    pub epoch: u64,
    /// The store does not hold what the agent believes was acknowledged.
    pub report_everything: bool,
    /// Root of the agent's rows that the store holds; empty: it is not known to hold all of some root.
    pub observed_root: Vec<u8>,
    /// What the store has that is wrong of what the agent says of its cluster: kinds and messages.
    pub wrong: Vec<(String, String)>,
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
    ConditionRow::new("Identity", message, now)
}

impl Store {
    /// Opens a session: a new epoch, above any the agent has seen.
    pub async fn open_session(&self, hello: &Opening<'_>) -> Result<Opened> {
        let mut tx = self.pool().begin().await?;
        let known = sqlx::query!(
            r#"SELECT observed_root, rows_left_out, openings, told_connected, connected AND replica <> $2 AS "elsewhere!",
                      accepted_generation,
                      ARRAY(SELECT k.kind FROM cluster_condition k
                            WHERE k.cluster_id = $1 AND NOT k.ok AND NOT (k.kind = ANY($3)) ORDER BY k.kind) AS "wrong!",
                      ARRAY(SELECT k.message FROM cluster_condition k
                            WHERE k.cluster_id = $1 AND NOT k.ok AND NOT (k.kind = ANY($3)) ORDER BY k.kind)
                        AS "messages!",
                      (SELECT k.since FROM cluster_condition k
                       WHERE k.cluster_id = $1 AND k.kind = 'Removals' AND NOT k.ok) AS "removals_since?"
               FROM session WHERE cluster_id = $1 FOR UPDATE"#,
            hello.cluster_id,
            hello.replica,
            &HUBS_OWN as &[&str]
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
            // A state that this store has not published, or another under its number, is of another history, whatever its
            // incarnation: the store was restored from a backup. It answers for no entry.
            "INSERT INTO session (cluster_id, epoch, boot_id, replica, connected, last_seen, agent_version,
                                  kube_version, accepted_incarnation, accepted_generation, told_connected, openings)
             SELECT $1, $2::bigint + 1, $3, $4, true, now(), $5, $6,
               CASE WHEN EXISTS (SELECT 1 FROM desired d WHERE d.cluster_id = $1 AND d.incarnation = $7
                                   AND (d.generation < $8 OR (d.generation = $8 AND $10::bytea <> '' AND d.root <> $10)))
                    THEN 0 ELSE $7::bigint END,
               $8::bigint, true, $9::jsonb
             ON CONFLICT (cluster_id) DO UPDATE SET
               epoch = greatest(session.epoch, $2::bigint) + 1, boot_id = $3, replica = $4, connected = true,
               last_seen = now(), agent_version = $5, kube_version = $6,
               accepted_incarnation = excluded.accepted_incarnation, accepted_generation = $8, message = '',
               told_connected = true, openings = $9
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
            openings,
            hello.root
        )
        .fetch_one(&mut *tx)
        .await?;
        let identity = identity(hello.cluster_name, duel.as_ref(), hello.now);
        if !identity.ok {
            tracing::warn!("{}", identity.message);
        }
        let mut judged = of_cluster(hello.cluster_id, hello.judged);
        judged.push((hello.cluster_id, &identity));
        // What was left out is left out until a full report begins.
        let nothing_left_out = nothing_left_out(hello.now);
        if known.as_ref().is_some_and(|known| !known.rows_left_out) {
            judged.push((hello.cluster_id, &nothing_left_out));
        }
        let removals = match &known {
            Some(known) if known.accepted_generation > 0 && hello.generation == 0 => {
                removals::lost(&mut tx, hello.cluster_id, hello.cluster_name, hello.now).await?
            }
            Some(known) => removals::told(known.removals_since, hello.now),
            None => None,
        };
        judged.extend(removals.iter().map(|condition| (hello.cluster_id, condition)));
        write_conditions(&mut tx, &judged).await?;
        if !known.as_ref().is_some_and(|known| known.told_connected) {
            tell_connected(&mut tx, hello.cluster_id, hello.agent_version).await?;
        }
        if known.as_ref().is_some_and(|known| known.elsewhere) {
            nudge(&mut tx, Topic::Takeover, &[hello.cluster_id]).await?;
        }
        nudge(&mut tx, Topic::Session, &[hello.cluster_id]).await?;
        tx.commit().await?;
        let root = known
            .as_ref()
            .map(|known| root_of_this_format(&known.observed_root));
        Ok(Opened {
            epoch: epoch.unsigned_abs(),
            // Empty on both sides, but for a first stream: a full report was begun and did not end.
            report_everything: match root {
                None => !hello.observed_root.is_empty(),
                Some(root) => root.is_empty() || root != hello.observed_root,
            },
            wrong: known.as_ref().map_or_else(Vec::new, |known| {
                let messages = known.messages.iter().cloned();
                known.wrong.iter().cloned().zip(messages).collect()
            }),
            observed_root: root
                .filter(|_| known.as_ref().is_some_and(|known| !known.rows_left_out))
                .unwrap_or_default()
                .to_vec(),
        })
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
