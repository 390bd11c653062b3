//! What the hubs on one database divide. All of them are woken by a change; whoever begins at it holds it for a few seconds,
//! and the others leave it and look again when that time is over: a hub that was killed or stands still delays them by no
//! more. No answer is right because of it: what is committed is decided by compare-and-set.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Result, Store, Topic,
    due::Changed,
    plan::{AppPlan, Unread},
};

/// For so long something is held, unless whoever holds it says that it is still at it.
pub const HELD: Duration = Duration::from_secs(5);

/// Whether a hub is to plan an app.
#[derive(Debug)]
pub enum Lease {
    /// It is, from this.
    Held(AppPlan),
    /// It is, and has so many units that they are read by themselves: [`Store::read_plan`].
    Large(Unread),
    /// Another one is at it.
    Others,
    /// Nothing has changed since it was planned, and it is rendered.
    Settled,
}

impl Store {
    /// Takes a source for `replica`. `false`: another one is at it.
    pub async fn take_source(&self, source: Uuid, replica: &str) -> Result<bool> {
        let held = sqlx::query_scalar!(
            r#"INSERT INTO source_state AS s (uid, held_by, held_until)
               SELECT $1, $2, now() + make_interval(secs => $3) WHERE NOT superseded($4)
               ON CONFLICT (uid) DO UPDATE SET held_by = $2, held_until = excluded.held_until
                 WHERE s.held_by IN ('', $2) OR s.held_until <= now()
               RETURNING true AS "held!""#,
            source,
            replica,
            HELD.as_secs_f64(),
            self.writer
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(held.is_some())
    }

    /// Keeps a source that `replica` is still at. `false`: another one has taken it.
    pub async fn keep_source(&self, source: Uuid, replica: &str) -> Result<bool> {
        // One that was recorded just now is nobody's, and no other's either. A statement that had to wait takes no time away.
        Ok(sqlx::query_scalar!(
            r#"WITH kept AS (
                 UPDATE source_state SET held_until = greatest(held_until, now() + make_interval(secs => $3))
                 WHERE uid = $1 AND held_by = $2)
               SELECT NOT EXISTS (
                 SELECT FROM source_state WHERE uid = $1 AND held_by NOT IN ('', $2)) AS "kept!""#,
            source,
            replica,
            HELD.as_secs_f64()
        )
        .fetch_one(self.pool())
        .await?)
    }

    /// Keeps an app's mark whose plan `replica` still makes. `false`: another one has taken it.
    pub async fn keep_plan(&self, app: Uuid, replica: &str) -> Result<bool> {
        // Once its plan is committed it has none, and that is no other's either.
        Ok(sqlx::query_scalar!(
            r#"WITH kept AS (
                 UPDATE due SET held_until = greatest(held_until, now() + make_interval(secs => $3))
                 WHERE topic = 'app' AND key = $1 AND held_by = $2)
               SELECT NOT EXISTS (
                 SELECT FROM due WHERE topic = 'app' AND key = $1 AND held_by NOT IN ('', $2)) AS "kept!""#,
            app,
            replica,
            HELD.as_secs_f64()
        )
        .fetch_one(self.ordinary())
        .await?)
    }

    /// Gives back an app's mark that `replica` holds and has no use for now: another hub may have one.
    pub async fn give_back_plan(&self, app: Uuid, replica: &str) -> Result<()> {
        sqlx::query!(
            "UPDATE due SET held_by = '' WHERE topic = 'app' AND key = $1 AND held_by = $2",
            app,
            replica
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Gives back what `replica` holds, at its orderly end, and wakes the other hubs for it: they have left it alone.
    pub async fn give_back_all(&self, replica: &str) -> Result<()> {
        let mut tx = self.pool().begin().await?;
        let told = sqlx::query!(
            "WITH renderings AS (
               UPDATE rendering SET begun_by = '', not_before = now() WHERE begun_by = $1),
             marks AS (
               UPDATE due SET held_by = '' WHERE held_by = $1 RETURNING topic, key),
             sources AS (
               UPDATE source_state SET held_by = '' WHERE held_by = $1 RETURNING uid)
             INSERT INTO outbox (topic, keys)
             SELECT topic, array_agg(key) FROM (
               SELECT CASE topic WHEN 'cluster' THEN $2 ELSE $3 END AS topic, key FROM marks
               UNION ALL SELECT $4, uid FROM sources) AS told
             GROUP BY topic",
            replica,
            Topic::Identity.as_str(),
            Topic::App.as_str(),
            Topic::Resource.as_str()
        )
        .execute(&mut *tx)
        .await?;
        if told.rows_affected() > 0 {
            tx.wakes();
        }
        tx.commit().await?;
        Ok(())
    }

    /// Takes clusters that are to be judged by placements; `true`: another hub is at more of them, or is just taking them.
    pub async fn take_clusters(&self, replica: &str) -> Result<(Vec<Changed>, bool)> {
        let rows = sqlx::query!(
            r#"WITH free AS (
                 SELECT key FROM due WHERE topic = 'cluster' AND (held_by IN ('', $1) OR held_until <= now())
                   AND NOT superseded($3)
                 ORDER BY key LIMIT 1000 FOR UPDATE SKIP LOCKED),
               held AS (
                 UPDATE due d SET held_by = $1, held_until = now() + make_interval(secs => $2)
                 FROM free WHERE d.topic = 'cluster' AND d.key = free.key
                 RETURNING d.key, d.change)
               SELECT held.key AS "key?", held.change AS "change?", o.others AS "others!"
               FROM (SELECT NOT superseded($3) AND EXISTS (
                       SELECT FROM due d WHERE d.topic = 'cluster' AND d.key NOT IN (SELECT key FROM free)) AS others) AS o
                 LEFT JOIN held ON true ORDER BY held.key"#,
            replica,
            HELD.as_secs_f64(),
            self.writer
        )
        .fetch_all(self.pool())
        .await?;
        let others = rows.first().is_some_and(|row| row.others);
        let taken = rows.into_iter().filter_map(|row| row.key.zip(row.change));
        Ok((taken.collect(), others))
    }

    /// Takes what one hub does for all of them once in `every`; `false`: it was done since.
    pub async fn take_look(&self, name: &str, every: Duration) -> Result<bool> {
        let taken = sqlx::query_scalar!(
            r#"INSERT INTO look AS l (name, at) SELECT $1, now() WHERE NOT superseded($3)
               ON CONFLICT (name) DO UPDATE SET at = now() WHERE l.at < now() - make_interval(secs => $2)
               RETURNING true AS "taken!""#,
            name,
            every.as_secs_f64(),
            self.writer
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(taken.is_some())
    }

    /// Has what was taken and not done looked at by whoever comes next.
    pub async fn give_back_look(&self, name: &str) -> Result<()> {
        sqlx::query!("UPDATE look SET at = '-infinity' WHERE name = $1", name)
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// The time by the store's clock.
    pub async fn now(&self) -> Result<OffsetDateTime> {
        Ok(sqlx::query_scalar!(r#"SELECT now() AS "now!""#)
            .fetch_one(self.pool())
            .await?)
    }
}
