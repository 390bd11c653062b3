//! Strategic merge: a patch laid over an object, with lists merged by their keys where the type says so.
//!
//! The order of items, what nulls do, and what happens to items without a key follow kyaml's merge2 to the letter,
//! its oddities included, because names and orders of containers are what users see.

mod elements;

use std::collections::BTreeSet;

use crate::yaml::node::{Content, Kind, Node};

use super::error::{Done, invalid};
use super::id;
use super::schema::{Schemas, Shape};
use super::steps::Steps;
use elements::{
    append_rest, element_values, find_mut, matches, merge_rows, scalar_values, set_element, valid,
};

const DIRECTIVE: &str = "$patch";
/// How many fields are looked at in one step.
const FIELDS_PER_STEP: usize = 64;
/// How many pairs of rows are compared in one step.
const ROWS_PER_STEP: usize = 16;

/// Lays a patch over an object; `None` when the patch deletes it.
pub(crate) fn merge(object: Node, patch: Node, schemas: &Schemas, steps: &Steps<'_>) -> Done<Option<Node>> {
    Ok(Walker { schemas, steps }
        .walk(Some(object), Some(patch), None)?
        .into_node())
}

struct Walker<'s> {
    schemas: &'s Schemas,
    steps: &'s Steps<'s>,
}

/// What becomes of a value.
enum Walked {
    /// It goes, and its field with it.
    Gone,
    /// It stays; a null only because the object said so itself.
    Node(Node),
}

impl Walked {
    fn into_node(self) -> Option<Node> {
        match self {
            Walked::Gone => None,
            Walked::Node(node) => Some(node),
        }
    }

    /// Drops a null, which in a patch means removal.
    fn of(node: Node) -> Walked {
        if node.is_null() {
            Walked::Gone
        } else {
            Walked::Node(node)
        }
    }
}

#[derive(PartialEq)]
enum Directive {
    Merge,
    Replace,
    Delete,
}

fn present(node: Option<&Node>) -> Option<&Node> {
    node.filter(|node| !node.is_null())
}

impl<'s> Walker<'s> {
    fn walk(&self, dest: Option<Node>, patch: Option<Node>, shape: Option<Shape<'s>>) -> Done<Walked> {
        let shape = shape
            .or_else(|| self.shape_of(dest.as_ref()))
            .or_else(|| self.shape_of(patch.as_ref()));
        let kind = present(dest.as_ref()).or(present(patch.as_ref())).map(Node::kind);
        if let Some(kind) = kind {
            for node in [present(dest.as_ref()), present(patch.as_ref())]
                .into_iter()
                .flatten()
            {
                if node.kind() != kind {
                    return Err(invalid(format!(
                        "wrong node kind: expected {kind} but got {}",
                        node.kind()
                    )));
                }
            }
        }
        match (kind, shape.and_then(Shape::merge_keys)) {
            (None | Some(Kind::Map), _) => self.map(dest, patch, shape),
            (Some(Kind::Seq), Some(keys)) => self.list(dest, patch, shape, keys),
            (Some(_), _) => Ok(patch.or(dest).map_or(Walked::Gone, Walked::of)),
        }
    }

