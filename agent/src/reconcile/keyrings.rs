//! Keys that decrypt what units have: read from Secrets of the cluster by whoever evaluates, and kept while a watch of the
//! Secret shows the version that was read. Nothing of a Secret is written down anywhere.
//!
//! A Secret that is gone, or cannot be read any more, decrypts nothing new; what is enforced already goes on being
//! enforced with the keys that did before, as long as the agent runs.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use flotilla_core::{
    digest::Digest,
    text::base64,
    unit::{Decryption, Entry},
};
use flotilla_sops::{AskError, Keys, Transport, Unasked};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{context::Context, evaluate::EvaluateError};
use crate::cluster::{Account, ClusterError};

/// How long services may take that are asked for the keys of one document.
const ASKED: Duration = Duration::from_secs(30);

/// A Secret, by namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Its namespace.
    pub(super) namespace: String,
    /// Its name.
    pub(super) name: String,
}

impl Place {
    /// The Secret that an entry's keys are in; `None`: it names none.
    pub(super) fn of(entry: &Entry) -> Option<Self> {
        let Decryption { secret, .. } = entry.settings.decryption.as_ref()?;
        (!secret.is_empty()).then(|| Self {
            namespace: entry.app.namespace.clone(),
            name: secret.clone(),
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Keys, and what tells them from others.
#[derive(Clone)]
pub struct Keyring {
    /// The keys.
    pub keys: Arc<Keys>,
    /// What carries questions to services that have keys.
    transport: Arc<dyn Transport>,
    /// Of the contents of the files that they were read from, under the ledger's own key.
    pub digest: Digest,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring")
    }
}

impl Keyring {
    /// No keys at all: what is encrypted says for whom it is.
    fn empty(transport: Arc<dyn Transport>) -> Self {
        Self {
            keys: Arc::default(),
            transport,
            digest: Digest::of("decryption keys", b""),
        }
    }

    /// Reads the files of a Secret.
    fn of(secret: &Value, ledger_key: &[u8; 32], transport: Arc<dyn Transport>) -> Result<Self, String> {
        let data = secret.get("data").and_then(Value::as_object);
        let files: Option<BTreeMap<&str, Zeroizing<Vec<u8>>>> = data
            .into_iter()
            .flatten()
            .map(|(name, value)| Some((name.as_str(), Zeroizing::new(base64::decode(value.as_str()?)?))))
            .collect();
        let files = files.ok_or("its data is not base64")?;
        let keys = Keys::import(files.iter().map(|(name, content)| (*name, content.as_slice())));
        let mut bytes = Zeroizing::new(Vec::new());
        for (name, content) in &files {
            for part in [name.as_bytes(), content] {
                bytes.extend_from_slice(&part.len().to_be_bytes());
                bytes.extend_from_slice(part);
            }
        }
        Ok(Self {
            keys: Arc::new(keys.map_err(|error| error.to_string())?),
            transport,
            digest: Digest::keyed(ledger_key, "decryption keys", &bytes),
        })
    }

    /// Asks services for keys that are lacking.
    pub(super) async fn ask(&self, unasked: &Unasked) -> Result<(), AskError> {
        let asked = self.keys.ask(unasked, &*self.transport);
        let late = |_| AskError {
            why: format!("cannot get sops data key: no answer within {} s", ASKED.as_secs()),
            passes: true,
        };
        tokio::time::timeout(ASKED, asked)
            .await
            .unwrap_or_else(|elapsed| Err(late(elapsed)))
    }
}

/// A version of a Secret; `None`: it is not there.
pub(super) type Version = Option<String>;

/// The version of an object that was read or shown.
pub(super) fn version(object: &Value) -> Version {
    let part = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    Some(format!("{}/{}", part("uid"), part("resourceVersion")))
}

#[derive(Default)]
struct Known {
    /// What the watch shows; `None`: it shows nothing now.
    shown: Option<Version>,
    /// What was read last.
    read: Option<(Version, Result<Keyring, String>)>,
    /// The last keys that could be read.
    last: Option<Keyring>,
}

/// Secrets with keys, as last read.
#[derive(Default)]
pub(super) struct Keyrings(Mutex<BTreeMap<Place, Known>>);

impl Keyrings {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Place, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what a watch shows of a Secret; `None`: nothing now. Returns whether it is other than what was read.
    pub(super) fn shown(&self, place: &Place, shown: Option<Version>) -> bool {
        let mut all = self.lock();
        let known = all.entry(place.clone()).or_default();
        let read = known.read.as_ref().map(|(version, _)| version);
        let is_news = shown
            .as_ref()
            .is_some_and(|shown| read.is_some_and(|read| read != shown));
        known.shown = shown;
        is_news
    }

    /// Forgets a Secret that no unit names any more.
    pub(super) fn forget(&self, place: &Place) {
        self.lock().remove(place);
    }

    /// What was read, if a watch says that it is so still.
    fn current(&self, place: &Place) -> Option<Result<Keyring, String>> {
        let all = self.lock();
        let known = all.get(place)?;
        let (version, read) = known.read.as_ref()?;
        (known.shown.as_ref() == Some(version)).then(|| read.clone())
    }

    /// Keeps what was read, and returns it. The same keys as before go on with what services have opened for them.
    fn keep(
        &self,
        place: &Place,
        version: Version,
        read: Result<Keyring, String>,
    ) -> Result<Keyring, String> {
        let mut all = self.lock();
        let known = all.entry(place.clone()).or_default();
        let read = read.map(|keyring| match &known.last {
            Some(last) if last.digest == keyring.digest => last.clone(),
            _ => keyring,
        });
        if let Ok(keyring) = &read {
            known.last = Some(keyring.clone());
        }
        known.read = Some((version, read.clone()));
        read
    }

    fn last(&self, place: &Place) -> Option<Keyring> {
        self.lock().get(place)?.last.clone()
    }
}

/// Why keys cannot be had.
#[derive(Debug)]
pub(super) enum KeyringError {
    /// The API server does not answer now.
    Unavailable(String),
    /// There are none, until something changes in the cluster.
    Lacking(String),
}

impl From<KeyringError> for EvaluateError {
    fn from(error: KeyringError) -> Self {
        match error {
            KeyringError::Unavailable(why) | KeyringError::Lacking(why) => Self::Build(why),
        }
    }
}

impl Context {
    /// The keys of an entry, as they are in the cluster; `None`: nothing of it is to be decrypted.
    pub(super) async fn keyring(&self, entry: &Entry) -> Result<Option<Keyring>, KeyringError> {
        if entry.settings.decryption.is_none() {
            return Ok(None);
        }
        let Some(place) = Place::of(entry) else {
            return Ok(Some(Keyring::empty(self.transport.clone())));
        };
        let read = match self.keyrings.current(&place) {
            Some(read) => read,
            None => self.read_keyring(&place).await?,
        };
        let words = |why: String| {
            KeyringError::Lacking(format!("cannot get sops decryption Secret '{place}': {why}"))
        };
        read.map(Some).map_err(words)
    }

    /// The keys that decrypt what is enforced: those in the cluster, or else the last ones.
    pub(super) async fn enforcing_keyring(&self, entry: &Entry) -> Result<Option<Keyring>, KeyringError> {
        let found = self.keyring(entry).await;
        let last = || self.keyrings.last(&Place::of(entry)?);
        found.or_else(|error| last().map(Some).ok_or(error))
    }

    /// Reads a Secret, as Flux does: with the rights of whoever reconciles, and only in the app's own namespace.
    async fn read_keyring(&self, place: &Place) -> Result<Result<Keyring, String>, KeyringError> {
        let failed = |error: ClusterError| {
            let why = format!("cannot get sops decryption Secret '{place}': {error}");
            match error.is_transient() {
                true => KeyringError::Unavailable(why),
                false => KeyringError::Lacking(why),
            }
        };
        let discovery = self.discovered().await.map_err(failed)?;
        let lacking = || KeyringError::Unavailable("the API server serves no Secrets".to_owned());
        let resource = discovery.preferred("", "Secret").ok_or_else(lacking)?;
        let cluster = self.agents_cluster().acting_as(&Account::Agent);
        let secret = cluster
            .get(resource, &place.namespace, &place.name)
            .await
            .map_err(failed)?;
        let (version, read) = match &secret {
            Some(secret) => {
                let keyring = Keyring::of(secret, self.ledger.key(), self.transport.clone());
                (version(secret), keyring)
            }
            None => (None, Err(format!("secrets \"{}\" not found", place.name))),
        };
        Ok(self.keyrings.keep(place, version, read))
    }
}
