//! Each bound holds, and says what it is.

use std::fs;

use flotilla_sops::{Error, Format, Integrity, Keys, document, limits, object};
use serde_json::{Value, json};

fn golden(file: &str) -> Vec<u8> {
    fs::read(format!("{}/tests/golden/{file}", env!("CARGO_MANIFEST_DIR"))).expect("recorded")
}

fn keys() -> Keys {
    let key = golden("keys/one.agekey");
    Keys::import([("one.agekey", key.as_slice())]).expect("a key")
}

/// An object that the key opens.
fn encrypted() -> Value {
    let text = String::from_utf8(golden("cases/secret.enc.yaml")).expect("text");
    flotilla_yaml::read(&text, &flotilla_yaml::Limits::default())
        .expect("YAML")
        .into()
}

fn refused(mut object: Value) -> String {
    object::decrypt(&mut object, &keys())
        .expect_err("refused")
        .to_string()
}

#[test]
fn a_document_has_at_most_so_many_bytes() {
    let large = vec![b'\n'; limits::BYTES + 1];
    for format in [
        Format::Dotenv,
        Format::Ini,
        Format::Json,
        Format::Yaml,
        Format::Binary,
    ] {
        let refused = document::decrypt(&large, format, format, &keys(), Integrity::Values);
        assert!(
            matches!(refused, Err(Error::TooMuch { what: "bytes", .. })),
            "{refused:?}"
        );
    }
    let refused = Keys::import([("x.agekey", large.as_slice())]).expect_err("refused");
    assert!(refused.to_string().contains("bytes"), "{refused}");
}

#[test]
fn an_object_nests_at_most_so_deep() {
    let mut object = encrypted();
    object["stringData"] = (0..=limits::DEPTH).fold(json!(null), |inner, _| json!({ "a": inner }));
    assert!(refused(object).contains("100 levels"));
}

#[test]
fn an_object_has_at_most_so_many_values() {
    let mut object = encrypted();
    object["metadata"]["x"] = vec![Value::Null; limits::VALUES + 1].into();
    assert!(refused(object).contains("200000 values"));
}

#[test]
fn a_stanza_names_at_most_so_many_keys_and_groups() {
    let mut object = encrypted();
    let one = object["sops"]["age"][0].clone();
    object["sops"]["age"] = vec![one.clone(); limits::KEYS + 1].into();
    assert!(refused(object).contains("256 keys"));
    let mut object = encrypted();
    object["sops"]["age"] = json!([]);
    object["sops"]["key_groups"] = vec![json!({ "age": [one] }); limits::GROUPS + 1].into();
    assert!(refused(object).contains("32 groups"));
}

#[test]
fn a_data_key_has_at_most_so_many_bytes_as_it_is_encrypted() {
    let mut object = encrypted();
    object["sops"]["age"][0]["enc"] = "x".repeat(limits::ENCRYPTED_KEY + 1).into();
    assert!(refused(object).contains("65536 bytes"));
}

#[test]
fn an_expression_has_at_most_so_many_bytes_and_is_small_when_compiled() {
    let mut object = encrypted();
    object["sops"]["encrypted_regex"] = "a".repeat(limits::PATTERN + 1).into();
    assert!(refused(object).contains("4096 bytes"));
    let mut object = encrypted();
    object["sops"]["encrypted_regex"] = "(\\pL{100}){100}".into();
    assert!(refused(object).contains("encrypted_regex"));
}

#[test]
fn a_secret_has_at_most_so_many_identities() {
    let one = String::from_utf8(golden("keys/one.agekey")).expect("text");
    let own = one
        .lines()
        .find(|line| line.starts_with("AGE-SECRET-KEY-1"))
        .expect("a key");
    let many = format!("{own}\n").repeat(limits::IDENTITIES + 1);
    let refused = Keys::import([("x.agekey", many.as_bytes())]).expect_err("refused");
    assert!(refused.to_string().contains("256 keys"), "{refused}");
}
