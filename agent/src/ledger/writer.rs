//! The one writer of a ledger: appends to the tail in the head, spills it into segments, writes all anew.
//!
//! A write may be stored although it was answered with an error, even after the next one was begun. So each head
//! names its writer and a number: a conflict with a head of our own is settled by reading it and going on from the
//! version found; only a head of another writer means that another agent is at work. A head that somebody stored
//! again with equal bytes (a rotation of encryption keys, a policy that adds a label) is still ours. One of ours with
//! a lower number than is known to be stored means that storage was put back to an earlier state, segments and all.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use flotilla_core::backoff::Backoff;

use super::{
    error::LedgerError,
    head::{Head, Reading, Segment, Standing},
    key_value::{KeyValue, KeyValueError, Version, Versioned},
    record::Accepted,
};
use crate::random::random;

mod load;
mod repair;

/// Bytes of records that stay in the head itself, so that a small append is one write. Each append writes all of them
/// again.
pub(super) const TAIL_MAX: usize = 16 << 10;
/// Attempts at a write whose outcome is unknown, and at one that finds another version of our own. Of the first kind there
/// is one only after a write that came to nothing: storage that takes nothing is asked as seldom as its callers come back.
const ATTEMPTS: u32 = 5;

/// Waits between such attempts.
const RETRY: Backoff = Backoff {
    base: Duration::from_millis(400),
    cap: Duration::from_secs(4),
};

pub(super) struct Writer {
    key_value: Arc<dyn KeyValue>,
    name: String,
    /// This process.
    id: String,
    /// Number of the last head that was tried.
    sequence: u64,
    head: Head,
    tail: Vec<u8>,
    stored: Option<Stored>,
    /// Versions of the segments' values, those of no segment in use too.
    slots: BTreeMap<u32, Version>,
    /// Slots that a head of unknown outcome names, or that somebody else wrote: not to be written before a head
    /// of ours is stored again.
    avoided: BTreeSet<u32>,
    damage: Option<String>,
    /// The last write came to nothing, with all attempts: storage does not answer.
    is_away: bool,
    /// The records that storage was put back to, until they are taken.
    earlier: Vec<u8>,
}

/// What a cluster is to a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binding {
    /// The one that it is of, as its head says.
    Same,
    /// The one that it is of from now on.
    New,
    /// Another one: the ledger is a copy.
    Other,
}

/// The head value as it was last written or read.
struct Stored {
    version: Version,
    digest: blake3::Hash,
}

/// An earlier head of ours, where a later one was stored.
struct Earlier {
    head: Box<Head>,
    tail: Vec<u8>,
    stored: Stored,
}

/// What a head value holds that was expected to hold our last head.
enum Found {
    /// The bytes that were to be written: the write did happen.
    Written(Version),
    /// A head of ours no older than the last that is known to be stored, or the one we began from.
    Ours(Version),
    /// A head of ours from before that: storage was put back to an earlier state.
    Earlier(Earlier),
    /// A head of another writer.
    Foreign,
    /// Nothing, or no head.
    Damaged(String),
}

impl Writer {
    /// Tells what is damaged.
    pub(super) fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    /// Says which cluster this is, which counts where the ledger is of none yet; stored with the next write.
    pub(super) fn set_cluster(&mut self, uid: &str) -> Binding {
        match &self.head.cluster {
            Some(held) if held == uid => Binding::Same,
            // A server that did not say which it is was once taken for one.
            Some(held) if !held.is_empty() => Binding::Other,
            _ => {
                self.head.cluster = Some(uid.to_owned());
                Binding::New
            }
        }
    }

    /// Says which cluster this is, whichever it was before; stored with the next write.
    pub(super) fn replace_cluster(&mut self, uid: Option<String>) -> Option<String> {
        std::mem::replace(&mut self.head.cluster, uid)
    }

    /// Tells whether nothing was ever stored.
    pub(super) fn is_new(&self) -> bool {
        self.stored.is_none() && self.damage.is_none()
    }

    /// Returns the bytes of all records that the head names.
    pub(super) fn used(&self) -> usize {
        self.head.used() + self.tail.len()
    }

    /// Tells whether `more` bytes still go into the tail.
    pub(super) fn fits_tail(&self, more: usize) -> bool {
        self.tail.len() + more <= TAIL_MAX
    }

    /// Adds records to what is stored.
    pub(super) async fn append(&mut self, bytes: &[u8], accepted: Accepted) -> Result<(), LedgerError> {
        let mut tail = [&self.tail, bytes].concat();
        let mut head = Head {
            accepted,
            ..self.head.clone()
        };
        if tail.len() > TAIL_MAX {
            if self.stored.is_none() {
                self.put_head(self.head.clone(), Vec::new()).await?;
            }
            let (stay, bytes) = self.merge(tail).await?;
            head.segments.truncate(stay);
            head.segments.extend(self.put_segments(&bytes).await?);
            tail = Vec::new();
        }
        self.put_head(head, tail).await
    }

