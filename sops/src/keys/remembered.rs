//! What private keys have opened, as long as they are here: a document is read several times, and such a key takes up to
//! milliseconds for each.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use sha2::{Digest as _, Sha256};

use super::{DataKey, KeyService, Refusal};
use crate::stanza::MasterKey;

/// Data keys that are remembered; of more all are opened again.
const MOST: usize = 4096;

/// Private keys with what they have opened: gone together.
pub(super) struct Remembered<S> {
    keys: S,
    opened: Mutex<HashMap<[u8; 32], DataKey>>,
}

impl<S> Remembered<S> {
    pub(super) fn new(keys: S) -> Self {
        Self {
            keys,
            opened: Mutex::default(),
        }
    }

    fn opened(&self) -> MutexGuard<'_, HashMap<[u8; 32], DataKey>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: KeyService> KeyService for Remembered<S> {
    fn open(&self, key: &MasterKey) -> Result<DataKey, Refusal> {
        let name = name(key);
        let known = self.opened().get(&name).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let data_key = self.keys.open(key)?;
        let mut opened = self.opened();
        if opened.len() >= MOST {
            opened.clear();
        }
        opened.insert(name, data_key.clone());
        Ok(data_key)
    }
}

/// What tells an encrypted data key from every other, and from the same one for somebody else.
fn name(key: &MasterKey) -> [u8; 32] {
    let kind = format!("{:?}", key.kind);
    let mut digest = Sha256::new();
    digest.update(kind.len().to_be_bytes());
    digest.update(kind.as_bytes());
    digest.update(key.encrypted.as_bytes());
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use zeroize::Zeroizing;

    use super::*;
    use crate::stanza::KeyKind;

    /// Opens all but what is refused, and counts.
    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl KeyService for Counting {
        fn open(&self, key: &MasterKey) -> Result<DataKey, Refusal> {
            self.0.fetch_add(1, Ordering::Relaxed);
            match key.encrypted.as_str() {
                "refused" => Err(Refusal::NotMine),
                encrypted => Ok(Zeroizing::new(format!("{}/{encrypted}", key.kind).into_bytes())),
            }
        }
    }

    fn key(fingerprint: &str, encrypted: &str) -> MasterKey {
        MasterKey {
            kind: KeyKind::Pgp {
                fingerprint: fingerprint.into(),
            },
            encrypted: encrypted.into(),
        }
    }

    #[test]
    fn a_data_key_is_opened_once_however_often_its_document_is_read_and_a_refusal_is_asked_again() {
        let keys = Remembered::new(Counting::default());
        let asked = || keys.keys.0.load(Ordering::Relaxed);
        let first = keys.open(&key("k", "a")).expect("opened");
        assert_eq!(keys.open(&key("k", "a")).expect("opened"), first);
        assert_eq!(asked(), 1);
        let other = keys.open(&key("l", "a")).expect("opened");
        assert_ne!(other, first, "for another key it is another");
        assert_eq!(asked(), 2);
        for times in [3, 4] {
            assert_eq!(keys.open(&key("k", "refused")), Err(Refusal::NotMine));
            assert_eq!(asked(), times);
        }
        for number in 0..=MOST {
            keys.open(&key("k", &number.to_string())).expect("opened");
        }
        assert!(keys.opened().len() <= MOST);
    }
}
