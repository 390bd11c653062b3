//! What CLI and page read. Pages go by key, not by offset; a page is bounded by its caller.

use flotilla_core::{fleet::placement::Search, rollout::waiting::Waiting};
use serde_json::Value;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Result, Store, resource::ResourceRow};

/// A cluster as shown.
#[derive(Debug, Clone)]
pub struct ClusterView {
    /// Identity.
    pub id: Uuid,
    /// Name.
    pub name: String,
    /// `Pending`, `Active`, `Suspended`.
    pub state: String,
    /// Labels of the Cluster resource.
    pub labels: Value,
    /// Spec of the Cluster resource.
    pub spec: Value,
    /// A stream is open, on a hub that lives.
    pub connected: bool,
    /// Last heard of; while a stream is open, by the hub that holds it.
    pub last_seen: Option<OffsetDateTime>,
    /// Version of the agent.
    pub agent_version: String,
    /// Version of the API server.
    pub kube_version: String,
    /// Published generation.
    pub desired_generation: i64,
    /// Generation the agent has persisted.
    pub accepted_generation: i64,
    /// Units.
    pub units: i64,
    /// Units Ready at their current version.
    pub units_ready: i64,
    /// Why the agent refused, or ''.
    pub message: String,
}

/// A unit as shown.
#[derive(Debug, Clone)]
pub struct UnitView {
    /// Identity.
    pub id: Uuid,
    /// App.
    pub app_uid: Uuid,
    /// App's scope as people name it.
    pub scope: String,
    /// App's group.
    pub api_group: String,
    /// App's kind.
    pub kind: String,
    /// App's namespace.
    pub namespace: String,
    /// App's name.
    pub name: String,
    /// Cluster's name.
    pub cluster: String,
    /// `Active` …
    pub state: String,
    /// Version of the target.
    pub version: i64,
    /// What changed it last.
    pub cause: String,
    /// Why it waits.
    pub waiting: Json<Vec<Waiting>>,
    /// Newest revision that renders to the target's content.
    pub target_revision: String,
    /// Whether the reported status is about the current version.
    pub current: bool,
    /// Whether the target is applied.
    pub applied: bool,
    /// Its agent does not take the present entry: `ready`, `reason` and `message` say why.
    pub refused: bool,
    /// The newest revision of what is applied, '' when not known.
    pub applied_revision: String,
    /// Its place among the source's revisions.
    pub applied_revision_id: Option<i64>,
    /// `True`, `False`, `Unknown`.
    pub ready: String,
    /// Condition reason.
    pub reason: String,
    /// Message.
    pub message: String,
    /// What is noted of it although it is ready.
    pub notes: String,
    /// Health.
    pub health: String,
    /// Objects.
    pub objects: i32,
    /// Failed objects.
    pub objects_failed: i32,
    /// Objects that left the content.
    pub objects_pending_removal: i32,
    /// Why they may not be deleted yet; '' when they may.
    pub removal_waits: String,
    /// By the agent's clock.
    pub observed_at: Option<OffsetDateTime>,
    /// A stream to the cluster is open.
    pub connected: bool,
    /// The cluster was not heard of for so long that its words may be wrong by now.
    pub silent: bool,
}

/// An object of a unit as shown.
#[derive(Debug, Clone)]
pub struct ObjectView {
    /// API group.
    pub api_group: String,
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Version.
    pub api_version: String,
    /// State.
    pub state: String,
    /// kstatus.
    pub health: String,
    /// Message.
    pub message: String,
    /// Existed before.
    pub adopted: bool,
}

/// A rollout as shown.
#[derive(Debug, Clone)]
pub struct RolloutView {
    /// Rises.
    pub id: i64,
    /// App's scope as people name it.
    pub scope: String,
    /// App's kind.
    pub kind: String,
    /// App's namespace.
    pub namespace: String,
    /// App's name.
    pub name: String,
    /// Revision.
    pub revision: String,
    /// `Progressing`, `Complete`, `Withdrawn`, `Superseded`.
    pub state: String,
    /// What began it.
    pub cause: String,
    /// Units it moves.
    pub clusters: i64,
    /// Of these applied.
    pub clusters_applied: i64,
    /// Began.
    pub created_at: OffsetDateTime,
    /// Ended.
    pub finished_at: Option<OffsetDateTime>,
}

