//! Walks a kustomization and those below it: reads, generates, transforms, and hands the objects upwards.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value;

use crate::yaml::node::{Schema, parse_first};

use super::config::{Config, merge_all, merge_one, merge_shared};
use super::error::{At, Done, invalid, remote, too_large};
use super::fieldspec::FieldSpec;
use super::generators;
use super::id::{Gvk, GvkPattern, Id};
use super::kustomization::{GeneratorArgs, Kustomization, Patch, Replacement, ReplacementField, Var};
use super::origin::Origin;
use super::plugins::{self, Plugin};
use super::resmap::ResMap;
use super::resource::Resource;
use super::schema::Schemas;
use super::steps::Steps;
use super::transform::{
    Affix, Context, Images, JsonPatch, MergePatches, Namespace, PatchEntry, Subjects, Texts, Transformer,
};
use super::tree::{Entry, Files, PathError};
use super::{Budget, KUSTOMIZATION_FILES, Restriction, jsonpatch, load};

/// What one build shares among its kustomizations.
pub(crate) struct Build<'a> {
    pub(crate) files: Files<'a>,
    pub(crate) budget: &'a Budget,
    pub(crate) restriction: Restriction,
    pub(crate) steps: Steps<'a>,
    defaults: Rc<Config>,
    schemas: RefCell<TypesInUse>,
}

/// The types in use: set by the first kustomization that brings or names an OpenAPI document.
#[derive(Default)]
struct TypesInUse {
    is_set: bool,
    schemas: Rc<Schemas>,
}

/// One kustomization.
pub(crate) struct Target {
    pub(crate) kustomization: Kustomization,
    directory: String,
    file: String,
    /// The directories from the start of the build to this one.
    above: Vec<String>,
    origin: Option<Origin>,
}

/// Objects on their way up, with the configuration and variables that came with them.
pub(crate) struct Accumulator {
    pub(crate) map: ResMap,
    pub(crate) config: Rc<Config>,
    pub(crate) vars: BTreeMap<String, Var>,
}

