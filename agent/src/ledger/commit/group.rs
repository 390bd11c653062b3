//! Appends that come while one is under way: whoever writes next writes the records of all who wait, so that many that
//! come at once cost two writes and not one each.

use std::sync::{Arc, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::{LedgerError, Record, Shared, Writer};

/// Records, and who waits until they are durable.
pub(super) struct Waiting {
    records: Vec<Record>,
    done: oneshot::Sender<Result<(), LedgerError>>,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the queue and then `records` durable, and takes `records` in.
    pub(in crate::ledger) async fn commit(self: Arc<Self>, records: Vec<Record>) -> Result<(), LedgerError> {
        let (done, outcome) = oneshot::channel();
        self.waiting().push(Waiting { records, done });
        let mut writer = self.writer.lock().await;
        // Empty: whoever wrote last has written these as well.
        let group = std::mem::take(&mut *self.waiting());
        self.write_all(&mut writer, group).await;
        drop(writer);
        // Nothing is sent when the write has panicked.
        outcome.await.unwrap_or_else(|_| Err(self.broken_off()))
    }

    async fn write_all(self: &Arc<Self>, writer: &mut Writer, mut group: Vec<Waiting>) {
        if group.len() > 1 {
            let all = group.iter().flat_map(|waiting| &waiting.records).cloned();
            match self.write(writer, all.collect()).await {
                // What is too much together may be some that fits and one that does not.
                Err(LedgerError::Full { .. }) => {}
                outcome => {
                    for waiting in group.drain(..) {
                        // One that was dropped meanwhile wants to know nothing.
                        let _ = waiting.done.send(outcome.clone());
                    }
                }
            }
        }
        for Waiting { records, done } in group {
            let _ = done.send(self.write(writer, records).await);
        }
    }
}
