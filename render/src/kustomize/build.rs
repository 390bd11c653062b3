//! Builds a directory: walks its kustomizations, then gives names their hashes, references their names, variables
//! their values, and objects their order.

use std::collections::HashMap;

use serde_json::Value;

use crate::yaml::node::{Node, ResolveError, collection_key_line, duplicate_line, plain_key_line};
use crate::yaml::{json_bytes, push_json};

use super::deprecation::Deprecation;
use super::depth;
use super::error::{At, BuildError, Error, Result, invalid};
use super::fieldspec::{FieldSpec, Fitting};
use super::files::{Files, PathError};
use super::id::GvkPattern;
use super::origin::Origin;
use super::paths::Paths;
use super::reads::ReadSet;
use super::resource::Resource;
use super::steps::{Steps, out_of_bytes};
use super::target::{Accumulator, Build, Target};
use super::transform::{self, MetadataMap, Variables, add_hashes, resolve_references};
use super::tree::{Entry, Tree};
use super::{Budget, load};

/// The version of kustomize whose results this engine gives; `managedByLabel` names it.
pub const KUSTOMIZE_VERSION: &str = "v5.8.1";

/// Which files a kustomization may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restriction {
    /// Those in or below its directory, as `kustomize build` has it; directories may lie anywhere in the tree.
    #[default]
    Directory,
    /// Any in the tree, as Flux has it.
    Tree,
}

/// What is built, and within which bounds.
#[derive(Clone, Copy)]
pub struct RenderInput<'a> {
    /// The files.
    pub tree: &'a dyn Tree,
    /// The directory to build, relative to the root of the tree.
    pub directory: &'a str,
    /// Which files kustomizations may name.
    pub restriction: Restriction,
    /// The bounds.
    pub budget: &'a Budget,
    /// Asked between steps; the build stops when it returns true, such as past a deadline.
    pub stop: Option<&'a dyn Fn() -> bool>,
    /// How errors show paths of the tree.
    pub paths: Paths<'a>,
    /// Told of each deprecated field, as often as its file is read.
    pub warn: Option<&'a dyn Fn(Deprecation)>,
    /// Whether objects keep the order they came in where no kustomization says how they are sorted.
    pub unsorted: bool,
    /// Whether values of encrypted env files and patches carry what decrypts them: kustomize itself would leave the files'
    /// stanzas in what it makes of them.
    pub carries: bool,
}

impl<'a> RenderInput<'a> {
    /// Describes a build with kustomize's own rules and no way to stop it.
    pub fn new(tree: &'a dyn Tree, directory: &'a str, budget: &'a Budget) -> RenderInput<'a> {
        RenderInput {
            tree,
            directory,
            restriction: Restriction::Directory,
            budget,
            stop: None,
            paths: Paths::default(),
            warn: None,
            unsorted: false,
            carries: false,
        }
    }
}

/// The result of a build.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    /// The objects in the order of output.
    pub objects: Vec<Object>,
    /// What was read: while it holds, so does the result.
    pub reads: ReadSet,
    /// How many steps of the budget it took.
    pub steps: u64,
}

impl Rendered {
    /// Prints the objects as `kustomize build` does.
    pub fn to_yaml(&self) -> String {
        let mut text = String::new();
        self.objects.iter().for_each(|object| object.append_to(&mut text));
        text
    }
}

/// One object of a result.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// The object as JSON.
    pub value: Value,
}

impl Object {
    /// Prints the object as the YAML document that `kustomize build` prints for it.
    pub fn to_yaml(&self) -> String {
        let mut text = String::new();
        push_json(&mut text, &self.value);
        text
    }

    /// Adds the object to a stream of YAML documents, behind a separator unless it is the first.
    pub fn append_to(&self, stream: &mut String) {
        if !stream.is_empty() {
            stream.push_str("---\n");
        }
        push_json(stream, &self.value);
    }
}

