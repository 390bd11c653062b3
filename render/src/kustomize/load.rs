//! Turns the text of a manifest file into objects: documents split, lists opened, names and kinds required.

use serde_json::Value;

use crate::yaml::node::{Node, ResolveError, Schema};

use super::reader::Reader;

/// Why a text does not yield objects.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The text is not YAML; fix the text.
    #[error("{0}")]
    Text(String),
    /// A bound was reached; a smaller source helps.
    #[error("{0}")]
    TooLarge(String),
    /// The caller asked to stop.
    #[error("the build was cancelled")]
    Cancelled,
    /// A document has no kind.
    #[error("{}", format!("missing kind in object {}", .0).trim_end())]
    Kind(String),
    /// A document has no name.
    #[error("missing metadata.name in object {0}")]
    Name(String),
    /// A document is no object.
    #[error("missing Resource metadata")]
    Metadata,
    /// One of several documents, or of the items of a list, is no object.
    #[error("{error} (in {place})")]
    Within {
        /// Which.
        place: String,
        /// What is wrong with it.
        error: Box<LoadError>,
    },
    /// A list cannot be opened.
    #[error("trouble expanding list of {kind}: {source}")]
    List {
        /// The list's kind.
        kind: String,
        /// What its content lacks.
        #[source]
        source: ResolveError,
    },
    /// The items of a list are no list.
    #[error("expected array in {0}/items")]
    Items(String),
}

impl LoadError {
    /// Says where in its file the fault is, where that is known and something else stands there as well.
    fn within(self, place: Option<String>) -> LoadError {
        match place {
            Some(place) if !self.is_final() => LoadError::Within {
                place,
                error: Box::new(self),
            },
            _ => self,
        }
    }

    /// Tells whether nothing but a stop helps: a bound was reached, or the caller asked for it.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, LoadError::TooLarge(_) | LoadError::Cancelled)
    }
}

/// Reads the objects of a manifest file, with the lists among them replaced by their items.
pub(crate) fn objects(bytes: &[u8], reader: Reader<'_>) -> Result<Vec<Node>, LoadError> {
    let mut lines = Vec::new();
    let (count, documents) = reader.documents_with_lines(bytes, &mut lines)?;
    let mut nodes: Vec<Node> = Vec::with_capacity(documents.len());
    for (document, line) in documents.into_iter().zip(lines) {
        match unwrapped(count, document) {
            Ok(items) => nodes.extend(checked(items, &|at| Some(format!("items[{at}]")))?),
            Err(document) => {
                let place = || format!("the document that begins at line {line}");
                nodes.extend(checked(vec![*document], &|_| (count > 1).then(place))?);
            }
        }
    }
    if nodes.iter().any(|node| kind(node).ends_with("List")) {
        opened(nodes, reader)
    } else {
        Ok(nodes)
    }
}

/// Takes the items out of a `List` that is the only document of its file.
fn unwrapped(count: usize, mut document: Node) -> Result<Vec<Node>, Box<Node>> {
    let wraps = count == 1
        && matches!(kind(&document), "List" | "ResourceList")
        && (document.get("items").is_some() || document.get("functionConfig").is_some());
    if !wraps {
        return Err(Box::new(document));
    }
    let mut items = document.remove("items");
    Ok(items
        .as_mut()
        .and_then(Node::items_mut)
        .map(std::mem::take)
        .unwrap_or_default())
}

/// Leaves out empty documents and requires kind and name of the others; `place` says where each stands.
fn checked(nodes: Vec<Node>, place: &dyn Fn(usize) -> Option<String>) -> Result<Vec<Node>, LoadError> {
    let mut kept = Vec::with_capacity(nodes.len());
    for (at, node) in nodes.into_iter().enumerate() {
        if node.is_empty() {
            continue;
        }
        validate(&node).map_err(|error| error.within(place(at)))?;
        kept.push(node);
    }
    Ok(kept)
}

/// Requires kind and name, as kustomize does of everything it prints.
pub(crate) fn validate(node: &Node) -> Result<(), LoadError> {
    let metadata = node.get("metadata").filter(|m| !m.is_empty());
    let some = |n: Option<&Node>| n.is_some_and(|n| !n.is_empty());
    let named = metadata
        .and_then(|m| m.get("name"))
        .filter(|n| !n.is_empty())
        .map(Node::text);
    let labelled = metadata.is_some_and(|m| {
        ["name", "namespace", "labels", "annotations"]
            .iter()
            .any(|f| some(m.get(f)))
    });
    if !some(node.get("apiVersion")) && !some(node.get("kind")) && !labelled {
        return Err(LoadError::Metadata);
    }
    let kind = kind(node);
    if kind.is_empty() {
        return Err(LoadError::Kind(named.unwrap_or_default().to_string()));
    }
    if !kind.ends_with("List") && named.is_none_or(str::is_empty) {
        return Err(LoadError::Name(kind.to_string()));
    }
    Ok(())
}

fn kind(node: &Node) -> &str {
    node.get("kind").filter(|k| !k.is_empty()).map_or("", Node::text)
}

/// Replaces every `…List` by its items, which go to the end, as kustomize has it.
fn opened(nodes: Vec<Node>, reader: Reader<'_>) -> Result<Vec<Node>, LoadError> {
    let mut queue: std::collections::VecDeque<Node> = nodes.into();
    let mut opened = Vec::new();
    while let Some(node) = queue.pop_front() {
        let kind = kind(&node).to_string();
        if !kind.ends_with("List") || node.get("items").is_none() {
            opened.push(node);
            continue;
        }
        reader.steps().spend_copy(node.count(), node.text_bytes())?;
        reader.steps().hold(node.json_map_bytes())?;
        let list = node.to_json(Schema::New).map_err(|source| LoadError::List {
            kind: kind.clone(),
            source,
        })?;
        match list.get("items") {
            Some(Value::Null) | None => {}
            Some(Value::Array(items)) => {
                for (at, item) in items.iter().enumerate() {
                    let objects = objects_of(item, reader);
                    queue.extend(objects.map_err(|error| error.within(Some(format!("{kind}.items[{at}]"))))?);
                }
            }
            Some(_) => return Err(LoadError::Items(kind)),
        }
    }
    Ok(opened)
}

fn objects_of(item: &Value, reader: Reader<'_>) -> Result<Vec<Node>, LoadError> {
    let (count, documents) = reader.documents(item.to_string().as_bytes())?;
    let nodes = documents
        .into_iter()
        .map(|d| unwrapped(count, d).unwrap_or_else(|d| vec![*d]));
    checked(nodes.flatten().collect(), &|_| None)
}
