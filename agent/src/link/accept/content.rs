//! What the content of an entry needs: manifest and configurations first, then the objects that the manifest names.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
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
    /// What is outstanding of what entries need, for as long as there is any: it becomes less with what comes, and is
    /// not looked up anew for each batch.
    outstanding: Mutex<AllOutstanding>,
    /// How many objects were looked up.
    pub(super) looked_up: AtomicUsize,
}

/// What an entry needs: its content, and its configurations with whether they are Secrets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Needs {
    content: Option<Digest>,
    configs: Vec<(Digest, bool)>,
}

impl Needs {
    fn of(entry: &Entry) -> Self {
        let configs = entry.variables.iter().filter_map(|layer| match layer {
            VariableLayer::Config { digest, secret } => Some((*digest, *secret)),
            _ => None,
        });
        Self {
            content: entry.content,
            configs: configs.collect(),
        }
    }
}

/// What is not here of what an entry needs, and can be asked for by now: objects are known once the manifest is here.
#[derive(Debug, Default)]
struct Outstanding {
    /// Configurations, and the manifest.
    first: Vec<Lack>,
    manifest: Option<Arc<Table>>,
    /// Rows of the manifest.
    rows: BTreeSet<u32>,
    by_digest: HashMap<Digest, u32>,
}

impl Outstanding {
    fn is_empty(&self) -> bool {
        self.first.is_empty() && self.rows.is_empty()
    }

    fn digests(&self) -> impl Iterator<Item = &Digest> {
        self.first
            .iter()
            .map(|lack| &lack.digest)
            .chain(self.by_digest.keys())
    }

    /// Returns what is outstanding and wanted, in the order in which it is asked for, at most so much of it.
    fn lacks(&self, is_wanted: impl Fn(&Digest) -> bool, most: usize) -> Vec<Lack> {
        let is_wanted = &is_wanted;
        let of_rows = self.manifest.iter().flat_map(|table| {
            let rows = self.rows.iter().copied();
            rows.filter(move |row| is_wanted(&table.digest(*row)))
                .map(move |row| Lack::object(table, row))
        });
        let first = self.first.iter().filter(|lack| is_wanted(&lack.digest));
        first.cloned().chain(of_rows).take(most).collect()
    }

    fn came(&mut self, digest: &Digest) {
        self.first.retain(|lack| lack.digest != *digest);
        if let Some(row) = self.by_digest.remove(digest) {
            self.rows.remove(&row);
        }
    }
}

/// What is outstanding, by who needs it, and who needs what: a blob that comes is told to nobody else.
#[derive(Debug, Default)]
struct AllOutstanding {
    /// How often an entry's was looked at for a blob that came.
    #[cfg(test)]
    looks: usize,
    of: HashMap<Arc<Needs>, Outstanding>,
    needed_by: HashMap<Digest, Vec<Arc<Needs>>>,
}

impl AllOutstanding {
    fn insert(&mut self, needs: Needs, outstanding: Outstanding) {
        let needs = Arc::new(needs);
        for digest in outstanding.digests() {
            self.needed_by.entry(*digest).or_default().push(needs.clone());
        }
        self.of.insert(needs, outstanding);
    }

    fn came(&mut self, digest: &Digest) {
        for needs in self.needed_by.remove(digest).unwrap_or_default() {
            #[cfg(test)]
            {
                self.looks += 1;
            }
            let Some(of) = self.of.get_mut(&needs) else {
                continue;
            };
            of.came(digest);
            // What its objects lack is known from now on.
            if needs.content == Some(*digest) || of.is_empty() {
                self.of.remove(&needs);
            }
        }
    }

    fn keep_only(&mut self, kept: &HashSet<Needs>) {
        self.of.retain(|needs, _| kept.contains(&**needs));
        self.needed_by.retain(|_, by| {
            by.retain(|needs| kept.contains(&**needs));
            !by.is_empty()
        });
    }
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

enum Stored {
    Not,
    Unreadable,
    Manifest(Arc<Table>),
}

impl Arrived {
    /// Takes in what came. A content is parsed now: a large one on another thread.
    pub(super) async fn take(&mut self, digest: Digest, mut blob: Blob) {
        if blob.kind == BlobKind::Content {
            blob = blob.with_parsed().await;
            let manifests = self.manifests.get_mut().unwrap_or_else(PoisonError::into_inner);
            manifests.insert(digest, blob.table().cloned());
        }
        let outstanding = self.outstanding.get_mut().unwrap_or_else(PoisonError::into_inner);
        outstanding.came(&digest);
        self.blobs.insert(digest, blob);
    }

    fn manifest(&self, ledger: &Ledger, digest: &Digest) -> Stored {
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
            None => Stored::Not,
            Some(None) => Stored::Unreadable,
            Some(Some(manifest)) => Stored::Manifest(manifest),
        }
    }

    /// Returns how much of an entry is not here and can be had: all that is not absent.
    pub(super) fn count(&self, ledger: &Ledger, absent: &HashMap<Digest, String>, entry: &Entry) -> usize {
        self.with_outstanding(ledger, entry, |of| match absent.is_empty() {
            true => of.first.len() + of.rows.len(),
            false => of.digests().filter(|digest| !absent.contains_key(digest)).count(),
        })
    }

    /// Returns what to ask for of an entry, at most so much of it.
    pub(super) fn lacking(
        &self,
        ledger: &Ledger,
        entry: &Entry,
        is_wanted: impl Fn(&Digest) -> bool,
        most: usize,
    ) -> Vec<Lack> {
        self.with_outstanding(ledger, entry, |of| of.lacks(is_wanted, most))
    }

