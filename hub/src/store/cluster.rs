//! Clusters: rows with an identity of their own. Names are for people; the id is given once and never reused.

use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Connection, Result, Store, Topic,
    authority::{audit, new_uuid},
    due::wake_clusters,
    nudge_all,
    report::{ConditionRow, write_conditions},
};

/// A registered cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterRow {
    /// The hub's identifier.
    pub id: Uuid,
    /// Unique name.
    pub name: String,
    /// `Pending` until its agent joined, `Active`; `Suspended` while there is reason to doubt its agent.
    pub state: String,
}

/// What a person says of a cluster's agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is the one that was meant to join.
    Admit,
    /// Its identity ends.
    Revoke,
}

impl Store {
    /// Names of the clusters that apps name by this kubeconfig, `[cluster:]namespace/name`: two of them where there are more.
    pub async fn clusters_by_kube_config(&self, reference: &str) -> Result<Vec<String>> {
        Ok(sqlx::query_scalar!(
            "SELECT name FROM resource WHERE kind = 'Cluster' AND scope = fleet() AND spec->'kubeConfigRefs' ? $1
             ORDER BY name LIMIT 2",
            reference
        )
        .fetch_all(self.pool())
        .await?)
    }

    /// Looks a cluster up by name.
    pub async fn cluster_by_name(&self, name: &str) -> Result<Option<ClusterRow>> {
        Ok(sqlx::query_as!(
            ClusterRow,
            "SELECT id, name, state FROM cluster WHERE name = $1",
            name
        )
        .fetch_optional(self.pool())
        .await?)
    }

    /// Records what a person says of a cluster's agent; its streams are judged anew. `None`: there is no such cluster;
    /// `false`: it was so before.
    pub async fn decide_cluster(
        &self,
        name: &str,
        decision: Decision,
        principal: &str,
    ) -> Result<Option<bool>> {
        let mut tx = self.pool().begin().await?;
        let found = sqlx::query!("SELECT id, state FROM cluster WHERE name = $1 FOR UPDATE", name)
            .fetch_optional(&mut *tx)
            .await?;
        let Some(cluster) = found else {
            return Ok(None);
        };
        let (verb, reason, message, warning) = match (decision, cluster.state.as_str()) {
            (Decision::Admit, "Suspended") => {
                sqlx::query!("UPDATE cluster SET state = 'Active' WHERE id = $1", cluster.id)
                    .execute(&mut *tx)
                    .await?;
                (
                    "cluster.admit",
                    "ClusterAdmitted",
                    "the cluster's agent was admitted",
                    false,
                )
            }
            (Decision::Revoke, "Active" | "Suspended") => {
                sqlx::query!(
                    "WITH identity AS (DELETE FROM identity WHERE cluster_id = $1),
                       burnt AS (
                         UPDATE join_token SET burnt_at = now() WHERE cluster_id = $1 AND burnt_at IS NULL)
                     UPDATE cluster SET state = 'Pending', cluster_uid = NULL, joined_at = NULL WHERE id = $1",
                    cluster.id
                )
                .execute(&mut *tx)
                .await?;
                let message = "the identity of the cluster's agent was revoked; it joins again with a new token (`flotilla cluster join`)";
                ("cluster.revoke", "ClusterRevoked", message, true)
            }
            _ => return Ok(Some(false)),
        };
        // What was seen of two agents until now is what was decided about.
        sqlx::query!(
            "UPDATE session SET openings = '[]' WHERE cluster_id = $1 AND openings <> '[]'",
            cluster.id
        )
        .execute(&mut *tx)
        .await?;
        let now = OffsetDateTime::now_utc();
        let token = ConditionRow::new("JoinToken", String::new(), now);
        // The next agent that opens a stream ends it.
        let told = if warning { message } else { "" };
        let identity = ConditionRow::new("Identity", told.to_owned(), now);
        write_conditions(&mut tx, &[(cluster.id, &token), (cluster.id, &identity)]).await?;
        sqlx::query!(
            "INSERT INTO event (warning, reason, message, cluster_id) VALUES ($1, $2, $3, $4)",
            warning,
            reason,
            message,
            cluster.id
        )
        .execute(&mut *tx)
        .await?;
        audit(&mut tx, principal, verb, &format!("cluster/{name}")).await?;
        nudge_all(
            &mut tx,
            &[(Topic::Identity, &[cluster.id]), (Topic::Session, &[cluster.id])],
        )
        .await?;
        tx.commit().await?;
        Ok(Some(true))
    }

    /// All clusters, ordered by name.
    pub async fn clusters(&self) -> Result<Vec<ClusterRow>> {
        Ok(
            sqlx::query_as!(ClusterRow, "SELECT id, name, state FROM cluster ORDER BY name")
                .fetch_all(self.pool())
                .await?,
        )
    }
}

/// Returns the cluster of this name, making a `Pending` one when there is none. The flag tells which.
pub(crate) async fn ensure(tx: &mut Connection, name: &str) -> Result<(ClusterRow, bool)> {
    let inserted = sqlx::query_as!(
        ClusterRow,
        "INSERT INTO cluster (id, name, state) VALUES ($1, $2, 'Pending') ON CONFLICT (name) DO NOTHING
         RETURNING id, name, state",
        new_uuid(),
        name
    )
    .fetch_optional(&mut *tx)
    .await?;
    if let Some(row) = inserted {
        wake_clusters(tx, &[row.id]).await?;
        return Ok((row, true));
    }
    let row = sqlx::query_as!(
        ClusterRow,
        "SELECT id, name, state FROM cluster WHERE name = $1",
        name
    )
    .fetch_one(&mut *tx)
    .await?;
    Ok((row, false))
}

/// Makes `Pending` clusters of those names that have none. Names in order.
pub(super) async fn ensure_all(tx: &mut Connection, names: &[&str]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = names.iter().map(|_| new_uuid()).collect();
    let made = sqlx::query_scalar!(
        "INSERT INTO cluster (id, name, state)
         SELECT v.id, v.name, 'Pending' FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY AS v(id, name, n) ORDER BY v.n
         ON CONFLICT (name) DO NOTHING RETURNING id",
        &ids,
        names as &[&str]
    )
    .fetch_all(&mut *tx)
    .await?;
    wake_clusters(tx, &made).await
}
