//! What a patch says of itself: `$patch`.

use super::list::List;
use super::room::Room;
use crate::kustomize::error::{Result, invalid};
use crate::yaml::node::{Content, Node};

pub(super) const DIRECTIVE: &str = "$patch";

#[derive(PartialEq)]
pub(super) enum Directive {
    Merge,
    Replace,
    Delete,
}

/// Reads the `$patch` directive of a map or a list, and removes it.
pub(super) fn directive(patch: &mut Node, room: &Room<'_>) -> Result<Directive> {
    let found = match &patch.content {
        Content::Map(_) => patch.get(DIRECTIVE).map(|d| d.text().to_string()),
        Content::Seq(items) => items
            .iter()
            .find(|item| item.get(DIRECTIVE).is_some())
            .filter(|item| item.fields().len() == 1)
            .and_then(|item| item.get(DIRECTIVE))
            .map(|d| d.text().to_string()),
        Content::Scalar(_) => return Err(invalid("no strategic merge for a scalar")),
    };
    let Some(word) = found else {
        return Ok(Directive::Merge);
    };
    let directive = match word.as_str() {
        "delete" => Directive::Delete,
        "replace" => Directive::Replace,
        "merge" => Directive::Merge,
        _ => return Err(invalid(format!("unknown patch strategy '{word}'"))),
    };
    if let Some(items) = patch.items_mut() {
        let mut list = List::new(std::mem::take(items), room)?;
        list.set(None, &[DIRECTIVE], &[word.into()])?;
        *items = list.into_items();
    } else {
        patch.remove(DIRECTIVE);
    }
    Ok(directive)
}
