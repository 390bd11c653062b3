//! Sealing of secrets at rest: one key-encryption key, a fresh record key for each value, and associated data
//! that ties a ciphertext to its place, so that a row cannot be moved onto another.
//!
//! Form: version 2 (one byte), id of the key-encryption key (4), salt (32), nonce (12), AES-256-GCM ciphertext with its
//! tag. The record key is HKDF-SHA256(key-encryption key, salt, "flotilla/seal/v1"). The id tells which key opens a
//! value, so that values of two keys may stand side by side while one is replaced.

use std::{fmt, fs, io, path::Path};

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Salt},
    rand::{SecureRandom as _, SystemRandom},
};
use zeroize::Zeroizing;

const VERSION: u8 = 2;
const ID_LEN: usize = 4;
const SALT_LEN: usize = 32;
const INFO: &[&[u8]] = &[b"flotilla/seal/v1"];

/// The key-encryption key of this hub. Never printed.
pub struct Seal {
    kek: Zeroizing<[u8; 32]>,
    id: [u8; ID_LEN],
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal(***)")
    }
}

/// Why a value cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key file cannot be read or made; nothing works until it can.
    #[error("cannot use the key-encryption key in {path}")]
    KeyFile {
        /// The file.
        path: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The key file does not hold 32 bytes as 64 hexadecimal digits.
    #[error("{path} is not a key-encryption key: expected 64 hexadecimal digits")]
    KeyForm {
        /// The file.
        path: String,
    },
    /// The system's random source failed.
    #[error("no randomness to be had from the system")]
    Random,
    /// Sealed with another key-encryption key than this hub has.
    #[error("{aad} was sealed with the key-encryption key {sealed_with}, this hub has {key}")]
    OtherKey {
        /// The associated data: table, column and row.
        aad: String,
        /// Id of the key that opens it.
        sealed_with: String,
        /// Id of this hub's key.
        key: String,
    },
    /// Another row's ciphertext, or damage.
    #[error("{aad} cannot be opened: sealed with another key, or altered")]
    Unsealable {
        /// The associated data: table, column and row.
        aad: String,
    },
}

impl Seal {
    /// Wraps a key that the caller holds.
    pub fn new(kek: [u8; 32]) -> Self {
        Self::of(Zeroizing::new(kek))
    }

