//! When services are asked for keys, in which order, and what is told where none opens.

use std::{
    fs,
    pin::pin,
    sync::Mutex,
    task::{Context, Poll, Waker},
    time::SystemTime,
};

use flotilla_sops::{
    AskError, Error, Keys, object,
    services::{Answering, Request, Transport},
};
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// The data key of `cases/secret.enc.yaml`.
const DATA_KEY: &str = "40u/mThaWLKa1S4aAVPtzOesECQOOqnRcAAJ9PFW9hk=";

fn golden(file: &str) -> Vec<u8> {
    fs::read(format!("{}/tests/golden/{file}", env!("CARGO_MANIFEST_DIR"))).expect("recorded")
}

/// A Vault that opens with one of its keys, and notes for which it was asked.
#[derive(Default)]
struct Vault {
    opens: &'static str,
    asked: Mutex<Vec<String>>,
}

impl Transport for Vault {
    fn send(&self, request: Request) -> Answering<'_> {
        let path = request.uri().path();
        let key = path.strip_prefix("/v1/sops/decrypt/").expect("a key").to_owned();
        let body = json!({"data": {"plaintext": DATA_KEY}}).to_string();
        let status = if key == self.opens { 200 } else { 403 };
        self.asked.lock().expect("no panic").push(key);
        let answer = http::Response::builder()
            .status(status)
            .body(Zeroizing::new(body.into_bytes()));
        Box::pin(std::future::ready(answer.map_err(|error| error.to_string())))
    }

    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }
}

impl Vault {
    fn opening(opens: &'static str) -> Self {
        Self {
            opens,
            ..Self::default()
        }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }
}

/// What nobody is waited for in.
fn done<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("it waits"),
    }
}

/// A Secret, encrypted for these keys of Vault beside its age key.
fn document(keys: &[&str]) -> Value {
    let text = String::from_utf8(golden("cases/secret.enc.yaml")).expect("text");
    let limits = flotilla_yaml::Limits::default();
    let mut object: Value = flotilla_yaml::read(&text, &limits).expect("YAML").into();
    let key = |name: &&str| json!({"vault_address": "https://vault", "engine_path": "sops", "key_name": name, "enc": "vault:v1:x"});
    object["sops"]["hc_vault"] = keys.iter().map(key).collect();
    object
}

fn keys(files: &[(&str, &[u8])]) -> Keys {
    Keys::import(files.iter().copied()).expect("keys")
}

fn decrypt(keys: &Keys, document: &Value, vault: &Vault) -> Result<Value, AskError> {
    loop {
        let mut object = document.clone();
        match object::decrypt(&mut object, keys) {
            Ok(_) => return Ok(object),
            Err(error) => match error.error {
                Error::Unasked(unasked) => done(keys.ask(&unasked, vault))?,
                other => panic!("{other}"),
            },
        }
    }
}

#[test]
fn a_key_that_is_here_is_tried_before_any_service_is_asked() {
    let (vault, age) = (Vault::opening("a"), golden("keys/one.agekey"));
    let both = keys(&[("sops.vault-token", b"token"), ("one.agekey", &age)]);
    let object = decrypt(&both, &document(&["a"]), &vault).expect("decrypted");
    assert_eq!(object["stringData"]["password"], "s3cr3t-canary");
    assert!(vault.asked().is_empty());
    let token = keys(&[("sops.vault-token", b"token")]);
    let object = decrypt(&token, &document(&["a"]), &vault).expect("decrypted");
    assert_eq!(object["stringData"]["password"], "s3cr3t-canary");
    assert_eq!(vault.asked(), ["a"]);
}

#[test]
fn the_next_key_of_a_document_is_asked_for_where_one_fails_and_what_was_opened_is_kept() {
    let vault = Vault::opening("c");
    let token = keys(&[("sops.vault-token", b"token")]);
    let document = document(&["a", "b", "c", "d"]);
    decrypt(&token, &document, &vault).expect("decrypted");
    decrypt(&token, &document, &vault).expect("decrypted");
    assert_eq!(vault.asked(), ["a", "b", "c"]);
}

#[test]
fn where_no_service_opens_each_is_told_up_to_a_bound() {
    let vault = Vault::opening("none");
    let token = keys(&[("sops.vault-token", b"token")]);
    let error = decrypt(&token, &document(&["a", "b"]), &vault).expect_err("refused");
    for key in ["a", "b"] {
        let words = format!("Vault https://vault sops/{key}: 'vault' answered 403 permission denied");
        assert!(error.why.contains(&words), "{error}");
    }
    let many: Vec<String> = (0..100).map(|number| format!("k{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let vault = Vault::opening("none");
    decrypt(&token, &document(&many), &vault).expect_err("refused");
    assert_eq!(vault.asked().len(), 5);
}

#[test]
fn credentials_that_are_none_are_named_by_their_file_and_quoted_nowhere() {
    for file in [
        "sops.aws-kms",
        "sops.azure-kv",
        "sops.gcp-kms",
        "sops.vault-token",
    ] {
        let error = Keys::import([(file, b"canary: [canary".as_slice())]).expect_err("refused");
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("failed to import '{file}': ")),
            "{text}"
        );
        assert!(!text.contains("canary"), "{text}");
    }
}
