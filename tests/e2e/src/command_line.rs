//! The built command line, as an operator runs it.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::program::built;

/// The command line with the credentials of one hub, whether that runs or not.
#[derive(Debug, Clone)]
pub struct CommandLine {
    config: PathBuf,
}

impl CommandLine {
    /// With the credentials of this file.
    pub fn of(config: &Path) -> Self {
        Self {
            config: config.to_owned(),
        }
    }

    /// Runs it; its standard output.
    pub fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = Command::new(built("flotilla")?)
            .args(args)
            .env_clear()
            .env("FLOTILLA_CONFIG", &self.config)
            .output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!(
                "flotilla {} ended with {}: {}",
                args.join(" "),
                output.status,
                said.trim()
            );
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs it with `-o json`; what it lists.
    pub fn list(&self, args: &[&str]) -> anyhow::Result<Vec<Value>> {
        let text = self.run(&[args, &["-o", "json"]].concat())?;
        let mut listed: Value = serde_json::from_str(&text)
            .with_context(|| format!("flotilla {} printed no JSON: {text}", args.join(" ")))?;
        Ok(match listed.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => items,
            _ => vec![listed],
        })
    }

    /// Applies manifests.
    pub fn apply(&self, manifests: &str) -> anyhow::Result<String> {
        let mut file = tempfile::NamedTempFile::with_suffix(".yaml")?;
        file.write_all(manifests.as_bytes())?;
        self.run(&["apply", "-f", &file.path().display().to_string()])
    }
}
