//! Replacements: one value, taken from an object or given, copied into fields of others.

use super::Context;
use super::paths::{self, Step, lookup, visit};
use crate::kustomize::depth;
use crate::kustomize::error::{At, Result, invalid, shortened};
use crate::kustomize::id::{Gvk, GvkPattern, namespace};
use crate::kustomize::kustomization::{FieldOptions, Replacement, Selector, Source, Target};
use crate::kustomize::listed::Listed;
use crate::kustomize::reader::Reader;
use crate::kustomize::resmap::ResMap;
use crate::kustomize::resource::Resource;
use crate::kustomize::selector::Matcher;
use crate::kustomize::steps::Steps;
use crate::yaml::json::{self, Layout};
use crate::yaml::node::{Content, Kind, Node, Schema, Style, to_block};

/// Carries out replacements in order.
pub(crate) fn replace_all(
    map: &mut ResMap,
    list: &[(Listed, Replacement)],
    context: &Context<'_>,
) -> Result<()> {
    for (listed, replacement) in list {
        listed.named(replace(map, replacement, context))?;
    }
    map.drop_empty();
    Ok(())
}

fn replace(map: &mut ResMap, replacement: &Replacement, context: &Context<'_>) -> Result<()> {
    let Some(targets) = &replacement.targets else {
        return Err(invalid(
            "replacements must specify a source and at least one target",
        ));
    };
    let value = match (&replacement.source, &replacement.source_value) {
        (Some(_), Some(_)) => {
            return Err(invalid("value and resource selectors are mutually exclusive"));
        }
        (None, None) => {
            return Err(invalid(
                "replacements must specify a source and at least one target",
            ));
        }
        (None, Some(text)) => Node::plain(text.as_str()),
        (Some(source), None) => source_value(map, source, context.steps)?,
    };
    targets
        .iter()
        .try_for_each(|target| write(map, &value, target, context.steps))
}

/// The positions of the objects that a selector may mean.
enum Among {
    All(usize),
    /// Those that have a name or had it.
    Named(Vec<usize>),
}

