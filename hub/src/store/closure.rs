//! Guards over all that one source's changes would delete (`core::removal::closure`): what has left its apps and is open, with
//! what was cleared of them within the last hour.

use std::collections::{BTreeMap, HashSet};

use flotilla_core::removal::closure::{Going, Limits, OfCluster, advice, guard, weight};
use uuid::Uuid;

use super::{
    Connection, Result, Topic,
    leaving::{Cleared, Held},
    nudge,
};

/// What a set that is to be cleared is judged by.
#[derive(Debug, Clone)]
pub struct Closure {
    /// The source whose apps have lost it.
    pub source: Uuid,
    /// How much may go.
    pub limits: Limits,
    /// Apps of it that are held and are to be planned, each with the change that they are marked for: where they have units, or
    /// are to have some, nothing is cleared, and in other clusters they keep nothing.
    pub held: BTreeMap<Uuid, i64>,
}

/// Whether an app of the source is to be planned: what it may claim was known when this was asked, and is not any more. Whoever
/// decides may have stood still since. One that was held then, and was not marked again, is where it was.
pub(super) async fn is_moving(tx: &mut Connection, closure: &Closure) -> Result<bool> {
    let (held, changes): (Vec<Uuid>, Vec<i64>) =
        closure.held.iter().map(|(app, change)| (*app, *change)).unzip();
    let moves = sqlx::query_scalar!(
        r#"SELECT true AS "moves!" FROM input_at t
           JOIN LATERAL (SELECT app_uid FROM app_input WHERE input_key = t.input_key OFFSET 0) AS i ON true
           JOIN LATERAL (SELECT key, change FROM due WHERE topic = 'app' AND key = i.app_uid OFFSET 0) AS d ON true
           LEFT JOIN unnest($2::uuid[], $3::bigint[]) AS h(app, change) ON (h.app, h.change) = (d.key, d.change)
           WHERE t.source_uid = $1 AND t.newest AND h.app IS NULL LIMIT 1"#,
        closure.source,
        &held,
        &changes
    )
    .fetch_optional(tx)
    .await?;
    Ok(moves.is_some())
}

/// Takes out of what is to be cleared what is for a person to look at, and says of each why. What passes is noted, for those
/// that come after it within the hour. In the transaction that clears.
pub(super) async fn stop(
    tx: &mut Connection,
    closure: &Closure,
    cleared: &mut Vec<Cleared<'_>>,
) -> Result<Vec<Held>> {
    // Of two decisions about one source the second sees what the first has let pass.
    sqlx::query!(
        "SELECT pg_advisory_xact_lock(hashtext('closure'), hashtext($1))",
        closure.source.to_string()
    )
    .fetch_one(&mut *tx)
    .await?;
    let counts = counts(tx, cleared).await?;
    let judged = |one: &Cleared<'_>| counts.contains(&one.unit.unit);
    if !cleared.iter().any(judged) {
        return Ok(Vec::new());
    }
    if let Some(why) = weigh(tx, closure).await? {
        block(tx, closure.source, &why).await?;
    }
    let ids: Vec<Uuid> = cleared
        .iter()
        .filter(|one| judged(one))
        .map(|one| one.unit.unit)
        .collect();
    let blocked = sqlx::query!(
        r#"SELECT unit_id, waits FROM leaving WHERE unit_id = ANY($1) AND blocked"#,
        &ids
    )
    .fetch_all(&mut *tx)
    .await?;
    let blocked: BTreeMap<Uuid, String> = blocked.into_iter().map(|row| (row.unit_id, row.waits)).collect();
    let stopped = cleared.iter().filter_map(|one| {
        let why = blocked.get(&one.unit.unit)?;
        Some(Held {
            unit: one.unit.unit,
            version: one.unit.left.version,
            why: why.clone(),
        })
    });
    let stopped: Vec<Held> = stopped.collect();
    cleared.retain(|one| !blocked.contains_key(&one.unit.unit));
    note(tx, closure.source, cleared.iter().filter(|one| judged(one))).await?;
    Ok(stopped)
}

