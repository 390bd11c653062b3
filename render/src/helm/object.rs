//! Values with methods: times, durations, versions, certificates, `.Capabilities` and `.Files`.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use flotilla_core::version::Version;

use super::capabilities::{self, Capabilities};
use super::exec_error::ExecError;
use super::files;
use super::print;
use super::time::Time;
use super::value::Val;

/// A chart's files by path below it.
pub type Files = BTreeMap<Rc<str>, Arc<[u8]>>;

/// A value that is neither data nor text.
#[derive(Debug)]
pub enum Object {
    /// `time.Time`.
    Time(Time),
    /// `time.Duration`, in nanoseconds.
    Duration(i64),
    /// `time.Month`, from 1.
    Month(u32),
    /// `time.Weekday`, from Sunday, which is 0.
    Weekday(u32),
    /// `*semver.Version`.
    Version(Version),
    /// `semver.Version`: what the methods of a version return, without those of a pointer.
    VersionValue(Version),
    /// `*common.Capabilities`.
    Capabilities(Rc<Capabilities>),
    /// `common.KubeVersion`.
    KubeVersion(Rc<Capabilities>),
    /// `common.VersionSet`.
    ApiVersions(Rc<Capabilities>),
    /// `version.BuildInfo`.
    HelmVersion,
    /// `engine.files`.
    Files(Rc<Files>),
    /// `[]uint8`.
    Bytes(Arc<[u8]>),
    /// `sprig.certificate`, both parts in PEM.
    Certificate {
        /// The certificate.
        certificate: Rc<str>,
        /// Its private key.
        key: Rc<str>,
    },
}