impl<'a> Build<'a> {
    pub(crate) fn new(
        files: Files<'a>,
        budget: &'a Budget,
        restriction: Restriction,
        steps: Steps<'a>,
    ) -> Build<'a> {
        Build {
            files,
            budget,
            restriction,
            steps,
            defaults: Rc::new(Config::defaults()),
            schemas: RefCell::default(),
        }
    }

    pub(crate) fn schemas(&self) -> Rc<Schemas> {
        self.schemas.borrow().schemas.clone()
    }

    fn empty(&self) -> Accumulator {
        Accumulator {
            map: ResMap::default(),
            config: self.defaults.clone(),
            vars: BTreeMap::new(),
        }
    }

    /// Reads the kustomization of a directory.
    pub(crate) fn load(&self, directory: &str, above: &[String], origin: Option<Origin>) -> Done<Target> {
        if above.len() >= self.budget.depth {
            return Err(too_large(format!(
                "kustomizations nest more than {} deep",
                self.budget.depth
            )));
        }
        let mut found = Vec::new();
        for name in KUSTOMIZATION_FILES {
            let path = if directory.is_empty() {
                name.to_string()
            } else {
                format!("{directory}/{name}")
            };
            if let Ok((resolved, Entry::File)) = self.files.resolve(&path) {
                found.push((name, path, resolved));
            }
        }
        let (name, path, resolved) = match found.as_slice() {
            [one] => one,
            [] => {
                let shown = if directory.is_empty() { "." } else { directory };
                return Err(invalid(format!("no kustomization file in '{shown}'")));
            }
            _ => {
                return Err(invalid(format!(
                    "Found multiple kustomization files under: {directory}"
                )));
            }
        };
        let bytes = self.files.read(resolved)?;
        let kustomization = self.decode(&bytes).in_file(path)?;
        let mut above = above.to_vec();
        above.push(directory.to_string());
        let target = Target {
            kustomization,
            directory: directory.to_string(),
            file: (*name).to_string(),
            above,
            origin,
        };
        self.set_schema(&target).in_field("openapi").in_file(path)?;
        Ok(target)
    }

    fn decode(&self, bytes: &[u8]) -> Done<Kustomization> {
        Kustomization::decode(&self.json(bytes)?)
    }

    /// Reads one of kustomize's own files.
    fn json(&self, bytes: &[u8]) -> Done<Value> {
        match parse_first(bytes, self.budget.yaml)? {
            Some(node) => Ok(node.to_json(Schema::Old)?),
            None => Ok(Value::Null),
        }
    }

    fn set_schema(&self, target: &Target) -> Done<()> {
        let k = &target.kustomization;
        if self.schemas.borrow().is_set || (k.openapi_path.is_empty() && k.openapi_version.is_empty()) {
            return Ok(());
        }
        let mut schemas = Rc::new(Schemas::default());
        if !k.openapi_path.is_empty() {
            let bytes = self.read(target, &k.openapi_path)?;
            if !k.openapi_version.is_empty() {
                return Err(invalid(
                    "builtin version and custom schema provided, cannot use both",
                ));
            }
            schemas = Rc::new(Schemas::custom(&self.json(&bytes)?)?);
        } else if k.openapi_version != "v1.21.2" {
            return Err(invalid("the specified OpenAPI version is not built in"));
        }
        *self.schemas.borrow_mut() = TypesInUse {
            is_set: true,
            schemas,
        };
        Ok(())
    }

    /// Reads a file that a kustomization names.
    fn read(&self, target: &Target, path: &str) -> Done<Cow<'a, [u8]>> {
        if is_url(path) {
            return Err(remote(path, 0));
        }
        if path.starts_with('/') {
            return Err(PathError::Escapes(path.to_string()).into());
        }
        let joined =
            Files::join(&target.directory, path).ok_or_else(|| PathError::Escapes(path.to_string()))?;
        let (resolved, entry) = self.files.resolve(&joined)?;
        if entry != Entry::File {
            return Err(PathError::WrongKind {
                path: path.to_string(),
                wanted: "file",
            }
            .into());
        }
        if self.restriction == Restriction::Directory && !is_below(&resolved, &target.directory) {
            return Err(invalid(format!(
                "security; file '{resolved}' is not in or below '{}'",
                if target.directory.is_empty() {
                    "."
                } else {
                    &target.directory
                }
            )));
        }
        Ok(self.files.read(&resolved)?)
    }

    /// Reads the objects of a file.
    fn objects(&self, bytes: &[u8]) -> Done<Vec<Resource>> {
        let nodes = load::objects(bytes, self.budget)?;
        self.steps.spend(nodes.len())?;
        Ok(nodes.into_iter().map(Resource::new).collect())
    }

    /// Runs a kustomization and those below it.
    pub(crate) fn accumulate(&self, target: &Target) -> Done<Accumulator> {
        let file = target.path();
        self.run(target, self.empty()).in_file(&file)
    }

    fn run(&self, target: &Target, start: Accumulator) -> Done<Accumulator> {
        let k = &target.kustomization;
        let mut acc = self
            .resources(target, start, &k.resources)
            .in_field("resources")?;
        acc.config = merge_shared(acc.config, &self.defaults)?;
        for path in &k.configurations {
            let read = || Config::decode(&self.json(&self.read(target, path)?)?);
            let config = read().in_field("configurations")?;
            acc.config = Rc::new(Rc::unwrap_or_clone(acc.config).merge(&config)?);
        }
        for path in &k.crds {
            let read = || super::crds::config(&self.json(&self.read(target, path)?)?);
            let config = read().in_field("crds")?;
            acc.config = Rc::new(Rc::unwrap_or_clone(acc.config).merge(&config)?);
        }
        self.generate(target, &mut acc)?;
        for path in &k.components {
            let directory = self.directory(target, path).in_field("components")?;
            acc = self.component(target, path, &directory, acc)?;
        }
        let transformers = self.transformers(target, &acc.config)?;
        self.transform(target, &mut acc.map, &transformers)?;
        self.validate(target, &mut acc.map).in_field("validators")?;
        self.vars(target, &mut acc).in_field("vars")?;
        Ok(acc)
    }

    fn resources(&self, target: &Target, mut acc: Accumulator, paths: &[String]) -> Done<Accumulator> {
        for path in paths {
            if is_remote(path) && !self.is_local(target, path) {
                return Err(remote(path, self.line_of(target, path)));
            }
            match self.directory(target, path) {
                Ok(directory) => acc = self.below(target, path, &directory, acc)?,
                Err(_) => self.file(target, path, &mut acc.map)?,
            }
        }
        Ok(acc)
    }

    fn is_local(&self, target: &Target, path: &str) -> bool {
        Files::join(&target.directory, path).is_some_and(|path| self.files.resolve(&path).is_ok())
    }

    fn line_of(&self, target: &Target, text: &str) -> usize {
        let bytes = self.files.read(&target.path()).unwrap_or_default();
        let file = String::from_utf8_lossy(&bytes);
        file.lines()
            .position(|line| line.contains(text))
            .map_or(0, |index| index + 1)
    }

    fn file(&self, target: &Target, path: &str, map: &mut ResMap) -> Done<()> {
        let read = || self.objects(&self.read(target, path)?);
        let mut list = read().map_err(|mut fault| {
            fault.prefix(&format!("accumulating resources from '{path}': "));
            fault
        })?;
        if let Some(origin) = &target.origin {
            let origin = origin.join(path);
            list.iter_mut().for_each(|resource| origin.note_file(resource));
        }
        map.append_all(list)
    }

    /// Finds the directory a kustomization names, which may not be one the build is inside of.
    fn directory(&self, target: &Target, path: &str) -> Done<String> {
        if path.is_empty() {
            return Err(invalid("new root cannot be empty"));
        }
        if path.starts_with('/') {
            return Err(invalid(format!("new root '{path}' cannot be absolute")));
        }
        let joined =
            Files::join(&target.directory, path).ok_or_else(|| PathError::Escapes(path.to_string()))?;
        let (resolved, entry) = self.files.resolve(&joined)?;
        if entry != Entry::Directory {
            return Err(PathError::WrongKind {
                path: path.to_string(),
                wanted: "directory",
            }
            .into());
        }
        Ok(resolved)
    }

    fn enter(&self, target: &Target, path: &str, directory: &str) -> Done<Target> {
        if let Some(inside) = target.above.iter().find(|above| is_below(above, directory)) {
            return Err(invalid(format!(
                "cycle detected: candidate root '{directory}' contains visited root '{inside}'"
            )));
        }
        let origin = target.origin.as_ref().map(|origin| origin.join(path));
        self.load(directory, &target.above, origin)
    }

    fn below(&self, target: &Target, path: &str, directory: &str, mut acc: Accumulator) -> Done<Accumulator> {
        let inner = self.enter(target, path, directory)?;
        if inner.kustomization.is_component {
            return Err(invalid(format!(
                "expected kind != 'Component' for path '{directory}'"
            )));
        }
        let below = self.accumulate(&inner)?;
        acc.map.append_all(below.map.into_list())?;
        acc.config = merge_shared(acc.config, &below.config)?;
        for (name, var) in below.vars {
            add_var(&mut acc.vars, name, var)?;
        }
        Ok(acc)
    }

    /// Runs a component on the objects of the kustomization that names it.
    fn component(&self, target: &Target, path: &str, directory: &str, acc: Accumulator) -> Done<Accumulator> {
        let inner = self.enter(target, path, directory)?;
        if !inner.kustomization.is_component {
            return Err(invalid(format!(
                "expected kind 'Component' for path '{directory}'"
            )));
        }
        let file = inner.path();
        let mut acc = self.run(&inner, acc).in_file(&file)?;
        acc.map = ResMap::new(acc.map.into_list())?;
        Ok(acc)
    }

    fn generate(&self, target: &Target, acc: &mut Accumulator) -> Done<()> {
        let k = &target.kustomization;
        let options = k.generator_options.as_ref();
        let mut made = Vec::new();
        for (list, secret) in [(&k.config_maps, false), (&k.secrets, true)] {
            let field = if secret {
                "secretGenerator"
            } else {
                "configMapGenerator"
            };
            for args in list {
                made.push((
                    field,
                    self.make(target, &args.clone().with_options(options), secret)
                        .in_field(field)?,
                ));
            }
        }
        for value in self.plugins(target, &k.generators).in_field("generators")? {
            let (args, secret) = plugins::generator(&value).in_field("generators")?;
            made.push((
                "generators",
                self.make(target, &args, secret).in_field("generators")?,
            ));
        }
        for (field, resource) in made {
            acc.map.absorb(resource).in_field(field)?;
        }
        Ok(())
    }

    fn make(&self, target: &Target, args: &GeneratorArgs, secret: bool) -> Done<Resource> {
        let read = |path: &str| self.read(target, path).map(Cow::into_owned);
        let mut resource = generators::make(args, secret, &read).in_object(|| args.name.clone())?;
        if let Some(origin) = &target.origin {
            let kind = if secret {
                "SecretGenerator"
            } else {
                "ConfigMapGenerator"
            };
            origin.note_generator(&mut resource, &target.file, kind);
            resource.restore_mark();
        }
        Ok(resource)
    }

    /// Reads the objects that configure plugins, given in place or by path.
    fn plugins(&self, target: &Target, entries: &[String]) -> Done<Vec<Value>> {
        let mut acc = self.empty();
        let mut paths = Vec::new();
        for entry in entries {
            match self.objects(entry.as_bytes()) {
                Ok(list) => acc.map.append_all(list)?,
                Err(_) => paths.push(entry.clone()),
            }
        }
        let acc = self.resources(target, acc, &paths)?;
        acc.map
            .list()
            .iter()
            .map(|r| Ok(r.node.to_json(Schema::New)?))
            .collect()
    }

    fn transformers(&self, target: &Target, config: &Config) -> Done<Vec<(&'static str, Transformer)>> {
        let k = &target.kustomization;
        let mut list = Vec::new();
        if !k.patches_strategic_merge.is_empty() {
            let patches = self.merge_patches(target, &k.patches_strategic_merge, "");
            list.push((
                "PatchStrategicMergeTransformer",
                patches.in_field("patchesStrategicMerge")?,
            ));
        }
        for patch in &k.patches {
            list.push(("PatchTransformer", self.patch(target, patch).in_field("patches")?));
        }
        rename_and_label(k, config, &mut list)?;
        for patch in &k.patches_json6902 {
            let patch = self.json_patch(target, patch).in_field("patchesJson6902")?;
            list.push(("PatchJson6902Transformer", patch));
        }
        for replica in &k.replicas {
            let transformer = Transformer::Replicas(replica.clone(), config.replicas.clone());
            list.push(("ReplicaCountTransformer", transformer));
        }
        for image in &k.images {
            let images = Images::new(image.clone(), config.images.clone()).in_field("images")?;
            list.push(("ImageTagTransformer", Transformer::Images(images)));
        }
        if !k.replacements.is_empty() {
            let replacements = self
                .replacements(target, &k.replacements)
                .in_field("replacements")?;
            list.push(("ReplacementTransformer", Transformer::Replacements(replacements)));
        }
        for value in self.plugins(target, &k.transformers).in_field("transformers")? {
            list.push(("", self.plugin(target, &value).in_field("transformers")?));
        }
        Ok(list)
    }

    fn plugin(&self, target: &Target, value: &Value) -> Done<Transformer> {
        match plugins::transformer(value)? {
            Plugin::Ready(transformer) => Ok(transformer),
            Plugin::Patch(patch) => self.patch(target, &patch),
            Plugin::JsonPatch(patch) => self.json_patch(target, &patch),
            Plugin::MergePatches { paths, text } => self.merge_patches(target, &paths, &text),
            Plugin::Replacements(list) => self.replacements(target, &list).map(Transformer::Replacements),
        }
    }

    fn merge_patches(&self, target: &Target, entries: &[String], text: &str) -> Done<Transformer> {
        let mut patches = Vec::new();
        for entry in entries {
            patches.extend(match self.objects(entry.as_bytes()) {
                Ok(list) => list,
                Err(_) => self.objects(&self.read(target, entry)?)?,
            });
        }
        if !text.is_empty() {
            patches.extend(self.objects(text.as_bytes())?);
        }
        if patches.is_empty() {
            return Err(invalid("patch appears to be empty"));
        }
        Ok(Transformer::MergePatches(MergePatches { patches }))
    }

    fn patch(&self, target: &Target, patch: &Patch) -> Done<Transformer> {
        let inline = patch.patch.trim();
        let (text, source) = match (inline.is_empty(), patch.path.is_empty()) {
            (true, true) => return Err(invalid("must specify one of patch and path")),
            (false, false) => return Err(invalid("patch and path can't be set at the same time")),
            (false, true) => (inline.to_string(), format!("[patch: {inline:?}]")),
            (true, false) => {
                let bytes = self.read(target, &patch.path)?;
                let text =
                    String::from_utf8(bytes.into_owned()).map_err(|_| invalid("the patch is not UTF-8"))?;
                (text, format!("[path: {:?}]", patch.path))
            }
        };
        let changes = (patch.allow_name_change, patch.allow_kind_change);
        PatchEntry::new(&text, patch.target.clone(), changes, source, self.budget).map(Transformer::Patch)
    }

    fn json_patch(&self, target: &Target, patch: &Patch) -> Done<Transformer> {
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
        let operations = jsonpatch::decode(&text, self.budget)?;
        if operations.is_empty() {
            return Err(invalid("patch appears to be empty"));
        }
        Ok(Transformer::JsonPatch(JsonPatch {
            target: selector,
            operations,
        }))
    }

    fn replacements(&self, target: &Target, fields: &[ReplacementField]) -> Done<Vec<Replacement>> {
        let mut list = Vec::new();
        for field in fields {
            let path = match field {
                ReplacementField::Inline(replacement) => {
                    list.push((**replacement).clone());
                    continue;
                }
                ReplacementField::Path(path) => path,
            };
            let read = |value: &Value| {
                let mut fields = super::decode::Fields::new(value, path)?.lenient();
                Replacement::read(&mut fields)
            };
            match self.json(&self.read(target, path)?)? {
                Value::Array(items) => {
                    for item in &items {
                        list.push(read(item)?);
                    }
                }
                value @ Value::Object(_) => list.push(read(&value)?),
                _ => {
                    return Err(invalid(format!(
                        "unsupported replacement type encountered within {path}"
                    )));
                }
            }
        }
        Ok(list)
    }

    fn transform(&self, target: &Target, map: &mut ResMap, list: &[(&str, Transformer)]) -> Done<()> {
        let schemas = self.schemas();
        let context = Context {
            schemas: &schemas,
            steps: &self.steps,
        };
        for (kind, transformer) in list {
            transformer.apply(map, &context)?;
            map.contents_mut()
                .iter_mut()
                .filter(|r| r.tied)
                .for_each(|r| r.node.settle());
            if let Some(origin) = target.origin.as_ref().filter(|_| !kind.is_empty()) {
                for resource in map.contents_mut() {
                    origin.note_transformer(resource, &target.file, kind);
                    resource.restore_mark();
                }
            }
            map.drop_empty();
        }
        Ok(())
    }

    /// Runs validators, which are transformers that may change nothing.
    fn validate(&self, target: &Target, map: &mut ResMap) -> Done<()> {
        let schemas = self.schemas();
        let context = Context {
            schemas: &schemas,
            steps: &self.steps,
        };
        for value in self.plugins(target, &target.kustomization.validators)? {
            let transformer = self.plugin(target, &value)?;
            let mut after = map.clone();
            transformer.apply(&mut after, &context)?;
            let same = after.list().len() == map.list().len()
                && after.list().iter().zip(map.list()).all(|(a, b)| a.node == b.node);
            if !same {
                return Err(invalid("validator shouldn't modify the resource map"));
            }
        }
        Ok(())
    }

    /// Finds the objects that variables refer to.
    fn vars(&self, target: &Target, acc: &mut Accumulator) -> Done<()> {
        for var in &target.kustomization.vars {
            let matches = var_targets(acc, var);
            match matches.as_slice() {
                [] => {}
                [position] => acc.map.contents_mut()[*position].variables.push(var.name.clone()),
                _ => {
                    return Err(invalid(format!(
                        "found {} resId matches for var {} (unable to disambiguate)",
                        matches.len(),
                        var.name
                    )));
                }
            }
        }
        for var in &target.kustomization.vars {
            add_var(&mut acc.vars, var.name.clone(), var.clone())?;
        }
        Ok(())
    }
}

