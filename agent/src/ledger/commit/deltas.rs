//! Which contents are appended as what differs from one that is stored.

use std::collections::HashMap;

use flotilla_core::digest::Digest;

use super::Shared;
use crate::{
    blocking,
    ledger::{
        delta::{CHAIN, Delta},
        record::Record,
        state::Blob,
    },
};

/// Bytes, uncompressed, below which a content is stored whole: a delta would save less than what making it takes.
const WHOLE: u32 = 2 << 10;

impl Shared {
    /// Returns the records as they are appended: contents that differ little from one which is stored as what differs.
    pub(super) async fn with_deltas(&self, records: &[Record]) -> (Vec<Record>, HashMap<Digest, u8>) {
        let mut chains = HashMap::new();
        let mut stored = Vec::with_capacity(records.len());
        for record in records {
            let delta = match record {
                Record::Blob(digest, blob) => self.delta(*digest, blob).await,
                _ => None,
            };
            stored.push(match delta {
                Some(delta) => {
                    chains.insert(delta.digest, delta.depth);
                    Record::Delta(delta)
                }
                None => record.clone(),
            });
        }
        (stored, chains)
    }

    /// What memory has is stored, or waits to be before this: only the writer drops it.
    async fn delta(&self, digest: Digest, blob: &Blob) -> Option<Delta> {
        if blob.size < WHOLE {
            return None;
        }
        let base = blob.base.filter(|base| *base != digest)?;
        let (before, depth) = self.read(|state| Some((state.blobs.get(&base)?, state.depth(&base))))?;
        if depth >= CHAIN {
            return None;
        }
        let blob = blob.clone();
        blocking::run(move || Delta::new(digest, &blob, (base, &before), depth + 1)).await
    }
}
