//! URLs as Go's `net/url` reads and writes them: what it refuses, which part may hold which characters, and what is
//! written with `%`.
//!
//! A URL is bytes: an escape may stand for one that is no text.

use std::net::Ipv6Addr;

use super::bytes;
use super::quote::quote;

/// A URL in its parts, without their escapes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) scheme: Vec<u8>,
    /// What stands behind the scheme when it is no path.
    pub(super) opaque: Vec<u8>,
    pub(super) user: Option<User>,
    /// The host, with its port.
    pub(super) host: Vec<u8>,
    pub(super) path: Vec<u8>,
    /// The query with its escapes.
    pub(super) query: Vec<u8>,
    pub(super) fragment: Vec<u8>,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    name: Vec<u8>,
    password: Option<Vec<u8>>,
}

/// The parts of a URL, which differ in what needs no escape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Path,
    Host,
    Zone,
    User,
    Query,
    Fragment,
}

impl Part {
    /// Tells whether a byte stands for itself in the part.
    fn allows(self, byte: u8) -> bool {
        let signs: &[u8] = match self {
            Part::Path => b"$&+,/:;=@",
            Part::Host | Part::Zone => b"!$&'()*+,;=:[]<>\"",
            Part::User => b"$&+,;=",
            Part::Query => b"",
            Part::Fragment => b"$&+,/:;=?@!()*",
        };
        byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || signs.contains(&byte)
    }
}

/// Reads a URL.
///
/// # Errors
///
/// What Go says of one that it refuses.
pub(super) fn parse(text: &str) -> Result<Url, String> {
    let raw = bytes::bytes(text);
    let (before, fragment) = cut(&raw, b"#").unwrap_or((&raw, b""));
    let named = |shown: &[u8], cause| format!("parse {}: {cause}", quote(&bytes::text(shown)));
    let mut url = without_fragment(before).map_err(|cause| named(before, cause))?;
    url.fragment = unescaped(fragment, Part::Fragment).map_err(|cause| named(&raw, cause))?;
    Ok(url)
}

fn without_fragment(raw: &[u8]) -> Result<Url, String> {
    if raw.iter().any(|byte| *byte < 0x20 || *byte == 0x7f) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    let (scheme, rest) = scheme(raw)?;
    let mut url = Url {
        scheme: scheme.to_ascii_lowercase(),
        ..Url::default()
    };
    let (rest, query) = cut(rest, b"?").unwrap_or((rest, b""));
    url.query = query.to_vec();
    if !rest.starts_with(b"/") {
        if !url.scheme.is_empty() {
            url.opaque = rest.to_vec();
            return Ok(url);
        }
        let first = cut(rest, b"/").map_or(rest, |(first, _)| first);
        if first.contains(&b':') {
            return Err("first path segment in URL cannot contain colon".to_owned());
        }
    }
    let path = match rest.strip_prefix(b"//") {
        Some(authority) if !url.scheme.is_empty() || !rest.starts_with(b"///") => {
            let end = authority.iter().position(|byte| *byte == b'/');
            let (authority, path) = authority.split_at(end.unwrap_or(authority.len()));
            let at = authority.iter().rposition(|byte| *byte == b'@');
            url.host = host(&url.scheme, &authority[at.map_or(0, |at| at + 1)..])?;
            url.user = at.map(|at| user(&authority[..at])).transpose()?;
            path
        }
        _ => rest,
    };
    url.path = unescaped(path, Part::Path)?;
    Ok(url)
}

fn cut<'a>(text: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let found = memchr::memmem::find(text, at)?;
    Some((&text[..found], &text[found + at.len()..]))
}

/// Splits the scheme off, which is empty where there is none.
fn scheme(raw: &[u8]) -> Result<(&[u8], &[u8]), String> {
    let belongs = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    let end = raw.iter().take_while(|byte| belongs(byte)).count();
    match raw.get(end) {
        Some(b':') if end == 0 => Err("missing protocol scheme".to_owned()),
        Some(b':') if raw[0].is_ascii_alphabetic() => Ok((&raw[..end], &raw[end + 1..])),
        _ => Ok((b"", raw)),
    }
}

fn user(raw: &[u8]) -> Result<User, String> {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(byte);
    if !raw.iter().all(allowed) {
        return Err("net/url: invalid userinfo".to_owned());
    }
    let (name, password) = cut(raw, b":").map_or((raw, None), |(name, password)| (name, Some(password)));
    Ok(User {
        name: unescaped(name, Part::User)?,
        password: password.map(|raw| unescaped(raw, Part::User)).transpose()?,
    })
}

fn host(scheme: &[u8], raw: &[u8]) -> Result<Vec<u8>, String> {
    match raw.iter().rposition(|byte| *byte == b'[') {
        Some(0) => return address(raw),
        Some(_) => return Err("invalid IP-literal".to_owned()),
        None => {}
    }
    // Lists of hosts with ports, as databases take them, have several colons; a web server's host has one.
    let colon = |byte: &u8| *byte == b':';
    let port = if matches!(scheme, b"http" | b"https") {
        raw.iter().position(colon)
    } else {
        raw.iter().rposition(colon)
    };
    port.map_or(Ok(()), |at| require_port(&raw[at..]))?;
    unescaped(raw, Part::Host)
}

