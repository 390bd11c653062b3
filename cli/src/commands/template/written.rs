//! Writes what was rendered to files below a folder, one for each template, as `helm template --output-dir` does.

use std::collections::HashSet;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use flotilla_render::helm::action::{Output, Rendered};

use super::TemplateError;
use crate::commands::below::Below;

/// Writes the files and returns what is printed: a line for each document, and the rest of the output, which is none.
pub(super) fn write(
    rendered: &Rendered,
    output: &Output,
    folder: &str,
    release: Option<&str>,
) -> Result<String, TemplateError> {
    // With a folder of the release Helm joins the two, and shows the path without what changes nothing.
    let clean = release.map(|_| cleaned(folder));
    let mut files = Files {
        folder: clean.as_deref().unwrap_or(folder),
        below: None,
        begun: HashSet::new(),
        said: String::new(),
    };
    let of_release =
        |source: &str| release.map_or_else(|| source.to_owned(), |release| format!("{release}/{source}"));
    for one in rendered.printed_crds(output)? {
        files.document(&one.path, &one.path, &one.text())?;
    }
    for manifest in &rendered.manifests {
        files.document(&of_release(&manifest.source), &manifest.source, &manifest.content)?;
    }
    if !output.no_hooks {
        for hook in rendered
            .hooks
            .iter()
            .filter(|hook| !(output.skip_tests && hook.is_test()))
        {
            files.document(&of_release(&hook.source), &hook.source, &hook.content)?;
        }
    }
    files.said.push('\n');
    Ok(files.said)
}

/// A path without `.`, empty parts, and parts that `..` takes back.
fn cleaned(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match (part, parts.last()) {
            ("..", Some(last)) if *last != ".." => drop(parts.pop()),
            ("..", None) if path.starts_with('/') => {}
            _ => parts.push(part),
        }
    }
    let root = if path.starts_with('/') { "/" } else { "" };
    match parts.is_empty() && root.is_empty() {
        true => ".".to_owned(),
        false => format!("{root}{}", parts.join("/")),
    }
}

struct Files<'f> {
    folder: &'f str,
    /// The folder, once there is something to write.
    below: Option<Below>,
    /// Files that hold a document of this run, to which others are added.
    begun: HashSet<String>,
    said: String,
}

impl Files<'_> {
    fn document(&mut self, name: &str, source: &str, content: &str) -> Result<(), TemplateError> {
        let path = format!("{}/{name}", self.folder);
        let failed = |source| TemplateError::Write {
            path: path.clone(),
            source,
        };
        let below = match &mut self.below {
            Some(below) => below,
            none => {
                let failed = |source: io::Error| TemplateError::Write {
                    path: self.folder.to_owned(),
                    source: match source.kind() {
                        // Who makes a folder is told no more than that.
                        ErrorKind::AlreadyExists => io::Error::from(ErrorKind::NotADirectory),
                        _ => source,
                    },
                };
                fs::create_dir_all(self.folder).map_err(failed)?;
                none.insert(Below::open(Path::new(self.folder)).map_err(failed)?)
            }
        };
        let goes_on = !self.begun.insert(name.to_owned());
        let mut file = below.file(Path::new(name), goes_on).map_err(failed)?;
        write!(file, "---\n# Source: {source}\n{content}\n").map_err(failed)?;
        self.said.push_str(&format!("wrote {path}\n"));
        Ok(())
    }
}