/// Builds a directory.
pub fn build(input: &RenderInput<'_>) -> Result<Rendered, BuildError> {
    let mut objects = Vec::new();
    // All are held at once here.
    let mut held = 0_usize;
    let (reads, steps) = counted(input, &mut |object, _| {
        held = held.saturating_add(json_bytes(&object.value));
        objects.push(object);
        match held > input.budget.output {
            true => Err(out_of_bytes(input.budget.output)),
            false => Ok(()),
        }
    })?;
    Ok(Rendered {
        objects,
        reads,
        steps,
    })
}

/// Builds a directory, hands over its objects one by one in the order of output, and returns what was read.
///
/// For callers that keep less than whole objects: none is held here once it was handed over. A build that fails may
/// have handed over some.
pub fn build_each(input: &RenderInput<'_>, each: &mut dyn FnMut(Object)) -> Result<ReadSet, BuildError> {
    build_each_with_file(input, &mut |object, _| each(object))
}

/// As [`build_each`], with the file that each object was read from, relative to the root of the tree; none of one that a
/// generator made.
pub fn build_each_with_file(
    input: &RenderInput<'_>,
    each: &mut dyn FnMut(Object, Option<&str>),
) -> Result<ReadSet, BuildError> {
    let each = &mut |object, file: Option<&str>| {
        each(object, file);
        Ok(())
    };
    counted(input, each).map(|(reads, _)| reads)
}

/// What takes an object, and the file that it was read from.
type Each<'e> = &'e mut dyn FnMut(Object, Option<&str>) -> Result<()>;

fn counted(input: &RenderInput<'_>, each: Each<'_>) -> Result<(ReadSet, u64), BuildError> {
    let files = Files::new(input);
    let steps = Steps::new(input.budget.steps, input.budget.output, input.stop);
    let mut build = Build::new(files, input.budget, input.restriction, steps);
    (build.warn, build.carries) = (input.warn, input.carries);
    let built = run(&build, input, each);
    // A path that was not resolved for that may have been taken for one that is not there.
    if build.files.is_stopped() {
        return Err(BuildError::Cancelled);
    }
    built.map_err(|fault| fault.shown(input.paths))?;
    let steps = build.steps.taken();
    Ok((build.files.into_reads(), steps))
}

fn run(build: &Build<'_>, input: &RenderInput<'_>, each: Each<'_>) -> Result<()> {
    let directory = input.directory;
    let start = Files::join("", directory).ok_or_else(|| PathError::Escapes(directory.to_string()))?;
    let (directory, entry) = build.files.resolve(&start)?;
    if entry != Entry::Directory {
        return Err(PathError::WrongKind {
            path: build.files.shown(&directory),
            wanted: "directory",
        }
        .into());
    }
    let mut target = build.load(&directory, &[], None)?;
    let file = target.path();
    if !target.kustomization.build_metadata.is_empty() {
        target.note_origins(Origin::default());
    }
    let mut acc = build.accumulate(&target)?;
    finish(build, &target, &mut acc, input.unsorted).in_file(&file)?;
    for resource in acc.map.into_list() {
        let extent = depth::of(&resource.node);
        depth::check(extent.depth, || resource.id().to_string()).in_file(&file)?;
        // Taken before the object is made, as each alias is a copy of its own there.
        build.steps.spend_bytes(extent.bytes).in_file(&file)?;
        let held = build.steps.hold_json(&resource.node, 1).in_file(&file)?;
        let of = resource.file.clone();
        each(object(build, resource).in_file(&file)?, of.as_deref())?;
        build.steps.give_back(held);
    }
    Ok(())
}

