//! Transformers that write given values: labels, annotations, replica counts, single values.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use smol_str::SmolStr;

use crate::kustomize::error::{Error, Result, invalid};
use crate::kustomize::fieldspec::{self, Create, FieldSpec, Fitting, NAMES_PER_STEP};
use crate::kustomize::id::Gvk;
use crate::kustomize::kustomization::{Replica, Selector};
use crate::kustomize::resmap::ResMap;
use crate::kustomize::resource::Resource;
use crate::kustomize::selector::Matcher;
use crate::kustomize::steps::Steps;
use crate::yaml::node::{Content, Kind, Node, Tag};

/// How many fields of a map are looked through for all texts together before it is worth an index.
const MAX_SEARCHED: usize = 1024;
/// So few texts are not worth one, however many fields there are.
const FEW_TEXTS: usize = 4;
/// So many names are compared for the step that each text costs.
const FEW_NAMES: usize = 64;

/// Labels or annotations and the fields they go into.
#[derive(Debug)]
pub(crate) struct MetadataMap {
    pub(crate) texts: BTreeMap<String, String>,
    pub(crate) fields: Vec<FieldSpec>,
}

impl MetadataMap {
    /// Writes the texts into an object.
    pub(crate) fn change(
        &self,
        resource: &mut Resource,
        fitting: &mut Fitting<'_>,
        steps: &Steps<'_>,
    ) -> Result<()> {
        if self.texts.is_empty() {
            return Ok(());
        }
        let create = Create {
            kind: Kind::Map,
            tag: Tag::Map,
        };
        let first = resource.alias_groups + 1;
        let fields = fitting.of(resource.gvk(), steps)?;
        // Texts are gone through only for what takes steps for each of them.
        let lengths = self.texts.iter().map(|(key, value)| key.len() + value.len());
        let length: usize = if fields.is_empty() { 0 } else { lengths.sum() };
        for field in fields {
            steps.spend_bytes(length)?;
            steps.spend(self.texts.len())?;
            let set = &mut |node: &mut Node| self.set(node, first, steps);
            resource.dirty |= fieldspec::apply_fitting(&mut resource.node, field, Some(&create), steps, set)?;
        }
        let written = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        resource.alias_groups = resource.alias_groups.saturating_add(written);
        Ok(())
    }

    /// Writes the texts into a map; entries that are new to it are aliases of each other across the fields of the object.
    fn set(&self, node: &mut Node, first: u32, steps: &Steps<'_>) -> Result<()> {
        if node.is_null() {
            return Ok(());
        }
        if node.kind() != Kind::Map {
            return Err(invalid(format!(
                "wrong node kind: expected a map but got {}",
                node.kind()
            )));
        }
        let texts = (first..).zip(&self.texts);
        let texts = texts.map(|(group, (key, value))| (key, Node::string(value.as_str()).aliased(group)));
        let before = node.fields().len();
        // What is written is looked through as well.
        let searched = before
            .saturating_add(self.texts.len())
            .saturating_mul(self.texts.len());
        if self.texts.len() <= FEW_TEXTS || searched <= MAX_SEARCHED {
            if searched > FEW_NAMES {
                steps.spend(searched / NAMES_PER_STEP)?;
            }
            texts.for_each(|(key, value)| _ = node.set(key, value));
            let added = node.fields().len() - before;
            return if added > 0 {
                steps.spend_nodes(2 * added)
            } else {
                Ok(())
            };
        }
        steps.spend(before)?;
        let mut places: HashMap<SmolStr, usize> = HashMap::with_capacity(before);
        for (at, (key, _)) in node.fields().iter().enumerate() {
            places.entry(key.text().into()).or_insert(at);
        }
        let known = self.texts.keys().filter(|key| places.contains_key(key.as_str()));
        steps.spend_nodes(2 * (self.texts.len() - known.count()))?;
        for (key, value) in texts {
            match (places.get(key.as_str()), &mut node.content) {
                (Some(at), Content::Map(fields)) => fields[*at].1.overwrite(value),
                _ => node.append(key.as_str(), value),
            }
        }
        Ok(())
    }
}

/// The replica counts of the objects of some names.
#[derive(Debug)]
pub(crate) struct Replicas {
    list: Vec<Replica>,
    /// The positions in the list of a name.
    names: HashMap<String, Vec<usize>>,
    fields: Rc<[FieldSpec]>,
}

impl Replicas {
    pub(crate) fn new(list: Vec<Replica>, fields: Rc<[FieldSpec]>) -> Replicas {
        let mut names: HashMap<String, Vec<usize>> = HashMap::with_capacity(list.len());
        for (position, replica) in list.iter().enumerate() {
            names.entry(replica.name.clone()).or_default().push(position);
        }
        Replicas { list, names, fields }
    }

    /// Returns how many counts there are.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Sets the counts in an object that are of names of it, and notes which they were.
    pub(crate) fn change(
        &self,
        resource: &mut Resource,
        found: &mut [bool],
        steps: &Steps<'_>,
    ) -> Result<()> {
        steps.spend(resource.previous.len())?;
        let of_name = |name: &str| self.names.get(name).map_or(&[][..], Vec::as_slice);
        let previous = resource.previous.iter().map(|previous| previous.name.as_str());
        let all = previous.chain([resource.name()]).flat_map(of_name);
        let mut positions: Vec<usize> = all.copied().collect();
        positions.sort_unstable();
        positions.dedup();
        for position in positions {
            let names = 1 + resource.previous.len();
            steps.spend(self.fields.len().saturating_mul(names))?;
            found[position] |= self.set(&self.list[position], resource, steps)?;
            resource.sync(steps)?;
        }
        Ok(())
    }

