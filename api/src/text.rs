//! Texts with a form: each is checked once where it is read and trusted afterwards.
//!
//! A type's JSON schema names its form in `format`, and the validation of a document finds the same check by
//! that name, so that all bad texts of a document are reported together.

use std::borrow::Cow;
use std::fmt;
use std::time;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

/// Why a text does not have its form: what is wrong, and perhaps what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Malformed {
    /// What is wrong with it. Never quotes a text that may hold credentials.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl Malformed {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

macro_rules! forms {
    ($($form:ident $format:literal $check:ident,)*) => {
        /// What a text may have to be.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Form {
            $($form,)*
        }

        impl Form {
            /// The name that stands in the `format` of a schema.
            pub(crate) const fn format(self) -> &'static str {
                match self {
                    $(Form::$form => $format,)*
                }
            }

            /// The form of that name.
            pub(crate) fn of_format(format: &str) -> Option<Form> {
                match format {
                    $($format => Some(Form::$form),)*
                    _ => None,
                }
            }

            /// Checks whether a text has this form.
            pub(crate) fn check(self, text: &str) -> Result<(), Malformed> {
                match self {
                    $(Form::$form => $check(text),)*
                }
            }
        }
    };
}

forms! {
    Label "dns1123-label" label,
    Subdomain "dns1123-subdomain" subdomain,
    GoDuration "go-duration" duration,
    GoDurationBelowHours "go-duration-below-hours" duration_below_hours,
    GitUrl "git-url" git_url,
    HelmUrl "helm-url" helm_url,
    OciUrl "oci-url" oci_url,
    GitRef "git-ref" git_ref,
    GitFullRef "git-full-ref" git_full_ref,
    GitCommit "git-commit" git_commit,
    Re2 "re2" regex_pattern,
    JsonPointer "json-pointer" json_pointer,
    InnerPath "inner-path" inner_path,
    NamespacedRef "namespaced-ref" namespaced_ref,
    Base64 "base64" base64_text,
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $form:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes a text that has this form.
            pub fn new(text: impl Into<String>) -> Result<Self, Malformed> {
                let text = text.into();
                Form::$form.check(&text)?;
                Ok(Self(text))
            }

            /// Returns the text as written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": Form::$form.format() })
            }

            fn inline_schema() -> bool {
                true
            }
        }
    };
}

text!(
    /// The name of an object: a DNS-1123 subdomain of at most 253 characters.
    Name,
    Subdomain
);
text!(
    /// The name of a namespace, cluster or wave: a DNS-1123 label of at most 63 characters.
    Label,
    Label
);
text!(
    /// A length of time as Go writes it: `1h30m`, `500ms`, `1.5m`.
    GoDuration,
    GoDuration
);
text!(
    /// A length of time without hours, as Flux takes for timeouts of sources: `60s`, `2m`.
    ShortDuration,
    GoDurationBelowHours
);
text!(
    /// The URL of a Git repository: http, https or ssh, without credentials.
    GitUrl,
    GitUrl
);
text!(
    /// The URL of a Helm repository: http, https or oci, without credentials.
    HelmUrl,
    HelmUrl
);
text!(
    /// The URL of an OCI repository: oci, without credentials.
    OciUrl,
    OciUrl
);
text!(
    /// A branch or tag of Git.
    GitRef,
    GitRef
);
text!(
    /// A full name of Git, `refs/…`.
    GitFullRef,
    GitFullRef
);
text!(
    /// A full commit hash of Git.
    GitCommit,
    GitCommit
);
text!(
    /// A regular expression in the syntax of Go's `regexp`, which is RE2's.
    Pattern,
    Re2
);
text!(
    /// A JSON pointer, RFC 6901.
    JsonPointer,
    JsonPointer
);
text!(
    /// A path inside an artifact that does not climb out of it.
    InnerPath,
    InnerPath
);
text!(
    /// A reference to an object of a scope: `[scope:]namespace/name`.
    NamespacedRef,
    NamespacedRef
);
text!(
    /// Bytes in base64.
    Base64,
    Base64
);

impl GoDuration {
    /// Returns the length of time.
    pub fn get(&self) -> time::Duration {
        read_duration(&self.0).unwrap_or_default()
    }
}

impl ShortDuration {
    /// Returns the length of time.
    pub fn get(&self) -> time::Duration {
        read_duration(&self.0).unwrap_or_default()
    }
}

fn label(text: &str) -> Result<(), Malformed> {
    if text.len() > 63 {
        return Err(Malformed::new(format!("{text:?} is longer than 63 characters")));
    }
    if is_label(text) {
        Ok(())
    } else {
        Err(not_a_name(text, "a DNS-1123 label: a-z, 0-9 and \"-\""))
    }
}

fn subdomain(text: &str) -> Result<(), Malformed> {
    if text.len() > 253 {
        return Err(Malformed::new("is longer than 253 characters"));
    }
    if text.split('.').all(is_label) {
        Ok(())
    } else {
        Err(not_a_name(text, "a DNS-1123 name: a-z, 0-9, \"-\" and \".\""))
    }
}

