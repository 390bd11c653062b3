//! The way to the database. What is asked of one that has gone silent, its machine off or the way to it cut, is given up
//! statement by statement: the driver itself would wait for as long as the system's network does, a quarter of an hour.

use std::{
    io,
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use futures::{
    StreamExt as _, TryFutureExt as _, TryStreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use sqlx::{
    Describe, Either, Execute, Executor, PgConnection, Postgres, SqlStr,
    postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};
use tokio::time::timeout;

use super::{
    telling::Telling,
    warm::{Taken, Warm},
};
use crate::metrics::statements::Asked;

/// Above the bounds that the server keeps: one that is alive ends a statement itself before.
pub(super) const SILENT: Duration = Duration::from_secs(45);

/// A pool each of whose statements is given up after a silence.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pool<'p> {
    pub(super) warm: &'p Arc<Warm>,
    pub(super) silent: Duration,
    pub(super) telling: &'p Arc<Telling>,
}

/// A connection inside a transaction, each of whose statements is given up after a silence.
#[derive(Debug)]
pub(crate) struct Connection {
    inner: Taken,
    silent: Duration,
    /// The transaction adds to the outbox.
    wakes: bool,
}

/// A transaction; one that is not committed is rolled back.
#[derive(Debug)]
pub(crate) struct Transaction {
    /// Until it has ended.
    open: Option<Connection>,
    /// It adds to the outbox, and its commit was asked for: whatever is heard of that, it may be committed.
    may_wake: bool,
    warm: Arc<Warm>,
    telling: Arc<Telling>,
}

const OPEN: &str = "a transaction that has ended is gone";

impl<'p> Pool<'p> {
    /// Begins a transaction.
    pub(crate) async fn begin(self) -> sqlx::Result<Transaction> {
        self.begin_as("BEGIN").await
    }

    /// Begins one that writes nothing, and each of whose statements sees what was so at the first.
    pub(crate) async fn begin_reading(self) -> sqlx::Result<Transaction> {
        self.begin_as("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            .await
    }

    async fn begin_as(self, word: &'static str) -> sqlx::Result<Transaction> {
        let inner = self.warm.take().await?;
        let mut tx = Transaction {
            open: Some(Connection {
                inner,
                silent: self.silent,
                wakes: false,
            }),
            may_wake: false,
            warm: self.warm.clone(),
            telling: self.telling.clone(),
        };
        // Whatever becomes of it: a transaction that may have begun is rolled back.
        tx.say(word).await?;
        Ok(tx)
    }

    /// What is asked is asked on a connection that is ready for the next once it has ended well.
    async fn ask<T>(self, asked: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>) -> sqlx::Result<T> {
        let mut taken = self.warm.take().await?;
        let answer = asked(&mut taken.connection).await?;
        self.warm.give(taken);
        Ok(answer)
    }
}

impl Transaction {
    /// Commits, and tells who is woken. Where the answer does not come, or is not waited for, nobody knows whether it is
    /// committed, as when a connection ends: then it is told in any case, since who is woken for nothing sees that.
    pub(crate) async fn commit(mut self) -> sqlx::Result<()> {
        let silent = self.silent;
        self.may_wake = self.wakes;
        self.end("COMMIT").await?;
        if self.may_wake {
            self.telling.committed(&self.warm, silent).await;
        }
        Ok(())
    }

    /// Takes back what was done.
    pub(crate) async fn rollback(mut self) -> sqlx::Result<()> {
        self.end("ROLLBACK").await
    }

    async fn end(&mut self, word: &'static str) -> sqlx::Result<()> {
        self.say(word).await?;
        if let Some(connection) = self.open.take() {
            self.warm.give(connection.inner);
        }
        Ok(())
    }

    async fn say(&mut self, word: &'static str) -> sqlx::Result<()> {
        sqlx::raw_sql(word).execute(&mut **self).await.map(drop)
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let Some(mut connection) = self.open.take() else {
            return;
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                let (warm, silent) = (self.warm.clone(), connection.silent);
                let telling = self.may_wake.then(|| self.telling.clone());
                let rollback = async move {
                    let asked = sqlx::raw_sql("ROLLBACK").execute(&mut connection);
                    match answered(asked, warm.answers()).await {
                        Ok(_) => drop(connection),
                        // It does not come back with a transaction that may be open.
                        Err(_) => drop(connection.inner.connection.detach()),
                    }
                    // A commit that was asked for has ended by now, one way or the other.
                    if let Some(telling) = telling {
                        telling.committed(&warm, silent).await;
                    }
                };
                drop(runtime.spawn(rollback));
            }
            // The server takes back what a connection that ends has left open.
            Err(_) => drop(connection.inner.connection.leak()),
        }
    }
}

impl Deref for Transaction {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.open.as_ref().expect(OPEN)
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut Connection {
        self.open.as_mut().expect(OPEN)
    }
}

/// The answer, or that none came.
pub(super) async fn answered<T>(
    asked: impl Future<Output = sqlx::Result<T>>,
    silent: Duration,
) -> sqlx::Result<T> {
    match timeout(silent, asked).await {
        Ok(answer) => answer,
        Err(_) => Err(silence(silent)),
    }
}

/// Each row by itself: a large answer that goes on coming is no silence.
fn rows<'e, T: Send + 'e>(
    answer: BoxStream<'e, sqlx::Result<T>>,
    silent: Duration,
) -> BoxStream<'e, sqlx::Result<T>> {
    let next = move |rest: Option<(BoxStream<'e, sqlx::Result<T>>, Asked)>| async move {
        let (mut rest, asked) = rest?;
        match timeout(silent, rest.next()).await {
            Ok(row) => Some((row?, Some((rest, asked)))),
            Err(_) => Some((Err(silence(silent)), None)),
        }
    };
    stream::unfold(Some((answer, Asked::now())), next).boxed()
}