impl Target {
    /// Makes this kustomization and those below it note where objects come from.
    pub(crate) fn note_origins(&mut self, origin: Origin) {
        self.origin = Some(origin);
    }

    /// Returns the path of the kustomization file.
    pub(crate) fn path(&self) -> String {
        if self.directory.is_empty() {
            self.file.clone()
        } else {
            format!("{}/{}", self.directory, self.file)
        }
    }
}

fn add_var(vars: &mut BTreeMap<String, Var>, name: String, var: Var) -> Done<()> {
    if vars.contains_key(&name) {
        return Err(invalid(format!("var '{name}' already encountered")));
    }
    vars.insert(name, var);
    Ok(())
}

fn var_targets(acc: &mut Accumulator, var: &Var) -> Vec<usize> {
    let gvk = var.gvk.as_gvk();
    if !var.namespace.is_empty() {
        let namespace = if var.namespace.is_empty() {
            "default"
        } else {
            &var.namespace
        };
        return acc.map.with_id(&Id::new(gvk, &var.object, namespace)).to_vec();
    }
    let fits = |r: &Resource| {
        let now = r.gvk();
        (now == gvk && r.name() == var.object)
            || r.previous
                .iter()
                .any(|p| Gvk { kind: &p.kind, ..now } == gvk && p.name == var.object)
    };
    acc.map
        .list()
        .iter()
        .enumerate()
        .filter(|(_, r)| fits(r))
        .map(|(position, _)| position)
        .collect()
}

