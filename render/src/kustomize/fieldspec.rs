//! Follows kustomize's field paths, through lists and maps alike, making what is missing when told to.

use std::collections::HashMap;
use std::ops::Deref;
use std::rc::Rc;

use crate::yaml::node::{Content, Kind, Node, Tag};

use super::depth;
use super::error::{At, Error, Result, invalid};
use super::id::{Gvk, GvkPattern};
use super::steps::Steps;
use super::tables::Spec;

/// A field of some types; a clone shares it, as each transformer has a list of its own with mostly the same fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldSpec(Rc<Field>);

/// What a [`FieldSpec`] says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) gvk: GvkPattern,
    pub(crate) path: String,
    pub(crate) parts: Vec<String>,
    pub(crate) create: bool,
}

impl Deref for FieldSpec {
    type Target = Field;

    fn deref(&self) -> &Field {
        &self.0
    }
}

impl FieldSpec {
    /// Reads a field that a source names.
    pub(crate) fn read(gvk: GvkPattern, path: impl Into<String>, create: bool) -> Result<FieldSpec> {
        let field = FieldSpec::new(gvk, path, create);
        depth::check_path(field.parts.len(), &field.path)?;
        Ok(field)
    }

    /// Returns a field whose path is known.
    pub(crate) fn new(gvk: GvkPattern, path: impl Into<String>, create: bool) -> FieldSpec {
        let path = path.into();
        let parts = split(&path);
        FieldSpec(Rc::new(Field {
            gvk,
            path,
            parts,
            create,
        }))
    }
}

impl From<&Spec> for FieldSpec {
    fn from(spec: &Spec) -> FieldSpec {
        let gvk = GvkPattern {
            group: spec.group.to_string(),
            version: spec.version.to_string(),
            kind: spec.kind.to_string(),
        };
        FieldSpec::new(gvk, spec.path, spec.create)
    }
}

/// No path that leads deeper is followed: of its parts one more is read, so that it can be refused.
const MAX_PARTS: usize = depth::MAX_DEPTH + 1;

/// Returns the parts of a path between separators that no backslash precedes; one at the start is left out.
fn pieces(path: &str, separator: char) -> impl Iterator<Item = String> {
    let mut parts = path.strip_prefix(separator).unwrap_or(path).split(separator);
    std::iter::from_fn(move || {
        let mut piece = parts.next()?.to_owned();
        while piece.ends_with('\\') {
            let Some(next) = parts.next() else { break };
            piece.pop();
            piece.push(separator);
            piece.push_str(next);
        }
        Some(piece)
    })
}

/// Splits a path at slashes.
fn split(path: &str) -> Vec<String> {
    pieces(path, '/').take(MAX_PARTS).collect()
}

/// Splits a path at dots but keeps what stands in brackets together: `a.[b.c].[name=x.y]`.
pub(crate) fn split_smart(path: &str) -> Vec<String> {
    let mut pieces = pieces(path, '.');
    let parts = std::iter::from_fn(|| {
        let mut part = pieces.next()?;
        if !part.starts_with('[') || part.ends_with(']') {
            return Some(part);
        }
        for next in pieces.by_ref() {
            part.push('.');
            part.push_str(&next);
            if next.ends_with(']') {
                break;
            }
        }
        if part.contains('=') {
            return Some(part);
        }
        Some(part.trim_matches(['[', ']']).to_owned())
    });
    parts.take(MAX_PARTS).collect()
}

/// What to make at the end of a path that does not exist.
#[derive(Debug, Clone)]
pub(crate) struct Create {
    pub(crate) kind: Kind,
    /// The tag a null gets that stood there.
    pub(crate) tag: Tag,
}

/// The fields of one transformer that fit a type, found once for all objects of it.
pub(crate) struct Fitting<'f> {
    fields: &'f [FieldSpec],
    lists: Vec<Vec<&'f FieldSpec>>,
    by_type: HashMap<String, usize>,
    key: String,
}