fn silence(after: Duration) -> sqlx::Error {
    let said = format!("the database has said nothing for {after:?}");
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, said))
}

type Answer = Either<PgQueryResult, PgRow>;

impl<'c> Executor<'c> for Pool<'c> {
    type Database = Postgres;

    /// All rows together: the connection is given back before they are looked at.
    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, sqlx::Result<Answer>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let silent = self.silent;
        let asked = self.ask(async move |connection| {
            rows(connection.fetch_many(query), silent)
                .try_collect::<Vec<Answer>>()
                .await
        });
        let answer = asked.map_ok(|all| stream::iter(all).map(Ok));
        answer.try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<PgRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let silent = self.silent;
        Box::pin(self.ask(async move |connection| {
            let _asked = Asked::now();
            answered(connection.fetch_optional(query), silent).await
        }))
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, sqlx::Result<PgStatement>>
    where
        'c: 'e,
    {
        let silent = self.silent;
        Box::pin(
            self.ask(async move |connection| {
                answered(connection.prepare_with(sql, parameters), silent).await
            }),
        )
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, sqlx::Result<Describe<Postgres>>>
    where
        'c: 'e,
    {
        let silent = self.silent;
        Box::pin(self.ask(async move |connection| answered(connection.describe(sql), silent).await))
    }
}

impl Connection {
    /// Notes that the transaction adds to the outbox.
    pub(super) fn wakes(&mut self) {
        self.wakes = true;
    }

    fn parts(&mut self) -> (&mut PgConnection, Duration) {
        (&mut self.inner.connection, self.silent)
    }
}