fn rename_and_label(
    k: &Kustomization,
    config: &Config,
    list: &mut Vec<(&'static str, Transformer)>,
) -> Done<()> {
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
    for label in &k.labels {
        let mut fields = label.fields.clone();
        let mut gather = || -> Done<()> {
            merge_all(&mut fields, &config.labels)?;
            if label.include_selectors {
                return merge_all(&mut fields, &config.common_labels);
            }
            if label.include_templates {
                merge_all(&mut fields, &config.template_labels)?;
            }
            merge_one(
                &mut fields,
                &FieldSpec::new(GvkPattern::default(), "metadata/labels", true),
            )
        };
        gather().in_field("labels")?;
        list.push((
            "LabelTransformer",
            Transformer::Labels(Texts {
                texts: label.pairs.clone(),
                fields,
            }),
        ));
    }
    if !k.labels.is_empty() || !k.common_labels.is_empty() {
        let texts = Texts {
            texts: k.common_labels.clone(),
            fields: config.common_labels.clone(),
        };
        list.push(("LabelTransformer", Transformer::Labels(texts)));
    }
    if !k.common_annotations.is_empty() {
        let texts = Texts {
            texts: k.common_annotations.clone(),
            fields: config.common_annotations.clone(),
        };
        list.push(("AnnotationsTransformer", Transformer::Annotations(texts)));
    }
    Ok(())
}

/// Tells whether a path is the directory or lies below it.
fn is_below(path: &str, directory: &str) -> bool {
    directory.is_empty()
        || path
            .strip_prefix(directory)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn is_url(path: &str) -> bool {
    path.starts_with("http://") || path.starts_with("https://")
}

/// Tells whether kustomize would fetch a resource of this name.
fn is_remote(path: &str) -> bool {
    let host = path.split('/').next().unwrap_or(path);
    path.contains("://")
        || path.starts_with("git::")
        || path.starts_with("github.com/")
        || path.starts_with("github.com:")
        || (host.contains('@') && host.contains(':'))
}
