//! One row of a report, its place among the others, and the digest over all of them.

use std::sync::Arc;

use flotilla_core::{digest::Digest, id::UnitId, object::ObjectKey};
use flotilla_proto::{
    agent::v1::{ObjectKey as WireKey, ObjectState, ObjectStatus, RowKey as WireRowKey, UnitStatus},
    limits::{NAME_BYTES, cut},
};
use prost::Message as _;
use uuid::Uuid;

/// Rows of units come first, then those of objects: the order of a full report.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RowKey {
    Unit(UnitId),
    Object(UnitId, Arc<ObjectKey>),
}

impl RowKey {
    pub(super) fn to_wire(&self) -> WireRowKey {
        let (unit, object) = match self {
            Self::Unit(unit) => (unit, None),
            Self::Object(unit, key) => (unit, Some(wire(key))),
        };
        WireRowKey {
            unit_id: unit.to_vec().into(),
            object,
        }
    }
}

/// A row. There is one for each object of the cluster's units, kept to be sent again: of an object it is the bytes of
/// its status without unit and key, which stand in the row's place among the others, and with the UID in 16 bytes
/// where it is written as a UUID is.
#[derive(Debug, Clone)]
pub(super) enum Row {
    Unit(Box<UnitStatus>),
    Object(Box<[u8]>),
    /// Reported gone; forgotten once acknowledged.
    Gone(Box<[u8]>),
}

/// A row as it is sent.
pub(super) enum Sent {
    Unit(UnitStatus),
    Object(ObjectStatus),
}

impl Row {
    pub(super) fn object(mut status: ObjectStatus) -> Self {
        let is_gone = status.state() == ObjectState::Gone;
        status.key = None;
        status.unit_id.clear();
        let uid = uuid_of(&status.uid);
        if uid.is_some() {
            status.uid.clear();
        }
        let mut bytes = Vec::with_capacity(1 + 16 + status.encoded_len());
        bytes.push(u8::from(uid.is_some()));
        bytes.extend_from_slice(uid.as_ref().map_or(&[], |uid| uid.as_bytes()));
        bytes.extend_from_slice(&status.encode_to_vec());
        let bytes = bytes.into();
        if is_gone {
            Self::Gone(bytes)
        } else {
            Self::Object(bytes)
        }
    }

    pub(super) fn to_sent(&self, key: &RowKey) -> Sent {
        match (self, key) {
            (Self::Unit(status), _) => Sent::Unit((**status).clone()),
            (Self::Object(bytes) | Self::Gone(bytes), key) => {
                let mut status = status_of(bytes);
                let WireRowKey { unit_id, object } = key.to_wire();
                (status.unit_id, status.key) = (unit_id, object);
                Sent::Object(status)
            }
        }
    }

    /// Tells whether another row says the same. When only the time of observation differs, nothing has changed.
    pub(super) fn says(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unit(one), Self::Unit(other)) => {
                one.observed_at_ms == other.observed_at_ms && one == other || timeless(one) == timeless(other)
            }
            (Self::Object(one), Self::Object(other)) | (Self::Gone(one), Self::Gone(other)) => one == other,
            _ => false,
        }
    }

    /// Digest of the row in its place.
    pub(super) fn digest(&self, key: &RowKey) -> Digest {
        let mut bytes = key.to_wire().encode_to_vec();
        match self {
            Self::Unit(status) => bytes.extend_from_slice(&timeless(status).encode_to_vec()),
            Self::Object(status) | Self::Gone(status) => bytes.extend_from_slice(status),
        }
        Digest::of("row", &bytes)
    }
}

fn timeless(status: &UnitStatus) -> UnitStatus {
    UnitStatus {
        observed_at_ms: 0,
        ..status.clone()
    }
}

/// The UUID that a UID is, where it reads back as it is written.
fn uuid_of(uid: &str) -> Option<Uuid> {
    let mut buffer = Uuid::encode_buffer();
    Uuid::try_parse(uid)
        .ok()
        .filter(|uuid| uuid.hyphenated().encode_lower(&mut buffer) == uid)
}

/// Reads the bytes of a row; they are our own.
fn status_of(bytes: &[u8]) -> ObjectStatus {
    let (uid, bytes) = match bytes {
        [1, rest @ ..] => rest.split_at(16.min(rest.len())),
        bytes => (&[][..], bytes.get(1..).unwrap_or_default()),
    };
    let mut status = ObjectStatus::decode(bytes).unwrap_or_default();
    if let Ok(uid) = Uuid::from_slice(uid) {
        status.uid = uid.hyphenated().to_string();
    }
    status
}

impl Sent {
    pub(super) fn encoded_len(&self) -> usize {
        match self {
            Self::Unit(status) => status.encoded_len(),
            Self::Object(status) => status.encoded_len(),
        }
    }
}

/// A digest over a set of rows that follows single changes: the sum of theirs. It is compared only with what the
/// hub stored from an earlier report, so its form is the agent's own, and nobody gains by a collision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sum([u64; 4]);

impl Sum {
    pub(super) fn replace(&mut self, old: Option<Digest>, new: Option<Digest>) {
        self.each(old, u64::wrapping_sub);
        self.each(new, u64::wrapping_add);
    }

    fn each(&mut self, digest: Option<Digest>, with: fn(u64, u64) -> u64) {
        let Some(digest) = digest else { return };
        let (lanes, _) = digest.as_bytes().as_chunks::<8>();
        for (sum, lane) in self.0.iter_mut().zip(lanes) {
            *sum = with(*sum, u64::from_be_bytes(*lane));
        }
    }

    pub(super) fn root(&self) -> Digest {
        let bytes: Vec<u8> = self.0.iter().flat_map(|lane| lane.to_be_bytes()).collect();
        Digest::of("observed", &bytes)
    }
}

/// Cuts what no API server would take, so that a row's place and its name on the wire are one.
pub(super) fn bound_key(key: &mut Arc<ObjectKey>) {
    let parts = [&key.group, &key.kind, &key.namespace, &key.name];
    if parts.into_iter().all(|part| part.len() <= NAME_BYTES) {
        return;
    }
    let key = Arc::make_mut(key);
    for part in [&mut key.group, &mut key.kind, &mut key.namespace, &mut key.name] {
        cut(part, NAME_BYTES);
    }
}

pub(super) fn bound_wire_key(key: &mut WireKey) {
    for part in [&mut key.group, &mut key.kind, &mut key.namespace, &mut key.name] {
        cut(part, NAME_BYTES);
    }
}

pub(super) fn wire(key: &ObjectKey) -> WireKey {
    WireKey {
        group: key.group.clone(),
        kind: key.kind.clone(),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
    }
}
