//! Paths of names, indexes, wildcards and `[key=value]`, as replacements and variables write them.

use std::borrow::Cow;

use crate::kustomize::depth;
use crate::kustomize::error::{Result, invalid};
use crate::kustomize::expression::compiled;
use crate::kustomize::fieldspec::{NAMES_PER_STEP, split_smart};
use crate::kustomize::reader::Reader;
use crate::kustomize::steps::Steps;
use crate::yaml::node::{Content, Kind, Node, to_block};

/// One part of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// A field, by its name.
    Field(String),
    /// An item, by its number as it is written.
    Index(String),
    /// The last item, `-`; where values are written, a field of that name.
    Last,
    /// All items, `*`.
    Any,
    /// The items with a field, or without a key the items themselves, that say something: `[key=value]`.
    Match {
        key: String,
        value: String,
        /// The part as it is written.
        text: String,
    },
    /// Brackets without `=`.
    NoMatch,
}

impl Step {
    pub(super) fn parse(part: &str) -> Step {
        if !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) {
            return Step::Index(part.to_owned());
        }
        match part {
            "-" => Step::Last,
            "*" => Step::Any,
            part if part.starts_with('[') && part.ends_with(']') => Step::parse_match(part),
            field => Step::Field(field.to_owned()),
        }
    }

    fn parse_match(part: &str) -> Step {
        // The value may be an expression that ends in a class of its own.
        let inner = part.strip_prefix('[').unwrap_or(part);
        let inner = inner.strip_suffix(']').unwrap_or(inner);
        match inner.split_once('=') {
            Some((key, value)) => Step::Match {
                key: key.to_owned(),
                value: value.to_owned(),
                text: part.to_owned(),
            },
            None => Step::NoMatch,
        }
    }

    /// Returns how many bytes its texts have.
    pub(super) fn length(&self) -> usize {
        match self {
            Step::Field(text) | Step::Index(text) => text.len(),
            Step::Match { key, value, text } => key.len() + value.len() + text.len(),
            Step::Last | Step::Any | Step::NoMatch => 0,
        }
    }

    /// Returns the part without the blanks around it; none when there is nothing else.
    fn trimmed(&self) -> Option<Cow<'_, Step>> {
        let Step::Field(name) = self else {
            return Some(Cow::Borrowed(self));
        };
        match name.trim() {
            "" => None,
            trimmed if trimmed == name => Some(Cow::Borrowed(self)),
            trimmed => Some(Cow::Owned(Step::parse(trimmed))),
        }
    }
}

/// Reads a path, which leads no deeper than an object may nest.
pub(crate) fn parse(path: &str) -> Result<Vec<Step>> {
    let parts = split_smart(path);
    depth::check_path(parts.len(), path)?;
    Ok(parts.iter().map(|part| Step::parse(part)).collect())
}

fn no_match<T>() -> Result<T> {
    Err(invalid(
        "list path element must contain fieldName=fieldValue for element to match",
    ))
}

fn not_a<T>(wanted: &str, kind: Kind) -> Result<T> {
    Err(invalid(format!(
        "wrong node kind: expected a {wanted} but got {kind}"
    )))
}

/// How many bytes are written and matched in one step.
const BYTES_PER_STEP: usize = 16;

/// Takes what it costs to look for a field or an item of a node.
fn charge(node: &Node, steps: &Steps<'_>) -> Result<()> {
    let among = node.fields().len() + node.items().len();
    steps.spend(1 + among / NAMES_PER_STEP)
}

/// The places of the fields and items that lead to a node.
#[derive(Debug, Default)]
pub(super) struct Trail(Vec<usize>);

impl Trail {
    pub(super) fn push(&mut self, place: usize) {
        self.0.push(place);
    }

    pub(super) fn places(&self) -> &[usize] {
        &self.0
    }

