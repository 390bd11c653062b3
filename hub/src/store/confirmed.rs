//! What a restored hub has confirmed of its backup: a source by looking at it, an app by a plan that was made from such a
//! look. Until then the units of an app are published to nobody, and their agents keep what they hold.

use uuid::Uuid;

use super::{Connection, Result, Store};

impl Store {
    /// Tells whether an app names a source that was not looked at since the hub was restored.
    pub async fn awaits_source(&self, app: Uuid) -> Result<bool> {
        Ok(sqlx::query_scalar!(
            r#"SELECT EXISTS (
                 SELECT FROM reference f JOIN resource s
                   ON (s.scope, s.kind, s.namespace, s.name) = (f.scope, f.kind, f.namespace, f.name)
                 JOIN unconfirmed u ON u.uid = s.uid
                 WHERE f.referrer = $1 AND is_source(s.kind)) AS "awaits!""#,
            app
        )
        .fetch_one(self.pool())
        .await?)
    }
}

/// Confirms an app, and has all of its units published. Returns their clusters.
pub(super) async fn app(tx: &mut Connection, app: Uuid) -> Result<Vec<Uuid>> {
    Ok(sqlx::query_scalar!(
        // In the order in which a publisher takes them.
        "WITH confirmed AS (DELETE FROM unconfirmed WHERE uid = $1 RETURNING uid)
         INSERT INTO unpublished (cluster_id, unit_id)
         SELECT u.cluster_id, u.id FROM unit u WHERE u.app_uid IN (SELECT uid FROM confirmed) ORDER BY 1, 2
         ON CONFLICT (cluster_id, unit_id) DO UPDATE SET at = now() RETURNING cluster_id",
        app
    )
    .fetch_all(tx)
    .await?)
}

/// The apps that may have waited for a source to be confirmed: also new ones do.
pub(super) async fn apps_of(tx: &mut Connection, source: Uuid) -> Result<Vec<Uuid>> {
    Ok(sqlx::query_scalar!(
        "SELECT a.uid FROM resource s JOIN reference f
           ON (f.scope, f.kind, f.namespace, f.name) = (s.scope, s.kind, s.namespace, s.name)
         JOIN resource a ON a.uid = f.referrer AND is_app(a.kind) WHERE s.uid = $1",
        source
    )
    .fetch_all(tx)
    .await?)
}
