//! Patches: strategic merge by identity or by target, and JSON patches by target.

use serde_json::Value;

use super::{Context, to_json};
use crate::kustomize::error::{At, Error, Result, invalid};
use crate::kustomize::jsonpatch::{self, Operation};
use crate::kustomize::kustomization::Selector;
use crate::kustomize::listed::Listed;
use crate::kustomize::load;
use crate::kustomize::merge::merge;
use crate::kustomize::reader::Reader;
use crate::kustomize::resmap::ResMap;
use crate::kustomize::resource::Resource;
use crate::kustomize::selector::Matcher;
use crate::kustomize::{id, steps::Steps};
use crate::yaml::node::{Content, Node};

/// The patches of `patchesStrategicMerge`.
#[derive(Debug)]
pub(crate) struct MergePatches {
    pub(crate) patches: Vec<(Listed, Resource)>,
}

impl MergePatches {
    pub(crate) fn apply(&self, map: &mut ResMap, context: &Context<'_>) -> Result<()> {
        for (listed, patch) in &self.patches {
            context.steps.spend(1)?;
            let position = listed.named(map.one_with_id(&patch.id()))?;
            listed.named(apply_to(map, &[position], patch, context))?;
        }
        Ok(())
    }
}

/// One entry of `patches`.
#[derive(Debug)]
pub(crate) struct PatchEntry {
    body: Body,
    target: Option<Selector>,
    source: String,
    listed: Listed,
}

#[derive(Debug)]
enum Body {
    Merge(Vec<Resource>),
    Json(Vec<Operation>),
}

impl PatchEntry {
    /// Reads a patch and finds out which kind it is; `source` names it in errors.
    pub(crate) fn new(
        text: &str,
        target: Option<Selector>,
        changes: (bool, bool),
        (source, listed): (String, Listed),
        reader: Reader<'_>,
    ) -> Result<PatchEntry> {
        let merge = load::objects(text.as_bytes(), reader);
        let json = if text.is_empty() {
            Err(invalid("empty json patch operations"))
        } else {
            jsonpatch::decode(text, reader)
        };
        let body = match (merge, json) {
            (Err(error), _) if error.is_final() => return Err(error.into()),
            (_, Err(fault)) if fault.is_final() => return Err(fault),
            (Ok(nodes), json) => {
                if !nodes.is_empty() && json.is_ok_and(|operations| !operations.is_empty()) {
                    return Err(invalid(format!(
                        "illegally qualifies as both an SM and JSON patch: {source}"
                    )));
                }
                let (allow_name_change, allow_kind_change) = changes;
                let patch = |node| Resource {
                    allow_name_change,
                    allow_kind_change,
                    ..Resource::new(node)
                };
                Body::Merge(nodes.into_iter().map(patch).collect())
            }
            (Err(_), Ok(operations)) => Body::Json(operations),
            // A list is no object: what is wrong with it as a JSON patch is what helps.
            (Err(_), Err(json)) if is_list(text, reader) => {
                return Err(json).of(|| format!("unable to parse JSON patch from {source}"));
            }
            (Err(merge), Err(_)) => {
                let remedy = match is_operation(text, reader) {
                    true => "; a JSON patch is a list of operations",
                    false => "",
                };
                return Err(invalid(format!(
                    "unable to parse SM or JSON patch from {source}: {merge}{remedy}"
                )));
            }
        };
        Ok(PatchEntry {
            body,
            target,
            source,
            listed,
        })
    }

    pub(crate) fn apply(&self, map: &mut ResMap, context: &Context<'_>) -> Result<()> {
        self.listed.named(self.patch(map, context))
    }

    fn patch(&self, map: &mut ResMap, context: &Context<'_>) -> Result<()> {
        match &self.body {
            Body::Merge(patches) => self.merge(map, patches, context),
            Body::Json(operations) => {
                let Some(target) = &self.target else {
                    return Err(invalid(format!(
                        "must specify a target for JSON patch {}",
                        self.source
                    )));
                };
                let selected = select(map, &Matcher::new(target, context.steps)?, context.steps)?;
                patch_json(map, &selected, operations, true, context.steps)
            }
        }
    }

