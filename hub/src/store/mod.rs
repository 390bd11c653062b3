//! Postgres: a file per entity, queries as methods on [`Store`], one transaction per decision.
//!
//! Wake-ups travel through the outbox ([`outbox`]); a transaction that changes anything others wait for calls
//! [`nudge`] before it commits. Rows are data of this module only: what leaves it are plain structs.

pub mod apply;
pub mod approval;
pub mod authority;
pub mod beside;
pub mod claim;
pub mod closure;
pub mod cluster;
mod confirmed;
mod connect;
pub mod content;
pub mod departure;
pub mod dependency;
mod doubt;
pub mod due;
pub mod enrol;
pub mod event;
pub mod explain;
pub mod figures;
pub mod history;
pub mod leaving;
pub mod listener;
pub mod nest;
pub mod outbox;
pub mod plan;
pub mod presence;
pub mod private;
pub mod publish;
pub mod query;
pub mod reference;
pub mod removal;
pub mod rendering;
pub mod replica;
pub mod report;
pub mod resource;
pub mod restore;
pub mod retention;
pub mod rollout;
pub mod session;
pub mod sibling;
mod silence;
pub mod source;
pub mod status;
mod target;
mod telling;
pub mod together;
pub mod trace;
mod warm;
pub mod work;

use std::{sync::Arc, time::Duration};

use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};
use telling::Telling;
use uuid::Uuid;
use warm::Warm;

pub(crate) use due::{Wakes, wake, wake_apps};
pub(crate) use silence::{Connection, Pool};

/// Migrations, embedded; applied at start under an advisory lock. What a newer hub has added is no obstacle: the
/// schema of the release before works with it.
static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate::Migrator {
    ignore_missing: true,
    ..sqlx::migrate!("../migrations")
};

/// A handle on the hub's database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    /// Those that this handle asks.
    warm: Arc<Warm>,
    /// Connections of all others than those who plan.
    ordinary: Arc<Warm>,
    planning: Arc<Warm>,
    /// Connections of those who publish, and record what agents say.
    writing: Arc<Warm>,
    /// Connections of those who ask for agents what they may fetch.
    fetching: Arc<Warm>,
    telling: Arc<Telling>,
    known: Arc<publish::Known>,
    writer: i64,
    silent: Duration,
}

