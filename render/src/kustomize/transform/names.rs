//! Changes names, and follows the changes through every field that refers to a name.

use std::collections::HashMap;

use crate::kustomize::config::NameReference;
use crate::kustomize::error::{At, Done, invalid};
use crate::kustomize::fieldspec::{self, Create, FieldSpec};
use crate::kustomize::generators;
use crate::kustomize::id::{self, CLUSTER, Gvk, GvkPattern};
use crate::kustomize::resmap::ResMap;
use crate::kustomize::resource::Resource;
use crate::kustomize::steps::Steps;
use crate::yaml::node::{Content, Kind, Node, Tag};

/// A prefix or a suffix of names.
#[derive(Debug)]
pub(crate) struct Affix {
    pub(crate) text: String,
    pub(crate) fields: Vec<FieldSpec>,
}

impl Affix {
    /// Adds the prefix or suffix to the names.
    pub(crate) fn apply(&self, map: &mut ResMap, prefix: bool) -> Done<()> {
        for resource in map.list_mut() {
            let gvk = resource.original_gvk();
            if is_never_renamed(gvk) {
                continue;
            }
            let fields: Vec<&FieldSpec> = self.fields.iter().filter(|f| f.gvk.selects(gvk)).collect();
            for field in fields {
                if field.path == "metadata/name" && !self.text.is_empty() {
                    let list = if prefix {
                        &mut resource.prefixes
                    } else {
                        &mut resource.suffixes
                    };
                    list.push(self.text.clone());
                    resource.store_previous();
                }
                self.rename(resource, field, prefix)?;
            }
        }
        Ok(())
    }

    fn rename(&self, resource: &mut Resource, field: &FieldSpec, prefix: bool) -> Done<()> {
        let create = Create {
            kind: Kind::Scalar,
            tag: Tag::Str,
        };
        let mut set = |node: &mut Node| {
            if node.kind() != Kind::Scalar {
                return Err(invalid("wrong node kind: expected a scalar"));
            }
            let old = node.text();
            let text = if prefix {
                format!("{}{old}", self.text)
            } else {
                format!("{old}{}", self.text)
            };
            node.overwrite(Node::plain(text));
            Ok(())
        };
        fieldspec::apply(&mut resource.node, field, Some(&create), &mut set)
    }
}

fn is_never_renamed(gvk: Gvk<'_>) -> bool {
    match gvk.kind {
        "CustomResourceDefinition" | "Namespace" => true,
        "APIService" => gvk.group == "apiregistration.k8s.io",
        _ => false,
    }
}

/// Appends the hash of their content to the names of generated objects.
pub(crate) fn add_hashes(map: &mut ResMap) -> Done<()> {
    if !map.list().iter().any(|r| r.needs_hash) {
        return Ok(());
    }
    for resource in map.list_mut().iter_mut().filter(|r| r.needs_hash) {
        let hash = generators::hash(&resource.node).in_object(|| resource.id().to_string())?;
        resource.store_previous();
        let name = format!("{}-{hash}", resource.name());
        resource.set_name(&name);
    }
    Ok(())
}

/// What is known of an object that others may refer to, besides its fields.
struct Candidate<'r> {
    resource: &'r Resource,
    namespace: String,
    name: String,
    written_namespace: String,
}

/// The objects that had another name, by each name they had.
struct Candidates<'r> {
    all: Vec<Candidate<'r>>,
    by_name: HashMap<&'r str, Vec<usize>>,
}

impl<'r> Candidates<'r> {
    fn new(list: &'r [Resource]) -> Candidates<'r> {
        let mut all = Vec::new();
        let mut by_name: HashMap<&str, Vec<usize>> = HashMap::new();
        for resource in list.iter().filter(|r| !r.previous.is_empty()) {
            for previous in &resource.previous {
                let positions = by_name.entry(previous.name.as_str()).or_default();
                if positions.last() != Some(&all.len()) {
                    positions.push(all.len());
                }
            }
            all.push(Candidate {
                resource,
                namespace: resource.namespace().to_string(),
                name: resource.name().to_string(),
                written_namespace: id::namespace(&resource.node).to_string(),
            });
        }
        Candidates { all, by_name }
    }
}

/// The object whose references are followed.
struct Referrer<'r> {
    resource: &'r Resource,
    namespace: String,
    is_cluster_scoped: bool,
    binding_namespaces: Vec<String>,
    role_ref: Option<GvkPattern>,
}

