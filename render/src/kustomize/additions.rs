//! What generators add to one object: its maps are kept open between them, so that each addition costs what it adds
//! and not what is there.

use std::collections::BTreeMap;

use smol_str::SmolStr;

use crate::yaml::node::{Content, Kind, Node};

use super::error::Result;
use super::generators::data_node;
use super::resource::{BUILD_ANNOTATIONS, ORIGIN, Resource};
use super::steps::Steps;

/// The fields of data that generators merge.
const DATA: [&str; 2] = ["data", "binaryData"];

type Texts = BTreeMap<SmolStr, SmolStr>;

/// The labels, annotations and data of one object, taken out of its tree.
#[derive(Debug, Clone)]
pub(crate) struct Additions {
    labels: Texts,
    annotations: Texts,
    /// None where there is no such field; only one that replaced another may be empty.
    data: [Option<Texts>; 2],
}

impl Additions {
    /// Takes the maps out of an object that generators add to.
    pub(crate) fn open(old: &mut Resource, steps: &Steps<'_>) -> Result<Additions> {
        let mut annotations = metadata(old, "annotations", steps)?;
        annotations.retain(|name, _| !is_of_build(name));
        Ok(Additions {
            labels: metadata(old, "labels", steps)?,
            annotations,
            data: data(old, steps)?,
        })
    }

    /// Takes what a generated object adds, whose entries win. Where the object came from stays as it is.
    pub(crate) fn merge(&mut self, new: &mut Resource, steps: &Steps<'_>) -> Result<()> {
        let origin = self.annotations.get(ORIGIN).cloned();
        self.take_metadata(new, steps)?;
        self.annotations
            .extend(origin.map(|origin| (SmolStr::new_static(ORIGIN), origin)));
        for (all, added) in self.data.iter_mut().zip(data(new, steps)?) {
            let mut merged = all.take().unwrap_or_default();
            merged.extend(added.unwrap_or_default());
            *all = (!merged.is_empty()).then_some(merged);
        }
        Ok(())
    }

    /// As [`Additions::merge`], but nothing stays of the data, of which even an empty field is taken, and where the
    /// generated object came from wins too.
    pub(crate) fn replace(&mut self, new: &mut Resource, steps: &Steps<'_>) -> Result<()> {
        self.take_metadata(new, steps)?;
        self.data = data(new, steps)?;
        Ok(())
    }

    fn take_metadata(&mut self, new: &mut Resource, steps: &Steps<'_>) -> Result<()> {
        self.labels.extend(metadata(new, "labels", steps)?);
        let added = metadata(new, "annotations", steps)?;
        self.annotations
            .extend(added.into_iter().filter(|(name, _)| !is_of_build(name)));
        Ok(())
    }

    /// Writes the maps into the object that they belong to.
    pub(crate) fn close(self, resource: &mut Resource, steps: &Steps<'_>) -> Result<()> {
        for (field, texts) in [("labels", self.labels), ("annotations", self.annotations)] {
            steps.spend_nodes(2 * texts.len())?;
            resource.put_texts(field, texts);
        }
        resource.restore_mark();
        for (field, texts) in DATA.into_iter().zip(self.data) {
            let Some(texts) = texts else { continue };
            steps.spend_nodes(2 * texts.len())?;
            if let Some(map) = resource.node.get_or_insert(field, Kind::Map) {
                for (key, value) in texts {
                    map.append(key, data_node(value));
                }
            }
        }
        Ok(())
    }
}

fn is_of_build(annotation: &str) -> bool {
    BUILD_ANNOTATIONS.contains(&annotation)
}

fn metadata(resource: &mut Resource, field: &str, steps: &Steps<'_>) -> Result<Texts> {
    let map = resource.node.get_mut("metadata").and_then(|m| m.remove(field));
    texts(map, text, steps)
}

fn data(resource: &mut Resource, steps: &Steps<'_>) -> Result<[Option<Texts>; 2]> {
    let [data, binary] = DATA.map(|field| resource.node.remove(field));
    let taken = |field: Option<Node>| field.map(|map| texts(Some(map), data_text, steps)).transpose();
    Ok([taken(data)?, taken(binary)?])
}

/// Moves the texts of a map out of it.
fn texts(map: Option<Node>, value_of: fn(Node) -> SmolStr, steps: &Steps<'_>) -> Result<Texts> {
    let Some(Node {
        content: Content::Map(fields),
        ..
    }) = map
    else {
        return Ok(Texts::new());
    };
    steps.spend(fields.len())?;
    Ok(fields
        .into_iter()
        .map(|(key, value)| (text(key), value_of(value)))
        .collect())
}

/// Returns the text of an entry of data, where null is none.
fn data_text(node: Node) -> SmolStr {
    if node.is_null() {
        return SmolStr::default();
    }
    text(node)
}

fn text(node: Node) -> SmolStr {
    match node.content {
        Content::Scalar(text) => text,
        Content::Seq(_) | Content::Map(_) => SmolStr::default(),
    }
}
