//! Who opens data keys: identities from the files of a Secret, services whose credentials are in such files, and whatever
//! else answers to [`KeyService`].

mod age;
mod hybrid;
mod pgp;
mod remembered;
mod shamir;

use std::{collections::BTreeSet, fmt, future::Future, pin::Pin};

use zeroize::Zeroizing;

use self::remembered::Remembered;
use crate::{
    cipher::Cipher,
    error::Error,
    limits,
    services::{self, AskError, Service, Transport},
    stanza::{MasterKey, Stanza},
};

/// Ends the names of files with age identities.
const AGE: &str = ".agekey";
/// Ends the names of files with OpenPGP keys.
const PGP: &str = ".asc";
/// Keys that a message names of those that a document is encrypted for.
const NAMED: usize = 5;

/// Failures of services that a message tells, and after which no other is asked.
const FAILURES: usize = 5;

/// A data key, or a part of one.
pub type DataKey = Zeroizing<Vec<u8>>;
/// A question to a service, on its way.
pub type Asking<'a> = Pin<Box<dyn Future<Output = Result<(), AskError>> + Send + 'a>>;

/// Opens data keys that are encrypted for keys it has, or may use.
pub trait KeyService: Send + Sync {
    /// Opens the data key, or the part of one, that is encrypted for a key. Asks nobody.
    ///
    /// # Errors
    ///
    /// It does not have that key, it is the wrong one, or it has to be [asked](Self::ask) first.
    fn open(&self, key: &MasterKey) -> Result<DataKey, Refusal>;

    /// Asks who has the key, after which [`open`](Self::open) opens what it has refused as [`Refusal::Unasked`].
    fn ask<'a>(&'a self, key: &'a MasterKey, transport: &'a dyn Transport) -> Asking<'a> {
        let _ = (key, transport);
        Box::pin(std::future::ready(Err(AskError::refused(
            "nobody else has this key",
        ))))
    }
}

/// Why a service does not open a data key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It has no such key, and is not expected to.
    NotMine,
    /// Somebody else has the key, and is to be asked first.
    Unasked,
    /// It should, and cannot: why, without secrets.
    Failed(String),
}

/// Keys that are to be asked for before a document can be decrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unasked {
    /// Groups of keys; one key of a group is enough.
    groups: Vec<Vec<MasterKey>>,
    /// How many groups are enough.
    needed: usize,
}

impl fmt::Display for Unasked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut keys = self.groups.iter().flatten();
        match keys.next() {
            Some(first) => write!(f, "{} was not asked", first.kind),
            None => f.write_str("nobody was asked"),
        }
    }
}

/// A file of keys that cannot be read. Names the file, never what is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to import '{file}': {why}")]
pub struct KeyError {
    /// The file.
    pub file: String,
    /// What is wrong with it.
    pub why: String,
}

/// All that opens data keys.
#[derive(Default)]
pub struct Keys {
    services: Vec<Box<dyn KeyService>>,
    /// How many identities there are.
    count: usize,
    /// Some of them are of OpenPGP.
    has_pgp: bool,
    /// Files with credentials of services.
    credentials: BTreeSet<&'static str>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.count)
    }
}

impl Keys {
    /// Reads the files of a Secret by their names, as Flux does; others are passed over.
    pub fn import<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Self, KeyError> {
        let mut keys = Self::default();
        let (mut identities, mut pgp) = (age::Identities::default(), pgp::Keyring::default());
        for (file, content) in files {
            let failed = |why: String| KeyError {
                file: file.to_owned(),
                why,
            };
            if content.len() > limits::BYTES {
                return Err(failed(format!("it has more than {} bytes", limits::BYTES)));
            }
            if file.ends_with(AGE) {
                identities.import(content).map_err(failed)?;
            } else if file.ends_with(PGP) {
                pgp.import(content).map_err(failed)?;
            } else if let Some(service) = Service::of(file, content) {
                let (service, file) = service.map_err(failed)?;
                keys.credentials.insert(file);
                keys.services.push(Box::new(service));
            }
            keys.count = identities.len() + pgp.len();
            if keys.count > limits::IDENTITIES {
                return Err(failed(format!("there are more than {} keys", limits::IDENTITIES)));
            }
        }
        keys.has_pgp = pgp.len() > 0;
        keys.services.push(Box::new(Remembered::new(identities)));
        keys.services.push(Box::new(Remembered::new(pgp)));
        Ok(keys)
    }

    /// Adds what opens data keys too.
    pub fn add(&mut self, service: Box<dyn KeyService>) {
        self.services.push(service);
    }

