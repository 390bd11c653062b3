//! Events: what happened and is not a state.

use flotilla_core::printable::printable_lines;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Connection, Result, Store};

/// An event to record.
pub struct NewEvent<'a> {
    /// Something a person should look at.
    pub warning: bool,
    /// One word.
    pub reason: &'a str,
    /// A sentence; never a secret.
    pub message: &'a str,
    /// The configured object it is about.
    pub resource: Uuid,
    /// Source revision.
    pub revision: &'a str,
}

/// An event as shown.
#[derive(Debug, Clone)]
pub struct EventView {
    /// Rises.
    pub id: i64,
    /// When.
    pub at: OffsetDateTime,
    /// Something to look at.
    pub warning: bool,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// Object in a cluster.
    pub object: String,
    /// Revision.
    pub revision: String,
    /// Configured object.
    pub scope: Option<String>,
    /// Its group.
    pub api_group: Option<String>,
    /// Its kind.
    pub kind: Option<String>,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Cluster.
    pub cluster: Option<String>,
}

/// Which events to list.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Kind, '' for all.
    pub kind: String,
    /// Namespace, '' for all.
    pub namespace: String,
    /// Name, '' for all.
    pub name: String,
    /// Cluster, '' for all.
    pub cluster: String,
    /// Only warnings.
    pub warnings_only: bool,
    /// At most so many.
    pub limit: i64,
    /// Only later than this id.
    pub after_id: i64,
}

/// Where an event is.
struct Key {
    id: i64,
    at: OffsetDateTime,
}

/// The kind by which events of clusters themselves are asked for: a cluster is no resource of the store.
const CLUSTER: &str = "Cluster";

/// Events that are kept, whatever their age.
const EVENTS_KEPT: i64 = 500_000;
/// Events that one statement deletes.
const TRIMMED: i64 = 5_000;
/// For how long they are kept at least.
const EVENTS_KEPT_FOR: time::Duration = time::Duration::days(7);

impl Store {
    /// Lists the latest events, oldest first: found by an index, whatever is asked for and however many others there are.
    pub async fn list_events(&self, filter: &EventFilter) -> Result<Vec<EventView>> {
        let keys = self.latest(filter).await?;
        let (ids, times): (Vec<i64>, Vec<OffsetDateTime>) =
            keys.into_iter().map(|key| (key.id, key.at)).unzip();
        Ok(sqlx::query_as!(
            EventView,
            r#"SELECT e.id, e.at, e.warning, e.reason, e.message, e.object, e.revision, scope_name(r.scope) AS "scope?",
                      r.api_group AS "api_group?", r.kind AS "kind?", r.namespace AS "namespace?", r.name AS "name?",
                      c.name AS "cluster?"
               FROM unnest($1::bigint[], $2::timestamptz[]) AS k(id, at) JOIN event e ON e.id = k.id AND e.at = k.at
               LEFT JOIN resource r ON r.uid = e.resource_uid LEFT JOIN cluster c ON c.id = e.cluster_id
               ORDER BY e.id"#,
            &ids,
            &times
        )
        .fetch_all(self.pool())
        .await?)
    }

