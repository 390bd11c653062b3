//! All records in bytes, for storage that is written anew.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::Ordering,
};

use flotilla_core::digest::Digest;

use super::Shared;
use crate::{
    blocking,
    ledger::{
        blob::Storing,
        error::LedgerError,
        record::{self, Record},
        state::{Blob, State},
    },
};

/// What was stored.
pub(super) struct Stored {
    /// Bytes of the queue.
    pub(super) queued: usize,
    /// Blobs that storage does not have any more.
    pub(super) dropped: HashSet<Digest>,
    /// Contents that were stored as deltas; `None`: everything was stored, and whole.
    pub(super) chains: Option<HashMap<Digest, u8>>,
}

/// All records in bytes, as they are to be after a write.
pub(super) struct Snapshot {
    pub(super) bytes: Vec<u8>,
    pub(super) stored: Stored,
}

impl Shared {
    /// Writes all that is needed once `records` are taken in: what they make garbage makes room for them. The bytes are
    /// made on another thread, of what memory had at one moment: it takes in more meanwhile.
    pub(super) async fn snapshot(&self, records: &[Record], limit: usize) -> Result<Snapshot, LedgerError> {
        let (state, queued) = {
            // Nobody takes in and queues in between.
            let queue = self.queue();
            (self.read(State::clone), queue.bytes.len())
        };
        let records = records.to_vec();
        let (bytes, dropped) = blocking::run(move || {
            // What cannot fit is refused before anything is compressed.
            let size = state.least_after(&records, gives_up(&records));
            if size > limit {
                return Err(LedgerError::full(size, limit));
            }
            Ok(encode(state, &records, limit))
        })
        .await?;
        self.encodings.fetch_add(1, Ordering::Relaxed);
        if bytes.len() > limit {
            return Err(LedgerError::full(bytes.len(), limit));
        }
        Ok(Snapshot {
            bytes,
            stored: Stored {
                queued,
                dropped,
                chains: None,
            },
        })
    }
}

/// Tells whether contents that no entry names yet make room for the records: not for others of that kind, which would
/// make room for these in turn.
fn gives_up(records: &[Record]) -> bool {
    !records.iter().all(|record| matches!(record, Record::Blob(..)))
}

/// Returns the bytes and the blobs that are not among them.
fn encode(mut state: State, records: &[Record], limit: usize) -> (Vec<u8>, HashSet<Digest>) {
    let alone = alone(&state);
    let mut dropped = state.garbage_after(records);
    let mut bytes = state.encode(&dropped, &alone);
    record::encode(records, &mut bytes);
    if bytes.len() > limit && gives_up(records) {
        // At the edge of the limit what they replace counts, and what no entry names yet.
        drop(bytes);
        records.iter().cloned().for_each(|record| state.apply(record));
        state.disown(records);
        dropped = state.garbage();
        bytes = state.encode(&dropped, &alone);
    }
    (bytes, dropped)
}

/// Compresses what memory has in packs as storage has it: each blob by itself. One after another in one context, and those
/// of a pack are decompressed together.
fn alone(state: &State) -> HashMap<Digest, Blob> {
    let mut storing = Storing::default();
    let packed = state.blobs.packed().into_iter();
    packed
        .map(|(digest, blob)| (digest, storing.stored(&blob)))
        .collect()
}