/// Follows references to names that changed, in every object.
pub(crate) fn resolve_references(
    map: &mut ResMap,
    references: &[NameReference],
    steps: &Steps<'_>,
) -> Done<()> {
    let renamed = map.list().iter().any(|r| !r.previous.is_empty());
    if !renamed {
        return Ok(());
    }
    let mut rules: HashMap<String, Vec<(&FieldSpec, &GvkPattern)>> = HashMap::new();
    let mut changes: Vec<(usize, Node)> = Vec::new();
    {
        let list = map.list();
        let candidates = Candidates::new(list);
        for (position, resource) in list.iter().enumerate() {
            let gvk = resource.original_gvk();
            let fitting = rules
                .entry(gvk.to_string())
                .or_insert_with(|| fitting_rules(references, gvk));
            if fitting.is_empty() {
                continue;
            }
            steps.spend(fitting.len())?;
            let mut referrer = None;
            let mut node: Option<Node> = None;
            for (field, target) in fitting.iter() {
                if !leads_somewhere(node.as_ref().unwrap_or(&resource.node), &field.parts) {
                    continue;
                }
                if referrer.is_none() {
                    referrer = Some(Referrer::new(resource)?);
                }
                let Some(referrer) = &referrer else { continue };
                let node = node.get_or_insert_with(|| resource.node.clone());
                let follow = Follow {
                    referrer,
                    target,
                    candidates: &candidates,
                    field,
                };
                fieldspec::follow(node, &field.parts, None, &mut |node| follow.set(node))
                    .in_object(|| resource.id().to_string())?;
            }
            if let Some(node) = node.filter(|node| *node != resource.node) {
                changes.push((position, node));
            }
        }
    }
    let list = map.list_mut();
    for (position, node) in changes {
        list[position].node = node;
    }
    Ok(())
}

fn fitting_rules<'c>(references: &'c [NameReference], gvk: Gvk<'_>) -> Vec<(&'c FieldSpec, &'c GvkPattern)> {
    let mut fitting = Vec::new();
    for reference in references {
        for field in reference.referrers.iter().filter(|f| f.gvk.selects(gvk)) {
            fitting.push((field, &reference.gvk));
        }
    }
    fitting
}

/// Tells whether following a path would reach a node, or fail.
fn leads_somewhere(node: &Node, path: &[String]) -> bool {
    let Some((first, rest)) = path.split_first() else {
        return true;
    };
    match &node.content {
        Content::Seq(items) => items.iter().any(|item| leads_somewhere(item, path)),
        Content::Map(_) => {
            let name = first.strip_suffix("[]").unwrap_or(first);
            node.get(name).is_some_and(|next| leads_somewhere(next, rest))
        }
        Content::Scalar(_) => !node.is_null(),
    }
}