/// What went wrong, by what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database did not answer or refused; retry with backoff.
    #[error("the database is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// The database refuses the rows themselves: too large, or against a constraint. Retrying does not help.
    #[error("the database refuses what was to be written")]
    Rejected(#[source] sqlx::Error),
    /// What was to be stored cannot be: whoever asked for it changes it.
    #[error("{0}")]
    Refused(String),
    /// Another writer was faster; read again and decide again.
    #[error("{0} was changed meanwhile")]
    Conflict(&'static str),
    /// An app keeps what somebody else would change: it has to be changed in the app's source.
    #[error("{object} is kept for {owner}, which renders it: change it in the source of that")]
    Kept {
        /// The object.
        object: String,
        /// The app.
        owner: String,
    },
    /// A hub of a newer release is running on this database: it decides, this one serves.
    #[error("a newer hub runs on this database and decides in this one's place")]
    Superseded,
    /// A row holds what this version cannot read; nothing helps but a person.
    #[error("the store holds an unreadable {what}")]
    Corrupt {
        /// The row.
        what: String,
        /// Cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The database is something else's.
    #[error("the database holds tables, and they are not a hub's: give the hub a database of its own")]
    Foreign,
    /// A restore into the database did not end.
    #[error("a restore into this database did not end: run `flotilla-hub restore` again")]
    HalfRestored,
    /// The schema could not be brought up to date.
    #[error("migrating the database failed")]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

/// What a writer has lost to another.
const HELD: &str = "what another writer holds";

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        // It stays unreadable however often it is asked for.
        if let sqlx::Error::ColumnDecode { index, source } = error {
            return Self::corrupt(index, source);
        }
        let code = error.as_database_error().and_then(|error| error.code());
        // Transactions that two writers cannot both have; data exceptions, integrity violations, program limits.
        match code.as_deref().and_then(|code| code.get(..2)) {
            Some("40") => Self::Conflict(HELD),
            Some("22" | "23" | "54") => Self::Rejected(error),
            _ => Self::Unavailable(error),
        }
    }
}

impl StoreError {
    /// Two writers waited for each other, or could not both have what they read, and this one gave way: done again, it is done
    /// after the other.
    pub(crate) fn gave_way(&self) -> bool {
        matches!(self, Self::Conflict(what) if *what == HELD)
    }

    pub(crate) fn corrupt(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Corrupt {
            what: what.into(),
            source: source.into(),
        }
    }
}

/// Result of a store operation.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

impl Store {
    /// Connects and brings the schema up to date. Of the connections, three eighths are for those who plan, a fifth is for
    /// those who publish and record, a quarter is for what agents fetch: an agent's turn is behind other agents', and nobody else's behind all of them.
    pub async fn open(options: PgConnectOptions, connections: u32) -> Result<Self> {
        let (planning, fetching) = ((connections * 3 / 8).max(1), (connections / 4).max(1));
        let writing = (connections / 5).max(1);
        let ordinary = connections.saturating_sub(planning + fetching + writing).max(2);
        let connections = [ordinary, planning, fetching, writing];
        Self::open_within(options, connections, silence::SILENT, connect::ANSWERS).await
    }

    /// With other bounds of a statement's silence, and of a connection's that nothing was asked.
    async fn open_within(
        options: PgConnectOptions,
        [ordinary, planning, fetching, writing]: [u32; 4],
        silent: Duration,
        answers: Duration,
    ) -> Result<Self> {
        let options = connect::named(options);
        // On a connection of its own: a migration may take as long as it takes.
        let mut connection = PgConnection::connect_with(&options).await?;
        let is_half: bool = sqlx::query_scalar("SELECT to_regclass('restoring') IS NOT NULL")
            .fetch_one(&mut connection)
            .await?;
        if is_half {
            return Err(StoreError::HalfRestored);
        }
        let is_foreign: bool = sqlx::query_scalar(
            "SELECT to_regclass('hub') IS NULL AND EXISTS (
               SELECT FROM pg_tables WHERE schemaname = current_schema() AND tablename <> '_sqlx_migrations')",
        )
        .fetch_one(&mut connection)
        .await?;
        if is_foreign {
            return Err(StoreError::Foreign);
        }
        MIGRATOR.run_direct(None, &mut connection, false).await?;
        connection.close().await?;
        let often = |connections| {
            let pool = connect::pool(connections, answers, &connect::PLANNING);
            Arc::new(Warm::new(pool.connect_lazy_with(options.clone()), answers))
        };
        let (planning, fetching) = (often(planning), often(fetching));
        let writing = connect::pool(writing, answers, &connect::WRITING);
        let writing = Arc::new(Warm::new(writing.connect_lazy_with(options.clone()), answers));
        let pool = connect::pool(ordinary, answers, &[]).connect_with(options);
        let ordinary = Arc::new(Warm::new(pool.await?, answers));
        Ok(Self {
            warm: ordinary.clone(),
            ordinary,
            planning,
            writing,
            fetching,
            telling: Arc::default(),
            known: Arc::default(),
            writer: replica::WRITER,
            silent,
        })
    }

    /// This handle writing as a hub of another version.
    #[must_use]
    pub fn with_writer(self, writer: i64) -> Self {
        Self { writer, ..self }
    }

    /// This handle for those who plan: see [`connect::PLANNING`].
    #[must_use]
    pub fn for_planning(&self) -> Self {
        Self {
            warm: self.planning.clone(),
            ..self.clone()
        }
    }

    /// This handle for those who publish, and record what agents say: see [`connect::WRITING`].
    #[must_use]
    pub fn for_writing(&self) -> Self {
        Self {
            warm: self.writing.clone(),
            ..self.clone()
        }
    }

    /// This handle for what agents fetch: few statements, each asked for each agent.
    #[must_use]
    pub fn for_fetching(&self) -> Self {
        Self {
            warm: self.fetching.clone(),
            ..self.clone()
        }
    }

    /// Wakes whoever works at these.
    pub async fn wake(&self, topic: Topic, keys: &[Uuid]) -> Result<()> {
        let mut tx = self.pool().begin().await?;
        nudge(&mut tx, topic, keys).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Whether no other hub is on this database, as far as is known.
    pub fn is_alone(&self) -> bool {
        self.telling.is_alone()
    }

    /// Tells whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        sqlx::query("SELECT 1").execute(self.pool()).await?;
        Ok(())
    }

    /// The server's version, e.g. `15.18`.
    pub async fn server_version(&self) -> Result<String> {
        Ok(sqlx::query_scalar("SHOW server_version")
            .fetch_one(self.pool())
            .await?)
    }

    /// Closes all connections, once whoever holds one gives it back.
    pub async fn close(&self) {
        futures::join!(
            self.ordinary.close(),
            self.planning.close(),
            self.writing.close(),
            self.fetching.close()
        );
    }

    /// For what waits for the disk, or must not wait for those who plan, whatever this handle is for.
    pub(crate) fn ordinary(&self) -> Pool<'_> {
        Pool {
            warm: &self.ordinary,
            silent: self.silent,
            telling: &self.telling,
        }
    }

    pub(crate) fn pool(&self) -> Pool<'_> {
        Pool {
            warm: &self.warm,
            silent: self.silent,
            telling: &self.telling,
        }
    }
}

