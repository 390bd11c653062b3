//! Notes on where objects came from and what changed them, for `buildMetadata`.

use crate::yaml::node::{Kind, Node};

use super::resource::{ORIGIN, Resource, TRANSFORMATIONS};

/// The directory a kustomization stands in, relative to where the build started.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origin {
    path: String,
}

impl Origin {
    /// Joins a path to the directory.
    pub(crate) fn join(&self, path: &str) -> Origin {
        let mut parts: Vec<&str> = Vec::new();
        for part in self.path.split('/').chain(path.split('/')) {
            match part {
                "" | "." => {}
                ".." if parts.last().is_some_and(|last| *last != "..") => {
                    parts.pop();
                }
                part => parts.push(part),
            }
        }
        Origin {
            path: parts.join("/"),
        }
    }

    /// Notes the file an object was read from.
    pub(crate) fn note_file(&self, resource: &mut Resource) {
        let text = format!("path: {}\n", self.path);
        if let Some(metadata) = resource.node.get_or_insert("metadata", Kind::Map)
            && let Some(annotations) = metadata.get_or_insert("annotations", Kind::Map)
        {
            if annotations.kind() != Kind::Map {
                *annotations = Node::map();
            }
            annotations.set(ORIGIN, Node::string(text));
        }
    }

    fn configured(&self, file: &str, kind: &str, indent: &str) -> String {
        let file = self.join(file).path;
        format!(
            "configuredIn: {file}\n{indent}configuredBy:\n{indent}  apiVersion: builtin\n{indent}  kind: {kind}\n"
        )
    }

    /// Notes the generator that made an object.
    pub(crate) fn note_generator(&self, resource: &mut Resource, file: &str, kind: &str) {
        let mut annotations = resource.texts("annotations");
        if annotations.contains_key(ORIGIN) {
            return;
        }
        annotations.insert(ORIGIN.into(), self.configured(file, kind, ""));
        resource.set_texts("annotations", &annotations);
    }

    /// Notes a transformer on an object, changed by it or not; on one without origin it counts as its maker.
    pub(crate) fn note_transformer(&self, resource: &mut Resource, file: &str, kind: &str) {
        let mut annotations = resource.texts("annotations");
        if annotations.contains_key(ORIGIN) {
            let list = annotations.entry(TRANSFORMATIONS.into()).or_default();
            list.push_str("- ");
            list.push_str(&self.configured(file, kind, "  "));
        } else {
            annotations.insert(ORIGIN.into(), self.configured(file, kind, ""));
        }
        resource.set_texts("annotations", &annotations);
    }
}