impl Among {
    fn of(map: &mut ResMap, name: Option<&str>) -> Among {
        match name {
            Some(name) => Among::Named(map.with_name(name).to_vec()),
            None => Among::All(map.list().len()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Among::All(count) => *count,
            Among::Named(positions) => positions.len(),
        }
    }

    fn position(&self, at: usize) -> usize {
        match self {
            Among::All(_) => at,
            Among::Named(positions) => positions[at],
        }
    }
}

/// Tells whether one of an object's identities is what a source names; here an empty namespace is `default`.
fn is_source(resource: &Resource, selector: &Selector) -> bool {
    fn home(namespace: &str) -> &str {
        match namespace {
            "" => "default",
            namespace => namespace,
        }
    }
    identities(resource).any(|(gvk, name, namespace)| {
        (selector.name.is_empty() || selector.name == name)
            && (selector.namespace.is_empty() || home(&selector.namespace) == home(namespace))
            && selector.gvk.selects(gvk)
    })
}

/// Returns the present identity of an object and those it had; namespaces are as written now, as effective before.
fn identities(resource: &Resource) -> impl Iterator<Item = (Gvk<'_>, &str, &str)> {
    let gvk = resource.gvk();
    let had = resource.previous.iter();
    let had = had.map(move |p| {
        (
            Gvk { kind: &p.kind, ..gvk },
            p.name.as_str(),
            p.namespace.as_str(),
        )
    });
    std::iter::once((gvk, resource.name(), namespace(&resource.node))).chain(had)
}

/// Tells whether any of them fits.
fn fits(matcher: &Matcher, resource: &Resource, steps: &Steps<'_>) -> Result<bool> {
    for (gvk, name, namespace) in identities(resource) {
        if matcher.fits_id(gvk, name, namespace, steps)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn source_value(map: &mut ResMap, source: &Source, steps: &Steps<'_>) -> Result<Node> {
    let name = Some(source.selector.name.as_str()).filter(|name| !name.is_empty());
    let among = Among::of(map, name);
    let all = (0..among.len()).map(|at| &map.list()[among.position(at)]);
    steps.spend(all.clone().map(|r| 1 + r.previous.len()).sum())?;
    let mut matches = all.filter(|r| is_source(r, &source.selector));
    let Some(object) = matches.next() else {
        let path = match source.field_path.as_str() {
            "" => String::new(),
            path => format!(":{path}"),
        };
        return Err(invalid(format!("nothing selected by {}{path}", shown(source))));
    };
    if matches.next().is_some() {
        return Err(invalid(format!(
            "multiple matches for selector {}",
            shown(source)
        )));
    }
    let path = if source.field_path.is_empty() {
        "metadata.name"
    } else {
        &source.field_path
    };
    let found = lookup(&object.node, &paths::parse(path)?, steps)?.filter(|node| !node.is_empty());
    let Some(found) = found else {
        return Err(invalid(format!(
            "fieldPath `{path}` is missing for replacement source {}",
            shown(source)
        )));
    };
    copied(found, steps)?;
    let Some(options) = source.options.as_ref().filter(|o| !o.delimiter.is_empty()) else {
        let mut value = found.clone();
        value.unalias();
        return Ok(value);
    };
    if found.kind() != Kind::Scalar {
        return Err(invalid("delimiter option can only be used with scalar nodes"));
    }
    let part = usize::try_from(options.index)
        .ok()
        .and_then(|i| found.text().split(&options.delimiter).nth(i));
    let Some(part) = part else {
        return Err(invalid(format!(
            "options.index {} is out of bounds for the value of {}",
            options.index,
            shown(source)
        )));
    };
    Ok(Node {
        content: Content::Scalar(part.into()),
        alias_group: Default::default(),
        ..found.clone()
    })
}

fn shown(source: &Source) -> String {
    let selector = &source.selector;
    let or = |text: &str, none: &'static str| {
        if text.is_empty() {
            none.to_owned()
        } else {
            text.to_owned()
        }
    };
    let name = or(&selector.name, "[noName]");
    let namespace = or(&selector.namespace, "[noNs]");
    format!("{}/{name}.{namespace}", selector.gvk.as_gvk())
}

fn write(map: &mut ResMap, value: &Node, target: &Target, steps: &Steps<'_>) -> Result<()> {
    let Some(selector) = &target.select else {
        return Err(invalid("target must specify resources to select"));
    };
    let select = Matcher::new(selector, steps)?;
    let before = steps.bytes_left();
    let rejects: Vec<(&Selector, Matcher)> = target
        .reject
        .iter()
        .map(|r| Ok((r, Matcher::kept(r, steps)?)))
        .collect::<Result<_>>()?;
    let kept = before.saturating_sub(steps.bytes_left());
    let default = ["metadata.name".to_string()];
    let paths = if target.field_paths.is_empty() {
        &default[..]
    } else {
        &target.field_paths
    };
    // What cannot be read of labels and annotations is told whatever the objects are called.
    let by_metadata = |r: &&(&Selector, Matcher)| has_metadata(r.0);
    let asks_all = has_metadata(selector) || rejects.iter().any(|r| by_metadata(&r));
    let among = Among::of(map, select.exact_name().filter(|_| !asks_all));
    steps.spend(among.len().saturating_mul(paths.len()))?;
    for at in 0..among.len() {
        let position = among.position(at);
        let Some(resource) = map.list().get(position) else {
            continue;
        };
        let asked = 1 + rejects.len();
        steps.spend(asked.saturating_mul(1 + resource.previous.len()))?;
        if !select.fits_metadata(resource, steps)? {
            continue;
        }
        let mut rejected = false;
        for (_, reject) in rejects.iter().filter(by_metadata) {
            rejected = rejected || reject.fits_metadata(resource, steps)?;
        }
        if rejected {
            continue;
        }
        let names =
            |s: &Selector| s.gvk != GvkPattern::default() || !s.name.is_empty() || !s.namespace.is_empty();
        for (_, reject) in rejects.iter().filter(|(selector, _)| names(selector)) {
            rejected = rejected || fits(reject, resource, steps)?;
        }
        if rejected || !fits(&select, resource, steps)? {
            continue;
        }
        let (id, keys) = (resource.id(), map.keys(position, steps)?);
        let resource = &mut map.contents_mut()[position];
        for path in paths {
            write_field(&mut resource.node, value, path, target.options.as_ref(), steps)
                .in_object(|| id.to_string())?;
        }
        resource.dirty |= resource.alias_groups > 0;
        if resource.id() != id {
            map.rekey(position, keys);
        }
    }
    // They are there for one target; a build whose target fails is over.
    drop(rejects);
    steps.give_back(kept);
    Ok(())
}

fn has_metadata(selector: &Selector) -> bool {
    !(selector.annotations.is_empty() && selector.labels.is_empty())
}

fn write_field(
    object: &mut Node,
    value: &Node,
    path: &str,
    options: Option<&FieldOptions>,
    steps: &Steps<'_>,
) -> Result<()> {
    let create = options.filter(|o| o.create).map(|_| value.kind());
    steps.spend_text(path.len())?;
    let parts = paths::parse(path)?;
    depth::check(parts.len() + depth::of(value).depth, || {
        format!("the value for '{}'", shortened(path))
    })?;
    if write_structured(object, value, &parts, create, steps)?.is_some() {
        return Ok(());
    }
    let missing = || {
        let or_create = if create.is_some() {
            "find or create"
        } else {
            "find"
        };
        format!("unable to {or_create} field \"{path}\" in replacement target")
    };
    let mut write = |node: &mut Node| {
        copied(value, steps)?;
        if options.is_some() {
            // What stands there may be kept in part, and written anew.
            steps.spend_bytes(node.text().len())?;
        }
        set(node, value, options)
    };
    let found = visit(object, &parts, create, steps, &mut write).of(missing)?;
    if found == 0 {
        Err(invalid(missing()))
    } else {
        Ok(())
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

/// Takes what a copy of a value costs, before it is made: it may hold all that earlier ones put into it.
fn copied(value: &Node, steps: &Steps<'_>) -> Result<()> {
    steps.spend_copy(value.count(), value.text_bytes())
}

/// Writes into YAML or JSON that a field holds as text; `None` when the path leads into no such text.
fn write_structured(
    object: &mut Node,
    value: &Node,
    parts: &[Step],
    create: Option<Kind>,
    steps: &Steps<'_>,
) -> Result<Option<()>> {
    let Some((length, text)) = text_on_path(object, parts, steps)? else {
        return Ok(None);
    };
    // It is read, and written anew.
    steps.spend(text.len())?;
    steps.spend_bytes(text.len())?;
    let mut document = match Reader::of_text(steps).first(text.as_bytes()) {
        Ok(Some(document)) => document,
        Err(fault) if fault.is_final() => return Err(fault),
        Ok(None) | Err(_) => return Ok(None),
    };
    let found = visit(&mut document, &parts[length..], create, steps, &mut |node| {
        copied(value, steps)?;
        match &mut node.content {
            Content::Scalar(old) => *old = value.text().into(),
            _ => *node = value.clone(),
        }
        Ok(())
    });
    match found {
        Ok(found) if found > 0 => {}
        Err(fault) if fault.is_final() => return Err(fault),
        _ => return Ok(None),
    }
    Ok(written(object, &parts[..length], &text, &document, steps))
}

/// Finds the first text that a path leads through: how many parts lead to it, and the text.
fn text_on_path(object: &Node, parts: &[Step], steps: &Steps<'_>) -> Result<Option<(usize, String)>> {
    for length in 1..parts.len() {
        match lookup(object, &parts[..length], steps) {
            Ok(Some(found)) if found.kind() == Kind::Scalar => {
                return Ok(Some((length, found.text().to_string())));
            }
            Ok(Some(_)) => {}
            Err(fault) if fault.is_final() => return Err(fault),
            // What is missing, or cannot be followed, is so for all longer paths.
            Ok(None) | Err(_) => break,
        }
    }
    Ok(None)
}

/// Writes a document in the place of the text that it was read from.
fn written(object: &mut Node, parts: &[Step], text: &str, document: &Node, steps: &Steps<'_>) -> Option<()> {
    let written = if text.trim_start().starts_with(['{', '[']) {
        let value = document.to_json(Schema::New).ok()?;
        let is_indented = text.contains('\n') && text.contains("  ");
        let layout = if is_indented {
            Layout::INDENTED
        } else {
            Layout::COMPACT
        };
        json::write(&value, layout)
    } else {
        to_block(document).trim().to_string()
    };
    visit(object, parts, None, steps, &mut |node| {
        node.content = Content::Scalar(written.as_str().into());
        if node.style == Style::Plain && written.contains('\n') {
            node.style = Style::Literal;
        }
        Ok(())
    })
    .ok()
    .map(|_| ())
}