    pub(super) fn node<'n>(&self, top: &'n Node) -> Option<&'n Node> {
        self.0.iter().try_fold(top, |node, at| match &node.content {
            Content::Map(fields) => fields.get(*at).map(|(_, value)| value),
            Content::Seq(items) => items.get(*at),
            Content::Scalar(_) => None,
        })
    }

    pub(super) fn node_mut<'n>(&self, top: &'n mut Node) -> Option<&'n mut Node> {
        self.0.iter().try_fold(top, |node, at| match &mut node.content {
            Content::Map(fields) => fields.get_mut(*at).map(|(_, value)| value),
            Content::Seq(items) => items.get_mut(*at),
            Content::Scalar(_) => None,
        })
    }
}

/// Follows a path to one node, without wildcards.
pub(crate) fn lookup<'n>(node: &'n Node, path: &[Step], steps: &Steps<'_>) -> Result<Option<&'n Node>> {
    let trail = trace(node, path, steps)?;
    Ok(trail.and_then(|trail| trail.node(node)))
}

/// As [`lookup`], and returns how the node is found again.
pub(super) fn trace(node: &Node, path: &[Step], steps: &Steps<'_>) -> Result<Option<Trail>> {
    let mut node = node;
    let mut trail = Trail::default();
    for step in path {
        charge(node, steps)?;
        let Some(step) = step.trimmed() else { continue };
        if node.is_null() {
            return Ok(None);
        }
        let list = || match &node.content {
            Content::Seq(items) => Ok(items),
            _ => not_a("list", node.kind()),
        };
        let place = match &*step {
            Step::Index(digits) => {
                let length = list()?.len();
                digits.parse().ok().filter(|index: &usize| *index < length)
            }
            Step::Last => list()?.len().checked_sub(1),
            Step::Any => return Err(invalid("wildcard is not supported in PathGetter")),
            Step::NoMatch => return no_match(),
            Step::Match { key, value, .. } => list()?.iter().position(|item| {
                if key.is_empty() {
                    item.text() == value
                } else {
                    item.get(key).is_some_and(|field| field.text() == value)
                }
            }),
            Step::Field(name) => match &node.content {
                Content::Map(fields) => fields.iter().position(|(key, _)| key.text() == name),
                _ => return not_a("map", node.kind()),
            },
        };
        let Some(place) = place else { return Ok(None) };
        node = match &node.content {
            Content::Map(fields) => &fields[place].1,
            Content::Seq(items) => &items[place],
            Content::Scalar(_) => return Ok(None),
        };
        trail.push(place);
    }
    Ok(Some(trail))
}

/// Calls a function on every node a path leads to, with wildcards, and says how many there were.
pub(super) fn visit(
    node: &mut Node,
    path: &[Step],
    create: Option<Kind>,
    steps: &Steps<'_>,
    call: &mut dyn FnMut(&mut Node) -> Result<()>,
) -> Result<usize> {
    charge(node, steps)?;
    let Some((step, rest)) = path.split_first() else {
        call(node)?;
        return Ok(1);
    };
    let mut unseen;
    let node = match (node.is_null(), step, create) {
        (false, ..) => node,
        (true, Step::Any, _) | (true, Step::Field(_) | Step::Last | Step::Match { .. }, None) => {
            return Ok(0);
        }
        // What kyaml puts into a null is found there, and not printed.
        (true, ..) => {
            unseen = Node::empty(next_kind(path, Kind::Map));
            &mut unseen
        }
    };
    let name = match step {
        Step::Index(digits) => return visit_index(node, digits, rest, create, steps, call),
        Step::Match { key, value, text } => {
            let matching = Matching { key, value, text };
            return visit_matching(node, &matching, rest, create, steps, call);
        }
        Step::NoMatch => return no_match(),
        Step::Any => {
            let mut found = 0;
            for item in items(node)? {
                found += visit(item, rest, create, steps, call)?;
            }
            return Ok(found);
        }
        Step::Last => "-",
        Step::Field(name) => name,
    };
    if node.kind() != Kind::Map {
        return not_a("map", node.kind());
    }
    let field = match create {
        Some(kind) => node.get_or_insert(name, next_kind(rest, kind)),
        None => node.get_mut(name),
    };
    match field {
        None => Ok(0),
        Some(field) if field.kind() == Kind::Scalar && !rest.is_empty() => {
            steps.spend(field.text().len())?;
            let before = steps.bytes_left();
            let parsed = Reader::of_text(steps).first(field.text().as_bytes())?;
            let found = match parsed {
                Some(mut inner) => visit(&mut inner, rest, create, steps, &mut |_| Ok(())),
                None => Err(invalid("a text that is empty leads no further")),
            };
            // What was read is gone.
            steps.give_back(before.saturating_sub(steps.bytes_left()));
            found
        }
        Some(field) => visit(field, rest, create, steps, call),
    }
}

