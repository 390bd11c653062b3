//! The records of the ledger and their bytes: `length u32 | checksum u64 | tag u8 | payload`, little endian. A
//! reader of an older version passes over tags it does not know; a wrong checksum is an error, never a skip.

use std::sync::Arc;

use flotilla_core::{
    apply::inventory::Record as ObjectRecord, clock::Timestamp, desired::Held, digest::Digest, id::UnitId,
    object::ObjectKey,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    delta::Delta,
    entry::EntryBytes,
    items,
    state::{Blob, BlobKind},
};

/// One durable fact. Later records replace earlier ones about the same thing.
#[derive(Debug, Clone)]
pub enum Record {
    /// Which desired state is accepted.
    Accepted(Accepted),
    /// A unit's entry as it came, in the bytes that its digest covers.
    Offered {
        /// The unit.
        unit: UnitId,
        /// The entry.
        entry: EntryBytes,
        /// When it was accepted.
        at: Timestamp,
    },
    /// The entry whose evaluation was the last that succeeded: what is enforced.
    Enforced {
        /// The unit.
        unit: UnitId,
        /// The entry.
        entry: EntryBytes,
    },
    /// The hub has let go of a unit.
    Released {
        /// The unit.
        unit: UnitId,
    },
    /// The hub's history that is accepted does not name the unit: it stays as it is until it is offered again.
    Unknown {
        /// The unit.
        unit: UnitId,
    },
    /// What the unit's loop remembers, in its own bytes.
    Unit {
        /// The unit.
        unit: UnitId,
        /// The bytes.
        state: Vec<u8>,
    },
    /// Whether objects of a kind live in namespaces, as discovery last said: keys do not change with it.
    Kind {
        /// API group.
        group: String,
        /// The kind.
        kind: String,
        /// Its objects live in namespaces.
        namespaced: bool,
    },
    /// A content, object or configuration.
    Blob(Digest, Blob),
    /// A content, as what differs from one that came before.
    Delta(Delta),
    /// An object of a unit: an intent, or what was found after applying.
    Item {
        /// The unit.
        unit: UnitId,
        /// The object.
        key: Arc<ObjectKey>,
        /// What is known of it; shared with the unit's loop, as the key is.
        record: Arc<ObjectRecord>,
    },
    /// An object is no longer the unit's.
    Dropped {
        /// The unit.
        unit: UnitId,
        /// The object.
        key: Arc<ObjectKey>,
    },
}

impl Record {
    /// Tells whether this is what was found or done, which may be found out again after a crash. What is accepted
    /// is not: the hub is told that it is held.
    pub(super) fn is_outcome(&self) -> bool {
        match self {
            Self::Enforced { .. }
            | Self::Unit { .. }
            | Self::Kind { .. }
            | Self::Item { .. }
            | Self::Dropped { .. } => true,
            Self::Accepted(_)
            | Self::Offered { .. }
            | Self::Released { .. }
            | Self::Unknown { .. }
            | Self::Blob(..)
            | Self::Delta(_) => false,
        }
    }
}

/// The desired state that is accepted, and the hub's hold on the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Accepted {
    /// The hub's history; 0 is none.
    pub incarnation: u64,
    /// Number of the desired state; 0 is none.
    pub generation: u64,
    /// Digest over all entries.
    pub root: Option<Digest>,
    /// The highest epoch seen.
    pub epoch: u64,
    /// Digest of the hub's identifier of the cluster that all of it is of; none before this agent has joined, and of agents
    /// that joined with a version before this one. The same cluster may join as another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Digest>,
}

impl Accepted {
    /// The desired state without the hold on the stream.
    pub fn held(&self) -> Held {
        Held {
            incarnation: self.incarnation,
            generation: self.generation,
            root: self.root,
        }
    }
}

/// Why bytes are no records.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRecord {
    /// The bytes end inside a record.
    #[error("ledger ends inside a record")]
    Cut,
    /// The bytes of a record are not those that were written.
    #[error("checksum of a ledger record differs")]
    Checksum,
    /// A record of this version cannot be read.
    #[error("ledger record with tag {tag} is not readable: {why}")]
    Unreadable {
        /// The record's tag.
        tag: u8,
        /// What was wrong, without contents.
        why: String,
    },
}