/// Reads a host in brackets, with what follows it.
fn address(raw: &[u8]) -> Result<Vec<u8>, String> {
    let Some(end) = raw.iter().rposition(|byte| *byte == b']') else {
        return Err("missing ']' in host".to_owned());
    };
    let port = &raw[end + 1..];
    require_port(port)?;
    let name = &raw[1..end];
    let zone = memchr::memmem::find(name, b"%25").unwrap_or(name.len());
    let mut plain = unescaped(&name[..zone], Part::Host)?;
    plain.extend(unescaped(&name[zone..], Part::Zone)?);
    let shown = || quote(&bytes::text(&plain));
    let refused = |cause| Err(format!("invalid host: ParseAddr({}): {cause}", shown()));
    let (number, zone) = cut(&plain, b"%").map_or((&plain[..], None), |(number, zone)| (number, Some(zone)));
    if zone.is_some_and(<[u8]>::is_empty) {
        return refused("zone must be a non-empty string");
    }
    let number = std::str::from_utf8(number).unwrap_or_default();
    if zone.is_none() && number.parse::<std::net::Ipv4Addr>().is_ok() {
        return Err("invalid IP-literal".to_owned());
    }
    if number.parse::<Ipv6Addr>().is_err() {
        return refused("unable to parse IP");
    }
    Ok([b"[", &plain[..], b"]", port].concat())
}

fn require_port(text: &[u8]) -> Result<(), String> {
    match text.split_first() {
        None => Ok(()),
        Some((b':', digits)) if digits.iter().all(u8::is_ascii_digit) => Ok(()),
        Some(_) => Err(format!("invalid port {} after host", quote(&bytes::text(text)))),
    }
}

/// Returns a part with its escapes replaced.
fn unescaped(raw: &[u8], part: Part) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((byte, after)) = rest.split_first() {
        let in_host = matches!(part, Part::Host | Part::Zone);
        if *byte != b'%' {
            if in_host && byte.is_ascii() && !part.allows(*byte) {
                let shown = quote(&bytes::text(&[*byte]));
                return Err(format!("invalid character {shown} in host name"));
            }
            out.push(*byte);
            rest = after;
            continue;
        }
        let shown = &rest[..rest.len().min(3)];
        let digit = |at: usize| rest.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        let value = digit(1).zip(digit(2)).map(|(high, low)| high * 16 + low);
        let value = value.and_then(|value| u8::try_from(value).ok()).filter(|value| {
            // A host escapes only what is not ASCII; a zone only what could stand there, and blanks.
            let percent = shown == b"%25";
            match part {
                Part::Host => !value.is_ascii() || percent,
                Part::Zone => percent || *value == b' ' || Part::Host.allows(*value),
                _ => true,
            }
        });
        let Some(value) = value else {
            return Err(format!("invalid URL escape {}", quote(&bytes::text(shown))));
        };
        out.push(value);
        rest = &rest[3..];
    }
    Ok(out)
}

fn push_escaped(raw: &[u8], part: Part, out: &mut Vec<u8>) {
    for byte in raw {
        if part.allows(*byte) {
            out.push(*byte);
        } else {
            out.extend(format!("%{byte:02X}").bytes());
        }
    }
}

/// Returns text as part of a query, blanks as plus signs.
pub(super) fn query_escaped(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    for (at, word) in bytes::bytes(text).split(|byte| *byte == b' ').enumerate() {
        if at > 0 {
            out.push(b'+');
        }
        push_escaped(word, Part::Query, &mut out);
    }
    bytes::text(&out).into_owned()
}

impl User {
    /// Returns name and password with their escapes.
    pub(super) fn written(&self) -> Vec<u8> {
        let mut out = Vec::new();
        push_escaped(&self.name, Part::User, &mut out);
        if let Some(password) = &self.password {
            out.push(b':');
            push_escaped(password, Part::User, &mut out);
        }
        out
    }
}

impl Url {
    /// Returns the host without brackets and port.
    pub(super) fn host_name(&self) -> &[u8] {
        let colon = self.host.iter().rposition(|byte| *byte == b':');
        let port = colon.filter(|at| require_port(&self.host[*at..]).is_ok());
        let name = &self.host[..port.unwrap_or(self.host.len())];
        let inner = name.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]"));
        inner.unwrap_or(name)
    }

    /// Returns the URL as it is written.
    pub(super) fn written(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if !self.scheme.is_empty() {
            out.extend_from_slice(&self.scheme);
            out.push(b':');
        }
        if self.opaque.is_empty() {
            self.push_place(&mut out);
        } else {
            out.extend_from_slice(&self.opaque);
        }
        if !self.query.is_empty() {
            out.push(b'?');
            out.extend_from_slice(&self.query);
        }
        if !self.fragment.is_empty() {
            out.push(b'#');
            push_escaped(&self.fragment, Part::Fragment, &mut out);
        }
        out
    }

    fn push_place(&self, out: &mut Vec<u8>) {
        if !self.host.is_empty() || self.user.is_some() || (!self.scheme.is_empty() && !self.path.is_empty())
        {
            out.extend_from_slice(b"//");
        }
        if let Some(user) = &self.user {
            out.extend(user.written());
            out.push(b'@');
        }
        push_escaped(&self.host, Part::Host, out);
        if !self.path.is_empty() && !self.path.starts_with(b"/") && !self.host.is_empty() {
            out.push(b'/');
        }
        let mut path = Vec::new();
        match &self.path[..] {
            b"*" => path.push(b'*'),
            plain => push_escaped(plain, Part::Path, &mut path),
        }
        // A first segment with a colon would read as a scheme.
        let first = path.split(|byte| *byte == b'/').next().unwrap_or_default();
        if out.is_empty() && first.contains(&b':') {
            out.extend_from_slice(b"./");
        }
        out.extend(path);
    }
}
