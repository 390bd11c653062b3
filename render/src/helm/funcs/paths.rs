//! Paths and URLs.

use super::{Function, pure, text};
use crate::helm::bytes;
use crate::helm::url::{self, Url, User};
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

fn url_parse(text: &str) -> Result<Val, String> {
    let url = url::parse(text).map_err(|cause| format!("unable to parse url: {cause}"))?;
    let user = url.user.as_ref().map(User::written).unwrap_or_default();
    let fields: [(&str, &[u8]); 8] = [
        ("scheme", &url.scheme),
        ("host", &url.host),
        ("hostname", url.host_name()),
        ("path", &url.path),
        ("query", &url.query),
        ("opaque", &url.opaque),
        ("fragment", &url.fragment),
        ("userinfo", &user),
    ];
    Ok(Val::map(
        fields
            .into_iter()
            .map(|(key, value)| (key.into(), Val::of_bytes(value)))
            .collect::<Entries>(),
    ))
}

fn url_join(args: &[Val]) -> Result<Val, String> {
    let part = |key: &str| match args.first() {
        Some(Val::Map(map)) => match map.get(key) {
            None => Ok(Vec::new()),
            Some(Val::Str(text)) => Ok(bytes::bytes(&text).into_owned()),
            Some(other) => Err(format!(
                "unable to parse {key} key, must be of type string, but {} found",
                other.kind_name()
            )),
        },
        _ => Ok(Vec::new()),
    };
    let mut url = Url {
        scheme: part("scheme")?,
        host: part("host")?,
        path: part("path")?,
        query: part("query")?,
        opaque: part("opaque")?,
        fragment: part("fragment")?,
        user: None,
    };
    let user = part("userinfo")?;
    if !user.is_empty() {
        let asked = url::parse(&format!("proto://{}@host", bytes::text(&user)));
        url.user = asked
            .map_err(|cause| format!("unable to parse userinfo in dict: {cause}"))?
            .user;
    }
    Ok(Val::of_bytes(&url.written()))
}
