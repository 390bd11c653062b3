//! Postgres: a file per entity, queries as methods on [`Store`], one transaction per decision.
//!
//! Wake-ups travel through the outbox ([`outbox`]); a transaction that changes anything others wait for calls
//! [`nudge`] before it commits. Rows are data of this module only: what leaves it are plain structs.

pub mod apply;
pub mod authority;
pub mod cluster;
pub mod content;
pub mod enrol;
pub mod event;
pub mod outbox;
pub mod plan;
pub mod private;
pub mod publish;
pub mod query;
pub mod rendered;
pub mod report;
pub mod resource;
pub mod session;
pub mod source;
pub mod trace;

use std::time::Duration;

use sqlx::{
    PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use uuid::Uuid;

/// Migrations, embedded; applied at start under an advisory lock.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

/// A handle on the hub's database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
}

/// What went wrong, by what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database did not answer or refused; retry with backoff.
    #[error("the database is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// Another writer was faster; read again and decide again.
    #[error("{0} was changed meanwhile")]
    Conflict(&'static str),
    /// A row holds what this version cannot read; nothing helps but a person.
    #[error("the store holds an unreadable {what}")]
    Corrupt {
        /// The row.
        what: String,
        /// Cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The schema could not be brought up to date.
    #[error("migrating the database failed")]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Unavailable(error)
    }
}

impl StoreError {
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
    /// Connects and brings the schema up to date.
    pub async fn open(options: PgConnectOptions, connections: u32) -> Result<Self> {
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(Duration::from_secs(10))
            .connect_with(options.application_name("flotilla-hub"))
            .await?;
        MIGRATOR.run(&pool).await?;
        Ok(Self { pool })
    }

    /// Tells whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }

    /// The server's version, e.g. `15.18`.
    pub async fn server_version(&self) -> Result<String> {
        Ok(sqlx::query_scalar("SHOW server_version")
            .fetch_one(&self.pool)
            .await?)
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
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
    /// Units of a cluster reported: the key is the cluster's id.
    Report,
    /// A cluster's identity or state changed (revoked …): the key is its id.
    Identity,
}

impl Topic {
    const ALL: [Self; 7] = [
        Self::Resource,
        Self::Source,
        Self::App,
        Self::Cluster,
        Self::Desired,
        Self::Report,
        Self::Identity,
    ];

    /// The topic's name in the store and in Watch.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resource => "resource",
            Self::Source => "source",
            Self::App => "app",
            Self::Cluster => "cluster",
            Self::Desired => "desired",
            Self::Report => "report",
            Self::Identity => "identity",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.as_str() == text)
    }
}

/// Adds wake-ups to the transaction and, once per transaction, the notification that they exist.
pub(crate) async fn nudge(tx: &mut PgConnection, topic: Topic, keys: &[Uuid]) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO outbox (topic, key) SELECT $1, key FROM unnest($2::uuid[]) AS key",
        topic.as_str(),
        keys
    )
    .execute(&mut *tx)
    .await?;
    // Postgres folds equal notifications of one transaction into one.
    sqlx::query("NOTIFY flotilla_outbox").execute(&mut *tx).await?;
    Ok(())
}
