//! Counts what a document grows to while it is read: nodes, and the bytes of their texts, those that aliases repeat
//! and those that are kept for them included.
//!
//! It is asked before anything is copied, so that a document made to exhaust a reader is refused before it takes memory.

/// The bytes of texts that a document may grow to.
pub(crate) const MAX_BYTES: usize = 128 << 20;

/// What a document may still take.
#[derive(Debug)]
pub(super) struct Meter {
    nodes: Count,
    bytes: Count,
}

#[derive(Debug)]
struct Count {
    taken: usize,
    /// What of it was kept for aliases, which is no part of the document.
    kept: usize,
    limit: usize,
}

/// Nodes and the bytes of their texts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) nodes: usize,
    pub(super) bytes: usize,
}

/// A document is larger than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    Nodes(usize),
    Bytes(usize),
}

impl Meter {
    pub(super) fn new(nodes: usize, bytes: usize) -> Meter {
        let count = |limit| Count {
            taken: 0,
            kept: 0,
            limit,
        };
        Meter {
            nodes: count(nodes),
            bytes: count(bytes),
        }
    }

    /// Takes what something is going to cost.
    pub(super) fn take(&mut self, size: Size) -> Result<(), Over> {
        self.nodes.take(size.nodes).map_err(Over::Nodes)?;
        self.bytes.take(size.bytes).map_err(Over::Bytes)
    }

    /// Takes what is kept beside the document.
    pub(super) fn keep(&mut self, size: Size) -> Result<(), Over> {
        self.take(size)?;
        self.nodes.kept += size.nodes;
        self.bytes.kept += size.bytes;
        Ok(())
    }

    /// Returns what the document took.
    pub(super) fn taken(&self) -> Size {
        Size {
            nodes: self.nodes.taken - self.nodes.kept,
            bytes: self.bytes.taken - self.bytes.kept,
        }
    }

    /// Returns what it took since.
    pub(super) fn since(&self, before: Size) -> Size {
        let now = self.taken();
        Size {
            nodes: now.nodes - before.nodes,
            bytes: now.bytes - before.bytes,
        }
    }
}

impl Count {
    fn take(&mut self, amount: usize) -> Result<(), usize> {
        self.taken = self.taken.saturating_add(amount);
        if self.taken > self.limit {
            return Err(self.limit);
        }
        Ok(())
    }
}
