//! A database that a hub is restored into: what is there, how it becomes empty, and how what was put back becomes a hub
//! of a new history. From its first change to its last one a table `restoring` stands in it, and no hub starts on it.
//!
//! The statements before the last migration are written for any schema there may be, and checked by tests alone.

use flotilla_core::{desired::next_incarnation, unit::root};
use sqlx::{Connection as _, PgConnection};
use time::OffsetDateTime;

use super::{MIGRATOR, Result, StoreError, session::signed};

/// The associated data of the sealed value by which a key-encryption key is known to be the right one.
pub const SAMPLE: &str = "sealed_key/digest";

/// What is in a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Empty,
    /// A hub's tables, and no hub has served from them.
    Bare,
    /// A hub.
    Hub(HubFound),
    /// A restore that did not end, of this hub.
    Half {
        /// Its trust domain.
        trust_domain: String,
    },
    /// Tables of something else.
    Foreign,
}

/// A hub in a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubFound {
    /// Its trust domain.
    pub trust_domain: String,
    /// Number of its history.
    pub incarnation: u64,
    /// Clusters that it knows.
    pub clusters: i64,
    /// Configured objects that it has.
    pub resources: i64,
}

/// Where a hub's tables are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Schema of the database.
    pub schema: String,
    /// The newest migration.
    pub migration: i64,
    /// Major version of the server.
    pub server: u32,
}

/// Looks at what is in a database.
pub async fn found(connection: &mut PgConnection) -> Result<Found> {
    let (half, hub, any): (bool, bool, bool) = sqlx::query_as(
        "SELECT to_regclass('restoring') IS NOT NULL, to_regclass('hub') IS NOT NULL,
                EXISTS (SELECT FROM pg_tables WHERE schemaname = current_schema())",
    )
    .fetch_one(&mut *connection)
    .await?;
    if half {
        let trust_domain = sqlx::query_scalar("SELECT trust_domain FROM restoring")
            .fetch_one(connection)
            .await?;
        return Ok(Found::Half { trust_domain });
    }
    if !hub {
        return Ok(if any { Found::Foreign } else { Found::Empty });
    }
    let row: Option<(String, i64, i64, i64)> = sqlx::query_as(
        "SELECT trust_domain, incarnation, (SELECT count(*) FROM cluster), (SELECT count(*) FROM resource) FROM hub",
    )
    .fetch_optional(connection)
    .await?;
    Ok(
        row.map_or(Found::Bare, |(trust_domain, incarnation, clusters, resources)| {
            Found::Hub(HubFound {
                trust_domain,
                incarnation: incarnation.unsigned_abs(),
                clusters,
                resources,
            })
        }),
    )
}

/// A value that only the right key-encryption key opens, as [`SAMPLE`]; `None`: nothing is sealed yet.
pub async fn sealed_sample(connection: &mut PgConnection) -> Result<Option<Vec<u8>>> {
    let sample = sqlx::query_scalar("SELECT sealed FROM sealed_key WHERE name = 'digest'");
    Ok(sample.fetch_optional(connection).await?)
}

/// Where a hub's tables are, or would be.
pub async fn place(connection: &mut PgConnection) -> Result<Place> {
    let (schema, server): (String, i32) =
        sqlx::query_as("SELECT current_schema()::text, current_setting('server_version_num')::int / 10000")
            .fetch_one(&mut *connection)
            .await?;
    let is_migrated: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    let migration = match is_migrated {
        true => {
            sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM _sqlx_migrations")
                .fetch_one(connection)
                .await?
        }
        false => 0,
    };
    Ok(Place {
        schema,
        migration,
        server: server.unsigned_abs(),
    })
}

/// How many connections of hubs there are to the database.
pub async fn hubs_connected(connection: &mut PgConnection) -> Result<i64> {
    let hubs = sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'flotilla-hub' AND pid <> pg_backend_pid()",
    );
    Ok(hubs.fetch_one(connection).await?)
}

