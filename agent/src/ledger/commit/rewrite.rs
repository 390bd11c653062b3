//! All records in bytes, for storage that is written anew.

use std::collections::{HashMap, HashSet};

use flotilla_core::digest::Digest;

use super::Shared;
use crate::ledger::{
    error::LedgerError,
    record::{self, Record},
    state::{Blob, State},
};

/// Blobs that are compressed between two turns of other tasks.
const PIECE: usize = 256;

/// What was stored.
pub(super) struct Stored {
    /// Bytes of the queue.
    pub(super) queued: usize,
    /// Blobs that storage does not have any more.
    pub(super) dropped: HashSet<Digest>,
}

/// All records in bytes, as they are to be after a write.
pub(super) struct Snapshot {
    pub(super) bytes: Vec<u8>,
    pub(super) stored: Stored,
}

impl Shared {
    /// Compresses what memory has in packs as storage has it: each blob by itself. Other tasks run in between.
    pub(super) async fn alone(&self) -> HashMap<Digest, Blob> {
        let mut alone = self.read(|state| state.blobs.packed());
        for piece in alone.chunks_mut(PIECE) {
            for (_, blob) in piece {
                *blob = blob.alone();
            }
            tokio::task::yield_now().await;
        }
        alone.into_iter().collect()
    }

    /// Writes all that is needed once `records` are taken in: what they make garbage makes room for them.
    pub(super) fn snapshot(
        &self,
        records: &[Record],
        alone: &HashMap<Digest, Blob>,
        limit: usize,
    ) -> Result<Snapshot, LedgerError> {
        // Nobody takes in and queues in between.
        let queue = self.queue();
        let queued = queue.bytes.len();
        let (mut bytes, mut dropped) = self.read(|state| {
            let garbage = state.garbage_after(records);
            (state.encode(&garbage, alone), garbage)
        });
        record::encode(records, &mut bytes);
        if bytes.len() > limit {
            // At the edge of the limit what they replace counts, and what no entry names yet.
            drop(bytes);
            let mut after = self.read(State::clone);
            records.iter().cloned().for_each(|record| after.apply(record));
            after.disown(records);
            dropped = after.garbage();
            bytes = after.encode(&dropped, alone);
        }
        drop(queue);
        if bytes.len() > limit {
            return Err(LedgerError::Full {
                size: bytes.len(),
                limit,
            });
        }
        Ok(Snapshot {
            bytes,
            stored: Stored { queued, dropped },
        })
    }
}
