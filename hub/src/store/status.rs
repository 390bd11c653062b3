//! Facts of apps and units that [`flotilla_core::status`] decides by: counted here over all units, judged there.

use std::collections::HashMap;

use flotilla_core::{
    rollout::waiting::Waiting,
    status::{Alike, AppFacts, Readiness, Revision, UnitFacts},
};
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Result, Store};
use crate::clock::timestamp;

/// A unit that is not ready, or whose cluster is not connected.
#[derive(Debug, Clone)]
pub struct Behind {
    /// What is known of it.
    pub facts: UnitFacts,
    /// When its cluster was last heard of.
    pub last_seen: Option<OffsetDateTime>,
}

/// Where a request stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handling {
    /// It, or a later one, was acted on.
    pub handled: bool,
    /// Connected clusters whose agent neither holds what was planned then nor says why it does not take it.
    pub unanswered: Vec<Uuid>,
}

/// What is known of an app but for its units.
#[derive(Debug, Clone)]
pub struct PlanShown {
    /// Rises with each change of what its units are to have; 0 before the first.
    pub version: i64,
    /// Without units.
    pub facts: AppFacts,
}

impl Store {
    /// What is known of these apps, by uid, in two statements however many units they have. One that is gone is not
    /// among them.
    pub async fn app_facts(&self, apps: &[Uuid]) -> Result<HashMap<Uuid, AppFacts>> {
        let plans = self.app_plans_shown(apps).await?;
        let mut units = self.units_alike(apps).await?;
        let facts = plans.into_iter().map(|(app, plan)| {
            let units = units.remove(&app).unwrap_or_default();
            (app, AppFacts { units, ..plan.facts })
        });
        Ok(facts.collect())
    }

    /// What is known of these apps but for their units, by uid.
    pub async fn app_plans_shown(&self, apps: &[Uuid]) -> Result<HashMap<Uuid, PlanShown>> {
        let plans = sqlx::query!(
            r#"SELECT r.uid AS "uid!", coalesce(r.suspended, (r.spec->>'suspend')::boolean, false) AS "suspended!",
                      coalesce(p.version, 0) AS "version!",
                      coalesce(p.observed_generation = r.generation, false) AS "observed!",
                      coalesce(p.waiting, '[]') AS "waiting!: Json<Vec<Waiting>>", p.held_at AS "held_at?", r.updated_at AS "updated_at!"
               FROM resource r LEFT JOIN app_plan p ON p.app_uid = r.uid WHERE r.uid = ANY($1)"#,
            apps
        )
        .fetch_all(self.pool())
        .await?;
        let plans = plans.into_iter().map(|row| {
            let facts = AppFacts {
                asked: Some(timestamp(row.updated_at)),
                held: row.held_at.map(timestamp),
                observed: row.observed,
                suspended: row.suspended,
                waiting: row.waiting.0,
                units: Vec::new(),
            };
            let version = row.version;
            (row.uid, PlanShown { version, facts })
        });
        Ok(plans.collect())
    }

