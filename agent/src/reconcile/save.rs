//! Makes durable what nothing waits for, a few milliseconds at a time: the records of units, and marks on objects. An
//! intent does not come this way; it precedes its action.

use std::{sync::Arc, time::Duration};

use flotilla_core::{
    apply::inventory::Record as ObjectRecord,
    id::UnitId,
    object::ObjectKey,
    unit::{Entry, record::UnitRecord},
};
use tokio::time::Instant;

use super::{context::Context, message::with_causes};
use crate::ledger::{LedgerError, record::Record};

/// How long records are gathered before they are written.
const GATHER: Duration = Duration::from_millis(30);
/// How long a ledger that cannot be written is left alone.
const RETRY: Duration = Duration::from_secs(5);

/// Records on their way into the ledger.
pub struct Saver {
    context: Arc<Context>,
    waiting: Vec<Record>,
    at: Option<Instant>,
    failed: bool,
}

impl Saver {
    /// Begins with nothing to save.
    pub fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            waiting: Vec::new(),
            at: None,
            failed: false,
        }
    }

    /// Notes that an entry is enforced.
    pub fn enforce(&mut self, unit: UnitId, entry: &Arc<Entry>) {
        // The bytes as they came: they may hold fields that this version does not know.
        let bytes = self.context.ledger.read(|state| {
            let offered = state.units.get(&unit)?.offered.as_ref()?;
            (offered.entry.as_ref() == Some(entry)).then(|| offered.bytes.to_vec())
        });
        if let Some(entry) = bytes {
            self.push(Record::Enforced { unit, entry });
        }
    }

    /// Notes objects' records.
    pub fn objects(&mut self, unit: UnitId, records: Vec<(Arc<ObjectKey>, Option<ObjectRecord>)>) {
        for (key, record) in records {
            let key = key.as_ref().clone();
            self.push(match record {
                Some(record) => Record::Item {
                    unit,
                    key,
                    record: Box::new(record),
                },
                None => Record::Dropped { unit, key },
            });
        }
    }

    /// Notes a unit's record.
    pub fn unit(&mut self, unit: UnitId, record: &UnitRecord) {
        match serde_json::to_vec(record) {
            Ok(state) => self.push(Record::Unit { unit, state }),
            Err(error) => tracing::error!(%unit, "a unit's record is not written: {error}"),
        }
    }

    fn push(&mut self, record: Record) {
        self.waiting.push(record);
        self.at.get_or_insert_with(|| Instant::now() + GATHER);
    }

    /// Saves what waits, once its time has come. Fails only when this agent must exit. Cancel-safe: until the time has
    /// come nothing is taken.
    pub async fn run(&mut self) -> Result<(), LedgerError> {
        match self.at {
            None => std::future::pending().await,
            Some(at) => tokio::time::sleep_until(at).await,
        }
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), LedgerError> {
        // What is dropped in the middle of a write is written again: records are idempotent.
        let result = self.context.persist(self.waiting.clone()).await;
        match result {
            Ok(()) => {
                self.waiting.clear();
                self.at = None;
                self.failed = false;
                Ok(())
            }
            Err(LedgerError::Lost) => Err(LedgerError::Lost),
            Err(error) => {
                if !self.failed {
                    tracing::warn!("ledger: {}", with_causes(&error));
                }
                self.failed = true;
                self.at = Some(Instant::now() + RETRY);
                Ok(())
            }
        }
    }
}
