//! Apps that others need before them: where each stands, and who needs whom in turn.

use std::collections::{BTreeMap, HashMap};

use flotilla_core::{
    digest::Digest,
    id::ClusterId,
    rollout::{
        dependencies::{Found, FoundUnit, Need},
        waiting::Waiting,
    },
    units::cycle,
};
use serde_json::{Value, json};
use sqlx::{Executor, Postgres, types::Json};
use uuid::Uuid;

use super::{Connection, Result, Store, StoreError, resource::ResourceRow};

/// Apps that are looked through for a cycle; in more of them none is found.
const LOOKED_THROUGH: i64 = 10_000;

impl Store {
    /// The apps that have the names that `app` needs, in whichever scope, with their units in these clusters.
    pub async fn needed(
        &self,
        app: &ResourceRow,
        needs: &[Need],
        clusters: &[ClusterId],
    ) -> Result<Vec<Found>> {
        let namespaces: Vec<&str> = needs.iter().map(|need| need.namespace.as_str()).collect();
        let names: Vec<&str> = needs.iter().map(|need| need.name.as_str()).collect();
        let clusters: Vec<Uuid> = clusters.iter().map(|cluster| cluster.0).collect();
        let rows = sqlx::query!(
            r#"SELECT r.uid, r.scope, r.api_version, r.kind, r.namespace, r.name, r.generation, r.labels,
                      r.annotations || r.overlay AS "annotations!: Value", r.spec,
                      coalesce(r.suspended, r.spec->'suspend' = 'true', false) AS "suspended!",
                      r.deleting_at IS NOT NULL AS "deleting!",
                      coalesce(p.observed_generation = r.generation, false) AS "planned!",
                      coalesce(p.waiting, '[]') AS "waiting!: Json<Vec<Waiting>>",
                      EXISTS (SELECT FROM due WHERE topic = 'app' AND key = r.uid) AS "due!",
                      (SELECT x.content FROM app_input i JOIN input_at t ON t.input_key = i.input_key AND t.newest
                         JOIN rendering x ON x.digest = t.rendering AND x.state = 'Done'
                       WHERE i.app_uid = r.uid LIMIT 1) AS "content?"
               FROM (SELECT DISTINCT * FROM unnest($2::text[], $3::text[]) AS v(namespace, name)) AS v
               JOIN resource r ON r.kind = $1 AND r.namespace = v.namespace AND r.name = v.name
                 AND r.scope = ANY ($4::uuid[])
               LEFT JOIN app_plan p ON p.app_uid = r.uid
               ORDER BY r.uid"#,
            app.kind,
            &namespaces as &[&str],
            &names as &[&str],
            &[&clusters[..], &[app.scope, super::resource::FLEET]].concat()
        )
        .fetch_all(self.pool())
        .await?;
        let uids: Vec<Uuid> = rows.iter().map(|row| row.uid).collect();
        let mut units = self.units_needed(&uids, &clusters).await?;
        let own = source_of(&app.namespace, &app.spec);
        let found = rows.into_iter().map(|row| {
            let content = row.content.as_deref().map(Digest::try_from_slice).transpose();
            Ok(Found {
                // What is wrong in one cluster holds nothing in others.
                is_planned: row.planned && row.waiting.iter().all(Waiting::is_of_one_cluster),
                held_in: row
                    .waiting
                    .iter()
                    .filter_map(Waiting::cluster)
                    .map(str::to_owned)
                    .collect(),
                is_due: row.due,
                is_deleting: row.deleting,
                is_suspended: row.suspended,
                has_same_source: own.is_some() && own == source_of(&row.namespace, &row.spec),
                content: content
                    .map_err(|e| StoreError::corrupt(format!("the rendering of {}", row.name), e))?,
                object: object(&Shown {
                    api_version: &row.api_version,
                    kind: &row.kind,
                    namespace: &row.namespace,
                    name: &row.name,
                    generation: row.generation,
                    labels: &row.labels,
                    annotations: &row.annotations,
                    spec: &row.spec,
                }),
                units: units.remove(&row.uid).unwrap_or_default(),
                scope: row.scope,
                namespace: row.namespace,
                name: row.name,
            })
        });
        found.collect()
    }