    fn merge(&self, map: &mut ResMap, patches: &[Resource], context: &Context<'_>) -> Result<()> {
        let Some(target) = &self.target else {
            for patch in patches {
                context.steps.spend(1)?;
                let id = patch.id();
                let position = map
                    .one_with_id(&id)
                    .of(|| format!("no resource matches strategic merge patch \"{id}\""))?;
                merge_into(map, position, patch, context)?;
            }
            return Ok(());
        };
        match patches {
            [] => Ok(()),
            [patch] => {
                let selected = select(map, &Matcher::new(target, context.steps)?, context.steps)?;
                apply_to(map, &selected, patch, context)
            }
            _ => Err(invalid(format!(
                "Multiple Strategic-Merge Patches in one `patches` entry is not allowed to set `patches.target` field: {}",
                self.source
            ))),
        }
    }
}

/// Tells whether a text is a list, or was meant to be one.
fn is_list(text: &str, reader: Reader<'_>) -> bool {
    let read = || reader.first(text.as_bytes()).ok().flatten();
    text.starts_with('[') || read().is_some_and(|node| matches!(node.content, Content::Seq(_)))
}

/// Tells whether a text is one operation of a JSON patch.
fn is_operation(text: &str, reader: Reader<'_>) -> bool {
    let read = reader.first(text.as_bytes());
    matches!(read, Ok(Some(node)) if node.get("op").is_some() && node.get("path").is_some())
}

/// One entry of `patchesJson6902`.
#[derive(Debug)]
pub(crate) struct JsonPatch {
    pub(crate) listed: Listed,
    pub(crate) target: Selector,
    pub(crate) operations: Vec<Operation>,
}

impl JsonPatch {
    pub(crate) fn apply(&self, map: &mut ResMap, context: &Context<'_>) -> Result<()> {
        self.listed.named(self.patch(map, context))
    }

    fn patch(&self, map: &mut ResMap, context: &Context<'_>) -> Result<()> {
        let matcher = Matcher::new(&self.target, context.steps)?;
        let selected = select(map, &matcher, context.steps)?;
        patch_json(map, &selected, &self.operations, false, context.steps)
    }
}

/// Lists the positions of the objects that a target selects; one that names its object looks at no other.
fn select(map: &mut ResMap, matcher: &Matcher, steps: &Steps<'_>) -> Result<Vec<usize>> {
    let positions = match matcher.exact_name() {
        Some(name) => map.with_name(name).to_vec(),
        None => (0..map.list().len()).collect(),
    };
    steps.spend(positions.len())?;
    let mut selected = Vec::new();
    for position in positions {
        let resource = &map.list()[position];
        if !resource.node.is_empty() && matcher.selects(resource, steps)? {
            selected.push(position);
        }
    }
    Ok(selected)
}

/// Applies a patch to selected objects as kustomize does for targets: the patch becomes of the object's type first,
/// and its labels and annotations become text.
fn apply_to(map: &mut ResMap, selected: &[usize], patch: &Resource, context: &Context<'_>) -> Result<()> {
    let mut template = patch.clone();
    for field in ["labels", "annotations"] {
        let texts = patch.texts(field);
        template.set_texts(field, &texts);
    }
    template.set_name(patch.name());
    template.set_namespace(id::namespace(&patch.node));
    for position in selected {
        let api_version = id::api_version(&map.list()[*position].node).to_string();
        template.node.set("apiVersion", Node::plain(api_version));
        merge_into(map, *position, &template, context)?;
    }
    map.require_distinct(context.steps)
}

