//! Notes on where objects came from and what changed them, for `buildMetadata`.

use serde_json::Value;

use crate::yaml::node::{Kind, Node, to_block};

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

    /// Returns how long a note of it is, or a little more.
    pub(crate) fn length(&self) -> usize {
        "path: \n".len() + self.path.len()
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

    /// Returns what a field of a kustomization file configures.
    pub(crate) fn of_field(&self, file: &str, kind: &str) -> Maker {
        Maker {
            file: self.join(file).path,
            api_version: "builtin".to_owned(),
            kind: kind.to_owned(),
            ..Maker::default()
        }
    }
}

/// A generator or a transformer: where it is configured, and by which object.
#[derive(Debug, Clone, Default)]
pub(crate) struct Maker {
    file: String,
    api_version: String,
    kind: String,
    name: String,
    namespace: String,
}

impl Maker {
    /// Returns what the object of a plugin configures; none when it does not say which file it is from.
    pub(crate) fn of_plugin(object: &Value) -> Option<Maker> {
        let metadata = object.get("metadata");
        let text = |within: Option<&Value>, field: &str| {
            let value = within.and_then(|value| value.get(field)).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        let origin = metadata?.get("annotations")?.get(ORIGIN)?.as_str()?;
        let file = origin.lines().find_map(|line| line.strip_prefix("path: "));
        Some(Maker {
            file: file.unwrap_or_default().to_owned(),
            api_version: text(Some(object), "apiVersion"),
            kind: text(Some(object), "kind"),
            name: text(metadata, "name"),
            namespace: text(metadata, "namespace"),
        })
    }

    /// Returns how long a note of it is at most: a text may be quoted, and each of its bytes escaped.
    pub(crate) fn length(&self) -> usize {
        let texts = [
            &self.file,
            &self.api_version,
            &self.kind,
            &self.name,
            &self.namespace,
        ];
        100 + 2 * texts.iter().map(|text| text.len()).sum::<usize>()
    }

    /// Writes the maker as the lines of a note.
    fn lines(&self) -> Vec<String> {
        let field = |name: &str, text: &str| {
            (!text.is_empty()).then(|| {
                let mut node = Node::string(text);
                node.quote_if_ambiguous();
                format!("{name}: {}", to_block(&node).trim_end())
            })
        };
        let by = [
            field("  apiVersion", &self.api_version),
            field("  kind", &self.kind),
            field("  name", &self.name),
            field("  namespace", &self.namespace),
        ];
        field("configuredIn", &self.file)
            .into_iter()
            .chain(["configuredBy:".to_owned()])
            .chain(by.into_iter().flatten())
            .collect()
    }

    fn whole(&self) -> String {
        self.lines().iter().map(|line| format!("{line}\n")).collect()
    }

    /// Notes the generator that made an object.
    pub(crate) fn note_generated(&self, resource: &mut Resource) {
        let mut annotations = resource.texts("annotations");
        if annotations.contains_key(ORIGIN) {
            return;
        }
        annotations.insert(ORIGIN.into(), self.whole());
        resource.set_texts("annotations", &annotations);
    }

    /// Notes a transformer on an object, changed by it or not; on one without origin it counts as its maker.
    pub(crate) fn note_transformed(&self, resource: &mut Resource) {
        let mut annotations = resource.texts("annotations");
        if annotations.contains_key(ORIGIN) {
            let list = annotations.entry(TRANSFORMATIONS.into()).or_default();
            for (at, line) in self.lines().iter().enumerate() {
                list.push_str(if at == 0 { "- " } else { "  " });
                list.push_str(line);
                list.push('\n');
            }
        } else {
            annotations.insert(ORIGIN.into(), self.whole());
        }
        resource.set_texts("annotations", &annotations);
    }
}
