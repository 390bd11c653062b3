//! Objects of a unit as rows of bytes. A row says only what differs from the row before it: objects of one kind
//! and namespace stand together, and most of their identity is written once.
//!
//! Row: `flags u8 | fields u8 | group, kind | namespace | name | API version | UID | digests | rest`; texts and
//! the rest are preceded by their length as a LEB128 number. What the layout has no place for is JSON in `rest`,
//! so that a record may gain a field without a new layout.

use flotilla_core::{
    apply::inventory::{Record, State},
    digest::Digest,
    id::Uid,
    object::ObjectKey,
};
use serde_json::{Map, Value};
use uuid::Uuid;

const SAME_KIND: u8 = 1;
const SAME_NAMESPACE: u8 = 1 << 1;
const SAME_VERSION: u8 = 1 << 2;
/// The object is no longer the unit's; nothing follows its name.
const DROPPED: u8 = 1 << 3;
const ADOPTED: u8 = 1 << 4;

const UID_BYTES: u8 = 1;
const UID_TEXT: u8 = 1 << 1;
const SENT: u8 = 1 << 2;
const PROJECTION: u8 = 1 << 3;
const ACCEPTED: u8 = 1 << 4;
/// The digests, in the order in which they are written.
const DIGESTS: [(u8, &str); 3] = [(SENT, "sent"), (PROJECTION, "projection"), (ACCEPTED, "accepted")];
const REST: u8 = 1 << 5;
/// The two highest bits: the state, or that it stands in the rest.
const STATE: u8 = 6;
const STATES: [&str; 3] = ["intent", "applied", "pendingRemoval"];

/// Writes rows, with `None` for an object that is dropped.
pub(super) fn encode<'a>(
    rows: impl IntoIterator<Item = (&'a ObjectKey, Option<&'a Record>)>,
    out: &mut Vec<u8>,
) {
    let mut last: Option<&ObjectKey> = None;
    // That of the last row that has one.
    let mut version = "";
    for (key, record) in rows {
        let row = Row {
            key,
            record,
            same_kind: last.is_some_and(|last| (&last.group, &last.kind) == (&key.group, &key.kind)),
            same_namespace: last.is_some_and(|last| last.namespace == key.namespace),
            same_version: record.is_some_and(|record| record.api_version == version),
        };
        row.write(out);
        last = Some(key);
        version = record.map_or(version, |record| &record.api_version);
    }
}

/// Returns the most bytes that a row takes, its share of the record around it included.
pub(super) fn size(key: &ObjectKey, record: &Record) -> usize {
    let row = Row {
        key,
        record: Some(record),
        same_kind: false,
        same_namespace: false,
        same_version: record.api_version.is_empty(),
    };
    let mut counted = Counted(0);
    row.write(&mut counted);
    counted.0 + 1
}

/// Where a row goes.
trait Out {
    fn put(&mut self, bytes: &[u8]);
}

impl Out for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Bytes that are not kept.
struct Counted(usize);

impl Out for Counted {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

/// One row, and what of it the row before says.
struct Row<'a> {
    key: &'a ObjectKey,
    record: Option<&'a Record>,
    same_kind: bool,
    same_namespace: bool,
    same_version: bool,
}

impl Row<'_> {
    fn write(&self, out: &mut impl Out) {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags = flag(self.same_kind, SAME_KIND)
            | flag(self.same_namespace, SAME_NAMESPACE)
            | flag(self.same_version, SAME_VERSION)
            | flag(self.record.is_none(), DROPPED)
            | flag(self.record.is_some_and(|record| record.adopted), ADOPTED);
        let rest = self.record.and_then(rest);
        let fields = self.record.map_or(0, fields) | flag(rest.is_some(), REST);
        out.put(&[flags, fields]);
        if !self.same_kind {
            text(&self.key.group, out);
            text(&self.key.kind, out);
        }
        if !self.same_namespace {
            text(&self.key.namespace, out);
        }
        text(&self.key.name, out);
        let Some(record) = self.record else { return };
        if !self.same_version {
            text(&record.api_version, out);
        }
        match record.uid.as_ref().map(|uid| uid.as_uuid().ok_or(uid)) {
            None => {}
            Some(Ok(uuid)) => out.put(uuid.as_bytes()),
            Some(Err(uid)) => text(&uid.to_string(), out),
        }
        let digests = [
            record.sent.as_ref(),
            record.projection.as_ref(),
            record.accepted.as_deref(),
        ];
        for digest in digests.into_iter().flatten() {
            out.put(digest.as_bytes());
        }
        if let Some(rest) = rest {
            text(&rest, out);
        }
    }
}

