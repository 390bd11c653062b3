//! From an offer to an acknowledgement: judge, fetch what is lacking, persist, and only then say so. Each unit by
//! itself: one whose content cannot be had keeps what it has, and holds no other up.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use flotilla_core::{
    clock::Timestamp,
    content::{Content, Form, ObjectEntry},
    digest::Digest,
    id::UnitId,
    object::ObjectKey,
    unit::{Entry, VariableLayer},
};
use flotilla_proto::agent::v1::{Ack, RefusedReason, UnitAcceptance};

use super::fetch::{BATCH, Bases, FetchError, Fetched, Item};
use crate::ledger::{
    Ledger, LedgerError,
    accept::{Judged, Offer, Refusal, judge},
    record::{Held, Record},
    state::{Blob, BlobKind, Lacking},
};

/// Where contents come from.
#[async_trait]
pub trait Source: Send {
    /// Fetches items, at most [`BATCH`] at once.
    async fn fetch(&mut self, items: &[Item], bases: &Bases<'_>) -> Result<Vec<Fetched>, FetchError>;
}

/// Why an offer led to nothing.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// It is refused; the hub is to be told.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It could not be persisted, so it was not accepted.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The stream of contents broke: connect again.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

/// The wire's name of a refusal.
pub fn refused_reason(refusal: &Refusal) -> RefusedReason {
    match refusal {
        Refusal::Stale { .. } => RefusedReason::Stale,
        Refusal::Conflict(_) => RefusedReason::Conflict,
        Refusal::UnitMissing(_) | Refusal::NotReleasable(_) => RefusedReason::UnitMissing,
        Refusal::RootMismatch => RefusedReason::RootMismatch,
        Refusal::BaseUnknown { .. } => RefusedReason::BaseUnknown,
    }
}

/// Accepts an offer. When this returns, what is acknowledged is durable.
pub async fn accept(
    ledger: &Ledger,
    offer: Offer,
    source: &mut dyn Source,
    now: Timestamp,
) -> Result<Ack, AcceptError> {
    let (held, known) = ledger.read(|state| (state.held, state.known_units()));
    let (changed, released) = match judge(&held, &known, &offer)? {
        Judged::Held => (Vec::new(), Vec::new()),
        Judged::New { changed, released } => (changed, released),
    };
    let mut units = Vec::new();
    let mut records = Vec::new();
    for position in &changed {
        let entry = &offer.entries[*position];
        if let Err(e) = Entry::from_bytes(&entry.bytes) {
            units.push(rejected(
                entry.unit,
                "EntryUnreadable",
                format!("at {}:{}", e.line(), e.column()),
            ));
        }
        records.push(Record::Offered {
            unit: entry.unit,
            entry: entry.bytes.clone(),
            at: now,
        });
    }
    let named: Vec<(UnitId, Entry)> = changed
        .iter()
        .map(|position| &offer.entries[*position])
        .filter_map(|entry| Some((entry.unit, Entry::from_bytes(&entry.bytes).ok()?)))
        .collect();
    let (blobs, missing) = fetch_lacking(ledger, &named, source).await?;
    let mut all: Vec<Record> = blobs
        .into_iter()
        .map(|(digest, blob)| Record::Blob(digest, blob))
        .collect();
    all.append(&mut records);
    all.extend(released.iter().map(|unit| Record::Released { unit: *unit }));
    let next = Held {
        incarnation: offer.incarnation,
        generation: offer.generation,
        root: Some(offer.root),
        epoch: held.epoch,
    };
    if next != held {
        all.push(Record::Held(next));
    }
    ledger.append(all).await?;
    for (unit, _) in &named {
        units.push(match missing.get(unit) {
            Some(why) => rejected(*unit, "ContentMissing", why.clone()),
            None => accepted(*unit),
        });
    }
    Ok(Ack {
        incarnation: offer.incarnation,
        generation: offer.generation,
        units,
    })
}

/// Tries again to get what held entries lack. Returns an acknowledgement when something has come.
pub async fn complete(ledger: &Ledger, source: &mut dyn Source) -> Result<Option<Ack>, AcceptError> {
    let (held, lacking) = ledger.read(|state| {
        let offered = state.units.iter().filter_map(|(id, unit)| {
            let entry = unit.offered.as_ref()?.entry.as_ref()?;
            (!state.lacking(entry).is_empty()).then(|| (*id, entry.as_ref().clone()))
        });
        (state.held, offered.collect::<Vec<_>>())
    });
    if lacking.is_empty() {
        return Ok(None);
    }
    let (blobs, missing) = fetch_lacking(ledger, &lacking, source).await?;
    if blobs.is_empty() {
        return Ok(None);
    }
    ledger
        .append(
            blobs
                .into_iter()
                .map(|(digest, blob)| Record::Blob(digest, blob))
                .collect(),
        )
        .await?;
    let done = lacking
        .iter()
        .map(|(unit, _)| *unit)
        .filter(|unit| !missing.contains_key(unit));
    Ok(Some(Ack {
        incarnation: held.incarnation,
        generation: held.generation,
        units: done.map(accepted).collect(),
    }))
}

/// Tells whether a held entry lacks something.
pub fn is_lacking(ledger: &Ledger) -> bool {
    ledger.read(|state| {
        let mut entries = state
            .units
            .values()
            .filter_map(|unit| unit.offered.as_ref()?.entry.as_ref());
        entries.any(|entry| !state.lacking(entry).is_empty())
    })
}

fn accepted(unit: UnitId) -> UnitAcceptance {
    UnitAcceptance {
        unit_id: unit.to_vec().into(),
        accepted: true,
        ..UnitAcceptance::default()
    }
}

fn rejected(unit: UnitId, reason: &str, message: String) -> UnitAcceptance {
    UnitAcceptance {
        unit_id: unit.to_vec().into(),
        accepted: false,
        reason: reason.to_owned(),
        message,
    }
}

type Blobs = HashMap<Digest, Blob>;

/// Fetches what entries lack: manifests and configurations first, then the objects that the manifests name.
/// Returns what came, and for each unit that still lacks something what that is.
async fn fetch_lacking(
    ledger: &Ledger,
    entries: &[(UnitId, Entry)],
    source: &mut dyn Source,
) -> Result<(Blobs, BTreeMap<UnitId, String>), AcceptError> {
    let mut blobs = Blobs::new();
    let mut absent: HashMap<Digest, String> = HashMap::new();
    let first = wanted(entries, |unit, entry, out| manifests(ledger, unit, entry, out));
    get(ledger, &first, source, &mut blobs, &mut absent).await?;
    let second = wanted(entries, |unit, entry, out| {
        objects(ledger, &blobs, unit, entry, out)
    });
    get(ledger, &second, source, &mut blobs, &mut absent).await?;
    let mut missing = BTreeMap::new();
    for (unit, entry) in entries {
        if let Some(why) = still_lacking(ledger, &blobs, &absent, entry) {
            missing.insert(*unit, why);
        }
    }
    Ok((blobs, missing))
}

fn wanted(entries: &[(UnitId, Entry)], collect: impl Fn(UnitId, &Entry, &mut Vec<Item>)) -> Vec<Item> {
    let mut items = Vec::new();
    for (unit, entry) in entries {
        collect(*unit, entry, &mut items);
    }
    let mut seen = std::collections::HashSet::new();
    items.retain(|item| seen.insert(item.digest));
    items
}

fn lacking(ledger: &Ledger, entry: &Entry) -> Lacking {
    ledger.read(|state| state.lacking(entry))
}

/// The content that the unit has now, against which a new one is likely a small change.
fn base_content(ledger: &Ledger, unit: UnitId) -> Option<Digest> {
    ledger.read(|state| {
        let unit = state.units.get(&unit)?;
        [&unit.offered, &unit.enforced]
            .into_iter()
            .flatten()
            .filter_map(|kept| kept.entry.as_ref()?.content)
            .find(|digest| state.blobs.contains_key(digest))
    })
}

fn manifests(ledger: &Ledger, unit: UnitId, entry: &Entry, out: &mut Vec<Item>) {
    let lacking = lacking(ledger, entry);
    out.extend(lacking.content.map(|digest| Item {
        digest,
        kind: BlobKind::Content,
        form: Form::Json,
        secret: false,
        base: base_content(ledger, unit),
    }));
    out.extend(lacking.configs.into_iter().map(|(digest, secret)| Item {
        digest,
        kind: BlobKind::Config,
        form: Form::Json,
        secret,
        base: None,
    }));
}

fn objects(ledger: &Ledger, blobs: &Blobs, unit: UnitId, entry: &Entry, out: &mut Vec<Item>) {
    let Some(content) = content_of(ledger, blobs, entry) else {
        return;
    };
    let before: HashMap<ObjectKey, Digest> = base_content(ledger, unit)
        .and_then(|digest| ledger.read(|state| state.content(&digest)))
        .map(|content| {
            content
                .objects()
                .iter()
                .map(|o| (o.key.clone(), o.digest))
                .collect()
        })
        .unwrap_or_default();
    let have = |object: &&ObjectEntry| {
        blobs.contains_key(&object.digest) || ledger.read(|state| state.blobs.contains_key(&object.digest))
    };
    out.extend(
        content
            .objects()
            .iter()
            .filter(|object| !have(object))
            .map(|object| Item {
                digest: object.digest,
                kind: BlobKind::Object,
                form: object.form,
                secret: object.key.is_secret(),
                base: before.get(&object.key).copied(),
            }),
    );
}

fn content_of(ledger: &Ledger, blobs: &Blobs, entry: &Entry) -> Option<Content> {
    let digest = entry.content?;
    match blobs.get(&digest) {
        Some(blob) => Content::from_bytes(&blob.bytes().ok()?).ok(),
        None => ledger.read(|state| state.content(&digest)),
    }
}

fn still_lacking(
    ledger: &Ledger,
    blobs: &Blobs,
    absent: &HashMap<Digest, String>,
    entry: &Entry,
) -> Option<String> {
    let have =
        |digest: &Digest| blobs.contains_key(digest) || ledger.read(|state| state.blobs.contains_key(digest));
    let why = |what: String, digest: &Digest| {
        let why = absent.get(digest).map_or("it was not sent", String::as_str);
        format!("{what}: {why}")
    };
    for layer in &entry.variables {
        if let VariableLayer::Config { digest, .. } = layer
            && !have(digest)
        {
            return Some(why(format!("variables {}", digest.short()), digest));
        }
    }
    let digest = entry.content?;
    let Some(content) = content_of(ledger, blobs, entry) else {
        return Some(why(format!("content {}", digest.short()), &digest));
    };
    let object = content.objects().iter().find(|object| !have(&object.digest))?;
    Some(why(object.key.to_string(), &object.digest))
}

async fn get(
    ledger: &Ledger,
    items: &[Item],
    source: &mut dyn Source,
    blobs: &mut Blobs,
    absent: &mut HashMap<Digest, String>,
) -> Result<(), AcceptError> {
    let bases = |digest: &Digest| ledger.read(|state| state.blob(digest));
    for batch in items.chunks(BATCH) {
        for fetched in source.fetch(batch, &bases).await? {
            match fetched {
                Fetched::Blob(digest, blob) => {
                    blobs.insert(digest, blob);
                }
                Fetched::Missing(digest, why) => {
                    absent.insert(digest, why);
                }
            }
        }
    }
    Ok(())
}
