//! The hubs that run on this database. Of hubs of several releases only the newest decides: an older one would render
//! and plan with its own code, and the two would take turns for ever.

use sqlx::{Executor, Postgres};

use super::{Result, Store, StoreError};

/// The version this hub writes as: what it renders, plans and publishes differs from another release's.
pub const WRITER: i64 = version(env!("CARGO_PKG_VERSION"));

/// `1.2.3` as 1002003.
const fn version(text: &str) -> i64 {
    let bytes = text.as_bytes();
    let (mut parts, mut part, mut index) = (0_i64, 0_i64, 0);
    while index < bytes.len() {
        match bytes[index] {
            digit @ b'0'..=b'9' => part = part * 10 + (digit - b'0') as i64,
            b'.' => {
                parts = (parts + part) * 1000;
                part = 0;
            }
            // A pre-release counts as its release.
            _ => break,
        }
        index += 1;
    }
    parts + part
}

impl Store {
    /// Records that this hub lives, and where it keeps artifacts.
    pub async fn beat(&self, replica: &str, artifact_store: &str) -> Result<()> {
        let heard = self.telling.heard();
        let alone = self.record(self.pool(), replica, artifact_store).await?;
        self.telling.note_alone(alone, heard);
        Ok(())
    }

    /// Records that this hub lives, and tells whether no other does.
    async fn record<'e>(
        &self,
        executor: impl Executor<'e, Database = Postgres>,
        replica: &str,
        artifact_store: &str,
    ) -> Result<bool> {
        let alone = sqlx::query_scalar!(
            r#"INSERT INTO replica (name, writer, artifact_store) VALUES ($1, $2, $3)
               ON CONFLICT (name) DO UPDATE SET writer = $2, artifact_store = $3, heartbeat = now()
               RETURNING NOT EXISTS (SELECT FROM replica other WHERE other.name <> $1 AND is_alive(other.heartbeat)) AS "alone!""#,
            replica,
            self.writer,
            artifact_store
        )
        .fetch_one(executor)
        .await?;
        Ok(alone)
    }

    /// Records that this hub lives and where it keeps artifacts, unless another one lives that keeps them elsewhere; then
    /// nothing is recorded, and the other's name returned. One that holds its name no more has ended, however lately it was
    /// heard of. Of two that begin at once one is first.
    pub async fn join(&self, replica: &str, artifact_store: &str) -> Result<Option<String>> {
        let mut tx = self.pool().begin().await?;
        sqlx::query("LOCK TABLE replica IN SHARE ROW EXCLUSIVE MODE")
            .execute(&mut *tx)
            .await?;
        let other = sqlx::query_scalar!(
            "SELECT name FROM replica
             WHERE name <> $1 AND artifact_store <> $2 AND is_alive(heartbeat) AND EXISTS (
               SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
               WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.objsubid = 1
                 AND (l.classid::bigint << 32 | l.objid::bigint) = hashtextextended('flotilla/replica/' || name, 0))
             ORDER BY name LIMIT 1",
            replica,
            artifact_store
        )
        .fetch_optional(&mut *tx)
        .await?;
        if other.is_some() {
            return Ok(other);
        }
        let heard = self.telling.heard();
        let alone = self.record(&mut *tx, replica, artifact_store).await?;
        tx.commit().await?;
        self.telling.note_alone(alone, heard);
        // Those that are here tell this one, from now on, what they commit.
        self.telling.tell(&self.warm, self.silent).await;
        Ok(None)
    }

    /// Records that this hub ends. Whatever it has committed is told by then.
    pub async fn leave(&self, replica: &str) -> Result<()> {
        sqlx::query!("DELETE FROM replica WHERE name = $1", replica)
            .execute(self.pool())
            .await?;
        self.telling.tell(&self.warm, self.silent).await;
        Ok(())
    }

    /// What stopped a compare-and-set: a newer hub, else another writer.
    pub(super) async fn not_ours(&self, what: &'static str) -> StoreError {
        let superseded = sqlx::query_scalar!(r#"SELECT superseded($1) AS "superseded!""#, self.writer)
            .fetch_one(self.pool())
            .await;
        match superseded {
            Ok(true) => StoreError::Superseded,
            Ok(false) => StoreError::Conflict(what),
            Err(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_releases_are() {
        let ordered = ["0.1.0", "0.1.12", "0.2.0", "1.0.0", "1.0.1-rc.1", "12.3.4"];
        let numbers = ordered.map(version);
        assert!(numbers.is_sorted(), "{numbers:?}");
        assert_eq!(version("1.2.3"), 1_002_003);
    }
}
