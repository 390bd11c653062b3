//! Writes a value into the fields of an object, and remembers from replacement to replacement where they stand.

use super::copied;
use super::maps::{Found, Maps};
use super::texts::{Texts, put, rewritten, text_on_path};
use crate::kustomize::depth;
use crate::kustomize::error::{At, Result, invalid, shortened};
use crate::kustomize::kustomization::FieldOptions;
use crate::kustomize::steps::Steps;
use crate::kustomize::transform::paths::{self, Step, Trail, lookup, visit};
use crate::yaml::node::{Content, Kind, Node};

/// Finds fields of the objects at positions, and writes into them.
pub(super) struct Fields<'s> {
    maps: Maps,
    texts: Texts,
    steps: &'s Steps<'s>,
}

/// What is written: a value, and into which part of a field.
#[derive(Clone, Copy)]
pub(super) struct Given<'g> {
    pub(super) value: &'g Node,
    pub(super) options: Option<&'g FieldOptions>,
}

impl Given<'_> {
    /// The kind of what is made where nothing stands.
    fn create(&self) -> Option<Kind> {
        self.options.filter(|o| o.create).map(|_| self.value.kind())
    }

    fn missing(&self, path: &str) -> String {
        let or_create = match self.create() {
            Some(_) => "find or create",
            None => "find",
        };
        format!("unable to {or_create} field \"{path}\" in replacement target")
    }

    /// Writes into a field; returns whether it has no meaning now, being of another type.
    fn put(&self, node: &mut Node, steps: &Steps<'_>) -> Result<bool> {
        copied(self.value, steps)?;
        if self.options.is_some() {
            // What stands there may be kept in part, and written anew.
            steps.spend_bytes(node.text().len())?;
        }
        set(node, self.value, self.options)?;
        Ok(node.is_mistyped())
    }
}

impl<'s> Fields<'s> {
    pub(super) fn new(steps: &'s Steps<'s>) -> Fields<'s> {
        Fields {
            maps: Maps::default(),
            texts: Texts::default(),
            steps,
        }
    }

    /// Follows a path in the object at a position.
    pub(super) fn lookup<'n>(
        &mut self,
        position: usize,
        object: &'n Node,
        path: &str,
    ) -> Result<Option<&'n Node>> {
        let parts = paths::parse(path)?;
        match self.maps.find(position, object, &parts, self.steps)? {
            Found::Node(trail) => Ok(trail.node(object)),
            Found::Lacking(_) => Ok(None),
            Found::Text(..) | Found::Elsewhere => lookup(object, &parts, self.steps),
        }
    }

    /// Writes into the fields that a path leads to; returns whether one of them has no meaning now.
    pub(super) fn write(
        &mut self,
        position: usize,
        object: &mut Node,
        path: &str,
        given: Given<'_>,
    ) -> Result<bool> {
        let steps = self.steps;
        steps.spend_text(path.len())?;
        let parts = paths::parse(path)?;
        depth::check(parts.len() + depth::of(given.value).depth, || {
            format!("the value for '{}'", shortened(path))
        })?;
        let text = match self.maps.find(position, object, &parts, steps)? {
            Found::Node(trail) => return self.write_node(position, object, &trail, given),
            Found::Lacking(trail) => {
                let (Some(kind), Some(Step::Field(name))) = (given.create(), parts.last()) else {
                    return Err(invalid(given.missing(path)));
                };
                return self.write_new(position, object, &trail, (name, kind), given);
            }
            Found::Text(trail, length) => Some((trail, length)),
            Found::Elsewhere => text_on_path(object, &parts, steps)?,
        };
        if let Some((trail, length)) = text
            && self.write_text(position, object, &trail, parts.split_at(length), given)?
        {
            return Ok(false);
        }
        let mut mistyped = false;
        let found = visit(object, &parts, given.create(), steps, &mut |node| {
            mistyped |= given.put(node, steps)?;
            Ok(())
        });
        let found = found.of(|| given.missing(path))?;
        self.maps.forget(position, &[], steps);
        match found {
            0 => Err(invalid(given.missing(path))),
            _ => Ok(mistyped),
        }
    }

    fn write_node(
        &mut self,
        position: usize,
        object: &mut Node,
        trail: &Trail,
        given: Given<'_>,
    ) -> Result<bool> {
        let Some(node) = trail.node_mut(object) else {
            return Ok(false);
        };
        let is_scalar = node.kind() == Kind::Scalar;
        let mistyped = given.put(node, self.steps)?;
        if !is_scalar || node.kind() != Kind::Scalar {
            self.maps.forget(position, trail.places(), self.steps);
        }
        Ok(mistyped)
    }

    /// Adds a field to the map that a trail leads to.
    fn write_new(
        &mut self,
        position: usize,
        object: &mut Node,
        trail: &Trail,
        (name, kind): (&str, Kind),
        given: Given<'_>,
    ) -> Result<bool> {
        let Some(map) = trail.node_mut(object) else {
            return Ok(false);
        };
        map.push_field(name, Node::empty(kind));
        self.maps.note_added(position, trail.places(), name, self.steps)?;
        match &mut map.content {
            Content::Map(fields) => match fields.last_mut() {
                Some((_, field)) => given.put(field, self.steps),
                None => Ok(false),
            },
            _ => Ok(false),
        }
    }

    /// Writes into the text that a trail leads to; returns whether the rest of the path leads to something in it.
    fn write_text(
        &mut self,
        position: usize,
        object: &mut Node,
        trail: &Trail,
        (path, rest): (&[Step], &[Step]),
        given: Given<'_>,
    ) -> Result<bool> {
        let Some(node) = trail.node_mut(object) else {
            return Ok(false);
        };
        let written = rewritten(node.text(), rest, given.value, given.create(), self.steps)?;
        let Some(written) = written else { return Ok(false) };
        self.texts.took(position, path, written.len(), self.steps)?;
        put(node, written.into());
        Ok(true)
    }

    /// Gives back what was remembered.
    pub(super) fn end(self) {
        self.maps.end(self.steps);
    }
}

fn set(node: &mut Node, value: &Node, options: Option<&FieldOptions>) -> Result<()> {
    let mut text = value.text().to_string();
    let mut value = value.clone();
    if let Some(options) = options.filter(|o| !o.delimiter.is_empty()) {
        if node.kind() != Kind::Scalar {
            return Err(invalid("delimiter option can only be used with scalar nodes"));
        }
        text = spliced(node.text(), &text, options);
        value = Node::plain(text.as_str());
    }
    match &mut node.content {
        Content::Scalar(_) => node.rewrite(text),
        _ => *node = value,
    }
    Ok(())
}

/// Puts a text in the place of one of the pieces that another is split into; before or behind all where there is none.
fn spliced(text: &str, piece: &str, options: &FieldOptions) -> String {
    let delimiter = options.delimiter.as_str();
    let Ok(index) = usize::try_from(options.index) else {
        return format!("{piece}{delimiter}{text}");
    };
    let mut delimiters = text.match_indices(delimiter).map(|(at, _)| at);
    let start = match index.checked_sub(1) {
        None => Some(0),
        Some(before) => delimiters.nth(before).map(|at| at + delimiter.len()),
    };
    let Some(start) = start else {
        return format!("{text}{delimiter}{piece}");
    };
    let end = delimiters.next().unwrap_or(text.len());
    format!("{}{piece}{}", &text[..start], &text[end..])
}
