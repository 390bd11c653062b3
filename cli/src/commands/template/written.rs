//! Writes what was rendered to files below a folder, one for each template, as `helm template --output-dir` does.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use flotilla_render::helm::action::{Output, Rendered};

use super::TemplateError;

/// Writes the files and returns what is printed: a line for each document, and the rest of the output, which is none.
pub(super) fn write(
    rendered: &Rendered,
    output: &Output,
    folder: &str,
    release: Option<&str>,
) -> Result<String, TemplateError> {
    let below = release.map_or_else(|| folder.to_owned(), |release| format!("{folder}/{release}"));
    let mut files = Files::default();
    if output.include_crds {
        for (path, definition) in &rendered.crds {
            files.document(folder, path, definition)?;
        }
    }
    for manifest in &rendered.manifests {
        files.document(&below, &manifest.source, &manifest.content)?;
    }
    if !output.no_hooks {
        for hook in rendered
            .hooks
            .iter()
            .filter(|hook| !(output.skip_tests && hook.is_test()))
        {
            files.document(&below, &hook.source, &hook.content)?;
        }
    }
    files.said.push('\n');
    Ok(files.said)
}

#[derive(Default)]
struct Files {
    /// Files that hold a document of this run, to which others are added.
    begun: HashSet<String>,
    said: String,
}

impl Files {
    fn document(&mut self, folder: &str, source: &str, content: &str) -> Result<(), TemplateError> {
        let path = format!("{folder}/{source}");
        let failed = |source| TemplateError::Write {
            path: path.clone(),
            source,
        };
        if let Some(parent) = Path::new(&path).parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        let goes_on = !self.begun.insert(path.clone());
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .append(goes_on)
            .truncate(!goes_on)
            .open(&path)
            .map_err(failed)?;
        write!(file, "---\n# Source: {source}\n{content}\n").map_err(failed)?;
        self.said.push_str(&format!("wrote {path}\n"));
        Ok(())
    }
}
