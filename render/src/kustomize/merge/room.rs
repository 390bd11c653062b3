//! What a merge takes of the build's room: each copy is counted before it is made. What the merged object does not
//! keep is given back.

use std::cell::Cell;

use crate::kustomize::error::Result;
use crate::kustomize::steps::Steps;
use crate::yaml::node::Node;

/// What a row, or an item found by values, takes beside these.
const BYTES_PER_ROW: usize = 256;
/// What each value takes there.
const BYTES_PER_VALUE: usize = 24;

/// The room of one merge.
pub(super) struct Room<'s> {
    pub(super) steps: &'s Steps<'s>,
    /// Bytes that the merged object has more than object and patch had.
    grown: Cell<usize>,
}

/// How much room there was at some point.
pub(super) struct Mark {
    left: usize,
    grown: usize,
}

impl<'s> Room<'s> {
    pub(super) fn new(steps: &'s Steps<'s>) -> Room<'s> {
        Room {
            steps,
            grown: Cell::new(0),
        }
    }

    /// Copies a value for as long as the merge goes on.
    pub(super) fn copy(&self, node: &Node) -> Result<Node> {
        self.steps.spend_nodes(node.count())?;
        Ok(node.clone())
    }

    /// Copies a value that is then there once more: its text will be written as often.
    pub(super) fn copy_to_keep(&self, node: &Node) -> Result<Node> {
        let before = self.steps.bytes_left();
        self.steps.spend_nodes(node.count())?;
        self.steps.spend_bytes(node.text_bytes())?;
        let taken = before.saturating_sub(self.steps.bytes_left());
        self.grown.set(self.grown.get().saturating_add(taken));
        Ok(node.clone())
    }

    /// Takes what so many rows of so many values cost.
    pub(super) fn rows(&self, rows: usize, values: usize) -> Result<()> {
        let each = values
            .saturating_mul(BYTES_PER_VALUE)
            .saturating_add(BYTES_PER_ROW);
        self.steps.spend(rows.saturating_mul(values.max(1)))?;
        self.steps.spend_bytes(rows.saturating_mul(each))
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            left: self.steps.bytes_left(),
            grown: self.grown.get(),
        }
    }

    /// Gives back what was taken since then, but for what the object keeps.
    pub(super) fn release(&self, mark: &Mark) {
        let taken = mark.left.saturating_sub(self.steps.bytes_left());
        let kept = self.grown.get().saturating_sub(mark.grown);
        self.steps.give_back(taken.saturating_sub(kept));
    }
}
