//! Where a chart is, as an absolute address: what Go's `net/url` makes of the two addresses that Helm joins.

/// Why an address cannot be made absolute. Nothing helps but another one; names no address, since an address
/// can hold credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// The chart's address is none.
    #[error("address of a chart {0}")]
    Chart(&'static str),
    /// The repository's address is none.
    #[error("address of the repository {0}")]
    Repository(&'static str),
}

/// Returns the address of a chart: its own if that is absolute, else what it means below the repository's.
/// A query of the repository's address is kept.
///
/// # Errors
///
/// See [`LocationError`].
pub fn absolute(repository: &str, url: &str) -> Result<String, LocationError> {
    let chart = Parts::read(url).map_err(LocationError::Chart)?;
    if chart.scheme.is_some() {
        return Ok(url.to_owned());
    }
    let mut base = Parts::read(repository).map_err(LocationError::Repository)?;
    let path = format!("{}/", base.path.strip_suffix('/').unwrap_or(&base.path));
    let (authority, path) = match chart.authority {
        Some(authority) => (Some(authority), resolved(&chart.path, "")),
        None => (base.authority.take(), resolved(&path, &chart.path)),
    };
    let says_nothing = url.is_empty() || url == "#";
    let fragment = if says_nothing {
        base.fragment
    } else {
        chart.fragment
    };
    let mut address = String::new();
    if let Some(scheme) = base.scheme {
        address.push_str(&scheme);
        address.push(':');
    }
    if let Some(authority) = authority {
        address.push_str("//");
        address.push_str(authority);
    }
    address.push_str(&path);
    for (sign, part) in [('?', base.query), ('#', fragment)] {
        if let Some(part) = part.filter(|part| !part.is_empty()) {
            address.push(sign);
            address.push_str(part);
        }
    }
    Ok(address)
}

/// An address in parts, its path escaped.
struct Parts<'a> {
    scheme: Option<String>,
    authority: Option<&'a str>,
    path: String,
    query: Option<&'a str>,
    fragment: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn read(text: &'a str) -> Result<Self, &'static str> {
        if text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
            return Err("holds a control character");
        }
        let (rest, fragment) = cut(text, '#');
        let (rest, query) = cut(rest, '?');
        let (scheme, rest) = scheme(rest)?;
        if scheme.is_some() && !rest.starts_with('/') && !rest.is_empty() {
            return Ok(Self {
                scheme,
                authority: None,
                path: rest.to_owned(),
                query,
                fragment,
            });
        }
        let first = rest.split('/').next().unwrap_or_default();
        if scheme.is_none() && first.contains(':') {
            return Err("has a colon in its first part");
        }
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => {
                let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                (Some(authority), path)
            }
            None => (None, rest),
        };
        if authority
            .is_some_and(|authority| authority.contains([' ', '"', '<', '>', '\\', '^', '`', '{', '|', '}']))
        {
            return Err("has no valid host");
        }
        Ok(Self {
            scheme,
            authority,
            path: escaped(path)?,
            query,
            fragment,
        })
    }
}

fn cut(text: &str, at: char) -> (&str, Option<&str>) {
    match text.split_once(at) {
        Some((before, behind)) => (before, Some(behind)),
        None => (text, None),
    }
}

/// Splits the scheme off, in lower case.
fn scheme(text: &str) -> Result<(Option<String>, &str), &'static str> {
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let Some(end) = text.find(|c| !inside(c)) else {
        return Ok((None, text));
    };
    if !text[end..].starts_with(':') {
        return Ok((None, text));
    }
    match text.chars().next() {
        Some(':') => Err("has no scheme before its colon"),
        Some(first) if first.is_ascii_alphabetic() => {
            Ok((Some(text[..end].to_ascii_lowercase()), &text[end + 1..]))
        }
        _ => Ok((None, text)),
    }
}

/// Returns a path with what may not stand in one escaped; one that is escaped already stays as it is.
fn escaped(path: &str) -> Result<String, &'static str> {
    let raw = unescaped(path).ok_or("has a percent sign that escapes nothing")?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!$&'()*+,;=:@[]-_.~/%".contains(&byte);
    if path.bytes().all(allowed) {
        return Ok(path.to_owned());
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte);
    let mut text = String::new();
    for byte in raw {
        if plain(byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    Ok(text)
}

fn unescaped(path: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first != b'%' {
            bytes.push(*first);
            rest = tail;
            continue;
        }
        let [high, low, tail @ ..] = tail else { return None };
        let digit = |byte: u8| {
            char::from(byte)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        };
        bytes.push(digit(*high)? * 16 + digit(*low)?);
        rest = tail;
    }
    Some(bytes)
}

/// Returns the path that `path` means at `base`, without `.` and `..`; it never leads above the root.
fn resolved(base: &str, path: &str) -> String {
    let full = match path.as_bytes().first() {
        None => base.to_owned(),
        Some(b'/') => path.to_owned(),
        Some(_) => format!("{}{path}", &base[..base.rfind('/').map_or(0, |at| at + 1)]),
    };
    if full.is_empty() {
        return full;
    }
    let mut kept: Vec<&str> = Vec::new();
    let mut last = "";
    for part in full.strip_prefix('/').unwrap_or(&full).split('/') {
        last = part;
        match part {
            "." => {}
            ".." => drop(kept.pop()),
            part => kept.push(part),
        }
    }
    let end = if matches!(last, "." | "..") && !kept.is_empty() {
        "/"
    } else {
        ""
    };
    format!("/{}{end}", kept.join("/"))
}