/// What an outbox row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    /// A configured object changed: the key is its uid.
    Resource,
    /// A source has a new revision, or its state changed: the key is its uid.
    Source,
    /// An app's rendering, plan or request changed: the key is its uid.
    App,
    /// A cluster's units changed: the key is its id.
    Cluster,
    /// A cluster's desired state was published: the key is its id.
    Desired,
    /// What is shown of an app's units changed: the key is the app's uid; of a whole cluster: its id.
    Shown,
    /// A cluster's agent came, went or answered: the key is the cluster's id. It is for who watches; nothing is decided
    /// by it.
    Session,
    /// A cluster's identity or state changed (revoked …): the key is its id.
    Identity,
    /// A cluster's stream was taken over by another hub: the key is the cluster's id.
    Takeover,
    /// A person's credential was replaced: the key is nil.
    Credential,
    /// Something has left units of an app and is to be decided about: the key is the app's uid.
    Leaving,
    /// A cluster is to be drained, or to leave: the key is its id.
    Departure,
}

impl Topic {
    const ALL: [Self; 12] = [
        Self::Resource,
        Self::Source,
        Self::App,
        Self::Cluster,
        Self::Desired,
        Self::Shown,
        Self::Session,
        Self::Identity,
        Self::Takeover,
        Self::Credential,
        Self::Leaving,
        Self::Departure,
    ];

    /// The topic's name in the store and in Watch.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resource => "resource",
            Self::Source => "source",
            Self::App => "app",
            Self::Cluster => "cluster",
            Self::Desired => "desired",
            Self::Shown => "report",
            Self::Session => "session",
            Self::Identity => "identity",
            Self::Takeover => "takeover",
            Self::Credential => "credential",
            Self::Leaving => "leaving",
            Self::Departure => "departure",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.as_str() == text)
    }
}

/// Adds wake-ups to the transaction; that they exist is told once it has committed.
pub(crate) async fn nudge(tx: &mut Connection, topic: Topic, keys: &[Uuid]) -> Result<()> {
    nudge_all(tx, &[(topic, keys)]).await
}

/// Adds wake-ups of several topics to the transaction, in one statement.
pub(crate) async fn nudge_all(tx: &mut Connection, told: &[(Topic, &[Uuid])]) -> Result<()> {
    let wakes = Wakes {
        told,
        ..Wakes::default()
    };
    wake(tx, &wakes).await
}

#[cfg(test)]
mod tests {
    use std::{str::FromStr as _, time::Instant};

    use flotilla_testkit::TestDb;

    use super::*;

    async fn store(db: &TestDb) -> Store {
        let options = PgConnectOptions::from_str(db.url()).expect("a URL");
        Store::open(options, 5).await.expect("opened")
    }

