//! Strategic merge: a patch laid over an object, with lists merged by their keys where the type says so.
//!
//! The order of items, what nulls do, and what happens to items without a key follow kyaml's merge2 to the letter,
//! its oddities included, because names and orders of containers are what users see.

mod directive;
mod list;
mod nodes;
mod room;
mod rows;

use std::collections::{BTreeSet, HashMap};

use smol_str::SmolStr;

use crate::yaml::node::{Content, Kind, Node};

use super::error::{Error, Result, invalid};
use super::id;
use super::schema::{Schemas, Shape};
use super::steps::Steps;
use directive::{DIRECTIVE, Directive, directive};
use list::List;
use nodes::{into_items, is_empty_map, scalar, taken, walks_to_itself};
use room::Room;
use rows::Row;

/// Lays a patch over an object; `None` when the patch deletes it.
///
/// A patch that replaces the object as a whole leaves it as it is: the reference makes the new one and goes on with
/// the old.
pub(crate) fn merge(object: Node, patch: Node, schemas: &Schemas, steps: &Steps<'_>) -> Result<Option<Node>> {
    let replaces = patch.get(DIRECTIVE).is_some_and(|word| word.text() == "replace");
    let room = Room::new(steps);
    let mark = room.mark();
    let kept = replaces.then(|| room.copy(&object)).transpose()?;
    let walked = Walker { schemas, room: &room }
        .walk(Some(object), Some(patch), None)
        .map_err(Error::with_path)?;
    room.release(&mark);
    Ok(kept.or_else(|| walked.into_node()))
}

