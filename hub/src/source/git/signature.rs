//! Signatures of commits and tags: what was signed, byte for byte as it is stored, and whether a key of the source's Secret
//! signed it. Whatever cannot be read, does not belong to what is used, or is out of date, is refused, each with its reason.

mod openpgp;
mod sshsig;

use std::collections::BTreeMap;

use flotilla_api::kinds::git_repository::GitVerificationMode;
use flotilla_core::digest::Digest;

use super::{CommitId, Reference};

/// Bytes of all keys of a Secret.
const MAX_KEYS: usize = 1 << 20;
const OPENPGP: &[u8] = b"-----BEGIN PGP SIGNATURE-----";
const OPENPGP_MESSAGE: &[u8] = b"-----BEGIN PGP MESSAGE-----";
const SSH: &[u8] = b"-----BEGIN SSH SIGNATURE-----";
const X509: &[u8] = b"-----BEGIN SIGNED MESSAGE-----";

/// Why something counts as not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It has no signature.
    #[error("it is not signed")]
    Unsigned,
    /// It has more than one, or what no honest one has.
    #[error("its signature cannot be read: {0}")]
    Unreadable(String),
    /// A kind of signature that is not verified.
    #[error("it is signed with {0}; OpenPGP and SSH signatures are verified")]
    Kind(&'static str),
    /// No key of the Secret made it.
    #[error("none of the keys in the secret made its signature")]
    UnknownKey,
    /// The key may not sign any more.
    #[error("the key '{key}' that made its signature {why}")]
    Key {
        /// The key.
        key: String,
        /// Has expired, was revoked, or may not sign.
        why: &'static str,
    },
    /// The signature is not of what is used, or was made in a way that proves nothing.
    #[error("{0}")]
    Unfit(&'static str),
}

/// Why the Secret's keys cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// There are none.
    #[error("it has no public keys: OpenPGP keys in '*.asc', SSH keys in '*.sshpub'")]
    Nothing,
    /// They are too many.
    #[error("its keys are larger than {} KiB", MAX_KEYS >> 10)]
    TooLarge,
    /// One is no key.
    #[error("'{0}' holds no public key that can be read: {1}")]
    Key(String, String),
}

/// Whose signatures count.
#[derive(Default)]
pub struct Keys {
    openpgp: Vec<openpgp::Key>,
    ssh: Vec<sshsig::Key>,
    digest: Option<Digest>,
}

/// Which signatures a revision must have, and whose.
pub struct Verification {
    mode: GitVerificationMode,
    keys: Keys,
}

/// What has a signature.
struct Signed {
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// What a verification is of.
pub struct Subject<'a> {
    /// The commit that is used.
    pub commit: &'a CommitId,
    /// Its bytes as they are stored.
    pub commit_bytes: &'a [u8],
    /// What it was reached by.
    pub reference: &'a Reference,
    /// The annotated tag, if it was one: its id and its bytes.
    pub tag: Option<(&'a CommitId, &'a [u8])>,
}

/// A failed verification, as the source shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unverified {
    /// One word, as Flux has it.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

impl Keys {
    /// Reads the keys of a Secret.
    pub fn read(values: &BTreeMap<String, String>) -> Result<Self, KeysError> {
        if values.values().map(String::len).sum::<usize>() > MAX_KEYS {
            return Err(KeysError::TooLarge);
        }
        let mut keys = Self::default();
        for (name, text) in values {
            let invalid = |why: String| KeysError::Key(name.clone(), why);
            if name.ends_with(".sshpub") {
                keys.ssh.extend(sshsig::keys(text).map_err(invalid)?);
            } else if name.ends_with(".asc") || text.contains("BEGIN PGP PUBLIC KEY BLOCK") {
                keys.openpgp.extend(openpgp::keys(text).map_err(invalid)?);
            }
        }
        if keys.openpgp.is_empty() && keys.ssh.is_empty() {
            return Err(KeysError::Nothing);
        }
        keys.digest = Some(Digest::of_json("verification-keys", values));
        Ok(keys)
    }

    /// Returns who signed.
    fn signer(&self, signed: &Signed, now: u64) -> Result<String, Refusal> {
        let signature = signed.signature.trim_ascii_start();
        if signature.starts_with(SSH) {
            sshsig::signer(&self.ssh, &signed.payload, &signed.signature)
        } else if signature.starts_with(OPENPGP) {
            openpgp::signer(&self.openpgp, &signed.payload, &signed.signature, now)
        } else if signature.starts_with(X509) {
            Err(Refusal::Kind("X.509"))
        } else {
            Err(Refusal::Unreadable("it is of no known kind".into()))
        }
    }
}

impl Verification {
    /// Signatures of these keys are needed.
    pub fn new(mode: GitVerificationMode, keys: Keys) -> Self {
        Self { mode, keys }
    }

    /// Names what is needed: what was verified otherwise is verified anew.
    pub fn digest(&self) -> Digest {
        let keys = self.keys.digest.map(|keys| keys.to_string()).unwrap_or_default();
        Digest::of("verification", format!("{:?} {keys}", self.mode).as_bytes())
    }