    /// Finds the type of an object that stands inside another.
    fn shape_of(&self, node: Option<&Node>) -> Option<Shape<'s>> {
        let node = present(node)?;
        let (api_version, kind) = (id::api_version(node), id::kind(node));
        if kind.is_empty() || api_version.is_empty() {
            return None;
        }
        self.schemas.resource(api_version, kind)
    }

    fn map(&self, dest: Option<Node>, mut patch: Option<Node>, shape: Option<Shape<'s>>) -> Done<Walked> {
        let mut dest = match dest {
            Some(node) if !node.is_null() => {
                if patch.as_ref().is_some_and(Node::is_null) {
                    return Ok(Walked::Gone);
                }
                match patch.as_mut().map_or(Ok(Directive::Merge), directive)? {
                    Directive::Delete => return Ok(Walked::Gone),
                    Directive::Replace => patch.clone().unwrap_or(node),
                    Directive::Merge => node,
                }
            }
            absent => {
                if patch
                    .as_mut()
                    .is_some_and(|p| directive(p).is_ok_and(|d| d == Directive::Delete))
                {
                    return Ok(Walked::Gone);
                }
                match (&patch, absent) {
                    (None, Some(null)) if !null.text().is_empty() => return Ok(Walked::Node(null)),
                    (None, _) => return Ok(Walked::Gone),
                    (Some(patch), _) => patch.clone(),
                }
            }
        };
        let names: BTreeSet<String> = [Some(&dest), patch.as_ref()]
            .into_iter()
            .flatten()
            .flat_map(|node| node.fields().iter().map(|(key, _)| key.text().to_string()))
            .collect();
        // Each field is looked for among all of both.
        self.steps
            .spend(names.len().saturating_mul(names.len()) / FIELDS_PER_STEP)?;
        for name in names {
            let theirs = patch.as_ref().and_then(|p| p.get(&name));
            let shape = shape.and_then(|s| s.field(&name));
            if theirs.is_none() && shape.is_none() && is_settled(dest.get(&name)) {
                dest.get_mut(&name).into_iter().for_each(Node::quote_if_ambiguous);
                continue;
            }
            let theirs = theirs.cloned();
            let is_own = theirs.is_none();
            let ours = dest.get(&name).cloned();
            match self.walk(ours, theirs, shape)? {
                Walked::Gone => {
                    dest.remove(&name);
                }
                Walked::Node(value) => {
                    dest.set(&name, value);
                }
            }
            if is_own {
                dest.get_mut(&name).into_iter().for_each(Node::quote_if_ambiguous);
            }
        }
        Ok(Walked::of(dest))
    }

    fn list(
        &self,
        dest: Option<Node>,
        mut patch: Option<Node>,
        shape: Option<Shape<'s>>,
        keys: Vec<String>,
    ) -> Done<Walked> {
        let dest = match dest {
            Some(node) if !node.is_null() => {
                if patch.as_ref().is_some_and(Node::is_null) {
                    return Ok(Walked::Gone);
                }
                match patch.as_mut().map_or(Ok(Directive::Merge), directive)? {
                    Directive::Delete => return Ok(Walked::Gone),
                    Directive::Replace => patch.clone().unwrap_or(node),
                    Directive::Merge => node,
                }
            }
            _ => match &patch {
                Some(patch) => patch.clone(),
                None => return Ok(Walked::Gone),
            },
        };
        let values = element_values(patch.as_ref(), &dest, &keys);
        let items = shape.and_then(Shape::items);
        if !values.is_empty() || !keys.is_empty() {
            return self.elements(values, keys, dest, patch, items);
        }
        let values = scalar_values(patch.as_ref(), &dest);
        self.elements(values, vec![String::new()], dest, patch, items)
    }

    fn elements(
        &self,
        mut rows: Vec<Vec<String>>,
        keys: Vec<String>,
        dest: Node,
        mut patch: Option<Node>,
        shape: Option<Shape<'s>>,
    ) -> Done<Walked> {
        let (tag, tagged) = (dest.tag.clone(), dest.tagged);
        let mut ours = into_items(dest);
        let mut added: Vec<Node> = Vec::new();
        // Each row is looked for among the items, which are copied for it, and compared with each other row.
        let all = ours.len() + rows.len();
        self.steps.spend(all.saturating_mul(rows.len()) / ROWS_PER_STEP)?;
        if keys.len() > 1 {
            merge_rows(&mut rows);
        }
        let mut valid_keys: Vec<String> = Vec::new();
        for row in rows.iter().filter(|row| !row.is_empty()) {
            let (row_keys, row_values) = valid(&rows, row, &keys);
            let (find_keys, find_values) = valid(std::slice::from_ref(&row_values), &row_values, &row_keys);
            let position = ours
                .iter()
                .position(|item| matches(item, &find_keys, &find_values));
            let mine = position.map(|position| ours[position].clone());
            let mut replaced = false;
            let theirs = match patch.as_mut().and_then(Node::items_mut) {
                Some(items) => find_mut(items, &find_keys, &find_values),
                None => None,
            };
            let merged = match theirs {
                Some(theirs) => {
                    let copy = theirs.clone();
                    replaced = theirs.remove(DIRECTIVE).is_some_and(|d| d.text() == "replace");
                    self.walk(mine, Some(copy), shape)?
                }
                None => self.walk(mine, None, shape)?,
            };
            match merged.into_node().filter(|n| !n.is_null() && !is_empty_map(n)) {
                None => set_element(&mut ours, None, &row_keys, &row_values)?,
                Some(mut element) => {
                    for (key, value) in row_keys.iter().zip(&row_values) {
                        let lacks = element.kind() == Kind::Map && element.get(key).is_none();
                        if lacks && !value.is_empty() {
                            element.set(key, Node::plain(value.as_str()));
                        }
                    }
                    set_element(&mut added, Some(&element), &row_keys, &row_values)?;
                    // An item merges in place, where it stands in the object; one that replaces does not.
                    if let Some(position) = position.filter(|_| !replaced) {
                        ours[position] = element;
                    }
                }
            }
            valid_keys = row_keys;
        }
        if !rows.is_empty() {
            append_rest(&mut added, ours, &valid_keys)?;
            ours = added;
        }
        Ok(Walked::Node(Node {
            tag,
            tagged,
            content: Content::Seq(ours),
            ..Node::seq()
        }))
    }
}

/// Tells whether walking a value without a patch and without a type would leave it as it is.
fn is_settled(node: Option<&Node>) -> bool {
    match node {
        Some(node) => match &node.content {
            Content::Scalar(_) | Content::Seq(_) => !node.is_null(),
            Content::Map(_) => false,
        },
        None => false,
    }
}

fn into_items(node: Node) -> Vec<Node> {
    match node.content {
        Content::Seq(items) => items,
        _ => Vec::new(),
    }
}

fn is_empty_map(node: &Node) -> bool {
    matches!(&node.content, Content::Map(fields) if fields.is_empty())
}

/// Reads the `$patch` directive of a map or a list, and removes it.
fn directive(patch: &mut Node) -> Done<Directive> {
    let found = match &patch.content {
        Content::Map(_) => patch.get(DIRECTIVE).map(|d| d.text().to_string()),
        Content::Seq(items) => items
            .iter()
            .find(|item| item.get(DIRECTIVE).is_some())
            .filter(|item| item.fields().len() == 1)
            .and_then(|item| item.get(DIRECTIVE))
            .map(|d| d.text().to_string()),
        Content::Scalar(_) => return Err(invalid("no strategic merge for a scalar")),
    };
    let Some(word) = found else {
        return Ok(Directive::Merge);
    };
    let directive = match word.as_str() {
        "delete" => Directive::Delete,
        "replace" => Directive::Replace,
        "merge" => Directive::Merge,
        _ => return Err(invalid(format!("unknown patch strategy '{word}'"))),
    };
    if let Some(items) = patch.items_mut() {
        set_element(items, None, &[DIRECTIVE.to_string()], &[word])?;
    } else {
        patch.remove(DIRECTIVE);
    }
    Ok(directive)
}
