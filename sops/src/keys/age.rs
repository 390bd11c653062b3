//! age identities.

use std::io::Read as _;

use age::{Decryptor, Identity, armor::ArmoredReader};
use zeroize::Zeroizing;

use super::{
    KeyService, Refusal,
    hybrid::{self, Hybrid},
};
use crate::stanza::{KeyKind, MasterKey};

/// Bytes that a data key, or a part of one, has at most.
const DATA_KEY: u64 = 256;

/// Identities of age.
#[derive(Default)]
pub(super) struct Identities(Vec<Box<dyn Identity + Send + Sync>>);

impl Identities {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Reads a file of identities: one a line, comments and empty lines between them.
    pub(super) fn import(&mut self, content: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(content).map_err(|_| "it is not text".to_owned())?;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let at = |why: &str| format!("line {}: {why}", index + 1);
            if line.starts_with("AGE-PLUGIN-") {
                return Err(at("identities of plugins are not supported"));
            }
            if line.starts_with(hybrid::PREFIX) {
                let identity = Hybrid::of(line).ok_or_else(|| at("this is no age identity"))?;
                self.0.push(Box::new(identity));
                continue;
            }
            let identity: age::x25519::Identity = line.parse().map_err(|_| at("this is no age identity"))?;
            self.0.push(Box::new(identity));
        }
        Ok(())
    }
}

impl KeyService for Identities {
    fn open(&self, key: &MasterKey) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        if !matches!(key.kind, KeyKind::Age { .. }) || self.0.is_empty() {
            return Err(Refusal::NotMine);
        }
        let broken = |_| Refusal::Failed("the encrypted data key is no age file".to_owned());
        let decryptor =
            Decryptor::new_buffered(ArmoredReader::new(key.encrypted.as_bytes())).map_err(broken)?;
        if decryptor.is_scrypt() {
            return Err(Refusal::Failed("it is encrypted with a passphrase".to_owned()));
        }
        let identities = self.0.iter().map(|identity| &**identity as &dyn Identity);
        // Encrypted for others, or broken: that no key fits is told by whoever asks all.
        let reader = decryptor.decrypt(identities).map_err(|_| Refusal::NotMine)?;
        let mut opened = Zeroizing::new(Vec::with_capacity(64));
        let read = reader.take(DATA_KEY).read_to_end(&mut opened);
        match read {
            Ok(_) => Ok(opened),
            Err(_) => Err(Refusal::Failed("the encrypted data key is broken".to_owned())),
        }
    }
}
