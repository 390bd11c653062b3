//! The list of objects of a build, in order, with the indexes that keep look-ups from being scans.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::rc::Rc;

use crate::yaml::node::{Node, Tag};

use super::additions::Additions;
use super::error::{Result, invalid};
use super::id::Id;
use super::resource::{Behavior, Resource};
use super::steps::Steps;

/// So few names that an object had are looked at for the step that a change costs.
const FEW_PREVIOUS: usize = 8;

/// Objects in the order they were added; no two have the same current identity when they are added.
#[derive(Debug, Clone, Default)]
pub(crate) struct ResMap {
    list: Vec<Resource>,
    /// The files stand for errors.
    current: Option<HashMap<Id, Option<Rc<str>>>>,
    any: Option<HashMap<Id, Vec<usize>>>,
    names: Option<HashMap<String, Vec<usize>>>,
    /// What generators added to objects and is not in their trees yet, by position.
    open: BTreeMap<usize, Additions>,
    /// How many objects were deleted and are in the list still: each is empty, and under no key.
    deleted: usize,
}

impl ResMap {
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
            .get_or_insert_with(|| present(list).map(|(_, r)| (r.id(), r.file.clone())).collect());
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
            for (position, resource) in present(list) {
                for id in resource.ids() {
                    index.entry(id).or_default().push(position);
                }
            }
            index
        });
        any.get(id).map_or(&[], Vec::as_slice)
    }

    /// Returns the positions of the objects that have a name or had it.
    pub(crate) fn with_name(&mut self, name: &str) -> &[usize] {
        let list = &self.list;
        let names = self.names.get_or_insert_with(|| {
            let mut names = HashMap::with_capacity(list.len());
            for (position, resource) in present(list) {
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
    ///
    /// Once all are in, [`ResMap::close`] writes what was merged.
    pub(crate) fn absorb(&mut self, mut resource: Resource, steps: &Steps<'_>) -> Result<()> {
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
        if behavior == Behavior::Create {
            return Err(invalid(format!(
                "id {id} exists; its behavior must be merge or replace, and is create where none is written"
            )));
        }
        let ids = self.list[position].ids();
        let mut old = std::mem::replace(&mut self.list[position], Resource::new(Node::map()));
        // An annotation may say so too, and is taken out with the others.
        old.needs_hash = old.wants_hash();
        let mut additions = match self.open.remove(&position) {
            Some(open) => open,
            None => Additions::open(&mut old, steps)?,
        };
        match behavior {
            Behavior::Replace => additions.replace(&mut resource, steps)?,
            Behavior::Merge | Behavior::Create => additions.merge(&mut resource, steps)?,
        }
        resource.succeed(old);
        self.open.insert(position, additions);
        let same = ids == resource.ids();
        self.list[position] = resource;
        if !same {
            self.reindex();
        }
        Ok(())
    }

    /// Writes what generators added into the objects.
    pub(crate) fn close(&mut self, steps: &Steps<'_>) -> Result<()> {
        for (position, additions) in std::mem::take(&mut self.open) {
            additions.close(&mut self.list[position], steps)?;
        }
        Ok(())
    }

    /// Fails when two objects have the same identity, which is looked for where it is not known already.
    pub(crate) fn require_distinct(&mut self, steps: &Steps<'_>) -> Result<()> {
        if self
            .current
            .as_ref()
            .is_some_and(|current| current.len() == self.present())
        {
            return Ok(());
        }
        steps.spend(self.list.len())?;
        self.drop_deleted();
        self.reindex();
        let list = std::mem::take(&mut self.list);
        self.append_all(list)
    }

    /// Returns how many objects there are, without those that were deleted.
    fn present(&self) -> usize {
        self.list.len() - self.deleted
    }

    /// Deletes an object that was found under some keys, if they are known. It stays in the list, empty, so that others keep their places
    /// until [`ResMap::drop_deleted`]: many deletions go through the list once.
    pub(crate) fn delete(&mut self, position: usize, keys: Option<Keys>) {
        self.list[position] = Resource::new(Node {
            tag: Tag::Map,
            ..Node::map()
        });
        self.deleted += 1;
        let Some(keys) = keys else {
            return self.reindex();
        };
        if let Some(current) = &mut self.current {
            current.remove(&keys.id);
        }
        if let Some(any) = &mut self.any {
            move_keys(any, position, keys.ids, Vec::new());
        }
        if let Some(names) = &mut self.names {
            move_keys(names, position, keys.names, Vec::new());
        }
    }

    /// Drops the objects that were deleted.
    pub(crate) fn drop_deleted(&mut self) {
        if self.deleted > 0 {
            self.drop_empty();
        }
    }

    /// Drops objects that are empty.
    pub(crate) fn drop_empty(&mut self) {
        self.deleted = 0;
        if self.list.iter().any(|r| r.node.is_empty()) {
            self.list_mut().retain(|r| !r.node.is_empty());
        }
    }

    /// Returns under which keys an object is found, before a change that may alter its identity.
    pub(crate) fn keys(&self, position: usize, steps: &Steps<'_>) -> Result<Keys> {
        let resource = &self.list[position];
        if resource.previous.len() > FEW_PREVIOUS {
            // Every name that it had is copied, here and behind the change, and goes again.
            steps.spend(resource.previous.len())?;
            steps.spend_bytes(resource.length_of_previous())?;
        }
        Ok(Keys {
            id: resource.id(),
            ids: self.any.as_ref().map(|_| resource.ids()),
            names: self.names.as_ref().map(|_| names_of(resource)),
        })
    }

    /// Finds an object under the keys it has after such a change, and no longer under those it had.
    pub(crate) fn rekey(&mut self, position: usize, before: Keys) {
        let resource = &self.list[position];
        let id = resource.id();
        if let Some(current) = &mut self.current
            && id != before.id
        {
            // Two of one identity are told apart by going through all of them.
            let present = self.list.len() - self.deleted;
            if current.len() == present && !current.contains_key(&id) {
                current.remove(&before.id);
                current.insert(id, resource.file.clone());
            } else {
                self.current = None;
            }
        }
        if let Some(any) = &mut self.any {
            move_keys(any, position, before.ids, resource.ids());
        }
        if let Some(names) = &mut self.names {
            move_keys(names, position, before.names, names_of(resource));
        }
    }

    /// Forgets the indexes after a change of identities.
    pub(crate) fn reindex(&mut self) {
        self.current = None;
        self.any = None;
        self.names = None;
    }
}

/// The objects that are not empty, and their positions.
fn present(list: &[Resource]) -> impl Iterator<Item = (usize, &Resource)> {
    list.iter().enumerate().filter(|(_, r)| !r.node.is_empty())
}

/// Under which keys an object is found; those of indexes that are not there are left out.
pub(crate) struct Keys {
    id: Id,
    ids: Option<Vec<Id>>,
    names: Option<Vec<String>>,
}

/// Moves a position from some keys of an index to others; the positions of a key are sorted.
fn move_keys<K: Eq + Hash>(
    index: &mut HashMap<K, Vec<usize>>,
    position: usize,
    before: Option<Vec<K>>,
    after: Vec<K>,
) {
    for key in before.into_iter().flatten() {
        if let Entry::Occupied(mut known) = index.entry(key) {
            if let Ok(at) = known.get().binary_search(&position) {
                known.get_mut().remove(at);
            }
            if known.get().is_empty() {
                known.remove();
            }
        }
    }
    for key in after {
        let positions = index.entry(key).or_default();
        if let Err(at) = positions.binary_search(&position) {
            positions.insert(at, position);
        }
    }
}

/// Lists the names that an object has or had, each once.
fn names_of(resource: &Resource) -> Vec<String> {
    let mut had: Vec<&str> = resource.previous.iter().map(|p| p.name.as_str()).collect();
    had.push(resource.name());
    had.sort_unstable();
    had.dedup();
    had.into_iter().map(str::to_owned).collect()
}

fn index_names(names: &mut HashMap<String, Vec<usize>>, resource: &Resource, position: usize) {
    for name in names_of(resource) {
        names.entry(name).or_default().push(position);
    }
}