/// Which resources to list. An empty string is no restriction.
#[derive(Debug, Clone, Default)]
pub struct ResourceFilter {
    /// Kinds; empty for all.
    pub kinds: Vec<String>,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// A cluster's id or [`FLEET`](super::resource::FLEET); `None`: every scope.
    pub scope: Option<Uuid>,
    /// At most so many.
    pub limit: i64,
    /// Where the last page ended: (scope, kind, namespace, name).
    pub after: (Uuid, String, String, String),
}

/// Which units to list. An empty string is no restriction.
#[derive(Debug, Clone, Default)]
pub struct UnitFilter {
    /// Cluster's name.
    pub cluster: String,
    /// App's kind.
    pub kind: String,
    /// App's namespace.
    pub namespace: String,
    /// App's name.
    pub name: String,
    /// Only this unit.
    pub id: Option<Uuid>,
    /// At most so many.
    pub limit: i64,
    /// Where the last page ended: (namespace, name, cluster, unit). Apps of several kinds share a name.
    pub after: (String, String, String, Uuid),
}

impl Store {
    /// Lists resources, ordered by scope, kind, namespace, name.
    pub async fn list_resources(&self, filter: &ResourceFilter) -> Result<Vec<ResourceRow>> {
        let (scope, kind, namespace, name) = &filter.after;
        Ok(sqlx::query_as!(
            ResourceRow,
            r#"SELECT uid, scope, scope_name(scope) AS "cluster!", api_group, kind, namespace, name, api_version, generation, labels,
                    annotations || overlay AS "annotations!", spec,
                    suspended, requested_at, handled_at, payload_digest, not_supported, created_at,
                    CASE WHEN deleting_at IS NOT NULL THEN coalesce(deletion_policy, '') END AS deletion,
                    coalesce(deletion_by, '') AS "deletion_by!",
                    coalesce((SELECT object_name(k.kind, k.namespace, k.name) FROM resource k WHERE k.uid = resource.owner), '')
                      AS "owner!"
             FROM resource
             WHERE (cardinality($1::text[]) = 0 OR kind = ANY($1)) AND ($2 = '' OR namespace = $2)
               AND ($3 = '' OR name = $3) AND ($4::uuid IS NULL OR scope = $4)
               AND (scope, kind, namespace, name) > ($5, $6, $7, $8)
             ORDER BY scope, kind, namespace, name LIMIT $9"#,
            &filter.kinds,
            filter.namespace,
            filter.name,
            filter.scope,
            scope,
            kind,
            namespace,
            name,
            filter.limit
        )
        .fetch_all(self.pool())
        .await?)
    }

    /// Lists clusters after a name.
    pub async fn list_clusters(&self, name: &str, after: &str, limit: i64) -> Result<Vec<ClusterView>> {
        Ok(sqlx::query_as!(
            ClusterView,
            r#"SELECT c.id, c.name,
                      CASE WHEN c.state = 'Suspended' OR c.departure IS NULL THEN c.state
                        WHEN c.departure = 'Retire' THEN 'Retiring' WHEN c.drained THEN 'Drained' ELSE 'Draining' END AS "state!",
                      coalesce(r.labels, '{}') AS "labels!", coalesce(r.spec, '{}') AS "spec!",
                      coalesce(p.connected, false) AS "connected!", p.last_seen AS "last_seen?",
                      coalesce(s.agent_version, '') AS "agent_version!", coalesce(s.kube_version, '') AS "kube_version!",
                      coalesce(d.generation, 0) AS "desired_generation!",
                      coalesce(s.accepted_generation, 0) AS "accepted_generation!",
                      concat_ws('; ', nullif(s.message, ''),
                        (SELECT string_agg(k.message, '; ' ORDER BY k.kind) FROM cluster_condition k
                         WHERE k.cluster_id = c.id AND NOT k.ok),
                        CASE WHEN c.departure IS NOT NULL AND NOT c.drained THEN
                          (SELECT count(*) || CASE count(*) WHEN 1 THEN ' app is' ELSE ' apps are' END FROM unit u
                           WHERE u.cluster_id = c.id AND (c.departure = 'Retire' OR u.state <> 'Detached'))
                          || ' to go from here' || CASE WHEN p.connected THEN '' ELSE ', and its agent is not connected: `flotilla cluster delete '
                             || c.name || '` ends it without it' END
                        WHEN c.drained THEN
                          'what was to be removed is gone; `flotilla cluster retire ' || c.name
                          || '` has it leave the fleet, `resume` gives it back what is placed on it' END) AS "message!",
                      (SELECT count(*) FROM unit u WHERE u.cluster_id = c.id AND u.state <> 'Detached') AS "units!",
                      (SELECT count(*) FROM unit u JOIN unit_status us ON us.unit_id = u.id AND us.version = u.version
                       WHERE u.cluster_id = c.id AND u.state <> 'Detached' AND us.ready = 'True'
                         AND NOT EXISTS (SELECT 1 FROM unit_refused f JOIN entry_answer a USING (cluster_id, unit_id)
                                         WHERE f.cluster_id = c.id AND f.unit_id = u.id AND a.refused)) AS "units_ready!"
               FROM cluster c
               LEFT JOIN resource r ON r.scope = fleet() AND r.kind = 'Cluster' AND r.name = c.name
               LEFT JOIN session s ON s.cluster_id = c.id
               LEFT JOIN presence p ON p.cluster_id = c.id
               LEFT JOIN desired d ON d.cluster_id = c.id
               WHERE ($1 = '' OR c.name = $1) AND c.name > $2 ORDER BY c.name LIMIT $3"#,
            name,
            after,
            limit
        )
        .fetch_all(self.pool())
        .await?)
    }

