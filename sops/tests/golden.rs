//! What the `sops` program encrypted is decrypted to what it decrypts it to, byte by byte. `tests/golden/make` made the
//! files; with `FLOTILLA_SOPS_CASES` another folder of such files is taken, as the long tests do.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use flotilla_core::carried::Carried;
use flotilla_sops::{Error, Format, Integrity, Keys, document, object};
use serde_json::{Value, json};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("a folder");
    entries
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, fs::read(path).expect("readable"))
        })
        .collect()
}

/// Some of the keys, or all.
fn keys(names: &[&str]) -> Keys {
    let all = files(&golden().join("keys"));
    let chosen = all
        .iter()
        .filter(|(name, _)| names.is_empty() || names.iter().any(|chosen| name.starts_with(chosen)));
    Keys::import(chosen.map(|(name, content)| (name.as_str(), content.as_slice()))).expect("keys")
}

fn recorded(name: &str) -> Vec<u8> {
    fs::read(golden().join("cases").join(name)).expect("recorded")
}

/// As the name of a recorded file says: what ends in `.bin` is in an envelope of JSON.
fn format(name: &str) -> Format {
    Format::of_name(name)
}

#[test]
fn what_sops_encrypted_is_decrypted_to_its_bytes() {
    let folder =
        std::env::var_os("FLOTILLA_SOPS_CASES").map_or_else(|| golden().join("cases"), PathBuf::from);
    let (keys, all) = (keys(&[]), files(&folder));
    let mut count = 0;
    for (name, encrypted) in all.iter().filter(|(name, _)| name.contains(".enc.")) {
        let expected = &all[&name.replace(".enc.", ".dec.")];
        let format = format(name);
        let found = document::decrypt(encrypted, format, format, &keys, Integrity::Mac);
        let found = found.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(
            found == *expected,
            "{name}:\n{}\ninstead of\n{}",
            String::from_utf8_lossy(&found),
            String::from_utf8_lossy(expected)
        );
        count += 1;
    }
    assert!(count >= 18, "{count} files");
}

#[test]
fn each_kind_of_key_opens_alone() {
    for (key, name) in [
        ("one", "age.enc.yaml"),
        ("one", "two.enc.yaml"),
        ("two", "two.enc.yaml"),
        ("rsa", "rsa.enc.yaml"),
        ("ecc", "ecc.enc.json"),
        ("rsa", "both.enc.env"),
        ("two", "both.enc.env"),
    ] {
        let format = format(name);
        let opened = document::decrypt(&recorded(name), format, format, &keys(&[key]), Integrity::Mac);
        assert!(opened.is_ok(), "{key} {name}: {opened:?}");
    }
}

#[test]
fn a_document_for_others_says_for_whom_it_is() {
    for (key, name, recipient) in [
        ("two", "age.enc.yaml", "age age1vwm"),
        ("ecc", "rsa.enc.yaml", "PGP "),
        ("rsa", "age.enc.json", "age age1vwm"),
    ] {
        let format = format(name);
        let refused = document::decrypt(&recorded(name), format, format, &keys(&[key]), Integrity::Values);
        let Err(Error::NoKey(why)) = refused else {
            panic!("{key} {name}: {refused:?}");
        };
        assert!(why.contains(recipient), "{why}");
    }
}

#[test]
fn groups_need_as_many_as_their_threshold() {
    let document = recorded("shamir.enc.yaml");
    let open = |names: &[&str]| {
        document::decrypt(
            &document,
            Format::Yaml,
            Format::Yaml,
            &keys(names),
            Integrity::Mac,
        )
    };
    for names in [["one", "two"], ["two", "rsa"], ["rsa", "one"]] {
        assert!(open(&names).is_ok(), "{names:?}");
    }
    let Err(Error::NoKey(why)) = open(&["one"]) else {
        panic!("opened");
    };
    assert!(why.contains("1 of 3 groups"), "{why}");
}

/// Changes the first digit of the first encrypted value that stands behind `before`.
fn tampered(document: &[u8], before: &str) -> Vec<u8> {
    let text = std::str::from_utf8(document).expect("text");
    let at = text.find(before).expect("there") + before.len();
    let at = at + text[at..].find("data:").expect("encrypted") + "data:".len();
    let digit = if text[at..].starts_with('A') { "B" } else { "A" };
    format!("{}{digit}{}", &text[..at], &text[at + 1..]).into_bytes()
}

#[test]
fn a_value_that_was_changed_is_refused_by_its_path() {
    let document = tampered(&recorded("suffix.enc.yaml"), "key_secret: ");
    let refused = document::decrypt(
        &document,
        Format::Yaml,
        Format::Yaml,
        &keys(&[]),
        Integrity::Values,
    );
    assert!(
        matches!(&refused, Err(Error::Value { path, .. }) if path == "nested.key_secret"),
        "{refused:?}"
    );
}

#[test]
fn a_mac_that_is_not_that_of_the_values_is_refused_where_it_is_asked_for() {
    let text = String::from_utf8(recorded("regex.enc.yaml")).expect("text");
    let left_out = text.replace("user_open: admin\n", "user_open: other\n");
    assert_ne!(left_out, text);
    let forged = tampered(text.as_bytes(), "mac: ");
    for document in [left_out.as_bytes(), &forged] {
        let open = |integrity| document::decrypt(document, Format::Yaml, Format::Yaml, &keys(&[]), integrity);
        assert_eq!(open(Integrity::Mac), Err(Error::Mac));
        assert!(open(Integrity::Values).is_ok());
    }
}

/// An object as kustomize hands it on: JSON, with the stanza in it.
fn manifest(name: &str) -> Value {
    let text = String::from_utf8(recorded(name)).expect("text");
    flotilla_yaml::read(&text, &flotilla_yaml::Limits::default())
        .expect("YAML")
        .into()
}