    fn of(kek: Zeroizing<[u8; 32]>) -> Self {
        let digest = ring::hmac::sign(
            &ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &kek[..]),
            b"flotilla/kek-id/v1",
        );
        let mut id = [0; ID_LEN];
        id.copy_from_slice(&digest.as_ref()[..ID_LEN]);
        Self { kek, id }
    }

    /// Reads the key file, or makes one (mode 0600) when there is none.
    pub fn open_or_create(path: &Path) -> Result<Self, SealError> {
        let key_file = |source| SealError::KeyFile {
            path: path.display().to_string(),
            source,
        };
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&Zeroizing::new(text), path),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let mut kek = Zeroizing::new([0; 32]);
                SystemRandom::new()
                    .fill(&mut kek[..])
                    .map_err(|_| SealError::Random)?;
                let text = Zeroizing::new(hex::encode(&kek[..]));
                write_whole(path, text.as_bytes()).map_err(key_file)?;
                Ok(Self::of(kek))
            }
            Err(e) => Err(key_file(e)),
        }
    }

    fn parse(text: &str, path: &Path) -> Result<Self, SealError> {
        let mut kek = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim(), &mut kek[..]).map_err(|_| SealError::KeyForm {
            path: path.display().to_string(),
        })?;
        Ok(Self::of(kek))
    }

    /// Seals `plain` with `aad` (table, column and row) as associated data.
    pub fn seal(&self, aad: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let random = SystemRandom::new();
        let mut salt = [0; SALT_LEN];
        let mut nonce = [0; NONCE_LEN];
        random
            .fill(&mut salt)
            .and_then(|()| random.fill(&mut nonce))
            .map_err(|_| SealError::Random)?;
        let mut out =
            Vec::with_capacity(1 + ID_LEN + SALT_LEN + NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        let mut body = plain.to_vec();
        self.record_key(&salt, aad)?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(aad.as_bytes()),
                &mut body,
            )
            .map_err(|_| SealError::Random)?;
        out.push(VERSION);
        out.extend_from_slice(&self.id);
        out.extend_from_slice(&salt);
        out.extend_from_slice(&nonce);
        out.append(&mut body);
        Ok(out)
    }

    /// Opens what was sealed with the same `aad`.
    pub fn open(&self, aad: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let unsealable = || SealError::Unsealable { aad: aad.to_owned() };
        let (version, rest) = sealed.split_first().ok_or_else(unsealable)?;
        if *version != VERSION || rest.len() < ID_LEN + SALT_LEN + NONCE_LEN {
            return Err(unsealable());
        }
        let (id, rest) = rest.split_at(ID_LEN);
        if id != self.id {
            return Err(SealError::OtherKey {
                aad: aad.to_owned(),
                sealed_with: hex::encode(id),
                key: hex::encode(self.id),
            });
        }
        let (salt, rest) = rest.split_at(SALT_LEN);
        let (nonce, body) = rest.split_at(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| unsealable())?;
        let mut body = Zeroizing::new(body.to_vec());
        let length = self
            .record_key(salt, aad)?
            .open_in_place(nonce, Aad::from(aad.as_bytes()), &mut body)
            .map_err(|_| unsealable())?
            .len();
        body.truncate(length);
        Ok(body)
    }

    fn record_key(&self, salt: &[u8], aad: &str) -> Result<LessSafeKey, SealError> {
        struct Key;
        impl KeyType for Key {
            fn len(&self) -> usize {
                32
            }
        }
        let unsealable = || SealError::Unsealable { aad: aad.to_owned() };
        let mut key = Zeroizing::new([0; 32]);
        let secret = Salt::new(HKDF_SHA256, salt).extract(&self.kek[..]);
        secret
            .expand(INFO, Key)
            .and_then(|okm| okm.fill(&mut key[..]))
            .map_err(|_| unsealable())?;
        let key = UnboundKey::new(&AES_256_GCM, &key[..]).map_err(|_| unsealable())?;
        Ok(LessSafeKey::new(key))
    }
}

/// Writes a file (mode 0600) that is there whole or not at all, whatever happens meanwhile, and takes no other's place.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    io::Write::write_all(&mut file, bytes)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_value_opens_only_in_its_place_and_with_its_key() {
        let seal = Seal::new([1; 32]);
        let sealed = seal.seal("resource/1", b"hunter2").expect("sealed");
        assert_eq!(&seal.open("resource/1", &sealed).expect("opened")[..], b"hunter2");
        assert!(seal.open("resource/2", &sealed).is_err());
        assert!(Seal::new([2; 32]).open("resource/1", &sealed).is_err());
        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
    }

    #[test]
    fn a_value_of_another_key_names_both_keys_and_neither_key() {
        let sealed = Seal::new([1; 32]).seal("p", b"value").expect("sealed");
        let error = Seal::new([2; 32]).open("p", &sealed).expect_err("another key");
        assert!(matches!(error, SealError::OtherKey { .. }), "{error}");
        let text = error.to_string();
        assert!(!text.contains("0101") && !text.contains("0202"), "{text}");
    }

    #[test]
    fn a_key_file_is_made_once_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("kek");
        Seal::open_or_create(&path).expect("made");
        let written = fs::read(&path).expect("there");
        assert!(write_whole(&path, b"other").is_err(), "it takes no other's place");
        assert_eq!(fs::read(&path).expect("there"), written);
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 1);
    }

    #[test]
    fn every_altered_byte_is_noticed() {
        let seal = Seal::new([1; 32]);
        let sealed = seal.seal("p", b"value").expect("sealed");
        for index in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[index] ^= 1;
            assert!(seal.open("p", &altered).is_err(), "byte {index}");
        }
        assert!(seal.open("p", b"").is_err());
    }

    #[test]
    fn the_key_file_is_private_and_stays() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("kek");
        let sealed = Seal::open_or_create(&path)
            .expect("made")
            .seal("p", b"v")
            .expect("sealed");
        assert_eq!(
            &Seal::open_or_create(&path)
                .expect("read")
                .open("p", &sealed)
                .expect("opened")[..],
            b"v"
        );
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).expect("there").permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}
