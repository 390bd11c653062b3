//! What the content of an entry needs: manifest and configurations first, then the objects that the manifest names.

use std::collections::{HashMap, HashSet};

use flotilla_core::{
    content::{Content as Manifest, Form},
    digest::Digest,
    id::UnitId,
    object::ObjectKey,
    unit::{Entry, VariableLayer},
};

use crate::{
    ledger::{
        Ledger,
        record::Record,
        state::{Blob, BlobKind},
    },
    link::fetch::Item,
};

pub(super) type Blobs = HashMap<Digest, Blob>;

/// How far the content of an entry is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// All of it.
    Here,
    /// Something can still be asked for.
    Coming,
    /// What is not here the hub could not give; and why.
    Missing(String),
    /// It is here, and of a type that this version does not know: asking again would bring the same.
    Unknown,
}

/// Items to ask for.
#[derive(Debug)]
pub(super) struct Need {
    pub(super) unit: UnitId,
    pub(super) items: Vec<Item>,
}

enum Held {
    Not,
    Unreadable,
    Manifest(Manifest),
}

fn has(ledger: &Ledger, arrived: &Blobs, digest: &Digest) -> bool {
    arrived.contains_key(digest) || ledger.read(|state| state.blobs.contains_key(digest))
}

fn manifest(ledger: &Ledger, arrived: &Blobs, digest: &Digest) -> Held {
    let bytes = match arrived.get(digest) {
        Some(blob) => blob.bytes().ok(),
        None => match ledger.read(|state| state.blobs.get(digest).cloned()) {
            Some(blob) => blob.bytes().ok(),
            None => return Held::Not,
        },
    };
    match bytes.and_then(|bytes| Manifest::from_bytes(&bytes).ok()) {
        Some(manifest) => Held::Manifest(manifest),
        None => Held::Unreadable,
    }
}

/// Returns what is not here and can be asked for by now: objects are known once the manifest is here.
pub(super) fn need(ledger: &Ledger, arrived: &Blobs, unit: UnitId, entry: &Entry) -> Need {
    let mut need = Need {
        unit,
        items: Vec::new(),
    };
    for layer in &entry.variables {
        if let VariableLayer::Config { digest, secret } = layer
            && !has(ledger, arrived, digest)
        {
            need.items.push(Item {
                digest: *digest,
                kind: BlobKind::Config,
                form: Form::Json,
                secret: *secret,
                base: None,
            });
        }
    }
    let Some(digest) = entry.content else {
        return need;
    };
    match manifest(ledger, arrived, &digest) {
        Held::Unreadable => {}
        Held::Not => need.items.push(Item {
            digest,
            kind: BlobKind::Content,
            form: Form::Json,
            secret: false,
            base: base(ledger, unit),
        }),
        Held::Manifest(content) => {
            let mut seen = HashSet::new();
            let objects = content.objects().iter();
            let lacking: Vec<_> = objects
                .filter(|object| !has(ledger, arrived, &object.digest) && seen.insert(object.digest))
                .collect();
            if lacking.is_empty() {
                return need;
            }
            let before = before(ledger, unit);
            need.items.extend(lacking.into_iter().map(|object| Item {
                digest: object.digest,
                kind: BlobKind::Object,
                form: object.form,
                secret: object.key.is_secret(),
                base: before.get(&object.key).copied(),
            }));
        }
    }
    need
}

/// Tells how far the content of an entry is here.
pub(super) fn of(
    ledger: &Ledger,
    arrived: &Blobs,
    absent: &HashMap<Digest, String>,
    entry: &Entry,
) -> Content {
    let need = need(ledger, arrived, entry.unit, entry);
    if need.items.iter().any(|item| !absent.contains_key(&item.digest)) {
        return Content::Coming;
    }
    if let Some(item) = need.items.first() {
        let why = absent.get(&item.digest).map_or("", String::as_str);
        return Content::Missing(format!("{}: {why}", name(ledger, arrived, entry, item)));
    }
    match entry.content.map(|digest| manifest(ledger, arrived, &digest)) {
        Some(Held::Unreadable) => Content::Unknown,
        _ => Content::Here,
    }
}

fn name(ledger: &Ledger, arrived: &Blobs, entry: &Entry, item: &Item) -> String {
    let short = item.digest.short();
    match item.kind {
        BlobKind::Config => format!("variables {short}"),
        BlobKind::Content => format!("content {short}"),
        BlobKind::Object => {
            let content = entry.content.map(|digest| manifest(ledger, arrived, &digest));
            let Some(Held::Manifest(content)) = content else {
                return format!("object {short}");
            };
            let mut objects = content.objects().iter();
            let object = objects.find(|object| object.digest == item.digest);
            object.map_or_else(|| format!("object {short}"), |object| object.key.to_string())
        }
    }
}

/// Returns the records of what has come for an entry and is not in the ledger.
pub(super) fn blobs(ledger: &Ledger, arrived: &Blobs, entry: &Entry) -> Vec<Record> {
    let mut digests: Vec<Digest> = entry
        .variables
        .iter()
        .filter_map(|layer| match layer {
            VariableLayer::Config { digest, .. } => Some(*digest),
            _ => None,
        })
        .collect();
    if let Some(digest) = entry.content {
        digests.push(digest);
        if let Held::Manifest(content) = manifest(ledger, arrived, &digest) {
            digests.extend(content.objects().iter().map(|object| object.digest));
        }
    }
    let mut seen = HashSet::new();
    digests
        .into_iter()
        .filter(|digest| seen.insert(*digest) && !ledger.read(|state| state.blobs.contains_key(digest)))
        .filter_map(|digest| Some(Record::Blob(digest, arrived.get(&digest)?.clone())))
        .collect()
}

/// The content that the unit has now, against which a new one is likely a small change.
fn base(ledger: &Ledger, unit: UnitId) -> Option<Digest> {
    ledger.read(|state| {
        let unit = state.units.get(&unit)?;
        [&unit.offered, &unit.enforced]
            .into_iter()
            .flatten()
            .filter_map(|kept| kept.entry.as_ref()?.content)
            .find(|digest| state.blobs.contains_key(digest))
    })
}

fn before(ledger: &Ledger, unit: UnitId) -> HashMap<ObjectKey, Digest> {
    let content = base(ledger, unit).and_then(|digest| ledger.read(|state| state.content(&digest)));
    content.map_or_else(HashMap::new, |content| {
        let objects = content.objects().iter();
        objects
            .map(|object| (object.key.clone(), object.digest))
            .collect()
    })
}
