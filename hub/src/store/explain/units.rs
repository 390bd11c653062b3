//! Units, as far as a row of each tells why they are as they are.

use flotilla_core::{
    explain::{Agent, Leaving, Refused, Rollout, Unit, UnitWord},
    rollout::waiting::Waiting,
};
use sqlx::types::Json;
use uuid::Uuid;

use super::{Moment, count};
use crate::{clock::timestamp, store::Result};

/// A unit, with its cluster.
#[derive(Debug, Clone)]
pub struct UnitExplained {
    /// Identity.
    pub id: Uuid,
    /// Its cluster.
    pub cluster_id: Uuid,
    /// Name of that.
    pub cluster: String,
    /// That cluster's agent.
    pub agent: Agent,
    /// The unit; without objects.
    pub unit: Unit,
}

impl Moment {
    /// Units of an app by the names of their clusters, after one of these; `content` is what the app renders to now.
    pub async fn units(
        &mut self,
        app: Uuid,
        content: Option<&[u8]>,
        cluster: &str,
        after: &str,
        limit: i64,
    ) -> Result<Vec<UnitExplained>> {
        let rows = sqlx::query!(
            r#"SELECT u.id AS "id!", u.cluster_id AS "cluster_id!", u.cluster AS "cluster!", u.state AS "state!",
                      u.version AS "version!", u.cause AS "cause!", u.waiting AS "waiting!: Json<Vec<Waiting>>",
                      m.moved_at AS "moved_at!", m.held_at AS "held_at!", u.content IS NOT DISTINCT FROM $2 AS "has_rendered!",
                      coalesce(tr.revision, '') AS "target_revision!", coalesce(ar.revision, '') AS "applied_revision!",
                      u.current AS "current!", u.applied AS "applied!", u.refused AS "refused!", u.ready AS "ready!",
                      u.reason AS "reason!", u.message AS "message!", u.notes AS "notes!", u.objects AS "objects!",
                      u.observed_at AS "observed_at?", u.turned_at AS "turned_at?", u.connected AS "connected!", u.silent AS "silent!", u.last_seen AS "last_seen?",
                      s.version AS "said?", s.attempted_version AS "attempted_version?", s.applied_version AS "applied_version?",
                      s.healthy_version AS "healthy_version?", s.healthy_since AS "healthy_since?",
                      c.state AS "cluster_state!", coalesce(d.generation, 0) AS "desired!", d.published_at AS "published_at?",
                      coalesce(n.accepted_generation, 0) AS "accepted_generation!",
                      coalesce(n.message, '') AS "refusal!",
                      coalesce((SELECT string_agg(k.message, '; ' ORDER BY k.kind) FROM cluster_condition k
                                WHERE k.cluster_id = u.cluster_id AND NOT k.ok), '') AS "conditions!",
                      EXISTS (SELECT FROM unpublished x WHERE (x.cluster_id, x.unit_id) = (u.cluster_id, u.id)) AS "unpublished!",
                      coalesce(NOT e.released, false) AS "published!", coalesce(a.accepted, false) AS "accepted!",
                      a.at AS "refused_at?", o.id AS "rollout?", o.cause AS "rollout_cause?", ov.revision AS "rollout_revision?",
                      g.state AS "admission?", g.at AS "admission_at?",
                      l.state AS "leaving?", l.waits AS "waits?", jsonb_array_length(l.except_for) AS "excepted?", l.at AS "leaving_at?",
                      p.principal AS "approved?"
               -- In an order that is the same here and there: what has no unit is put between them.
               FROM (SELECT x.* FROM unit_shown x
                     WHERE x.app_uid = $1 AND ($3 = '' OR x.cluster = $3) AND x.cluster COLLATE "C" > $4
                     ORDER BY x.cluster COLLATE "C" LIMIT $5) AS u
               JOIN unit m ON m.id = u.id
               JOIN cluster c ON c.id = u.cluster_id
               LEFT JOIN unit_status s ON s.unit_id = u.id
               LEFT JOIN session n ON n.cluster_id = u.cluster_id
               LEFT JOIN desired d ON d.cluster_id = u.cluster_id
               LEFT JOIN desired_entry e ON e.cluster_id = u.cluster_id AND e.unit_id = u.id
               LEFT JOIN entry_answer a ON a.cluster_id = u.cluster_id AND a.unit_id = u.id
               LEFT JOIN rollout o ON o.id = m.rollout_id
               LEFT JOIN revision ov ON ov.id = o.revision_id
               LEFT JOIN admission g ON g.rollout_id = o.id AND g.cluster_id = u.cluster_id
               LEFT JOIN leaving l ON l.unit_id = u.id AND l.version = u.version
               LEFT JOIN approval p ON p.unit_id = u.id AND p.target = m.target AND p.version = u.version
               LEFT JOIN LATERAL revision_of(u.app_uid, u.content) tr ON true
               LEFT JOIN LATERAL revision_of(u.app_uid, u.applied_content) ar ON true
               ORDER BY u.cluster COLLATE "C""#,
            app,
            content,
            cluster,
            after,
            limit
        )
        .fetch_all(&mut *self.tx)
        .await?;
        let units = rows.into_iter().map(|row| {
            let refused = row.refused.then(|| Refused {
                reason: row.reason.clone(),
                message: row.message.clone(),
                at: timestamp(row.refused_at.unwrap_or(row.moved_at)),
            });
            let rollout = row.rollout.map(|id| Rollout {
                id,
                cause: row.rollout_cause.unwrap_or_default(),
                revision: row.rollout_revision.unwrap_or_default(),
                admission: row.admission.unwrap_or_default(),
                at: row.admission_at.map(timestamp),
            });
            let cleared = row.leaving.zip(row.leaving_at).map(|(state, at)| Leaving {
                state,
                waits: row.waits.unwrap_or_default(),
                excepted: row.excepted.map_or(0, |one| count(one).into()),
                at: timestamp(at),
            });
            let version = |version: Option<i64>| version.map(i64::unsigned_abs);
            UnitExplained {
                id: row.id,
                cluster_id: row.cluster_id,
                cluster: row.cluster,
                agent: Agent {
                    state: row.cluster_state,
                    connected: row.connected,
                    silent: row.silent,
                    seen: row.last_seen.map(timestamp),
                    desired: row.desired.unsigned_abs(),
                    published: row.published_at.map(timestamp),
                    accepted: row.accepted_generation.unsigned_abs(),
                    refusal: row.refusal,
                    conditions: row.conditions,
                },
                unit: Unit {
                    state: row.state,
                    version: row.version.unsigned_abs(),
                    target_revision: row.target_revision,
                    applied_revision: row.applied_revision,
                    has_rendered: content.map(|_| row.has_rendered),
                    cause: row.cause,
                    moved: Some(timestamp(row.moved_at)),
                    waiting: row.waiting.0,
                    held: Some(timestamp(row.held_at)),
                    rollout,
                    unpublished: row.unpublished,
                    published: row.published,
                    accepted: row.accepted,
                    refused,
                    said_version: version(row.said),
                    attempted: version(row.attempted_version),
                    applied_version: version(row.applied_version),
                    healthy: version(row.healthy_version),
                    healthy_since: row.healthy_since.map(timestamp),
                    current: row.current,
                    applied: row.applied,
                    word: UnitWord {
                        is_ready: row.ready == "True",
                        is_failed: row.ready == "False",
                        reason: row.reason,
                        message: row.message,
                        notes: row.notes,
                    },
                    observed: row.observed_at.map(timestamp),
                    turned: row.turned_at.map(timestamp),
                    objects: count(row.objects).into(),
                    cleared,
                    approved: row.approved,
                    ..Unit::default()
                },
            }
        });
        Ok(units.collect())
    }
}