struct Walker<'s> {
    schemas: &'s Schemas,
    room: &'s Room<'s>,
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
        patch.map_or(Ok(Directive::Merge), |patch| directive(patch, self.room))
    }

    fn copied(&self, node: Option<&Node>) -> Result<Option<Node>> {
        node.map(|node| self.room.copy(node)).transpose()
    }

    fn map(&self, dest: Option<Node>, mut patch: Option<Node>, shape: Option<Shape<'s>>) -> Result<Walked> {
        let mut dest = match dest {
            Some(node) if !node.is_null() => {
                if patch.as_ref().is_some_and(Node::is_null) {
                    return Ok(Walked::Removed);
                }
                match self.directive(patch.as_mut())? {
                    Directive::Delete => return Ok(Walked::Removed),
                    Directive::Replace => self.copied(patch.as_ref())?.unwrap_or(node),
                    Directive::Merge => node,
                }
            }
            absent => {
                if patch
                    .as_mut()
                    .is_some_and(|p| directive(p, self.room).is_ok_and(|d| d == Directive::Delete))
                {
                    return Ok(Walked::Removed);
                }
                match (&patch, absent) {
                    (None, Some(null)) if !null.text().is_empty() => return Ok(Walked::Node(null)),
                    (None, _) => return Ok(Walked::Removed),
                    (Some(patch), _) => self.room.copy(patch)?,
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
        self.room.steps.spend(names.len())?;
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
        patch: Option<Node>,
        shape: Option<Shape<'s>>,
        keys: Vec<&'s str>,
    ) -> Result<Walked> {
        let mark = self.room.mark();
        let walked = self.items(dest, patch, shape, keys)?;
        self.room.release(&mark);
        Ok(walked)
    }

    fn items(
        &self,
        dest: Option<Node>,
        mut patch: Option<Node>,
        shape: Option<Shape<'s>>,
        keys: Vec<&'s str>,
    ) -> Result<Walked> {
        let dest = match dest {
            Some(node) if !node.is_null() => {
                if patch.as_ref().is_some_and(Node::is_null) {
                    return Ok(Walked::Removed);
                }
                match self.directive(patch.as_mut())? {
                    Directive::Delete => return Ok(Walked::Removed),
                    Directive::Replace => self.copied(patch.as_ref())?.unwrap_or(node),
                    Directive::Merge => node,
                }
            }
            _ => match &patch {
                Some(patch) => self.room.copy(patch)?,
                None => return Ok(Walked::Removed),
            },
        };
        let items = shape.and_then(Shape::items);
        if keys.is_empty() {
            let rows = rows::scalars(patch.as_ref(), &dest, self.room)?;
            return self.elements(rows, vec![""], dest, patch, items);
        }
        let rows = rows::rows(patch.as_ref(), &dest, &keys, self.room)?;
        let rows = rows::merge(rows, self.room)?;
        self.elements(rows, keys, dest, patch, items)
    }

    fn elements(
        &self,
        rows: Vec<Row>,
        mut keys: Vec<&'s str>,
        dest: Node,
        patch: Option<Node>,
        shape: Option<Shape<'s>>,
    ) -> Result<Walked> {
        let room = self.room;
        room.steps.spend(rows.len().saturating_mul(keys.len().max(1)))?;
        let (tag, tagged) = (dest.tag.clone(), dest.tagged);
        let mut ours = List::new(into_items(dest), room)?;
        let mut theirs = List::new(patch.map_or_else(Vec::new, into_items), room)?;
        let mut added = List::new(Vec::new(), room)?;
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
            let find_keys: Vec<&str> = given().map(|(key, _)| *key).collect();
            let find_row: Row = given().map(|(_, value)| value.clone()).collect();
            let position = ours.find(&find_keys, &find_row)?;
            let patch = theirs.find(&find_keys, &find_row)?;
            let patch = patch.and_then(|at| theirs.item_mut(at));
            // The copies become the merged item, which takes the place of its own.
            let mark = room.mark();
            let mine = self.copied(position.and_then(|at| ours.item_mut(at)).as_deref())?;
            let copy = self.copied(patch.as_deref())?;
            let replaced = patch
                .and_then(|patch| patch.remove(DIRECTIVE))
                .is_some_and(|directive| directive.text() == "replace");
            let merged = self
                .walk(mine, copy, shape)
                .map_err(|error| error.below(|| item(&find_keys, &find_row)))?;
            room.release(&mark);
            match merged.into_node().filter(|n| !n.is_null() && !is_empty_map(n)) {
                None => ours.set(None, &keys, &row)?,
                Some(mut element) => {
                    for (key, value) in keys.iter().zip(&row) {
                        let lacks = element.kind() == Kind::Map && element.get(key).is_none();
                        if lacks && !value.is_empty() {
                            element.set(key, Node::plain(value.clone()));
                        }
                    }
                    added.set(Some(room.copy(&element)?), &keys, &row)?;
                    // An item merges in place, where it stands in the object; one that replaces does not.
                    if let Some(position) = position.filter(|_| !replaced) {
                        ours.put(position, Some(element))?;
                    }
                }
            }
        }
        if !is_empty {
            append_rest(&mut added, ours.into_items(), &keys, room)?;
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
fn item(keys: &[&str], row: &Row) -> String {
    let pairs = keys.iter().zip(row).filter(|(key, _)| !key.is_empty());
    let pairs: Vec<String> = pairs.map(|(key, value)| format!("{key}={value}")).collect();
    format!("[{}]", pairs.join(","))
}

/// Adds the items of the object behind those of the patch; an item of the same keys takes its place there.
fn append_rest<'s>(list: &mut List<'s>, rest: Vec<Node>, keys: &[&'s str], room: &Room<'_>) -> Result<()> {
    for item in rest {
        if keys.first().is_none_or(|key| key.is_empty()) {
            let text = scalar(&item);
            list.set(Some(item), &[""], &[text])?;
            continue;
        }
        let mut values = Row::new();
        for key in keys {
            match item.get(key) {
                Some(value) => values.push(scalar(value)),
                // So the item is there once more, and twice as often with the next patch.
                None => list.push(room.copy_to_keep(&item)?)?,
            }
        }
        if keys.len() > 1 {
            list.set(None, keys, &values)?;
        }
        list.set(Some(item), keys, &values)?;
    }
    Ok(())
}
