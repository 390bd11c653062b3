//! Walks a kustomization and those below it: reads, generates, transforms, and hands the objects upwards.

mod files;
mod generated;
mod resources;
mod transformers;
mod variables;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::config::{Config, Merger, Shared};
use super::deprecation::Deprecation;
use super::error::{At, Result};
use super::files::Files;
use super::kustomization::{Kustomization, Var};
use super::origin::Origin;
use super::resmap::ResMap;
use super::schema::Schemas;
use super::steps::Steps;
use super::{Budget, Restriction};

/// What one build shares among its kustomizations.
pub(crate) struct Build<'a> {
    pub(crate) files: Files<'a>,
    pub(crate) budget: &'a Budget,
    pub(crate) restriction: Restriction,
    pub(crate) steps: Steps<'a>,
    pub(crate) warn: Option<&'a dyn Fn(Deprecation)>,
    /// Values of encrypted files carry what decrypts them.
    pub(crate) carries: bool,
    configs: Shared,
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
            warn: None,
            carries: false,
            configs: Shared::new(),
            schemas: RefCell::default(),
        }
    }

    pub(crate) fn schemas(&self) -> Rc<Schemas> {
        self.schemas.borrow().schemas.clone()
    }

    fn empty(&self) -> Accumulator {
        Accumulator {
            map: ResMap::default(),
            config: self.configs.nothing(),
            vars: BTreeMap::new(),
        }
    }

    /// Runs a kustomization and those below it.
    pub(crate) fn accumulate(&self, target: &Target) -> Result<Accumulator> {
        let file = target.path();
        self.run(target, self.empty()).in_file(&file)
    }

    fn run(&self, target: &Target, start: Accumulator) -> Result<Accumulator> {
        let k = &target.kustomization;
        let mut acc = self
            .resources(target, start, &k.resources)
            .in_field("resources")?;
        let mut files = Vec::with_capacity(k.configurations.len());
        for (index, path) in k.configurations.iter().enumerate() {
            let read = self.json_of(target, path).and_then(|json| {
                let config = Config::decode(&json);
                config.of(|| self.shown_from(target, path))
            });
            files.push(read.in_item("configurations", index)?);
        }
        let own = self
            .configs
            .with_files(&files, &self.steps)
            .in_field("configurations")?;
        acc.config = self
            .configs
            .merge(acc.config, &own, &self.steps)
            .in_field("configurations")?;
        if !k.crds.is_empty() {
            let mut gathered = Merger::new(Rc::unwrap_or_clone(acc.config));
            for (index, path) in k.crds.iter().enumerate() {
                let read = self.json_of(target, path).and_then(|json| {
                    let config = super::crds::config(&json, &self.steps);
                    config.of(|| self.shown_from(target, path))
                });
                let added = gathered.add(&read.in_item("crds", index)?, &self.steps);
                added.in_item("crds", index)?;
            }
            acc.config = Rc::new(gathered.finish());
        }
        self.generate(target, &mut acc)?;
        for path in &k.components {
            self.require_local(target, path).in_field("components")?;
            let directory = self.directory(target, path).in_field("components")?;
            acc = self.component(target, path, &directory, acc)?;
        }
        let transformers = self.transformers(target, &acc.config)?;
        self.transform(target, &mut acc.map, &transformers)?;
        self.validate(target, &mut acc.map).in_field("validators")?;
        self.vars(target, &mut acc).in_field("vars")?;
        Ok(acc)
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
