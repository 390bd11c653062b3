//! The head value: what names the segments. What is not in the head has not happened.

use serde::{Deserialize, Serialize};

use super::{error::LedgerError, record::Accepted};

/// Version of this layout and of the records.
const VERSION: u32 = 2;

/// What the head says, beside the tail of records that follows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Head {
    pub version: u32,
    /// The process that wrote it, drawn at random when it started: tells our own writes, of whatever outcome, from
    /// those of another agent.
    pub writer: String,
    /// Rises with each write, so that no two heads are equal.
    pub sequence: u64,
    /// Names the values of the segments. A ledger that begins anew over a damaged one takes the next series, and
    /// leaves all values of the damaged one as they are.
    pub series: u32,
    /// Where the ledger is.
    #[serde(default, skip_serializing_if = "Standing::is_here")]
    pub standing: Standing,
    /// UID of the cluster that it is of; none before that is known. In another cluster it is a copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The segments, in the order of their records.
    pub segments: Vec<Segment>,
    /// Key of the digests that only this agent computes, hexadecimal.
    pub key: String,
    /// The desired state that is accepted, for people who look at the value; the records say it too.
    #[serde(rename = "held")]
    pub accepted: Accepted,
}

/// Part of the records in a value of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Segment {
    pub slot: u32,
    pub bytes: usize,
    /// BLAKE3 of the bytes: a slot that somebody wrote again is not taken for what it was.
    pub digest: String,
}

/// Whether a ledger is to be used where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Standing {
    /// Here.
    #[default]
    Here,
    /// It was moved to another form of storage, which is named.
    MovedTo(String),
    /// It is complete here, and the form that it comes from is not yet marked as moved.
    ArrivingFrom(String),
}

impl Standing {
    fn is_here(&self) -> bool {
        *self == Self::Here
    }
}

/// What the bytes of a head value are.
pub(super) enum Reading {
    /// A head and its tail.
    Head(Box<Head>, Vec<u8>),
    /// A head of another version: another program wrote it, and it is not damaged.
    Version(u32),
    /// No head at all.
    Unreadable,
}

impl Head {
    /// Makes the head of a ledger without records.
    pub(super) fn new() -> Self {
        Self {
            version: VERSION,
            writer: String::new(),
            sequence: 0,
            series: 0,
            standing: Standing::Here,
            cluster: None,
            segments: Vec::new(),
            key: format!("{}{}", uuid::Uuid::new_v4(), uuid::Uuid::new_v4()),
            accepted: Accepted::default(),
        }
    }

    /// Returns the bytes of the segments.
    pub(super) fn used(&self) -> usize {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Refuses a ledger that is not to be used where it stands.
    pub(super) fn check_standing(&self) -> Result<(), LedgerError> {
        match &self.standing {
            Standing::Here => Ok(()),
            Standing::MovedTo(to) => Err(LedgerError::Moved { to: to.clone() }),
            Standing::ArrivingFrom(from) => Err(LedgerError::Arriving { from: from.clone() }),
        }
    }

    /// Writes the head and its tail: `length u32 | JSON | tail`, little endian.
    pub(super) fn to_bytes(&self, tail: &[u8]) -> Vec<u8> {
        // String keys and plain fields only, and far below 4 GiB.
        let json = serde_json::to_vec(self).expect("a head serialises");
        let length = u32::try_from(json.len()).expect("a head is small");
        [&length.to_le_bytes()[..], &json, tail].concat()
    }

    /// Reads the bytes of a head value.
    pub(super) fn read(bytes: &[u8]) -> Reading {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Some((length, rest)) = bytes.split_first_chunk::<4>() else {
            return Reading::Unreadable;
        };
        let Some((json, tail)) = rest.split_at_checked(u32::from_le_bytes(*length) as usize) else {
            return Reading::Unreadable;
        };
        match serde_json::from_slice::<Versioned>(json) {
            Ok(Versioned { version }) if version != VERSION => return Reading::Version(version),
            Ok(_) => {}
            Err(_) => return Reading::Unreadable,
        }
        serde_json::from_slice(json).map_or(Reading::Unreadable, |head| {
            Reading::Head(Box::new(head), tail.to_vec())
        })
    }
}
