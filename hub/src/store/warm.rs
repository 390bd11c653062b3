//! Connections that have just answered. Whoever asks next takes one of them as it is: through the driver's pool a
//! connection is asked whether it still answers twice when it is given back and once when it is taken, three round trips
//! beside the statement itself.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{PgPool, Postgres, pool::PoolConnection, postgres::PgConnectOptions};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::connect::ACQUIRED;

/// For so long one that has answered is taken to answer still.
const FRESH: Duration = Duration::from_secs(1);

/// The driver's pool, and connections of it that are ready at once, the last one first.
#[derive(Debug)]
pub(super) struct Warm {
    pool: PgPool,
    answers: Duration,
    /// As many as the pool may have: whoever waits gets the next connection as it is.
    places: Arc<Semaphore>,
    ready: Mutex<VecDeque<(PoolConnection<Postgres>, Instant)>>,
}

/// A connection, and its place among those that there may be.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) connection: PoolConnection<Postgres>,
    place: OwnedSemaphorePermit,
}

impl Warm {
    /// Of a pool whose connections may take so long to answer when they are asked nothing.
    pub(super) fn new(pool: PgPool, answers: Duration) -> Self {
        let places = usize::try_from(pool.options().get_max_connections()).unwrap_or(1);
        Self {
            pool,
            answers,
            places: Arc::new(Semaphore::new(places)),
            ready: Mutex::default(),
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
    pub(super) async fn take(&self) -> sqlx::Result<Taken> {
        let place = timeout(ACQUIRED, self.places.clone().acquire_owned()).await;
        let place = place.map_err(|_| sqlx::Error::PoolTimedOut)?;
        let place = place.map_err(|_| sqlx::Error::PoolClosed)?;
        let connection = match self.ready() {
            Some(connection) => connection,
            None => self.pool.acquire().await?,
        };
        Ok(Taken { connection, place })
    }

    /// Gives back a connection whose last statement has ended well.
    pub(super) fn give(&self, taken: Taken) {
        let Taken { connection, place } = taken;
        let mut ready = self.lock();
        ready.push_back((connection, Instant::now()));
        // One that nobody needs goes back to the pool, which closes what is old.
        let idle = ready.front().is_some_and(|(_, since)| since.elapsed() >= FRESH);
        let spare = match self.pool.is_closed() {
            true => std::mem::take(&mut *ready),
            false => idle.then(|| ready.pop_front()).flatten().into_iter().collect(),
        };
        drop(ready);
        drop(spare);
        drop(place);
    }

    /// Closes all, once whoever holds one gives it back.
    pub(super) async fn close(&self) {
        let closed = self.pool.close();
        drop(self.all());
        closed.await;
    }

    /// The one that was given back last. If it is not fresh none is: all go back to the pool, which asks them.
    fn ready(&self) -> Option<PoolConnection<Postgres>> {
        let mut ready = self.lock();
        let (connection, since) = ready.pop_back()?;
        if since.elapsed() < FRESH {
            return Some(connection);
        }
        let old = std::mem::take(&mut *ready);
        drop(ready);
        drop((connection, old));
        None
    }

    /// Those that are ready.
    pub(super) fn all(&self) -> VecDeque<(PoolConnection<Postgres>, Instant)> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(PoolConnection<Postgres>, Instant)>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
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
