//! The connection on which a hub hears that the outbox grew. It also holds the hub's name: while it lives nobody else has
//! that name, and a hub whose connection has ended is known as ended at once.

use std::{mem, sync::Arc, time::Duration};

use sqlx::postgres::PgListener;
use tokio::time::timeout;

use super::{Result, Store, connect, silence::answered};

/// Waits for the outbox to grow, on a connection beside the pool's.
pub struct Listener {
    store: Store,
    replica: Arc<str>,
    /// None after its connection was lost.
    connection: Option<PgListener>,
    /// What was told before it listened was not heard.
    is_new: bool,
    has_name: bool,
}

impl Store {
    /// Listens, in the name of this replica.
    pub async fn listen(&self, replica: &str) -> Result<Listener> {
        let mut listener = Listener {
            store: self.clone(),
            replica: replica.into(),
            connection: None,
            is_new: true,
            has_name: false,
        };
        listener.take_name().await?;
        Ok(listener)
    }
}

impl Listener {
    /// Whether the replica's name is this listener's: else another hub that runs has the same.
    pub fn has_name(&self) -> bool {
        self.has_name
    }

    /// Takes the replica's name unless another connection holds it, and tells whether it has it.
    pub async fn take_name(&mut self) -> Result<bool> {
        self.listening().await?;
        if !self.has_name {
            let asked = sqlx::query_scalar!(
                r#"SELECT pg_try_advisory_lock(hashtextextended('flotilla/replica/' || $1, 0)) AS "taken!""#,
                &*self.replica
            );
            let silent = self.store.silent;
            let answer = answered(asked.fetch_one(self.listening().await?), silent).await;
            self.has_name = self.heard(answer)?;
        }
        Ok(self.has_name)
    }

    /// Waits for a notification; those that came meanwhile are one. `false`: `poll` has passed in silence. After a lost
    /// connection, and where listening begins, the caller reads as after a notification.
    pub async fn wait(&mut self, poll: Duration) -> Result<bool> {
        self.listening().await?;
        if mem::take(&mut self.is_new) {
            return Ok(true);
        }
        let connection = self.listening().await?;
        let Ok(told) = timeout(poll, connection.try_recv()).await else {
            return Ok(false);
        };
        while connection.next_buffered().is_some() {}
        if !matches!(told, Ok(Some(_))) {
            self.connection = None;
            self.listening().await?;
            self.is_new = false;
        }
        Ok(true)
    }

    /// The connection that listens. A statement is asked on it from time to time: where packets are lost on the way,
    /// nothing else tells a connection on which nothing is heard from one to which nothing is said.
    pub(super) async fn listening(&mut self) -> Result<&mut PgListener> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        Ok(self.connection.insert(connection))
    }

    async fn connect(&mut self) -> Result<PgListener> {
        self.has_name = false;
        let options = self.store.warm.options();
        // A pool of its own: what becomes of a connection that is given up holds up nobody who waits for one.
        let pool = connect::pool(1, connect::ANSWERS, &[])
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_lazy_with(options);
        let mut connection = PgListener::connect_with(&pool).await?;
        connection.eager_reconnect(false);
        answered(connection.listen("flotilla_outbox"), self.store.silent).await?;
        self.is_new = true;
        Ok(connection)
    }

    /// What was answered on the connection that listens. It is given up where it gave no answer.
    pub(super) fn heard<T>(&mut self, answer: sqlx::Result<T>) -> Result<T> {
        if answer.is_err() {
            self.connection = None;
        }
        Ok(answer?)
    }
}
