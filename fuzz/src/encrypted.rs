//! What is encrypted with SOPS: documents in all formats, and objects. Whatever is opened is opened with a key that is
//! known to everybody.

use std::sync::LazyLock;

use flotilla_sops::{Format, Integrity, Keys, document, object};

/// A key made for tests.
const KEY: &[u8] = include_bytes!("../../sops/tests/golden/keys/one.agekey");

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys::import([("one.agekey", KEY)]).expect("a key"));

const FORMATS: [Format; 5] = [
    Format::Binary,
    Format::Dotenv,
    Format::Ini,
    Format::Json,
    Format::Yaml,
];

/// The first byte says the formats.
pub(crate) fn document(input: &[u8]) {
    let Some((first, content)) = input.split_first() else {
        return;
    };
    let format = |number: u8| FORMATS[usize::from(number) % FORMATS.len()];
    let (from, to) = (format(first % 5), format(first / 5));
    let integrity = match first & 0x80 {
        0 => Integrity::Values,
        _ => Integrity::Mac,
    };
    let _ = document::decrypt(content, from, to, &KEYS, integrity);
    for file in ["x.agekey", "x.asc"] {
        let _ = Keys::import([(file, content)]);
    }
    let Ok(mut value) = serde_json::from_slice(content) else {
        return;
    };
    let is_encrypted = object::is_encrypted(&value);
    if let Ok(was) = object::decrypt(&mut value, &KEYS) {
        assert_eq!(was, is_encrypted, "what is encrypted is decrypted");
    }
}
