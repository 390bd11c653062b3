//! Signatures made with OpenPGP keys: the primary key or a subkey that is bound to it, which may sign, was not revoked and
//! has not expired.

use pgp::{
    composed::{Deserializable as _, DetachedSignature, SignedPublicKey, SignedPublicSubKey},
    crypto::hash::HashAlgorithm,
    packet::{Signature, SignatureType},
    types::{KeyDetails, VerifyingKey},
};

use super::Refusal;

/// Signatures on a key that are looked at.
const MAX_SIGNATURES: usize = 1000;

/// A key with its subkeys.
pub(super) struct Key(SignedPublicKey);

/// Reads armoured keys.
pub(super) fn keys(text: &str) -> Result<Vec<Key>, String> {
    let (found, _) = SignedPublicKey::from_string_many(text).map_err(|error| error.to_string())?;
    let found: Result<Vec<Key>, _> = found.map(|key| key.map(Key)).collect();
    let found = found.map_err(|error| error.to_string())?;
    match found.is_empty() {
        true => Err("it has no key".into()),
        false => Ok(found),
    }
}

/// Returns which of the keys signed: the id of its primary key, as Flux shows it.
pub(super) fn signer(keys: &[Key], payload: &[u8], signature: &[u8], now: u64) -> Result<String, Refusal> {
    let read = DetachedSignature::from_armor_single(signature);
    let (signature, _) = read.map_err(|error| Refusal::Unreadable(error.to_string()))?;
    let signature = signature.signature;
    if signature.typ() != Some(SignatureType::Binary) {
        return Err(Refusal::Unfit("its signature is not one of a document"));
    }
    let is_strong = matches!(
        signature.hash_alg(),
        Some(
            HashAlgorithm::Sha256
                | HashAlgorithm::Sha384
                | HashAlgorithm::Sha512
                | HashAlgorithm::Sha3_256
                | HashAlgorithm::Sha3_512
        )
    );
    if !is_strong {
        return Err(Refusal::Unfit("its signature is over a weak digest"));
    }
    for Key(key) in keys {
        let primary = &key.primary_key;
        let id = primary.legacy_key_id().to_string().to_uppercase();
        let refuse = |why: &'static str| Refusal::Key { key: id.clone(), why };
        if signature.verify(primary, payload).is_ok() {
            unrevoked(key).map_err(refuse)?;
            within(primary, own(key).into_iter(), now).map_err(refuse)?;
        } else if let Some(subkey) = key
            .public_subkeys
            .iter()
            .find(|one| signature.verify(&one.key, payload).is_ok())
        {
            unrevoked(key).map_err(refuse)?;
            // What the primary key says of itself holds for all of it, but for what each may do.
            lives(primary, own(key).into_iter(), now).map_err(refuse)?;
            bound(key, subkey).map_err(refuse)?;
            within(&subkey.key, subkey.signatures.iter(), now).map_err(refuse)?;
        } else {
            continue;
        }
        if is_over(signature.created(), signature.signature_expiration_time(), now) {
            return Err(Refusal::Unfit("its signature has expired"));
        }
        return Ok(id);
    }
    Err(Refusal::UnknownKey)
}

/// What the owner says of a key: signatures that it made over itself and its names.
fn own(key: &SignedPublicKey) -> Vec<&Signature> {
    let primary = &key.primary_key;
    let direct = key.details.direct_signatures.iter().take(MAX_SIGNATURES);
    let direct = direct.filter(|one| one.verify_key(primary).is_ok());
    let of_users = key.details.users.iter().take(MAX_SIGNATURES).flat_map(|user| {
        let own = move |one: &&Signature| {
            one.typ() != Some(SignatureType::CertRevocation)
                && one
                    .verify_certification(primary, pgp::types::Tag::UserId, &user.id)
                    .is_ok()
        };
        user.signatures.iter().take(MAX_SIGNATURES).filter(own)
    });
    direct.chain(of_users).collect()
}

fn unrevoked(key: &SignedPublicKey) -> Result<(), &'static str> {
    let mut revocations = key.details.revocation_signatures.iter();
    match revocations.any(|one| one.verify_key(&key.primary_key).is_ok()) {
        true => Err("was revoked"),
        false => Ok(()),
    }
}

/// A subkey belongs to a key if each has signed the other.
fn bound(key: &SignedPublicKey, subkey: &SignedPublicSubKey) -> Result<(), &'static str> {
    let is_revocation = |one: &&Signature| one.typ() == Some(SignatureType::SubkeyRevocation);
    if subkey.signatures.iter().any(|one| is_revocation(&one)) {
        return Err("was revoked");
    }
    subkey
        .verify_bindings(&key.primary_key)
        .map_err(|_| "is not bound to its primary key")
}

/// The key may sign, and its time is not over.
fn within<'a>(
    key: &impl VerifyingKey,
    said: impl Iterator<Item = &'a Signature> + Clone,
    now: u64,
) -> Result<(), &'static str> {
    lives(key, said.clone(), now)?;
    let Some(newest) = said.max_by_key(|one| one.created()) else {
        return Err("is not signed by itself");
    };
    let flags = newest.key_flags();
    // Old keys do not say what they are for.
    let is_silent =
        !(flags.certify() || flags.encrypt_comms() || flags.encrypt_storage() || flags.authentication());
    match flags.sign() || is_silent {
        true => Ok(()),
        false => Err("may not sign"),
    }
}

/// The time of the key is not over: as what was said of it last has it.
fn lives<'a>(
    key: &impl KeyDetails,
    said: impl Iterator<Item = &'a Signature>,
    now: u64,
) -> Result<(), &'static str> {
    let newest = said.max_by_key(|one| one.created());
    let expires = newest.and_then(Signature::key_expiration_time);
    match is_over(Some(key.created_at()), expires, now) {
        true => Err("has expired"),
        false => Ok(()),
    }
}

fn is_over(since: Option<pgp::types::Timestamp>, lasts: Option<pgp::types::Duration>, now: u64) -> bool {
    let lasts = lasts.map_or(0, pgp::types::Duration::as_secs);
    // Nothing is no limit.
    lasts > 0 && since.is_some_and(|since| u64::from(since.as_secs()) + u64::from(lasts) <= now)
}