    /// Tells whether all that an entry needs is here.
    pub(super) fn is_whole(&self, ledger: &Ledger, entry: &Entry) -> bool {
        self.with_outstanding(ledger, entry, Outstanding::is_empty)
    }

    /// That nothing is outstanding is looked up each time: the ledger may drop what no entry of its own refers to.
    fn with_outstanding<T>(&self, ledger: &Ledger, entry: &Entry, read: impl FnOnce(&Outstanding) -> T) -> T {
        let needs = Needs::of(entry);
        if let Some(known) = self.lock_outstanding().of.get(&needs) {
            return read(known);
        }
        let found = self.look_up(ledger, &needs);
        let value = read(&found);
        if !found.is_empty() {
            self.lock_outstanding().insert(needs, found);
        }
        value
    }

    /// How often what is outstanding of an entry was looked at for what came.
    #[cfg(test)]
    pub(super) fn looks(&self) -> usize {
        self.lock_outstanding().looks
    }

    fn lock_outstanding(&self) -> MutexGuard<'_, AllOutstanding> {
        self.outstanding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_up(&self, ledger: &Ledger, needs: &Needs) -> Outstanding {
        let content = needs
            .content
            .map(|digest| (digest, self.manifest(ledger, &digest)));
        let mut found = Outstanding::default();
        let mut seen = HashSet::new();
        ledger.read(|state| {
            let mut lacks = |digest: &Digest| {
                !self.blobs.contains_key(digest) && !state.blobs.contains_key(digest) && seen.insert(*digest)
            };
            for (digest, secret) in &needs.configs {
                if lacks(digest) {
                    found.first.push(Lack {
                        digest: *digest,
                        kind: BlobKind::Config,
                        form: Form::Json,
                        secret: *secret,
                        key: None,
                    });
                }
            }
            match content {
                None | Some((_, Stored::Unreadable)) => {}
                Some((digest, Stored::Not)) => found.first.push(Lack {
                    digest,
                    kind: BlobKind::Content,
                    form: Form::Json,
                    secret: false,
                    key: None,
                }),
                Some((_, Stored::Manifest(manifest))) => {
                    self.looked_up.fetch_add(manifest.len(), Ordering::Relaxed);
                    for row in manifest.rows() {
                        let digest = manifest.digest(row);
                        if lacks(&digest) {
                            found.rows.insert(row);
                            found.by_digest.insert(digest, row);
                        }
                    }
                    found.manifest = Some(manifest);
                }
            }
        });
        found
    }

    /// Tells how far the content of an entry is here.
    pub(super) fn how_far(
        &self,
        ledger: &Ledger,
        absent: &HashMap<Digest, String>,
        entry: &Entry,
    ) -> Content {
        let outstanding = self.with_outstanding(ledger, entry, |of| {
            if of.digests().any(|digest| !absent.contains_key(digest)) {
                return Some(Content::Coming);
            }
            let lack = of.lacks(|_| true, 1).pop()?;
            let why = absent.get(&lack.digest).map_or("", String::as_str);
            Some(Content::Missing(format!("{}: {why}", lack.name())))
        });
        outstanding.unwrap_or_else(
            || match entry.content.map(|digest| self.manifest(ledger, &digest)) {
                Some(Stored::Unreadable) => Content::Unknown,
                _ => Content::Here,
            },
        )
    }

    /// Drops these, which are asked for again where they are needed.
    pub(super) fn let_go<'d>(&mut self, digests: impl Iterator<Item = &'d Digest>) {
        let manifests = self.manifests.get_mut().unwrap_or_else(PoisonError::into_inner);
        for digest in digests {
            self.blobs.remove(digest);
            manifests.remove(digest);
        }
        // Of whom they were taken away is found out anew.
        *self.outstanding.get_mut().unwrap_or_else(PoisonError::into_inner) = AllOutstanding::default();
    }

    /// Drops all that no entry of these needs, or that the ledger has.
    pub(super) fn keep_only(&mut self, ledger: &Ledger, entries: &[&Entry]) {
        let mut needed = HashSet::new();
        for entry in entries {
            needed.extend(
                self.records(ledger, entry)
                    .iter()
                    .filter_map(|record| match record {
                        Record::Blob(digest, _) => Some(*digest),
                        _ => None,
                    }),
            );
        }
        self.blobs.retain(|digest, _| needed.contains(digest));
        let manifests = self.manifests.get_mut().unwrap_or_else(PoisonError::into_inner);
        manifests.retain(|digest, _| needed.contains(digest));
        let needs: HashSet<Needs> = entries.iter().map(|entry| Needs::of(entry)).collect();
        let outstanding = self.outstanding.get_mut().unwrap_or_else(PoisonError::into_inner);
        outstanding.keep_only(&needs);
    }

    /// Returns the records of what has come for an entry and is not in the ledger.
    pub(super) fn records(&self, ledger: &Ledger, entry: &Entry) -> Vec<Record> {
        let mut digests: Vec<Digest> = entry.contents().collect();
        if let Some(Stored::Manifest(manifest)) = entry.content.map(|digest| self.manifest(ledger, &digest)) {
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
    fn object(table: &Table, row: u32) -> Self {
        let key = table.key(row);
        Self {
            digest: table.digest(row),
            kind: BlobKind::Object,
            form: table.form(row),
            secret: key.is_secret(),
            key: Some(key),
        }
    }

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
