//! Follows changes of names through every field that refers to a name.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use super::candidates::{Candidate, Candidates, Reach};
use crate::kustomize::config::NameReference;
use crate::kustomize::error::{At, Error, Result, invalid};
use crate::kustomize::fieldspec::{self, FieldSpec};
use crate::kustomize::id::{self, CLUSTER, Gvk, GvkPattern};
use crate::kustomize::resmap::ResMap;
use crate::kustomize::resource::Resource;
use crate::kustomize::steps::Steps;
use crate::yaml::node::{Content, Kind, Node};

/// Follows references to names that changed, in every object.
pub(crate) fn resolve_references(
    map: &mut ResMap,
    references: &[NameReference],
    steps: &Steps<'_>,
) -> Result<()> {
    let list = map.list_mut();
    // Apart from their objects the nodes can change while the objects' former names are read.
    let mut nodes: Vec<Node> = list
        .iter_mut()
        .map(|resource| std::mem::replace(&mut resource.node, Node::map()))
        .collect();
    let any_kind = references.iter().any(|reference| reference.gvk.kind.is_empty());
    let candidates = Candidates::new(list, &nodes, any_kind, steps)?;
    let mut rules = Rules::new(references);
    for (resource, node) in list.iter().zip(&mut nodes) {
        let fitting = rules.of(original_gvk(resource, node), steps)?;
        if fitting.is_empty() {
            continue;
        }
        steps.spend(fitting.len())?;
        follow_all(resource, node, fitting, &candidates, steps)?;
    }
    for (resource, node) in list.iter_mut().zip(nodes) {
        resource.node = node;
    }
    Ok(())
}

fn original_gvk<'n>(resource: &'n Resource, node: &'n Node) -> Gvk<'n> {
    let gvk = Gvk::of(node);
    match resource.previous.first() {
        Some(first) => Gvk {
            kind: &first.kind,
            ..gvk
        },
        None => gvk,
    }
}

fn follow_all(
    resource: &Resource,
    node: &mut Node,
    fitting: &[(&FieldSpec, &GvkPattern)],
    candidates: &Candidates<'_>,
    steps: &Steps<'_>,
) -> Result<()> {
    let mut referrer = None;
    for (field, target) in fitting {
        if !leads_somewhere(node, &field.parts, steps)? {
            continue;
        }
        let referrer = match &mut referrer {
            Some(referrer) => referrer,
            none => none.insert(Referrer::new(resource, node).in_file_of(resource)?),
        };
        let follow = Follow {
            referrer,
            target,
            candidates,
            field,
            steps,
        };
        let followed = fieldspec::follow(node, &field.parts, None, steps, &mut |node| follow.set(node));
        followed
            .map_err(Error::with_path)
            .in_object(|| written(resource, node))
            .in_file_of(resource)?;
    }
    Ok(())
}

/// Returns the identity of an object as its file has it.
fn written(resource: &Resource, node: &Node) -> String {
    let gvk = original_gvk(resource, node);
    let (name, namespace) = match resource.previous.first() {
        Some(first) => (first.name.to_string(), first.namespace.to_string()),
        None => return id::current(node).to_string(),
    };
    format!("{gvk}/{name}.{namespace}")
}

/// The fields that refer to names, by the type of the object that has them.
struct Rules<'c> {
    references: &'c [NameReference],
    by_type: HashMap<String, Vec<(&'c FieldSpec, &'c GvkPattern)>>,
}

impl<'c> Rules<'c> {
    fn new(references: &'c [NameReference]) -> Rules<'c> {
        Rules {
            references,
            by_type: HashMap::new(),
        }
    }

    fn of(&mut self, gvk: Gvk<'_>, steps: &Steps<'_>) -> Result<&[(&'c FieldSpec, &'c GvkPattern)]> {
        let of_type = match self.by_type.entry(gvk.to_string()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let all = self.references.iter();
                steps.spend(all.clone().map(|reference| reference.referrers.len()).sum())?;
                let fields = all.flat_map(|reference| {
                    let fields = reference.referrers.iter().filter(|f| f.gvk.selects(gvk));
                    fields.map(|field| (field, &reference.gvk))
                });
                unknown.insert(fields.collect())
            }
        };
        Ok(of_type)
    }
}

