//! The renamed objects of a build, found by the names, kinds and namespaces they had: what a reference may mean.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::rc::Rc;

use smol_str::SmolStr;

use crate::kustomize::error::Result;
use crate::kustomize::id::{self, CLUSTER, Gvk, GvkPattern};
use crate::kustomize::resource::{Previous, Resource};
use crate::kustomize::steps::Steps;
use crate::yaml::node::Node;

/// One object that others may refer to by a name it had.
pub(super) struct Candidate<'r> {
    previous: &'r [Previous],
    /// The kinds it had, each once: nearly always one, however many names it had.
    kinds: Vec<&'r str>,
    group: SmolStr,
    version: SmolStr,
    kind: SmolStr,
    /// The present name.
    pub(super) name: SmolStr,
    /// The present effective namespace.
    pub(super) namespace: SmolStr,
    /// The present namespace as written, empty when there is none.
    pub(super) written_namespace: SmolStr,
    pub(super) prefixes: &'r [String],
    pub(super) suffixes: &'r [String],
}

impl<'r> Candidate<'r> {
    fn new(resource: &'r Resource, node: &Node) -> Candidate<'r> {
        let gvk = Gvk::of(node);
        let had = resource.previous.iter().map(|previous| previous.kind.as_str());
        Candidate {
            previous: &resource.previous,
            kinds: had.collect::<BTreeSet<_>>().into_iter().collect(),
            group: gvk.group.into(),
            version: gvk.version.into(),
            kind: gvk.kind.into(),
            name: id::name(node).into(),
            namespace: id::effective_namespace(node).into(),
            written_namespace: id::namespace(node).into(),
            prefixes: &resource.prefixes,
            suffixes: &resource.suffixes,
        }
    }

    /// Tells whether the object was of a type that fits.
    pub(super) fn was(&self, pattern: &GvkPattern) -> bool {
        self.kinds.iter().any(|kind| {
            pattern.selects(Gvk {
                group: &self.group,
                version: &self.version,
                kind,
            })
        })
    }

    /// The namespace the object was in first.
    pub(super) fn original_namespace(&self) -> &'r str {
        self.previous.first().map_or("", |first| &first.namespace)
    }

    /// Tells whether references reach the object from any namespace.
    pub(super) fn is_anywhere(&self) -> bool {
        self.namespace == CLUSTER || self.kind == "ServiceAccount"
    }

    /// All that tells the object from others but for its namespaces.
    fn but_for_namespaces(&self) -> impl Hash + Eq + use<'_, 'r> {
        let gvk = (&self.group, &self.version, &self.kind);
        (gvk, &self.kinds, &self.name, self.prefixes, self.suffixes)
    }

    /// Names the object in errors.
    pub(super) fn id(&self) -> id::Id {
        let gvk = Gvk {
            group: &self.group,
            version: &self.version,
            kind: &self.kind,
        };
        id::Id::new(gvk, &self.name, &self.namespace)
    }
}

/// From where a reference looks: which namespaces it reaches.
pub(super) struct Reach {
    /// The effective namespace of the object that refers.
    pub(super) namespace: SmolStr,
    pub(super) is_cluster_scoped: bool,
    /// The namespaces of the service accounts that it binds, as written there.
    pub(super) bound: BTreeSet<String>,
}

impl Reach {
    fn holds(&self, candidate: &Candidate<'_>) -> bool {
        self.is_cluster_scoped
            || candidate.namespace == CLUSTER
            || candidate.namespace == self.namespace
            || self.bound.contains(candidate.written_namespace.as_str())
    }

    /// Lists the effective namespaces that may hold candidates; each but a cluster-scoped referrer has few.
    fn namespaces(&self) -> Vec<&str> {
        let bound = self
            .bound
            .iter()
            .map(|bound| if bound.is_empty() { "default" } else { bound });
        let mut namespaces: Vec<&str> = [self.namespace.as_str(), CLUSTER]
            .into_iter()
            .chain(bound)
            .collect();
        namespaces.sort_unstable();
        namespaces.dedup();
        namespaces
    }
}

/// The number of a text in an index.
type Text = usize;

/// Stands for every kind.
const ANY: Text = 0;

/// A name that objects had, and a kind that they had.
type Called = (Text, Text);

