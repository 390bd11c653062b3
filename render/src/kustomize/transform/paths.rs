//! Paths of names, indexes, wildcards and `[key=value]`, as replacements and variables write them.

use crate::kustomize::error::{Done, invalid};
use crate::kustomize::selector::regex;
use crate::kustomize::steps::Steps;
use crate::yaml::node::{Content, Kind, Limits, Node, parse_first, to_block};

fn key_value(part: &str) -> Done<(&str, &str)> {
    // The value may be an expression that ends in a class of its own.
    let inner = part.strip_prefix('[').unwrap_or(part);
    let inner = inner.strip_suffix(']').unwrap_or(inner);
    inner
        .split_once('=')
        .ok_or_else(|| invalid("list path element must contain fieldName=fieldValue for element to match"))
}

fn is_key_value(part: &str) -> bool {
    part.starts_with('[') && part.ends_with(']')
}

fn is_index(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())
}

/// Follows a path of names, indexes and `[key=value]` to one node, without wildcards.
pub(crate) fn lookup<'n>(node: &'n Node, parts: &[String]) -> Done<Option<&'n Node>> {
    let mut node = node;
    for part in parts.iter().map(|p| p.trim()).filter(|p| !p.is_empty()) {
        if node.is_null() {
            return Ok(None);
        }
        let list = || match &node.content {
            Content::Seq(items) => Ok(items),
            _ => Err(invalid(format!(
                "wrong node kind: expected a list but got {}",
                node.kind()
            ))),
        };
        let next = if is_index(part) {
            part.parse::<usize>()
                .ok()
                .and_then(|index| list().ok()?.get(index))
                .map_or_else(|| list().map(|_| None), |n| Ok(Some(n)))?
        } else if part == "-" {
            list()?.last()
        } else if part == "*" {
            return Err(invalid("wildcard is not supported in PathGetter"));
        } else if is_key_value(part) {
            let (key, value) = key_value(part)?;
            list()?.iter().find(|item| {
                if key.is_empty() {
                    item.text() == value
                } else {
                    item.get(key).is_some_and(|v| v.text() == value)
                }
            })
        } else if node.kind() == Kind::Map {
            node.get(part)
        } else {
            return Err(invalid(format!(
                "wrong node kind: expected a map but got {}",
                node.kind()
            )));
        };
        match next {
            Some(next) => node = next,
            None => return Ok(None),
        }
    }
    Ok(Some(node))
}

/// Calls a function on every node a path leads to, with wildcards, and says how many there were.
pub(super) fn visit(
    node: &mut Node,
    path: &[String],
    create: Option<Kind>,
    steps: &Steps<'_>,
    call: &mut dyn FnMut(&mut Node) -> Done<()>,
) -> Done<usize> {
    steps.spend(1)?;
    let Some((part, rest)) = path.split_first() else {
        call(node)?;
        return Ok(1);
    };
    if is_index(part) {
        return visit_index(node, part, rest, create, steps, call);
    }
    if is_key_value(part) {
        return visit_matching(node, part, rest, create, steps, call);
    }
    if part == "*" {
        let mut found = 0;
        for item in items(node)? {
            found += visit(item, rest, create, steps, call)?;
        }
        return Ok(found);
    }
    if node.is_null() {
        return Ok(0);
    }
    if node.kind() != Kind::Map {
        return Err(invalid(format!(
            "wrong node kind: expected a map but got {}",
            node.kind()
        )));
    }
    let field = match create {
        Some(kind) => node.get_or_insert(part, next_kind(rest, kind)),
        None => node.get_mut(part),
    };
    match field {
        None => Ok(0),
        Some(field) if field.kind() == Kind::Scalar && !rest.is_empty() && !field.is_null() => {
            steps.spend(field.text().len())?;
            let parsed = parse_first(field.text().as_bytes(), Limits::default())?;
            parsed.map_or(Ok(0), |mut inner| {
                visit(&mut inner, rest, create, steps, &mut |_| Ok(()))
            })
        }
        Some(field) => visit(field, rest, create, steps, call),
    }
}

fn next_kind(rest: &[String], last: Kind) -> Kind {
    match rest.first() {
        None => last,
        Some(part) if is_key_value(part) || is_index(part) => Kind::Seq,
        Some(_) => Kind::Map,
    }
}

fn items(node: &mut Node) -> Done<&mut Vec<Node>> {
    let kind = node.kind();
    match &mut node.content {
        Content::Seq(items) => Ok(items),
        _ => Err(invalid(format!(
            "wrong node kind: expected a list but got {kind}"
        ))),
    }
}

fn visit_index(
    node: &mut Node,
    part: &str,
    rest: &[String],
    create: Option<Kind>,
    steps: &Steps<'_>,
    call: &mut dyn FnMut(&mut Node) -> Done<()>,
) -> Done<usize> {
    let list = items(node)?;
    let index: usize = part
        .parse()
        .map_err(|_| invalid(format!("'{part}' is no index")))?;
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

fn visit_matching(
    node: &mut Node,
    part: &str,
    rest: &[String],
    create: Option<Kind>,
    steps: &Steps<'_>,
    call: &mut dyn FnMut(&mut Node) -> Done<()>,
) -> Done<usize> {
    let (key, value) = key_value(part)?;
    let pattern = regex(value)?;
    let fits = |item: &Node| {
        if key.is_empty() {
            return pattern.is_match(to_block(item).trim());
        }
        item.get(key)
            .is_some_and(|v| pattern.is_match(to_block(v).trim()))
    };
    let list = items(node)?;
    steps.spend(list.len())?;
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
        return Err(invalid(format!("failed to create element for \"{part}\"")));
    }
    list.push(element);
    match list.last_mut() {
        Some(item) if key.is_empty() => call(item).map(|()| 1),
        Some(item) => visit(item, rest, create, steps, call),
        None => Ok(0),
    }
}
