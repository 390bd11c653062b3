//! How a client reaches a hub: the file the hub writes at its first start (`admin.yaml`), which a user may copy
//! to the configuration folder, and in which a user of several hubs puts them side by side under `contexts`.
//!
//! Pure: the caller reads files and environment.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use crate::yaml;
use flotilla_core::text::edit::closest;

/// The file's name, in the data directory and in the configuration folder `flotilla`.
pub const FILE: &str = "admin.yaml";

/// Where a hub keeps its data unless it is told otherwise.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/flotilla-hub";

/// The name of the one context of a file that names none.
const UNNAMED: &str = "default";

/// A client's configuration: one or more hubs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// The context used when none is asked for; the first when absent.
    #[serde(default)]
    pub current_context: Option<String>,
    /// The hubs.
    pub contexts: Vec<Context>,
}

/// One hub and the credential for it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Context {
    /// The context's name.
    #[serde(default = "unnamed")]
    pub name: String,
    /// Where the hub listens: `https://host:port`.
    pub endpoint: String,
    /// The trust domain the hub's certificate must name.
    pub trust_domain: String,
    /// SHA-256 of the public keys of trusted roots, `sha256:<hex>`.
    pub pins: Vec<String>,
    /// The bearer token.
    pub token: String,
}

fn unnamed() -> String {
    UNNAMED.to_owned()
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("name", &self.name)
            .field("endpoint", &self.endpoint)
            .field("trust_domain", &self.trust_domain)
            .field("pins", &self.pins)
            .finish_non_exhaustive()
    }
}

/// Why a client's configuration cannot be used. Never quotes the file, which holds a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// The file is not YAML.
    #[error("line {line}: {message}")]
    Yaml {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// The file does not have the form of a configuration.
    #[error(
        "it must hold endpoint, trustDomain, pins and token, or several of these with a name each under contexts"
    )]
    Form,
    /// The file has no context of that name.
    #[error("it has no context {wanted:?}{}", meant.as_ref().map(|meant| format!("; did you mean {meant:?}?")).unwrap_or_default())]
    NoContext {
        /// The name asked for.
        wanted: String,
        /// The name probably meant.
        meant: Option<String>,
    },
}

impl Access {
    /// Reads a configuration.
    pub fn read(text: &str) -> Result<Self, AccessError> {
        let unreadable = |error: yaml::YamlError| AccessError::Yaml {
            line: error.line,
            message: error.message,
        };
        let documents = yaml::split(text).map_err(unreadable)?;
        let [document] = documents.as_slice() else {
            return Err(AccessError::Form);
        };
        let value = yaml::decode(document).map_err(unreadable)?;
        let read = match value.get("contexts") {
            Some(_) => serde_json::from_value(value),
            None => serde_json::from_value(value).map(|context| Access {
                current_context: None,
                contexts: vec![context],
            }),
        };
        read.map_err(|_| AccessError::Form)
    }

    /// Returns the context of that name, or the current one.
    pub fn context(&self, name: Option<&str>) -> Result<&Context, AccessError> {
        let Some(wanted) = name.or(self.current_context.as_deref()) else {
            return self.contexts.first().ok_or(AccessError::Form);
        };
        self.contexts
            .iter()
            .find(|context| context.name == wanted)
            .ok_or_else(|| AccessError::NoContext {
                wanted: wanted.to_owned(),
                meant: closest(wanted, self.contexts.iter().map(|context| context.name.as_str()))
                    .map(str::to_owned),
            })
    }
}

impl Context {
    /// Writes the file that reaches this one hub. The result holds the token: it belongs in a file of mode 0600.
    pub fn to_yaml(&self) -> String {
        // Every text is written as a JSON string, which is a YAML string too.
        let text = |text: &str| Value::from(text).to_string();
        let pins: String = self.pins.iter().map(|pin| format!("- {}\n", text(pin))).collect();
        format!(
            "name: {}\nendpoint: {}\ntrustDomain: {}\npins:\n{pins}token: {}\n",
            text(&self.name),
            text(&self.endpoint),
            text(&self.trust_domain),
            text(&self.token),
        )
    }
}

