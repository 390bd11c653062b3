//! The resources of a kustomization: files of objects, and the directories below it.

use std::rc::Rc;

use super::super::error::{At, Result, invalid, remote, shortened};
use super::super::files::{Files, PathError};
use super::super::resmap::ResMap;
use super::super::tree::Entry;
use super::files::is_below;
use super::variables::add_var;
use super::{Accumulator, Build, Target};

impl Build<'_> {
    pub(super) fn resources(
        &self,
        target: &Target,
        mut acc: Accumulator,
        paths: &[String],
    ) -> Result<Accumulator> {
        for (index, path) in paths.iter().enumerate() {
            if path.is_empty() {
                return Err(invalid("an empty path")).in_item("resources", index);
            }
            self.require_local(target, path)?;
            match self.directory(target, path) {
                Ok(directory) => acc = self.below(target, path, &directory, acc)?,
                Err(_) => self.file(target, path, &mut acc.map)?,
            }
        }
        Ok(acc)
    }

    /// Refuses the name of a directory that kustomize would fetch, unless it is that of one that is there.
    pub(super) fn require_local(&self, target: &Target, path: &str) -> Result<()> {
        if is_remote(path) && !self.is_there(target, path) {
            return Err(remote(path, self.line_of(target, path)));
        }
        Ok(())
    }

    /// Tells whether what a kustomization names stands in the source.
    pub(super) fn is_there(&self, target: &Target, path: &str) -> bool {
        Files::join(&target.directory, path).is_some_and(|path| self.files.resolve(&path).is_ok())
    }

    /// Returns the line of the kustomization on which a text stands as it is, from 1.
    pub(super) fn line_of(&self, target: &Target, text: &str) -> Option<usize> {
        let bytes = self.files.read(&target.path()).unwrap_or_default();
        let file = String::from_utf8_lossy(&bytes);
        let index = file.lines().position(|line| line.contains(text))?;
        Some(index + 1)
    }

    fn file(&self, target: &Target, path: &str, map: &mut ResMap) -> Result<()> {
        let read = || self.objects(&self.read(target, path)?);
        let mut list = read().of(|| format!("accumulating resources from '{}'", shortened(path)))?;
        if let Some(origin) = &target.origin {
            let origin = origin.join(path);
            for resource in &mut list {
                self.charge_note(resource, origin.length())?;
                origin.note_file(resource);
            }
        }
        if let Some(file) = Files::join(&target.directory, path) {
            let file: Rc<str> = file.into();
            list.iter_mut()
                .for_each(|resource| resource.file = Some(file.clone()));
        }
        map.append_all(list)
    }

    /// Finds the directory a kustomization names, which may not be one the build is inside of.
    pub(super) fn directory(&self, target: &Target, path: &str) -> Result<String> {
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

    fn enter(&self, target: &Target, path: &str, directory: &str) -> Result<Target> {
        if let Some(inside) = target.above.iter().find(|above| is_below(above, directory)) {
            return Err(invalid(format!(
                "cycle detected: candidate root '{}' contains visited root '{}'",
                self.files.shown(directory),
                self.files.shown(inside)
            )));
        }
        let origin = target.origin.as_ref().map(|origin| origin.join(path));
        self.load(directory, &target.above, origin)
    }

    fn below(
        &self,
        target: &Target,
        path: &str,
        directory: &str,
        mut acc: Accumulator,
    ) -> Result<Accumulator> {
        let inner = self.enter(target, path, directory)?;
        if inner.kustomization.is_component {
            return Err(invalid(format!(
                "expected kind != 'Component' for path '{}'",
                self.files.shown(directory)
            )));
        }
        let below = self.accumulate(&inner)?;
        acc.map.append_all(below.map.into_list())?;
        acc.config = self.configs.merge(acc.config, &below.config, &self.steps)?;
        for (name, var) in below.vars {
            add_var(&mut acc.vars, name, var)?;
        }
        Ok(acc)
    }

    /// Runs a component on the objects of the kustomization that names it.
    pub(super) fn component(
        &self,
        target: &Target,
        path: &str,
        directory: &str,
        acc: Accumulator,
    ) -> Result<Accumulator> {
        let inner = self.enter(target, path, directory)?;
        if !inner.kustomization.is_component {
            return Err(invalid(format!(
                "expected kind 'Component' for path '{}'",
                self.files.shown(directory)
            )));
        }
        let file = inner.path();
        let mut acc = self.run(&inner, acc).in_file(&file)?;
        acc.map.require_distinct(&self.steps)?;
        // What came out of the component is merged into nothing once more.
        acc.config = self
            .configs
            .merge(self.configs.nothing(), &acc.config, &self.steps)?;
        Ok(acc)
    }
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
