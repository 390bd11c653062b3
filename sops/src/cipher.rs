//! Encrypted values: `ENC[AES256_GCM,data:…,iv:…,tag:…,type:…]`, each bound to its place by the path as additional data.

use aes_gcm::{
    AesGcm, KeyInit as _,
    aead::{
        AeadInPlace as _,
        consts::{U12, U16, U32},
        generic_array::GenericArray,
    },
    aes::Aes256,
};
use flotilla_core::text::base64;
use zeroize::Zeroizing;

use crate::error::ValueProblem;

const PREFIX: &str = "ENC[AES256_GCM,";
/// Bytes of a data key.
const KEY: usize = 32;

/// The key that all values of a document are encrypted with.
pub(crate) struct Cipher {
    aes: Aes256,
}

/// A decrypted value, as it was before.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Plain {
    /// Text, or what passes for it: any bytes.
    Text(Vec<u8>),
    /// A time, as text.
    Time(Vec<u8>),
    /// Bytes, base64 in formats that have no bytes.
    Bytes(Vec<u8>),
    Int(i64),
    Float(f64),
    Bool(bool),
    Comment(Vec<u8>),
}

impl Cipher {
    /// Takes a data key; `None`: it is no AES-256 key.
    pub(crate) fn new(key: &[u8]) -> Option<Self> {
        let aes = Aes256::new_from_slice(key).ok()?;
        (key.len() == KEY).then_some(Self { aes })
    }

    /// Decrypts the value at a path.
    pub(crate) fn open(&self, text: &str, path: &str) -> Result<Plain, ValueProblem> {
        if text.is_empty() {
            return Ok(Plain::Text(Vec::new()));
        }
        if !is_encrypted(text) {
            return Err(ValueProblem::NotEncrypted);
        }
        let parts = Parts::of(text).ok_or(ValueProblem::Malformed)?;
        let plain = self.decrypted(&parts, path)?;
        typed(parts.kind, plain)
    }

    fn decrypted(&self, parts: &Parts<'_>, path: &str) -> Result<Vec<u8>, ValueProblem> {
        let mut data = Zeroizing::new(parts.data.clone());
        let tag = GenericArray::from_slice(&parts.tag);
        let (iv, aad) = (parts.iv.as_slice(), path.as_bytes());
        let aes = self.aes.clone();
        let opened = match iv.len() {
            32 => AesGcm::<_, U32>::from(aes).decrypt_in_place_detached(
                GenericArray::from_slice(iv),
                aad,
                &mut data,
                tag,
            ),
            16 => AesGcm::<_, U16>::from(aes).decrypt_in_place_detached(
                GenericArray::from_slice(iv),
                aad,
                &mut data,
                tag,
            ),
            12 => AesGcm::<_, U12>::from(aes).decrypt_in_place_detached(
                GenericArray::from_slice(iv),
                aad,
                &mut data,
                tag,
            ),
            _ => return Err(ValueProblem::Malformed),
        };
        opened.map_err(|_| ValueProblem::Unauthentic)?;
        Ok(std::mem::take(&mut *data))
    }
}

/// Tells whether a text claims to be an encrypted value.
pub(crate) fn is_encrypted(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// The parts of an encrypted value.
struct Parts<'a> {
    data: Vec<u8>,
    iv: Vec<u8>,
    tag: Vec<u8>,
    kind: &'a str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix(PREFIX)?.strip_prefix("data:")?;
        let (data, rest) = rest.split_once(",iv:")?;
        let (iv, rest) = rest.split_once(",tag:")?;
        let (tag, rest) = rest.split_once(",type:")?;
        let (kind, _) = rest.rsplit_once(']')?;
        let tag = base64::decode(tag)?;
        (!data.is_empty() && tag.len() == 16).then_some(Self {
            data: base64::decode(data)?,
            iv: base64::decode(iv)?,
            tag,
            kind,
        })
    }
}

/// Reads what was encrypted as what it says it is, as Go's `strconv` reads it.
fn typed(kind: &str, plain: Vec<u8>) -> Result<Plain, ValueProblem> {
    let mistyped = ValueProblem::Mistyped;
    let text = || std::str::from_utf8(&plain).map_err(|_| mistyped);
    Ok(match kind {
        "str" => Plain::Text(plain),
        "time" => Plain::Time(plain),
        "bytes" => Plain::Bytes(plain),
        "comment" => Plain::Comment(plain),
        "int" => Plain::Int(text()?.parse().map_err(|_| mistyped)?),
        "float" => {
            let number: f64 = text()?.parse().map_err(|_| mistyped)?;
            Plain::Float(number)
        }
        "bool" => Plain::Bool(match text()? {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
            "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
            _ => return Err(mistyped),
        }),
        _ => return Err(ValueProblem::Malformed),
    })
}