fn finish(build: &Build<'_>, target: &Target, acc: &mut Accumulator, unsorted: bool) -> Result<()> {
    add_hashes(&mut acc.map, &build.steps)?;
    resolve_references(&mut acc.map, &acc.config.name_reference, &build.steps)?;
    resolve_variables(acc, &build.steps).in_field("vars")?;
    drop_local(acc)?;
    let k = &target.kustomization;
    if k.sort.is_some() || !unsorted {
        transform::sort(&mut acc.map, k.sort.as_ref(), &build.steps).in_field("sortOptions")?;
    }
    let says = |option: &str| k.build_metadata.iter().any(|m| m == option);
    if says("managedByLabel") {
        let version = format!("kustomize-{KUSTOMIZE_VERSION}");
        let texts = [("app.kubernetes.io/managed-by".to_string(), version)].into();
        let fields = vec![FieldSpec::new(GvkPattern::default(), "metadata/labels", true)];
        let label = MetadataMap { texts, fields };
        let mut fitting = Fitting::new(&label.fields);
        for resource in acc.map.contents_mut() {
            label.change(resource, &mut fitting, &build.steps)?;
        }
    }
    for resource in acc.map.list_mut() {
        let annotations = resource.node.at(&["metadata", "annotations"]);
        build.steps.spend_bytes(annotations.map_or(0, Node::text_bytes))?;
        resource.finish(says("originAnnotations"), says("transformerAnnotations"));
    }
    Ok(())
}

fn resolve_variables(acc: &mut Accumulator, steps: &Steps<'_>) -> Result<()> {
    let mut variables = Variables::default();
    let mut homes: HashMap<&str, &Resource> = HashMap::new();
    for resource in acc.map.list() {
        for name in &resource.variables {
            homes.entry(name).or_insert(resource);
        }
    }
    for var in acc.vars.values() {
        let resource = homes.get(var.name.as_str()).ok_or_else(|| {
            super::error::invalid(format!(
                "var '{}' cannot be mapped to a field in the set of known resources",
                var.name
            ))
        })?;
        variables.add(&var.name, &var.field_path, resource, steps)?;
    }
    let fields = acc.config.var_reference.clone();
    variables.apply(&mut acc.map, &fields, steps)
}

/// Leaves out objects that say they are only for kustomize.
fn drop_local(acc: &mut Accumulator) -> Result<()> {
    for resource in acc.map.list().iter().filter(|r| !r.node.is_empty()) {
        load::validate(&resource.node)?;
    }
    let is_local = |r: &Resource| {
        let annotation = r
            .node
            .at(&["metadata", "annotations", "config.kubernetes.io/local-config"]);
        annotation.is_some_and(|value| value.text() != "false")
    };
    if acc.map.list().iter().any(|r| is_local(r) || r.node.is_empty()) {
        acc.map.list_mut().retain(|r| !is_local(r) && !r.node.is_empty());
    }
    Ok(())
}

fn object(build: &Build<'_>, mut resource: Resource) -> Result<Object> {
    let read = transform::to_json(&mut resource, &build.steps);
    let read = read.map_err(|failure| meaningless(build, &resource, failure));
    Ok(Object {
        value: read.in_object(|| resource.id().to_string())?,
    })
}

/// Returns the failure of an object without meaning, with the file it was read from; a key is found in it, unless a
/// patch or the like has put it into the object. Where a replacement wrote what has none, that is named.
fn meaningless(build: &Build<'_>, resource: &Resource, failure: transform::Failure) -> Box<Error> {
    let Some(file) = resource.file.as_deref().filter(|_| failure.by.is_none()) else {
        return failure.into();
    };
    let error = &failure.error;
    let line = build.files.read(file).ok().and_then(|bytes| match error {
        ResolveError::DuplicateKey(key) => duplicate_line(&bytes, key),
        ResolveError::Key(key) => plain_key_line(&bytes, key),
        ResolveError::CollectionKey => collection_key_line(&bytes),
        // Of these only the path in the object is known.
        ResolveError::Tag(_) | ResolveError::Type { .. } | ResolveError::Number(_) => None,
    });
    let is_key = matches!(
        error,
        ResolveError::DuplicateKey(_) | ResolveError::Key(_) | ResolveError::CollectionKey
    );
    if is_key && line.is_none() {
        return invalid(format!(
            "{error}, and {} has no such key: a patch of the object may have, or a label or annotation that a kustomization adds",
            build.files.shown(file)
        ));
    }
    let fault = match line {
        Some(line) => invalid(format!("line {line}: {error}")),
        None => invalid(error.to_string()),
    };
    let at: Result<()> = Err(fault).in_file(file);
    at.err().unwrap_or_else(|| invalid(error.to_string()))
}
