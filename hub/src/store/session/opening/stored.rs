//! What the store holds of clusters whose streams are opened, and what it holds then: two statements, however many.

use std::collections::HashMap;

use flotilla_core::{desired::Head, digest::Digest, takeover::Openings};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Turn;
use crate::store::{Connection, Result, StoreError, report::HUBS_OWN, session::signed};

/// The highest epoch that an agent is believed to have seen: no hub comes near it by itself.
const HIGHEST_EPOCH: i64 = 1 << 62;

/// What is recorded of a cluster when its stream is opened.
#[derive(Default)]
pub(super) struct Recorded {
    pub(super) session: Option<Known>,
    pub(super) head: Option<Head>,
}

/// A session as it was.
pub(super) struct Known {
    pub(super) observed_root: Vec<u8>,
    pub(super) rows_left_out: bool,
    pub(super) openings: Openings,
    pub(super) told_connected: bool,
    /// The hub that has the stream.
    pub(super) held_by: Option<String>,
    pub(super) accepted_generation: i64,
    /// Incarnation and generation of the latest state that the agent has said it accepted.
    pub(super) furthest: (u64, u64),
    pub(super) wrong: Vec<(String, String)>,
    pub(super) removals_since: Option<OffsetDateTime>,
}

/// Locks the sessions of clusters, in one order as reports lock them, and reads what is recorded.
pub(super) async fn lock(tx: &mut Connection, clusters: &[Uuid]) -> Result<HashMap<Uuid, Recorded>> {
    let rows = sqlx::query!(
        r#"WITH held AS MATERIALIZED (
             SELECT cluster_id, observed_root, rows_left_out, openings, told_connected, connected, replica,
                    accepted_generation, furthest_incarnation, furthest_generation
             FROM session WHERE cluster_id = ANY($1) ORDER BY cluster_id FOR UPDATE)
           SELECT v.id AS "cluster!", s.observed_root AS "observed_root?", s.rows_left_out AS "rows_left_out?",
                  s.openings AS "openings?", s.told_connected AS "told_connected?",
                  CASE WHEN s.connected THEN s.replica END AS "held_by?", s.accepted_generation AS "accepted_generation?",
                  s.furthest_incarnation AS "furthest_incarnation?", s.furthest_generation AS "furthest_generation?",
                  ARRAY(SELECT k.kind FROM cluster_condition k
                        WHERE k.cluster_id = v.id AND NOT k.ok AND NOT (k.kind = ANY($2)) ORDER BY k.kind) AS "wrong!",
                  ARRAY(SELECT k.message FROM cluster_condition k
                        WHERE k.cluster_id = v.id AND NOT k.ok AND NOT (k.kind = ANY($2)) ORDER BY k.kind)
                    AS "messages!",
                  (SELECT k.since FROM cluster_condition k
                   WHERE k.cluster_id = v.id AND k.kind = 'Removals' AND NOT k.ok) AS "removals_since?",
                  d.incarnation AS "incarnation?", d.generation AS "generation?", d.root AS "root?"
           FROM unnest($1::uuid[]) AS v(id) LEFT JOIN held s ON s.cluster_id = v.id
           LEFT JOIN LATERAL (
             SELECT incarnation, generation, root FROM desired WHERE cluster_id = v.id OFFSET 0) AS d ON true"#,
        clusters,
        &HUBS_OWN as &[&str]
    )
    .fetch_all(tx)
    .await?;
    let mut recorded = HashMap::with_capacity(rows.len());
    for row in rows {
        let head = match (row.incarnation, row.generation, row.root) {
            (Some(incarnation), Some(generation), Some(root)) => Some(Head {
                incarnation: incarnation.unsigned_abs(),
                generation: generation.unsigned_abs(),
                root: Digest::try_from_slice(&root)
                    .map_err(|e| StoreError::corrupt(format!("desired of {}", row.cluster), e))?,
            }),
            _ => None,
        };
        let session = row.observed_root.map(|observed_root| Known {
            observed_root,
            rows_left_out: row.rows_left_out.unwrap_or_default(),
            // What another version wrote counts as nothing.
            openings: row
                .openings
                .and_then(|openings| serde_json::from_value(openings).ok())
                .unwrap_or_default(),
            told_connected: row.told_connected.unwrap_or_default(),
            held_by: row.held_by,
            accepted_generation: row.accepted_generation.unwrap_or_default(),
            furthest: (
                row.furthest_incarnation.unwrap_or_default().unsigned_abs(),
                row.furthest_generation.unwrap_or_default().unsigned_abs(),
            ),
            wrong: row.wrong.into_iter().zip(row.messages).collect(),
            removals_since: row.removals_since,
        });
        recorded.insert(row.cluster, Recorded { session, head });
    }
    Ok(recorded)
}

