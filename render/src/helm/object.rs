//! Values with methods: times, durations, versions, certificates, `.Capabilities` and `.Files`.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use flotilla_core::version::Version;

use super::capabilities::{self, Capabilities};
use super::fault::Fault;
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
    /// `engine.files`.
    Files(Rc<Files>),
    /// `[]uint8`.
    Bytes(Vec<u8>),
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
            | Object::Certificate { .. } => "struct",
            Object::Duration(_) => "int64",
            Object::Version(_) | Object::Capabilities(_) => "ptr",
            Object::ApiVersions(_) | Object::Bytes(_) => "slice",
            Object::Files(_) => "map",
        }
    }

    pub(super) fn as_signed(&self) -> Option<i64> {
        match self {
            Object::Duration(nanos) => Some(*nanos),
            _ => None,
        }
    }

    pub(super) fn print(&self, out: &mut String) {
        match self {
            Object::Time(time) => out.push_str(&time.to_string()),
            Object::Duration(nanos) => out.push_str(&super::time::duration(*nanos)),
            Object::Version(version) | Object::VersionValue(version) => {
                out.push_str(&version.to_string());
            }
            Object::KubeVersion(capabilities) => out.push_str(&capabilities.kube_version.normalized),
            Object::ApiVersions(capabilities) => {
                out.push_str(&format!("[{}]", capabilities.api_versions.join(" ")));
            }
            Object::Capabilities(capabilities) => {
                let version = &capabilities.kube_version;
                out.push_str(&format!(
                    "&{{{} [{}]}}",
                    version.version,
                    capabilities.api_versions.join(" ")
                ));
            }
            Object::Files(files) => {
                let shown: Vec<String> = files
                    .iter()
                    .map(|(name, data)| format!("{name}:{data:?}"))
                    .collect();
                out.push_str(&format!("map[{}]", shown.join(" ")).replace(", ", " "));
            }
            Object::Certificate { certificate, key } => out.push_str(&format!("{{{certificate} {key}}}")),
            Object::Bytes(bytes) => {
                let shown: Vec<String> = bytes.iter().map(u8::to_string).collect();
                out.push_str(&format!("[{}]", shown.join(" ")));
            }
        }
    }

    /// Returns what `range` and `index` see: pairs of key and value.
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
                    .map(|(name, data)| (Val::Str(name.clone()), bytes(data)))
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
        match (self, name) {
            (Object::Capabilities(all), "KubeVersion") => Some(object(Object::KubeVersion(all.clone()))),
            (Object::Capabilities(all), "APIVersions") => Some(object(Object::ApiVersions(all.clone()))),
            (Object::Capabilities(_), "HelmVersion") => Some(helm_version()),
            (Object::KubeVersion(all), "Version") => Some(all.kube_version.version.as_str().into()),
            (Object::KubeVersion(all), "Major") => Some(all.kube_version.major.as_str().into()),
            (Object::KubeVersion(all), "Minor") => Some(all.kube_version.minor.as_str().into()),
            (Object::Certificate { certificate, .. }, "Cert") => Some(Val::Str(certificate.clone())),
            (Object::Certificate { key, .. }, "Key") => Some(Val::Str(key.clone())),
            (Object::Files(files), name) if self.method(name).is_none() => {
                Some(files.get(name).map_or_else(|| bytes(&[]), |data| bytes(data)))
            }
            _ => None,
        }
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
            (Object::Duration(_), "Milliseconds" | "Microseconds" | "Nanoseconds") => "",
            (
                Object::Time(_),
                "Unix" | "UnixNano" | "UnixMilli" | "Year" | "Day" | "Hour" | "Minute" | "Second",
            ) => "",
            (
                Object::Time(_),
                "Month" | "Weekday" | "YearDay" | "Nanosecond" | "String" | "UTC" | "Local" | "IsZero",
            ) => "",
            (Object::Time(_), "Format") => "s",
            (Object::Time(_), "Add") => "a",
            (Object::Time(_), "AddDate") => "iii",
            (Object::Time(_), "Sub" | "Before" | "After" | "Equal") => "t",
            _ => return None,
        })
    }

    /// Calls the method of that name with arguments that fit its parameters.
    pub(super) fn invoke(&self, name: &str, args: &[Val]) -> Result<Val, Box<Fault>> {
        let text = |at: usize| args.get(at).and_then(Val::as_str).unwrap_or_default();
        match self {
            Object::KubeVersion(all) if name == "String" => Ok(all.kube_version.normalized.as_str().into()),
            Object::KubeVersion(all) => Ok(all.kube_version.version.as_str().into()),
            Object::ApiVersions(all) => Ok(all.api_versions.iter().any(|known| known == text(0)).into()),
            Object::Files(known) => files::invoke(known, name, text(0)),
            Object::Version(version) | Object::VersionValue(version) => version_method(version, name, args),
            Object::Duration(nanos) => Ok(super::time::duration_method(*nanos, name)),
            Object::Time(time) => time.invoke(name, args),
            Object::Capabilities(_) | Object::Bytes(_) | Object::Certificate { .. } => {
                Err(Fault::plain(format!("no method {name}")))
            }
        }
    }
}

fn object(object: Object) -> Val {
    Val::Object(Rc::new(object))
}

fn bytes(data: &[u8]) -> Val {
    object(Object::Bytes(data.to_vec()))
}

fn helm_version() -> Val {
    let entries = [
        ("Version", capabilities::HELM_VERSION),
        ("GitCommit", ""),
        ("GitTreeState", ""),
        ("GoVersion", capabilities::GO_VERSION),
        ("KubeClientVersion", capabilities::KUBE_CLIENT_VERSION),
    ];
    Val::map(
        entries
            .into_iter()
            .map(|(key, value)| (Rc::from(key), Val::from(value)))
            .collect(),
    )
}

fn version_method(version: &Version, name: &str, args: &[Val]) -> Result<Val, Box<Fault>> {
    let other = || match args.first() {
        Some(Val::Object(object)) => match &**object {
            Object::Version(other) => Ok(version.precedence(other) as i64),
            _ => Err(Fault::plain(
                "wrong type for value; expected *semver.Version".to_owned(),
            )),
        },
        _ => Err(Fault::plain(
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
fn identifiers<'a>(args: &'a [Val], what: &str) -> Result<&'a str, Box<Fault>> {
    let text = args.first().and_then(Val::as_str).unwrap_or_default();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    if text.bytes().all(allowed) {
        Ok(text)
    } else {
        Err(Fault::plain(format!("invalid {} string", what.to_lowercase())))
    }
}

/// Returns a version made of another, which may begin with a `v`.
fn derived(
    of: &Version,
    (major, minor, patch): (u64, u64, u64),
    prerelease: &str,
    metadata: &str,
) -> Result<Val, Box<Fault>> {
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
        .map_err(|cause| Fault::plain(cause.to_string()))
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
