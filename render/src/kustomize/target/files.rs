//! The files of a kustomization: its own, those it names, and the objects in them.

use std::borrow::Cow;
use std::rc::Rc;

use serde_json::Value;

use super::super::deprecation::deprecations;
use super::super::error::{At, Result, invalid, remote, shortened, too_large};
use super::super::files::{Files, PathError};
use super::super::id;
use super::super::kustomization::Kustomization;
use super::super::load::LoadError;
use super::super::origin::Origin;
use super::super::reader::Reader;
use super::super::resource::Resource;
use super::super::schema::Schemas;
use super::super::tables;
use super::super::tree::Entry;
use super::super::{KUSTOMIZATION_FILES, Restriction, load};
use super::{Build, Target, TypesInUse};
use crate::yaml::node::Schema;

impl<'a> Build<'a> {
    /// Reads the kustomization of a directory.
    pub(crate) fn load(&self, directory: &str, above: &[String], origin: Option<Origin>) -> Result<Target> {
        if above.len() >= self.budget.depth {
            return Err(too_large(format!(
                "kustomizations nest more than {} deep",
                self.budget.depth
            )));
        }
        let mut found = Vec::new();
        let mut broken = None;
        for name in KUSTOMIZATION_FILES {
            let path = if directory.is_empty() {
                name.to_string()
            } else {
                format!("{directory}/{name}")
            };
            match self.files.resolve(&path) {
                Ok((resolved, Entry::File)) => found.push((name, path, resolved)),
                Err(why) if self.files.is_link(&path) => broken = broken.or(Some(why)),
                Ok(_) | Err(_) => {}
            }
        }
        let (name, path, resolved) = match found.as_slice() {
            [one] => one,
            [] => {
                let shown = self.shown_directory(directory);
                let link = broken.map_or_else(String::new, |why| format!("; a link leads nowhere: {why}"));
                let remedy = match link.is_empty() {
                    true => "; add one, or list the files that are in it",
                    false => "",
                };
                return Err(invalid(format!(
                    "no kustomization file in '{shown}'{link}{remedy}"
                )));
            }
            _ => {
                return Err(invalid(format!(
                    "Found multiple kustomization files under: {}",
                    self.shown_directory(directory)
                )));
            }
        };
        self.check_place(resolved, directory)?;
        let bytes = self.files.read(resolved)?;
        let json = self.json(&bytes).in_file(path)?;
        let kustomization = Kustomization::decode(&json)
            .map_err(|fault| fault.in_kustomization(&bytes))
            .in_file(path)?;
        if let Some(warn) = self.warn {
            deprecations(&json, &self.files.shown(path)).for_each(warn);
        }
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

    /// Reads one of kustomize's own files.
    fn json(&self, bytes: &[u8]) -> Result<Value> {
        self.reader().json(bytes, Schema::Old)
    }

    /// Returns the reader of the build's files.
    pub(super) fn reader(&self) -> Reader<'_> {
        Reader::new(self.budget, &self.steps)
    }

    /// Reads one of kustomize's own files that a kustomization names.
    pub(super) fn json_of(&self, target: &Target, path: &str) -> Result<Value> {
        let bytes = self.read(target, path)?;
        self.json(&bytes).of(|| self.shown_from(target, path))
    }

    /// Returns a path that a kustomization names as errors show it.
    pub(super) fn shown_from(&self, target: &Target, path: &str) -> String {
        let shown = Files::join(&target.directory, path).map(|path| self.files.shown(&path));
        shortened(shown.as_deref().unwrap_or(path)).into_owned()
    }

    fn set_schema(&self, target: &Target) -> Result<()> {
        let k = &target.kustomization;
        if self.schemas.borrow().is_set || (k.openapi_path.is_empty() && k.openapi_version.is_empty()) {
            return Ok(());
        }
        let mut schemas = Rc::new(Schemas::default());
        if !k.openapi_path.is_empty() {
            let document = self.json_of(target, &k.openapi_path)?;
            if !k.openapi_version.is_empty() {
                return Err(invalid(
                    "builtin version and custom schema provided, cannot use both",
                ));
            }
            let custom = self.schemas().custom(&document);
            schemas = Rc::new(custom.of(|| self.shown_from(target, &k.openapi_path))?);
        } else if k.openapi_version != "v1.21.2" {
            return Err(invalid(format!(
                "OpenAPI version {} is not built in, only v1.21.2 is: leave `version` out, or name a document by `path`",
                k.openapi_version
            )));
        }
        *self.schemas.borrow_mut() = TypesInUse {
            is_set: true,
            schemas,
        };
        Ok(())
    }

    /// Reads a file that a kustomization names.
    pub(super) fn read(&self, target: &Target, path: &str) -> Result<Cow<'a, [u8]>> {
        if is_url(path) || (path.contains("://") && !self.is_there(target, path)) {
            return Err(remote(path, self.line_of(target, path)));
        }
        if path.starts_with('/') {
            return Err(PathError::Absolute(path.to_string()).into());
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
        self.check_place(&resolved, &target.directory)?;
        Ok(self.files.read(&resolved)?)
    }

    /// Refuses a file that is outside of a kustomization's directory, where the restriction says so.
    fn check_place(&self, resolved: &str, directory: &str) -> Result<()> {
        if self.restriction != Restriction::Directory || is_below(resolved, directory) {
            return Ok(());
        }
        Err(invalid(format!(
            "security; file '{}' is not in or below '{}'; --load-restrictor LoadRestrictionsNone allows it",
            self.files.shown(resolved),
            self.shown_directory(directory)
        )))
    }

    /// Returns a directory as errors show it; the tree itself, without a place of its own, is `.`.
    fn shown_directory(&self, directory: &str) -> String {
        match self.files.shown(directory) {
            shown if shown.is_empty() => ".".to_owned(),
            shown => shown,
        }
    }

    /// Reads the objects of a file.
    pub(super) fn objects(&self, bytes: &[u8]) -> Result<Vec<Resource>> {
        Ok(self.loaded(bytes)?)
    }

    /// As [`Self::objects`], for callers to whom a text that holds no objects may mean something else.
    pub(super) fn loaded(&self, bytes: &[u8]) -> Result<Vec<Resource>, LoadError> {
        let nodes = load::objects(bytes, self.reader())?;
        self.steps.spend(nodes.len())?;
        let schemas = self.schemas();
        for node in &nodes {
            if !tables::is_builtin(id::api_version(node), id::kind(node)) {
                schemas.note_use();
            }
        }
        Ok(nodes.into_iter().map(Resource::new).collect())
    }
}

/// Tells whether a path is the directory or lies below it.
pub(super) fn is_below(path: &str, directory: &str) -> bool {
    directory.is_empty()
        || path
            .strip_prefix(directory)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn is_url(path: &str) -> bool {
    path.starts_with("http://") || path.starts_with("https://")
}
