//! Objects that had left their apps and whose agent has lost what it knew. That they were its own stood in its ledger
//! alone, so nobody deletes them; what it reported of them is the last that is known. A condition counts them and names
//! the first, an event names each: rows of reports do not outlive the next one.

use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::store::{Connection, Result, report::ConditionRow};

/// How long it is told. The event stays.
const TOLD: Duration = Duration::DAY;
/// Objects that the condition names.
const NAMED: i64 = 5;
/// Objects that have an event.
const EVENTS: i64 = 1000;

/// What is said as an agent comes that holds nothing of what it held.
pub(super) async fn lost(
    tx: &mut Connection,
    cluster: Uuid,
    cluster_name: &str,
    now: OffsetDateTime,
) -> Result<Option<ConditionRow>> {
    let rows = sqlx::query!(
        r#"SELECT o.kind, o.namespace, o.name, r.namespace AS app_namespace, r.name AS app_name,
                  count(*) OVER () AS "total!"
           FROM unit_object o JOIN unit u ON u.id = o.unit_id JOIN resource r ON r.uid = u.app_uid
           WHERE u.cluster_id = $1 AND o.state = 'PendingRemoval'
           ORDER BY r.namespace, r.name, o.kind, o.namespace, o.name LIMIT $2"#,
        cluster,
        NAMED
    )
    .fetch_all(&mut *tx)
    .await?;
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let mut names: Vec<String> = rows
        .iter()
        .map(|row| {
            let place = [&row.kind, &row.namespace, &row.name];
            let place = place
                .map(String::as_str)
                .into_iter()
                .filter(|part| !part.is_empty());
            let object = place.collect::<Vec<_>>().join("/");
            format!("{object} of {}/{}", row.app_namespace, row.app_name)
        })
        .collect();
    let more = first.total - names.len() as i64;
    if more > 0 {
        names.push(format!("{more} more"));
    }
    sqlx::query!(
        "INSERT INTO event (at, warning, reason, message, object, resource_uid, cluster_id)
         SELECT $3, true, 'RemovalUnproven',
                'it had left its app, and the agent has lost its ledger: that it was its own cannot be proven, so it '
                  || 'stays; delete it by hand where it is not needed',
                object_name(o.kind, o.namespace, o.name), r.uid, u.cluster_id
         FROM unit_object o JOIN unit u ON u.id = o.unit_id JOIN resource r ON r.uid = u.app_uid
         WHERE u.cluster_id = $1 AND o.state = 'PendingRemoval'
         ORDER BY r.namespace, r.name, o.kind, o.namespace, o.name LIMIT $2",
        cluster,
        EVENTS,
        now
    )
    .execute(tx)
    .await?;
    let which = match first.total > EVENTS {
        true => format!("the first {EVENTS} are events of a week"),
        false => "each is an event of a week".to_owned(),
    };
    Ok(Some(ConditionRow {
        kind: "Removals",
        ok: false,
        message: format!(
            "the agent has lost its ledger, and with it that {} objects, which had left their apps, were its own: {}; \
             they stay in the cluster and nothing is deleted; delete by hand what is not needed; {which}: `flotilla \
             events --cluster {cluster_name} --types Warning --limit {EVENTS}` (told for a day)",
            first.total,
            names.join(", ")
        ),
        since: now,
    }))
}

/// Ends what was told for long enough.
pub(super) fn told(since: Option<OffsetDateTime>, now: OffsetDateTime) -> Option<ConditionRow> {
    let told = since.filter(|since| now - *since > TOLD);
    told.map(|_| ConditionRow::new("Removals", String::new(), now))
}