#[test]
fn a_whole_manifest_is_decrypted_whatever_was_put_into_it_since() {
    for name in ["secret.enc.yaml", "deployment.enc.yaml"] {
        let mut object = manifest(name);
        object["metadata"]["labels"] = json!({ "team": "a" });
        assert!(object::is_encrypted(&object));
        assert_eq!(object::decrypt(&mut object, &keys(&["one"])), Ok(true));
        let mut expected = manifest(&name.replace(".enc.", ".dec."));
        expected["metadata"]["labels"] = json!({ "team": "a" });
        assert_eq!(object, expected);
        assert_eq!(object::decrypt(&mut object, &keys(&["one"])), Ok(false));
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.encode(bytes)
}

#[test]
fn files_in_a_secret_are_decrypted_in_the_format_of_their_names() {
    let names = [
        "age.enc.yaml",
        "age.enc.json",
        "age.enc.env",
        "age.enc.ini",
        "age.enc.bin",
    ];
    let data: serde_json::Map<String, Value> = names
        .iter()
        .map(|name| ((*name).to_owned(), base64(&recorded(name)).into()))
        .collect();
    let mut object = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "files", "namespace": "apps" }, "data": data,
    });
    object["data"]["plain"] = base64(b"as it is").into();
    assert_eq!(object::decrypt(&mut object, &keys(&["one"])), Ok(true));
    for name in names {
        let expected = base64(&recorded(&name.replace(".enc.", ".dec.")));
        assert_eq!(object["data"][name], expected, "{name}");
    }
    assert_eq!(object["data"]["plain"], base64(b"as it is"));
}

#[test]
fn an_encrypted_env_file_that_a_generator_split_is_put_together_again() {
    let text = String::from_utf8(recorded("age.enc.env")).expect("text");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let data: serde_json::Map<String, Value> = lines
        .map(|line| line.split_once('=').expect("a line"))
        .map(|(name, value)| (name.to_owned(), base64(value.as_bytes()).into()))
        .collect();
    let mut object = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "env" }, "data": data,
    });
    object["data"]["LITERAL"] = base64(b"plain").into();
    assert_eq!(object::decrypt(&mut object, &keys(&["one"])), Ok(true));
    let expected = json!({
        "USER": base64(b"admin"), "PASSWORD": base64(b"s3cr3t=with=signs"), "EMPTY": "",
        "MULTI": base64(b"line\\nbreak"), "SPACES": base64(b" around "), "LITERAL": base64(b"plain"),
    });
    assert_eq!(object["data"], expected);
}

fn carried(value: &str, place: &str, stanza: Value, flat: bool) -> String {
    let carried = Carried {
        value: value.to_owned(),
        place: place.to_owned(),
        stanza,
        flat,
    };
    carried.to_text()
}

#[test]
fn values_that_left_their_files_are_decrypted_by_what_they_carry() {
    let patch = manifest("secret.enc.yaml");
    let value = patch["stringData"]["password"].as_str().expect("encrypted");
    let mut object = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "a" },
        "stringData": { "own": "plain", "p": carried(value, "stringData:password:", patch["sops"].clone(), false) },
    });
    // Of an env file, and of another, whose lines have the same names.
    for (key, file) in [("USER", "age.enc.env"), ("PASSWORD", "both.enc.env")] {
        let text = String::from_utf8(recorded(file)).expect("text");
        let lines = || text.lines().filter_map(|line| line.split_once('='));
        let stanza: serde_json::Map<String, Value> = lines()
            .filter_map(|(name, value)| Some((name.strip_prefix("sops_")?, value)))
            .map(|(name, value)| (name.to_owned(), value.replace("\\n", "\n").into()))
            .collect();
        let (_, value) = lines().find(|(name, _)| *name == key).expect("a line");
        let text = carried(value, &format!("{key}:"), Value::Object(stanza), true);
        object["data"][key] = base64(text.as_bytes()).into();
    }
    assert!(object::is_encrypted(&object));
    assert_eq!(object::decrypt(&mut object, &keys(&["one", "two"])), Ok(true));
    let expected = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "a" },
        "stringData": { "own": "plain", "p": "s3cr3t-canary" },
        "data": { "USER": base64(b"admin"), "PASSWORD": base64(b"s3cr3t=with=signs") },
    });
    assert_eq!(object, expected);
}

#[test]
fn an_object_that_opts_out_stays_as_it_is() {
    let mut object = manifest("secret.enc.yaml");
    object["metadata"]["annotations"] = json!({ "kustomize.toolkit.fluxcd.io/decrypt": "Disabled" });
    let before = object.clone();
    assert!(!object::is_encrypted(&object));
    assert_eq!(object::decrypt(&mut object, &keys(&["one"])), Ok(false));
    assert_eq!(object, before);
}

#[test]
fn no_error_holds_a_value_or_a_key() {
    let mut object = manifest("secret.enc.yaml");
    object["stringData"]["added"] = "canary-plain".into();
    let plain = object::decrypt(&mut object.clone(), &keys(&["one"])).expect_err("not encrypted");
    let other = object::decrypt(&mut object, &keys(&["two"])).expect_err("no key");
    let broken = Keys::import([("x.agekey", b"canary-plain".as_slice())]).expect_err("no key");
    for text in [
        format!("{plain} {plain:?}"),
        format!("{other} {other:?}"),
        format!("{broken} {broken:?}"),
        format!("{:?}", keys(&[])),
    ] {
        assert!(!text.contains("canary"), "{text}");
        assert!(!text.contains("SECRET-KEY"), "{text}");
    }
    assert!(plain.to_string().contains("stringData.added"), "{plain}");
}