/// Removes whatever is in the hub's schema, and writes that a restore of `trust_domain` has begun. From here on no hub
/// starts on the database until [`finish`] has ended.
pub async fn begin(connection: &mut PgConnection, trust_domain: &str) -> Result<()> {
    let mut tx = connection.begin().await?;
    // What was there may have had a history beyond that of the backup, and so may an attempt before this one.
    let floor: i64 = {
        let has = |name: &'static str| {
            sqlx::query_scalar::<_, bool>("SELECT to_regclass($1) IS NOT NULL").bind(name)
        };
        let mut floor = 0;
        if has("hub").fetch_one(&mut *tx).await? {
            let own = sqlx::query_scalar("SELECT coalesce(max(incarnation), 0) FROM hub");
            floor = own.fetch_one(&mut *tx).await?;
        }
        if has("restoring").fetch_one(&mut *tx).await? {
            let before = sqlx::query_scalar("SELECT coalesce(max(floor), 0) FROM restoring");
            floor = floor.max(before.fetch_one(&mut *tx).await?);
        }
        floor
    };
    // Names first: what is dropped takes others with it, tables their sequences. What belongs to an extension is not the
    // hub's.
    sqlx::raw_sql(
        "DO $$
         DECLARE
             names text[];
             name text;
         BEGIN
             SELECT array_agg(format('DROP %s IF EXISTS %I.%I CASCADE',
                        CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
                                     ELSE 'TABLE' END, current_schema(), relname) ORDER BY relkind = 'S') INTO names
             FROM pg_class c
             WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S')
               AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                                 AND d.deptype = 'e');
             FOREACH name IN ARRAY coalesce(names, '{}') LOOP EXECUTE name; END LOOP;
             SELECT array_agg(format('DROP ROUTINE IF EXISTS %s CASCADE', oid::regprocedure)) INTO names
             FROM pg_proc p
             WHERE pronamespace = current_schema()::regnamespace
               AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
                                 AND d.deptype = 'e');
             FOREACH name IN ARRAY coalesce(names, '{}') LOOP EXECUTE name; END LOOP;
         END $$;
         CREATE TABLE restoring (trust_domain text NOT NULL, floor bigint NOT NULL, at timestamptz NOT NULL DEFAULT now())",
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query("INSERT INTO restoring (trust_domain, floor) VALUES ($1, $2)")
        .bind(trust_domain)
        .bind(floor)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(())
}

/// Makes what was put back a hub of a new history, in one transaction: its incarnation is above all that are known, and
/// nothing of it is published before it is confirmed. Returns that incarnation.
pub async fn finish(connection: &mut PgConnection, now: OffsetDateTime) -> Result<u64> {
    MIGRATOR.run_direct(None, connection, false).await?;
    let mut tx = connection.begin().await?;
    let is_begun: bool = sqlx::query_scalar("SELECT to_regclass('restoring') IS NOT NULL")
        .fetch_one(&mut *tx)
        .await?;
    let floor: i64 = match is_begun {
        true => {
            let floor = sqlx::query_scalar("SELECT coalesce(max(floor), 0) FROM restoring");
            floor.fetch_one(&mut *tx).await?
        }
        false => 0,
    };
    let known = sqlx::query_scalar!("SELECT incarnation FROM hub FOR UPDATE")
        .fetch_optional(&mut *tx)
        .await?;
    let known = known.ok_or_else(|| StoreError::corrupt("backup", "it holds no hub"))?;
    let clock = u64::try_from(now.unix_timestamp()).unwrap_or(0);
    let incarnation = next_incarnation(clock, known.max(floor).unsigned_abs());
    sqlx::query!(
        "UPDATE hub SET incarnation = $1, restored_at = $2",
        signed(incarnation),
        now
    )
    .execute(&mut *tx)
    .await?;
    mark_unconfirmed(&mut tx, incarnation).await?;
    forget_the_present(&mut tx).await?;
    sqlx::query!("INSERT INTO audit (principal, verb, object) VALUES ('local', 'restore', 'hub')")
        .execute(&mut *tx)
        .await?;
    if is_begun {
        sqlx::query("DROP TABLE restoring").execute(&mut *tx).await?;
    }
    tx.commit().await?;
    // Statistics are no part of a dump; without them the first minutes go through whole tables.
    let tables: Option<String> = sqlx::query_scalar(
        "SELECT string_agg(format('%I.%I', schemaname, tablename), ', ') FROM pg_tables WHERE schemaname = current_schema()",
    )
    .fetch_one(&mut *connection)
    .await?;
    if let Some(tables) = tables {
        let analyze = format!("ANALYZE {tables}");
        sqlx::query(sqlx::AssertSqlSafe(analyze))
            .execute(connection)
            .await?;
    }
    Ok(incarnation)
}

