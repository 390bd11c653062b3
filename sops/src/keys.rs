//! Who opens data keys: identities from the files of a Secret, and whatever else answers to [`KeyService`].

mod age;
mod hybrid;
mod pgp;
mod shamir;

use std::fmt;

use zeroize::Zeroizing;

use crate::{
    cipher::Cipher,
    error::Error,
    limits,
    stanza::{MasterKey, Stanza},
};

/// Ends the names of files with age identities.
const AGE: &str = ".agekey";
/// Ends the names of files with OpenPGP keys.
const PGP: &str = ".asc";
/// Files with credentials of services, and how people call these.
const SERVICES: &[(&str, &str)] = &[
    ("sops.aws-kms", "AWS KMS"),
    ("sops.azure-kv", "Azure Key Vault"),
    ("sops.gcp-kms", "GCP KMS"),
    ("sops.vault-token", "Vault"),
];
/// Keys that a message names of those that a document is encrypted for.
const NAMED: usize = 5;

/// Opens data keys that are encrypted for keys it has, or may use.
pub trait KeyService: Send + Sync {
    /// Opens the data key, or the part of one, that is encrypted for a key.
    ///
    /// # Errors
    ///
    /// It does not have that key, or it is the wrong one.
    fn open(&self, key: &MasterKey) -> Result<Zeroizing<Vec<u8>>, Refusal>;
}

/// Why a service does not open a data key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It has no such key, and is not expected to.
    NotMine,
    /// It should, and cannot: why, without secrets.
    Failed(String),
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
    /// Services whose credentials are here, and which this release does not ask.
    unasked: Vec<&'static str>,
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
            } else if let Some((_, service)) = SERVICES.iter().find(|(name, _)| *name == file) {
                keys.unasked.push(service);
            }
            keys.count = identities.len() + pgp.len();
            if keys.count > limits::IDENTITIES {
                return Err(failed(format!("there are more than {} keys", limits::IDENTITIES)));
            }
        }
        keys.services.push(Box::new(identities));
        keys.services.push(Box::new(pgp));
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

    /// The cipher of a document.
    pub(crate) fn cipher(&self, stanza: &Stanza) -> Result<Cipher, Error> {
        let data_key = self.data_key(stanza)?;
        Cipher::new(&data_key)
            .ok_or_else(|| Error::NoKey("what its keys open is no data key of 32 bytes".to_owned()))
    }

    fn data_key(&self, stanza: &Stanza) -> Result<Zeroizing<Vec<u8>>, Error> {
        let (mut parts, mut failures) = (Vec::new(), Vec::new());
        for group in &stanza.groups {
            match self.part(group, &mut failures) {
                Some(part) => parts.push(part),
                None if stanza.groups.len() == 1 => return Err(self.no_key(stanza, &failures, "")),
                None => {}
            }
        }
        match stanza.groups.len() {
            1 => parts.pop().ok_or_else(|| self.no_key(stanza, &failures, "")),
            groups if parts.len() < stanza.threshold.max(1) => {
                let opened = format!(
                    "{} of {groups} groups of keys are opened, {} are needed; ",
                    parts.len(),
                    stanza.threshold
                );
                Err(self.no_key(stanza, &failures, &opened))
            }
            _ => shamir::combine(&parts)
                .ok_or_else(|| Error::NoKey("the parts of its groups do not belong together".to_owned())),
        }
    }

    fn part(&self, group: &[MasterKey], failures: &mut Vec<String>) -> Option<Zeroizing<Vec<u8>>> {
        for key in group {
            for service in &self.services {
                match service.open(key) {
                    Ok(part) => return Some(part),
                    Err(Refusal::NotMine) => {}
                    Err(Refusal::Failed(why)) => failures.push(format!("{}: {why}", key.kind)),
                }
            }
        }
        None
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
        if !self.unasked.is_empty() {
            text.push_str("; this release does not ask ");
            text.push_str(&self.unasked.join(", "));
        }
        Error::NoKey(text)
    }
}