    /// The latest events that are asked for: each question in the words of one index.
    async fn latest(&self, filter: &EventFilter) -> Result<Vec<Key>> {
        if filter.kind == CLUSTER {
            // Those of what runs there are asked for by the cluster.
            let name = if filter.name.is_empty() {
                &filter.cluster
            } else {
                &filter.name
            };
            return self.latest_of_clusters(name, filter).await;
        }
        if ![&filter.kind, &filter.namespace, &filter.name]
            .iter()
            .all(|one| one.is_empty())
        {
            let mut keys = self.latest_of_resources(filter).await?;
            if !filter.kind.is_empty() && !filter.name.is_empty() && filter.cluster.is_empty() {
                let parts = [&filter.kind, &filter.namespace, &filter.name].map(String::as_str);
                let object = parts
                    .into_iter()
                    .filter(|part| !part.is_empty())
                    .collect::<Vec<_>>();
                let gone = self.latest_of_gone(&object.join("/"), filter).await?;
                keys = latest_of_both(keys, gone, filter);
            }
            return Ok(match filter.kind.is_empty() && filter.name.is_empty() {
                false => keys,
                true => {
                    // Clusters are in no namespace, and so belong to each.
                    let clusters = self.latest_of_clusters(&filter.cluster, filter).await?;
                    latest_of_both(keys, clusters, filter)
                }
            });
        }
        Ok(if !filter.cluster.is_empty() {
            sqlx::query_as!(
                Key,
                "SELECT id, at FROM event WHERE cluster_id = (SELECT c.id FROM cluster c WHERE c.name = $1)
                   AND (NOT $2 OR warning) AND id > $3 ORDER BY id DESC LIMIT $4",
                filter.cluster,
                filter.warnings_only,
                filter.after_id,
                filter.limit
            )
            .fetch_all(self.pool())
            .await?
        } else if filter.warnings_only {
            sqlx::query_as!(
                Key,
                "SELECT id, at FROM event WHERE warning AND id > $1 ORDER BY id DESC LIMIT $2",
                filter.after_id,
                filter.limit
            )
            .fetch_all(self.pool())
            .await?
        } else {
            sqlx::query_as!(
                Key,
                "SELECT id, at FROM event WHERE id > $1 ORDER BY id DESC LIMIT $2",
                filter.after_id,
                filter.limit
            )
            .fetch_all(self.pool())
            .await?
        })
    }