/// Drops what patches emptied; where they emptied nothing, no object is looked at.
fn drop_if(emptied: bool, map: &mut ResMap, steps: &Steps<'_>) -> Result<()> {
    if emptied {
        steps.spend(map.list().len())?;
        map.drop_empty();
    }
    Ok(())
}

/// Merges a patch into the object at a position, and deletes it when nothing is left of it.
fn merge_into(map: &mut ResMap, position: usize, patch: &Resource, context: &Context<'_>) -> Result<()> {
    let deletes = patch.node.get("$patch").is_some();
    let renames = patch.allow_name_change || patch.allow_kind_change;
    let Some(resource) = map.list().get(position) else {
        return Ok(());
    };
    // Nothing else alters an identity, but for the names it had where all annotations are wiped.
    let before = (renames || resource.marked || deletes)
        .then(|| map.keys(position, context.steps))
        .transpose()?;
    let Some(resource) = map.contents_mut().get_mut(position) else {
        return Ok(());
    };
    let (name, namespace) = (
        resource.name().to_string(),
        id::namespace(&resource.node).to_string(),
    );
    let kind = id::kind(&resource.node).to_string();
    if renames {
        resource.store_previous(context.steps)?;
    }
    let object = std::mem::replace(&mut resource.node, Node::map());
    let label = || format!("{kind} {name}");
    // Each object gets a copy of its own.
    context.steps.spend_nodes(patch.node.count())?;
    let merged = merge(object, patch.node.clone(), context.schemas, context.steps);
    let Some(merged) = merged.in_object(label)? else {
        map.delete(position, before);
        return Ok(());
    };
    resource.node = merged;
    if !patch.allow_kind_change {
        resource.node.set("kind", Node::plain(kind));
    }
    if !patch.allow_name_change {
        resource.set_name(&name);
    }
    resource.set_namespace(&namespace);
    resource.dirty |= resource.alias_groups > 0;
    let wiped = resource.forget_if_wiped();
    resource.sync(context.steps)?;
    if let Some(before) = before.filter(|_| wiped || renames) {
        map.rekey(position, before);
    }
    Ok(())
}

/// Applies a JSON patch to selected objects; what kustomize keeps in annotations survives whatever the patch does.
fn patch_json(
    map: &mut ResMap,
    selected: &[usize],
    operations: &[Operation],
    remember: bool,
    steps: &Steps<'_>,
) -> Result<()> {
    if selected.is_empty() {
        return Ok(());
    }
    let mut emptied = false;
    for position in selected {
        let keys = map.keys(*position, steps)?;
        let Some(resource) = map.contents_mut().get_mut(*position) else {
            continue;
        };
        // The whole object is read, and written anew.
        steps.spend(resource.node.count())?;
        let before = resource.id();
        if remember {
            resource.store_previous(steps)?;
        }
        // As JSON, as what the operations work on, and as new nodes beside the old ones.
        let held = steps.hold_json(&resource.node, 2)? + steps.hold_copy(&resource.node)?;
        let object = to_json(resource, steps).map_err(Box::<Error>::from);
        let object = object.in_object(|| before.to_string())?;
        let document = jsonpatch::apply(object, operations, steps).in_object(|| before.to_string())?;
        let Value::Object(_) = &document else {
            return Err(invalid("the patch leaves no object")).in_object(|| before.to_string());
        };
        resource.node = Node::from_json(&document);
        drop(document);
        steps.give_back(held);
        if !matches!(
            resource.node.get("metadata").map(|m| &m.content),
            None | Some(Content::Map(_))
        ) {
            return Err(invalid("the patch leaves no metadata")).in_object(|| before.to_string());
        }
        let annotations = resource.texts("annotations");
        resource.set_texts("annotations", &annotations);
        resource.restore_mark();
        resource.sync(steps)?;
        emptied |= resource.node.is_empty();
        if resource.id() != before {
            map.rekey(*position, keys);
        }
    }
    drop_if(emptied, map, steps)
}
