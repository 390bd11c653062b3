//! What is to be decided anew. A change writes it in its own transaction, the decision that has seen the change takes it
//! away: what is left after a wake-up was lost is found by asking for it, and nothing else is looked at.

use std::time::Duration;

use uuid::Uuid;

use super::{
    Connection, Result, Store, Topic, listener::Listener, outbox::Reader, session::signed, silence::answered,
};

/// What a pass behind lost wake-ups found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stale {
    /// Apps to plan.
    pub apps: Vec<Uuid>,
    /// Sources to look at.
    pub sources: Vec<Uuid>,
    /// Clusters whose units are to be published.
    pub unpublished: Vec<Uuid>,
    /// Apps of whose units something has left that is not decided about.
    pub leaving: Vec<Uuid>,
    /// Clusters that are drained, or leave.
    pub departing: Vec<Uuid>,
    /// Clusters that changed are to be judged by placements.
    pub clusters: bool,
    /// Clusters that have gone since the last look: in order, by a broken connection, or with the hub that held their
    /// streams. They are told of.
    pub gone: Vec<Uuid>,
    /// There are wake-ups that were not read: nobody was told of them.
    pub is_unread: bool,
}

/// A cluster that changed, and the number of the change.
pub type Changed = (Uuid, i64);

impl Store {
    /// What is to be decided and was not: one look at marks, whatever else there is. Forgets wake-ups that every reader
    /// has long passed, and tells of clusters that have been away for so long that what is known of them may be wrong.
    /// States of incarnations before this one are to be published again. What has changed within `settled` is left to who is
    /// woken by it: it would be done twice. It is asked on the connection that listens, which shows whether that one still
    /// hears.
    pub async fn stale(
        &self,
        listener: &mut Listener,
        reader: &Reader,
        incarnation: u64,
        settled: Duration,
    ) -> Result<Stale> {
        let asked = sqlx::query!(
            r#"WITH passed AS (DELETE FROM outbox WHERE at < now() - interval '10 minutes'),
               gone AS (
                 SELECT p.cluster_id FROM presence p JOIN session s ON s.cluster_id = p.cluster_id
                 WHERE s.told_connected AND NOT p.connected AND is_alive(p.last_seen) IS NOT TRUE
                 ORDER BY p.cluster_id FOR UPDATE OF s SKIP LOCKED
               ), told AS (
                 UPDATE session s SET told_connected = false FROM gone WHERE s.cluster_id = gone.cluster_id
               ), event AS (
                 INSERT INTO event (warning, reason, message, cluster_id)
                 SELECT true, 'ClusterDisconnected', 'the cluster''s agent is not connected any more', cluster_id FROM gone
               ), audited AS (
                 INSERT INTO audit (principal, verb, object)
                 SELECT 'cluster/' || cluster_id, 'disconnect', 'cluster/' || cluster_id FROM gone
               )
               SELECT topic AS "topic!", key AS "key!" FROM due WHERE at <= now() - make_interval(secs => $2)
               UNION ALL
               SELECT 'app', a.app_uid FROM rendering r JOIN input_at t ON t.rendering = r.digest AND t.newest
                 JOIN app_input a ON a.input_key = t.input_key
               WHERE r.state = 'Pending' AND r.not_before < now() - interval '10 seconds'
               UNION ALL
               -- What is kept waited for it, and its report woke nobody.
               SELECT DISTINCT 'app', n.app_uid FROM nesting n
                 JOIN unit u ON u.app_uid = n.app_uid AND u.cluster_id = n.cluster_id
                 JOIN unit_status s ON s.unit_id = u.id AND (s.applied_version, s.applied) = (u.version, u.target)
               -- One that is not enforced keeps nothing, whatever it has applied.
               WHERE n.waits AND u.state = 'Active'
               UNION ALL
               SELECT 'gone', cluster_id FROM gone
               UNION ALL
               -- One of a later incarnation is another hub's to publish.
               SELECT DISTINCT 'unpublished', u.cluster_id FROM unpublished u
               WHERE u.at <= now() - make_interval(secs => $2)
                 AND NOT EXISTS (SELECT FROM desired d WHERE d.cluster_id = u.cluster_id AND d.incarnation > $1)
                 AND NOT ((SELECT EXISTS (SELECT FROM unconfirmed)) AND EXISTS (
                   SELECT FROM unit w JOIN unconfirmed c ON c.uid = w.app_uid WHERE w.id = u.unit_id))
               UNION ALL
               SELECT 'unpublished', cluster_id FROM desired WHERE incarnation < $1
               UNION ALL
               SELECT DISTINCT 'leaving', app_uid FROM leaving
               WHERE state = 'Open' AND at <= now() - make_interval(secs => $2)
               UNION ALL
               SELECT 'leaving', uid FROM resource WHERE deleting_at <= now() - make_interval(secs => $2)
               UNION ALL
               SELECT 'departing', id FROM cluster
               WHERE departure IS NOT NULL AND departing_at <= now() - make_interval(secs => $2)
                 -- One that is drained may have been given a unit by a plan that was under way.
                 AND (NOT drained OR EXISTS (
                   SELECT FROM unit u WHERE u.cluster_id = cluster.id AND u.state <> 'Detached'))
               UNION ALL
               SELECT 'unread', gen_random_uuid() WHERE EXISTS (
                 SELECT FROM outbox WHERE xid >= pg_snapshot_xmin($3::text::pg_snapshot)
                   AND NOT pg_visible_in_snapshot(xid, $3::text::pg_snapshot))
               UNION ALL
               SELECT 'source', r.uid FROM resource r LEFT JOIN source_state s ON s.uid = r.uid
               WHERE is_source(r.kind) AND NOT coalesce(r.suspended, r.spec->'suspend' = 'true', false)
                 AND (s.uid IS NULL OR s.observed_generation <> r.generation OR r.requested_at <> r.handled_at OR s.next_probe < now() - interval '10 seconds')"#,
            signed(incarnation),
            settled.as_secs_f64(),
            reader.read()
        );
        let answer = answered(asked.fetch_all(listener.listening().await?), self.silent).await;
        let rows = listener.heard(answer)?;
        let mut stale = Stale::default();
        for row in rows {
            match row.topic.as_str() {
                "app" => stale.apps.push(row.key),
                "cluster" => stale.clusters = true,
                "source" => stale.sources.push(row.key),
                "gone" => stale.gone.push(row.key),
                "leaving" => stale.leaving.push(row.key),
                "departing" => stale.departing.push(row.key),
                "unread" => stale.is_unread = true,
                _ => stale.unpublished.push(row.key),
            }
        }
        if !stale.gone.is_empty() {
            self.wake(Topic::Session, &stale.gone).await?;
        }
        Ok(stale)
    }