/// What the backup says of sources, apps and identities may be older than what agents hold.
async fn mark_unconfirmed(tx: &mut PgConnection, incarnation: u64) -> Result<()> {
    sqlx::query!(
        "INSERT INTO unconfirmed (uid)
         SELECT uid FROM resource WHERE is_app(kind) OR is_source(kind)
         UNION SELECT app_uid FROM unit
         ON CONFLICT DO NOTHING"
    )
    .execute(&mut *tx)
    .await?;
    // Agents keep what an incarnation that is new to them does not name. Each entry comes back as its app is confirmed.
    sqlx::query!("DELETE FROM unpublished").execute(&mut *tx).await?;
    sqlx::query!("DELETE FROM unit_refused").execute(&mut *tx).await?;
    sqlx::query!("DELETE FROM desired_entry")
        .execute(&mut *tx)
        .await?;
    let empty = root([]);
    // At once, and not with the first publication: no agent is offered anything under the number of the backup.
    sqlx::query!(
        "UPDATE desired SET incarnation = $1, generation = generation + 1, root = $2, published_at = now()",
        signed(incarnation),
        &empty.as_bytes()[..]
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!("UPDATE source_state SET next_probe = now(), held_by = '', held_until = 'epoch'")
        .execute(&mut *tx)
        .await?;
    sqlx::query!(
        "INSERT INTO due (topic, key)
         SELECT 'app', uid FROM resource WHERE is_app(kind) UNION ALL SELECT 'cluster', id FROM cluster
         ON CONFLICT (topic, key) DO UPDATE SET change = excluded.change, at = now(), held_by = '', held_until = 'epoch'"
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!("UPDATE identity SET of_backup = true")
        .execute(&mut *tx)
        .await?;
    // Which of them were used after the backup is not known.
    sqlx::query!("UPDATE join_token SET expires_at = least(expires_at, now()) WHERE used_at IS NULL")
        .execute(&mut *tx)
        .await?;
    Ok(())
}

/// What was so when the backup was taken, and is said anew by whoever it is about.
async fn forget_the_present(tx: &mut PgConnection) -> Result<()> {
    sqlx::query!(
        "UPDATE session SET connected = false, told_connected = false, replica = '', observed_root = '', message = ''"
    )
    .execute(&mut *tx)
    .await?;
    // A deletion that was under way may have been stopped since, and nobody has asked for it of this hub.
    sqlx::query!(
        "UPDATE resource SET deleting_at = NULL, deletion_policy = NULL, deletion_by = NULL WHERE deleting_at IS NOT NULL"
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "UPDATE cluster SET departure = NULL, departing_at = NULL, drained = false WHERE departure IS NOT NULL"
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!("UPDATE unit SET state = 'Detached', removal = NULL WHERE state = 'Removing'")
        .execute(&mut *tx)
        .await?;
    sqlx::query!("UPDATE unit SET released = false WHERE released")
        .execute(&mut *tx)
        .await?;
    // Of versions that may be others by now.
    sqlx::query!("DELETE FROM leaving").execute(&mut *tx).await?;
    // It is told again, also as it is here, and only what is news is decided about.
    sqlx::query!("DELETE FROM unit_status WHERE objects_pending_removal > 0")
        .execute(&mut *tx)
        .await?;
    sqlx::query!("DELETE FROM approval").execute(&mut *tx).await?;
    sqlx::query!("DELETE FROM replica").execute(&mut *tx).await?;
    sqlx::query!("DELETE FROM outbox").execute(&mut *tx).await?;
    Ok(())
}
