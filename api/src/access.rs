//! How a client reaches a hub: the file the hub writes at its first start (`admin.yaml`) and a user keeps in
//! the configuration folder. One form for both, so that the first can be copied to be the second.
//!
//! Pure: the caller reads files and environment.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::edit::closest;
use crate::yaml;

/// The file's name, in the data directory and in the configuration folder `flotilla`.
pub const FILE: &str = "admin.yaml";

/// A client's configuration: one or more hubs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// The context used when none is asked for; the first when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_context: Option<String>,
    /// The hubs.
    pub contexts: Vec<Context>,
}

/// One hub and the credential for it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Context {
    /// The context's name.
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
    #[error("it must have contexts, each with name, endpoint, trustDomain, pins and token")]
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
        serde_json::from_value(value).map_err(|_| AccessError::Form)
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

    /// Writes the configuration as YAML. The result holds the token: it belongs in a file of mode 0600.
    pub fn to_yaml(&self) -> String {
        // Every text is written as a JSON string, which is a YAML string too.
        let text = |text: &str| Value::from(text).to_string();
        let mut yaml = String::new();
        if let Some(current) = &self.current_context {
            yaml.push_str(&format!("currentContext: {}\n", text(current)));
        }
        yaml.push_str("contexts:\n");
        for context in &self.contexts {
            yaml.push_str(&format!("- name: {}\n", text(&context.name)));
            yaml.push_str(&format!("  endpoint: {}\n", text(&context.endpoint)));
            yaml.push_str(&format!("  trustDomain: {}\n", text(&context.trust_domain)));
            let pins: Vec<_> = context.pins.iter().map(|pin| text(pin)).collect();
            yaml.push_str(&format!("  pins: [{}]\n", pins.join(", ")));
            yaml.push_str(&format!("  token: {}\n", text(&context.token)));
        }
        yaml
    }
}

/// Returns the hub's data directory: `FLOTILLA_DATA_DIR`, else `flotilla` in the user's data folder. Hub and
/// CLI look in the same place, so that on one machine the CLI works without configuration.
pub fn data_dir(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    folder(variable, "FLOTILLA_DATA_DIR", "XDG_DATA_HOME", ".local/share")
}

/// Returns the user's configuration folder: `flotilla` in `XDG_CONFIG_HOME` or `~/.config`.
pub fn config_dir(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    folder(variable, "FLOTILLA_CONFIG_DIR", "XDG_CONFIG_HOME", ".config")
}

fn folder(variable: impl Fn(&str) -> Option<String>, own: &str, xdg: &str, in_home: &str) -> Option<PathBuf> {
    let set = |name: &str| {
        variable(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set(own)
        .or_else(|| set(xdg).map(|folder| folder.join("flotilla")))
        .or_else(|| set("HOME").map(|home| home.join(in_home).join("flotilla")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        let context = |name: &str| Context {
            name: name.to_owned(),
            endpoint: "https://127.0.0.1:8443".to_owned(),
            trust_domain: "fleet.example".to_owned(),
            pins: vec!["sha256:00".to_owned(), "sha256:01".to_owned()],
            token: "s3cret: \"quoted\"".to_owned(),
        };
        Access {
            current_context: None,
            contexts: vec![context("local"), context("prod")],
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut access = access();
        assert_eq!(Access::read(&access.to_yaml()), Ok(access.clone()));
        access.current_context = Some("prod".to_owned());
        assert_eq!(Access::read(&access.to_yaml()), Ok(access));
    }

    #[test]
    fn the_context_asked_for_wins_over_the_current_and_the_first() {
        let mut access = access();
        assert_eq!(access.context(None).expect("the first").name, "local");
        access.current_context = Some("prod".to_owned());
        assert_eq!(access.context(None).expect("the current").name, "prod");
        assert_eq!(access.context(Some("local")).expect("asked for").name, "local");
        let error = access.context(Some("prd")).expect_err("there is none");
        assert_eq!(
            error.to_string(),
            "it has no context \"prd\"; did you mean \"prod\"?"
        );
    }

    #[test]
    fn no_error_and_no_debug_shows_the_token() {
        assert!(!format!("{:?}", access()).contains("s3cret"));
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
        assert_eq!(
            data_dir(with(&[("HOME", "/h")])),
            Some("/h/.local/share/flotilla".into())
        );
        assert_eq!(
            data_dir(with(&[("HOME", "/h"), ("XDG_DATA_HOME", "/d")])),
            Some("/d/flotilla".into())
        );
        assert_eq!(
            data_dir(with(&[("HOME", "/h"), ("FLOTILLA_DATA_DIR", "/x")])),
            Some("/x".into())
        );
        assert_eq!(
            config_dir(with(&[("HOME", "/h")])),
            Some("/h/.config/flotilla".into())
        );
        assert_eq!(data_dir(with(&[])), None);
    }
}
