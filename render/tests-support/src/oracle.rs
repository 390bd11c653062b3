//! What Helm itself does.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::Program;

/// A running Helm: one question a line, one answer a line.
#[derive(Debug)]
pub struct Oracle(Program);

/// What the reference answered: `Err` holds its error text, which [`aborted`] tells from the end of the program.
pub type Answer = Result<Output, String>;

/// What the error text of a reference begins with that ended in place of an answer.
const ABORTED: &str = "the reference aborts: ";

/// Returns whether the reference gave no answer, but ended: there is nothing to agree with, and ours has to refuse.
pub fn aborted(error: &str) -> bool {
    error.starts_with(ABORTED)
}

/// The reference's output.
#[derive(Debug, Default)]
pub struct Output {
    /// The text of an operation with one output.
    pub text: String,
    /// The texts by template name.
    pub files: BTreeMap<String, String>,
    /// The least time of one run, when repeats were asked for.
    pub nanos: u64,
}

/// Returns a text of an answer, by its bytes where it is no UTF-8.
fn text(text: &Value, bytes: &Value) -> String {
    use base64::Engine as _;
    match bytes.as_str() {
        None => text.as_str().unwrap_or_default().to_owned(),
        Some(encoded) => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(encoded);
            shown(&bytes.expect("the oracle writes base64"))
        }
    }
}

/// Returns bytes as text in which each that is no UTF-8 is seen: U+FFFD and its two digits.
pub fn shown(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\u{fffd}{byte:02x}"));
        }
    }
    text
}

impl Oracle {
    /// Starts the Helm that decides.
    pub fn start() -> Oracle {
        // The linker gives a release its whole version, as the project builds it.
        Oracle(Program::start(
            "helm",
            "-X helm.sh/helm/v4/internal/version.version=v4.3.1",
        ))
    }

    /// Starts the last Helm of the third series, which has the operations on templates and charts only.
    pub fn helm3() -> Oracle {
        Oracle(Program::start("helm3", ""))
    }

    /// Asks one question; its fields are those of `request` in `render/oracle/helm/main.go`.
    ///
    /// # Errors
    ///
    /// What the reference says of its failure, or of its end.
    pub fn ask(&mut self, question: &Value) -> Answer {
        let answer = self
            .0
            .ask(question)
            .map_err(|words| format!("{ABORTED}{words}"))?;
        if answer["failed"].as_bool().unwrap_or(true) {
            return Err(answer["error"].as_str().unwrap_or_default().to_owned());
        }
        let files = answer["files"].as_object().into_iter().flatten();
        Ok(Output {
            text: text(&answer["output"], &answer["bytes"]),
            files: files
                .map(|(name, found)| (name.clone(), text(found, &answer["fileBytes"][name])))
                .collect(),
            nanos: answer["nanos"].as_u64().unwrap_or_default(),
        })
    }

    /// Asks an operation that takes one text.
    ///
    /// # Errors
    ///
    /// As [`Oracle::ask`].
    pub fn text(&mut self, op: &str, text: &str) -> Result<String, String> {
        self.ask(&json!({ "op": op, "text": text }))
            .map(|output| output.text)
    }
}