impl Object {
    pub(super) fn truth(&self) -> bool {
        match self {
            Object::Duration(nanos) => *nanos != 0,
            Object::Weekday(day) => *day != 0,
            Object::ApiVersions(capabilities) => !capabilities.api_versions.is_empty(),
            Object::Files(files) => !files.is_empty(),
            Object::Bytes(bytes) => !bytes.is_empty(),
            _ => true,
        }
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Object::Time(_) => "time.Time",
            Object::Duration(_) => "time.Duration",
            Object::Month(_) => "time.Month",
            Object::Weekday(_) => "time.Weekday",
            Object::HelmVersion => "version.BuildInfo",
            Object::Version(_) => "*semver.Version",
            Object::VersionValue(_) => "semver.Version",
            Object::Capabilities(_) => "*common.Capabilities",
            Object::KubeVersion(_) => "common.KubeVersion",
            Object::ApiVersions(_) => "common.VersionSet",
            Object::Files(_) => "engine.files",
            Object::Bytes(_) => "[]uint8",
            Object::Certificate { .. } => "sprig.certificate",
        }
    }

    pub(super) fn kind_name(&self) -> &'static str {
        match self {
            Object::Time(_)
            | Object::KubeVersion(_)
            | Object::VersionValue(_)
            | Object::HelmVersion
            | Object::Certificate { .. } => "struct",
            Object::Duration(_) => "int64",
            Object::Month(_) | Object::Weekday(_) => "int",
            Object::Version(_) | Object::Capabilities(_) => "ptr",
            Object::ApiVersions(_) | Object::Bytes(_) => "slice",
            Object::Files(_) => "map",
        }
    }

    pub(super) fn as_signed(&self) -> Option<i64> {
        match self {
            Object::Duration(nanos) => Some(*nanos),
            Object::Month(number) | Object::Weekday(number) => Some(i64::from(*number)),
            _ => None,
        }
    }

    /// Returns what the method `String` says, where the type has one that Go's fmt asks.
    pub(super) fn text(&self) -> Option<String> {
        Some(match self {
            Object::Time(time) => time.to_string(),
            Object::Duration(nanos) => super::time::duration(*nanos),
            Object::Month(month) => super::time::month(*month).to_owned(),
            Object::Weekday(day) => super::time::weekday(*day).to_owned(),
            Object::Version(version) | Object::VersionValue(version) => version.to_string(),
            _ => return None,
        })
    }

    /// Returns what the method `GoString` says, where the type has one.
    pub(super) fn source(&self) -> Option<String> {
        match self {
            Object::Time(time) => Some(time.source()),
            _ => None,
        }
    }

    /// Returns the fields of a struct in the order of its type.
    pub(super) fn fields(&self) -> Option<Vec<(&'static str, Val)>> {
        Some(match self {
            Object::Capabilities(all) => vec![
                ("KubeVersion", object(Object::KubeVersion(all.clone()))),
                ("APIVersions", object(Object::ApiVersions(all.clone()))),
                ("HelmVersion", object(Object::HelmVersion)),
            ],
            Object::KubeVersion(all) => vec![
                ("Version", all.kube_version.version.as_str().into()),
                ("normalizedVersion", all.kube_version.normalized.as_str().into()),
                ("Major", all.kube_version.major.as_str().into()),
                ("Minor", all.kube_version.minor.as_str().into()),
            ],
            Object::HelmVersion => vec![
                ("Version", capabilities::HELM_VERSION.into()),
                ("GitCommit", "".into()),
                ("GitTreeState", "".into()),
                ("GoVersion", capabilities::GO_VERSION.into()),
                ("KubeClientVersion", capabilities::KUBE_CLIENT_VERSION.into()),
            ],
            Object::Version(version) | Object::VersionValue(version) => vec![
                ("major", Val::UInt(version.major())),
                ("minor", Val::UInt(version.minor())),
                ("patch", Val::UInt(version.patch())),
                ("pre", version.prerelease().into()),
                ("metadata", version.metadata().into()),
                ("original", version.original().into()),
            ],
            Object::Certificate { certificate, key } => {
                vec![
                    ("Cert", Val::Str(certificate.clone())),
                    ("Key", Val::Str(key.clone())),
                ]
            }
            _ => return None,
        })
    }

    /// Returns how many things the object holds, and how many bytes they are: what it costs to go through it.
    pub(super) fn size(&self) -> (usize, usize) {
        match self {
            Object::Files(files) => (files.len(), files.values().map(|data| data.len()).sum()),
            Object::ApiVersions(all) => {
                let names = &all.api_versions;
                (names.len(), names.iter().map(|name| name.len()).sum())
            }
            Object::Bytes(bytes) => (bytes.len(), bytes.len()),
            Object::Certificate { certificate, key } => (2, certificate.len() + key.len()),
            _ => (0, 0),
        }
    }

    /// Returns how many things it holds, where `len` tells it.
    pub(super) fn length(&self) -> Option<usize> {
        match self {
            Object::Files(_) | Object::ApiVersions(_) | Object::Bytes(_) => Some(self.size().0),
            _ => None,
        }
    }

    /// Returns one of the things that it holds.
    pub(super) fn item(&self, at: usize) -> Option<Val> {
        match self {
            Object::Files(files) => files.values().nth(at).cloned().map(bytes),
            Object::ApiVersions(all) => Some(all.api_versions.get(at)?.as_str().into()),
            Object::Bytes(bytes) => bytes.get(at).copied().map(Val::Byte),
            _ => None,
        }
    }

    /// Returns what `range` sees: pairs of key and value.
    pub(super) fn entries(&self) -> Option<Vec<(Val, Val)>> {
        let numbered = |items: Vec<Val>| {
            items
                .into_iter()
                .enumerate()
                .map(|(at, item)| (Val::Int(at as i64), item))
                .collect()
        };
        match self {
            Object::Files(files) => Some(
                files
                    .iter()
                    .map(|(name, data)| (Val::Str(name.clone()), bytes(data.clone())))
                    .collect(),
            ),
            Object::ApiVersions(capabilities) => Some(numbered(
                capabilities
                    .api_versions
                    .iter()
                    .map(|name| Val::from(name.as_str()))
                    .collect(),
            )),
            Object::Bytes(bytes) => Some(numbered(bytes.iter().map(|byte| Val::Byte(*byte)).collect())),
            _ => None,
        }
    }

    /// Returns the field of that name.
    pub(super) fn field(&self, name: &str) -> Option<Val> {
        if let Some(fields) = self.fields().filter(|_| !is_hidden(name)) {
            return fields
                .into_iter()
                .find_map(|(known, value)| (known == name).then_some(value));
        }
        match (self, name) {
            (Object::Files(files), name) if self.method(name).is_none() => {
                Some(bytes(files.get(name).cloned().unwrap_or_default()))
            }
            _ => None,
        }
    }

    /// Tells whether the type has a field of that name that templates do not see.
    pub(super) fn hides(&self, name: &str) -> bool {
        let fields = self.fields().unwrap_or_default();
        is_hidden(name) && fields.iter().any(|(known, _)| *known == name)
    }

    /// Returns the parameters of the method of that name, as [`super::funcs::Function`] writes them.
    pub(super) fn method(&self, name: &str) -> Option<&'static str> {
        Some(match (self, name) {
            (Object::KubeVersion(_), "String" | "GitVersion") => "",
            (Object::ApiVersions(_), "Has") => "s",
            (Object::Files(_), "Get" | "GetBytes" | "Glob" | "Lines") => "s",
            (Object::Files(_), "AsConfig" | "AsSecrets") => "",
            (
                Object::Version(_) | Object::VersionValue(_),
                "Major" | "Minor" | "Patch" | "Prerelease" | "Metadata" | "String",
            ) => "",
            (Object::Version(_), "Original") => "",
            (Object::Version(_), "Compare" | "LessThan" | "GreaterThan" | "Equal") => "V",
            (Object::Version(_) | Object::VersionValue(_), "IncMajor" | "IncMinor" | "IncPatch") => "",
            (Object::Version(_) | Object::VersionValue(_), "SetPrerelease" | "SetMetadata") => "s",
            (Object::Duration(_), "String" | "Hours" | "Minutes" | "Seconds") => "",
            (Object::Duration(_), "Milliseconds" | "Microseconds" | "Nanoseconds" | "Abs") => "",
            (Object::Duration(_), "Round" | "Truncate") => "D",
            (Object::Month(_) | Object::Weekday(_), "String") => "",
            (
                Object::Time(_),
                "Unix" | "UnixNano" | "UnixMilli" | "Year" | "Day" | "Hour" | "Minute" | "Second",
            ) => "",
            (
                Object::Time(_),
                "Month" | "Weekday" | "YearDay" | "Nanosecond" | "String" | "UTC" | "Local" | "IsZero"
                | "UnixMicro" | "GoString" | "IsDST" | "MarshalJSON" | "MarshalText",
            ) => "",
            (Object::Time(_), "Format") => "s",
            (Object::Time(_), "Add" | "Round" | "Truncate") => "D",
            (Object::Time(_), "AddDate") => "iii",
            (Object::Time(_), "Sub" | "Before" | "After" | "Equal" | "Compare") => "t",
            _ => return None,
        })
    }

    /// Calls the method of that name with arguments that fit its parameters.
    pub(super) fn invoke(&self, name: &str, args: &[Val]) -> Result<Val, Box<ExecError>> {
        let text = |at: usize| args.get(at).and_then(Val::as_str).unwrap_or_default();
        match self {
            Object::KubeVersion(all) if name == "String" => Ok(all.kube_version.normalized.as_str().into()),
            Object::KubeVersion(all) => Ok(all.kube_version.version.as_str().into()),
            Object::ApiVersions(all) => Ok(all.api_versions.iter().any(|known| known == text(0)).into()),
            Object::Files(known) => files::invoke(known, name, text(0)),
            Object::Version(version) | Object::VersionValue(version) => version_method(version, name, args),
            Object::Duration(nanos) => {
                let unit = args.first().and_then(Val::as_signed).unwrap_or_default();
                Ok(super::time::duration_method(*nanos, name, unit))
            }
            Object::Month(_) | Object::Weekday(_) => Ok(self.text().unwrap_or_default().into()),
            Object::Time(time) => time.invoke(name, args),
            Object::Capabilities(_) | Object::HelmVersion | Object::Bytes(_) | Object::Certificate { .. } => {
                Err(ExecError::plain(format!("no method {name}")))
            }
        }
    }
}