    /// Sets one count in an object; returns whether it is of the name and of a type that has replicas.
    fn set(&self, replica: &Replica, resource: &mut Resource, steps: &Steps<'_>) -> Result<bool> {
        let create = Create {
            kind: Kind::Scalar,
            tag: Tag::Int,
        };
        let wanted =
            |gvk: Gvk<'_>, name: &str, field: &FieldSpec| name == replica.name && field.gvk.selects(gvk);
        let mut found = false;
        for field in self.fields.iter() {
            let gvk = resource.gvk();
            let fits = wanted(gvk, resource.name(), field)
                || resource
                    .previous
                    .iter()
                    .any(|p| wanted(Gvk { kind: &p.kind, ..gvk }, &p.name, field));
            if !fits {
                continue;
            }
            found = true;
            let set = &mut |node: &mut Node| {
                if node.kind() != Kind::Scalar {
                    return Err(invalid("wrong node kind: expected a scalar"));
                }
                node.overwrite(Node::tagged(Tag::Int, replica.count.to_string()));
                Ok(())
            };
            resource.dirty |= fieldspec::apply(&mut resource.node, field, Some(&create), steps, set)?;
        }
        Ok(found)
    }

    /// The error when no object is of the name of a count.
    pub(crate) fn not_found(&self, position: usize) -> Box<Error> {
        let kinds: Vec<String> = self.fields.iter().map(|f| f.gvk.as_gvk().to_string()).collect();
        invalid(format!(
            "resource with name {} does not match a config with the following GVK [{}]",
            self.list[position].name,
            kinds.join(" ")
        ))
    }
}

/// Where a [`ValueAdd`] writes its value.
#[derive(Debug)]
pub(crate) struct ValueTarget {
    /// The objects; all when there is none.
    pub(crate) selector: Option<Selector>,
    /// The field, with slashes.
    pub(crate) path: String,
    /// Which part of a path the value becomes, from 1; the whole text when it is 0.
    pub(crate) position: i64,
}

/// Writes one value into fields of the objects it selects.
#[derive(Debug)]
pub(crate) struct ValueAdd {
    value: String,
    targets: Vec<(ValueTarget, FieldSpec)>,
}

impl ValueAdd {
    pub(crate) fn new(value: String, targets: Vec<ValueTarget>) -> Result<ValueAdd> {
        if targets.is_empty() {
            return Err(invalid("must specify at least one target"));
        }
        let checked = |target: ValueTarget| {
            if target.path.is_empty() {
                return Err(invalid("fieldPath cannot be empty"));
            }
            if target.position < 0 {
                return Err(invalid(format!(
                    "value of filePathPosition ({}) cannot be negative",
                    target.position
                )));
            }
            let field = FieldSpec::read(Default::default(), target.path.as_str(), true)?;
            Ok((target, field))
        };
        Ok(ValueAdd {
            targets: targets.into_iter().map(checked).collect::<Result<_>>()?,
            value,
        })
    }

    pub(crate) fn apply(&self, map: &mut ResMap, steps: &Steps<'_>) -> Result<()> {
        for (target, field) in &self.targets {
            steps.spend(map.list().len())?;
            let matcher = target.selector.as_ref();
            let matcher = matcher
                .map(|selector| Matcher::new(selector, steps))
                .transpose()?;
            for resource in map.list_mut() {
                if let Some(matcher) = &matcher
                    && !matcher.selects(resource, steps)?
                {
                    continue;
                }
                if target.path == "metadata/namespace" {
                    // Set by the rules of namespaces, which leave objects of the cluster alone.
                    super::namespace::set(resource, &self.value, steps)?;
                    continue;
                }
                let create = Create {
                    kind: Kind::Scalar,
                    tag: Tag::Str,
                };
                let set = &mut |node: &mut Node| {
                    if node.kind() != Kind::Scalar {
                        return Err(invalid("wrong node kind: expected a scalar"));
                    }
                    steps.spend_bytes(self.value.len() + node.text().len())?;
                    node.overwrite(Node::plain(self.placed(node.text(), target.position)));
                    Ok(())
                };
                resource.dirty |= fieldspec::apply(&mut resource.node, field, Some(&create), steps, set)?;
            }
        }
        Ok(())
    }

    /// Puts the value in as one element of a path, or instead of the whole text. Elements that are empty or a dot go.
    fn placed(&self, old: &str, position: i64) -> String {
        if position <= 0 {
            return self.value.clone();
        }
        // The first part of an absolute path is behind its slash.
        let root = if old.starts_with('/') { "/" } else { "" };
        let mut text = String::with_capacity(old.len() + self.value.len() + 1);
        text.push_str(root);
        let mut push = |part: &str| {
            if matches!(part, "" | ".") {
                return;
            }
            if text.len() > root.len() {
                text.push('/');
            }
            text.push_str(part);
        };
        let inner = old.strip_prefix('/').unwrap_or(old);
        let parts = (!inner.is_empty()).then(|| inner.split('/'));
        let at = usize::try_from(position - 1).unwrap_or(0);
        let mut count = 0;
        for part in parts.into_iter().flatten() {
            if count == at {
                push(&self.value);
            }
            push(part);
            count += 1;
        }
        if count <= at {
            push(&self.value);
        }
        text
    }
}
