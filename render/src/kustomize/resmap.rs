//! The list of objects of a build, in order, with the indexes that keep look-ups from being scans.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;

use super::error::{Result, invalid};
use super::id::Id;
use super::resource::{Behavior, Resource};

/// Objects in the order they were added; no two have the same current identity when they are added.
#[derive(Debug, Clone, Default)]
pub(crate) struct ResMap {
    list: Vec<Resource>,
    /// The files stand for errors.
    current: Option<HashMap<Id, Option<Rc<str>>>>,
    any: Option<HashMap<Id, Vec<usize>>>,
    names: Option<HashMap<String, Vec<usize>>>,
}

impl ResMap {
    pub(crate) fn new(list: Vec<Resource>) -> Result<ResMap> {
        let mut map = ResMap::default();
        map.append_all(list)?;
        Ok(map)
    }

    pub(crate) fn list(&self) -> &[Resource] {
        &self.list
    }

    pub(crate) fn into_list(self) -> Vec<Resource> {
        self.list
    }

    /// Lends the objects for changes that may alter their identities.
    pub(crate) fn list_mut(&mut self) -> &mut Vec<Resource> {
        self.reindex();
        &mut self.list
    }

    /// Lends the objects for changes that leave every identity as it is.
    pub(crate) fn contents_mut(&mut self) -> &mut [Resource] {
        &mut self.list
    }

    /// Adds an object unless one of its identity is there.
    pub(crate) fn append(&mut self, resource: Resource) -> Result<()> {
        let list = &self.list;
        let current = self
            .current
            .get_or_insert_with(|| list.iter().map(|r| (r.id(), r.file.clone())).collect());
        match current.entry(resource.id()) {
            Entry::Occupied(first) => {
                let id = first.key();
                let fault = invalid(format!(
                    "may not add resource with an already registered id: {id}"
                ));
                return Err(fault.in_both(first.get().clone(), resource.file.clone()));
            }
            Entry::Vacant(free) => _ = free.insert(resource.file.clone()),
        }
        if let Some(names) = &mut self.names {
            index_names(names, &resource, self.list.len());
        }
        if let Some(any) = &mut self.any {
            for id in resource.ids() {
                any.entry(id).or_default().push(self.list.len());
            }
        }
        self.list.push(resource);
        Ok(())
    }

    pub(crate) fn append_all(&mut self, list: Vec<Resource>) -> Result<()> {
        list.into_iter().try_for_each(|resource| self.append(resource))
    }

    /// Returns the positions of the objects that have or had an identity.
    pub(crate) fn with_id(&mut self, id: &Id) -> &[usize] {
        let list = &self.list;
        let any = self.any.get_or_insert_with(|| {
            let mut index: HashMap<Id, Vec<usize>> = HashMap::with_capacity(list.len());
            for (position, resource) in list.iter().enumerate().filter(|(_, r)| !r.node.is_empty()) {
                for id in resource.ids() {
                    index.entry(id).or_default().push(position);
                }
            }
            index
        });
        any.get(id).map_or(&[], Vec::as_slice)
    }

    /// Returns the positions of the objects that have a name or had it first.
    pub(crate) fn with_name(&mut self, name: &str) -> &[usize] {
        let list = &self.list;
        let names = self.names.get_or_insert_with(|| {
            let mut names = HashMap::with_capacity(list.len());
            for (position, resource) in list.iter().enumerate() {
                index_names(&mut names, resource, position);
            }
            names
        });
        names.get(name).map_or(&[], Vec::as_slice)
    }

    /// Returns the position of the one object that has or had an identity.
    pub(crate) fn one_with_id(&mut self, id: &Id) -> Result<usize> {
        match self.with_id(id) {
            [position] => Ok(*position),
            [] => Err(invalid(format!(
                "no matches for Id {id}; failed to find unique target for patch {id}"
            ))),
            _ => Err(invalid(format!(
                "multiple matches for Id {id}; failed to find unique target for patch {id}"
            ))),
        }
    }

    /// Adds a generated object, or merges it into the one of its name.
    pub(crate) fn absorb(&mut self, mut resource: Resource) -> Result<()> {
        let id = resource.id();
        let matches = self.with_id(&id);
        let (&[position], behavior) = (matches, resource.behavior) else {
            if !matches.is_empty() {
                return Err(invalid(format!(
                    "found multiple objects that could accept merge of {id}"
                )));
            }
            return match resource.behavior {
                Behavior::Create => self.append(resource),
                _ => Err(invalid(format!(
                    "id {id} does not exist; cannot merge or replace"
                ))),
            };
        };
        let old = &self.list[position];
        match behavior {
            Behavior::Create => {
                return Err(invalid(format!(
                    "id {id} exists; can not use behavior: 'create', behavior must be merge or replace"
                )));
            }
            Behavior::Replace => resource.take_metadata_from(old),
            Behavior::Merge => {
                let origin = old.texts("annotations").remove(super::resource::ORIGIN);
                resource.take_metadata_from(old);
                super::generators::merge_data(&mut resource, old);
                if let Some(origin) = origin {
                    let mut annotations = resource.texts("annotations");
                    annotations.insert(super::resource::ORIGIN.into(), origin);
                    resource.set_texts("annotations", &annotations);
                    resource.restore_mark();
                }
            }
        }
        let same = self.list[position].ids() == resource.ids();
        self.list[position] = resource;
        if !same {
            self.reindex();
        }
        Ok(())
    }

    /// Fails when two objects have the same identity.
    pub(crate) fn require_distinct(&mut self) -> Result<()> {
        if self
            .current
            .as_ref()
            .is_some_and(|current| current.len() == self.list.len())
        {
            return Ok(());
        }
        self.reindex();
        let list = std::mem::take(&mut self.list);
        self.append_all(list)
    }

    /// Drops objects that a patch emptied.
    pub(crate) fn drop_empty(&mut self) {
        if self.list.iter().any(|r| r.node.is_empty()) {
            self.list_mut().retain(|r| !r.node.is_empty());
        }
    }

    /// Forgets the indexes after a change of identities.
    pub(crate) fn reindex(&mut self) {
        self.current = None;
        self.any = None;
        self.names = None;
    }
}

fn index_names(names: &mut HashMap<String, Vec<usize>>, resource: &Resource, position: usize) {
    let (name, original) = (resource.name(), resource.original_name());
    names.entry(name.to_string()).or_default().push(position);
    if original != name {
        names.entry(original.to_string()).or_default().push(position);
    }
}
