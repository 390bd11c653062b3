//! The hub's Postgres: the one that `DATABASE_URL` names, or the private one in the data directory, which only whoever
//! holds the directory's lock starts and stops. Knows nothing of what is in it.

use std::str::FromStr as _;

use anyhow::Context as _;
use sqlx::postgres::PgConnectOptions;

use crate::{config::Database, lock::DataDirLock, store::private::PrivatePostgres};

/// A Postgres that can be connected to.
#[derive(Debug)]
pub struct Server {
    options: PgConnectOptions,
    private: Option<PrivatePostgres>,
    /// Not held by a command beside a hub that serves: what runs is that hub's.
    lock: Option<DataDirLock>,
}

impl Server {
    /// The given Postgres, or the private one: started by the holder of the lock, else as the serving hub has started it.
    pub async fn open(database: &Database, lock: Option<DataDirLock>) -> anyhow::Result<Self> {
        let dir = database.data_dir.join("postgres");
        let (options, private) = match &database.database_url {
            Some(url) => (
                PgConnectOptions::from_str(url).context("DATABASE_URL is not a Postgres URL")?,
                None,
            ),
            None => {
                let private = match lock {
                    Some(_) => PrivatePostgres::start(&dir).await?,
                    None => PrivatePostgres::attach(&dir).await?,
                };
                (private.options(), Some(private))
            }
        };
        Ok(Self {
            options,
            private,
            lock,
        })
    }

    /// How to connect.
    pub fn options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// The private one.
    pub fn private(&self) -> Option<&PrivatePostgres> {
        self.private.as_ref()
    }

    /// What people call it.
    pub fn name(&self) -> String {
        match self.private {
            Some(_) => "the hub's own Postgres".to_owned(),
            None => format!(
                "the database at {}:{}, which DATABASE_URL names",
                self.options.get_host(),
                self.options.get_port()
            ),
        }
    }

    /// Stops it, if it is ours to stop.
    pub async fn stop(self) {
        if let (Some(private), Some(_)) = (&self.private, &self.lock)
            && let Err(error) = private.stop().await
        {
            tracing::warn!(%error, "stopping the private Postgres failed; the next start continues with it");
        }
    }
}
