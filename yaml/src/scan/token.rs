//! What a scanner gives.

use std::borrow::Cow;

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Single,
    Double,
    Literal,
    Folded,
}

/// A token and the line where it begins, from 1.
#[derive(Debug)]
pub(crate) struct Token<'t> {
    pub(crate) kind: TokenKind<'t>,
    pub(crate) line: usize,
}

#[derive(Debug)]
pub(crate) enum TokenKind<'t> {
    StreamEnd,
    /// `%YAML`, with the numbers of the version.
    Version(u8, u8),
    /// `%TAG`, with what it is short for.
    TagDirective {
        handle: &'t str,
        prefix: String,
    },
    DocumentStart,
    DocumentEnd,
    BlockSequenceStart,
    BlockMappingStart,
    BlockEnd,
    FlowSequenceStart,
    FlowSequenceEnd,
    FlowMappingStart,
    FlowMappingEnd,
    BlockEntry,
    FlowEntry,
    Key,
    Value,
    Alias(&'t str),
    Anchor(&'t str),
    /// A tag; the suffix alone counts where the handle is empty.
    Tag {
        handle: &'t str,
        suffix: String,
    },
    Scalar(Cow<'t, str>, Style),
}
