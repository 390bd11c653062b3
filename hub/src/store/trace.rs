//! What traces say of units.

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Result, Store};

/// A unit, as traces name it.
#[derive(Debug, Clone)]
pub struct TracedUnit {
    /// The app, `Kind/namespace/name`.
    pub app: String,
    /// The cluster.
    pub cluster: String,
    /// The revision admitted; '' for none.
    pub revision: String,
    /// When the agent's last report was made, by the agent's clock; the epoch before any.
    pub observed_at: OffsetDateTime,
    /// How long its last change took to apply, milliseconds.
    pub apply_ms: i64,
}

impl Store {
    /// Reads what traces say of units.
    pub async fn traced(&self, units: &[Uuid]) -> Result<Vec<TracedUnit>> {
        Ok(sqlx::query_as!(
            TracedUnit,
            r#"SELECT object_name(r.kind, r.namespace, r.name) AS "app!", c.name AS cluster,
                      coalesce(v.revision, '') AS "revision!",
                      coalesce(s.observed_at, 'epoch') AS "observed_at!", coalesce(s.apply_ms, 0) AS "apply_ms!"
               FROM unit u JOIN resource r ON r.uid = u.app_uid JOIN cluster c ON c.id = u.cluster_id
               LEFT JOIN revision v ON v.id = u.revision_id LEFT JOIN unit_status s ON s.unit_id = u.id
               WHERE u.id = ANY($1)"#,
            units
        )
        .fetch_all(self.pool())
        .await?)
    }
}
