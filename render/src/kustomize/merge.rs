//! Strategic merge: a patch laid over an object, with lists merged by their keys where the type says so.
//!
//! The order of items, what nulls do, and what happens to items without a key follow kyaml's merge2 to the letter,
//! its oddities included, because names and orders of containers are what users see.

mod list;
mod rows;

use std::collections::{BTreeSet, HashMap};

use smol_str::SmolStr;

use crate::yaml::node::{Content, Kind, Node};

use super::error::{Error, Result, invalid};
use super::id;
use super::schema::{Schemas, Shape};
use super::steps::Steps;
use list::List;
use rows::Row;

const DIRECTIVE: &str = "$patch";

/// Lays a patch over an object; `None` when the patch deletes it.
///
/// A patch that replaces the object as a whole leaves it as it is: the reference makes the new one and goes on with
/// the old.
pub(crate) fn merge(object: Node, patch: Node, schemas: &Schemas, steps: &Steps<'_>) -> Result<Option<Node>> {
    let replaces = patch.get(DIRECTIVE).is_some_and(|word| word.text() == "replace");
    let kept = replaces.then(|| object.clone());
    let walked = Walker { schemas, steps }
        .walk(Some(object), Some(patch), None)
        .map_err(Error::with_path)?;
    Ok(kept.or_else(|| walked.into_node()))
}

struct Walker<'s> {
    schemas: &'s Schemas,
    steps: &'s Steps<'s>,
}

/// What becomes of a value.
enum Walked {
    /// It goes, and its field with it.
    Removed,
    /// It stays; a null only because the object said so itself.
    Node(Node),
}

impl Walked {
    fn into_node(self) -> Option<Node> {
        match self {
            Walked::Removed => None,
            Walked::Node(node) => Some(node),
        }
    }

