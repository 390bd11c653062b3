//! Fuel instead of a clock: a build takes only so many steps, and stops when its caller says so.

use std::cell::Cell;

use crate::yaml::node::{Limits, Node};

use super::error::{Error, Result, cancelled, too_large};

/// How many bytes of text are made in one step.
const BYTES_PER_STEP: usize = 64;
/// What a node takes in memory beside its text.
const BYTES_PER_NODE: usize = size_of::<Node>();
/// The same for one that JSON is made of first.
const BYTES_PER_VALUE: usize = 256;

/// So many steps are worth asking the caller whether to stop.
const FEW: usize = 16;

/// Counts the steps of one build.
pub(crate) struct Steps<'a> {
    left: Cell<u64>,
    limit: u64,
    /// Bytes that may still be made.
    bytes: Cell<usize>,
    byte_limit: usize,
    /// Steps that were too few to ask the caller for.
    few: Cell<usize>,
    stop: Option<&'a dyn Fn() -> bool>,
}

impl<'a> Steps<'a> {
    pub(crate) fn new(limit: u64, bytes: usize, stop: Option<&'a dyn Fn() -> bool>) -> Steps<'a> {
        Steps {
            left: Cell::new(limit),
            limit,
            bytes: Cell::new(bytes),
            byte_limit: bytes,
            few: Cell::new(0),
            stop,
        }
    }

    /// Returns how many steps were taken.
    pub(crate) fn taken(&self) -> u64 {
        self.limit - self.left.get()
    }

    /// Takes the bytes of texts that are going to be made, and the steps of making them.
    pub(crate) fn spend_bytes(&self, bytes: usize) -> Result<()> {
        self.hold(bytes)?;
        self.spend_text(bytes)
    }

    /// Takes bytes of what is going to be held, whose steps are taken.
    pub(crate) fn hold(&self, bytes: usize) -> Result<()> {
        let Some(left) = self.bytes.get().checked_sub(bytes) else {
            return Err(self.out_of_bytes());
        };
        self.bytes.set(left);
        Ok(())
    }

    /// Takes what the JSON of a node is going to take, and that so many times. Returns the bytes, which are given back
    /// once the JSON is gone.
    pub(crate) fn hold_json(&self, node: &Node, times: usize) -> Result<usize> {
        let bytes = node.json_bytes().saturating_mul(times);
        self.hold(bytes)?;
        Ok(bytes)
    }

    /// Takes what a node is going to take as a text of JSON, whose room doubles as it grows, to be given back likewise.
    pub(crate) fn hold_text(&self, node: &Node) -> Result<usize> {
        let bytes = node.written_bytes().saturating_mul(2);
        self.hold(bytes)?;
        Ok(bytes)
    }

    /// Takes what a copy of a node is going to take that shares its texts, to be given back likewise.
    pub(crate) fn hold_copy(&self, node: &Node) -> Result<usize> {
        let bytes = node.count().saturating_mul(BYTES_PER_NODE);
        self.hold(bytes)?;
        Ok(bytes)
    }

    /// Returns how many bytes may still be made.
    pub(crate) fn bytes_left(&self) -> usize {
        self.bytes.get()
    }

    /// Gives back the bytes of what is no longer there.
    pub(crate) fn give_back(&self, bytes: usize) {
        self.bytes.set(self.bytes.get().saturating_add(bytes));
    }

    /// Returns the failure of a build that has no bytes left.
    pub(crate) fn out_of_bytes(&self) -> Box<Error> {
        out_of_bytes(self.byte_limit)
    }

    /// Takes the steps of reading a text.
    pub(crate) fn spend_text(&self, bytes: usize) -> Result<()> {
        self.spend(bytes / BYTES_PER_STEP)
    }

    /// Narrows the bounds of a document to what the build has left.
    pub(crate) fn within(&self, limits: Limits) -> Limits {
        let left = self.bytes.get();
        Limits {
            nodes: limits.nodes.min(left / BYTES_PER_NODE),
            bytes: limits.bytes.min(left),
            ..limits
        }
    }

    /// Takes what a copy costs that is going to be made of so many nodes with so many bytes of text.
    pub(crate) fn spend_copy(&self, nodes: usize, text: usize) -> Result<()> {
        self.spend(nodes)?;
        self.spend_bytes(nodes.saturating_mul(BYTES_PER_VALUE).saturating_add(text))
    }

    /// Takes what a copy costs that is going to be made of so many nodes and shares their texts.
    pub(crate) fn spend_nodes(&self, nodes: usize) -> Result<()> {
        self.spend(nodes)?;
        self.spend_bytes(nodes.saturating_mul(BYTES_PER_NODE))
    }

    /// Takes steps of which each caller has few: they are taken once they are some.
    pub(crate) fn spend_few(&self, steps: usize) -> Result<()> {
        let few = self.few.get().saturating_add(steps);
        if few < FEW {
            self.few.set(few);
            return Ok(());
        }
        self.few.set(0);
        self.spend(few)
    }

    /// Takes steps, or fails when there are none left or the caller wants the build to stop.
    pub(crate) fn spend(&self, steps: usize) -> Result<()> {
        let steps = u64::try_from(steps).unwrap_or(u64::MAX).max(1);
        let Some(left) = self.left.get().checked_sub(steps) else {
            return Err(too_large(format!("the build exceeds {} steps", self.limit)));
        };
        self.left.set(left);
        match self.stop {
            Some(stop) if stop() => Err(cancelled()),
            _ => Ok(()),
        }
    }
}

/// Returns the failure of a build that makes more bytes than that.
pub(crate) fn out_of_bytes(limit: usize) -> Box<Error> {
    too_large(format!("the build makes more than {limit} bytes of text"))
}
