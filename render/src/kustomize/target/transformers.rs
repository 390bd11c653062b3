//! The transformers of a kustomization, in kustomize's order, and their run over the objects.

use std::rc::Rc;

use serde_json::Value;

use super::super::carried;
use super::super::config::{Config, merge_all};
use super::super::decode::Fields;
use super::super::error::{At, Result, invalid};
use super::super::fieldspec::FieldSpec;
use super::super::id::GvkPattern;
use super::super::jsonpatch;
use super::super::kustomization::{Kustomization, Patch, Replacement, ReplacementField};
use super::super::listed::Listed;
use super::super::origin::Maker;
use super::super::plugins::{self, Plugin};
use super::super::resmap::ResMap;
use super::super::resource::Resource;
use super::super::steps::Steps;
use super::super::transform::{
    Affix, Context, Images, JsonPatch, MergePatches, MetadataMap, Namespace, PatchEntry, Replicas, Subjects,
    Transformer, ValueAdd, apply_each, is_each,
};
use super::generated::{is_no_path, neither};
use super::{Build, Target};
use crate::yaml::node::Node;

/// What an entry takes that has a transformer of its own, with the note that it leaves.
const BYTES_PER_ENTRY: usize = 1 << 10;

impl Build<'_> {
    pub(super) fn transformers(
        &self,
        target: &Target,
        config: &Config,
    ) -> Result<Vec<(Option<Maker>, Transformer)>> {
        let k = &target.kustomization;
        let mut list = Vec::new();
        if !k.patches_strategic_merge.is_empty() {
            let patches = self.merge_patches(target, &k.patches_strategic_merge, "")?;
            list.push(("PatchStrategicMergeTransformer", patches));
        }
        for (index, patch) in k.patches.iter().enumerate() {
            let patch = self.patch(target, patch, Some(index)).in_item("patches", index)?;
            list.push(("PatchTransformer", patch));
        }
        // Where each leaves a note of itself, each is one of its own.
        let noted = target.origin.is_some();
        rename_and_label(k, config, noted, &mut list, &self.steps)?;
        for (index, patch) in k.patches_json6902.iter().enumerate() {
            let patch = self.json_patch(target, patch, Some(index));
            let patch = patch.in_item("patchesJson6902", index)?;
            list.push(("PatchJson6902Transformer", patch));
        }
        if noted {
            let entries = k.replicas.len().saturating_add(k.images.len());
            self.steps.spend_bytes(entries.saturating_mul(BYTES_PER_ENTRY))?;
        }
        let fields: Rc<[FieldSpec]> = config.replicas.as_slice().into();
        for replicas in together(&k.replicas, noted) {
            let transformer = Replicas::new(replicas.to_vec(), Rc::clone(&fields));
            list.push(("ReplicaCountTransformer", Transformer::Replicas(transformer)));
        }
        let fields: Rc<[FieldSpec]> = config.images.as_slice().into();
        for images in together(&k.images, noted) {
            let transformer = Images::new(images.to_vec(), Rc::clone(&fields), &self.steps);
            list.push((
                "ImageTagTransformer",
                Transformer::Images(transformer.in_field("images")?),
            ));
        }
        if !k.replacements.is_empty() {
            let replacements = self.replacements(target, &k.replacements)?;
            list.push(("ReplacementTransformer", Transformer::Replacements(replacements)));
        }
        let made_by = |kind| {
            target
                .origin
                .as_ref()
                .map(|origin| origin.of_field(&target.file, kind))
        };
        let mut list: Vec<(Option<Maker>, Transformer)> = list
            .into_iter()
            .map(|(kind, transformer)| (made_by(kind), transformer))
            .collect();
        let plugins = self.plugins(target, "transformers", &k.transformers);
        for configured in plugins.in_field("transformers")? {
            let made = self.plugin(target, &configured.value);
            let mut made = configured.named(self, made).in_field("transformers")?;
            // Several count as the one that they are configured by.
            let last = made.pop();
            list.extend(made.into_iter().map(|transformer| (None, transformer)));
            list.extend(last.map(|transformer| (Maker::of_plugin(&configured.value), transformer)));
        }
        Ok(list)
    }

    /// Returns what the object of a transformer configures, which may be two transformers.
    fn plugin(&self, target: &Target, value: &Value) -> Result<Vec<Transformer>> {
        let one = |transformer: Transformer| vec![transformer];
        match plugins::transformer(value, &self.steps)? {
            Plugin::Ready(transformers) => Ok(transformers),
            Plugin::Patch(patch) => self.patch(target, &patch, None).map(one),
            Plugin::JsonPatch(patch) => self.json_patch(target, &patch, None).map(one),
            Plugin::MergePatches { paths, text } => self.merge_patches(target, &paths, &text).map(one),
            Plugin::Replacements(list) => self
                .replacements(target, &list)
                .map(|list| one(Transformer::Replacements(list))),
            Plugin::ValueAdd {
                value,
                mut targets,
                file,
            } => {
                if !file.is_empty() {
                    targets.extend(plugins::value_targets(&self.json_of(target, &file)?)?);
                }
                let folder = target.directory.rsplit('/').next().unwrap_or_default();
                let value = if value.is_empty() {
                    folder.to_owned()
                } else {
                    value
                };
                Ok(one(Transformer::ValueAdd(ValueAdd::new(value, targets)?)))
            }
        }
    }

    fn merge_patches(&self, target: &Target, entries: &[String], text: &str) -> Result<Transformer> {
        const FIELD: &str = "patchesStrategicMerge";
        let mut patches = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let mut file = String::new();
            let read = match self.loaded(entry.as_bytes()) {
                Ok(list) => Ok(list),
                Err(error) if error.is_final() => Err(error.into()),
                Err(error) if is_no_path(entry) => Err(neither(&error)),
                Err(_) => self.read(target, entry).and_then(|bytes| {
                    file = self.shown_from(target, entry);
                    self.objects(&bytes).of(|| file.clone())
                }),
            };
            let listed = Listed::new(FIELD, Some(index), &file);
            let read = read.in_item(FIELD, index)?.into_iter();
            patches.extend(read.map(|patch| (listed.clone(), patch)));
        }
        if !text.is_empty() {
            let listed = Listed::new(FIELD, None, "");
            let read = self.objects(text.as_bytes())?.into_iter();
            patches.extend(read.map(|patch| (listed.clone(), patch)));
        }
        if patches.is_empty() {
            return Err(invalid("patch appears to be empty")).in_field(FIELD);
        }
        Ok(Transformer::MergePatches(MergePatches { patches }))
    }

    /// Returns the transformer of a patch, which is the item of `patches` or a plugin's.
    fn patch(&self, target: &Target, patch: &Patch, index: Option<usize>) -> Result<Transformer> {
        let given = patch.patch.trim();
        // What stands in place may hold secrets.
        let inline = match index {
            Some(index) => format!("[inline patch {}]", index + 1),
            None => "[inline patch]".to_owned(),
        };
        let (text, source) = match (given.is_empty(), patch.path.is_empty()) {
            (true, true) => return Err(invalid("must specify one of patch and path")),
            (false, false) => return Err(invalid("patch and path can't be set at the same time")),
            (false, true) => (given.to_string(), inline),
            (true, false) => {
                let bytes = self.read(target, &patch.path)?;
                let text =
                    String::from_utf8(bytes.into_owned()).map_err(|_| invalid("the patch is not UTF-8"))?;
                let carried = match self.carries {
                    true => carried::patch(&text, self.budget.yaml)?,
                    false => None,
                };
                (carried.unwrap_or(text), format!("[path: {:?}]", patch.path))
            }
        };
        let changes = (patch.allow_name_change, patch.allow_kind_change);
        let named = (source, self.listed(target, "patches", index, &patch.path));
        let entry = PatchEntry::new(&text, patch.target.clone(), changes, named, self.reader());
        self.of_file(target, &patch.path, entry).map(Transformer::Patch)
    }

    /// Names the place of a patch or of replacements, and the file that they stand in.
    fn listed(&self, target: &Target, field: &str, index: Option<usize>, path: &str) -> Listed {
        let file = match path {
            "" => String::new(),
            path => self.shown_from(target, path),
        };
        Listed::new(field, index, &file)
    }

    fn json_patch(&self, target: &Target, patch: &Patch, index: Option<usize>) -> Result<Transformer> {
        let selector = patch.target.clone().unwrap_or_default();
        if selector.name.is_empty() {
            return Err(invalid("must specify the target name"));
        }
        let text = match (patch.path.is_empty(), patch.patch.is_empty()) {
            (true, true) => return Err(invalid("empty file path and empty jsonOp")),
            (false, false) => return Err(invalid("must specify a file path or jsonOp, not both")),
            (true, false) => patch.patch.clone(),
            (false, true) => String::from_utf8_lossy(&self.read(target, &patch.path)?).into_owned(),
        };
        let operations = match jsonpatch::decode(&text, self.reader()) {
            Ok(operations) if operations.is_empty() => Err(invalid("patch appears to be empty")),
            read => read,
        };
        let operations = self.of_file(target, &patch.path, operations)?;
        Ok(Transformer::JsonPatch(JsonPatch {
            listed: self.listed(target, "patchesJson6902", index, &patch.path),
            target: selector,
            operations,
        }))
    }

    fn replacements(
        &self,
        target: &Target,
        fields: &[ReplacementField],
    ) -> Result<Vec<(Listed, Replacement)>> {
        const FIELD: &str = "replacements";
        let mut list = Vec::new();
        for (index, field) in fields.iter().enumerate() {
            let path = match field {
                ReplacementField::Inline(replacement) => {
                    list.push((Listed::new(FIELD, Some(index), ""), (**replacement).clone()));
                    continue;
                }
                ReplacementField::Path(path) => path,
            };
            let read = self.json_of(target, path).and_then(|json| {
                let read = replacements_of(&json, path);
                read.of(|| self.shown_from(target, path))
            });
            let listed = self.listed(target, FIELD, Some(index), path);
            let read = read.in_item(FIELD, index)?;
            let is_one = read.len() == 1;
            list.extend(
                read.into_iter()
                    .enumerate()
                    .map(|(part, replacement)| match is_one {
                        true => (listed.clone(), replacement),
                        false => (listed.part(part), replacement),
                    }),
            );
        }
        Ok(list)
    }

    /// Names the file that a patch stands in; it is empty for one that stands in its field.
    fn of_file<T>(&self, target: &Target, path: &str, read: Result<T>) -> Result<T> {
        match path {
            "" => read,
            path => read.of(|| self.shown_from(target, path)),
        }
    }

    pub(super) fn transform(
        &self,
        target: &Target,
        map: &mut ResMap,
        list: &[(Option<Maker>, Transformer)],
    ) -> Result<()> {
        let (schemas, file) = (self.schemas(), self.files.shown(&target.path()));
        let context = Context {
            schemas: &schemas,
            steps: &self.steps,
            file: &file,
        };
        let mut rest = list;
        while let Some((maker, transformer)) = rest.first() {
            // Where a transformer leaves a note of itself, it goes through all objects before the next does.
            let run = if target.origin.is_none() {
                rest.iter().take_while(|(_, each)| is_each(each)).count()
            } else {
                0
            };
            if run > 0 {
                map.drop_deleted();
                apply_each(rest[..run].iter().map(|(_, each)| each), map, &context)?;
                rest = &rest[run..];
                continue;
            }
            rest = &rest[1..];
            if !transformer.is_patch() {
                map.drop_deleted();
            }
            transformer.apply(map, &context)?;
            // Patches leave what they delete in its place, empty, for the patches behind them.
            if transformer.is_patch() && maker.is_none() {
                continue;
            }
            for resource in map.contents_mut() {
                resource.sync(&self.steps)?;
            }
            if let Some(maker) = maker {
                // What the transformer removed is still there, and empty.
                for resource in map.contents_mut().iter_mut().filter(|r| !r.node.is_empty()) {
                    self.charge_note(resource, maker.length())?;
                    maker.note_transformed(resource);
                    resource.restore_mark();
                }
            }
            map.drop_empty();
        }
        map.drop_deleted();
        Ok(())
    }

    /// Takes what a note of so many bytes on an object costs, whose annotations are written anew.
    pub(super) fn charge_note(&self, resource: &Resource, length: usize) -> Result<()> {
        let annotations = resource.node.at(&["metadata", "annotations"]);
        self.steps.spend_text(annotations.map_or(0, Node::text_bytes))?;
        self.steps.spend_bytes(length)
    }

    /// Runs validators, which are transformers that may change nothing.
    pub(super) fn validate(&self, target: &Target, map: &mut ResMap) -> Result<()> {
        let (schemas, file) = (self.schemas(), self.files.shown(&target.path()));
        let context = Context {
            schemas: &schemas,
            steps: &self.steps,
            file: &file,
        };
        let validators = self.plugins(target, "validators", &target.kustomization.validators)?;
        if validators.is_empty() {
            return Ok(());
        }
        // One copy serves all: what leaves it as it was leaves it to the next.
        let nodes: usize = map.list().iter().map(|resource| resource.node.count()).sum();
        self.steps.spend_nodes(nodes)?;
        let mut after = map.clone();
        for configured in validators {
            self.steps.spend(nodes)?;
            let made = self.plugin(target, &configured.value);
            for transformer in configured.named(self, made)? {
                transformer.apply(&mut after, &context)?;
            }
            let same = after.list().len() == map.list().len()
                && after.list().iter().zip(map.list()).all(|(a, b)| a.node == b.node);
            if !same {
                return Err(invalid("validator shouldn't modify the resource map"));
            }
        }
        Ok(())
    }
}