    /// Verifies what a revision is made of at `now`, in seconds since 1970. Returns what is said of it.
    pub fn verify(&self, subject: &Subject<'_>, now: u64) -> Result<String, Unverified> {
        let (of_tag, of_commit) = match self.mode {
            GitVerificationMode::Head => (false, true),
            GitVerificationMode::Tag => (true, false),
            GitVerificationMode::TagAndHead => (true, true),
        };
        let mut message = "verified signature of".to_owned();
        if of_tag {
            let (tag, signer) = self.verify_tag(subject, now)?;
            message.push_str(&format!("\n\t- tag '{tag}' with key '{signer}'"));
        }
        if of_commit {
            let commit = subject.commit;
            let signer = commit_signature(subject.commit_bytes)
                .and_then(|signed| self.keys.signer(&signed, now))
                .map_err(|refusal| Unverified {
                    reason: "InvalidCommitSignature",
                    message: format!("signature verification of commit '{commit}' failed: {refusal}"),
                })?;
            message.push_str(&format!("\n\t- commit '{commit}' with key '{signer}'"));
        }
        Ok(message)
    }

    fn verify_tag(&self, subject: &Subject<'_>, now: u64) -> Result<(String, String), Unverified> {
        let full = subject.reference.full_name().unwrap_or_default();
        let name = full.strip_prefix("refs/tags/").unwrap_or(&full);
        let Some((id, bytes)) = subject.tag else {
            return Err(Unverified {
                reason: "InvalidTagSignature",
                message: format!("cannot verify signature of tag '{name}' since it is not signed"),
            });
        };
        let shown = format!("{name}@{}:{id}", id.algorithm());
        let signer =
            tag_signature(bytes, name, subject.commit).and_then(|signed| self.keys.signer(&signed, now));
        match signer {
            Ok(signer) => Ok((shown, signer)),
            Err(refusal) => Err(Unverified {
                reason: "InvalidTagSignature",
                message: match refusal {
                    Refusal::Unsigned => {
                        format!("cannot verify signature of tag '{shown}' since it is not signed")
                    }
                    refusal => format!("signature verification of tag '{shown}' failed: {refusal}"),
                },
            }),
        }
    }
}

/// Splits a commit: its signature is a header of its own, and what is signed is all the rest.
fn commit_signature(bytes: &[u8]) -> Result<Signed, Refusal> {
    let headers = bytes
        .windows(2)
        .position(|pair| pair == b"\n\n")
        .map_or(bytes.len(), |end| end + 1);
    let (mut payload, mut signature): (Vec<u8>, Option<Vec<u8>>) = (Vec::with_capacity(bytes.len()), None);
    // What the lines that continue a header belong to.
    let mut within = Header::Other;
    for line in bytes[..headers].split_inclusive(|byte| *byte == b'\n') {
        let begun = match line {
            [b' ', ..] => None,
            _ if line.starts_with(b"gpgsig ") => Some(Header::Signature),
            // Of the same commit in a repository of the other kind.
            _ if line.starts_with(b"gpgsig-sha256 ") => Some(Header::OtherSignature),
            _ => Some(Header::Other),
        };
        let text = match (begun, within) {
            (Some(Header::Signature), _) => {
                if signature.is_some() {
                    return Err(Refusal::Unreadable("there is more than one".into()));
                }
                signature = Some(Vec::new());
                Some(&line[b"gpgsig ".len()..])
            }
            (None, Header::Signature) => Some(&line[1..]),
            _ => None,
        };
        within = begun.unwrap_or(within);
        match within {
            Header::Signature => {
                if let (Some(signature), Some(text)) = (&mut signature, text) {
                    signature.extend_from_slice(text);
                }
            }
            Header::OtherSignature => {}
            Header::Other => payload.extend_from_slice(line),
        }
    }
    payload.extend_from_slice(&bytes[headers..]);
    let signature = signature.ok_or(Refusal::Unsigned)?;
    Ok(Signed { payload, signature })
}

#[derive(Clone, Copy)]
enum Header {
    Signature,
    OtherSignature,
    Other,
}

/// Splits an annotated tag: its signature ends it. It must be of this name and this commit: a tag that was signed under
/// another name proves nothing of this one.
fn tag_signature(bytes: &[u8], name: &str, commit: &CommitId) -> Result<Signed, Refusal> {
    let headers = bytes
        .split(|byte| *byte == b'\n')
        .take_while(|line| !line.is_empty());
    let header = |key: &str| {
        let prefix = format!("{key} ");
        let mut found = headers
            .clone()
            .filter_map(move |line| line.strip_prefix(prefix.as_bytes()));
        found.next()
    };
    if header("object") != Some(commit.as_str().as_bytes()) || header("type") != Some(b"commit") {
        return Err(Refusal::Unfit("it is the tag of another object"));
    }
    if header("tag") != Some(name.as_bytes()) {
        return Err(Refusal::Unfit("it was signed under another name"));
    }
    let mut begins = None;
    let mut at = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if [OPENPGP, OPENPGP_MESSAGE, SSH, X509]
            .iter()
            .any(|mark| line.starts_with(mark))
        {
            begins = Some(at);
        }
        at += line.len();
    }
    let (payload, signature) = bytes.split_at(begins.ok_or(Refusal::Unsigned)?);
    Ok(Signed {
        payload: payload.to_vec(),
        signature: signature.to_vec(),
    })
}

#[cfg(test)]
mod tests;
