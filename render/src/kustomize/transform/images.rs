//! Changes names, tags and digests of container images.

use regex::Regex;

use crate::kustomize::error::{Result, invalid};
use crate::kustomize::fieldspec::{self, FieldSpec, Fitting};
use crate::kustomize::id;
use crate::kustomize::kustomization::Image;
use crate::kustomize::resource::Resource;
use crate::kustomize::selector::compiled;
use crate::kustomize::steps::Steps;
use crate::yaml::node::{Content, Kind, Node};

/// The image transformer.
#[derive(Debug)]
pub(crate) struct Images {
    image: Image,
    pattern: Regex,
    fields: Vec<FieldSpec>,
}

impl Images {
    pub(crate) fn new(image: Image, fields: Vec<FieldSpec>) -> Result<Images> {
        let pattern = format!(
            "^{}(:[a-zA-Z0-9_.{{}}-]*)?(@sha256:[a-zA-Z0-9_.{{}}-]*)?$",
            image.name
        );
        Ok(Images {
            pattern: compiled(&pattern)?.regex,
            image,
            fields,
        })
    }

    /// The fields that hold images besides lists of containers.
    pub(crate) fn fields(&self) -> &[FieldSpec] {
        &self.fields
    }

    /// Changes the images of an object, unless it defines a custom resource.
    pub(crate) fn change(
        &self,
        resource: &mut Resource,
        fitting: &mut Fitting<'_>,
        steps: &Steps<'_>,
    ) -> Result<()> {
        if id::kind(&resource.node) == "CustomResourceDefinition" {
            return Ok(());
        }
        resource.dirty |= self.walk(&mut resource.node, steps)?;
        for field in fitting.of(resource.gvk(), steps)? {
            let set = &mut |node: &mut Node| self.set(node, steps);
            resource.dirty |= fieldspec::apply_fitting(&mut resource.node, field, None, set)?;
        }
        Ok(())
    }

    /// Finds lists named `containers` and `initContainers` anywhere; returns whether an aliased scalar was changed.
    fn walk(&self, node: &mut Node, steps: &Steps<'_>) -> Result<bool> {
        let mut out_of_sync = false;
        steps.spend(1)?;
        match &mut node.content {
            Content::Scalar(_) => {}
            Content::Seq(items) => {
                for item in items {
                    out_of_sync |= self.walk(item, steps)?;
                }
            }
            Content::Map(fields) => {
                for (key, value) in fields {
                    out_of_sync |= self.walk(value, steps)?;
                    if let ("containers" | "initContainers", Content::Seq(items)) =
                        (key.text(), &mut value.content)
                    {
                        for item in items {
                            let set = self.set_container(item, steps);
                            out_of_sync |= set.map_err(|mut fault| {
                                fault.prefix(&format!("image in {}: ", key.text()));
                                fault
                            })?;
                        }
                    }
                }
            }
        }
        Ok(out_of_sync)
    }

    fn set_container(&self, item: &mut Node, steps: &Steps<'_>) -> Result<bool> {
        if item.is_null() {
            return Ok(false);
        }
        if item.kind() != Kind::Map {
            return Err(invalid("a container is not a map"));
        }
        let Some(image) = item.get_mut("image") else {
            return Ok(false);
        };
        self.set(image, steps)?;
        Ok(image.is_out_of_sync())
    }

    fn set(&self, node: &mut Node, steps: &Steps<'_>) -> Result<()> {
        if node.kind() != Kind::Scalar {
            return Err(invalid(format!(
                "wrong node kind: expected a scalar but got {}",
                node.kind()
            )));
        }
        if !self.pattern.is_match(node.text()) {
            return Ok(());
        }
        let (mut name, mut tag, mut digest) = split(node.text());
        if !self.image.new_name.is_empty() {
            name = &self.image.new_name;
        }
        let suffixed;
        match (
            self.image.new_tag.as_str(),
            self.image.digest.as_str(),
            self.image.tag_suffix.as_str(),
        ) {
            ("", "", "") => {}
            ("", "", suffix) => {
                suffixed = format!("{tag}{suffix}");
                (tag, digest) = (&suffixed, "");
            }
            (new, new_digest, _) => (tag, digest) = (new, new_digest),
        }
        steps.spend_bytes(name.len() + tag.len() + digest.len())?;
        let mut text = name.to_string();
        for (mark, part) in [(':', tag), ('@', digest)] {
            if !part.is_empty() {
                text.push(mark);
                text.push_str(part);
            }
        }
        node.overwrite(Node::plain(text));
        Ok(())
    }
}

/// Splits an image into name, tag and digest.
fn split(image: &str) -> (&str, &str, &str) {
    let start = image.find('/').unwrap_or(0);
    let (at, colon) = (image[start..].find('@'), image[start..].find(':'));
    match (at.map(|i| i + start), colon.map(|i| i + start)) {
        (None, None) => (image, "", ""),
        (Some(at), colon) if colon.is_none_or(|colon| at < colon) => (&image[..at], "", &image[at + 1..]),
        (Some(at), Some(colon)) => (&image[..colon], &image[colon + 1..at], &image[at + 1..]),
        (_, Some(colon)) => (&image[..colon], &image[colon + 1..], ""),
        (Some(_), None) => (image, "", ""),
    }
}