/// Reads the replacements of a file: a list of them, or one.
fn replacements_of(json: &Value, path: &str) -> Result<Vec<Replacement>> {
    let read = |value: &Value| {
        let mut fields = Fields::new(value, path)?.not_strict();
        Replacement::read(&mut fields)
    };
    match json {
        Value::Array(items) => items.iter().map(read).collect(),
        Value::Object(_) => Ok(vec![read(json)?]),
        _ => Err(invalid("a replacement or a list of them was expected")),
    }
}

/// Returns the entries that one transformer takes: all, or one where each leaves a note of itself.
fn together<T>(entries: &[T], noted: bool) -> impl Iterator<Item = &[T]> {
    entries.chunks(if noted { 1 } else { entries.len().max(1) })
}

fn rename_and_label(
    k: &Kustomization,
    config: &Config,
    noted: bool,
    list: &mut Vec<(&'static str, Transformer)>,
    steps: &Steps<'_>,
) -> Result<()> {
    if !k.namespace.is_empty() {
        let transformer = Transformer::Namespace(Namespace {
            namespace: k.namespace.clone(),
            fields: config.namespace.clone(),
            unset_only: false,
            subjects: Subjects::Default,
        });
        list.push(("NamespaceTransformer", transformer));
    }
    if !k.name_prefix.is_empty() {
        let affix = Affix {
            text: k.name_prefix.clone(),
            fields: config.name_prefix.clone(),
        };
        list.push(("PrefixTransformer", Transformer::Prefix(affix)));
    }
    if !k.name_suffix.is_empty() {
        let affix = Affix {
            text: k.name_suffix.clone(),
            fields: config.name_suffix.clone(),
        };
        list.push(("SuffixTransformer", Transformer::Suffix(affix)));
    }
    let mut last = None;
    for label in &k.labels {
        // Entries that follow each other with the same fields write as one; of a label in several, the last counts.
        let same =
            (label.fields.is_empty() && !noted).then_some((label.include_selectors, label.include_templates));
        if same.is_some()
            && last == same
            && let Some((_, Transformer::Labels(labels))) = list.last_mut()
        {
            labels.texts.extend(label.pairs.clone());
            continue;
        }
        last = same;
        let mut fields = label.fields.clone();
        let mut gather = || -> Result<()> {
            merge_all(&mut fields, &config.labels, steps)?;
            if label.include_selectors {
                return merge_all(&mut fields, &config.common_labels, steps);
            }
            if label.include_templates {
                merge_all(&mut fields, &config.template_labels, steps)?;
            }
            let of_object = FieldSpec::new(GvkPattern::default(), "metadata/labels", true);
            merge_all(&mut fields, &[of_object], steps)
        };
        gather().in_field("labels")?;
        let length = fields.len().saturating_mul(size_of::<FieldSpec>());
        steps.spend_bytes(length).in_field("labels")?;
        list.push((
            "LabelTransformer",
            Transformer::Labels(MetadataMap {
                texts: label.pairs.clone(),
                fields,
            }),
        ));
    }
    if !k.labels.is_empty() || !k.common_labels.is_empty() {
        let texts = MetadataMap {
            texts: k.common_labels.clone(),
            fields: config.common_labels.clone(),
        };
        list.push(("LabelTransformer", Transformer::Labels(texts)));
    }
    if !k.common_annotations.is_empty() {
        let texts = MetadataMap {
            texts: k.common_annotations.clone(),
            fields: config.common_annotations.clone(),
        };
        list.push(("AnnotationsTransformer", Transformer::Annotations(texts)));
    }
    Ok(())
}
