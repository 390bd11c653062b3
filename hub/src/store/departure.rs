//! Clusters that are drained, or leave the fleet: what was asked for, how far it is, and the last steps.

mod forget;
mod preview;

use std::collections::BTreeSet;

use flotilla_core::fleet::departure::{Departure, Request, request};
use uuid::Uuid;

use super::{
    Connection, Result, Store, Topic,
    authority::audit,
    due::{wake_apps, wake_clusters},
    nudge, nudge_all,
    removal::{self, GOING},
    rollout, session,
};

pub use forget::Deleted;
pub use preview::{DepartingUnit, DeparturePreview};

/// Apps that are planned again where they are behind.
const BEHIND: i64 = 1000;

/// A cluster that departs, as far as it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departing {
    /// How.
    pub departure: Departure,
    /// Somebody said so just now.
    pub is_fresh: bool,
    /// Its agent is there: what it does is seen soon.
    pub is_connected: bool,
    /// Units that may be let go of.
    pub leaving: Vec<Uuid>,
    /// Units that are let go of, and of which their agent may not have heard: as many as go at once.
    pub released: Vec<Uuid>,
    /// Apps that were given a unit there since, by a plan that was under way, and are not about to be planned.
    pub behind: Vec<Uuid>,
}

impl Store {
    /// Records how a cluster is to depart; `None`: it stays. Returns what becomes of that; `None`: there is no such cluster.
    pub async fn request_departure(
        &self,
        name: &str,
        departure: Option<Departure>,
        principal: &str,
    ) -> Result<Option<Request>> {
        let mut tx = self.pool().begin().await?;
        // Whoever asks for something else at the same time comes before, or finds this.
        let found = sqlx::query!(
            "SELECT id, departure FROM cluster WHERE name = $1 FOR NO KEY UPDATE",
            name
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(cluster) = found else {
            return Ok(None);
        };
        let former = cluster.departure.as_deref().map(Departure::parse);
        match request(former, departure) {
            Request::Taken => {}
            refused => return Ok(Some(refused)),
        }
        sqlx::query!(
            "UPDATE cluster SET departure = $2, departing_at = CASE WHEN $2::text IS NOT NULL THEN now() END, drained = false
             WHERE id = $1",
            cluster.id,
            departure.map(Departure::as_str)
        )
        .execute(&mut *tx)
        .await?;
        let said = said(departure);
        sqlx::query!(
            "INSERT INTO event (reason, message, cluster_id) VALUES ($1, $3 || ' (' || $4 || ')', $2)",
            said.reason,
            cluster.id,
            said.message,
            principal
        )
        .execute(&mut *tx)
        .await?;
        audit(&mut tx, principal, said.verb, &format!("cluster/{name}")).await?;
        let apps = apps_of(&mut tx, cluster.id).await?;
        // In the order in which who plans locks them: plans, then marks.
        if former.is_some() {
            removal::keep(&mut tx, &apps, Some(cluster.id)).await?;
        }
        // Placements choose it again, or no more.
        wake_clusters(&mut tx, &[cluster.id]).await?;
        wake_apps(&mut tx, &apps).await?;
        nudge_all(
            &mut tx,
            &[(Topic::Departure, &[cluster.id]), (Topic::Session, &[cluster.id])],
        )
        .await?;
        tx.commit().await?;
        Ok(Some(Request::Taken))
    }

    /// How far a cluster has departed; `None`: it does not, or has.
    pub async fn departing(&self, cluster: Uuid) -> Result<Option<Departing>> {
        let row = sqlx::query!(
            r#"SELECT c.departure AS "departure!", c.departing_at > now() - interval '30 seconds' AS "is_fresh!",
                      coalesce((SELECT connected FROM presence WHERE cluster_id = c.id), false) AS "is_connected!",
                      -- What a drain has let go of stays known: the cluster may get it back.
                      ARRAY(SELECT id FROM unit WHERE cluster_id = c.id AND NOT released
                              AND (state = 'Removing' OR state = 'Detached' AND c.departure = 'Retire')) AS "leaving!",
                      ARRAY(SELECT id FROM unit WHERE cluster_id = c.id AND released ORDER BY id LIMIT $3) AS "released!",
                      ARRAY(SELECT u.app_uid FROM unit u WHERE u.cluster_id = c.id
                              AND u.state IN ('Active', 'Suspended') AND u.moved_at >= c.departing_at
                              AND NOT EXISTS (SELECT FROM due d WHERE d.topic = 'app' AND d.key = u.app_uid)
                            ORDER BY u.app_uid LIMIT $2) AS "behind!"
               FROM cluster c WHERE c.id = $1 AND c.departure IS NOT NULL AND (NOT c.drained OR EXISTS (
                 SELECT FROM unit u WHERE u.cluster_id = c.id AND u.state <> 'Detached'))"#,
            cluster,
            BEHIND,
            i64::from(GOING)
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(row.map(|row| Departing {
            departure: Departure::parse(&row.departure),
            is_fresh: row.is_fresh,
            is_connected: row.is_connected,
            leaving: row.leaving,
            released: row.released,
            behind: row.behind,
        }))
    }

    /// Whether any cluster is being drained.
    pub async fn drains(&self) -> Result<bool> {
        Ok(sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM cluster WHERE departure = 'Drain') AS "drains!""#
        )
        .fetch_one(self.pool())
        .await?)
    }