/// Returns the hub's data directory: `FLOTILLA_DATA_DIR`, else [`DEFAULT_DATA_DIR`]. Hub and CLI look in the
/// same place, so that on one machine the CLI works without configuration.
pub fn data_dir(variable: impl Fn(&str) -> Option<String>) -> PathBuf {
    set(&variable, "FLOTILLA_DATA_DIR").unwrap_or_else(|| PathBuf::from(DEFAULT_DATA_DIR))
}

/// Returns the user's configuration folder: `flotilla` in `XDG_CONFIG_HOME` or `~/.config`.
pub fn config_dir(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let folder = set(&variable, "XDG_CONFIG_HOME").or_else(|| Some(set(&variable, "HOME")?.join(".config")));
    folder.map(|folder| folder.join("flotilla"))
}

fn set(variable: &impl Fn(&str) -> Option<String>, name: &str) -> Option<PathBuf> {
    variable(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(name: &str) -> Context {
        Context {
            name: name.to_owned(),
            endpoint: "https://127.0.0.1:7443".to_owned(),
            trust_domain: "fleet.example".to_owned(),
            pins: vec!["sha256:00".to_owned(), "sha256:01".to_owned()],
            token: "s3cret: \"quoted\"".to_owned(),
        }
    }

    #[test]
    fn a_file_reaches_one_hub() {
        let written = Access::read(&context("local").to_yaml()).expect("what is written reads back");
        assert_eq!(written.contexts, [context("local")]);
        let by_hand = "# comment\nendpoint: https://h:1\npins:\n  - sha256:00\ntrustDomain: d\ntoken: t\n";
        let read = Access::read(by_hand).expect("a name is not needed");
        assert_eq!(read.context(None).expect("the only one").name, "default");
    }

    #[test]
    fn the_context_asked_for_wins_over_the_current_and_the_first() {
        let entry =
            |name: &str| format!("- {{name: {name}, endpoint: e, trustDomain: d, pins: [], token: t}}\n");
        let contexts = format!("contexts:\n{}{}", entry("local"), entry("prod"));
        let first = Access::read(&contexts).expect("two contexts");
        assert_eq!(first.context(None).expect("the first").name, "local");
        let current = Access::read(&format!("currentContext: prod\n{contexts}")).expect("two contexts");
        assert_eq!(current.context(None).expect("the current").name, "prod");
        assert_eq!(current.context(Some("local")).expect("asked for").name, "local");
        let error = current.context(Some("prd")).expect_err("there is none");
        assert_eq!(
            error.to_string(),
            "it has no context \"prd\"; did you mean \"prod\"?"
        );
    }

    #[test]
    fn no_error_and_no_debug_shows_the_token() {
        assert!(!format!("{:?}", context("local")).contains("s3cret"));
        for bad in [
            "token: s3cret",
            "contexts: [{token: s3cret}]",
            "contexts: [s3cret",
            "- s3cret\n---\na: b",
            "",
        ] {
            let error = Access::read(bad).expect_err(bad);
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn folders_follow_the_environment() {
        let with = |pairs: &'static [(&str, &str)]| {
            move |name: &str| {
                pairs
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| (*value).to_owned())
            }
        };
        assert_eq!(data_dir(with(&[("HOME", "/h")])), PathBuf::from(DEFAULT_DATA_DIR));
        assert_eq!(
            data_dir(with(&[("FLOTILLA_DATA_DIR", "/x")])),
            PathBuf::from("/x")
        );
        assert_eq!(
            config_dir(with(&[("HOME", "/h")])),
            Some("/h/.config/flotilla".into())
        );
        assert_eq!(
            config_dir(with(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/c")])),
            Some("/c/flotilla".into())
        );
        assert_eq!(config_dir(with(&[])), None);
    }
}