impl<'f> Fitting<'f> {
    pub(crate) fn new(fields: &'f [FieldSpec]) -> Fitting<'f> {
        Fitting {
            fields,
            lists: Vec::new(),
            by_type: HashMap::new(),
            key: String::new(),
        }
    }

    /// Returns the fields of a type; each is a step, since each is followed.
    pub(crate) fn of(&mut self, gvk: Gvk<'_>, steps: &Steps<'_>) -> Result<&[&'f FieldSpec]> {
        self.key.clear();
        for part in [gvk.group, gvk.version, gvk.kind] {
            self.key.push_str(part);
            self.key.push('\0');
        }
        let index = match self.by_type.get(&self.key) {
            Some(index) => *index,
            None => {
                steps.spend(self.fields.len())?;
                self.lists
                    .push(self.fields.iter().filter(|f| f.gvk.selects(gvk)).collect());
                self.by_type.insert(self.key.clone(), self.lists.len() - 1);
                self.lists.len() - 1
            }
        };
        let fields = &self.lists[index];
        steps.spend(fields.len())?;
        Ok(fields)
    }
}

/// Fields below this number are looked through for the step that their field costs.
const FEW: usize = 16;
/// How many names of a map are compared in one step.
pub(crate) const NAMES_PER_STEP: usize = 8;

/// Takes what it costs to go through a node: the step of a field is for what is small.
pub(crate) fn charge(node: &Node, steps: &Steps<'_>) -> Result<()> {
    match &node.content {
        // Lists in lists have many items, however few each has.
        Content::Seq(items) => steps.spend_few(items.len()),
        Content::Map(fields) if fields.len() > FEW => steps.spend(fields.len() / NAMES_PER_STEP),
        _ => Ok(()),
    }
}

/// Calls a function on every node a field leads to, in an object of one of its types.
///
/// Returns whether that changed a scalar which has aliases.
pub(crate) fn apply(
    object: &mut Node,
    field: &FieldSpec,
    create: Option<&Create>,
    steps: &Steps<'_>,
    set: &mut dyn FnMut(&mut Node) -> Result<()>,
) -> Result<bool> {
    if !field.gvk.selects(Gvk::of(object)) {
        return Ok(false);
    }
    apply_fitting(object, field, create, steps, set)
}

/// As [`apply`], for an object that is known to be of one of the field's types.
pub(crate) fn apply_fitting(
    object: &mut Node,
    field: &FieldSpec,
    create: Option<&Create>,
    steps: &Steps<'_>,
    set: &mut dyn FnMut(&mut Node) -> Result<()>,
) -> Result<bool> {
    follow(object, &field.parts, create.filter(|_| field.create), steps, set)
        .map_err(Error::with_path)
        .in_field(&field.path)
}

/// Calls a function on every node a path leads to.
///
/// Returns whether that changed a scalar which has aliases.
pub(crate) fn follow(
    node: &mut Node,
    path: &[String],
    create: Option<&Create>,
    steps: &Steps<'_>,
    set: &mut dyn FnMut(&mut Node) -> Result<()>,
) -> Result<bool> {
    let Some((first, rest)) = path.split_first() else {
        set(node)?;
        return Ok(node.is_out_of_sync());
    };
    if node.is_null() {
        return Ok(false);
    }
    charge(node, steps)?;
    match &mut node.content {
        Content::Seq(items) => {
            let mut out_of_sync = false;
            for (at, item) in items.iter_mut().enumerate() {
                let followed = follow(item, path, create, steps, set);
                out_of_sync |= followed.map_err(|fault| fault.below(|| format!("[{at}]")))?;
            }
            Ok(out_of_sync)
        }
        Content::Map(_) => into_field(node, first, rest, create, steps, set),
        Content::Scalar(_) => Err(invalid("expected a list or a map")),
    }
}

fn into_field(
    node: &mut Node,
    first: &str,
    rest: &[String],
    create: Option<&Create>,
    steps: &Steps<'_>,
    set: &mut dyn FnMut(&mut Node) -> Result<()>,
) -> Result<bool> {
    let name = first.strip_suffix("[]");
    let is_list = name.is_some();
    let name = name.unwrap_or(first);
    if name.is_empty() {
        return Err(invalid("cannot set or create an empty field name"));
    }
    if name == "*" {
        return Err(invalid("wildcard is not supported in PathGetter"));
    }
    let made = match create {
        Some(_) if is_list => None,
        Some(create) if rest.is_empty() => Some((create.kind, create.tag.clone())),
        Some(_) => Some((Kind::Map, Tag::Map)),
        None => None,
    };
    let field = match &made {
        Some((kind, _)) => node.get_or_insert(name, *kind),
        None => node.get_mut(name),
    };
    let Some(field) = field else { return Ok(false) };
    if field.is_null() {
        if let Some((kind, tag)) = made {
            *field = Node {
                tag,
                ..Node::empty(kind)
            };
        } else if is_list {
            *field = Node::seq();
        }
    }
    follow(field, rest, create, steps, set).map_err(|fault| fault.below(|| name.to_owned()))
}