fn not_a_name(text: &str, form: &str) -> Malformed {
    let error = Malformed::new(format!(
        "{text:?} is not {form}, starting and ending with a letter or digit"
    ));
    let fixed = text.to_lowercase().replace(['_', ' '], "-");
    if fixed != text && fixed.split('.').all(is_label) {
        error.hint(format!("did you mean {fixed:?}?"))
    } else {
        error
    }
}

fn is_label(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            alphanumeric(*first)
                && alphanumeric(*last)
                && bytes.iter().all(|b| alphanumeric(*b) || *b == b'-')
        }
        _ => false,
    }
}

const UNITS: [(&str, u128); 4] = [
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads `^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`, up to Go's longest duration of about 292 years.
fn read_duration(text: &str) -> Option<time::Duration> {
    let mut nanos: u128 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let whole = digits(rest);
        let mut number = whole;
        if rest[whole..].starts_with('.') {
            let fraction = digits(&rest[whole + 1..]);
            number = (fraction > 0).then_some(whole + 1 + fraction)?;
        }
        let (unit, scale) = UNITS.iter().find(|(unit, _)| rest[number..].starts_with(unit))?;
        nanos = nanos.checked_add(scaled(
            &rest[..whole],
            rest.get(whole + 1..number).unwrap_or(""),
            *scale,
        )?)?;
        rest = &rest[number + unit.len()..];
    }
    let nanos = u64::try_from(nanos)
        .ok()
        .filter(|nanos| !text.is_empty() && *nanos <= i64::MAX as u64)?;
    Some(time::Duration::from_nanos(nanos))
}

fn scaled(whole: &str, fraction: &str, scale: u128) -> Option<u128> {
    let fraction = &fraction[..fraction.len().min(15)];
    let part = if fraction.is_empty() {
        0
    } else {
        fraction.parse::<u128>().ok()? * scale / 10_u128.pow(u32::try_from(fraction.len()).ok()?)
    };
    whole.parse::<u128>().ok()?.checked_mul(scale)?.checked_add(part)
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

fn duration(text: &str) -> Result<(), Malformed> {
    match read_duration(text) {
        Some(_) => Ok(()),
        None => Err(not_a_duration(
            text,
            "ms, s, m and h, such as \"10m\" or \"1h30m\"",
        )),
    }
}

fn duration_below_hours(text: &str) -> Result<(), Malformed> {
    match read_duration(text) {
        Some(_) if !text.contains('h') => Ok(()),
        _ => Err(not_a_duration(text, "ms, s and m, such as \"60s\" or \"2m\"")),
    }
}

fn not_a_duration(text: &str, units: &str) -> Malformed {
    let error = Malformed::new(format!(
        "{text:?} is not a duration; durations are numbers with {units}"
    ));
    match text.parse::<u32>() {
        Ok(number) => error.hint(format!("did you mean \"{number}s\"?")),
        Err(_) => error,
    }
}

/// A URL taken apart just far enough to be checked. Its parts may hold credentials: they are not quoted.
struct Url<'a> {
    scheme: &'a str,
    user_info: Option<&'a str>,
    host: &'a str,
    path: &'a str,
}

fn take_apart(text: &str) -> Option<Url<'_>> {
    let (scheme, rest) = text.split_once("://")?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (user_info, host_port) = match authority.rsplit_once('@') {
        Some((user_info, host)) => (Some(user_info), host),
        None => (None, authority),
    };
    let (host, port) = match host_port.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':').or(rest.is_empty().then_some("0"))?),
        None => host_port.split_once(':').unwrap_or((host_port, "0")),
    };
    port.parse::<u16>().ok()?;
    Some(Url {
        scheme,
        user_info,
        host,
        path,
    })
}

fn url<'a>(text: &'a str, schemes: &[&str]) -> Result<Url<'a>, Malformed> {
    let wanted = schemes
        .iter()
        .map(|scheme| format!("{scheme}://"))
        .collect::<Vec<_>>()
        .join(", ");
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Malformed::new("a URL holds no spaces or control characters"));
    }
    let Some(url) = take_apart(text) else {
        return Err(Malformed::new(format!(
            "is not a URL of the form {wanted}host/path"
        )));
    };
    if !schemes.contains(&url.scheme) {
        return Err(Malformed::new(format!("the URL's scheme is not one of {wanted}")));
    }
    let host_ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
    if url.host.is_empty() || !url.host.chars().all(host_ok) || url.host.starts_with('-') {
        return Err(Malformed::new("the URL has no valid host"));
    }
    Ok(url)
}

fn without_credentials(text: &str, schemes: &[&str]) -> Result<(), Malformed> {
    if url(text, schemes)?.user_info.is_some() {
        return Err(
            Malformed::new("the URL holds credentials").hint("put them in a Secret and name it in secretRef")
        );
    }
    without_query(text)
}

/// A query is shown with the object, and may be all that is needed to get in.
fn without_query(text: &str) -> Result<(), Malformed> {
    if text.contains('?') {
        return Err(Malformed::new("the URL holds a query, which may be a credential")
            .hint("put credentials in a Secret and name it in secretRef"));
    }
    Ok(())
}

