//! OpenPGP keys.

use std::io::{BufReader, Read as _};

use memchr::memmem;
use pgp::{
    composed::{Message, PublicOrSecret, SignedSecretKey},
    types::Password,
};
use zeroize::Zeroizing;

use super::{KeyService, Refusal};
use crate::{
    limits,
    stanza::{KeyKind, MasterKey},
};

/// Bytes that a data key, or a part of one, has at most.
const DATA_KEY: u64 = 256;

/// Begins an armoured block.
const BEGIN: &[u8] = b"-----BEGIN PGP";

/// Secret keys of OpenPGP.
#[derive(Default)]
pub(super) struct Keyring(Vec<SignedSecretKey>);

impl Keyring {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Reads a file of keys, armoured or not, several blocks one after the other among them. Public keys are passed over,
    /// as gpg takes them in without use.
    pub(super) fn import(&mut self, content: &[u8]) -> Result<(), String> {
        let unreadable = |_| "it holds no OpenPGP keys".to_owned();
        let mut any = false;
        for block in blocks(content) {
            let (keys, _) = PublicOrSecret::from_reader_many(block).map_err(unreadable)?;
            for key in keys.take(limits::IDENTITIES + 1) {
                any = true;
                if let PublicOrSecret::Secret(key) = key.map_err(unreadable)? {
                    self.0.push(key);
                }
            }
        }
        match any {
            true => Ok(()),
            false => Err("it holds no OpenPGP keys".to_owned()),
        }
    }
}

/// The armoured blocks of a file, or the file itself where it is not armoured.
fn blocks(content: &[u8]) -> Vec<&[u8]> {
    let mut begins: Vec<usize> = memmem::find_iter(content, BEGIN)
        .take(limits::IDENTITIES)
        .collect();
    if begins.is_empty() {
        return vec![content];
    }
    begins.push(content.len());
    let pairs = begins.windows(2);
    pairs
        .filter_map(|pair| content.get(*pair.first()?..*pair.last()?))
        .collect()
}

impl KeyService for Keyring {
    fn open(&self, key: &MasterKey) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        if !matches!(key.kind, KeyKind::Pgp { .. }) || self.0.is_empty() {
            return Err(Refusal::NotMine);
        }
        let broken = || Refusal::Failed("the encrypted data key is no OpenPGP message".to_owned());
        let reader = BufReader::new(key.encrypted.as_bytes());
        let (message, _) = Message::from_armor(reader).map_err(|_| broken())?;
        let password = Password::empty();
        // Encrypted for others, or for a key with a passphrase: that no key fits is told by whoever asks all.
        let mut message = message
            .decrypt_with_keys(vec![&password], self.0.iter().collect())
            .map_err(|_| Refusal::NotMine)?;
        if message.is_compressed() {
            message = message.decompress().map_err(|_| broken())?;
        }
        let mut opened = Zeroizing::new(Vec::with_capacity(64));
        match message.take(DATA_KEY).read_to_end(&mut opened) {
            Ok(_) => Ok(opened),
            Err(_) => Err(broken()),
        }
    }
}