/// Tells whether only a type's own package sees a field of that name.
pub(super) fn is_hidden(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_uppercase())
}

fn object(object: Object) -> Val {
    Val::Object(Rc::new(object))
}

/// Returns the bytes of a file, which all have that have them.
fn bytes(data: Arc<[u8]>) -> Val {
    object(Object::Bytes(data))
}

fn version_method(version: &Version, name: &str, args: &[Val]) -> Result<Val, Box<ExecError>> {
    let other = || match args.first() {
        Some(Val::Object(object)) => match &**object {
            Object::Version(other) => Ok(version.precedence(other) as i64),
            _ => Err(ExecError::plain(
                "wrong type for value; expected *semver.Version".to_owned(),
            )),
        },
        _ => Err(ExecError::plain(
            "wrong type for value; expected *semver.Version".to_owned(),
        )),
    };
    let numbers = (version.major(), version.minor(), version.patch());
    Ok(match name {
        "Major" => Val::UInt(version.major()),
        "Minor" => Val::UInt(version.minor()),
        "Patch" => Val::UInt(version.patch()),
        "Prerelease" => version.prerelease().into(),
        "Metadata" => version.metadata().into(),
        "Original" => version.original().into(),
        "Compare" => Val::Int(other()?),
        "LessThan" => (other()? < 0).into(),
        "GreaterThan" => (other()? > 0).into(),
        "Equal" => (other()? == 0).into(),
        "IncMajor" => derived(version, (version.major() + 1, 0, 0), "", "")?,
        "IncMinor" => derived(version, (version.major(), version.minor() + 1, 0), "", "")?,
        // A pre-release is below its release, which is the next patch.
        "IncPatch" if !version.prerelease().is_empty() => derived(version, numbers, "", "")?,
        "IncPatch" => derived(version, (numbers.0, numbers.1, numbers.2 + 1), "", "")?,
        "SetPrerelease" => {
            let identifiers = identifiers(args, "Prerelease")?;
            derived(version, numbers, identifiers, version.metadata())?
        }
        "SetMetadata" => derived(
            version,
            numbers,
            version.prerelease(),
            identifiers(args, "Metadata")?,
        )?,
        _ => Val::from(version.to_string()),
    })
}