    /// Puts the last segments in front of these bytes as long as they are no larger, and returns how many stay: so
    /// segments are few although tails are small, and a byte is written again only as often as its segment doubles.
    /// One that cannot be read now stays. One that is not what was written is damage, of the segment and not of the head:
    /// all can be written anew.
    async fn merge(&self, mut bytes: Vec<u8>) -> Result<(usize, Vec<u8>), LedgerError> {
        let mut stay = self.head.segments.len();
        while let Some(last) = self.head.segments[..stay].last()
            && last.bytes <= bytes.len()
            && last.bytes + bytes.len() <= self.key_value.limits().segment
        {
            let name = self.slot_name(last.slot);
            match self.key_value.get(&name).await {
                Ok(Some(value)) if digest(&value.bytes) == last.digest => {
                    bytes = [value.bytes, bytes].concat();
                    stay -= 1;
                }
                Ok(_) => return Err(LedgerError::Damaged(not_as_named(&name))),
                Err(_) => break,
            }
        }
        Ok((stay, bytes))
    }

    /// Stores these records instead of all that is stored. The old segments stay until the new ones are complete.
    pub(super) async fn replace(
        &mut self,
        bytes: &[u8],
        accepted: Accepted,
        standing: Standing,
    ) -> Result<(), LedgerError> {
        let mut head = Head {
            accepted,
            standing,
            segments: Vec::new(),
            ..self.head.clone()
        };
        if bytes.len() <= TAIL_MAX {
            return self.put_head(head, bytes.to_vec()).await;
        }
        if self.stored.is_none() {
            self.put_head(head.clone(), Vec::new()).await?;
        }
        head.segments = self.put_segments(bytes).await?;
        self.put_head(head, Vec::new()).await
    }

    /// Changes only where the ledger stands.
    pub(super) async fn set_standing(&mut self, standing: Standing) -> Result<(), LedgerError> {
        let head = Head {
            standing,
            ..self.head.clone()
        };
        self.put_head(head, self.tail.clone()).await
    }

    /// Takes what a ledger keeps wherever it is stored from another one, which this one is to be a copy of.
    pub(super) fn take_nature(&mut self, of: &Head) {
        self.head.key.clone_from(&of.key);
        self.head.cluster.clone_from(&of.cluster);
    }

    fn note_version(&mut self, version: Version) {
        let digest = self.stored.as_ref().map(|stored| stored.digest);
        self.stored = Some(Stored {
            version,
            // The first head was stored without an answer: what it was does not matter, it is written again.
            digest: digest.unwrap_or_else(|| blake3::hash(&[])),
        });
    }

    async fn put_segments(&mut self, bytes: &[u8]) -> Result<Vec<Segment>, LedgerError> {
        if !self.avoided.is_empty() {
            // Once a newer head is stored, no earlier write can come after it: all slots are ours to use again.
            self.put_head(self.head.clone(), self.tail.clone()).await?;
        }
        let mut segments: Vec<Segment> = Vec::new();
        for part in bytes.chunks(self.key_value.limits().segment) {
            let slot = self.put_segment(part, &segments).await?;
            segments.push(Segment {
                slot,
                bytes: part.len(),
                digest: digest(part),
            });
        }
        Ok(segments)
    }

    async fn put_segment(&mut self, part: &[u8], new: &[Segment]) -> Result<u32, LedgerError> {
        let mut failures = 0;
        loop {
            let used = |slot: &u32| {
                let mut segments = self.head.segments.iter().chain(new);
                self.avoided.contains(slot) || segments.any(|segment| segment.slot == *slot)
            };
            let slot = (0..).find(|slot| !used(slot)).unwrap_or(u32::MAX);
            let name = self.slot_name(slot);
            let error = match self
                .key_value
                .put_unnamed(&name, part, self.slots.get(&slot))
                .await
            {
                Ok(version) => {
                    self.slots.insert(slot, version);
                    return Ok(slot);
                }
                Err(error) => error,
            };
            failures += 1;
            match error {
                KeyValueError::Conflict { .. } if failures < ATTEMPTS => {
                    let value = self.key_value.get(&name).await.map_err(LedgerError::Storage)?;
                    let Some(value) = value else {
                        self.slots.remove(&slot);
                        continue;
                    };
                    let written = value.bytes == part;
                    self.slots.insert(slot, value.version);
                    if written {
                        return Ok(slot);
                    }
                    if let Found::Earlier(earlier) = self.find(None).await.map_err(LedgerError::Storage)? {
                        return Err(self.went_back(earlier).await);
                    }
                    // It may be a segment of an agent that is about to win: take another slot, and let the head
                    // tell who is alone.
                    self.avoided.insert(slot);
                }
                KeyValueError::Unavailable { .. } if failures < self.attempts() => {
                    tokio::time::sleep(RETRY.delay(failures, random())).await;
                }
                error => match self.key_value.get(&name).await {
                    Ok(Some(value)) if value.bytes == part => {
                        self.slots.insert(slot, value.version);
                        return Ok(slot);
                    }
                    _ => {
                        self.is_away = matches!(error, KeyValueError::Unavailable { .. });
                        return Err(LedgerError::Storage(error));
                    }
                },
            }
        }
    }

