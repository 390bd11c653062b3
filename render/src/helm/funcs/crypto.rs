//! Keys, certificates, passwords and ciphers. What is random comes from the caller's seed, and dates from the
//! caller's clock; both are recorded.

mod certificates;
mod cipher;
mod password;

use std::rc::Rc;

use super::{Function, pure, raw, reading, text};
use crate::helm::context::Stream;
use crate::helm::eval::Interp;
use crate::helm::exec_error::ExecError;
use crate::helm::keys::generate;
use crate::helm::keys::private::PrivateKey;
use crate::helm::value::Val;

pub(super) const FUNCTIONS: &[Function] = &[
    reading("bcrypt", "s", |interp, args| {
        hashed(interp, &raw(args, 0)).map(Val::from)
    }),
    reading("htpasswd", "ss", htpasswd),
    reading("derivePassword", "ussss", |interp, args| {
        interp.charge(COST_OF_DERIVING)?;
        Ok(password::derived(args).into())
    }),
    reading("encryptAES", "ss", |interp, args| {
        let mut start = [0; 16];
        super::random::draw(interp, &mut start);
        Ok(cipher::encrypted(&raw(args, 0), &raw(args, 1), start).into())
    }),
    pure("decryptAES", "ss", |args| {
        cipher::decrypted(&raw(args, 0), text(args, 1))
    }),
    reading("genPrivateKey", "s", private_key),
    reading("genCA", "si", certificates::authority),
    reading("genCAWithKey", "sis", certificates::authority_with_key),
    reading("genSelfSignedCert", "slli", certificates::self_signed),
    reading(
        "genSelfSignedCertWithKey",
        "sllis",
        certificates::self_signed_with_key,
    ),
    reading("genSignedCert", "sllic", certificates::signed),
    reading("genSignedCertWithKey", "sllics", certificates::signed_with_key),
    pure("buildCustomCert", "ss", |args| {
        certificates::custom(text(args, 0), text(args, 1))
    }),
];

/// The work factor of the reference.
const COST: u32 = 10;

/// Steps that stand for slow work, so that a template's budget bounds that too.
const COST_OF_HASHING: u64 = 100_000;
const COST_OF_DERIVING: u64 = 200_000;
const COST_OF_2048_BITS: u64 = 250_000;
const COST_OF_4096_BITS: u64 = 2_500_000;

fn hashed(interp: &mut Interp<'_>, password: &[u8]) -> Result<String, Box<ExecError>> {
    interp.charge(COST_OF_HASHING)?;
    let mut salt = [0; 16];
    super::random::draw(interp, &mut salt);
    // Longer passwords are refused, as the reference does, and never cut.
    if password.len() > 72 {
        let cause = "failed to encrypt string with bcrypt: bcrypt: password length exceeds 72 bytes";
        return Ok(cause.to_owned());
    }
    let parts =
        bcrypt::hash_with_salt(password, COST, salt).map_err(|cause| ExecError::plain(cause.to_string()))?;
    Ok(parts.format_for_version(bcrypt::Version::TwoA))
}

fn htpasswd(interp: &mut Interp<'_>, args: &[Val]) -> Result<Val, Box<ExecError>> {
    let user = text(args, 0);
    if user.contains(':') {
        return Ok(format!("invalid username: {user}").into());
    }
    let hash: Rc<str> = hashed(interp, &raw(args, 1))?.into();
    Ok(format!("{user}:{hash}").into())
}

fn private_key(interp: &mut Interp<'_>, args: &[Val]) -> Result<Val, Box<ExecError>> {
    let key = match text(args, 0) {
        "" | "rsa" => rsa(interp, 4096, COST_OF_4096_BITS)?,
        "dsa" => {
            interp.charge(COST_OF_4096_BITS)?;
            generate::dsa(&mut stream(interp))?
        }
        "ecdsa" => generate::ecdsa(&mut stream(interp)),
        "ed25519" => generate::ed25519(&mut stream(interp)),
        other => return Ok(format!("Unknown type {other}").into()),
    };
    let pem = key
        .to_pem()
        .map_err(|cause| ExecError::plain(cause.to_string()))?;
    Ok(pem.into())
}

fn rsa(interp: &mut Interp<'_>, bits: u32, cost: u64) -> Result<PrivateKey, Box<ExecError>> {
    interp.charge(cost)?;
    let key = generate::rsa(&mut stream(interp), bits);
    key.map_err(|cause| ExecError::plain(format!("error generating rsa key: {cause}")))
}

fn stream(interp: &mut Interp<'_>) -> Stream {
    interp.reads.random = true;
    interp.random.stream(&interp.context.seed)
}
