//! `derivePassword`: the Master Password algorithm, which makes a site's password from one secret.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::helm::funcs::{raw, text};
use crate::helm::value::Val;

const SCOPE: &[u8] = b"com.lyndir.masterpassword";

/// Returns the password for a counter, a kind of password, the secret, a user and a site.
pub(super) fn derived(args: &[Val]) -> String {
    let counter = args.first().and_then(Val::as_signed).unwrap_or_default() as u32;
    let kind = text(args, 1);
    // Of a text that stands for bytes, the bytes count.
    let [secret, user, site] = [2, 3, 4].map(|at| raw(args, at));
    let Some(shapes) = shapes(kind) else {
        return format!("cannot find password template {kind}");
    };
    let seed = key(&secret, &user).and_then(|key| seed(&key, &site, counter));
    match seed {
        Ok(seed) => spelled(shapes, &seed),
        Err(cause) => format!("failed to derive password: {cause}"),
    }
}

/// Returns the key of a user, which takes long to find out.
fn key(secret: &[u8], user: &[u8]) -> Result<[u8; 64], String> {
    let mut salt = SCOPE.to_vec();
    append(&mut salt, user);
    let parameters = scrypt::Params::new(15, 8, 2).map_err(|cause| cause.to_string())?;
    let mut key = [0; 64];
    scrypt::scrypt(secret, &salt, &parameters, &mut key).map_err(|cause| cause.to_string())?;
    Ok(key)
}

fn seed(key: &[u8; 64], site: &[u8], counter: u32) -> Result<[u8; 32], String> {
    let mut message = SCOPE.to_vec();
    append(&mut message, site);
    message.extend(counter.to_be_bytes());
    let mut digest = Hmac::<Sha256>::new_from_slice(key).map_err(|cause| cause.to_string())?;
    digest.update(&message);
    Ok(digest.finalize().into_bytes().into())
}

fn append(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.extend((text.len() as u32).to_be_bytes());
    bytes.extend(text);
}

/// Picks a shape by the first byte, and a character of each of its classes by the others.
fn spelled(shapes: &[&str], seed: &[u8; 32]) -> String {
    let shape = shapes[usize::from(seed[0]) % shapes.len()];
    shape
        .bytes()
        .zip(&seed[1..])
        .map(|(class, byte)| {
            let characters = characters(class).as_bytes();
            char::from(characters[usize::from(*byte) % characters.len()])
        })
        .collect()
}

/// Returns the shapes that passwords of a kind have, a letter for each character's class.
fn shapes(kind: &str) -> Option<&'static [&'static str]> {
    Some(match kind {
        "maximum" => &["anoxxxxxxxxxxxxxxxxx", "axxxxxxxxxxxxxxxxxno"],
        "long" => &[
            "CvcvnoCvcvCvcv",
            "CvcvCvcvnoCvcv",
            "CvcvCvcvCvcvno",
            "CvccnoCvcvCvcv",
            "CvccCvcvnoCvcv",
            "CvccCvcvCvcvno",
            "CvcvnoCvccCvcv",
            "CvcvCvccnoCvcv",
            "CvcvCvccCvcvno",
            "CvcvnoCvcvCvcc",
            "CvcvCvcvnoCvcc",
            "CvcvCvcvCvccno",
            "CvccnoCvccCvcv",
            "CvccCvccnoCvcv",
            "CvccCvccCvcvno",
            "CvcvnoCvccCvcc",
            "CvcvCvccnoCvcc",
            "CvcvCvccCvccno",
            "CvccnoCvcvCvcc",
            "CvccCvcvnoCvcc",
            "CvccCvcvCvccno",
        ],
        "medium" => &["CvcnoCvc", "CvcCvcno"],
        "short" => &["Cvcn"],
        "basic" => &["aaanaaan", "aannaaan", "aaannaaa"],
        "pin" => &["nnnn"],
        _ => return None,
    })
}

fn characters(class: u8) -> &'static str {
    match class {
        b'V' => "AEIOU",
        b'C' => "BCDFGHJKLMNPQRSTVWXYZ",
        b'v' => "aeiou",
        b'c' => "bcdfghjklmnpqrstvwxyz",
        b'a' => "AEIOUaeiouBCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz",
        b'n' => "0123456789",
        b'o' => "@&%?,=[]_:-+*$#!'^~;()/.",
        _ => "AEIOUaeiouBCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz0123456789!@#$%^&*()",
    }
}

#[cfg(test)]
mod tests {
    use super::derived;
    use crate::helm::value::Val;

    #[test]
    fn derive_password_of_bytes_that_are_no_text_is_of_those_bytes() {
        let args = [
            Val::Int(1),
            "long".into(),
            Val::of_bytes(&[0xff]),
            "user".into(),
            "example.com".into(),
        ];
        assert_eq!(derived(&args), "Nuyq4#BipoVifo");
    }
}
