//! Post-quantum identities of age: HPKE with ML-KEM-768 and X25519 together (X-Wing), HKDF-SHA256 and ChaCha20-Poly1305,
//! in base mode and for one message, as RFC 9180 and draft-ietf-hpke-pq have it.

use age::{DecryptError, Identity};
use age_core::{
    format::{FILE_KEY_BYTES, FileKey, Stanza},
    primitives::bech32_decode,
};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, aead::Aead as _};
use hkdf::Hkdf;
use ml_kem::{Ciphertext, KemCore, MlKem768, kem::Decapsulate as _};
use sha2::Sha256;
use sha3::{
    Digest as _, Sha3_256, Shake256,
    digest::{ExtendableOutput as _, Update as _, XofReader as _},
};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// Begins an identity.
pub(super) const PREFIX: &str = "AGE-SECRET-KEY-PQ-1";
const HUMAN_READABLE: &str = "age-secret-key-pq-";
const TAG: &str = "mlkem768x25519";
const INFO: &[u8] = b"age-encryption.org/mlkem768x25519";
/// KEM, KDF and AEAD.
const SUITE: &[u8] = &[b'H', b'P', b'K', b'E', 0x64, 0x7a, 0x00, 0x01, 0x00, 0x03];
const VERSION: &[u8] = b"HPKE-v1";
/// What sets the combined secret apart from others.
const LABEL: &[u8] = b"\\.//^\\";
/// Bytes of a ciphertext of ML-KEM-768.
const CIPHERTEXT: usize = 1088;

type Decapsulation = <MlKem768 as KemCore>::DecapsulationKey;

/// A post-quantum identity.
pub(super) struct Hybrid {
    lattice: Decapsulation,
    curve: StaticSecret,
}

impl Hybrid {
    /// Reads an identity; `None`: it is none.
    pub(super) fn of(text: &str) -> Option<Self> {
        let seed = bech32_decode(
            text,
            |_| (),
            |prefix| match prefix.to_string().eq_ignore_ascii_case(HUMAN_READABLE) {
                true => Ok(()),
                false => Err(()),
            },
            |_, bytes| Ok(Zeroizing::new(bytes.collect::<Vec<u8>>())),
        )
        .ok()?;
        let seed: Zeroizing<[u8; 32]> = Zeroizing::new(seed.as_slice().try_into().ok()?);
        let mut expanded = Shake256::default().chain(*seed).finalize_xof();
        let (mut d, mut z, mut curve) = (
            Zeroizing::new([0; 32]),
            Zeroizing::new([0; 32]),
            Zeroizing::new([0; 32]),
        );
        for part in [&mut d, &mut z, &mut curve] {
            expanded.read(&mut **part);
        }
        let (lattice, _) = MlKem768::generate_deterministic(&(*d).into(), &(*z).into());
        Some(Self {
            lattice,
            curve: StaticSecret::from(*curve),
        })
    }

    /// The secret that is encapsulated; `None`: it is no encapsulation.
    fn secret(&self, encapsulated: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
        let (ciphertext, point) = encapsulated.split_at_checked(CIPHERTEXT)?;
        let point: [u8; 32] = point.try_into().ok()?;
        let ciphertext: Ciphertext<MlKem768> = ciphertext.try_into().ok()?;
        let of_lattice = self.lattice.decapsulate(&ciphertext).ok()?;
        let of_curve = self.curve.diffie_hellman(&PublicKey::from(point));
        if !of_curve.was_contributory() {
            return None;
        }
        let mut hash = Sha3_256::new();
        for part in [
            of_lattice.as_slice(),
            of_curve.as_bytes(),
            &point,
            PublicKey::from(&self.curve).as_bytes(),
            LABEL,
        ] {
            sha3::Digest::update(&mut hash, part);
        }
        Some(Zeroizing::new(hash.finalize().into()))
    }
}

impl Identity for Hybrid {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        if stanza.tag != TAG {
            return None;
        }
        let [argument] = stanza.args.as_slice() else {
            return Some(Err(DecryptError::InvalidHeader));
        };
        let encapsulated = STANDARD_NO_PAD.decode(argument).ok();
        if encapsulated
            .as_ref()
            .is_none_or(|all| all.len() != CIPHERTEXT + 32)
            || stanza.body.len() != FILE_KEY_BYTES + 16
        {
            return Some(Err(DecryptError::InvalidHeader));
        }
        // A key that is another's gives another secret, which opens nothing.
        let secret = self.secret(&encapsulated?)?;
        let opened = Zeroizing::new(open(secret.as_slice(), &stanza.body)?);
        let key: [u8; FILE_KEY_BYTES] = opened.as_slice().try_into().ok()?;
        Some(Ok(FileKey::new(Box::new(key))))
    }
}

/// Opens the one message that a secret encrypts.
fn open(secret: &[u8], message: &[u8]) -> Option<Vec<u8>> {
    let (psk, info) = (
        extract(&[], b"psk_id_hash", &[]),
        extract(&[], b"info_hash", INFO),
    );
    let context = [[0].as_slice(), &psk.0, &info.0].concat();
    let (_, schedule) = extract(secret, b"secret", &[]);
    let mut key = Zeroizing::new([0; 32]);
    let mut nonce = [0; 12];
    expand(&schedule, b"key", &context, &mut *key)?;
    expand(&schedule, b"base_nonce", &context, &mut nonce)?;
    let cipher = ChaCha20Poly1305::new((&*key).into());
    cipher.decrypt((&nonce).into(), message).ok()
}

/// `LabeledExtract`: the bytes, and what expands them.
fn extract(salt: &[u8], label: &[u8], material: &[u8]) -> ([u8; 32], Hkdf<Sha256>) {
    let labelled = Zeroizing::new([VERSION, SUITE, label, material].concat());
    let (bytes, expanding) = Hkdf::<Sha256>::extract(Some(salt), &labelled);
    (bytes.into(), expanding)
}

/// `LabeledExpand`.
fn expand(from: &Hkdf<Sha256>, label: &[u8], context: &[u8], into: &mut [u8]) -> Option<()> {
    let length = u16::try_from(into.len()).ok()?.to_be_bytes();
    let labelled = [length.as_slice(), VERSION, SUITE, label, context].concat();
    from.expand(&labelled, into).ok()
}