    /// Tells whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.services.len() <= 2
    }

    /// Tells whether one of them takes milliseconds to open a data key.
    pub fn are_slow(&self) -> bool {
        self.has_pgp
    }

    /// The cipher of a document.
    pub(crate) fn cipher(&self, stanza: &Stanza) -> Result<Cipher, Error> {
        let data_key = self.data_key(stanza)?;
        Cipher::new(&data_key)
            .ok_or_else(|| Error::NoKey("what its keys open is no data key of 32 bytes".to_owned()))
    }

    fn data_key(&self, stanza: &Stanza) -> Result<DataKey, Error> {
        let (mut parts, mut failures, mut unasked) = (Vec::new(), Vec::new(), Vec::new());
        for group in &stanza.groups {
            let mut of_others = Vec::new();
            match self.part(group, &mut failures, &mut of_others) {
                Some(part) => parts.push(part),
                None if of_others.is_empty() => {}
                None => unasked.push(of_others),
            }
        }
        let is_split = stanza.groups.len() > 1;
        let threshold = if is_split { stanza.threshold.max(1) } else { 1 };
        let lacking = threshold.saturating_sub(parts.len());
        if lacking > 0 && lacking <= unasked.len() {
            return Err(Error::Unasked(Unasked {
                groups: unasked,
                needed: lacking,
            }));
        }
        match is_split {
            false => parts.pop().ok_or_else(|| self.no_key(stanza, &failures, "")),
            true if lacking > 0 => {
                let opened = format!(
                    "{} of {} groups of keys are opened, {} are needed; ",
                    parts.len(),
                    stanza.groups.len(),
                    stanza.threshold
                );
                Err(self.no_key(stanza, &failures, &opened))
            }
            true => shamir::combine(&parts)
                .ok_or_else(|| Error::NoKey("the parts of its groups do not belong together".to_owned())),
        }
    }

    fn part(
        &self,
        group: &[MasterKey],
        failures: &mut Vec<String>,
        of_others: &mut Vec<MasterKey>,
    ) -> Option<DataKey> {
        for key in group {
            for service in &self.services {
                match service.open(key) {
                    Ok(part) => return Some(part),
                    Err(Refusal::NotMine) => {}
                    Err(Refusal::Unasked) => of_others.push(key.clone()),
                    Err(Refusal::Failed(why)) => failures.push(format!("{}: {why}", key.kind)),
                }
            }
        }
        None
    }

    /// Asks for keys that are with services, until enough groups are opened. What was decrypted up to now is decrypted anew
    /// then, and may lack others.
    ///
    /// # Errors
    ///
    /// None of them is opened.
    pub async fn ask(&self, unasked: &Unasked, transport: &dyn Transport) -> Result<(), AskError> {
        let (mut opened, mut passes, mut failures) = (0, false, Vec::new());
        'groups: for group in &unasked.groups {
            for key in group {
                match self.ask_for(key, transport).await {
                    Ok(()) => {
                        opened += 1;
                        if opened >= unasked.needed {
                            return Ok(());
                        }
                        continue 'groups;
                    }
                    Err(error) => {
                        passes |= error.passes;
                        failures.push(format!("{}: {}", key.kind, error.why));
                        if failures.len() >= FAILURES {
                            break 'groups;
                        }
                    }
                }
            }
        }
        match opened {
            0 => Err(AskError {
                why: format!("cannot get sops data key: {}", failures.join("; ")),
                passes,
            }),
            _ => Ok(()),
        }
    }

    async fn ask_for(&self, key: &MasterKey, transport: &dyn Transport) -> Result<(), AskError> {
        let asked = self
            .services
            .iter()
            .find(|service| service.open(key) == Err(Refusal::Unasked));
        match asked {
            Some(service) => service.ask(key, transport).await,
            None => Ok(()),
        }
    }

    fn no_key(&self, stanza: &Stanza, failures: &[String], opened: &str) -> Error {
        let mut named: Vec<String> = stanza
            .groups
            .iter()
            .flatten()
            .take(NAMED)
            .map(|key| key.kind.to_string())
            .collect();
        let all = stanza.groups.iter().map(Vec::len).sum::<usize>();
        if all > named.len() {
            named.push(format!("and {} more", all - named.len()));
        }
        let mut text = format!(
            "{opened}no key here opens it; it is encrypted for {}",
            named.join(", ")
        );
        for failure in failures.iter().take(NAMED) {
            text.push_str("; ");
            text.push_str(failure);
        }
        let files = stanza
            .groups
            .iter()
            .flatten()
            .filter_map(|key| services::file_of(&key.kind));
        let lacking: BTreeSet<&str> = files.filter(|file| !self.credentials.contains(file)).collect();
        for file in lacking {
            text.push_str("; the Secret of spec.decryption.secretRef has no '");
            text.push_str(file);
            text.push('\'');
        }
        Error::NoKey(text)
    }
}