/// The namespaces where the objects are now that were first in one of them.
#[derive(Default)]
struct Moved {
    effective: HashSet<SmolStr>,
    written: HashSet<SmolStr>,
}

/// The objects that had another name, by the names and kinds they had.
pub(super) struct Candidates<'r> {
    all: Vec<Candidate<'r>>,
    /// Whether a reference may mean objects of every kind.
    any_kind: bool,
    texts: HashMap<SmolStr, Text>,
    named: HashMap<Called, Vec<usize>>,
    /// By the namespace they are in as well.
    present: HashMap<(Called, Text), Vec<usize>>,
    /// By the namespace they were in first as well.
    original: HashMap<(Called, Text), Vec<usize>>,
    /// By the namespace they were in first.
    moved: HashMap<Text, Moved>,
    /// The first of those that differ in more than their namespaces, of names that were asked for from everywhere.
    distinct: RefCell<HashMap<Called, Rc<[usize]>>>,
}

impl<'r> Candidates<'r> {
    /// Indexes the objects, whose nodes stand apart from them; `any_kind` when references may mean every kind.
    pub(super) fn new(
        list: &'r [Resource],
        nodes: &[Node],
        any_kind: bool,
        steps: &Steps<'_>,
    ) -> Result<Candidates<'r>> {
        let mut candidates = Candidates {
            all: Vec::new(),
            any_kind,
            texts: HashMap::new(),
            named: HashMap::new(),
            present: HashMap::new(),
            original: HashMap::new(),
            moved: HashMap::new(),
            distinct: RefCell::default(),
        };
        for (resource, node) in list.iter().zip(nodes).filter(|(r, _)| !r.previous.is_empty()) {
            candidates.add(Candidate::new(resource, node), steps)?;
        }
        Ok(candidates)
    }

    fn add(&mut self, candidate: Candidate<'r>, steps: &Steps<'_>) -> Result<()> {
        let position = self.all.len();
        let had = candidate.previous.iter();
        let names: BTreeSet<&'r str> = had.map(|previous| previous.name.as_str()).collect();
        let kinds = candidate.kinds.clone();
        steps.spend(candidate.previous.len() + names.len().saturating_mul(kinds.len()))?;
        let namespace = self.number(&candidate.namespace);
        let from = self.number(candidate.original_namespace());
        let mut numbers: Vec<Text> = kinds.into_iter().map(|kind| self.number(kind)).collect();
        if self.any_kind {
            numbers.push(ANY);
        }
        for name in names {
            let name = self.number(name);
            for called in numbers.iter().map(|kind| (name, *kind)) {
                self.named.entry(called).or_default().push(position);
                self.present
                    .entry((called, namespace))
                    .or_default()
                    .push(position);
                self.original.entry((called, from)).or_default().push(position);
            }
        }
        let moved = self.moved.entry(from).or_default();
        if !moved.effective.contains(&candidate.namespace) {
            moved.effective.insert(candidate.namespace.clone());
        }
        if !moved.written.contains(&candidate.written_namespace) {
            moved.written.insert(candidate.written_namespace.clone());
        }
        self.all.push(candidate);
        Ok(())
    }

    fn number(&mut self, text: &str) -> Text {
        if let Some(known) = self.texts.get(text) {
            return *known;
        }
        let number = ANY + 1 + self.texts.len();
        self.texts.insert(text.into(), number);
        number
    }

    /// Tells whether any object within reach was first in a namespace.
    pub(super) fn any_from(&self, namespace: &str, reach: &Reach, steps: &Steps<'_>) -> Result<bool> {
        let Some(moved) = self.texts.get(namespace).and_then(|from| self.moved.get(from)) else {
            return Ok(false);
        };
        if reach.is_cluster_scoped
            || moved.effective.contains(CLUSTER)
            || moved.effective.contains(&reach.namespace)
        {
            return Ok(true);
        }
        steps.spend(reach.bound.len().min(moved.written.len()))?;
        Ok(if reach.bound.len() < moved.written.len() {
            reach
                .bound
                .iter()
                .any(|bound| moved.written.contains(bound.as_str()))
        } else {
            moved
                .written
                .iter()
                .any(|written| reach.bound.contains(written.as_str()))
        })
    }

    /// Lists the objects within reach that had a name and a kind, in order; an empty kind is every kind.
    pub(super) fn named(
        &self,
        name: &str,
        kind: &str,
        reach: &Reach,
        steps: &Steps<'_>,
    ) -> Result<Vec<&Candidate<'r>>> {
        match self.called(name, kind) {
            Some(called) => {
                let all = listed(&self.named, &called);
                self.near(called, all, reach, steps)
            }
            None => Ok(Vec::new()),
        }
    }

    /// As [`Candidates::named`], for a referrer that is in no namespace and to which all namespaces are one: the first
    /// of each that differ otherwise. Where thousands of namespaces have an object of one name, they are looked through
    /// for the first referrer alone.
    pub(super) fn named_anywhere(
        &self,
        name: &str,
        kind: &str,
        steps: &Steps<'_>,
    ) -> Result<Vec<&Candidate<'r>>> {
        let Some(called) = self.called(name, kind) else {
            return Ok(Vec::new());
        };
        let known = self.distinct.borrow().get(&called).cloned();
        let positions = match known {
            Some(positions) => positions,
            None => {
                let all = listed(&self.named, &called);
                steps.spend(all.len())?;
                let mut seen = HashSet::new();
                let distinct = all
                    .iter()
                    .copied()
                    .filter(|at| seen.insert(self.all[*at].but_for_namespaces()));
                let distinct: Rc<[usize]> = distinct.collect();
                self.distinct.borrow_mut().insert(called, distinct.clone());
                distinct
            }
        };
        steps.spend(positions.len())?;
        Ok(positions.iter().map(|position| &self.all[*position]).collect())
    }

    /// As [`Candidates::named`], of those that are in a namespace.
    pub(super) fn named_in(
        &self,
        name: &str,
        kind: &str,
        namespace: &str,
        reach: &Reach,
        steps: &Steps<'_>,
    ) -> Result<Vec<&Candidate<'r>>> {
        let key = self.called(name, kind).zip(self.texts.get(namespace).copied());
        let positions = key.map_or(&[][..], |key| listed(&self.present, &key));
        steps.spend(positions.len())?;
        Ok(self.reached(positions, reach))
    }

    /// As [`Candidates::named`], of those that were first in a namespace.
    pub(super) fn named_from(
        &self,
        name: &str,
        kind: &str,
        namespace: &str,
        reach: &Reach,
        steps: &Steps<'_>,
    ) -> Result<Vec<&Candidate<'r>>> {
        let Some(key) = self.called(name, kind).zip(self.texts.get(namespace).copied()) else {
            return Ok(Vec::new());
        };
        let mut found = self.near(key.0, listed(&self.original, &key), reach, steps)?;
        found.retain(|candidate| candidate.original_namespace() == namespace);
        Ok(found)
    }

    /// Lists those of some objects of one name and kind that are within reach. Few objects share a name; where
    /// thousands do, each in its namespace, those of the namespaces within reach are looked through instead.
    fn near(
        &self,
        called: Called,
        some: &[usize],
        reach: &Reach,
        steps: &Steps<'_>,
    ) -> Result<Vec<&Candidate<'r>>> {
        let few = 8.max(reach.bound.len() + 2);
        if reach.is_cluster_scoped || some.len() <= few {
            steps.spend(some.len())?;
            return Ok(self.reached(some, reach));
        }
        steps.spend(few)?;
        let mut near: Vec<usize> = Vec::new();
        for namespace in reach.namespaces() {
            let Some(number) = self.texts.get(namespace) else {
                continue;
            };
            let there = listed(&self.present, &(called, *number));
            if !there.is_empty() {
                steps.spend(there.len())?;
                near.extend(there);
            }
        }
        near.sort_unstable();
        Ok(self.reached(&near, reach))
    }

    fn called(&self, name: &str, kind: &str) -> Option<Called> {
        let kind = match kind {
            "" => ANY,
            kind => *self.texts.get(kind)?,
        };
        Some((*self.texts.get(name)?, kind))
    }

    fn reached(&self, positions: &[usize], reach: &Reach) -> Vec<&Candidate<'r>> {
        let candidates = positions.iter().map(|position| &self.all[*position]);
        candidates.filter(|candidate| reach.holds(candidate)).collect()
    }
}

fn listed<'i, K: Eq + Hash>(index: &'i HashMap<K, Vec<usize>>, key: &K) -> &'i [usize] {
    index.get(key).map_or(&[], Vec::as_slice)
}
