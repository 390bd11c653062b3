//! The functions that make certificates.

use std::net::IpAddr;
use std::rc::Rc;

use flotilla_core::text::base64;

use super::{COST_OF_2048_BITS, rsa};
use crate::helm::eval::Interp;
use crate::helm::exec_error::ExecError;
use crate::helm::funcs::{int, text};
use crate::helm::keys::certificate::{Certificate, Request, issue};
use crate::helm::keys::pem;
use crate::helm::keys::private::PrivateKey;
use crate::helm::object::Object;
use crate::helm::print;
use crate::helm::value::Val;

/// `genCA NAME DAYS`.
pub(super) fn authority(interp: &mut Interp<'_>, args: &[Val]) -> Result<Val, Box<ExecError>> {
    let key = rsa(interp, 2048, COST_OF_2048_BITS)?;
    authority_of(interp, args, &key)
}

/// `genCAWithKey NAME DAYS KEY`.
pub(super) fn authority_with_key(interp: &mut Interp<'_>, args: &[Val]) -> Result<Val, Box<ExecError>> {
    let key = given_key(text(args, 2))?;
    authority_of(interp, args, &key)
}

/// `genSelfSignedCert NAME ADDRESSES NAMES DAYS`.
pub(super) fn self_signed(interp: &mut Interp<'_>, args: &[Val]) -> Result<Val, Box<ExecError>> {
    let key = rsa(interp, 2048, COST_OF_2048_BITS)?;
    leaf(interp, args, &key, None)
}

/// `genSelfSignedCertWithKey NAME ADDRESSES NAMES DAYS KEY`.
pub(super) fn self_signed_with_key(interp: &mut Interp<'_>, args: &[Val]) -> Result<Val, Box<ExecError>> {
    let key = given_key(text(args, 4))?;
    leaf(interp, args, &key, None)
}

/// `genSignedCert NAME ADDRESSES NAMES DAYS AUTHORITY`.
pub(super) fn signed(interp: &mut Interp<'_>, args: &[Val]) -> Result<Val, Box<ExecError>> {
    let key = rsa(interp, 2048, COST_OF_2048_BITS)?;
    signed_by(interp, args, &key)
}

/// `genSignedCertWithKey NAME ADDRESSES NAMES DAYS AUTHORITY KEY`.
pub(super) fn signed_with_key(interp: &mut Interp<'_>, args: &[Val]) -> Result<Val, Box<ExecError>> {
    let key = given_key(text(args, 5))?;
    signed_by(interp, args, &key)
}

/// `buildCustomCert CERTIFICATE KEY`, both PEM in base64: takes what it is given when it can be read.
pub(super) fn custom(certificate: &str, key: &str) -> Result<Val, String> {
    let decoded = |text: &str, what: &str| {
        base64::decode(text).ok_or_else(|| format!("unable to decode base64 {what}"))
    };
    let certificate = decoded(certificate, "certificate")?;
    let key = decoded(key, "private key")?;
    let certificate = String::from_utf8_lossy(&certificate);
    let key = String::from_utf8_lossy(&key);
    let block = pem::decode(&certificate).ok_or("unable to decode certificate")?;
    Certificate::parse(&block.bytes)
        .map_err(|cause| format!("error parsing certificate: decodedCert.Bytes: {cause}"))?;
    PrivateKey::from_pem(&key).map_err(|cause| format!("error parsing private key: {cause}"))?;
    Ok(pair(certificate.into(), key.into()))
}

fn authority_of(interp: &mut Interp<'_>, args: &[Val], key: &PrivateKey) -> Result<Val, Box<ExecError>> {
    let request = Request {
        common_name: text(args, 0),
        addresses: Vec::new(),
        names: Vec::new(),
        days: int(args, 1),
        authority: true,
        serial: serial(interp),
        now: now(interp),
    };
    issued(&request, key, None)
}

fn signed_by(interp: &mut Interp<'_>, args: &[Val], key: &PrivateKey) -> Result<Val, Box<ExecError>> {
    let (certificate, signer) = match args.get(4) {
        Some(Val::Object(object)) => match &**object {
            Object::Certificate { certificate, key } => (certificate.clone(), key.clone()),
            _ => Default::default(),
        },
        _ => Default::default(),
    };
    let block = pem::decode(&certificate).ok_or_else(|| "unable to decode certificate".to_owned())?;
    let certificate = Certificate::parse(&block.bytes)
        .map_err(|cause| format!("error parsing certificate: decodedSignerCert.Bytes: {cause}"))?;
    let signer =
        PrivateKey::from_pem(&signer).map_err(|cause| format!("error parsing private key: {cause}"))?;
    leaf(interp, args, key, Some((&certificate, &signer)))
}

fn leaf(
    interp: &mut Interp<'_>,
    args: &[Val],
    key: &PrivateKey,
    authority: Option<(&Certificate, &PrivateKey)>,
) -> Result<Val, Box<ExecError>> {
    let request = Request {
        common_name: text(args, 0),
        addresses: addresses(args.get(1))?,
        names: names(args.get(2))?,
        days: int(args, 3),
        authority: false,
        serial: serial(interp),
        now: now(interp),
    };
    issued(&request, key, authority)
}

fn issued(
    request: &Request<'_>,
    key: &PrivateKey,
    authority: Option<(&Certificate, &PrivateKey)>,
) -> Result<Val, Box<ExecError>> {
    let failed =
        |cause: &dyn std::fmt::Display| ExecError::plain(format!("error creating certificate: {cause}"));
    let certificate = issue(request, key, authority).map_err(|cause| failed(&cause))?;
    let key = key.to_pem().map_err(|cause| failed(&cause))?;
    Ok(pair(pem::encode("CERTIFICATE", &certificate).into(), key.into()))
}

fn pair(certificate: Rc<str>, key: Rc<str>) -> Val {
    Val::Object(Rc::new(Object::Certificate { certificate, key }))
}

fn given_key(pem: &str) -> Result<PrivateKey, String> {
    PrivateKey::from_pem(pem).map_err(|cause| format!("parsing private key: {cause}"))
}

fn serial(interp: &mut Interp<'_>) -> [u8; 16] {
    let mut serial = [0; 16];
    crate::helm::funcs::random::draw(interp, &mut serial);
    serial
}

fn now(interp: &mut Interp<'_>) -> i64 {
    interp.reads.clock = true;
    interp.context.now
}

fn addresses(given: Option<&Val>) -> Result<Vec<IpAddr>, String> {
    let mut addresses = Vec::new();
    for item in items(given) {
        let Val::Str(text) = &item else {
            return Err(format!(
                "error parsing ip: {} is not a string",
                print::text(&item)
            ));
        };
        let address = text.parse().map_err(|_| format!("error parsing ip: {text}"))?;
        addresses.push(address);
    }
    Ok(addresses)
}

fn names(given: Option<&Val>) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for item in items(given) {
        let Val::Str(text) = &item else {
            let shown = print::text(&item);
            return Err(format!(
                "error processing alternate dns name: {shown} is not a string"
            ));
        };
        names.push(text.to_string());
    }
    Ok(names)
}

fn items(given: Option<&Val>) -> Vec<Val> {
    match given {
        Some(Val::List(list)) => list.items.to_vec(),
        _ => Vec::new(),
    }
}