/// Tells whether following a path would reach a node, or fail.
fn leads_somewhere(node: &Node, path: &[String], steps: &Steps<'_>) -> Result<bool> {
    let Some((first, rest)) = path.split_first() else {
        return Ok(true);
    };
    fieldspec::charge(node, steps)?;
    match &node.content {
        Content::Seq(items) => {
            for item in items {
                if leads_somewhere(item, path, steps)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Content::Map(_) => {
            let name = first.strip_suffix("[]").unwrap_or(first);
            match node.get(name) {
                Some(next) => leads_somewhere(next, rest, steps),
                None => Ok(false),
            }
        }
        Content::Scalar(_) => Ok(!node.is_null()),
    }
}

/// The object whose references are followed.
struct Referrer<'r> {
    resource: &'r Resource,
    reach: Reach,
    role_ref: Option<GvkPattern>,
}

impl<'r> Referrer<'r> {
    fn new(resource: &'r Resource, node: &Node) -> Result<Referrer<'r>> {
        let namespace = id::effective_namespace(node);
        let text = |path: &[&str]| node.at(path).map(|n| n.text().to_string());
        let role_ref = match (text(&["roleRef", "apiGroup"]), text(&["roleRef", "kind"])) {
            (Some(group), Some(kind)) => Some(GvkPattern {
                group,
                version: String::new(),
                kind,
            }),
            _ => None,
        };
        let reach = Reach {
            is_cluster_scoped: namespace == CLUSTER,
            namespace: namespace.into(),
            bound: bound_namespaces(node)?,
        };
        Ok(Referrer {
            resource,
            reach,
            role_ref,
        })
    }
}

/// Lists the namespaces of the service accounts that a role binding names.
fn bound_namespaces(node: &Node) -> Result<BTreeSet<String>> {
    let mut namespaces = BTreeSet::new();
    if id::kind(node) != "RoleBinding" {
        return Ok(namespaces);
    }
    for subject in node.get("subjects").map_or(&[][..], Node::items) {
        if let Some(namespace) = subject.get("namespace")
            && subject
                .get("kind")
                .is_some_and(|kind| kind.text() == "ServiceAccount")
        {
            if namespace.is_null() {
                return Err(invalid(format!(
                    "namespace is blank for resource {}",
                    id::current(node)
                )));
            }
            namespaces.insert(namespace.text().to_string());
        }
    }
    Ok(namespaces)
}

/// One field of one object, which may refer to objects of one type.
struct Follow<'f> {
    referrer: &'f Referrer<'f>,
    target: &'f GvkPattern,
    candidates: &'f Candidates<'f>,
    field: &'f FieldSpec,
    steps: &'f Steps<'f>,
}

impl<'f> Follow<'f> {
    fn set(&self, node: &mut Node) -> Result<()> {
        if node.is_null() {
            return Ok(());
        }
        match &mut node.content {
            Content::Scalar(_) => self.set_scalar(node),
            Content::Map(_) => self.set_map(node),
            Content::Seq(items) => items.iter_mut().enumerate().try_for_each(|(at, item)| {
                let set = match item.kind() {
                    _ if item.is_null() => Ok(()),
                    Kind::Scalar => self.set_scalar(item),
                    Kind::Map => self.set_map(item),
                    Kind::Seq => Err(invalid("a name or a map with a name was expected")),
                };
                set.map_err(|fault| fault.below(|| format!("[{at}]")))
            }),
        }
    }

    fn set_scalar(&self, node: &mut Node) -> Result<()> {
        let (name, kind) = (node.text(), self.target.kind.as_str());
        let (reach, same) = (&self.referrer.reach, |a: &Candidate<'_>, b: &Candidate<'_>| {
            a.name == b.name
        });
        let found = if reach.is_cluster_scoped {
            let named = self.candidates.named_anywhere(name, kind, self.steps)?;
            match self.pick(named, same) {
                // What may be meant is told with all namespaces.
                Err(_) => self.pick(self.candidates.named(name, kind, reach, self.steps)?, same)?,
                Ok(found) => found,
            }
        } else {
            self.pick(self.candidates.named(name, kind, reach, self.steps)?, same)?
        };
        if let Some(candidate) = found
            && candidate.name != node.text()
        {
            node.overwrite(Node::plain(candidate.name.clone()));
        }
        Ok(())
    }

    fn set_map(&self, node: &mut Node) -> Result<()> {
        let Some(name) = node.get("name").map(Node::text) else {
            return Err(invalid("path config error; no 'name' field in node"));
        };
        let (all, steps) = (self.candidates, self.steps);
        let (kind, reach) = (self.target.kind.as_str(), &self.referrer.reach);
        let named = match node.get("namespace").map(Node::text) {
            None => all.named(name, kind, reach, steps)?,
            Some(namespace) if namespace != CLUSTER && all.any_from(namespace, reach, steps)? => {
                all.named_from(name, kind, namespace, reach, steps)?
            }
            Some(namespace) => all.named_in(name, kind, namespace, reach, steps)?,
        };
        let same = |a: &Candidate<'_>, b: &Candidate<'_>| {
            a.name == b.name && a.written_namespace == b.written_namespace
        };
        let Some(found) = self.pick(named, same)? else {
            return Ok(());
        };
        if found.name == name && found.written_namespace.is_empty() {
            return Ok(());
        }
        node.set("name", Node::plain(found.name.clone()));
        if !found.written_namespace.is_empty() {
            node.set("namespace", Node::plain(found.written_namespace.clone()));
        }
        Ok(())
    }

    /// Picks the object a name refers to; several are one when they have become the same.
    fn pick(
        &self,
        mut found: Vec<&'f Candidate<'f>>,
        same: impl Fn(&Candidate<'_>, &Candidate<'_>) -> bool,
    ) -> Result<Option<&'f Candidate<'f>>> {
        found.retain(|c| self.is_target(c));
        if found.len() > 1 {
            found.retain(|c| shares_affixes(c, self.referrer.resource, true));
        } else {
            return Ok(found.first().copied());
        }
        if found.len() > 1 {
            found.retain(|c| shares_affixes(c, self.referrer.resource, false));
        }
        match found.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(one)),
            [first, rest @ ..] if rest.iter().all(|c| same(first, c)) => Ok(Some(first)),
            _ => {
                let ids: Vec<String> = found.iter().map(|c| c.id().to_string()).collect();
                Err(invalid(format!(
                    "found multiple possible referrals: {}",
                    ids.join(", ")
                )))
            }
        }
    }

    fn is_target(&self, candidate: &Candidate<'_>) -> bool {
        let in_role = !self.field.path.ends_with("roleRef/name")
            || self
                .referrer
                .role_ref
                .as_ref()
                .is_none_or(|role| candidate.was(role));
        let reach = &self.referrer.reach;
        let near =
            reach.is_cluster_scoped || candidate.is_anywhere() || candidate.namespace == reach.namespace;
        candidate.was(self.target) && in_role && near
    }
}

fn shares_affixes(a: &Candidate<'_>, b: &Resource, allow_empty: bool) -> bool {
    let same =
        |a: &[String], b: &[String]| (allow_empty && (a.is_empty() || b.is_empty())) || same_ending(a, b);
    same(a.prefixes, &b.prefixes) && same(a.suffixes, &b.suffixes)
}

/// Tells whether the shorter list ends the longer one; an empty list ends only an empty one.
fn same_ending(a: &[String], b: &[String]) -> bool {
    let (short, long) = if a.len() > b.len() { (b, a) } else { (a, b) };
    if short.is_empty() {
        long.is_empty()
    } else {
        long.ends_with(short)
    }
}
