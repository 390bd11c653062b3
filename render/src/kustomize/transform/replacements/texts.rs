//! Writes into YAML or JSON that a field holds as text.

use std::collections::HashMap;

use smol_str::SmolStr;

use crate::kustomize::depth;
use crate::kustomize::error::Result;
use crate::kustomize::reader::Reader;
use crate::kustomize::steps::Steps;
use crate::kustomize::transform::paths::{Step, Trail, trace, visit};
use crate::yaml::json::{self, Layout};
use crate::yaml::node::{Content, Kind, Node, Schema, Style, to_block};

/// What is remembered of a text that was written.
const BYTES_PER_TEXT: usize = size_of::<(usize, Vec<Step>, usize)>();

/// The texts that replacements wrote, each by its object and the path to it: a text that is written again takes the
/// place of the one before.
#[derive(Default)]
pub(super) struct Texts(HashMap<(usize, Vec<Step>), usize>);

impl Texts {
    /// Takes the bytes of a text that was written, and gives back those of the one that it replaced.
    pub(super) fn took(
        &mut self,
        position: usize,
        path: &[Step],
        bytes: usize,
        steps: &Steps<'_>,
    ) -> Result<()> {
        steps.spend_bytes(bytes)?;
        match self.0.insert((position, path.to_vec()), bytes) {
            Some(before) => steps.give_back(before),
            None => {
                let names = path.iter().map(Step::length).sum::<usize>();
                steps.spend_bytes(BYTES_PER_TEXT + names)?;
            }
        }
        Ok(())
    }
}

/// Finds the first text that a path leads through, and how many parts lead to it.
pub(super) fn text_on_path(
    object: &Node,
    parts: &[Step],
    steps: &Steps<'_>,
) -> Result<Option<(Trail, usize)>> {
    let is_text = |trail: &Trail| trail.node(object).is_some_and(|node| node.kind() == Kind::Scalar);
    for length in 1..parts.len() {
        match trace(object, &parts[..length], steps) {
            Ok(Some(trail)) if is_text(&trail) => return Ok(Some((trail, length))),
            Ok(Some(_)) => {}
            Err(fault) if fault.is_final() => return Err(fault),
            // What is missing, or cannot be followed, is so for all longer paths.
            Ok(None) | Err(_) => break,
        }
    }
    Ok(None)
}

/// Returns what becomes of a text when a value is written into it; `None` when the path leads nowhere in it. What is
/// made on the way is gone when this returns.
pub(super) fn rewritten(
    text: &str,
    path: &[Step],
    value: &Node,
    create: Option<Kind>,
    steps: &Steps<'_>,
) -> Result<Option<String>> {
    let before = steps.bytes_left();
    let written = written(text, path, value, create, steps);
    steps.give_back(before.saturating_sub(steps.bytes_left()));
    match written {
        Err(fault) if fault.is_final() => Err(fault),
        Err(_) => Ok(None),
        Ok(written) => Ok(written),
    }
}

fn written(
    text: &str,
    path: &[Step],
    value: &Node,
    create: Option<Kind>,
    steps: &Steps<'_>,
) -> Result<Option<String>> {
    steps.spend(text.len())?;
    let Some(mut document) = Reader::of_text(steps).first(text.as_bytes())? else {
        return Ok(None);
    };
    let found = visit(&mut document, path, create, steps, &mut |node| {
        super::copied(value, steps)?;
        match &mut node.content {
            Content::Scalar(old) => *old = value.text().into(),
            _ => *node = value.clone(),
        }
        Ok(())
    });
    if found? == 0 {
        return Ok(None);
    }
    // Deep below, a short text is written in many blanks.
    steps.spend_bytes(depth::of(&document).bytes)?;
    if !text.trim_start().starts_with(['{', '[']) {
        return Ok(Some(to_block(&document).trim().to_string()));
    }
    // All of it is given back by the caller.
    steps.hold_json(&document, 1)?;
    steps.hold_text(&document)?;
    let is_indented = text.contains('\n') && text.contains("  ");
    let layout = if is_indented {
        Layout::INDENTED
    } else {
        Layout::COMPACT
    };
    Ok(Some(json::write(&document.to_json(Schema::New)?, layout)))
}

/// Puts a text in the place of the one that it was made of.
pub(super) fn put(node: &mut Node, text: SmolStr) {
    if node.style == Style::Plain && text.contains('\n') {
        node.style = Style::Literal;
    }
    node.content = Content::Scalar(text);
}