/// Returns the argument when it can stand behind a version.
fn identifiers<'a>(args: &'a [Val], what: &str) -> Result<&'a str, Box<ExecError>> {
    let text = args.first().and_then(Val::as_str).unwrap_or_default();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    if text.bytes().all(allowed) {
        Ok(text)
    } else {
        Err(ExecError::plain(format!(
            "invalid {} string",
            what.to_lowercase()
        )))
    }
}

/// Returns a version made of another, which may begin with a `v`.
fn derived(
    of: &Version,
    (major, minor, patch): (u64, u64, u64),
    prerelease: &str,
    metadata: &str,
) -> Result<Val, Box<ExecError>> {
    let mut text = String::new();
    text.push_str(if of.original().starts_with('v') { "v" } else { "" });
    text.push_str(&format!("{major}.{minor}.{patch}"));
    if !prerelease.is_empty() {
        text.push('-');
        text.push_str(prerelease);
    }
    if !metadata.is_empty() {
        text.push('+');
        text.push_str(metadata);
    }
    let version = Version::parse(&text);
    version
        .map(|version| object(Object::VersionValue(version)))
        .map_err(|cause| ExecError::plain(cause.to_string()))
}

/// Returns the text of bytes.
fn bytes_text(value: &Val) -> Option<String> {
    match value {
        Val::Object(object) => match &**object {
            Object::Bytes(bytes) => Some(super::bytes::text(bytes).into_owned()),
            _ => None,
        },
        _ => None,
    }
}

/// Returns the text that sprig's `toString` makes of a value.
pub(super) fn to_text(value: &Val) -> Rc<str> {
    match value {
        Val::Str(text) => text.clone(),
        other => bytes_text(other).unwrap_or_else(|| print::text(other)).into(),
    }
}