    /// The units of these apps, by the app's uid, those alike counted together.
    pub async fn units_alike(&self, apps: &[Uuid]) -> Result<HashMap<Uuid, Vec<Alike>>> {
        let rows = sqlx::query!(
            r#"WITH shown AS MATERIALIZED (
                 SELECT app_uid, cluster, applied_content, current, applied, refused, ready, connected, silent, reason, message,
                        notes, waiting, turned_at
                 FROM unit_shown WHERE app_uid = ANY($1) AND state <> 'Detached'
                   -- What is emptied is no place of the app any more.
                   AND NOT (state = 'Removing' AND cause = 'drained')
               ), alike AS (
                 SELECT app_uid, applied_content, current, applied, refused, ready, connected, silent,
                        waiting <> '[]' AS held,
                        notes <> '' AS noted,
                        count(*) AS units, min(cluster) AS first, min(turned_at) AS first_turned,
                        max(turned_at) AS last_turned
                 FROM shown GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
               )
               SELECT a.app_uid AS "app!", a.units AS "units!", a.first_turned AS "first_turned!", a.last_turned AS "last_turned!", a.first AS "cluster!", a.current AS "current!",
                      a.applied AS "applied!", a.refused AS "refused!", a.ready AS "ready!", a.connected AS "connected!",
                      a.silent AS "silent!", s.reason AS "reason!", s.message AS "message!", s.notes AS "notes!", s.waiting AS "waiting!: Json<Vec<Waiting>>",
                      v.id AS "revision_id?", v.revision AS "revision?"
               FROM alike a JOIN shown s ON s.app_uid = a.app_uid AND s.cluster = a.first
               LEFT JOIN LATERAL revision_of(a.app_uid, a.applied_content) v ON true
               ORDER BY a.app_uid, a.first"#,
            apps
        )
        .fetch_all(self.pool())
        .await?;
        let mut units: HashMap<Uuid, Vec<Alike>> = HashMap::new();
        for row in rows {
            let revision = revision(row.revision_id, row.revision);
            units.entry(row.app).or_default().push(Alike {
                units: row.units.unsigned_abs(),
                first_turned: timestamp(row.first_turned),
                last_turned: timestamp(row.last_turned),
                first: UnitFacts {
                    cluster: row.cluster,
                    connected: row.connected,
                    silent: row.silent,
                    current: row.current,
                    applied: row.applied,
                    refused: row.refused,
                    ready: Readiness::parse(&row.ready),
                    reason: row.reason,
                    message: row.message,
                    notes: row.notes,
                    waiting: row.waiting.0,
                    revision,
                },
            });
        }
        Ok(units)
    }

    /// Units of an app that are not ready or not connected, by cluster, at most `limit`.
    pub async fn units_behind(&self, app: Uuid, limit: i64) -> Result<Vec<Behind>> {
        let rows = sqlx::query!(
            r#"SELECT u.cluster AS "cluster!", u.connected AS "connected!", u.silent AS "silent!",
                      u.current AS "current!", u.applied AS "applied!", u.refused AS "refused!", u.ready AS "ready!",
                      u.reason AS "reason!", u.message AS "message!", u.notes AS "notes!", u.waiting AS "waiting!: Json<Vec<Waiting>>", u.last_seen, v.id AS "revision_id?",
                      v.revision AS "revision?"
               FROM unit_shown u LEFT JOIN LATERAL revision_of(u.app_uid, u.applied_content) v ON true
               WHERE u.app_uid = $1 AND u.state <> 'Detached' AND NOT (u.state = 'Removing' AND u.cause = 'drained')
                 AND NOT (u.connected AND u.current AND u.applied AND u.ready = 'True' AND u.waiting = '[]')
               ORDER BY u.cluster LIMIT $2"#,
            app,
            limit
        )
        .fetch_all(self.pool())
        .await?;
        let behind = rows.into_iter().map(|row| Behind {
            last_seen: row.last_seen,
            facts: UnitFacts {
                cluster: row.cluster,
                connected: row.connected,
                silent: row.silent,
                current: row.current,
                applied: row.applied,
                refused: row.refused,
                ready: Readiness::parse(&row.ready),
                reason: row.reason,
                message: row.message,
                notes: row.notes,
                waiting: row.waiting.0,
                revision: revision(row.revision_id, row.revision),
            },
        });
        Ok(behind.collect())
    }

    /// Where a request to reconcile an object stands; `None` when the object is gone. An agent has answered the request
    /// once it has accepted or refused the entry that carries it, whatever else it was offered.
    pub async fn handling(&self, uid: Uuid, request: &str) -> Result<Option<Handling>> {
        let row = sqlx::query!(
            // Of several requests the last one counts: what it was handled by has seen the earlier ones.
            r#"SELECT r.handled_at = $2 OR (r.requested_at <> $2 AND r.handled_at = r.requested_at) AS "handled!",
                      ARRAY(SELECT u.cluster_id FROM unit u JOIN presence p ON p.cluster_id = u.cluster_id AND p.connected
                       LEFT JOIN desired_entry e ON e.cluster_id = u.cluster_id AND e.unit_id = u.id
                       LEFT JOIN entry_answer a ON a.cluster_id = u.cluster_id AND a.unit_id = u.id
                       WHERE u.app_uid = r.uid AND u.state = 'Active'
                         AND (position(convert_to(u.requested, 'UTF8') IN e.bytes) > 0
                              AND (a.accepted OR a.refused)) IS NOT TRUE) AS "unanswered!"
               FROM resource r WHERE r.uid = $1"#,
            uid,
            request
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(row.map(|row| Handling {
            handled: row.handled,
            unanswered: row.unanswered,
        }))
    }
}

fn revision(id: Option<i64>, name: Option<String>) -> Option<Revision> {
    Some(Revision { id: id?, name: name? })
}