const ACCEPTED: u8 = 1;
const OFFERED: u8 = 2;
const ENFORCED: u8 = 3;
const RELEASED: u8 = 4;
const BLOB: u8 = 5;
const UNIT: u8 = 7;
const KIND: u8 = 8;
/// Rows of [`items`], of one unit. Another layout of rows takes another tag.
const ITEMS: u8 = 9;
const DELTA: u8 = 10;
const UNKNOWN: u8 = 11;
const HEADER: usize = 4 + 8 + 1;
/// Objects that stand in one record.
const ROWS_MAX: usize = 256;
/// Bytes that a unit's entry or record takes beside its own.
pub(super) const UNIT_OVERHEAD: usize = HEADER + 16 + 8;
/// Bytes that a blob takes beside its own.
pub(super) const BLOB_OVERHEAD: usize = HEADER + 32 + 1 + 4;

#[derive(Serialize, Deserialize)]
struct KindPayload {
    group: String,
    kind: String,
    namespaced: bool,
}

/// Appends the bytes of records to `out`.
pub(super) fn encode(records: &[Record], out: &mut Vec<u8>) {
    let mut rest = records;
    while let Some(first) = rest.first() {
        let Some((unit, ..)) = row(first) else {
            encode_one(out, |out| encode_payload(first, out));
            rest = &rest[1..];
            continue;
        };
        let rows: Vec<_> = rest
            .iter()
            .map_while(row)
            .take_while(|row| row.0 == unit)
            .collect();
        encode_rows(unit, rows.iter().map(|(_, key, record)| (*key, *record)), out);
        rest = &rest[rows.len()..];
    }
}

fn row(record: &Record) -> Option<(UnitId, &ObjectKey, Option<&ObjectRecord>)> {
    match record {
        Record::Item { unit, key, record } => Some((*unit, key, Some(record))),
        Record::Dropped { unit, key } => Some((*unit, key, None)),
        _ => None,
    }
}

/// Appends the bytes of a unit's objects, with `None` for one that is dropped.
pub(super) fn encode_rows<'a>(
    unit: UnitId,
    rows: impl Iterator<Item = (&'a ObjectKey, Option<&'a ObjectRecord>)>,
    out: &mut Vec<u8>,
) {
    let mut rows = rows.peekable();
    while rows.peek().is_some() {
        encode_one(out, |out| {
            out.extend_from_slice(unit.0.as_bytes());
            items::encode(rows.by_ref().take(ROWS_MAX), out);
            ITEMS
        });
    }
}

fn encode_one(out: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>) -> u8) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    let tag = payload(out);
    let length = u32::try_from(out.len() - start - HEADER).unwrap_or(u32::MAX);
    out[start + HEADER - 1] = tag;
    let sum = checksum(&out[start + HEADER - 1..]);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + 12].copy_from_slice(&sum);
}

fn encode_payload(record: &Record, out: &mut Vec<u8>) -> u8 {
    match record {
        Record::Accepted(accepted) => json(out, accepted, ACCEPTED),
        Record::Offered { unit, entry, at } => {
            out.extend_from_slice(unit.0.as_bytes());
            out.extend_from_slice(&at.0.to_le_bytes());
            out.extend_from_slice(entry.bytes());
            OFFERED
        }
        Record::Enforced { unit, entry } => {
            out.extend_from_slice(unit.0.as_bytes());
            out.extend_from_slice(entry.bytes());
            ENFORCED
        }
        Record::Released { unit } => {
            out.extend_from_slice(unit.0.as_bytes());
            RELEASED
        }
        Record::Unknown { unit } => {
            out.extend_from_slice(unit.0.as_bytes());
            UNKNOWN
        }
        Record::Unit { unit, state } => {
            out.extend_from_slice(unit.0.as_bytes());
            out.extend_from_slice(state);
            UNIT
        }
        Record::Kind {
            group,
            kind,
            namespaced,
        } => json(
            out,
            &KindPayload {
                group: group.clone(),
                kind: kind.clone(),
                namespaced: *namespaced,
            },
            KIND,
        ),
        Record::Blob(digest, blob) => {
            out.extend_from_slice(digest.as_bytes());
            out.push(blob.kind as u8);
            out.extend_from_slice(&blob.size.to_le_bytes());
            out.extend_from_slice(&blob.zstd());
            BLOB
        }
        Record::Delta(delta) => {
            out.extend_from_slice(delta.digest.as_bytes());
            out.extend_from_slice(delta.base.as_bytes());
            out.push(delta.depth);
            out.extend_from_slice(&delta.size.to_le_bytes());
            out.extend_from_slice(&delta.zstd);
            DELTA
        }
        Record::Item { .. } | Record::Dropped { .. } => unreachable!("rows are encoded together"),
    }
}

fn json(out: &mut Vec<u8>, value: &impl Serialize, tag: u8) -> u8 {
    // Our record types have string keys only, and a Vec takes every write.
    serde_json::to_writer(out, value).expect("ledger records serialise");
    tag
}