    /// How often a write is tried that storage does not answer.
    fn attempts(&self) -> u32 {
        if self.is_away { 1 } else { ATTEMPTS }
    }

    async fn put_head(&mut self, head: Head, tail: Vec<u8>) -> Result<(), LedgerError> {
        self.sequence += 1;
        let head = Head {
            writer: self.id.clone(),
            sequence: self.sequence,
            ..head
        };
        let bytes = head.to_bytes(&tail);
        match self.put_head_bytes(&bytes).await {
            Ok(version) => {
                self.stored = Some(Stored {
                    version,
                    digest: blake3::hash(&bytes),
                });
                (self.head, self.tail) = (head, tail);
                self.avoided = BTreeSet::new();
                self.is_away = false;
                Ok(())
            }
            Err(e) => {
                if let LedgerError::Storage(_) = e {
                    // It may be stored yet, and then names these.
                    self.avoided
                        .extend(head.segments.iter().map(|segment| segment.slot));
                }
                Err(e)
            }
        }
    }

    async fn put_head_bytes(&mut self, bytes: &[u8]) -> Result<Version, LedgerError> {
        let mut failures = 0;
        loop {
            let expected = self.stored.as_ref().map(|stored| &stored.version);
            let error = match self.key_value.put(&self.name, bytes, expected).await {
                Ok(version) => return Ok(version),
                Err(error) => error,
            };
            failures += 1;
            match error {
                KeyValueError::Conflict { .. } => {
                    match self.find(Some(bytes)).await.map_err(LedgerError::Storage)? {
                        Found::Written(version) => return Ok(version),
                        Found::Ours(version) => self.note_version(version),
                        Found::Earlier(earlier) => return Err(self.went_back(earlier).await),
                        Found::Foreign => return Err(LedgerError::Lost),
                        Found::Damaged(why) => return Err(self.damaged(why)),
                    }
                }
                KeyValueError::Unavailable { .. } if failures < self.attempts() => {
                    tokio::time::sleep(RETRY.delay(failures, random())).await;
                }
                KeyValueError::Unavailable { .. } => {
                    self.is_away = true;
                    return match self.find(Some(bytes)).await {
                        Ok(Found::Written(version)) => Ok(version),
                        _ => Err(LedgerError::Storage(error)),
                    };
                }
                KeyValueError::Refused { .. } => return Err(LedgerError::Storage(error)),
            }
            if failures == ATTEMPTS {
                return Err(LedgerError::Storage(error));
            }
        }
    }

    /// Reads the head value, to settle what became of a write of `bytes`, or whether it is as it was.
    async fn find(&self, bytes: Option<&[u8]>) -> Result<Found, KeyValueError> {
        let Some(Versioned {
            bytes: found,
            version,
        }) = self.key_value.get(&self.name).await?
        else {
            return Ok(Found::Damaged(self.head_is("gone")));
        };
        if Some(&found[..]) == bytes {
            return Ok(Found::Written(version));
        }
        let digest = blake3::hash(&found);
        if self.stored.as_ref().is_some_and(|stored| stored.digest == digest) {
            return Ok(Found::Ours(version));
        }
        Ok(match Head::read(&found) {
            Reading::Head(head, tail) if head.writer == self.id && head.sequence < self.head.sequence => {
                let stored = Stored { version, digest };
                Found::Earlier(Earlier { head, tail, stored })
            }
            Reading::Head(head, _) if head.writer == self.id => Found::Ours(version),
            // Another version is that of another program, which is at work here.
            Reading::Head(..) | Reading::Version(_) => Found::Foreign,
            Reading::Unreadable => Found::Damaged(self.head_is("not readable")),
        })
    }

    fn head_is(&self, what: &str) -> String {
        format!("its head, {}, is {what}", self.name)
    }

    fn slot_name(&self, slot: u32) -> String {
        match self.head.series {
            0 => format!("{}-{slot}", self.name),
            series => format!("{}-{series}-{slot}", self.name),
        }
    }
}

/// What is wrong with a segment that is not what was written.
fn not_as_named(name: &str) -> String {
    format!("segment {name} is not what the head names")
}

fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}
