//! Objects of a unit as rows of bytes. A row says only what differs from the row before it: objects of one kind
//! and namespace stand together, and most of their identity is written once.
//!
//! Row: `flags u8 | fields u8 | group, kind | namespace | name | API version | UID | digests | rest`; texts and
//! the rest are preceded by their length as a LEB128 number. What the layout has no place for is JSON in `rest`,
//! so that a record may gain a field without a new layout.

use flotilla_core::{apply::inventory::Record, digest::Digest, object::ObjectKey};
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
/// The digests, in the order in which they are written.
const DIGESTS: [(u8, &str); 3] = [(1 << 2, "sent"), (1 << 3, "projection"), (1 << 4, "accepted")];
const REST: u8 = 1 << 5;
/// The two highest bits: the state, or that it stands in the rest.
const STATE: u8 = 6;
const STATES: [&str; 3] = ["intent", "applied", "pendingRemoval"];

/// Writes rows, with `None` for an object that is dropped.
pub(super) fn encode<'a>(
    rows: impl IntoIterator<Item = (&'a ObjectKey, Option<&'a Record>)>,
    out: &mut Vec<u8>,
) {
    let mut last: Option<(&ObjectKey, String)> = None;
    for (key, record) in rows {
        let mut flags = 0;
        if let Some((before, _)) = &last {
            let kind = (&before.group, &before.kind) == (&key.group, &key.kind);
            flags |= if kind { SAME_KIND } else { 0 };
            flags |= if before.namespace == key.namespace {
                SAME_NAMESPACE
            } else {
                0
            };
        }
        let start = out.len();
        out.extend_from_slice(&[0, 0]);
        if flags & SAME_KIND == 0 {
            text(&key.group, out);
            text(&key.kind, out);
        }
        if flags & SAME_NAMESPACE == 0 {
            text(&key.namespace, out);
        }
        text(&key.name, out);
        let before = last.take().map(|(_, version)| version).unwrap_or_default();
        let version = match record {
            None => {
                flags |= DROPPED;
                before
            }
            Some(record) => {
                let (more, fields, version) = encode_record(record, &before, out);
                flags |= more;
                out[start + 1] = fields;
                version
            }
        };
        out[start] = flags;
        last = Some((key, version));
    }
}

fn encode_record(record: &Record, before: &str, out: &mut Vec<u8>) -> (u8, u8, String) {
    // A record is a struct of plain fields: it is always an object.
    let Ok(Value::Object(mut rest)) = serde_json::to_value(record) else {
        unreachable!("a record is a JSON object");
    };
    let (mut flags, mut fields) = (0, 0);
    let version = take_text(&mut rest, "api_version").unwrap_or_default();
    if version == before {
        flags |= SAME_VERSION;
    } else {
        text(&version, out);
    }
    if rest.get("adopted") == Some(&Value::Bool(true)) {
        rest.remove("adopted");
        flags |= ADOPTED;
    }
    let state = rest.get("state").and_then(Value::as_str);
    let state = STATES.iter().position(|known| Some(*known) == state);
    match state.and_then(|state| u8::try_from(state).ok()) {
        Some(state) => {
            rest.remove("state");
            fields |= state << STATE;
        }
        None => fields |= 3 << STATE,
    }
    if let Some(uid) = take_text(&mut rest, "uid") {
        match Uuid::try_parse(&uid)
            .ok()
            .filter(|id| id.hyphenated().to_string() == uid)
        {
            Some(id) => {
                fields |= UID_BYTES;
                out.extend_from_slice(id.as_bytes());
            }
            None => {
                fields |= UID_TEXT;
                text(&uid, out);
            }
        }
    }
    for (bit, name) in DIGESTS {
        let digest = rest.get(name).and_then(Value::as_str).map(Digest::parse);
        if let Some(Ok(digest)) = digest {
            rest.remove(name);
            fields |= bit;
            out.extend_from_slice(digest.as_bytes());
        }
    }
    if !rest.is_empty() {
        fields |= REST;
        text(&Value::Object(rest).to_string(), out);
    }
    (flags, fields, version)
}

fn take_text(rest: &mut Map<String, Value>, name: &str) -> Option<String> {
    match rest.remove(name) {
        Some(Value::String(text)) => Some(text),
        Some(other) => {
            rest.insert(name.to_owned(), other);
            None
        }
        None => None,
    }
}

fn text(text: &str, out: &mut Vec<u8>) {
    let mut length = text.len();
    while length >= 0x80 {
        out.push(0x80 | (length & 0x7f) as u8);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(text.as_bytes());
}

/// Returns the most bytes that a row takes, its share of the record around it included.
pub(super) fn size(key: &ObjectKey, record: &Record) -> usize {
    let mut out = Vec::with_capacity(256);
    encode([(key, Some(record))], &mut out);
    out.len() + 1
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
