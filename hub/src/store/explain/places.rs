//! Clusters that an app is to be in, and has no unit in.

use std::collections::HashMap;

use flotilla_core::{explain::Agent, fleet::placement::Search};
use uuid::Uuid;

use super::timestamp;
use crate::store::{Result, Store, query::CandidateRow};

impl Store {
    /// Clusters that placements may choose, and those that cannot be read, after one name and before another, '' for none; in
    /// the order of bytes, as units are.
    pub async fn clusters_between(
        &self,
        search: &Search,
        after: &str,
        before: &str,
    ) -> Result<Vec<CandidateRow>> {
        let names: Vec<&str> = search.names.iter().map(String::as_str).collect();
        let (any, labels): (Vec<_>, Vec<_>) = search.labels.iter().partition(|labels| labels.is_empty());
        let labels: Vec<serde_json::Value> = labels
            .into_iter()
            .map(|labels| serde_json::json!(labels))
            .collect();
        Ok(sqlx::query_as!(
            CandidateRow,
            r#"WITH concerned AS (
                 SELECT id FROM cluster WHERE name = ANY($1)
                 UNION SELECT c.id FROM unnest($2::jsonb[]) AS v(labels)
                   JOIN resource r ON r.kind = 'Cluster' AND r.scope = fleet() AND r.labels @> v.labels
                   JOIN cluster c ON c.name = r.name
                 UNION SELECT c.id FROM resource r JOIN cluster c ON c.name = r.name
                   WHERE r.kind = 'Cluster' AND r.scope = fleet()
                     AND NOT (is_text_map(r.labels) AND is_text_map(coalesce(r.spec->'variables', '{}')))
                 UNION SELECT id FROM cluster WHERE $3)
               SELECT c.id, c.name, c.departure, coalesce(r.labels, '{}') AS "labels!",
                      coalesce(r.spec->'variables', '{}') AS "variables!"
               FROM concerned JOIN cluster c ON c.id = concerned.id
                 LEFT JOIN resource r ON r.scope = fleet() AND r.kind = 'Cluster' AND r.namespace = '' AND r.name = c.name
               WHERE c.name COLLATE "C" > $4 AND ($5 = '' OR c.name COLLATE "C" < $5)
               ORDER BY c.name COLLATE "C""#,
            &names as &[&str],
            &labels,
            !any.is_empty(),
            after,
            before
        )
        .fetch_all(self.pool())
        .await?)
    }

    /// The agents of clusters that an app has no unit in.
    pub async fn explain_agents(&self, clusters: &[Uuid]) -> Result<HashMap<Uuid, Agent>> {
        let rows = sqlx::query!(
            r#"SELECT c.id AS "id!", c.state AS "state!", coalesce(p.connected, false) AS "connected!", p.last_seen AS "last_seen?",
                      is_alive(p.last_seen) IS NOT TRUE AS "silent!", coalesce(d.generation, 0) AS "desired!",
                      d.published_at AS "published_at?", coalesce(s.accepted_generation, 0) AS "accepted!",
                      coalesce(s.message, '') AS "refusal!",
                      coalesce((SELECT string_agg(k.message, '; ' ORDER BY k.kind) FROM cluster_condition k
                                WHERE k.cluster_id = c.id AND NOT k.ok), '') AS "conditions!"
               FROM cluster c LEFT JOIN session s ON s.cluster_id = c.id LEFT JOIN presence p ON p.cluster_id = c.id
               LEFT JOIN desired d ON d.cluster_id = c.id WHERE c.id = ANY ($1)"#,
            clusters
        )
        .fetch_all(self.pool())
        .await?;
        let agents = rows.into_iter().map(|row| {
            let agent = Agent {
                state: row.state,
                connected: row.connected,
                silent: row.silent,
                seen: row.last_seen.map(timestamp),
                desired: row.desired.unsigned_abs(),
                published: row.published_at.map(timestamp),
                accepted: row.accepted.unsigned_abs(),
                refusal: row.refusal,
                conditions: row.conditions,
            };
            (row.id, agent)
        });
        Ok(agents.collect())
    }
}
