//! The connection on which a hub hears that the outbox grew. It also holds the hub's name: while it lives nobody else has
//! that name, and a hub whose connection has ended is known as ended at once.

use std::{mem, sync::Arc, time::Duration};

use sqlx::postgres::{PgListener, PgNotification};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{Result, Store, connect, silence::answered};

/// Waits for the outbox to grow, on a connection beside the pool's.
pub struct Listener {
    store: Store,
    replica: Arc<str>,
    /// None after its connection was lost.
    connection: Option<PgListener>,
    /// What this store commits is heard at once.
    committed: watch::Receiver<u64>,
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
            committed: self.telling.listen(),
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
        let until = Instant::now() + poll;
        loop {
            let (store, committed) = (self.store.clone(), &mut self.committed);
            let Some(connection) = &mut self.connection else {
                break;
            };
            let told = tokio::select! {
                // The connection first: a hub that commits all the time hears of others too.
                biased;
                told = connection.try_recv() => told,
                _ = committed.changed() => break,
                () = sleep_until(until) => return Ok(false),
            };
            let Ok(Some(told)) = told else {
                self.connection = None;
                self.listening().await?;
                self.is_new = false;
                break;
            };
            let is_news = |told: &PgNotification| store.telling.is_news(told.payload());
            let buffered = std::iter::from_fn(|| connection.next_buffered());
            // All that are here are one.
            if std::iter::once(told).chain(buffered).filter(is_news).count() > 0 {
                break;
            }
        }
        self.committed.mark_unchanged();
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
        // Another hub may have said that it is there while nobody listened.
        self.store.telling.note_alone(false, 0);
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

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use flotilla_testkit::TestDb;
    use sqlx::postgres::PgConnectOptions;
    use uuid::Uuid;

    use super::*;
    use crate::store::Topic;

    async fn store(db: &TestDb) -> Store {
        let options = PgConnectOptions::from_str(db.url()).expect("a URL");
        Store::open(options, 4).await.expect("opened")
    }

    #[tokio::test]
    async fn a_commit_is_heard_once_by_its_own_store_and_by_those_of_others() {
        let db = TestDb::create().await.expect("a database");
        let (one, other, command) = (store(&db).await, store(&db).await, store(&db).await);
        let mut ours = one.listen("one").await.expect("it listens");
        let mut theirs = other.listen("other").await.expect("it listens");
        let long = Duration::from_secs(20);
        for listener in [&mut ours, &mut theirs] {
            assert!(listener.wait(long).await.expect("new"), "what was before is read");
        }
        let key = [Uuid::from_u128(1)];
        for _ in 0..3 {
            one.wake(Topic::App, &key).await.expect("woken");
        }
        assert!(ours.wait(Duration::ZERO).await.expect("heard"), "at once");
        assert!(theirs.wait(long).await.expect("heard"), "by the database");
        // The last of the three was told within the spacing; once that is over, nothing is left.
        while theirs.wait(Duration::from_secs(1)).await.expect("waited") {}
        assert!(
            !ours.wait(Duration::from_millis(1)).await.expect("waited"),
            "not twice"
        );
        // Nobody listens in the process of a command: it has told when it is done.
        command.wake(Topic::App, &key).await.expect("woken");
        for listener in [&mut ours, &mut theirs] {
            assert!(listener.wait(long).await.expect("heard"));
        }
    }

    #[tokio::test]
    async fn a_store_that_commits_all_the_time_hears_of_another() {
        let db = TestDb::create().await.expect("a database");
        let (one, other) = (store(&db).await, store(&db).await);
        let mut ours = one.listen("one").await.expect("it listens");
        let _theirs = other.listen("other").await.expect("it listens");
        let key = [Uuid::from_u128(1)];
        other.wake(Topic::App, &key).await.expect("woken");
        let mut turns = 0;
        while one.telling.heard() == 0 {
            one.wake(Topic::App, &key).await.expect("woken");
            assert!(ours.wait(Duration::from_secs(20)).await.expect("heard"));
            turns += 1;
            assert!(turns < 1000, "nothing was heard of the other");
        }
    }

    #[tokio::test]
    async fn what_is_rolled_back_wakes_nobody() {
        let db = TestDb::create().await.expect("a database");
        let store = store(&db).await;
        let mut listener = store.listen("one").await.expect("it listens");
        assert!(listener.wait(Duration::ZERO).await.expect("new"));
        let mut tx = store.pool().begin().await.expect("begun");
        crate::store::nudge(&mut tx, Topic::App, &[Uuid::from_u128(1)])
            .await
            .expect("nudged");
        tx.rollback().await.expect("taken back");
        assert!(!listener.wait(Duration::from_millis(50)).await.expect("waited"));
    }
}
