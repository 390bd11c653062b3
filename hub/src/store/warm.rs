//! Connections that have just answered. Whoever asks next takes one of them as it is: the driver's pool asks a connection
//! whether it still answers when it is given back and when it is taken, which are two round trips more than the
//! statement itself.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{PgPool, Postgres, pool::PoolConnection, postgres::PgConnectOptions};

/// For so long one that has answered is taken to answer still.
const FRESH: Duration = Duration::from_secs(1);

/// The driver's pool, and connections of it that are ready at once, the last one first.
#[derive(Debug)]
pub(super) struct Warm {
    pool: PgPool,
    answers: Duration,
    ready: Mutex<Vec<(PoolConnection<Postgres>, Instant)>>,
    /// How many wait for the pool itself: they are given what comes back.
    waiting: AtomicUsize,
}

impl Warm {
    /// Of a pool whose connections may take so long to answer when they are asked nothing.
    pub(super) fn new(pool: PgPool, answers: Duration) -> Self {
        Self {
            pool,
            answers,
            ready: Mutex::default(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// How the pool's connections are made.
    pub(super) fn options(&self) -> PgConnectOptions {
        self.pool.connect_options().as_ref().clone()
    }

    /// For so long one that is asked nothing may take to answer.
    pub(super) fn answers(&self) -> Duration {
        self.answers
    }

    /// A connection that answers.
    pub(super) async fn take(&self) -> sqlx::Result<PoolConnection<Postgres>> {
        if let Some(connection) = self.ready() {
            return Ok(connection);
        }
        let _waits = Waits::new(&self.waiting);
        // Whoever gave one back before that was counted has kept it here.
        match self.ready() {
            Some(connection) => Ok(connection),
            None => self.pool.acquire().await,
        }
    }

    /// Gives back a connection whose last statement has ended well.
    pub(super) fn give(&self, connection: PoolConnection<Postgres>) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.push((connection, Instant::now()));
        let wanted = self.waiting.load(Ordering::SeqCst) > 0 || self.pool.is_closed();
        let spare = wanted.then(|| ready.pop()).flatten();
        drop(ready);
        // To the pool, from which others take it.
        drop(spare);
    }

    /// Closes all, once whoever holds one gives it back.
    pub(super) async fn close(&self) {
        let closed = self.pool.close();
        drop(self.all());
        closed.await;
    }

    /// The one that was given back last. If it is not fresh none is: all go back to the pool, which asks them.
    fn ready(&self) -> Option<PoolConnection<Postgres>> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let (connection, since) = ready.pop()?;
        if since.elapsed() < FRESH {
            return Some(connection);
        }
        let old = std::mem::take(&mut *ready);
        drop(ready);
        drop((connection, old));
        None
    }

    /// Those that are ready.
    pub(super) fn all(&self) -> Vec<(PoolConnection<Postgres>, Instant)> {
        std::mem::take(&mut *self.ready.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Warm {
    fn drop(&mut self) {
        // The driver gives them back in a task of their own.
        if tokio::runtime::Handle::try_current().is_err() {
            for (connection, _) in self.all() {
                drop(connection.leak());
            }
        }
    }
}

/// One that waits for the pool, until it is dropped.
struct Waits<'w>(&'w AtomicUsize);

impl<'w> Waits<'w> {
    fn new(waiting: &'w AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