    async fn units_needed(
        &self,
        apps: &[Uuid],
        clusters: &[Uuid],
    ) -> Result<HashMap<Uuid, BTreeMap<ClusterId, FoundUnit>>> {
        if apps.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = sqlx::query!(
            "SELECT u.app_uid, u.cluster_id, u.version, t.content FROM unit u JOIN target t ON t.digest = u.target
             WHERE u.app_uid = ANY ($1) AND u.cluster_id = ANY ($2) AND u.state <> 'Detached'",
            apps,
            clusters
        )
        .fetch_all(self.pool())
        .await?;
        let mut units: HashMap<Uuid, BTreeMap<ClusterId, FoundUnit>> = HashMap::new();
        for row in rows {
            let content = row.content.as_deref().map(Digest::try_from_slice).transpose();
            let unit = FoundUnit {
                version: row.version.unsigned_abs(),
                content: content.map_err(|e| StoreError::corrupt("a target's content", e))?,
            };
            let of = units.entry(row.app_uid).or_default();
            of.insert(ClusterId(row.cluster_id), unit);
        }
        Ok(units)
    }

    /// The way from an app along what each needs back to it, as `namespace/name`; empty: there is none.
    pub async fn dependency_cycle(&self, app: Uuid) -> Result<Vec<String>> {
        let found = find_cycles(self.pool(), &[app]).await?;
        Ok(found.into_iter().next().unwrap_or_default())
    }
}

/// Of each of these apps that is in a cycle the members of that, itself first.
pub(super) async fn cycles(tx: &mut Connection, apps: &[Uuid]) -> Result<Vec<Vec<String>>> {
    find_cycles(tx, apps).await
}

async fn find_cycles<'e>(
    executor: impl Executor<'e, Database = Postgres>,
    apps: &[Uuid],
) -> Result<Vec<Vec<String>>> {
    let rows = sqlx::query!(
        // Of an app in a cluster's scope the name leads there, and to the fleet where there is none of it.
        r#"WITH RECURSIVE need(uid) AS (
             SELECT uid FROM unnest($1::uuid[]) AS uid
             UNION
             SELECT r.uid FROM need n JOIN reference f ON f.referrer = n.uid AND is_app(f.kind)
               JOIN resource r ON (r.kind, r.scope, r.namespace, r.name) = (f.kind, f.scope, f.namespace, f.name))
           SELECT n.uid AS "uid!", a.namespace, a.name, r.uid AS needed
           FROM (SELECT uid FROM need LIMIT $2) AS n JOIN resource a ON a.uid = n.uid AND is_app(a.kind)
             JOIN reference f ON f.referrer = n.uid AND is_app(f.kind)
             JOIN resource r ON (r.kind, r.scope, r.namespace, r.name) = (f.kind, f.scope, f.namespace, f.name)
           WHERE f.scope = a.scope OR NOT EXISTS (
             SELECT FROM resource o WHERE (o.kind, o.scope, o.namespace, o.name) = (f.kind, a.scope, f.namespace, f.name))
           ORDER BY n.uid, r.namespace, r.name"#,
        apps,
        LOOKED_THROUGH
    )
    .fetch_all(executor)
    .await?;
    let mut names: HashMap<Uuid, String> = HashMap::new();
    let mut needs: HashMap<Uuid, Vec<Uuid>> = HashMap::new();
    for row in rows {
        names.insert(row.uid, format!("{}/{}", row.namespace, row.name));
        needs.entry(row.uid).or_default().push(row.needed);
    }
    let ways = apps
        .iter()
        .filter_map(|app| cycle::through(app, |uid| needs.get(uid).cloned().unwrap_or_default()));
    let named = |way: Vec<Uuid>| way.iter().filter_map(|uid| names.get(uid).cloned()).collect();
    Ok(ways.map(named).collect())
}

/// What an app has its manifests from.
fn source_of(namespace: &str, spec: &Value) -> Option<(String, String, String)> {
    let named = super::reference::source_named(Uuid::nil(), namespace, spec)?;
    Some((named.kind, named.namespace, named.name))
}

/// What of an app expressions see.
struct Shown<'a> {
    api_version: &'a str,
    kind: &'a str,
    namespace: &'a str,
    name: &'a str,
    generation: i64,
    labels: &'a Value,
    annotations: &'a Value,
    spec: &'a Value,
}

fn object(app: &Shown<'_>) -> Value {
    json!({
        "apiVersion": app.api_version,
        "kind": app.kind,
        "metadata": {
            "name": app.name,
            "namespace": app.namespace,
            "generation": app.generation,
            "labels": app.labels,
            "annotations": app.annotations,
        },
        "spec": app.spec,
    })
}

/// An app without its status, in the shape that Flux has.
pub fn shown(app: &ResourceRow) -> Value {
    object(&Shown {
        api_version: &app.api_version,
        kind: &app.kind,
        namespace: &app.namespace,
        name: &app.name,
        generation: app.generation,
        labels: &app.labels,
        annotations: &app.annotations,
        spec: &app.spec,
    })
}
