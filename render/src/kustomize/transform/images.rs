//! Changes names, tags and digests of container images.

use std::collections::HashMap;
use std::rc::Rc;

use super::image_names::ImageNames;
use crate::kustomize::error::{At as _, Result, invalid};
use crate::kustomize::fieldspec::{self, FieldSpec, Fitting};
use crate::kustomize::id;
use crate::kustomize::kustomization::Image;
use crate::kustomize::resource::Resource;
use crate::kustomize::steps::Steps;
use crate::yaml::node::{Content, Kind, Node};

/// Image transformers with the same fields, one after another.
#[derive(Debug)]
pub(crate) struct Images {
    list: Vec<Image>,
    names: ImageNames,
    fields: Rc<[FieldSpec]>,
}

/// How often a transformer comes to each image of an object: it looks for lists of containers and follows fields.
/// By the places in memory, where the nodes stay as long as only texts change.
type Visits = HashMap<usize, usize>;

type Visit<'v> = &'v mut dyn FnMut(&mut Node) -> Result<()>;

impl Images {
    pub(crate) fn new(list: Vec<Image>, fields: Rc<[FieldSpec]>, steps: &Steps<'_>) -> Result<Images> {
        let mut names = ImageNames::default();
        for (position, image) in list.iter().enumerate() {
            names.add(position, &image.name, steps)?;
        }
        Ok(Images { list, names, fields })
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
        if self.list.len() == 1 {
            return self.change_by(0, resource, fitting, steps);
        }
        let (mut visits, mut aliased) = (Visits::new(), false);
        let mut count = |node: &mut Node| {
            is_scalar(node)?;
            aliased |= node.is_aliased();
            *visits.entry(place(node)).or_default() += 1;
            Ok(())
        };
        self.visit(resource, fitting, steps, &mut count)?;
        if aliased {
            // Each entry sees what the one before it did to the others of an alias.
            for position in 0..self.list.len() {
                self.change_by(position, resource, fitting, steps)?;
                resource.sync(steps)?;
            }
            return Ok(());
        }
        if visits.is_empty() {
            return Ok(());
        }
        let mut set = |node: &mut Node| match visits.remove(&place(node)) {
            Some(times) => self.set_all(node, times, steps),
            None => Ok(()),
        };
        self.visit(resource, fitting, steps, &mut set)
    }

    /// Changes the images of an object by one entry.
    fn change_by(
        &self,
        position: usize,
        resource: &mut Resource,
        fitting: &mut Fitting<'_>,
        steps: &Steps<'_>,
    ) -> Result<()> {
        let image = &self.list[position];
        let mut set = |node: &mut Node| {
            is_scalar(node)?;
            if self.names.first(node.text(), position, steps)? == Some(position) {
                node.overwrite(Node::plain(changed(image, node.text(), steps)?));
            }
            Ok(())
        };
        self.visit(resource, fitting, steps, &mut set)
    }

    /// Visits every image of an object: those in lists of containers first, then those in fields.
    fn visit(
        &self,
        resource: &mut Resource,
        fitting: &mut Fitting<'_>,
        steps: &Steps<'_>,
        visit: Visit<'_>,
    ) -> Result<()> {
        resource.dirty |= walk(&mut resource.node, steps, visit)?;
        for field in fitting.of(resource.gvk(), steps)? {
            resource.dirty |= fieldspec::apply_fitting(&mut resource.node, field, None, steps, visit)?;
        }
        Ok(())
    }

    /// Changes an image by every entry in turn, each so many times.
    fn set_all(&self, node: &mut Node, times: usize, steps: &Steps<'_>) -> Result<()> {
        let mut text: Option<String> = None;
        let mut position = 0;
        loop {
            let image = text.as_deref().unwrap_or(node.text());
            let Some(next) = self.names.first(image, position, steps)? else {
                break;
            };
            for _ in 0..times {
                let image = text.as_deref().unwrap_or(node.text());
                if self.names.first(image, next, steps)? != Some(next) {
                    break;
                }
                text = Some(changed(&self.list[next], image, steps)?);
            }
            position = next + 1;
        }
        if let Some(text) = text {
            node.overwrite(Node::plain(text));
        }
        Ok(())
    }
}

fn place(node: &Node) -> usize {
    std::ptr::from_ref(node).addr()
}

/// Visits the images in lists named `containers` and `initContainers` anywhere; returns whether an aliased scalar was
/// changed.
fn walk(node: &mut Node, steps: &Steps<'_>, visit: Visit<'_>) -> Result<bool> {
    let mut out_of_sync = false;
    steps.spend(1)?;
    match &mut node.content {
        Content::Scalar(_) => {}
        Content::Seq(items) => {
            for item in items {
                out_of_sync |= walk(item, steps, visit)?;
            }
        }
        Content::Map(fields) => {
            for (key, value) in fields {
                out_of_sync |= walk(value, steps, visit)?;
                if let ("containers" | "initContainers", Content::Seq(items)) =
                    (key.text(), &mut value.content)
                {
                    for item in items {
                        out_of_sync |= in_container(item, visit).of(|| format!("image in {}", key.text()))?;
                    }
                }
            }
        }
    }
    Ok(out_of_sync)
}

fn in_container(item: &mut Node, visit: Visit<'_>) -> Result<bool> {
    if item.is_null() {
        return Ok(false);
    }
    if item.kind() != Kind::Map {
        return Err(invalid("a container is not a map"));
    }
    let Some(image) = item.get_mut("image") else {
        return Ok(false);
    };
    visit(image)?;
    Ok(image.is_out_of_sync())
}

fn is_scalar(node: &Node) -> Result<()> {
    match node.kind() {
        Kind::Scalar => Ok(()),
        kind => Err(invalid(format!(
            "wrong node kind: expected a scalar but got {kind}"
        ))),
    }
}

/// Returns an image as an entry changes it.
fn changed(image: &Image, old: &str, steps: &Steps<'_>) -> Result<String> {
    let (mut name, mut tag, mut digest) = split(old);
    if !image.new_name.is_empty() {
        name = &image.new_name;
    }
    let suffixed;
    match (
        image.new_tag.as_str(),
        image.digest.as_str(),
        image.tag_suffix.as_str(),
    ) {
        ("", "", "") => {}
        ("", "", suffix) => {
            steps.spend_bytes(tag.len() + suffix.len())?;
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
    Ok(text)
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