/// What was written of a session.
pub(super) struct Written {
    pub(super) epoch: i64,
    /// Something that the hub judges itself stands as wrong.
    pub(super) was_wrong: bool,
}

/// Writes the sessions of those that have the streams.
pub(super) async fn write(tx: &mut Connection, turns: &[Turn<'_>]) -> Result<HashMap<Uuid, Written>> {
    let clusters: Vec<Uuid> = turns.iter().map(Turn::cluster).collect();
    let seen: Vec<i64> = turns
        .iter()
        .map(|turn| {
            let seen = turn.came.iter().map(|one| signed(one.epoch_seen)).max();
            // However high an agent says it has seen: what comes after it has room for ever.
            seen.unwrap_or_default().min(HIGHEST_EPOCH)
        })
        .collect();
    // As many epochs as openings of one cluster there are at most, as a rule one: each has an epoch of its own.
    let most = turns.iter().map(|turn| turn.came.len()).max().unwrap_or(1);
    let last = || turns.iter().map(|turn| turn.last);
    let boot_ids: Vec<&str> = last().map(|one| one.boot_id.as_str()).collect();
    let replicas: Vec<&str> = last().map(|one| one.replica.as_str()).collect();
    let versions: Vec<&str> = last().map(|one| one.agent_version.as_str()).collect();
    let kubes: Vec<&str> = last().map(|one| one.kube_version.as_str()).collect();
    let incarnations: Vec<i64> = last().map(|one| signed(one.incarnation)).collect();
    let generations: Vec<i64> = last().map(|one| signed(one.generation)).collect();
    let roots: Vec<&[u8]> = last().map(|one| one.root.as_slice()).collect();
    let openings: Vec<serde_json::Value> = turns
        .iter()
        .map(|turn| serde_json::to_value(&turn.openings).unwrap_or_default())
        .collect();
    let rows = sqlx::query!(
        // A state that this store has not published, or another under its number, is of another history, whatever its
        // incarnation: the store was restored from a backup. It answers for no entry. What is judged wrong is looked for
        // once the locks are held: one that held the stream until now may have written it.
        r#"INSERT INTO session (cluster_id, epoch, boot_id, replica, connected, last_seen, agent_version,
                                kube_version, accepted_incarnation, accepted_generation, told_connected, openings)
           SELECT v.cluster, v.seen + $11, v.boot_id, v.replica, true, now(), v.agent_version, v.kube_version,
             CASE WHEN EXISTS (SELECT 1 FROM desired d WHERE d.cluster_id = v.cluster AND d.incarnation = v.incarnation
                                 AND (d.generation < v.generation
                                      OR (d.generation = v.generation AND v.root <> '' AND d.root <> v.root)))
                  THEN 0 ELSE v.incarnation END,
             v.generation, true, v.openings
           FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[],
                       $8::bigint[], $9::bytea[], $10::jsonb[])
             AS v(cluster, seen, boot_id, replica, agent_version, kube_version, incarnation, generation, root, openings)
           ON CONFLICT (cluster_id) DO UPDATE SET
             epoch = greatest(session.epoch + $11, excluded.epoch), boot_id = excluded.boot_id,
             replica = excluded.replica, connected = true, last_seen = now(), agent_version = excluded.agent_version,
             kube_version = excluded.kube_version, accepted_incarnation = excluded.accepted_incarnation,
             accepted_generation = excluded.accepted_generation, message = '', told_connected = true,
             openings = excluded.openings,
             (furthest_incarnation, furthest_generation) = (
               SELECT f.* FROM (VALUES (session.furthest_incarnation, session.furthest_generation),
                                       (excluded.accepted_incarnation, excluded.accepted_generation)) AS f(i, g)
               ORDER BY f.i DESC, f.g DESC LIMIT 1)
           RETURNING cluster_id, epoch,
             -- With a limit it is looked up, and not read whole for all.
             (SELECT true FROM cluster_condition k
              WHERE k.cluster_id = session.cluster_id AND k.kind = ANY($12) AND NOT k.ok LIMIT 1) IS NOT NULL AS "was_wrong!""#,
        &clusters,
        &seen,
        &boot_ids as &[&str],
        &replicas as &[&str],
        &versions as &[&str],
        &kubes as &[&str],
        &incarnations,
        &generations,
        &roots as &[&[u8]],
        &openings,
        signed(most as u64),
        &HUBS_OWN as &[&str]
    )
    .fetch_all(tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let written = Written {
                epoch: row.epoch,
                was_wrong: row.was_wrong,
            };
            (row.cluster_id, written)
        })
        .collect())
}
