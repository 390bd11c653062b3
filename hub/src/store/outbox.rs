//! Wake-ups between tasks and replicas. They carry no data: a reader looks at the key's whole state. Losing one
//! costs a poll interval, never correctness.

use uuid::Uuid;

use super::{Result, Store, StoreError, Topic};

/// Rows read at once: a change of an app on a few thousand clusters is one reading.
const BATCH: i64 = 5000;
/// Rows remembered. More come only while a transaction is open for long, of whatever database of the server: then some
/// wake-ups are left to the pass.
const REMEMBERED: usize = 20_000;

/// Where a reader stands. A row is read as soon as it is visible; since transactions that began before its own may still
/// be open, it is remembered until none is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// Rows of older transactions were read, all of them.
    settled: u64,
    /// Read, and not older: transaction and row.
    read: Vec<(u64, i64)>,
    more: bool,
}

impl Reader {
    /// Whether the last reading was cut at its bound.
    pub fn has_more(&self) -> bool {
        self.more
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
        let settled =
            sqlx::query_scalar!(r#"SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS "xid!""#)
                .fetch_one(self.pool())
                .await?;
        Ok(Reader {
            settled: number(&settled)?,
            read: Vec::new(),
            more: false,
        })
    }

    /// Reads the wake-ups that are visible and were not read, at most 5,000. No open transaction holds them back.
    pub async fn outbox_after(&self, reader: &mut Reader) -> Result<Vec<Nudge>> {
        let read: Vec<i64> = reader.read.iter().map(|(_, seq)| *seq).collect();
        let rows = sqlx::query!(
            r#"SELECT o.seq AS "seq?", o.topic AS "topic?", o.key AS "key?", o.xid::text AS xid, s.xmin::text AS "xmin!"
               FROM (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS xmin) s LEFT JOIN LATERAL (
                 SELECT * FROM outbox WHERE xid >= $1::text::xid8 AND seq <> ALL ($2) ORDER BY xid, seq LIMIT $3) o
                 ON true"#,
            reader.settled.to_string(),
            &read,
            BATCH
        )
        .fetch_all(self.pool())
        .await?;
        reader.more = i64::try_from(rows.len()) == Ok(BATCH);
        if !reader.more
            && let Some(first) = rows.first()
        {
            reader.settled = number(&first.xmin)?;
        }
        let mut nudges = Vec::new();
        for row in rows {
            let (Some(seq), Some(topic), Some(key), Some(xid)) = (row.seq, row.topic, row.key, row.xid)
            else {
                continue;
            };
            reader.read.push((number(&xid)?, seq));
            // A topic of a newer hub is not for this one.
            nudges.extend(Topic::parse(&topic).map(|topic| Nudge { topic, key }));
        }
        if reader.read.len() > REMEMBERED {
            let newest = reader.read.iter().map(|(xid, _)| *xid).max();
            reader.settled = newest.unwrap_or(reader.settled);
        }
        let settled = reader.settled;
        reader.read.retain(|(xid, _)| *xid >= settled);
        Ok(nudges)
    }
}

fn number(text: &str) -> Result<u64> {
    text.parse()
        .map_err(|e: std::num::ParseIntError| StoreError::corrupt(format!("transaction number {text}"), e))
}
