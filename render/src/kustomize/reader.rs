//! Reads YAML for a build: what all documents together grow to is taken from the build's bytes, and the caller is asked
//! between them.

use serde_json::Value;

use crate::yaml::node::{Limits, Node, ParseError, Schema, decode_documents, parse_first};

use super::Budget;
use super::error::Result;
use super::steps::Steps;

/// A reader with the bounds of one document and of the build.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'r> {
    limits: Limits,
    steps: &'r Steps<'r>,
}

impl<'r> Reader<'r> {
    /// A reader of files.
    pub(crate) fn new(budget: &Budget, steps: &'r Steps<'r>) -> Reader<'r> {
        Reader {
            limits: budget.yaml,
            steps,
        }
    }

    /// A reader of YAML that stands as text in an object.
    pub(crate) fn of_text(steps: &'r Steps<'r>) -> Reader<'r> {
        Reader {
            limits: Limits::default(),
            steps,
        }
    }

    /// Reads every document of a file and says how many parts it has; what is empty or null is left out.
    pub(crate) fn documents(&self, bytes: &[u8]) -> Result<(usize, Vec<Node>)> {
        self.documents_with_lines(bytes, &mut Vec::new())
    }

    /// As [`Self::documents`], and gathers the line that each begins with.
    pub(crate) fn documents_with_lines(
        &self,
        bytes: &[u8],
        lines: &mut Vec<usize>,
    ) -> Result<(usize, Vec<Node>)> {
        decode_documents(bytes, |part| {
            let document = self.taken(part.bytes(), |limits| part.read(limits))?;
            if document.is_some() {
                lines.push(part.line());
            }
            Ok(document)
        })
    }

    /// Reads the first document of a text.
    pub(crate) fn first(&self, bytes: &[u8]) -> Result<Option<Node>> {
        self.taken(bytes.len(), |limits| parse_first(bytes, limits))
    }

    /// Reads the first document of a text as JSON; null when there is none.
    pub(crate) fn json(&self, bytes: &[u8], schema: Schema) -> Result<Value> {
        match self.first(bytes)? {
            Some(node) => self.to_json(&node, schema),
            None => Ok(Value::Null),
        }
    }

    /// Makes JSON of a document, which is taken before: each of its values, and what maps take by themselves.
    pub(crate) fn to_json(self, node: &Node, schema: Schema) -> Result<Value> {
        self.steps.spend_copy(node.count(), node.text_bytes())?;
        self.steps.hold(node.json_map_bytes())?;
        Ok(node.to_json(schema)?)
    }

    /// Returns the steps of the build.
    pub(crate) fn steps(&self) -> &'r Steps<'r> {
        self.steps
    }

    /// Reads one document of a text of so many bytes with what the build still has, and takes what it grew to.
    fn taken(
        &self,
        bytes: usize,
        read: impl FnOnce(Limits) -> Result<Option<Node>, ParseError>,
    ) -> Result<Option<Node>> {
        self.steps.spend_text(bytes)?;
        let left = self.steps.within(self.limits);
        let document = read(left).map_err(|error| match error {
            ParseError::TooLarge { what, limit } if self.is_of_build(what, limit) => {
                self.steps.out_of_bytes()
            }
            error => error.into(),
        })?;
        if let Some(document) = &document {
            self.steps.spend_nodes(document.count())?;
            self.steps.spend_bytes(document.text_bytes())?;
        }
        Ok(document)
    }

    /// Tells whether the bound that a document passed is not one of documents but what the build had left.
    fn is_of_build(&self, what: &str, limit: usize) -> bool {
        match what {
            "nodes" => limit < self.limits.nodes,
            "levels" => false,
            _ => limit < self.limits.bytes,
        }
    }
}