    async fn latest_of_resources(&self, filter: &EventFilter) -> Result<Vec<Key>> {
        Ok(sqlx::query_as!(
            Key,
            r#"SELECT e.id AS "id!", e.at AS "at!" FROM resource r CROSS JOIN LATERAL (
               SELECT id, at FROM event WHERE resource_uid = r.uid AND id > $6 AND (NOT $5 OR warning)
                 AND ($4 = '' OR cluster_id = (SELECT c.id FROM cluster c WHERE c.name = $4))
               ORDER BY id DESC LIMIT $7) e
             WHERE ($1 = '' OR r.kind = $1) AND ($2 = '' OR r.namespace = $2) AND ($3 = '' OR r.name = $3)
             ORDER BY e.id DESC LIMIT $7"#,
            filter.kind,
            filter.namespace,
            filter.name,
            filter.cluster,
            filter.warnings_only,
            filter.after_id,
            filter.limit
        )
        .fetch_all(self.pool())
        .await?)
    }

    /// The latest events of a cluster itself, or of all clusters when none is named.
    async fn latest_of_clusters(&self, name: &str, filter: &EventFilter) -> Result<Vec<Key>> {
        Ok(if name.is_empty() {
            sqlx::query_as!(
                Key,
                "SELECT id, at FROM event WHERE resource_uid IS NULL AND (NOT $1 OR warning) AND id > $2
                 ORDER BY id DESC LIMIT $3",
                filter.warnings_only,
                filter.after_id,
                filter.limit
            )
            .fetch_all(self.pool())
            .await?
        } else {
            let of_it = sqlx::query_as!(
                Key,
                "SELECT id, at FROM event WHERE cluster_id = (SELECT c.id FROM cluster c WHERE c.name = $1)
                   AND resource_uid IS NULL AND (NOT $2 OR warning) AND id > $3 ORDER BY id DESC LIMIT $4",
                name,
                filter.warnings_only,
                filter.after_id,
                filter.limit
            )
            .fetch_all(self.pool())
            .await?;
            // One that is gone may have had the name before.
            let gone = self.latest_of_gone(&format!("{CLUSTER}/{name}"), filter).await?;
            latest_of_both(of_it, gone, filter)
        })
    }

    /// The latest events of what is gone by now, which name it and nothing else.
    async fn latest_of_gone(&self, object: &str, filter: &EventFilter) -> Result<Vec<Key>> {
        Ok(sqlx::query_as!(
            Key,
            "SELECT id, at FROM event WHERE object = $1 AND resource_uid IS NULL AND cluster_id IS NULL
               AND (NOT $2 OR warning) AND id > $3 ORDER BY id DESC LIMIT $4",
            object,
            filter.warnings_only,
            filter.after_id,
            filter.limit
        )
        .fetch_all(self.pool())
        .await?)
    }

    /// Makes the partitions of a time and of those to come, where they are missing; returns how many were made. What is
    /// written before that is kept all the same.
    pub async fn make_partitions(&self, now: OffsetDateTime) -> Result<i64> {
        Ok(
            sqlx::query_scalar!(r#"SELECT make_partitions($1) AS "made!""#, now)
                .fetch_one(self.pool())
                .await?,
        )
    }

    /// Deletes events of days that ended a week ago, and the oldest of too many. Returns how many went one by one, beside
    /// whole days.
    pub async fn event_trim(&self, now: OffsetDateTime) -> Result<u64> {
        let before = now - EVENTS_KEPT_FOR;
        sqlx::query_scalar!("SELECT drop_partitions('event', $1)", before)
            .fetch_one(self.pool())
            .await?;
        let old = sqlx::query!("DELETE FROM event_rest WHERE at < $1", before)
            .execute(self.pool())
            .await?;
        let mut many = 0;
        loop {
            // In parts: of a flood each is done within the time that a statement has.
            let part = sqlx::query!(
                "DELETE FROM event WHERE (id, at) IN (
                   SELECT id, at FROM event WHERE id <= (SELECT max(id) FROM event) - $1::bigint ORDER BY id LIMIT $2)",
                EVENTS_KEPT,
                TRIMMED
            )
            .execute(self.pool())
            .await?
            .rows_affected();
            many += part;
            if part < TRIMMED.unsigned_abs() {
                break;
            }
        }
        Ok(old.rows_affected() + many)
    }

    /// Records an event, unless the same one was recorded for the same object in the last five minutes.
    pub async fn record_event(&self, event: &NewEvent<'_>) -> Result<()> {
        record_event(self.pool(), event).await
    }
}

/// Records an event, unless the same was recorded in the last five minutes.
pub(super) async fn record_event<'e>(to: impl sqlx::PgExecutor<'e>, event: &NewEvent<'_>) -> Result<()> {
    let message = printable_lines(event.message);
    sqlx::query!(
        "INSERT INTO event (warning, reason, message, resource_uid, revision)
             SELECT $1, $2, $3, $4, $5 WHERE NOT EXISTS (
               SELECT 1 FROM event WHERE resource_uid = $4 AND reason = $2 AND message = $3 AND revision = $5
                 AND at > now() - interval '5 minutes')",
        event.warning,
        event.reason,
        message,
        event.resource,
        event.revision
    )
    .execute(to)
    .await?;
    Ok(())
}

/// The latest of two lists.
fn latest_of_both(mut keys: Vec<Key>, others: Vec<Key>, filter: &EventFilter) -> Vec<Key> {
    keys.extend(others);
    keys.sort_unstable_by_key(|key| std::cmp::Reverse(key.id));
    keys.truncate(usize::try_from(filter.limit).unwrap_or(usize::MAX));
    keys
}

/// Tells the same of several objects, in the transaction that did it.
pub(super) async fn tell(tx: &mut Connection, resources: &[Uuid], reason: &str, message: &str) -> Result<()> {
    sqlx::query!(
        "INSERT INTO event (reason, message, resource_uid) SELECT $2, $3, uid FROM unnest($1::uuid[]) AS uid",
        resources,
        reason,
        message
    )
    .execute(tx)
    .await?;
    Ok(())
}