    /// Lists units, ordered by namespace and name of the app, then cluster, then the unit itself.
    pub async fn list_units(&self, filter: &UnitFilter) -> Result<Vec<UnitView>> {
        let (namespace, name, cluster, unit) = &filter.after;
        Ok(sqlx::query_as!(
            UnitView,
            r#"SELECT u.id AS "id!", u.app_uid AS "app_uid!", scope_name(r.scope) AS "scope!", r.api_group, r.kind, r.namespace, r.name,
                      u.cluster AS "cluster!", u.state AS "state!", u.version AS "version!", u.cause AS "cause!",
                      u.waiting AS "waiting!: Json<Vec<Waiting>>", coalesce(tr.revision, '') AS "target_revision!",
                      u.current AS "current!", u.applied AS "applied!", u.refused AS "refused!", ar.id AS "applied_revision_id?",
                      coalesce(ar.revision, '') AS "applied_revision!", u.ready AS "ready!", u.reason AS "reason!",
                      u.message AS "message!", u.notes AS "notes!", u.health AS "health!", u.objects AS "objects!",
                      u.objects_failed AS "objects_failed!", u.objects_pending_removal AS "objects_pending_removal!",
                      coalesce((SELECT waits FROM leaving l WHERE l.unit_id = u.id AND l.version = u.version
                                  AND l.state = 'Open'), '') AS "removal_waits!",
                      u.observed_at AS "observed_at?", u.connected AS "connected!", u.silent AS "silent!"
               FROM unit_shown u
               JOIN resource r ON r.uid = u.app_uid
               LEFT JOIN LATERAL revision_of(u.app_uid, u.content) tr ON true
               LEFT JOIN LATERAL revision_of(u.app_uid, u.applied_content) ar ON true
               WHERE ($1 = '' OR u.cluster = $1) AND ($2 = '' OR r.kind = $2) AND ($3 = '' OR r.namespace = $3)
                 AND ($4 = '' OR r.name = $4) AND ($9::uuid IS NULL OR u.id = $9)
                 AND (r.namespace, r.name, u.cluster, u.id) > ($5, $6, $7, $10)
               ORDER BY r.namespace, r.name, u.cluster, u.id LIMIT $8"#,
            filter.cluster,
            filter.kind,
            filter.namespace,
            filter.name,
            namespace,
            name,
            cluster,
            filter.limit,
            filter.id,
            unit
        )
        .fetch_all(self.pool())
        .await?)
    }

    /// Lists the objects of a unit.
    pub async fn list_unit_objects(&self, unit: Uuid) -> Result<Vec<ObjectView>> {
        Ok(sqlx::query_as!(
            ObjectView,
            "SELECT api_group, kind, namespace, name, api_version, state, health, message, adopted
             FROM unit_object WHERE unit_id = $1 ORDER BY api_group, kind, namespace, name",
            unit
        )
        .fetch_all(self.pool())
        .await?)
    }

