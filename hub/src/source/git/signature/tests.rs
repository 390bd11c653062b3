//! Signatures of GnuPG and OpenSSH, and what an attacker makes of them.

use std::path::Path;

use super::*;

/// In January 2026.
const NOW: u64 = 1_768_000_000;

fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/source/git/signature/fixtures");
    std::fs::read(folder.join(name)).expect("a fixture")
}

fn keys(names: &[&str]) -> Keys {
    let values = names.iter().map(|name| {
        let text = String::from_utf8(fixture(name)).expect("text");
        ((*name).to_owned(), text)
    });
    Keys::read(&values.collect()).expect("keys")
}

/// The payload as a commit that has this signature.
fn commit_with(signature: &[u8]) -> Vec<u8> {
    let payload = fixture("payload");
    let end = payload
        .windows(2)
        .position(|pair| pair == b"\n\n")
        .expect("headers")
        + 1;
    let mut header = b"gpgsig".to_vec();
    for line in signature.trim_ascii_end().split(|byte| *byte == b'\n') {
        header.push(b' ');
        header.extend_from_slice(line);
        header.push(b'\n');
    }
    [&payload[..end], &header, &payload[end..]].concat()
}

fn id(digit: &str) -> CommitId {
    CommitId::parse(&digit.repeat(40)).expect("an id")
}

fn verified(names: &[&str], commit: &[u8]) -> Result<String, String> {
    let verification = Verification::new(GitVerificationMode::Head, keys(names));
    let subject = Subject {
        commit: &id("a"),
        commit_bytes: commit,
        reference: &Reference::of(Some("main"), None, None).expect("a branch"),
        tag: None,
    };
    let result = verification.verify(&subject, NOW);
    result.map_err(|unverified| {
        assert_eq!(unverified.reason, "InvalidCommitSignature");
        let prefix = format!("signature verification of commit '{}' failed: ", id("a"));
        unverified
            .message
            .strip_prefix(&prefix)
            .expect("says which")
            .to_owned()
    })
}

const ALL: [&str; 3] = ["rsa.asc", "other.asc", "ed25519.sshpub"];

#[test]
fn commits_signed_by_gnupg_and_openssh_keys_are_verified_and_say_by_which() {
    for (keys, signature, signer) in [
        (["other.asc", "rsa.asc"], "rsa.sig.asc", "3AF6D11CBBB0D27B"),
        (["other.asc", "curve.asc"], "curve.sig.asc", "EDEA24BF0907ABCF"),
        (["other.asc", "p256.asc"], "p256.sig.asc", "FDFC1B937A9F2315"),
        (["other.asc", "ed25519.sshpub"], "ed25519.sig.ssh", "SHA256:"),
        (["other.asc", "ecdsa.sshpub"], "ecdsa.sig.ssh", "SHA256:"),
        (["other.asc", "rsa.sshpub"], "rsa.sig.ssh", "SHA256:"),
    ] {
        let said = verified(&keys, &commit_with(&fixture(signature)));
        let said = said.unwrap_or_else(|refused| panic!("{signature}: {refused}"));
        let expected = format!(
            "verified signature of\n\t- commit '{}' with key '{signer}",
            id("a")
        );
        assert!(said.starts_with(&expected), "{signature}: {said}");
    }
}