/// Those of them that count: nobody has asked for their removal, or allowed it.
async fn counts(tx: &mut Connection, cleared: &[Cleared<'_>]) -> Result<HashSet<Uuid>> {
    let ids: Vec<Uuid> = cleared.iter().map(|one| one.unit.unit).collect();
    let rows = sqlx::query_scalar!(
        "SELECT u.id FROM unit u WHERE u.id = ANY($1) AND (u.state = 'Active' OR u.state = 'Removing' AND is_dropped(u.app_uid))
           AND NOT EXISTS (SELECT FROM approval a WHERE (a.unit_id, a.target) = (u.id, u.target) AND a.version = u.version)",
        &ids
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().collect())
}

/// Judges all that the source's changes would delete. `Some`: why a person is to look at it.
async fn weigh(tx: &mut Connection, closure: &Closure) -> Result<Option<String>> {
    let rows = sqlx::query!(
        r#"WITH open AS (
             SELECT l.cluster_id, l.app_uid, l.objects FROM input_at t
             JOIN LATERAL (SELECT app_uid FROM app_input WHERE input_key = t.input_key OFFSET 0) AS i ON true
             JOIN LATERAL (
               SELECT * FROM leaving WHERE app_uid = i.app_uid AND state = 'Open' AND NOT blocked OFFSET 0) AS l ON true
             JOIN LATERAL (
               SELECT state, version, target FROM unit WHERE id = l.unit_id OFFSET 0) AS u ON u.version = l.version
             WHERE t.source_uid = $1 AND t.newest
               AND (u.state = 'Active' OR u.state = 'Removing' AND is_dropped(l.app_uid))
               AND NOT EXISTS (
                 SELECT FROM approval a WHERE (a.unit_id, a.target) = (l.unit_id, u.target) AND a.version = u.version)
             UNION ALL
             SELECT cluster_id, app_uid, objects FROM cleared_lately
             WHERE source_uid = $1 AND at > now() - interval '1 hour')
           SELECT cluster_id AS "cluster!", sum(objects)::bigint AS "objects!", array_agg(DISTINCT app_uid) AS "apps!"
           FROM open GROUP BY 1"#,
        closure.source
    )
    .fetch_all(&mut *tx)
    .await?;
    let count = |number: i64| u64::try_from(number).unwrap_or_default();
    let objects = rows.iter().map(|row| count(row.objects)).sum();
    // What there is in all is asked where it matters.
    if objects <= closure.limits.objects {
        return Ok(None);
    }
    let going: BTreeMap<Uuid, u64> = rows.iter().map(|row| (row.cluster, count(row.objects))).collect();
    let apps: HashSet<Uuid> = rows.iter().flat_map(|row| row.apps.iter().copied()).collect();
    let had = sqlx::query!(
        r#"SELECT c.id, c.name, coalesce(s.objects, 0) AS "objects!" FROM cluster c JOIN session s ON s.cluster_id = c.id"#
    )
    .fetch_all(&mut *tx)
    .await?;
    let clusters = had.iter().filter_map(|row| {
        Some(OfCluster {
            name: row.name.clone(),
            going: *going.get(&row.id)?,
            had: count(row.objects),
        })
    });
    let going = Going {
        objects,
        apps: apps.len() as u64,
        clusters: clusters.collect(),
        had: had.iter().map(|row| count(row.objects)).sum(),
    };
    Ok(guard(&going, &closure.limits))
}

/// Stops all that counted, and says so of each app.
async fn block(tx: &mut Connection, source: Uuid, why: &str) -> Result<()> {
    let apps = sqlx::query!(
        r#"WITH stopped AS (
             UPDATE leaving l SET blocked = true, waits = $2 FROM unit u
             WHERE u.id = l.unit_id AND u.version = l.version AND l.state = 'Open' AND NOT l.blocked
               AND (u.state = 'Active' OR u.state = 'Removing' AND is_dropped(u.app_uid))
               AND l.app_uid IN (
                 SELECT i.app_uid FROM input_at t JOIN app_input i ON i.input_key = t.input_key
                 WHERE t.source_uid = $1 AND t.newest)
               AND NOT EXISTS (
                 SELECT FROM approval a WHERE (a.unit_id, a.target) = (u.id, u.target) AND a.version = u.version)
             RETURNING l.app_uid)
           SELECT DISTINCT s.app_uid AS "app!", object_name(r.kind, r.namespace, r.name) AS "name!"
           FROM stopped s JOIN resource r ON r.uid = s.app_uid ORDER BY 1"#,
        source,
        why
    )
    .fetch_all(&mut *tx)
    .await?;
    let uids: Vec<Uuid> = apps.iter().map(|row| row.app).collect();
    let said: Vec<String> = apps
        .iter()
        .map(|row| format!("{why}; {}", advice(&row.name)))
        .collect();
    sqlx::query!(
        "INSERT INTO event (warning, reason, message, resource_uid)
         SELECT true, 'RemovalBlocked', v.said, v.app FROM unnest($1::uuid[], $2::text[]) AS v(app, said)",
        &uids,
        &said
    )
    .execute(&mut *tx)
    .await?;
    nudge(tx, Topic::Shown, &uids).await
}

/// Notes what passes, and forgets what passed more than an hour ago.
async fn note<'a>(
    tx: &mut Connection,
    source: Uuid,
    passed: impl Iterator<Item = &'a Cleared<'a>>,
) -> Result<()> {
    let mut of: BTreeMap<(Uuid, Uuid), i64> = BTreeMap::new();
    for one in passed {
        let objects = weight(&one.unit.left.keys, &one.clearing.except);
        *of.entry((one.unit.app, one.unit.cluster)).or_default() +=
            i64::try_from(objects).unwrap_or(i64::MAX);
    }
    let (places, objects): (Vec<(Uuid, Uuid)>, Vec<i64>) =
        of.into_iter().filter(|(_, objects)| *objects > 0).unzip();
    if places.is_empty() {
        return Ok(());
    }
    let (apps, clusters): (Vec<Uuid>, Vec<Uuid>) = places.into_iter().unzip();
    sqlx::query!(
        "WITH passed AS (DELETE FROM cleared_lately WHERE at < now() - interval '1 hour')
         INSERT INTO cleared_lately (source_uid, app_uid, cluster_id, objects)
         SELECT $1, v.app, v.cluster, v.objects FROM unnest($2::uuid[], $3::uuid[], $4::bigint[]) AS v(app, cluster, objects)",
        source,
        &apps,
        &clusters,
        &objects
    )
    .execute(tx)
    .await?;
    Ok(())
}