fn git_url(text: &str) -> Result<(), Malformed> {
    if let Some(fixed) = scp_style(text) {
        return Err(Malformed::new("scp-style addresses are not URLs").hint(format!("write {fixed:?}")));
    }
    if !text.starts_with("ssh://") {
        return without_credentials(text, &["http", "https", "ssh"]);
    }
    let url = url(text, &["ssh"])?;
    if url.user_info.is_some_and(|user| user.contains(':')) {
        return Err(
            Malformed::new("the URL holds a password").hint("put it in a Secret and name it in secretRef")
        );
    }
    if url.path.len() < 2 {
        return Err(Malformed::new("the URL names no repository"));
    }
    without_query(text)
}

/// Returns the ssh URL that `user@host:path` means.
fn scp_style(text: &str) -> Option<String> {
    let (authority, path) = text.split_once(':')?;
    let (user, host) = authority.split_once('@')?;
    let plain = |word: &str| {
        !word.is_empty()
            && word
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
    };
    let path_ok =
        !path.starts_with("//") && !path.contains(['@', ':']) && !path.contains(char::is_whitespace);
    (plain(user) && plain(host) && path_ok)
        .then(|| format!("ssh://{user}@{host}/{}", path.trim_start_matches('/')))
}

fn helm_url(text: &str) -> Result<(), Malformed> {
    without_credentials(text, &["http", "https", "oci"])
}

fn oci_url(text: &str) -> Result<(), Malformed> {
    without_credentials(text, &["oci"])?;
    let name = text.trim_start_matches("oci://");
    match name.split_once('/') {
        Some((_, path)) if path.contains(['@', ':']) => {
            Err(Malformed::new("the URL holds a tag or digest").hint("put it in ref.tag or ref.digest"))
        }
        Some((_, path)) if !path.is_empty() => Ok(()),
        _ => Err(Malformed::new("the URL names no repository")),
    }
}

/// Git's own rules for names (git-check-ref-format), and no leading dash, so that none is read as an option.
fn git_ref(text: &str) -> Result<(), Malformed> {
    let bad_char = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    let bad_part = |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with(".lock");
    let bad = text.is_empty()
        || text.len() > 255
        || text.starts_with('-')
        || text.ends_with('.')
        || text == "@"
        || text.contains("..")
        || text.contains("@{")
        || text.contains(bad_char)
        || text.split('/').any(bad_part);
    if bad {
        Err(Malformed::new(format!("{text:?} is not a name Git allows")))
    } else {
        Ok(())
    }
}

fn git_full_ref(text: &str) -> Result<(), Malformed> {
    git_ref(text)?;
    if text.starts_with("refs/") {
        return Ok(());
    }
    Err(
        Malformed::new(format!("{text:?} is not a full name of Git")).hint(format!(
            "a branch is \"refs/heads/{text}\", a tag \"refs/tags/{text}\""
        )),
    )
}

fn git_commit(text: &str) -> Result<(), Malformed> {
    let hex = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if hex && matches!(text.len(), 40 | 64) {
        return Ok(());
    }
    Err(Malformed::new(format!(
        "{text:?} is not a full commit hash of 40 or 64 lower-case hex digits"
    )))
}

/// A compiled expression may take so many bytes.
const MAX_REGEX: usize = 10 << 20;

fn regex_pattern(text: &str) -> Result<(), Malformed> {
    match flotilla_core::text::re2::Regex::compile(text, MAX_REGEX) {
        Ok(_) => Ok(()),
        Err(error) => Err(Malformed::new(format!(
            "{text:?} is not a regular expression: {}",
            error.code
        ))),
    }
}

fn json_pointer(text: &str) -> Result<(), Malformed> {
    let escapes = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    if escapes && (text.is_empty() || text.starts_with('/')) {
        return Ok(());
    }
    Err(Malformed::new(format!(
        "{text:?} is not a JSON pointer, such as \"/spec/replicas\""
    )))
}

fn inner_path(text: &str) -> Result<(), Malformed> {
    let mut depth = 0_usize;
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." if depth == 0 => return Err(Malformed::new(format!("{text:?} leads out of the source"))),
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    if text.contains('\0') || text.len() > 4096 {
        return Err(Malformed::new("is not a path"));
    }
    Ok(())
}

fn namespaced_ref(text: &str) -> Result<(), Malformed> {
    let (scope, object) = text.split_once(':').unwrap_or(("fleet", text));
    match object.split_once('/') {
        Some((namespace, name))
            if is_label(scope) && is_label(namespace) && name.split('.').all(is_label) =>
        {
            Ok(())
        }
        _ => Err(Malformed::new(format!(
            "{text:?} is not of the form [cluster:]namespace/name"
        ))),
    }
}

fn base64_text(text: &str) -> Result<(), Malformed> {
    match decode_base64(text) {
        Some(_) => Ok(()),
        None => Err(Malformed::new("the value is not base64")
            .hint("plain text goes to data of a ConfigMap, or stringData of a Secret")),
    }
}

/// Decodes base64 as Kubernetes does.
pub(crate) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    flotilla_core::text::base64::decode(text)
}