/// Which fields a row has, but for the rest.
fn fields(record: &Record) -> u8 {
    let state = match record.state {
        State::Intent => 0,
        State::Applied => 1,
        State::PendingRemoval => 2,
    };
    let uid = match record.uid.as_ref().map(Uid::as_uuid) {
        None => 0,
        Some(Some(_)) => UID_BYTES,
        Some(None) => UID_TEXT,
    };
    let bit = |is_there: bool, bit: u8| if is_there { bit } else { 0 };
    state << STATE
        | uid
        | bit(record.sent.is_some(), SENT)
        | bit(record.projection.is_some(), PROJECTION)
        | bit(record.accepted.is_some(), ACCEPTED)
}

/// What the layout has no place for; few records have any of it.
fn rest(record: &Record) -> Option<String> {
    // A field that is not named here would be lost.
    let Record {
        api_version: _,
        state: _,
        adopted: _,
        uid: _,
        sent: _,
        projection: _,
        accepted: _,
        policy,
        finished,
        left,
        replaced,
        contested,
    } = record;
    if policy.is_default() && !finished && left.is_none() && !replaced && contested.is_none() {
        return None;
    }
    let bare = Record {
        policy: *policy,
        finished: *finished,
        left: left.clone(),
        replaced: *replaced,
        contested: contested.clone(),
        ..Record::default()
    };
    // A record is a struct of plain fields: it is always an object.
    let Ok(Value::Object(mut rest)) = serde_json::to_value(bare) else {
        unreachable!("a record is a JSON object");
    };
    rest.retain(|name, _| name != "api_version" && name != "state");
    Some(Value::Object(rest).to_string())
}

fn text(text: &str, out: &mut impl Out) {
    let mut length = text.len();
    while length >= 0x80 {
        out.put(&[0x80 | (length & 0x7f) as u8]);
        length >>= 7;
    }
    out.put(&[length as u8]);
    out.put(text.as_bytes());
}

/// Reads rows.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<(ObjectKey, Option<Record>)>, &'static str> {
    let mut reader = Reader(bytes);
    let mut rows: Vec<(ObjectKey, Option<Record>)> = Vec::new();
    let mut version = String::new();
    while !reader.0.is_empty() {
        let (flags, fields) = (reader.byte()?, reader.byte()?);
        let before = rows.last().map(|(key, _)| key);
        let mut key = ObjectKey::new("", "", "", "");
        if flags & SAME_KIND == 0 {
            (key.group, key.kind) = (reader.text()?, reader.text()?);
        } else {
            let before = before.ok_or("the first row refers to another")?;
            (key.group, key.kind) = (before.group.clone(), before.kind.clone());
        }
        key.namespace = if flags & SAME_NAMESPACE == 0 {
            reader.text()?
        } else {
            before.ok_or("the first row refers to another")?.namespace.clone()
        };
        key.name = reader.text()?;
        let record = if flags & DROPPED == 0 {
            Some(decode_record(&mut reader, flags, fields, &mut version)?)
        } else {
            None
        };
        rows.push((key, record));
    }
    Ok(rows)
}

fn decode_record(
    reader: &mut Reader<'_>,
    flags: u8,
    fields: u8,
    version: &mut String,
) -> Result<Record, &'static str> {
    if flags & SAME_VERSION == 0 {
        *version = reader.text()?;
    }
    let mut known = Map::new();
    known.insert("api_version".to_owned(), version.clone().into());
    if flags & ADOPTED != 0 {
        known.insert("adopted".to_owned(), true.into());
    }
    if let Some(state) = STATES.get(usize::from(fields >> STATE)) {
        known.insert("state".to_owned(), (*state).into());
    }
    if fields & UID_BYTES != 0 {
        let id = Uuid::from_slice(reader.bytes(16)?).map_err(|_| "a UID is cut")?;
        known.insert("uid".to_owned(), id.hyphenated().to_string().into());
    }
    if fields & UID_TEXT != 0 {
        known.insert("uid".to_owned(), reader.text()?.into());
    }
    for (bit, name) in DIGESTS {
        if fields & bit != 0 {
            let digest = Digest::try_from_slice(reader.bytes(32)?).map_err(|_| "a digest is cut")?;
            known.insert(name.to_owned(), digest.to_string().into());
        }
    }
    if fields & REST != 0 {
        let rest: Map<String, Value> =
            serde_json::from_str(&reader.text()?).map_err(|_| "the rest of a row is no JSON")?;
        known.extend(rest);
    }
    serde_json::from_value(Value::Object(known)).map_err(|_| "a row is no record")
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], &'static str> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or("a row is cut")?;
        self.0 = rest;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, &'static str> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    fn text(&mut self) -> Result<String, &'static str> {
        let mut length = 0_usize;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            length |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                let bytes = self.bytes(length)?;
                return String::from_utf8(bytes.to_vec()).map_err(|_| "a text is no UTF-8");
            }
        }
        Err("a text is too long")
    }
}

#[cfg(test)]
mod tests;
