//! The renamed objects of a build, found by the names and namespaces they had: what a reference may mean.

use std::collections::{BTreeSet, HashMap, HashSet};

use smol_str::SmolStr;

use crate::kustomize::error::Result;
use crate::kustomize::id::{self, CLUSTER, Gvk, GvkPattern};
use crate::kustomize::resource::{Previous, Resource};
use crate::kustomize::steps::Steps;
use crate::yaml::node::Node;

/// One object that others may refer to by a name it had.
pub(super) struct Candidate<'r> {
    previous: &'r [Previous],
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
        Candidate {
            previous: &resource.previous,
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
        self.previous.iter().any(|previous| {
            pattern.selects(Gvk {
                group: &self.group,
                version: &self.version,
                kind: &previous.kind,
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

type ByName<'r> = HashMap<&'r str, Vec<usize>>;
type ByBoth<'r> = HashMap<(&'r str, SmolStr), Vec<usize>>;

/// The objects that had another name, by the names they had.
pub(super) struct Candidates<'r> {
    all: Vec<Candidate<'r>>,
    by_name: ByName<'r>,
    /// By a name they had and the namespace they are in.
    present: ByBoth<'r>,
    /// By a name they had and the namespace they were in first.
    original: ByBoth<'r>,
    /// By the namespace they were in first: one for each namespace where such objects are now.
    moved: ByName<'r>,
}

impl<'r> Candidates<'r> {
    /// Indexes the objects, whose nodes stand apart from them.
    pub(super) fn new(list: &'r [Resource], nodes: &[Node]) -> Candidates<'r> {
        let mut candidates = Candidates {
            all: Vec::new(),
            by_name: HashMap::new(),
            present: HashMap::new(),
            original: HashMap::new(),
            moved: HashMap::new(),
        };
        let mut moves = HashSet::new();
        for (resource, node) in list.iter().zip(nodes).filter(|(r, _)| !r.previous.is_empty()) {
            candidates.add(Candidate::new(resource, node), &mut moves);
        }
        candidates
    }

    fn add(&mut self, candidate: Candidate<'r>, moves: &mut HashSet<(&'r str, SmolStr, SmolStr)>) {
        let position = self.all.len();
        let push = |positions: &mut Vec<usize>| {
            if positions.last() != Some(&position) {
                positions.push(position);
            }
        };
        let from = candidate.original_namespace();
        for previous in candidate.previous {
            let name = previous.name.as_str();
            push(self.by_name.entry(name).or_default());
            push(
                self.present
                    .entry((name, candidate.namespace.clone()))
                    .or_default(),
            );
            push(self.original.entry((name, from.into())).or_default());
        }
        let to = (candidate.namespace.clone(), candidate.written_namespace.clone());
        if moves.insert((from, to.0, to.1)) {
            push(self.moved.entry(from).or_default());
        }
        self.all.push(candidate);
    }

    /// Tells whether any object within reach was first in a namespace.
    pub(super) fn any_from(&self, namespace: &str, reach: &Reach) -> bool {
        let positions = self.moved.get(namespace).map_or(&[][..], Vec::as_slice);
        positions.iter().any(|position| reach.holds(&self.all[*position]))
    }

    /// Lists the objects within reach that had a name, in order.
    pub(super) fn named(&self, name: &str, reach: &Reach, steps: &Steps<'_>) -> Result<Vec<&Candidate<'r>>> {
        let Some(all) = self.by_name.get(name) else {
            return Ok(Vec::new());
        };
        // Few objects share a name; where thousands do, each in its namespace, they are not looked through.
        let few = 8.max(reach.bound.len() + 2);
        if reach.is_cluster_scoped || all.len() <= few {
            steps.spend(all.len())?;
            return Ok(self.reached(all, reach));
        }
        steps.spend(few)?;
        let mut near: Vec<usize> = Vec::new();
        for namespace in reach.namespaces() {
            near.extend(self.at(&self.present, name, namespace));
        }
        near.sort_unstable();
        Ok(self.reached(&near, reach))
    }

    /// As [`Candidates::named`], of those that are in a namespace.
    pub(super) fn named_in(&self, name: &str, namespace: &str, reach: &Reach) -> Vec<&Candidate<'r>> {
        self.reached(self.at(&self.present, name, namespace), reach)
    }

    /// As [`Candidates::named`], of those that were first in a namespace.
    pub(super) fn named_from(&self, name: &str, namespace: &str, reach: &Reach) -> Vec<&Candidate<'r>> {
        self.reached(self.at(&self.original, name, namespace), reach)
    }

    fn at<'s>(&'s self, index: &'s ByBoth<'r>, name: &str, namespace: &str) -> &'s [usize] {
        // The key's lifetime is the index's own: the name is looked up there first.
        let Some((name, _)) = self.by_name.get_key_value(name) else {
            return &[];
        };
        index
            .get(&(*name, SmolStr::new(namespace)))
            .map_or(&[], Vec::as_slice)
    }

    fn reached(&self, positions: &[usize], reach: &Reach) -> Vec<&Candidate<'r>> {
        let candidates = positions.iter().map(|position| &self.all[*position]);
        candidates.filter(|candidate| reach.holds(candidate)).collect()
    }
}