fn checksum(bytes: &[u8]) -> [u8; 8] {
    let mut sum = [0; 8];
    sum.copy_from_slice(&blake3::hash(bytes).as_bytes()[..8]);
    sum
}

/// Reads all records; unknown tags are passed over.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Record>, InvalidRecord> {
    let mut records = Vec::new();
    decode_each(bytes, |record| records.push(record))?;
    Ok(records)
}

/// Gives each record to `take`. After an error what was given is to be dropped.
pub(super) fn decode_each(mut bytes: &[u8], mut take: impl FnMut(Record)) -> Result<(), InvalidRecord> {
    while !bytes.is_empty() {
        if bytes.len() < HEADER {
            return Err(InvalidRecord::Cut);
        }
        let length = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        let body = bytes.get(HEADER - 1..HEADER + length).ok_or(InvalidRecord::Cut)?;
        if checksum(body) != bytes[4..12] {
            return Err(InvalidRecord::Checksum);
        }
        decode_payload(body[0], &body[1..], &mut take)?;
        bytes = &bytes[HEADER + length..];
    }
    Ok(())
}

fn decode_payload(tag: u8, payload: &[u8], take: &mut impl FnMut(Record)) -> Result<(), InvalidRecord> {
    let cut = || InvalidRecord::Unreadable {
        tag,
        why: "too short".to_owned(),
    };
    let unit = || payload.get(..16).and_then(UnitId::try_from_slice).ok_or_else(cut);
    take(match tag {
        ACCEPTED => Record::Accepted(from_json(tag, payload)?),
        OFFERED => Record::Offered {
            unit: unit()?,
            at: Timestamp(i64::from_le_bytes(
                payload
                    .get(16..24)
                    .and_then(|b| b.try_into().ok())
                    .ok_or_else(cut)?,
            )),
            entry: payload[24..].to_vec().into(),
        },
        ENFORCED => Record::Enforced {
            unit: unit()?,
            entry: payload[16..].to_vec().into(),
        },
        RELEASED => Record::Released { unit: unit()? },
        UNKNOWN => Record::Unknown { unit: unit()? },
        UNIT => Record::Unit {
            unit: unit()?,
            state: payload[16..].to_vec(),
        },
        KIND => {
            let KindPayload {
                group,
                kind,
                namespaced,
            } = from_json(tag, payload)?;
            Record::Kind {
                group,
                kind,
                namespaced,
            }
        }
        BLOB => {
            let (digest, rest) = payload.split_at_checked(32).ok_or_else(cut)?;
            let (head, zstd) = rest.split_at_checked(5).ok_or_else(cut)?;
            let kind = BlobKind::from_byte(head[0]).ok_or_else(|| InvalidRecord::Unreadable {
                tag,
                why: "unknown kind of content".to_owned(),
            })?;
            Record::Blob(
                Digest::try_from_slice(digest).map_err(|_| cut())?,
                Blob::stored(
                    kind,
                    u32::from_le_bytes([head[1], head[2], head[3], head[4]]),
                    zstd.into(),
                ),
            )
        }
        DELTA => {
            let (digest, rest) = payload.split_at_checked(32).ok_or_else(cut)?;
            let (base, rest) = rest.split_at_checked(32).ok_or_else(cut)?;
            let (head, zstd) = rest.split_at_checked(5).ok_or_else(cut)?;
            let digest_of = |bytes| Digest::try_from_slice(bytes).map_err(|_| cut());
            Record::Delta(Delta {
                digest: digest_of(digest)?,
                base: digest_of(base)?,
                depth: head[0],
                size: u32::from_le_bytes([head[1], head[2], head[3], head[4]]),
                zstd: zstd.into(),
            })
        }
        ITEMS => {
            let unit = unit()?;
            let rows = items::decode(&payload[16..]).map_err(|why| InvalidRecord::Unreadable {
                tag,
                why: why.to_owned(),
            })?;
            rows.into_iter().for_each(|(key, record)| {
                take(match record {
                    Some(record) => Record::Item {
                        unit,
                        key: Arc::new(key),
                        record: Arc::new(record),
                    },
                    None => Record::Dropped {
                        unit,
                        key: Arc::new(key),
                    },
                })
            });
            return Ok(());
        }
        _ => return Ok(()),
    });
    Ok(())
}

fn from_json<T: DeserializeOwned>(tag: u8, payload: &[u8]) -> Result<T, InvalidRecord> {
    serde_json::from_slice(payload).map_err(|e| InvalidRecord::Unreadable {
        tag,
        // Category and place only: the text of a serde error may quote the input.
        why: format!("{:?} at {}:{}", e.classify(), e.line(), e.column()),
    })
}
