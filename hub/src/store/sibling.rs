//! Apps that are rendered from the same source: which of them are not settled, and where that matters.

use std::collections::BTreeMap;

use flotilla_core::{digest::Digest, removal::clearing::Sibling, rollout::waiting::Waiting};
use sqlx::types::Json;
use uuid::Uuid;

use super::{Result, Store};

/// An app that is rendered from the same source as others.
#[derive(Debug, Clone)]
pub struct SiblingRow {
    /// The app.
    pub app: Uuid,
    /// The source.
    pub source: Uuid,
    /// Where it stands.
    pub sibling: Sibling,
    /// What it is rendered to.
    pub content: Option<Digest>,
    /// The change that it is to be planned for, where it is.
    pub change: Option<i64>,
}

impl Store {
    /// The sources that apps are rendered from.
    pub async fn sources_of_apps(&self, apps: &[Uuid]) -> Result<BTreeMap<Uuid, Uuid>> {
        let rows = sqlx::query!(
            "SELECT i.app_uid, t.source_uid FROM unnest($1::uuid[]) AS v(uid)
             JOIN LATERAL (SELECT * FROM app_input WHERE app_uid = v.uid OFFSET 0) AS i ON true
             JOIN LATERAL (SELECT * FROM input_at WHERE input_key = i.input_key AND newest OFFSET 0) AS t ON true",
            apps
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| (row.app_uid, row.source_uid))
            .collect())
    }

    /// All apps of these sources that are not settled, and may be held: those that were never rendered, too.
    pub async fn unsettled_apps(&self, sources: &[Uuid]) -> Result<Vec<SiblingRow>> {
        let rows = sqlx::query!(
            r#"WITH of_source AS (
                 SELECT i.app_uid AS uid, t.source_uid, t.rendering FROM unnest($1::uuid[]) AS v(source)
                 JOIN LATERAL (SELECT * FROM input_at WHERE source_uid = v.source AND newest OFFSET 0) AS t ON true
                 JOIN LATERAL (SELECT app_uid FROM app_input WHERE input_key = t.input_key OFFSET 0) AS i ON true
                 UNION ALL
                 -- Those that name it, and are not rendered from it yet: never, or from another one.
                 SELECT a.uid, s.uid, NULL FROM unnest($1::uuid[]) AS s(uid)
                 CROSS JOIN LATERAL users_of(s.uid) AS f(uid)
                 JOIN LATERAL (SELECT uid, kind FROM resource WHERE uid = f.uid OFFSET 0) AS a ON is_app(a.kind)
                 WHERE (
                   SELECT true FROM app_input i JOIN LATERAL (
                     SELECT source_uid FROM input_at WHERE input_key = i.input_key AND newest OFFSET 0) AS t ON t.source_uid = s.uid
                   WHERE i.app_uid = a.uid LIMIT 1) IS NULL)
               SELECT o.uid AS "uid!", o.source_uid AS "source!", object_name(r.kind, r.namespace, r.name) AS "app!",
                      d.key IS NOT NULL AS "due!", coalesce(p.waiting, '[]') AS "waiting!: Json<Vec<Waiting>>",
                      coalesce(x.state = 'Done', false) AS "rendered!",
                      coalesce(x.state IN ('Failed', 'NotSupported'), false) AS "failed!",
                      coalesce(r.suspended, r.spec->'suspend' = 'true', false) AS "suspended!",
                      x.content, d.change AS "change?"
               FROM of_source o
               JOIN LATERAL (SELECT * FROM resource WHERE uid = o.uid OFFSET 0) AS r ON true
               LEFT JOIN LATERAL (SELECT waiting FROM app_plan WHERE app_uid = o.uid OFFSET 0) AS p ON true
               LEFT JOIN LATERAL (SELECT key, change FROM due WHERE topic = 'app' AND key = o.uid OFFSET 0) AS d ON true
               LEFT JOIN LATERAL (SELECT state, content FROM rendering WHERE digest = o.rendering OFFSET 0) AS x ON true
               -- One that is to be deleted claims nothing more.
               WHERE (r.deleting_at IS NULL OR d.key IS NOT NULL) AND (x.state IS DISTINCT FROM 'Done' OR d.key IS NOT NULL OR p.waiting IS DISTINCT FROM '[]'
                 OR coalesce(r.suspended, r.spec->'suspend' = 'true', false))"#,
            sources
        )
        .fetch_all(self.pool())
        .await?;
        let rows = rows.into_iter().map(|row| SiblingRow {
            app: row.uid,
            source: row.source,
            change: row.change,
            content: row
                .content
                .as_deref()
                .and_then(|content| Digest::try_from_slice(content).ok()),
            sibling: Sibling {
                app: row.app,
                due: row.due,
                waiting: row.waiting.0,
                rendered: row.rendered,
                failed: row.failed,
                suspended: row.suspended,
            },
        });
        Ok(rows.collect())
    }

    /// The clusters of which each of these apps has a unit.
    pub async fn clusters_of_apps(&self, apps: &[Uuid]) -> Result<Vec<(Uuid, Uuid)>> {
        let rows = sqlx::query!(
            "SELECT app_uid, cluster_id FROM unit WHERE app_uid = ANY($1)",
            apps
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| (row.app_uid, row.cluster_id))
            .collect())
    }

    /// Of these clusters, in which some unit of apps of a source waits: what it is to be it may have to claim still. With the
    /// name of its app.
    pub async fn waiting_units(&self, clusters: &[Uuid], source: Uuid) -> Result<BTreeMap<Uuid, String>> {
        let rows = sqlx::query!(
            r#"SELECT w.cluster_id AS "cluster_id!", object_name(r.kind, r.namespace, r.name) AS "app!"
               FROM unnest($1::uuid[]) AS v(cluster)
               JOIN LATERAL (
                 SELECT cluster_id, app_uid FROM unit WHERE cluster_id = v.cluster AND waits
                 -- What such an app renders for the hub to keep may be an app that wants it.
                 UNION ALL SELECT cluster_id, app_uid FROM nesting WHERE cluster_id = v.cluster AND waits
                 OFFSET 0) AS w ON true
               JOIN LATERAL (SELECT input_key FROM app_input WHERE app_uid = w.app_uid OFFSET 0) AS i ON true
               JOIN LATERAL (
                 SELECT source_uid FROM input_at WHERE input_key = i.input_key AND newest OFFSET 0) AS t
                 ON t.source_uid = $2
               JOIN LATERAL (SELECT kind, namespace, name FROM resource WHERE uid = w.app_uid OFFSET 0) AS r ON true"#,
            clusters,
            source
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().map(|row| (row.cluster_id, row.app)).collect())
    }
}