    /// Takes away that an app is to be planned, unless it changed since `change`.
    pub async fn planned(&self, app: Uuid, change: i64, handled: &str) -> Result<()> {
        let waiting = sqlx::query_scalar!(
            r#"WITH handled AS (UPDATE resource SET handled_at = $3 WHERE uid = $1 AND handled_at <> $3),
               planned AS (DELETE FROM due WHERE topic = 'app' AND key = $1 AND change = $2)
               SELECT app AS "app!" FROM dependents_waiting(ARRAY[$1]) AS app"#,
            app,
            change,
            handled
        )
        .fetch_all(self.pool())
        .await?;
        if !waiting.is_empty() {
            let mut tx = self.pool().begin().await?;
            wake_apps(&mut tx, &waiting).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Wakes apps after clusters were judged: these, and those that have units there.
    pub async fn judged_clusters(&self, judged: &[Changed], apps: &[Uuid]) -> Result<()> {
        let (clusters, changes): (Vec<Uuid>, Vec<i64>) = judged.iter().copied().unzip();
        let mut tx = self.pool().begin().await?;
        let mut placed = sqlx::query_scalar!(
            r#"WITH seen AS (
               DELETE FROM due d USING unnest($1::uuid[], $2::bigint[]) AS v(key, change)
               WHERE d.topic = 'cluster' AND d.key = v.key AND d.change = v.change)
             SELECT app_uid AS "app!" FROM unit WHERE cluster_id = ANY($1)
             UNION SELECT uid FROM resource WHERE scope = ANY($1) AND is_app(kind)
             -- Those that name one of them by a kubeconfig.
             UNION SELECT f.referrer FROM cluster c
               JOIN resource r ON r.scope = fleet() AND r.kind = 'Cluster' AND r.namespace = '' AND r.name = c.name
               CROSS JOIN LATERAL jsonb_array_elements_text(
                 CASE jsonb_typeof(r.spec->'kubeConfigRefs') WHEN 'array' THEN r.spec->'kubeConfigRefs' ELSE '[]' END) AS named
               CROSS JOIN LATERAL (
                 SELECT CASE WHEN named LIKE '%:%' THEN (SELECT id FROM cluster WHERE name = split_part(named, ':', 1))
                   ELSE fleet() END AS scope, regexp_replace(named, '^[^:]*:', '') AS name) AS v
               JOIN reference f ON f.kind = 'KubeConfig' AND f.scope = v.scope AND f.namespace = split_part(v.name, '/', 1)
                 AND f.name = split_part(v.name, '/', 2)
               WHERE c.id = ANY($1)"#,
            &clusters,
            &changes
        )
        .fetch_all(&mut *tx)
        .await?;
        placed.extend_from_slice(apps);
        wake_apps(&mut tx, &placed).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// What a transaction has others do, in one statement.
#[derive(Default)]
pub(crate) struct Wakes<'a> {
    /// Apps to plan.
    pub(crate) apps: &'a [Uuid],
    /// Apps that claim something else in clusters than before, each with one of these: what other apps' units leave to
    /// others there may be theirs now, and they are planned again.
    pub(crate) claims: &'a [(Uuid, Uuid)],
    /// Apps that are planned: those that have waited for them are planned again.
    pub(crate) planned: &'a [Uuid],
    /// Who else is told, of what.
    pub(crate) told: &'a [(Topic, &'a [Uuid])],
}

