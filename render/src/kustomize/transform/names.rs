//! Changes names: prefixes, suffixes, and the hashes of generated objects.

use crate::kustomize::error::{At, Result, invalid};
use crate::kustomize::fieldspec::{self, Create, FieldSpec, Fitting};
use crate::kustomize::generators;
use crate::kustomize::id::Gvk;
use crate::kustomize::resmap::ResMap;
use crate::kustomize::resource::Resource;
use crate::kustomize::steps::Steps;
use crate::yaml::node::{Kind, Node, Tag};

/// A prefix or a suffix of names.
#[derive(Debug)]
pub(crate) struct Affix {
    pub(crate) text: String,
    pub(crate) fields: Vec<FieldSpec>,
}

impl Affix {
    /// Adds the prefix or suffix to the names of an object.
    pub(crate) fn change(
        &self,
        resource: &mut Resource,
        fitting: &mut Fitting<'_>,
        prefix: bool,
        steps: &Steps<'_>,
    ) -> Result<()> {
        let gvk = resource.original_gvk();
        if is_never_renamed(gvk) {
            return Ok(());
        }
        for field in fitting.of(gvk, steps)? {
            if field.path == "metadata/name" && !self.text.is_empty() {
                steps.spend_bytes(self.text.len())?;
                let list = if prefix {
                    &mut resource.prefixes
                } else {
                    &mut resource.suffixes
                };
                list.push(self.text.clone());
                resource.store_previous(steps)?;
            }
            self.rename(resource, field, prefix, steps)?;
        }
        Ok(())
    }

    fn rename(
        &self,
        resource: &mut Resource,
        field: &FieldSpec,
        prefix: bool,
        steps: &Steps<'_>,
    ) -> Result<()> {
        let create = Create {
            kind: Kind::Scalar,
            tag: Tag::Str,
        };
        let mut set = |node: &mut Node| {
            if node.kind() != Kind::Scalar {
                return Err(invalid("wrong node kind: expected a scalar"));
            }
            let old = node.text();
            steps.spend_bytes(self.text.len() + old.len())?;
            let text = if prefix {
                format!("{}{old}", self.text)
            } else {
                format!("{old}{}", self.text)
            };
            node.overwrite(Node::plain(text));
            Ok(())
        };
        resource.dirty |= fieldspec::apply(&mut resource.node, field, Some(&create), steps, &mut set)?;
        Ok(())
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
pub(crate) fn add_hashes(map: &mut ResMap, steps: &Steps<'_>) -> Result<()> {
    if !map.list().iter().any(Resource::wants_hash) {
        return Ok(());
    }
    for resource in map.list_mut().iter_mut().filter(|r| r.wants_hash()) {
        // It is read, and written to a text that goes at once.
        steps.spend(resource.node.count())?;
        steps.spend_text(resource.node.text_bytes())?;
        let held = steps.hold_json(&resource.node, 1)? + steps.hold_text(&resource.node)?;
        let hash = generators::hash(resource, steps).in_object(|| resource.id().to_string())?;
        steps.give_back(held);
        resource.store_previous(steps)?;
        let name = format!("{}-{hash}", resource.name());
        resource.set_name(&name);
    }
    Ok(())
}