fn next_kind(rest: &[Step], last: Kind) -> Kind {
    match rest.first() {
        None => last,
        Some(Step::Match { .. } | Step::NoMatch | Step::Index(_)) => Kind::Seq,
        Some(Step::Field(_) | Step::Last | Step::Any) => Kind::Map,
    }
}

fn items(node: &mut Node) -> Result<&mut Vec<Node>> {
    let kind = node.kind();
    match &mut node.content {
        Content::Seq(items) => Ok(items),
        Content::Scalar(_) | Content::Map(_) => not_a("list", kind),
    }
}

fn visit_index(
    node: &mut Node,
    digits: &str,
    rest: &[Step],
    create: Option<Kind>,
    steps: &Steps<'_>,
    call: &mut dyn FnMut(&mut Node) -> Result<()>,
) -> Result<usize> {
    let list = items(node)?;
    let index: usize = digits
        .parse()
        .map_err(|_| invalid(format!("'{digits}' is no index")))?;
    if let Some(kind) = create
        && index == list.len()
    {
        list.push(Node::empty(next_kind(rest, kind)));
    }
    let length = list.len();
    match list.get_mut(index) {
        Some(item) => visit(item, rest, create, steps, call),
        None => Err(invalid(format!(
            "index {index} specified but only {length} elements found"
        ))),
    }
}

/// Which items of a list a step goes to.
struct Matching<'s> {
    key: &'s str,
    value: &'s str,
    text: &'s str,
}

fn visit_matching(
    node: &mut Node,
    matching: &Matching<'_>,
    rest: &[Step],
    create: Option<Kind>,
    steps: &Steps<'_>,
    call: &mut dyn FnMut(&mut Node) -> Result<()>,
) -> Result<usize> {
    let Matching { key, value, text } = *matching;
    let pattern = compiled(value, steps)?;
    let shown = |item: &'_ Node| match key {
        "" => Some(to_block(item)),
        key => item.get(key).map(to_block),
    };
    let fits = |item: &Node| shown(item).is_some_and(|text| pattern.is_match(text.trim()));
    let list = items(node)?;
    for item in list.iter() {
        charge(item, steps)?;
        let looked_at = if key.is_empty() { Some(item) } else { item.get(key) };
        let (nodes, bytes) = looked_at.map_or((0, 0), |node| (node.count(), node.text_bytes()));
        // It is written, and matched in at most all states of the expression.
        steps.spend(nodes + (bytes / BYTES_PER_STEP).saturating_mul(1 + pattern.states()))?;
    }
    let mut found = 0;
    for item in list.iter_mut().filter(|item| fits(item)) {
        found += if key.is_empty() {
            call(item)?;
            1
        } else {
            visit(item, rest, create, steps, call)?
        };
    }
    if found > 0 || create.is_none() {
        return Ok(found);
    }
    let element = if key.is_empty() {
        Node::plain(value)
    } else {
        let mut map = Node::map();
        map.push_field(key, Node::plain(value));
        map
    };
    if !fits(&element) {
        return Err(invalid(format!("failed to create element for \"{text}\"")));
    }
    list.push(element);
    match list.last_mut() {
        Some(item) if key.is_empty() => call(item).map(|()| 1),
        Some(item) => visit(item, rest, create, steps, call),
        None => Ok(0),
    }
}