    /// Drops a null, which in a patch means removal.
    fn of(node: Node) -> Walked {
        if node.is_null() {
            Walked::Removed
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
    fn walk(&self, dest: Option<Node>, patch: Option<Node>, shape: Option<Shape<'s>>) -> Result<Walked> {
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
            (Some(_), _) => Ok(patch.or(dest).map_or(Walked::Removed, Walked::of)),
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

    fn directive(&self, patch: Option<&mut Node>) -> Result<Directive> {
        patch.map_or(Ok(Directive::Merge), |patch| directive(patch, self.steps))
    }

    fn map(&self, dest: Option<Node>, mut patch: Option<Node>, shape: Option<Shape<'s>>) -> Result<Walked> {
        let mut dest = match dest {
            Some(node) if !node.is_null() => {
                if patch.as_ref().is_some_and(Node::is_null) {
                    return Ok(Walked::Removed);
                }
                match self.directive(patch.as_mut())? {
                    Directive::Delete => return Ok(Walked::Removed),
                    Directive::Replace => patch.clone().unwrap_or(node),
                    Directive::Merge => node,
                }
            }
            absent => {
                if patch
                    .as_mut()
                    .is_some_and(|p| directive(p, self.steps).is_ok_and(|d| d == Directive::Delete))
                {
                    return Ok(Walked::Removed);
                }
                match (&patch, absent) {
                    (None, Some(null)) if !null.text().is_empty() => return Ok(Walked::Node(null)),
                    (None, _) => return Ok(Walked::Removed),
                    (Some(patch), _) => patch.clone(),
                }
            }
        };
        self.fields(&mut dest, patch, shape)?;
        Ok(Walked::of(dest))
    }

    fn fields(&self, dest: &mut Node, patch: Option<Node>, shape: Option<Shape<'s>>) -> Result<()> {
        let Content::Map(fields) = &mut dest.content else {
            return Ok(());
        };
        let mut fields: Vec<Option<(Node, Node)>> = std::mem::take(fields).into_iter().map(Some).collect();
        let mut places: HashMap<SmolStr, usize> = HashMap::with_capacity(fields.len());
        for (at, (key, _)) in fields.iter().flatten().enumerate() {
            places.entry(key.text().into()).or_insert(at);
        }
        let mut patches: HashMap<SmolStr, Node> = HashMap::new();
        if let Some(Content::Map(fields)) = patch.map(|patch| patch.content) {
            for (key, value) in fields {
                patches.entry(key.text().into()).or_insert(value);
            }
        }
        let names: BTreeSet<SmolStr> = places.keys().chain(patches.keys()).cloned().collect();
        self.steps.spend(names.len())?;
        let mut added = Vec::new();
        for name in names {
            let theirs = patches.remove(&name);
            let is_own = theirs.is_none();
            let shape = shape.and_then(|s| s.field(&name));
            let place = places.get(&name).copied();
            let Some((at, (_, value))) = place.and_then(|at| Some((at, fields[at].as_mut()?))) else {
                let walked = self.walk(None, theirs, shape);
                if let Walked::Node(value) = walked.map_err(|error| error.below(|| name.to_string()))? {
                    added.push((name, value));
                }
                continue;
            };
            if is_own && shape.is_none() && walks_to_itself(value) {
                value.quote_if_ambiguous();
                continue;
            }
            let ours = taken(value);
            let walked = self.walk(Some(ours), theirs, shape);
            match walked.map_err(|error| error.below(|| name.to_string()))? {
                Walked::Removed => fields[at] = None,
                Walked::Node(merged) => {
                    value.overwrite(merged);
                    if is_own {
                        value.quote_if_ambiguous();
                    }
                }
            }
        }
        dest.content = Content::Map(fields.into_iter().flatten().collect());
        for (name, value) in added {
            dest.append(name, value);
        }
        Ok(())
    }

    fn list(
        &self,
        dest: Option<Node>,
        mut patch: Option<Node>,
        shape: Option<Shape<'s>>,
        keys: Vec<String>,
    ) -> Result<Walked> {
        let dest = match dest {
            Some(node) if !node.is_null() => {
                if patch.as_ref().is_some_and(Node::is_null) {
                    return Ok(Walked::Removed);
                }
                match self.directive(patch.as_mut())? {
                    Directive::Delete => return Ok(Walked::Removed),
                    Directive::Replace => patch.clone().unwrap_or(node),
                    Directive::Merge => node,
                }
            }
            _ => match &patch {
                Some(patch) => patch.clone(),
                None => return Ok(Walked::Removed),
            },
        };
        let items = shape.and_then(Shape::items);
        if keys.is_empty() {
            let rows = rows::scalars(patch.as_ref(), &dest);
            return self.elements(rows, vec![String::new()], dest, patch, items);
        }
        let rows = rows::merge(rows::rows(patch.as_ref(), &dest, &keys), self.steps)?;
        self.elements(rows, keys, dest, patch, items)
    }

    fn elements(
        &self,
        rows: Vec<Row>,
        mut keys: Vec<String>,
        dest: Node,
        patch: Option<Node>,
        shape: Option<Shape<'s>>,
    ) -> Result<Walked> {
        self.steps.spend(rows.len().saturating_mul(keys.len().max(1)))?;
        let (tag, tagged) = (dest.tag.clone(), dest.tagged);
        let mut ours = List::new(into_items(dest), self.steps);
        let mut theirs = List::new(patch.map_or_else(Vec::new, into_items), self.steps);
        let mut added = List::new(Vec::new(), self.steps);
        // Keys that no row has a value for do not count.
        let used: Vec<bool> = (0..keys.len())
            .map(|at| rows.iter().any(|row| !row[at].is_empty()))
            .collect();
        let none = !used.contains(&true);
        let counts = |at: usize| none || used[at];
        let mut at = 0..;
        keys.retain(|_| at.next().is_some_and(counts));
        let is_empty = rows.is_empty();
        for row in rows {
            let mut at = 0..;
            let mut row = row;
            row.retain(|_| at.next().is_some_and(counts));
            let given = || {
                let all = row.iter().all(|value| value.is_empty());
                let pairs = keys.iter().zip(&row);
                pairs.filter(move |(_, value)| all || !value.is_empty())
            };
            let find_keys: Vec<String> = given().map(|(key, _)| key.clone()).collect();
            let find_row: Row = given().map(|(_, value)| value.clone()).collect();
            let position = ours.find(&find_keys, &find_row)?;
            let mine = position.and_then(|at| ours.item_mut(at)).cloned();
            let patch = theirs.find(&find_keys, &find_row)?;
            let patch = patch.and_then(|at| theirs.item_mut(at));
            let copy = patch.as_deref().cloned();
            let replaced = patch
                .and_then(|patch| patch.remove(DIRECTIVE))
                .is_some_and(|directive| directive.text() == "replace");
            let merged = self
                .walk(mine, copy, shape)
                .map_err(|error| error.below(|| item(&find_keys, &find_row)))?;
            match merged.into_node().filter(|n| !n.is_null() && !is_empty_map(n)) {
                None => ours.set(None, &keys, &row)?,
                Some(mut element) => {
                    for (key, value) in keys.iter().zip(&row) {
                        let lacks = element.kind() == Kind::Map && element.get(key).is_none();
                        if lacks && !value.is_empty() {
                            element.set(key, Node::plain(value.clone()));
                        }
                    }
                    added.set(Some(&element), &keys, &row)?;
                    // An item merges in place, where it stands in the object; one that replaces does not.
                    if let Some(position) = position.filter(|_| !replaced) {
                        ours.put(position, Some(element));
                    }
                }
            }
        }
        if !is_empty {
            append_rest(&mut added, ours.into_items(), &keys)?;
            ours = added;
        }
        Ok(Walked::Node(Node {
            tag,
            tagged,
            content: Content::Seq(ours.into_items()),
            ..Node::seq()
        }))
    }
}

/// Names an item by its keys as a path does; one of a list of scalars by nothing that it says.
fn item(keys: &[String], row: &Row) -> String {
    let pairs = keys.iter().zip(row).filter(|(key, _)| !key.is_empty());
    let pairs: Vec<String> = pairs.map(|(key, value)| format!("{key}={value}")).collect();
    format!("[{}]", pairs.join(","))
}

/// Adds the items of the object behind those of the patch; an item of the same keys takes its place there.
fn append_rest(list: &mut List<'_>, rest: Vec<Node>, keys: &[String]) -> Result<()> {
    for item in rest {
        if keys.first().is_none_or(String::is_empty) {
            list.set(Some(&item), &[String::new()], &[item.text().into()])?;
            continue;
        }
        let mut values = Row::new();
        for key in keys {
            match item.get(key) {
                Some(value) => values.push(value.text().into()),
                None => list.push(item.clone()),
            }
        }
        if keys.len() > 1 {
            list.set(None, keys, &values)?;
        }
        list.set(Some(&item), keys, &values)?;
    }
    Ok(())
}

/// Takes a value out of its field, and leaves there how it is written and, of a scalar, what it says.
fn taken(value: &mut Node) -> Node {
    let content = match &value.content {
        Content::Scalar(text) => Content::Scalar(text.clone()),
        Content::Seq(_) | Content::Map(_) => Content::Seq(Vec::new()),
    };
    let shell = Node {
        tag: value.tag.clone(),
        content,
        ..*value
    };
    std::mem::replace(value, shell)
}

/// Tells whether walking a value without a patch and without a type would leave it as it is.
fn walks_to_itself(node: &Node) -> bool {
    match &node.content {
        Content::Scalar(_) | Content::Seq(_) => !node.is_null(),
        Content::Map(_) => false,
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
fn directive(patch: &mut Node, steps: &Steps<'_>) -> Result<Directive> {
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
        let mut list = List::new(std::mem::take(items), steps);
        list.set(None, &[DIRECTIVE.to_string()], &[word.into()])?;
        *items = list.into_items();
    } else {
        patch.remove(DIRECTIVE);
    }
    Ok(directive)
}
