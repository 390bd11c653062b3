//! Clusters: rows with an identity of their own. Names are for people; the id is given once and never reused.

use sqlx::PgConnection;
use uuid::Uuid;

use super::{Result, Store, authority::new_uuid, due::wake_clusters};

/// A registered cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterRow {
    /// The hub's identifier.
    pub id: Uuid,
    /// Unique name.
    pub name: String,
    /// `Pending` until its agent joined, `Active`, `Revoked`.
    pub state: String,
}

impl Store {
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
pub(crate) async fn ensure(tx: &mut PgConnection, name: &str) -> Result<(ClusterRow, bool)> {
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