    #[tokio::test]
    async fn a_hub_that_stands_still_inside_a_transaction_holds_up_others_for_seconds_only() {
        let db = TestDb::create().await.expect("a database");
        let (stopped, other) = (store(&db).await, store(&db).await);
        other.hub("fleet.test", 1).await.expect("a row");
        let mut open = stopped.pool().begin().await.expect("begun");
        sqlx::query("UPDATE hub SET incarnation = 2")
            .execute(&mut *open)
            .await
            .expect("locked");
        let mut reader = other.outbox_end().await.expect("a reader");
        let key = Uuid::from_u128(1);
        other.wake(Topic::App, &[key]).await.expect("woken");
        let read = other.outbox_after(&mut reader).await.expect("read");
        assert!(
            read.iter().any(|nudge| nudge.key == key),
            "wake-ups wait for nobody"
        );
        let began = Instant::now();
        sqlx::query("UPDATE hub SET incarnation = 3")
            .execute(other.pool())
            .await
            .expect("not held up for ever");
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        assert!(
            open.commit().await.is_err(),
            "the stopped hub learns that its transaction is gone"
        );
    }

    #[tokio::test]
    async fn a_database_that_a_newer_hub_has_migrated_opens() {
        let db = TestDb::create().await.expect("a database");
        let first = store(&db).await;
        sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (99990101000000, 'of a newer hub', true, '\\x00', 1)",
        )
        .execute(first.pool())
        .await
        .expect("recorded");
        store(&db).await.ping().await.expect("it answers");
    }

    #[tokio::test]
    async fn a_database_that_holds_something_elses_tables_is_left_as_it_is() {
        let db = TestDb::create().await.expect("a database");
        let options = PgConnectOptions::from_str(db.url()).expect("a URL");
        let mut other = PgConnection::connect_with(&options).await.expect("connected");
        sqlx::raw_sql("CREATE TABLE customer (id int)")
            .execute(&mut other)
            .await
            .expect("made");
        let refused = Store::open(options, 5).await;
        assert!(matches!(refused, Err(StoreError::Foreign)), "{refused:?}");
        let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
            .fetch_one(&mut other)
            .await
            .expect("read");
        assert_eq!(tables, 1);
    }

    #[tokio::test]
    async fn of_two_writers_that_wait_for_each_other_one_is_told_to_begin_anew() {
        let db = TestDb::create().await.expect("a database");
        let store = store(&db).await;
        sqlx::raw_sql(
            "CREATE TABLE held (id int PRIMARY KEY, n int); INSERT INTO held VALUES (1, 0), (2, 0)",
        )
        .execute(store.pool())
        .await
        .expect("made");
        let hold = async |tx: &mut Connection, id: i32| {
            sqlx::query("UPDATE held SET n = n + 1 WHERE id = $1")
                .bind(id)
                .execute(tx)
                .await
                .map(drop)
        };
        let mut one = store.pool().begin().await.expect("begun");
        let mut two = store.pool().begin().await.expect("begun");
        hold(&mut one, 1).await.expect("held");
        hold(&mut two, 2).await.expect("held");
        // Whoever is ended lets the other go on.
        let crossed = async |mut tx: silence::Transaction, id: i32| {
            let outcome = hold(&mut tx, id).await;
            tx.rollback().await.map_err(StoreError::from)?;
            outcome.map_err(StoreError::from)
        };
        let (one, two) = tokio::join!(crossed(one, 2), crossed(two, 1));
        assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
        let ended = one.err().or(two.err()).expect("one of them");
        assert!(matches!(ended, StoreError::Conflict(_)), "{ended:?}");
    }

    #[tokio::test]
    async fn what_the_database_refuses_is_no_outage() {
        let db = TestDb::create().await.expect("a database");
        let store = store(&db).await;
        let long: String = (0..9000).map(|n| format!("{n:x}")).collect();
        let error = sqlx::query("INSERT INTO artifact (digest, size) VALUES ($1, 1)")
            .bind(long)
            .execute(store.pool())
            .await
            .expect_err("the index row is too large");
        assert!(matches!(StoreError::from(error), StoreError::Rejected(_)));
    }
}