impl<'c> Executor<'c> for &'c mut Connection {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, sqlx::Result<Answer>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let (connection, silent) = self.parts();
        rows(connection.fetch_many(query), silent)
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<PgRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let (connection, silent) = self.parts();
        Box::pin(async move {
            let _asked = Asked::now();
            answered(connection.fetch_optional(query), silent).await
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, sqlx::Result<PgStatement>>
    where
        'c: 'e,
    {
        let (connection, silent) = self.parts();
        Box::pin(answered(connection.prepare_with(sql, parameters), silent))
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, sqlx::Result<Describe<Postgres>>>
    where
        'c: 'e,
    {
        let (connection, silent) = self.parts();
        Box::pin(answered(connection.describe(sql), silent))
    }
}

#[cfg(test)]
mod tests {
    use std::{str::FromStr as _, time::Instant};

    use flotilla_testkit::TestDb;
    use futures::FutureExt as _;
    use rustix::process::{Pid, Signal, kill_process};
    use sqlx::postgres::PgConnectOptions;
    use uuid::Uuid;

    use super::*;
    use crate::store::{Store, StoreError, Topic, listener::Listener, outbox::Reader};

    const SOON: Duration = Duration::from_millis(500);

    /// The server's side of connections, which says nothing until this is dropped.
    struct Silent(Vec<Pid>);

    impl Silent {
        fn new(backends: impl IntoIterator<Item = i32>) -> Self {
            let backends = backends.into_iter();
            let backends: Vec<Pid> = backends
                .map(|number| Pid::from_raw(number).expect("a process"))
                .collect();
            for backend in &backends {
                kill_process(*backend, Signal::STOP).expect("stopped");
            }
            Self(backends)
        }
    }

    impl Drop for Silent {
        fn drop(&mut self) {
            for backend in &self.0 {
                let _ = kill_process(*backend, Signal::CONT);
            }
        }
    }

    async fn backend(of: impl Executor<'_, Database = Postgres>) -> i32 {
        let number = sqlx::query_scalar("SELECT pg_backend_pid()");
        number.fetch_one(of).await.expect("answered")
    }

    #[tokio::test]
    async fn whatever_is_asked_of_a_database_that_has_gone_silent_is_given_up_and_its_place_is_free_again() {
        let db = TestDb::create().await.expect("a database");
        let options = PgConnectOptions::from_str(db.url()).expect("a URL");
        let store = Store::open_within(options, [3, 1, 1, 1], SOON, SOON)
            .await
            .expect("opened");
        let mut open = store.pool().begin().await.expect("begun");
        let mut held = store.pool().begin().await.expect("begun");
        let silent = Silent::new([
            backend(&mut *open).await,
            backend(&mut *held).await,
            backend(store.pool()).await,
        ]);
        let began = Instant::now();
        let asked = sqlx::query("SELECT 1").fetch_all(store.pool()).await.map(drop);
        let inside = sqlx::query("SELECT 1").fetch_optional(&mut *open).await.map(drop);
        for given_up in [asked, inside, held.commit().await] {
            let error = StoreError::from(given_up.expect_err("no answer"));
            assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        }
        assert!(began.elapsed() < 10 * SOON, "{:?}", began.elapsed());
        drop(open);
        // On connections that are made anew: those that are silent are so still.
        let began = Instant::now();
        store.ping().await.expect("it answers");
        assert!(began.elapsed() < 10 * SOON, "{:?}", began.elapsed());
        drop(silent);
    }

    #[tokio::test]
    async fn idle_connections_that_have_gone_silent_are_replaced() {
        let db = TestDb::create().await.expect("a database");
        let options = PgConnectOptions::from_str(db.url()).expect("a URL");
        let store = Store::open_within(options, [3, 1, 1, 1], 20 * SOON, SOON)
            .await
            .expect("opened");
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(store.pool().begin().await.expect("begun"));
        }
        let mut backends = [0; 3];
        for (place, tx) in backends.iter_mut().zip(&mut held) {
            *place = backend(&mut **tx).await;
        }
        for tx in held {
            tx.commit().await.expect("committed");
        }
        // As after a while.
        drop(store.warm.all());
        let silent = Silent::new(backends);
        let began = Instant::now();
        store.ping().await.expect("it answers");
        assert!(began.elapsed() < 10 * SOON, "{:?}", began.elapsed());
        drop(silent);
    }

    #[tokio::test]
    async fn a_listener_that_has_gone_silent_is_replaced_and_what_was_told_meanwhile_is_read() {
        let db = TestDb::create().await.expect("a database");
        let options = PgConnectOptions::from_str(db.url()).expect("a URL");
        let store = Store::open_within(options, [3, 1, 1, 1], SOON, SOON)
            .await
            .expect("opened");
        // What its own store commits, a listener hears without the database.
        let other = Store::open(PgConnectOptions::from_str(db.url()).expect("a URL"), 2)
            .await
            .expect("opened");
        let mut listener = store.listen("one").await.expect("it listens");
        let mut reader = store.outbox_end().await.expect("a reader");
        let told = async |listener: &mut Listener| listener.wait(10 * SOON).await.expect("it listens");
        assert!(told(&mut listener).await, "what was told before is read");
        let silent = Silent::new([backend(listener.listening().await.expect("a connection")).await]);
        let key = Uuid::from_u128(1);
        other.wake(Topic::App, &[key]).await.expect("woken");
        assert!(!listener.wait(SOON).await.expect("waited"), "nothing is heard");
        let error = store
            .stale(&mut listener, &reader, 1, Duration::ZERO)
            .await
            .expect_err("no answer");
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        assert!(told(&mut listener).await, "it listens anew");
        let read = store.outbox_after(&mut reader).await.expect("read");
        assert!(read.iter().any(|nudge| nudge.key == key), "{read:?}");
        other.wake(Topic::App, &[key]).await.expect("woken");
        assert!(told(&mut listener).await, "it hears");
        // The server still counts the former one, as it does where the way to it is cut, for as long as it asks for it.
        assert!(!listener.take_name().await.expect("asked"));
        drop(silent);
        while !listener.take_name().await.expect("asked") {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_commit_whose_answer_nobody_waits_for_is_told_all_the_same() {
        let db = TestDb::create().await.expect("a database");
        let options = PgConnectOptions::from_str(db.url()).expect("a URL");
        let store = Store::open(options, 3).await.expect("opened");
        let mut listener = store.listen("one").await.expect("it listens");
        let mut reader = store.outbox_end().await.expect("a reader");
        assert!(listener.wait(Duration::ZERO).await.expect("new"));
        let key = Uuid::from_u128(1);
        let mut tx = store.pool().begin().await.expect("begun");
        crate::store::nudge(&mut tx, Topic::App, &[key])
            .await
            .expect("nudged");
        let silent = Silent::new([backend(&mut *tx).await]);
        // It is sent, and its caller goes away.
        assert!(Box::pin(tx.commit()).now_or_never().is_none(), "no answer yet");
        assert!(
            !listener.wait(SOON / 10).await.expect("waited"),
            "nothing has happened"
        );
        drop(silent);
        assert!(listener.wait(10 * SOON).await.expect("heard"), "it was told");
        let read = store.outbox_after(&mut reader).await.expect("read");
        assert!(read.iter().any(|nudge| nudge.key == key), "{read:?}");
    }

    #[tokio::test]
    async fn a_wake_up_that_nobody_was_told_of_is_found_by_the_pass() {
        let db = TestDb::create().await.expect("a database");
        let options = PgConnectOptions::from_str(db.url()).expect("a URL");
        let store = Store::open(options, 3).await.expect("opened");
        let mut listener = store.listen("one").await.expect("it listens");
        let mut reader = store.outbox_end().await.expect("a reader");
        let unread = async |listener: &mut Listener, reader: &Reader| {
            let stale = store.stale(listener, reader, 1, Duration::ZERO).await;
            stale.expect("asked").is_unread
        };
        assert!(!unread(&mut listener, &reader).await, "there is none");
        // As of a hub that ended before it told: only the row is there.
        sqlx::query("INSERT INTO outbox (topic, keys) VALUES ('app', ARRAY[gen_random_uuid()])")
            .execute(store.pool())
            .await
            .expect("written");
        assert!(unread(&mut listener, &reader).await);
        assert_eq!(store.outbox_after(&mut reader).await.expect("read").len(), 1);
        assert!(!unread(&mut listener, &reader).await, "it was read");
    }

    #[tokio::test]
    async fn rows_that_go_on_coming_are_no_silence() {
        let slow = stream::unfold(0, |n| async move {
            tokio::time::sleep(SOON / 2).await;
            (n < 5).then_some((Ok(n), n + 1))
        });
        let all: Vec<_> = rows(slow.boxed(), SOON).collect().await;
        let all: sqlx::Result<Vec<i32>> = all.into_iter().collect();
        assert_eq!(all.expect("all"), [0, 1, 2, 3, 4]);
    }
}