#[test]
fn each_way_in_which_a_signature_proves_nothing_is_refused_with_its_reason() {
    let signed = commit_with(&fixture("rsa.sig.asc"));
    let text = String::from_utf8(signed.clone()).expect("text");
    let changed = text.replace("\n\nsigned\n", "\n\nSigned\n").into_bytes();
    let twice = text.replacen("gpgsig ", "gpgsig x\ngpgsig ", 1).into_bytes();
    let cut = commit_with(&fixture("rsa.sig.asc")[..200]);
    let ssh = commit_with(&fixture("ed25519.sig.ssh"));
    let ssh_changed = String::from_utf8(ssh)
        .expect("text")
        .replace("\n\nsigned\n", "\n\nSigned\n");
    for (name, commit, why) in [
        ("not signed", fixture("payload"), "it is not signed"),
        ("another text", changed, "none of the keys"),
        (
            "another text, SSH",
            ssh_changed.into_bytes(),
            "its signature does not fit",
        ),
        (
            "two signatures",
            twice,
            "its signature cannot be read: there is more than one",
        ),
        ("cut", cut, "its signature cannot be read"),
        ("garbage", commit_with(b"garbage"), "its signature cannot be read"),
        (
            "X.509",
            commit_with(b"-----BEGIN SIGNED MESSAGE-----\nx"),
            "it is signed with X.509",
        ),
        (
            "another key",
            commit_with(&fixture("p256.sig.asc")),
            "none of the keys",
        ),
        (
            "another SSH key",
            commit_with(&fixture("ecdsa.sig.ssh")),
            "none of the keys",
        ),
        (
            "another use",
            commit_with(&fixture("file.sig.ssh")),
            "its signature was made for something else",
        ),
    ] {
        let refused = verified(&ALL, &commit).expect_err(name);
        assert!(refused.starts_with(why), "{name}: {refused}");
    }
    for (name, why) in [("expired", "has expired"), ("revoked", "was revoked")] {
        let key = format!("{name}.asc");
        let refused = verified(&[&key], &commit_with(&fixture(&format!("{name}.sig.asc"))));
        let refused = refused.expect_err(name);
        assert!(refused.contains(why), "{name}: {refused}");
    }
}

fn tag(name: &str, of: &CommitId) -> Vec<u8> {
    format!("object {of}\ntype commit\ntag {name}\ntagger a <a@example.org> 1700000000 +0000\n\nrelease\n")
        .into_bytes()
}

#[test]
fn a_tag_must_be_annotated_signed_and_of_this_name_and_commit() {
    let verification = Verification::new(GitVerificationMode::Tag, keys(&ALL));
    let (commit, tag_id) = (id("a"), id("b"));
    let reference = Reference::of(None, Some("v1"), None).expect("a tag");
    let refused = |tag: Option<&[u8]>| {
        let subject = Subject {
            commit: &commit,
            commit_bytes: &[],
            reference: &reference,
            tag: tag.map(|bytes| (&tag_id, bytes)),
        };
        let unverified = verification.verify(&subject, NOW).expect_err("refused");
        assert_eq!(unverified.reason, "InvalidTagSignature");
        unverified.message
    };
    let shown = format!("v1@sha1:{tag_id}");
    let unsigned = |tag: &str| format!("cannot verify signature of tag '{tag}' since it is not signed");
    assert_eq!(refused(None), unsigned("v1"));
    assert_eq!(refused(Some(&tag("v1", &commit))), unsigned(&shown));
    assert!(refused(Some(&tag("v0", &commit))).ends_with("it was signed under another name"));
    assert!(refused(Some(&tag("v1", &id("c")))).ends_with("it is the tag of another object"));
    // A signature of something else at its end.
    let foreign = [tag("v1", &commit), fixture("rsa.sig.asc")].concat();
    assert!(refused(Some(&foreign)).contains("none of the keys"));
    let x509 = [tag("v1", &commit), b"-----BEGIN SIGNED MESSAGE-----\n".to_vec()].concat();
    assert!(refused(Some(&x509)).contains("X.509"));
}

#[test]
fn a_commits_payload_is_all_of_it_but_its_signature() {
    let raw = b"tree t\ngpgsig -----BEGIN\n \n line\nencoding x\ngpgsig-sha256 other\n more\n\nbody\ngpgsig not one\n";
    let signed = commit_signature(raw).expect("signed");
    assert_eq!(signed.payload, b"tree t\nencoding x\n\nbody\ngpgsig not one\n");
    assert_eq!(signed.signature, b"-----BEGIN\n\nline\n");
    assert!(matches!(
        commit_signature(b"tree t\n\ngpgsig x\n"),
        Err(Refusal::Unsigned)
    ));
}

#[test]
fn a_secret_without_keys_or_with_one_that_is_none_is_told() {
    let read = |values: &[(&str, &str)]| {
        let values = values
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        Keys::read(&values.collect())
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    };
    assert!(read(&[("x", "y")]).starts_with("it has no public keys"));
    assert!(read(&[("a.asc", "canary")]).starts_with("'a.asc' holds no public key"));
    assert!(read(&[("a.sshpub", "canary")]).starts_with("'a.sshpub' holds no public key"));
    assert!(read(&[("a.sshpub", "\n# nobody\n")]).ends_with("it has no line with a key"));
}
