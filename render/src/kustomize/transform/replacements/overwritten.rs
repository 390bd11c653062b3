//! Which replacement wrote something of another type over a field: the object has no meaning then, unless that is
//! mended before it is read.

use std::fmt;

use serde_json::Value;

use crate::kustomize::error::{Error, Result, invalid, shortened};
use crate::kustomize::listed::Listed;
use crate::kustomize::resource::Resource;
use crate::kustomize::steps::Steps;
use crate::kustomize::transform::paths::{self, visit};
use crate::yaml::node::{Content, Node, ResolveError, Schema};

/// A note of a replacement on the object that it wrote into.
#[derive(Debug, Clone)]
pub(crate) struct Overwritten {
    /// The replacement, and what it copies.
    by: String,
    path: String,
}

impl Overwritten {
    pub(super) fn new(listed: &Listed, file: &str, source: &str, path: &str) -> Overwritten {
        Overwritten {
            by: format!(
                "{listed} of {} wrote it, from {}",
                shortened(file),
                shortened(source)
            ),
            path: path.to_owned(),
        }
    }

    /// Returns how many bytes it holds.
    pub(crate) fn length(&self) -> usize {
        size_of::<Overwritten>() + self.by.len() + self.path.len()
    }
}

impl fmt::Display for Overwritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to \"{}\"", self.by, shortened(&self.path))
    }
}

/// Reads an object as JSON; the failure of a field that is of another type names the replacement that wrote there.
pub(crate) fn to_json(resource: &mut Resource, steps: &Steps<'_>) -> Result<Value, Failure> {
    let error = match resource.node.to_json(Schema::New) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let notes = std::mem::take(&mut resource.overwritten);
    let by = match (&error, first_mistyped(&resource.node).map(std::ptr::from_ref)) {
        // The last one wrote what stands there.
        (ResolveError::Type { .. }, Some(field)) => {
            let mut notes = notes.into_iter().rev();
            notes.find(|note| is_of(note, resource, field, steps))
        }
        _ => None,
    };
    Err(Failure { error, by })
}

/// Why an object has no meaning, and perhaps by which replacement.
pub(crate) struct Failure {
    pub(crate) error: ResolveError,
    pub(crate) by: Option<Overwritten>,
}

impl From<Failure> for Box<Error> {
    fn from(failure: Failure) -> Box<Error> {
        match failure.by {
            Some(by) => invalid(format!("{}: {by}", failure.error)),
            None => failure.error.into(),
        }
    }
}

/// Finds the field that an error of the whole tells.
fn first_mistyped(node: &Node) -> Option<&Node> {
    match &node.content {
        Content::Scalar(_) => node.is_mistyped().then_some(node),
        Content::Seq(items) => items.iter().find_map(first_mistyped),
        Content::Map(fields) => fields.iter().find_map(|(_, value)| first_mistyped(value)),
    }
}

/// Tells whether a note is of a field of the object.
fn is_of(note: &Overwritten, resource: &mut Resource, field: *const Node, steps: &Steps<'_>) -> bool {
    let Ok(parts) = paths::parse(&note.path) else {
        return false;
    };
    let mut found = false;
    let visited = visit(&mut resource.node, &parts, None, steps, &mut |node| {
        found |= std::ptr::eq(node, field);
        Ok(())
    });
    visited.is_ok() && found
}