/// Wakes in the caller's transaction. Nothing is asked where nobody can be concerned.
pub(crate) async fn wake(tx: &mut Connection, wakes: &Wakes<'_>) -> Result<()> {
    let mut topics: Vec<&str> = Vec::new();
    let mut keys: Vec<Uuid> = Vec::new();
    for (topic, of_topic) in wakes.told {
        topics.extend(of_topic.iter().map(|_| topic.as_str()));
        keys.extend_from_slice(of_topic);
    }
    let (claiming, clusters): (Vec<Uuid>, Vec<Uuid>) = wakes.claims.iter().copied().unzip();
    if wakes.apps.is_empty() && clusters.is_empty() && wakes.planned.is_empty() && keys.is_empty() {
        return Ok(());
    }
    let told = sqlx::query!(
        r#"WITH apps AS (
             SELECT key FROM unnest($1::uuid[]) AS key
             UNION
             SELECT u.app_uid FROM unnest($2::uuid[], $3::uuid[]) AS c(app, cluster)
             CROSS JOIN LATERAL (
               SELECT app_uid FROM unit WHERE cluster_id = c.cluster AND withheld <> '[]' OFFSET 0) AS u
             WHERE u.app_uid <> c.app
             UNION
             SELECT app FROM dependents_waiting($7) AS app
             ORDER BY 1),
           marked AS (
             INSERT INTO due (topic, key) SELECT 'app', key FROM apps
             ON CONFLICT (topic, key) DO UPDATE SET change = excluded.change, at = now())
           INSERT INTO outbox (topic, keys)
           SELECT topic, array_agg(key) FROM (
             SELECT topic, key, row_number() OVER (PARTITION BY topic) / 5000 AS part FROM (
               SELECT $6 AS topic, key FROM apps UNION ALL SELECT * FROM unnest($4::text[], $5::uuid[])) AS told) AS parts
           GROUP BY topic, part"#,
        wakes.apps,
        &claiming,
        &clusters,
        &topics as &[&str],
        &keys,
        Topic::App.as_str(),
        wakes.planned
    )
    .execute(&mut *tx)
    .await?;
    if told.rows_affected() > 0 {
        tx.wakes();
    }
    Ok(())
}

/// Has apps planned, in the caller's transaction.
pub(crate) async fn wake_apps(tx: &mut Connection, apps: &[Uuid]) -> Result<()> {
    let wakes = Wakes {
        apps,
        ..Wakes::default()
    };
    wake(tx, &wakes).await
}

/// Has clusters judged by placements, in the caller's transaction.
pub(crate) async fn wake_clusters(tx: &mut Connection, clusters: &[Uuid]) -> Result<()> {
    if clusters.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"WITH marked AS (
             INSERT INTO due (topic, key) SELECT DISTINCT 'cluster', key FROM unnest($1::uuid[]) AS key ORDER BY key
             ON CONFLICT (topic, key) DO UPDATE SET change = excluded.change, at = now())
           INSERT INTO outbox (topic, keys) SELECT $2, $1::uuid[]"#,
        clusters,
        Topic::Identity.as_str()
    )
    .execute(&mut *tx)
    .await?;
    tx.wakes();
    Ok(())
}
