//! What the content of an entry needs: manifest and configurations first, then the objects that the manifest names.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use flotilla_core::{
    content::{Form, Table},
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

/// What came, and the manifests that are read again and again until all that they name has come.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    pub(super) blobs: HashMap<Digest, Blob>,
    manifests: Mutex<HashMap<Digest, Option<Arc<Table>>>>,
}

/// A part of an entry's content that is not here.
#[derive(Debug, Clone)]
pub(super) struct Lack {
    pub(super) digest: Digest,
    kind: BlobKind,
    form: Form,
    secret: bool,
    key: Option<ObjectKey>,
}

enum Held {
    Not,
    Unreadable,
    Manifest(Arc<Table>),
}

impl Arrived {
    /// Takes in what came. A content is parsed now: a large one on another thread.
    pub(super) async fn take(&mut self, digest: Digest, blob: Blob) {
        if blob.kind == BlobKind::Content {
            let table = blob.parsed().await.map(|parsed| parsed.table);
            let manifests = self.manifests.get_mut().unwrap_or_else(PoisonError::into_inner);
            manifests.insert(digest, table);
        }
        self.blobs.insert(digest, blob);
    }

    fn manifest(&self, ledger: &Ledger, digest: &Digest) -> Held {
        let mut manifests = self.manifests.lock().unwrap_or_else(PoisonError::into_inner);
        let known = manifests.get(digest).cloned();
        let read = known.or_else(|| {
            // What an entry of the ledger names is parsed already.
            if let Some(table) = ledger.read(|state| state.table(digest).cloned()) {
                return Some(Some(table));
            }
            let blob = match self.blobs.get(digest) {
                Some(blob) => blob.clone(),
                None => ledger.read(|state| state.blobs.get(digest))?,
            };
            let bytes = blob.bytes().ok();
            let manifest = bytes.and_then(|bytes| Table::from_bytes(&bytes).ok());
            let manifest = manifest.map(Arc::new);
            manifests.insert(*digest, manifest.clone());
            Some(manifest)
        });
        match read {
            None => Held::Not,
            Some(None) => Held::Unreadable,
            Some(Some(manifest)) => Held::Manifest(manifest),
        }
    }

    /// Returns what is not here and can be asked for by now: objects are known once the manifest is here.
    pub(super) fn lacking(&self, ledger: &Ledger, entry: &Entry) -> Vec<Lack> {
        let content = entry
            .content
            .map(|digest| (digest, self.manifest(ledger, &digest)));
        let mut lacking = Vec::new();
        let mut seen = HashSet::new();
        ledger.read(|state| {
            let mut lacks = |digest: &Digest| {
                !self.blobs.contains_key(digest) && !state.blobs.contains_key(digest) && seen.insert(*digest)
            };
            for layer in &entry.variables {
                if let VariableLayer::Config { digest, secret } = layer
                    && lacks(digest)
                {
                    lacking.push(Lack {
                        digest: *digest,
                        kind: BlobKind::Config,
                        form: Form::Json,
                        secret: *secret,
                        key: None,
                    });
                }
            }
            match &content {
                None | Some((_, Held::Unreadable)) => {}
                Some((digest, Held::Not)) => lacking.push(Lack {
                    digest: *digest,
                    kind: BlobKind::Content,
                    form: Form::Json,
                    secret: false,
                    key: None,
                }),
                Some((_, Held::Manifest(manifest))) => {
                    let rows = manifest.rows().filter(|row| lacks(&manifest.digest(*row)));
                    lacking.extend(rows.map(|row| {
                        let key = manifest.key(row);
                        Lack {
                            digest: manifest.digest(row),
                            kind: BlobKind::Object,
                            form: manifest.form(row),
                            secret: key.is_secret(),
                            key: Some(key),
                        }
                    }));
                }
            }
        });
        lacking
    }

    /// Tells how far the content of an entry is here.
    pub(super) fn how_far(
        &self,
        ledger: &Ledger,
        absent: &HashMap<Digest, String>,
        entry: &Entry,
    ) -> Content {
        let lacking = self.lacking(ledger, entry);
        if lacking.iter().any(|lack| !absent.contains_key(&lack.digest)) {
            return Content::Coming;
        }
        if let Some(lack) = lacking.first() {
            let why = absent.get(&lack.digest).map_or("", String::as_str);
            return Content::Missing(format!("{}: {why}", lack.name()));
        }
        match entry.content.map(|digest| self.manifest(ledger, &digest)) {
            Some(Held::Unreadable) => Content::Unknown,
            _ => Content::Here,
        }
    }

    /// Returns the records of what has come for an entry and is not in the ledger.
    pub(super) fn records(&self, ledger: &Ledger, entry: &Entry) -> Vec<Record> {
        let configs = entry.variables.iter().filter_map(|layer| match layer {
            VariableLayer::Config { digest, .. } => Some(*digest),
            _ => None,
        });
        let mut digests: Vec<Digest> = configs.chain(entry.content).collect();
        if let Some(Held::Manifest(manifest)) = entry.content.map(|digest| self.manifest(ledger, &digest)) {
            digests.extend(manifest.digests());
        }
        let mut seen = HashSet::new();
        ledger.read(|state| {
            let new = |digest: &Digest| seen.insert(*digest) && !state.blobs.contains_key(digest);
            let digests = digests.into_iter().filter(new);
            digests
                .filter_map(|digest| Some(Record::Blob(digest, self.blobs.get(&digest)?.clone())))
                .collect()
        })
    }
}

impl Lack {
    fn name(&self) -> String {
        let short = self.digest.short();
        match (&self.key, self.kind) {
            (Some(key), _) => key.to_string(),
            (None, BlobKind::Config) => format!("variables {short}"),
            (None, _) => format!("content {short}"),
        }
    }
}

/// What the unit has now: a new content is likely a small change of it.
pub(super) struct Base {
    content: Option<Digest>,
    table: Option<Arc<Table>>,
}

impl Base {
    pub(super) fn of(ledger: &Ledger, unit: UnitId) -> Self {
        ledger.read(|state| {
            let kept = state.units.get(&unit).into_iter();
            let kept = kept.flat_map(|unit| [&unit.offered, &unit.enforced]).flatten();
            let content = kept
                .filter_map(|kept| kept.entry.as_ref()?.content)
                .find(|digest| state.blobs.contains_key(digest));
            let table = content.and_then(|digest| state.table(&digest).cloned());
            Self { content, table }
        })
    }

    /// Returns what to ask for.
    pub(super) fn item(&self, lack: &Lack) -> Item {
        Item {
            digest: lack.digest,
            kind: lack.kind,
            form: lack.form,
            secret: lack.secret,
            base: match (&lack.key, lack.kind) {
                (Some(key), _) => self.object(key),
                (None, BlobKind::Content) => self.content,
                (None, _) => None,
            },
        }
    }

    fn object(&self, key: &ObjectKey) -> Option<Digest> {
        let table = self.table.as_ref()?;
        Some(table.digest(table.find(key)?))
    }
}
