//! Replacements: one value, taken from an object or given, copied into fields of others.

mod fields;
mod maps;
mod overwritten;
mod texts;

use super::Context;
use crate::kustomize::error::{At, Result, invalid};
use crate::kustomize::id::{Gvk, GvkPattern, namespace};
use crate::kustomize::kustomization::{Replacement, Selector, Source, Target};
use crate::kustomize::listed::Listed;
use crate::kustomize::resmap::ResMap;
use crate::kustomize::resource::Resource;
use crate::kustomize::selector::Matcher;
use crate::kustomize::steps::Steps;
use crate::yaml::node::{Content, Kind, Node};
use fields::{Fields, Given};
pub(crate) use overwritten::{Failure, Overwritten, to_json};

/// Carries out replacements in order.
pub(crate) fn replace_all(
    map: &mut ResMap,
    list: &[(Listed, Replacement)],
    context: &Context<'_>,
) -> Result<()> {
    let mut fields = Fields::new(context.steps);
    for (listed, replacement) in list {
        let by = By {
            listed,
            replacement,
            context,
        };
        listed.named(replace(map, &mut fields, &by))?;
    }
    fields.end();
    map.drop_empty();
    Ok(())
}

/// A replacement, and where it stands.
struct By<'b> {
    listed: &'b Listed,
    replacement: &'b Replacement,
    context: &'b Context<'b>,
}

impl By<'_> {
    /// Returns the note that it wrote something of another type over a field.
    fn overwrites(&self, path: &str) -> Overwritten {
        let source = match &self.replacement.source {
            Some(source) => format!("{}:{}", shown(source), source.path()),
            None => "sourceValue".to_owned(),
        };
        Overwritten::new(self.listed, self.context.file, &source, path)
    }
}

fn replace(map: &mut ResMap, fields: &mut Fields<'_>, by: &By<'_>) -> Result<()> {
    let (replacement, steps) = (by.replacement, by.context.steps);
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
        (Some(source), None) => source_value(map, source, fields, steps)?,
    };
    targets
        .iter()
        .try_for_each(|target| write(map, &value, target, fields, by))
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

fn source_value(
    map: &mut ResMap,
    source: &Source,
    fields: &mut Fields<'_>,
    steps: &Steps<'_>,
) -> Result<Node> {
    let name = Some(source.selector.name.as_str()).filter(|name| !name.is_empty());
    let among = Among::of(map, name);
    let all = (0..among.len()).map(|at| (among.position(at), &map.list()[among.position(at)]));
    steps.spend(all.clone().map(|(_, r)| 1 + r.previous.len()).sum())?;
    let mut matches = all.filter(|(_, r)| is_source(r, &source.selector));
    let Some((position, object)) = matches.next() else {
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
    let path = source.path();
    let found = fields.lookup(position, &object.node, path)?;
    let Some(found) = found.filter(|node| !node.is_empty()) else {
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

fn write(
    map: &mut ResMap,
    value: &Node,
    target: &Target,
    fields: &mut Fields<'_>,
    by: &By<'_>,
) -> Result<()> {
    let steps = by.context.steps;
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
        let given = Given {
            value,
            options: target.options.as_ref(),
        };
        for path in paths {
            let written = fields.write(position, &mut resource.node, path, given);
            if written.in_object(|| id.to_string())? {
                resource.note_overwritten(by.overwrites(path), steps)?;
            }
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

/// Takes what a copy of a value costs, before it is made: it may hold all that earlier ones put into it.
fn copied(value: &Node, steps: &Steps<'_>) -> Result<()> {
    steps.spend_copy(value.count(), value.text_bytes())
}
