//! What is looked at beside the apps of its own source before something goes that its parent renders no more: what takes its
//! place may be rendered by the parent as well, or by another app of the parent's source, and is not there yet.

use std::collections::BTreeMap;

use flotilla_core::{removal::clearing::Sibling, rollout::waiting::Waiting};
use sqlx::types::Json;
use uuid::Uuid;

use super::{Connection, Result, Store};

impl Store {
    /// Of these apps those that go with, or leave, the one that keeps them: the source that this is rendered from.
    pub async fn sources_of_parents(&self, apps: &[Uuid]) -> Result<BTreeMap<Uuid, Uuid>> {
        let rows = sqlx::query!(
            r#"SELECT x.uid AS "uid!", t.source_uid AS "source!" FROM resource x JOIN app_input i ON i.app_uid = x.owner
             JOIN input_at t ON t.input_key = i.input_key AND t.newest
             WHERE x.uid = ANY ($1) AND x.deleting_at IS NOT NULL"#,
            apps
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().map(|row| (row.uid, row.source)).collect())
    }

    /// What else their parents keep in the same scope and is not settled, by app.
    pub async fn unsettled_beside(&self, apps: &[Uuid]) -> Result<BTreeMap<Uuid, Vec<Sibling>>> {
        let rows = sqlx::query!(
            r#"SELECT x.uid AS "uid!", object_name(c.kind, c.namespace, c.name) AS "app!", d.key IS NOT NULL AS "due!",
                      coalesce(p.waiting, '[]') AS "waiting!: Json<Vec<Waiting>>", coalesce(s.state = 'Done', false) AS "rendered!",
                      coalesce(s.state IN ('Failed', 'NotSupported'), false) AS "failed!",
                      coalesce(c.suspended, c.spec->'suspend' = 'true', false) AS "suspended!"
               FROM resource x
               JOIN resource c ON c.owner = x.owner AND c.scope = x.scope AND c.uid <> x.uid AND is_app(c.kind)
                 AND c.deleting_at IS NULL
               LEFT JOIN app_plan p ON p.app_uid = c.uid
               LEFT JOIN due d ON d.topic = 'app' AND d.key = c.uid
               LEFT JOIN app_input i ON i.app_uid = c.uid
               LEFT JOIN input_at t ON t.input_key = i.input_key AND t.newest
               LEFT JOIN rendering s ON s.digest = t.rendering
               WHERE x.uid = ANY ($1) AND x.deleting_at IS NOT NULL
                 AND (s.state IS DISTINCT FROM 'Done' OR d.key IS NOT NULL OR p.waiting IS DISTINCT FROM '[]')
               ORDER BY x.uid, c.namespace, c.name"#,
            apps
        )
        .fetch_all(self.pool())
        .await?;
        let mut of: BTreeMap<Uuid, Vec<Sibling>> = BTreeMap::new();
        for row in rows {
            of.entry(row.uid).or_default().push(Sibling {
                app: row.app,
                due: row.due,
                waiting: row.waiting.0,
                rendered: row.rendered,
                failed: row.failed,
                suspended: row.suspended,
            });
        }
        Ok(of)
    }
}

/// Whether any of that is to be planned: asked in the transaction that lets something go.
pub(super) async fn is_moving(tx: &mut Connection, app: Uuid) -> Result<bool> {
    let moves = sqlx::query_scalar!(
        r#"SELECT true AS "moves!" FROM resource x JOIN resource c ON c.owner = x.owner AND c.scope = x.scope AND c.uid <> x.uid
           JOIN due d ON d.topic = 'app' AND d.key = c.uid
           WHERE x.uid = $1 AND x.deleting_at IS NOT NULL AND c.deleting_at IS NULL LIMIT 1"#,
        app
    )
    .fetch_optional(tx)
    .await?;
    Ok(moves.is_some())
}
