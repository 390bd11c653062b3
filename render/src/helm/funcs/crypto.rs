//! Keys, certificates and passwords. What is not here yet is a clear error where it is called, so that a
//! chart that only mentions one renders.

use std::rc::Rc;

use super::{Function, pure, reading, text};
use crate::helm::eval::Interp;
use crate::helm::fault::Fault;
use crate::helm::value::Val;

pub(super) const FUNCTIONS: &[Function] = &[
    reading("bcrypt", "s", |interp, args| {
        hashed(interp, text(args, 0)).map(Val::from)
    }),
    reading("htpasswd", "ss", htpasswd),
    pure("derivePassword", "assss", |_| unsupported("derivePassword")),
    pure("encryptAES", "ss", |_| unsupported("encryptAES")),
    pure("decryptAES", "ss", |_| unsupported("decryptAES")),
    pure("genPrivateKey", "s", |_| unsupported("genPrivateKey")),
    pure("genCA", "si", |_| unsupported("genCA")),
    pure("genCAWithKey", "sis", |_| unsupported("genCAWithKey")),
    pure("genSelfSignedCert", "slli", |_| unsupported("genSelfSignedCert")),
    pure("genSelfSignedCertWithKey", "sllis", |_| {
        unsupported("genSelfSignedCertWithKey")
    }),
    pure("genSignedCert", "sllia", |_| unsupported("genSignedCert")),
    pure("genSignedCertWithKey", "sllias", |_| {
        unsupported("genSignedCertWithKey")
    }),
    pure("buildCustomCert", "ss", |_| unsupported("buildCustomCert")),
];

/// The work factor of the reference.
const COST: u32 = 10;

fn unsupported(name: &str) -> Result<Val, String> {
    Err(format!("{name} is not supported by this renderer"))
}

fn hashed(interp: &mut Interp<'_>, password: &str) -> Result<String, Box<Fault>> {
    let mut salt = [0; 16];
    super::random::draw(interp, &mut salt);
    // Longer passwords are refused, as the reference does, and never cut.
    if password.len() > 72 {
        let cause = "failed to encrypt string with bcrypt: bcrypt: password length exceeds 72 bytes";
        return Ok(cause.to_owned());
    }
    let parts =
        bcrypt::hash_with_salt(password, COST, salt).map_err(|cause| Fault::plain(cause.to_string()))?;
    Ok(parts.format_for_version(bcrypt::Version::TwoA))
}

fn htpasswd(interp: &mut Interp<'_>, args: &[Val]) -> Result<Val, Box<Fault>> {
    let (user, password) = (text(args, 0), text(args, 1));
    if user.contains(':') {
        return Ok(format!("invalid username: {user}").into());
    }
    let hash: Rc<str> = hashed(interp, password)?.into();
    Ok(format!("{user}:{hash}").into())
}
