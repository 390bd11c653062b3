//! Telling that the outbox grew, after the transaction that let it grow has ended. Postgres commits those that notify one
//! after the other, each until it is on disk: within such a transaction, all writers of all hubs would wait in one line.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::sleep};
use uuid::Uuid;

use super::{silence::Pool, warm::Warm};

/// Other hubs are told at most so often; the first of many at once.
const SPACING: Duration = Duration::from_millis(20);

/// What one store tells.
#[derive(Debug)]
pub(super) struct Telling {
    /// Whose word it is: a store hears its own here, and not from the database.
    id: String,
    /// Counts transactions that woke anybody.
    committed: watch::Sender<u64>,
    /// Somebody of this process listens, and goes on.
    listens: AtomicBool,
    /// No other hub is on this database.
    alone: AtomicBool,
    /// Counts what was heard of other hubs.
    heard: AtomicU64,
    others: Mutex<Others>,
}

/// How far those of other processes are told.
#[derive(Debug, Default)]
struct Others {
    is_telling: bool,
    /// There is more since.
    again: bool,
}

impl Default for Telling {
    fn default() -> Self {
        Self {
            id: Uuid::new_v4().to_string(),
            committed: watch::Sender::new(0),
            listens: AtomicBool::new(false),
            alone: AtomicBool::new(false),
            heard: AtomicU64::new(0),
            others: Mutex::default(),
        }
    }
}

impl Telling {
    /// Hears, from now on, of what this store commits.
    pub(super) fn listen(&self) -> watch::Receiver<u64> {
        self.listens.store(true, Ordering::Relaxed);
        self.committed.subscribe()
    }

    /// Whether a notification is news: this store's own was heard when it was committed. One of another hub tells that
    /// there is one.
    pub(super) fn is_news(&self, payload: &str) -> bool {
        let is_own = payload == self.id;
        if !is_own && !payload.is_empty() {
            self.heard.fetch_add(1, Ordering::Relaxed);
            self.alone.store(false, Ordering::Relaxed);
        }
        !is_own
    }

    /// Whether no other hub is on this database, as far as is known.
    pub(super) fn is_alone(&self) -> bool {
        self.alone.load(Ordering::Relaxed)
    }

    /// How much was heard of other hubs so far.
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Notes whether the database knows of other hubs; it was asked when so much had been heard of them.
    pub(super) fn note_alone(&self, alone: bool, heard: u64) {
        self.alone
            .store(alone && heard == self.heard(), Ordering::Relaxed);
    }

    /// Tells of a transaction that has committed. A command that ends soon waits until it is told; what a hub is told less
    /// than once in a while is found by a pass of the others.
    pub(super) async fn committed(self: &Arc<Self>, warm: &Arc<Warm>, silent: Duration) {
        self.committed.send_modify(|count| *count += 1);
        if !self.listens.load(Ordering::Relaxed) {
            return self.tell(warm, silent).await;
        }
        if self.alone.load(Ordering::Relaxed) || !self.begin() {
            return;
        }
        let (telling, warm) = (self.clone(), warm.clone());
        drop(tokio::spawn(async move {
            loop {
                telling.tell(&warm, silent).await;
                sleep(SPACING).await;
                if !telling.goes_on() {
                    return;
                }
            }
        }));
    }

    /// Tells other hubs that there is something to read, and that this one is here.
    pub(super) async fn tell(self: &Arc<Self>, warm: &Arc<Warm>, silent: Duration) {
        // A command is no hub that others would have to tell anything.
        let id = match self.listens.load(Ordering::Relaxed) {
            true => &*self.id,
            false => "",
        };
        let pool = Pool {
            warm,
            silent,
            telling: self,
        };
        let told = sqlx::query!(
            r#"SELECT true AS "told!" FROM pg_notify('flotilla_outbox', $1)"#,
            id
        );
        if let Err(error) = told.fetch_one(pool).await {
            tracing::debug!(%error, "other hubs are not told; they find what has changed by looking");
        }
    }

    /// Whether the caller is the one who tells.
    fn begin(&self) -> bool {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.again = others.is_telling;
        !std::mem::replace(&mut others.is_telling, true)
    }

    /// Whether there is more to tell.
    fn goes_on(&self) -> bool {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.is_telling = std::mem::take(&mut others.again);
        others.is_telling
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_while_others_are_told_is_told_once_more_and_then_all_is_quiet() {
        let telling = Telling::default();
        assert!(telling.begin());
        assert!(!telling.begin() && !telling.begin());
        assert!(telling.goes_on());
        assert!(!telling.goes_on());
        assert!(telling.begin());
        assert!(!telling.goes_on());
    }

    #[test]
    fn a_hub_is_alone_until_it_hears_of_another_also_while_it_asks() {
        let telling = Telling::default();
        let is_alone = || telling.alone.load(Ordering::Relaxed);
        assert!(!is_alone(), "nothing is known");
        telling.note_alone(true, telling.heard());
        assert!(
            !telling.is_news(&telling.id) && telling.is_news("") && is_alone(),
            "itself, and a command"
        );
        let asked = telling.heard();
        assert!(telling.is_news("another") && !is_alone());
        telling.note_alone(true, asked);
        assert!(!is_alone(), "it came after the database was asked");
        telling.note_alone(true, telling.heard());
        assert!(is_alone());
        telling.note_alone(false, telling.heard());
        assert!(!is_alone());
    }
}
