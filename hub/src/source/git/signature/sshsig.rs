//! Signatures made with SSH keys, in the namespace of git.

use ssh_key::{AuthorizedKeys, HashAlg, PublicKey, SshSig};

use super::Refusal;

/// What git signs in.
const NAMESPACE: &str = "git";

/// A key, as a line of `authorized_keys`.
pub(super) struct Key(PublicKey);

/// Reads lines of `authorized_keys`.
pub(super) fn keys(text: &str) -> Result<Vec<Key>, String> {
    let mut keys = Vec::new();
    for entry in AuthorizedKeys::new(text) {
        let entry = entry.map_err(|error| error.to_string())?;
        // Options narrow down what a key is for; none of them is judged here.
        if !entry.config_opts().is_empty() {
            return Err("its options are not supported".into());
        }
        keys.push(Key(entry.into()));
    }
    match keys.is_empty() {
        true => Err("it has no line with a key".into()),
        false => Ok(keys),
    }
}

/// Returns which of the keys signed.
pub(super) fn signer(keys: &[Key], payload: &[u8], signature: &[u8]) -> Result<String, Refusal> {
    let signature = SshSig::from_pem(signature.trim_ascii());
    let signature = signature.map_err(|error| Refusal::Unreadable(error.to_string()))?;
    if signature.namespace() != NAMESPACE {
        return Err(Refusal::Unfit(
            "its signature was made for something else than git",
        ));
    }
    let mut of_it = keys
        .iter()
        .filter(|key| key.0.key_data() == signature.public_key());
    let Some(key) = of_it.next() else {
        return Err(Refusal::UnknownKey);
    };
    match key.0.verify(NAMESPACE, payload, &signature) {
        Ok(()) => Ok(key.0.fingerprint(HashAlg::Sha256).to_string()),
        Err(_) => Err(Refusal::Unfit("its signature does not fit what was signed")),
    }
}
