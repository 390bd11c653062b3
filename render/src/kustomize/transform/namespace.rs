//! Puts every namespaced object into one namespace, with what else must follow it there.

use std::collections::HashMap;

use crate::kustomize::error::{At, Result, invalid};
use crate::kustomize::fieldspec::{self, Create, FieldSpec, Fitting};
use crate::kustomize::id::{self, Gvk, Id};
use crate::kustomize::resmap::ResMap;
use crate::kustomize::resource::Resource;
use crate::kustomize::steps::Steps;
use crate::yaml::node::{Kind, Node, Tag};

/// Marks objects that a chart made, which have their namespaces from there.
const HELM_GENERATED: &str = "internal.config.kubernetes.io/helm-generated";

/// Which subjects of role bindings get the namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Subjects {
    /// Those named `default`.
    #[default]
    Default,
    /// Every service account.
    ServiceAccounts,
    /// None.
    None,
}

/// The namespace transformer.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) namespace: String,
    pub(crate) fields: Vec<FieldSpec>,
    pub(crate) unset_only: bool,
    pub(crate) subjects: Subjects,
}

/// Writes a namespace into one object, as the transformer does without fields of its own.
pub(super) fn set(resource: &mut Resource, namespace: &str, steps: &Steps<'_>) -> Result<()> {
    let transformer = Namespace {
        namespace: namespace.to_owned(),
        fields: Vec::new(),
        unset_only: false,
        subjects: Subjects::Default,
    };
    let mut fitting = Fitting::new(&transformer.fields);
    resource.dirty |= transformer.set(&mut resource.node, &mut fitting, steps)?;
    Ok(())
}

impl Namespace {
    pub(crate) fn apply(&self, map: &mut ResMap, steps: &Steps<'_>) -> Result<()> {
        if self.namespace.is_empty() {
            return Ok(());
        }
        let mut fitting = Fitting::new(&self.fields);
        let list = map.list_mut();
        let mut counts: HashMap<Id, usize> = HashMap::with_capacity(list.len());
        for resource in list.iter() {
            *counts.entry(resource.id()).or_default() += 1;
        }
        let mut conflict = None;
        for resource in list.iter_mut().filter(|r| !r.node.is_empty()) {
            let generated = resource.node.at(&["metadata", "annotations", HELM_GENERATED]);
            if generated.is_some_and(|v| v.text() == "true") {
                continue;
            }
            let before = resource.id();
            // Its identity there.
            steps.spend_bytes(resource.name().len() + 2 * self.namespace.len())?;
            resource.store_previous(steps)?;
            let out_of_sync = self.set(&mut resource.node, &mut fitting, steps);
            resource.dirty |= out_of_sync.in_object(|| before.to_string())?;
            let after = resource.id();
            if before != after {
                counts.entry(before).and_modify(|count| *count -= 1);
                *counts.entry(after.clone()).or_default() += 1;
            }
            if counts.get(&after).is_some_and(|count| *count != 1) {
                conflict = Some(after);
                break;
            }
        }
        let Some(id) = conflict else { return Ok(()) };
        let mut files = list
            .iter()
            .filter(|resource| resource.id() == id)
            .map(|resource| resource.file.clone());
        let fault = invalid(format!("namespace transformation produces ID conflict: {id}"));
        Err(fault.in_both(files.next().flatten(), files.next().flatten()))
    }

    /// Writes the namespace where it belongs; returns whether an aliased scalar was changed.
    fn set(&self, node: &mut Node, fitting: &mut Fitting<'_>, steps: &Steps<'_>) -> Result<bool> {
        let mut out_of_sync = false;
        let core = id::api_version(node) == "v1";
        let binding = matches!(id::kind(node), "RoleBinding" | "ClusterRoleBinding");
        let create = Create {
            kind: Kind::Scalar,
            tag: Tag::Str,
        };
        let mut write = |node: &mut Node| self.write(node, steps);
        if !id::is_cluster_scoped(node) {
            let path = ["metadata".to_string(), "namespace".to_string()];
            out_of_sync |= fieldspec::follow(node, &path, Some(&create), steps, &mut write)?;
        }
        if binding {
            out_of_sync |= self.set_subjects(node, steps)?;
        }
        for field in fitting.of(Gvk::of(node), steps)? {
            let skipped = match field.path.as_str() {
                "metadata/namespace" => true,
                "metadata/name" => !core,
                "subjects/namespace" => {
                    binding && matches!(field.gvk.kind.as_str(), "RoleBinding" | "ClusterRoleBinding")
                }
                _ => false,
            };
            if !skipped {
                out_of_sync |= fieldspec::apply_fitting(node, field, Some(&create), steps, &mut write)?;
            }
        }
        Ok(out_of_sync)
    }

    fn write(&self, node: &mut Node, steps: &Steps<'_>) -> Result<()> {
        if node.kind() != Kind::Scalar {
            return Err(invalid("namespace field specs must target scalar nodes"));
        }
        if !(self.unset_only && !node.is_null() && !node.text().is_empty()) {
            steps.spend_bytes(self.namespace.len())?;
            node.overwrite(Node::string(self.namespace.as_str()));
        }
        Ok(())
    }

    fn set_subjects(&self, node: &mut Node, steps: &Steps<'_>) -> Result<bool> {
        let (field, wanted) = match self.subjects {
            Subjects::None => return Ok(false),
            Subjects::Default => ("name", "default"),
            Subjects::ServiceAccounts => ("kind", "ServiceAccount"),
        };
        let Some(subjects) = node.get_mut("subjects").filter(|s| !s.is_null()) else {
            return Ok(false);
        };
        let mut out_of_sync = false;
        let Some(items) = subjects.items_mut() else {
            return Err(invalid("subjects is not a list"));
        };
        steps.spend(items.len())?;
        for item in items.iter_mut().filter(|item| !item.is_null()) {
            if item.kind() != Kind::Map {
                return Err(invalid("a subject is not a map"));
            }
            if item.get(field).is_some_and(|v| v.text() == wanted)
                && let Some(namespace) = item.get_or_insert("namespace", Kind::Scalar)
            {
                self.write(namespace, steps)?;
                out_of_sync |= namespace.is_out_of_sync();
            }
        }
        Ok(out_of_sync)
    }
}