    /// Lists the latest rollouts, newest first.
    pub async fn list_rollouts(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        limit: i64,
    ) -> Result<Vec<RolloutView>> {
        Ok(sqlx::query_as!(
            RolloutView,
            r#"SELECT o.id, scope_name(r.scope) AS "scope!", r.kind, r.namespace, r.name, coalesce(v.revision, '') AS "revision!", o.state,
                      o.cause, o.created_at, o.finished_at,
                      o.clusters::bigint AS "clusters!",
                      coalesce(o.clusters_applied::bigint, (SELECT count(*) FROM admission a
                        WHERE a.rollout_id = o.id AND a.state = 'Applied')) AS "clusters_applied!"
               FROM rollout o JOIN resource r ON r.uid = o.app_uid LEFT JOIN revision v ON v.id = o.revision_id
               WHERE ($1 = '' OR r.kind = $1) AND ($2 = '' OR r.namespace = $2) AND ($3 = '' OR r.name = $3)
               ORDER BY o.id DESC LIMIT $4"#,
            kind,
            namespace,
            name,
            limit
        )
        .fetch_all(self.pool())
        .await?)
    }

    /// Labels and variables of those clusters that apps may be placed on, of those that have one, and of those that cannot
    /// be read, as they are stored. Without a selector that needs no certain label, no other cluster is looked at.
    pub async fn clusters_for(&self, apps: &[Uuid], search: &Search) -> Result<Vec<CandidateRow>> {
        let names: Vec<&str> = search.names.iter().map(String::as_str).collect();
        let (any, labels): (Vec<_>, Vec<_>) = search.labels.iter().partition(|labels| labels.is_empty());
        let labels: Vec<serde_json::Value> = labels
            .into_iter()
            .map(|labels| serde_json::json!(labels))
            .collect();
        Ok(sqlx::query_as!(
            CandidateRow,
            r#"WITH concerned AS (
                 SELECT id FROM cluster WHERE name = ANY($2)
                 UNION SELECT cluster_id FROM unit WHERE app_uid = ANY($1)
                 UNION SELECT c.id FROM unnest($3::jsonb[]) AS v(labels)
                   JOIN resource r ON r.kind = 'Cluster' AND r.scope = fleet() AND r.labels @> v.labels
                   JOIN cluster c ON c.name = r.name
                 UNION SELECT c.id FROM resource r JOIN cluster c ON c.name = r.name
                   WHERE r.kind = 'Cluster' AND r.scope = fleet()
                     AND NOT (is_text_map(r.labels) AND is_text_map(coalesce(r.spec->'variables', '{}')))
                 UNION SELECT id FROM cluster WHERE $4)
               SELECT c.id, c.name, c.departure, coalesce(r.labels, '{}') AS "labels!",
                      coalesce(r.spec->'variables', '{}') AS "variables!"
               -- Each is looked up: the plan is made for all numbers of clusters, and would go through all of them.
               FROM concerned CROSS JOIN LATERAL (SELECT * FROM cluster WHERE id = concerned.id OFFSET 0) AS c
                 LEFT JOIN LATERAL (
                   SELECT labels, spec FROM resource
                   WHERE scope = fleet() AND kind = 'Cluster' AND namespace = '' AND name = c.name OFFSET 0) AS r ON true
               ORDER BY c.name"#,
            apps,
            &names as &[&str],
            &labels,
            !any.is_empty()
        )
        .fetch_all(self.pool())
        .await?)
    }

    /// Labels and variables of these clusters, as they are stored: each is for the caller to read alone.
    pub async fn cluster_candidates(&self, only: &[Uuid]) -> Result<Vec<CandidateRow>> {
        Ok(sqlx::query_as!(
            CandidateRow,
            r#"SELECT c.id, c.name, c.departure, coalesce(r.labels, '{}') AS "labels!",
                      coalesce(r.spec->'variables', '{}') AS "variables!"
               FROM cluster c LEFT JOIN resource r ON r.scope = fleet() AND r.kind = 'Cluster' AND r.name = c.name
               WHERE c.id = ANY($1) ORDER BY c.name"#,
            only
        )
        .fetch_all(self.pool())
        .await?)
    }
}

/// A cluster that may be chosen.
#[derive(Debug, Clone)]
pub struct CandidateRow {
    /// Identity.
    pub id: Uuid,
    /// Unique name.
    pub name: String,
    /// How it departs, if it does.
    pub departure: Option<String>,
    /// Labels of the Cluster resource.
    pub labels: serde_json::Value,
    /// Variables of the Cluster resource.
    pub variables: serde_json::Value,
}
