//! Paths and URLs.

use super::{Function, pure, text};
use crate::helm::bytes;
use crate::helm::value::{Entries, Val};

pub(super) const FUNCTIONS: &[Function] = &[
    pure("base", "s", |args| Ok(base(text(args, 0)).into())),
    pure("osBase", "s", |args| Ok(base(text(args, 0)).into())),
    pure("dir", "s", |args| Ok(dir(text(args, 0)).into())),
    pure("osDir", "s", |args| Ok(dir(text(args, 0)).into())),
    pure("clean", "s", |args| Ok(clean(text(args, 0)).into())),
    pure("osClean", "s", |args| Ok(clean(text(args, 0)).into())),
    pure("ext", "s", |args| Ok(extension(text(args, 0)).into())),
    pure("osExt", "s", |args| Ok(extension(text(args, 0)).into())),
    pure("isAbs", "s", |args| Ok(text(args, 0).starts_with('/').into())),
    pure("osIsAbs", "s", |args| Ok(text(args, 0).starts_with('/').into())),
    pure("urlParse", "s", |args| url_parse(text(args, 0))),
    pure("urlJoin", "m", url_join),
];

fn base(path: &str) -> &str {
    if path.is_empty() {
        return ".";
    }
    match path.trim_end_matches('/') {
        "" => "/",
        path => path.rsplit('/').next().unwrap_or(path),
    }
}

fn dir(path: &str) -> String {
    clean(&path[..path.rfind('/').map_or(0, |at| at + 1)])
}

fn extension(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.rfind('.').map_or("", |at| &name[at..])
}

fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." if kept.last().is_some_and(|last| *last != "..") => _ = kept.pop(),
            ".." if rooted => {}
            segment => kept.push(segment),
        }
    }
    match (rooted, kept.is_empty()) {
        (true, _) => format!("/{}", kept.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => kept.join("/"),
    }
}

/// A URL in the parts that Go's parser has.
#[derive(Default)]
struct Url<'a> {
    scheme: String,
    opaque: &'a str,
    user: &'a str,
    host: &'a str,
    path: &'a str,
    query: &'a str,
    fragment: &'a str,
}

fn split(text: &str) -> Result<Url<'_>, String> {
    let quoted = crate::helm::quote::quote(text);
    if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return Err(format!(
            "parse {quoted}: net/url: invalid control character in URL"
        ));
    }
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let mut url = Url {
        fragment,
        ..Url::default()
    };
    let mut rest = rest;
    let scheme_end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)));
    match scheme_end.filter(|at| rest[*at..].starts_with(':')) {
        Some(0) => return Err(format!("parse {quoted}: missing protocol scheme")),
        Some(at) if rest.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            url.scheme = rest[..at].to_ascii_lowercase();
            rest = &rest[at + 1..];
        }
        _ => {}
    }
    let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
    (url.query, rest) = (query, before);
    if !url.scheme.is_empty() && !rest.starts_with('/') {
        url.opaque = rest;
        return Ok(url);
    }
    if url.scheme.is_empty()
        && !rest.starts_with('/')
        && rest.split('/').next().is_some_and(|first| first.contains(':'))
    {
        return Err(format!(
            "parse {quoted}: first path segment in URL cannot contain colon"
        ));
    }
    if let Some(authority) = rest
        .strip_prefix("//")
        .filter(|_| !url.scheme.is_empty() || !rest.starts_with("///"))
    {
        let end = authority.find('/').unwrap_or(authority.len());
        let (authority, path) = authority.split_at(end);
        (url.user, url.host) = authority.rsplit_once('@').unwrap_or(("", authority));
        if url.host.starts_with('[') && !url.host.contains(']') {
            return Err(format!("parse {quoted}: missing ']' in host"));
        }
        rest = path;
    }
    url.path = rest;
    Ok(url)
}

fn url_parse(text: &str) -> Result<Val, String> {
    let url = split(text).map_err(|cause| format!("unable to parse url: {cause}"))?;
    let hostname = match url.host.strip_prefix('[') {
        Some(inner) => inner.split(']').next().unwrap_or(inner),
        None => url.host.rsplit_once(':').map_or(url.host, |(name, _)| name),
    };
    let decode = |part: &str| unescaped(part).unwrap_or_else(|| part.to_owned());
    let fields: [(&str, String); 8] = [
        ("scheme", url.scheme.clone()),
        ("host", url.host.to_owned()),
        ("hostname", hostname.to_owned()),
        ("path", decode(url.path)),
        ("query", url.query.to_owned()),
        ("opaque", url.opaque.to_owned()),
        ("fragment", decode(url.fragment)),
        ("userinfo", url.user.to_owned()),
    ];
    Ok(Val::map(
        fields
            .into_iter()
            .map(|(key, value)| (key.into(), Val::from(value)))
            .collect::<Entries>(),
    ))
}

fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    String::from_utf8(bytes).ok()
}

fn url_join(args: &[Val]) -> Result<Val, String> {
    let part = |key: &str| match args.first() {
        Some(Val::Map(map)) => match map.get(key) {
            None => Ok(String::new()),
            Some(Val::Str(text)) => Ok(text.to_string()),
            Some(other) => Err(format!(
                "unable to parse {key} key, must be of type string, but {} found",
                other.kind_name()
            )),
        },
        _ => Ok(String::new()),
    };
    let (scheme, opaque, host) = (part("scheme")?, part("opaque")?, part("host")?);
    let (path, query, fragment, user) = (
        part("path")?,
        part("query")?,
        part("fragment")?,
        part("userinfo")?,
    );
    let mut out = String::new();
    if !scheme.is_empty() {
        out = format!("{scheme}:");
    }
    if !opaque.is_empty() {
        out.push_str(&opaque);
    } else {
        if !scheme.is_empty() || !host.is_empty() || !user.is_empty() {
            if !host.is_empty() || !path.is_empty() || !user.is_empty() {
                out.push_str("//");
            }
            if !user.is_empty() {
                out.push_str(&format!("{user}@"));
            }
            out.push_str(&host);
        }
        if !path.is_empty() && !path.starts_with('/') && !host.is_empty() {
            out.push('/');
        }
        out.push_str(&path_escaped(&path));
    }
    if !query.is_empty() {
        out.push_str(&format!("?{query}"));
    }
    if !fragment.is_empty() {
        out.push_str(&format!("#{}", path_escaped(&fragment)));
    }
    Ok(out.into())
}

fn path_escaped(text: &str) -> String {
    percent(text, |byte| {
        byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@!*'()".contains(&byte)
    })
}

/// Returns text as part of a query, blanks as plus signs.
pub(super) fn query_escaped(text: &str) -> String {
    percent(text, |byte| {
        byte.is_ascii_alphanumeric() || b"-_.~ ".contains(&byte)
    })
    .replace(' ', "+")
}

fn percent(text: &str, plain: impl Fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in bytes::bytes(text).iter().copied() {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