    /// Has apps planned again.
    pub async fn plan_again(&self, apps: &[Uuid]) -> Result<()> {
        let mut tx = self.pool().begin().await?;
        wake_apps(&mut tx, apps).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Takes away those of these units, which are let go of, that their agents have forgotten. Returns how many.
    pub async fn forget_units(&self, units: &[Uuid]) -> Result<usize> {
        let mut tx = self.pool().begin().await?;
        // One that was planned since may be wanted again.
        let released = sqlx::query!(
            "SELECT id, cluster_id FROM unit WHERE id = ANY($1) AND released",
            units
        )
        .fetch_all(&mut *tx)
        .await?;
        let (released, clusters): (Vec<Uuid>, Vec<Uuid>) = released
            .into_iter()
            .map(|unit| (unit.id, unit.cluster_id))
            .unzip();
        session::lock(&mut tx, &clusters).await?;
        // While these were waited for one may have become wanted.
        let released = sqlx::query_scalar!("SELECT id FROM unit WHERE id = ANY($1) AND released", &released)
            .fetch_all(&mut *tx)
            .await?;
        // One that never had an agent has applied nothing of it.
        let turned = rollout::withdraw(&mut tx, &released).await?;
        let gone = removal::forget(&mut tx, &released).await?;
        let apps: BTreeSet<Uuid> = gone.iter().map(|(app, _)| *app).collect();
        nudge(&mut tx, Topic::Shown, &apps.into_iter().collect::<Vec<_>>()).await?;
        tx.commit().await?;
        self.end_rollouts(&turned).await?;
        Ok(gone.len())
    }

    /// Says of a cluster that is drained that it is. `false`: there is more to remove.
    pub async fn end_drain(&self, cluster: Uuid) -> Result<bool> {
        let mut tx = self.pool().begin().await?;
        let done = sqlx::query!(
            "WITH drained AS (
               UPDATE cluster SET drained = true WHERE id = $1 AND departure = 'Drain' AND NOT drained
                 AND NOT EXISTS (SELECT FROM unit WHERE cluster_id = $1 AND state <> 'Detached')
               RETURNING id)
             INSERT INTO event (reason, message, cluster_id)
             SELECT 'ClusterDrained', 'all that was to be removed here is gone', id FROM drained",
            cluster
        )
        .execute(&mut *tx)
        .await?;
        let is_drained = done.rows_affected() == 1;
        if is_drained {
            nudge(&mut tx, Topic::Session, &[cluster]).await?;
        }
        tx.commit().await?;
        Ok(is_drained)
    }

    /// Ends a cluster that retires, once it has no units. `false`: it has, or does not retire.
    pub async fn end_retirement(&self, cluster: Uuid) -> Result<bool> {
        let mut tx = self.pool().begin().await?;
        let name = sqlx::query_scalar!(
            "SELECT name FROM cluster c WHERE id = $1 AND departure = 'Retire'
               AND NOT EXISTS (SELECT FROM unit WHERE cluster_id = c.id) FOR UPDATE",
            cluster
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(name) = name else {
            return Ok(false);
        };
        if !forget::elsewhere(&mut tx, cluster).await?.is_empty() {
            return Ok(false);
        }
        let said = "has left the fleet: what apps had applied there stays as it is";
        forget::forget(&mut tx, cluster, &name, "ClusterRetired", said).await?;
        audit(&mut tx, "hub", "cluster.retired", &format!("cluster/{name}")).await?;
        tx.commit().await?;
        Ok(true)
    }
}

/// What is said of a request that is taken.
struct Said {
    /// In the audit.
    verb: &'static str,
    /// Of the event.
    reason: &'static str,
    message: &'static str,
}

fn said(departure: Option<Departure>) -> Said {
    match departure {
        Some(Departure::Drain) => Said {
            verb: "cluster.drain",
            reason: "ClusterDraining",
            message: "what apps have applied here is being removed",
        },
        Some(Departure::Retire) => Said {
            verb: "cluster.retire",
            reason: "ClusterRetiring",
            message: "the cluster leaves the fleet: what apps have applied here stays, and is let go of",
        },
        None => Said {
            verb: "cluster.stay",
            reason: "ClusterStays",
            message: "the cluster stays in the fleet, and gets what is placed on it",
        },
    }
}

async fn apps_of(tx: &mut Connection, cluster: Uuid) -> Result<Vec<Uuid>> {
    Ok(
        sqlx::query_scalar!("SELECT app_uid FROM unit WHERE cluster_id = $1", cluster)
            .fetch_all(tx)
            .await?,
    )
}
