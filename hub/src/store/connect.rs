//! How connections to the database are made, and when one is given back or taken again. The driver asks it whether it
//! still answers, and would wait for that as long as the system's network does: here it is closed after seconds.

use std::time::Duration;

use sqlx::{
    Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::silence::answered;

/// For so long a connection that is given back, or taken again, may take to answer. One that was left in the middle of a
/// statement answers when that has ended.
pub(super) const ANSWERS: Duration = Duration::from_secs(3);
/// For so long one waits for a connection.
pub(super) const ACQUIRED: Duration = Duration::from_secs(10);

/// How long a statement, a wait for a lock, and a transaction in which nothing is asked may last. The server keeps
/// them, so that a hub which was stopped or cut off inside a transaction holds up others for seconds only. The last
/// four end connections whose hub is gone without a word.
const SETTINGS: [(&str, &str); 8] = [
    // What takes milliseconds is not worth being compiled.
    ("jit", "off"),
    ("statement_timeout", "30s"),
    ("lock_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "4s"),
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "20s"),
];

/// How those who plan ask: the same few statements for each app, of a few rows each. Each is planned once, for all values
/// and for tables of any size: by indexes, since one that is small today is not tomorrow. No commit waits for the disk:
/// what a server that ends without a word may lose is the newest, all together, and is found due when it is back; what is
/// published is written with all that went before.
pub(super) const PLANNING: [(&str, &str); 3] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("synchronous_commit", "off"),
];

/// How those ask who publish, and who record what agents say: as who plans, by indexes and for tables of any size, since of
/// large batches whole tables would be read; and what they commit is on the disk.
pub(super) const WRITING: [(&str, &str); 2] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
];

/// Named for who looks at the server's connections.
pub(super) fn named(options: PgConnectOptions) -> PgConnectOptions {
    options.application_name("flotilla-hub")
}

/// At most so many connections, with these settings beside those of all.
pub(super) fn pool(
    connections: u32,
    answers: Duration,
    settings: &'static [(&'static str, &'static str)],
) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRED)
        // In its place, with a bound: one that has gone silent is replaced.
        .test_before_acquire(false)
        .before_acquire(move |connection, _| Box::pin(answering(connection, answers)))
        .after_release(move |connection, _| Box::pin(answering(connection, answers)))
        .after_connect(move |connection, _| Box::pin(bound(connection, settings)))
}

async fn answering(connection: &mut PgConnection, within: Duration) -> sqlx::Result<bool> {
    answered(connection.ping(), within).await.map(|()| true)
}

async fn bound(connection: &mut PgConnection, settings: &[(&str, &str)]) -> sqlx::Result<()> {
    let (names, values): (Vec<&str>, Vec<&str>) = SETTINGS.iter().chain(settings).copied().unzip();
    sqlx::query(
        "SELECT set_config(name, value, false) FROM unnest($1::text[], $2::text[]) AS bound (name, value)",
    )
    .bind(names)
    .bind(values)
    .execute(connection)
    .await?;
    Ok(())
}
