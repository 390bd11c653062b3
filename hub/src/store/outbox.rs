//! Wake-ups between tasks and replicas. They carry no data: a reader looks at the key's whole state. Losing one
//! costs a poll interval, never correctness.

use uuid::Uuid;

use super::{Result, Store, Topic};

/// Rows read at once, of up to 5,000 keys each: a change of an app on many thousand clusters is one reading.
const BATCH: i64 = 100;

/// Where a reader stands. A row is read as soon as it is visible, whatever transactions that began before its own are
/// still open: what was read is what a snapshot of the database shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// What this shows was read.
    read: String,
    /// A reading that is not at its end.
    page: Option<Page>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Page {
    /// What it reads is what this shows.
    until: String,
    /// The last row: its transaction and number.
    after: (String, i64),
}

impl Reader {
    /// Whether the last reading was cut at its bound.
    pub fn has_more(&self) -> bool {
        self.page.is_some()
    }

    /// The snapshot of which all is read.
    pub(super) fn read(&self) -> &str {
        &self.read
    }
}

/// One wake-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nudge {
    /// What it is about.
    pub topic: Topic,
    /// Whom.
    pub key: Uuid,
}

impl Store {
    /// The present end of the outbox: where a reader begins before it looks at everything.
    pub async fn outbox_end(&self) -> Result<Reader> {
        let read = sqlx::query_scalar!(r#"SELECT pg_current_snapshot()::text AS "snapshot!""#)
            .fetch_one(self.pool())
            .await?;
        Ok(Reader { read, page: None })
    }

    /// Reads the wake-ups that are visible and were not read, of at most 100 rows. No open transaction holds them back.
    pub async fn outbox_after(&self, reader: &mut Reader) -> Result<Vec<Nudge>> {
        let page = reader.page.as_ref();
        let after = page.map_or(("0", 0), |page| (page.after.0.as_str(), page.after.1));
        let rows = sqlx::query!(
            r#"SELECT o.seq AS "seq?", o.topic AS "topic?", o.keys AS "keys?", o.xid::text AS "xid?", s.until::text AS "until!"
               FROM (SELECT coalesce($2::text::pg_snapshot, pg_current_snapshot()) AS until) s LEFT JOIN LATERAL (
                 SELECT * FROM outbox
                 WHERE xid >= pg_snapshot_xmin($1::text::pg_snapshot)
                   AND NOT pg_visible_in_snapshot(xid, $1::text::pg_snapshot) AND pg_visible_in_snapshot(xid, s.until)
                   AND (xid, seq) > ($3::text::xid8, $4)
                 ORDER BY xid, seq LIMIT $5) o ON true"#,
            &reader.read,
            page.map(|page| page.until.as_str()),
            after.0,
            after.1,
            BATCH
        )
        .fetch_all(self.pool())
        .await?;
        let is_cut = i64::try_from(rows.len()) == Ok(BATCH);
        let until = rows.first().map(|row| row.until.clone());
        let mut last = None;
        let mut nudges = Vec::new();
        for row in rows {
            let (Some(seq), Some(topic), Some(keys), Some(xid)) = (row.seq, row.topic, row.keys, row.xid)
            else {
                continue;
            };
            last = Some((xid, seq));
            // A topic of a newer hub is not for this one.
            if let Some(topic) = Topic::parse(&topic) {
                nudges.extend(keys.into_iter().map(|key| Nudge { topic, key }));
            }
        }
        reader.page = None;
        match (until, last) {
            (Some(until), Some(after)) if is_cut => reader.page = Some(Page { until, after }),
            (Some(until), _) => reader.read = until,
            (None, _) => {}
        }
        Ok(nudges)
    }
}