impl<'r> Referrer<'r> {
    fn new(resource: &'r Resource) -> Done<Referrer<'r>> {
        let namespace = resource.namespace().to_string();
        let text = |path: &[&str]| resource.node.at(path).map(|n| n.text().to_string());
        let role_ref = match (text(&["roleRef", "apiGroup"]), text(&["roleRef", "kind"])) {
            (Some(group), Some(kind)) => Some(GvkPattern {
                group,
                version: String::new(),
                kind,
            }),
            _ => None,
        };
        Ok(Referrer {
            is_cluster_scoped: namespace == CLUSTER,
            namespace,
            binding_namespaces: binding_namespaces(resource)?,
            role_ref,
            resource,
        })
    }

    /// Tells whether the object may refer to another at all.
    fn reaches(&self, candidate: &Candidate<'_>) -> bool {
        self.is_cluster_scoped
            || candidate.namespace == CLUSTER
            || candidate.namespace == self.namespace
            || self.binding_namespaces.contains(&candidate.written_namespace)
    }
}

/// Lists the namespaces of the service accounts that a role binding names.
fn binding_namespaces(resource: &Resource) -> Done<Vec<String>> {
    let mut namespaces = Vec::new();
    if id::kind(&resource.node) != "RoleBinding" {
        return Ok(namespaces);
    }
    for subject in resource.node.get("subjects").map_or(&[][..], Node::items) {
        if let Some(namespace) = subject.get("namespace")
            && subject
                .get("kind")
                .is_some_and(|kind| kind.text() == "ServiceAccount")
        {
            if namespace.is_null() {
                return Err(invalid(format!(
                    "namespace is blank for resource {}",
                    resource.id()
                )));
            }
            namespaces.push(namespace.text().to_string());
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
}

impl<'f> Follow<'f> {
    fn set(&self, node: &mut Node) -> Done<()> {
        if node.is_null() {
            return Ok(());
        }
        match &mut node.content {
            Content::Scalar(_) => self.set_scalar(node),
            Content::Map(_) => self.set_map(node),
            Content::Seq(items) => items.iter_mut().try_for_each(|item| match item.kind() {
                _ if item.is_null() => Ok(()),
                Kind::Scalar => self.set_scalar(item),
                Kind::Map => self.set_map(item),
                Kind::Seq => Err(invalid("a name or a map with a name was expected")),
            }),
        }
    }

    fn set_scalar(&self, node: &mut Node) -> Done<()> {
        let found = self.select(node.text(), |_| true, |a, b| a.name == b.name)?;
        if let Some(candidate) = found
            && candidate.name != node.text()
        {
            node.overwrite(Node::plain(candidate.name.as_str()));
        }
        Ok(())
    }

    fn set_map(&self, node: &mut Node) -> Done<()> {
        let Some(name) = node.get("name") else {
            return Err(invalid("path config error; no 'name' field in node"));
        };
        let name = name.text().to_string();
        let namespace = node.get("namespace").map(|n| n.text().to_string());
        let by_original = namespace.as_deref().is_some_and(|namespace| {
            let lived = |c: &&Candidate<'_>| c.resource.original_namespace() == namespace;
            namespace != CLUSTER
                && self
                    .candidates
                    .all
                    .iter()
                    .filter(|c| self.referrer.reaches(c))
                    .any(|c| lived(&c))
        });
        let in_namespace = |candidate: &Candidate<'_>| match namespace.as_deref() {
            None => true,
            Some(namespace) if by_original => candidate.resource.original_namespace() == namespace,
            Some(namespace) => candidate.namespace == namespace,
        };
        let same = |a: &Candidate<'_>, b: &Candidate<'_>| {
            a.name == b.name && a.written_namespace == b.written_namespace
        };
        let Some(found) = self.select(&name, in_namespace, same)? else {
            return Ok(());
        };
        if found.name == name && found.written_namespace.is_empty() {
            return Ok(());
        }
        node.set("name", Node::plain(found.name.as_str()));
        if !found.written_namespace.is_empty() {
            node.set("namespace", Node::plain(found.written_namespace.as_str()));
        }
        Ok(())
    }

    /// Picks the object a name refers to; several are one when they have become the same.
    fn select(
        &self,
        name: &str,
        fits: impl Fn(&Candidate<'_>) -> bool,
        same: impl Fn(&Candidate<'_>, &Candidate<'_>) -> bool,
    ) -> Done<Option<&'f Candidate<'f>>> {
        let Some(positions) = self.candidates.by_name.get(name) else {
            return Ok(None);
        };
        let found: Vec<&Candidate<'_>> = positions
            .iter()
            .map(|position| &self.candidates.all[*position])
            .filter(|c| self.referrer.reaches(c) && fits(c) && self.is_target(c))
            .collect();
        if found.len() <= 1 {
            return Ok(found.first().copied());
        }
        let mut found: Vec<_> = found
            .into_iter()
            .filter(|c| shares_affixes(c.resource, self.referrer.resource, true))
            .collect();
        if found.len() > 1 {
            found.retain(|c| shares_affixes(c.resource, self.referrer.resource, false));
        }
        match found.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(one)),
            [first, rest @ ..] if rest.iter().all(|c| same(first, c)) => Ok(Some(first)),
            _ => {
                let ids: Vec<String> = found.iter().map(|c| c.resource.id().to_string()).collect();
                Err(invalid(format!(
                    "found multiple possible referrals: {}",
                    ids.join(", ")
                )))
            }
        }
    }

    fn is_target(&self, candidate: &Candidate<'_>) -> bool {
        let was = |pattern: &GvkPattern| {
            let gvk = candidate.resource.gvk();
            candidate
                .resource
                .previous
                .iter()
                .any(|p| pattern.selects(Gvk { kind: &p.kind, ..gvk }))
        };
        let in_role =
            !self.field.path.ends_with("roleRef/name") || self.referrer.role_ref.as_ref().is_none_or(was);
        let near = self.referrer.is_cluster_scoped
            || candidate.namespace == CLUSTER
            || id::kind(&candidate.resource.node) == "ServiceAccount"
            || candidate.namespace == self.referrer.namespace;
        was(self.target) && in_role && near
    }
}

fn shares_affixes(a: &Resource, b: &Resource, allow_empty: bool) -> bool {
    let same =
        |a: &[String], b: &[String]| (allow_empty && (a.is_empty() || b.is_empty())) || same_ending(a, b);
    same(&a.prefixes, &b.prefixes) && same(&a.suffixes, &b.suffixes)
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
