//! What kustomize itself makes of a source.

use flotilla_render_tests::Program;
use serde::Deserialize;
use serde_json::json;

use crate::corpus::Case;

/// The version that `managedByLabel` names.
const VERSION_FLAG: &str = "-X sigs.k8s.io/kustomize/api/provenance.version=kustomize/v5.8.1";

/// What kustomize made of a case.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Answer {
    pub(crate) id: String,
    pub(crate) error: Option<String>,
    pub(crate) yaml: String,
}

/// A running kustomize.
pub(crate) struct Oracle(Program);

impl Oracle {
    pub(crate) fn start() -> Oracle {
        Oracle(Program::start("kustomize", VERSION_FLAG))
    }

    /// Asks what kustomize makes of a case.
    pub(crate) fn ask(&mut self, case: &Case) -> Answer {
        let request = json!({ "id": case.name, "files": case.files, "dir": case.directory });
        let answer = match self.0.ask(&request) {
            Ok(answer) => answer,
            Err(words) => panic!("kustomize aborts on {}: {words}", case.name),
        };
        let answer: Answer = serde_json::from_value(answer).expect("an answer has these fields");
        assert_eq!(answer.id, case.name, "the oracle answers in order");
        answer
    }
}
