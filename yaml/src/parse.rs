//! Makes events of tokens: the one source of all that reads YAML here.
//!
//! Its grammar is the reference's: a document ends where its first node does, and what follows must begin another
//! one only for those who read on.

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;

use crate::Version;
pub(crate) use crate::scan::{ScanError, Style};
use crate::scan::{Scanner, Token, TokenKind};

/// What YAML's own tags begin with.
pub(crate) const YAML_TAG: &str = "tag:yaml.org,2002:";

/// A part of a stream of documents.
#[derive(Debug)]
pub(crate) enum Event<'t> {
    StreamEnd,
    DocumentStart,
    DocumentEnd,
    /// A node that stands elsewhere too, by its anchor.
    Alias(&'t str),
    Scalar(Scalar<'t>),
    SequenceStart(Properties<'t>),
    SequenceEnd,
    MappingStart(Properties<'t>),
    MappingEnd,
}

/// A scalar; where nothing stands, a plain one without text.
#[derive(Debug)]
pub(crate) struct Scalar<'t> {
    pub(crate) text: Cow<'t, str>,
    pub(crate) style: Style,
    pub(crate) properties: Properties<'t>,
}

/// What is said of a node.
#[derive(Debug, Default)]
pub(crate) struct Properties<'t> {
    pub(crate) anchor: Option<&'t str>,
    /// `!` alone is one too.
    pub(crate) tag: Option<WrittenTag>,
    /// Whether it stands in braces or brackets, if it is a map or a list.
    pub(crate) flow: bool,
}

/// A tag: what its handle stands for, which nodes share, and what is written behind it.
///
/// The two are joined only for who asks, and has counted them: a document may say a long prefix once and mean it at
/// each of its nodes.
#[derive(Debug)]
pub(crate) struct WrittenTag {
    prefix: Option<Rc<str>>,
    suffix: String,
}

impl WrittenTag {
    /// No tag that has a meaning here is longer.
    const LONGEST_KNOWN: usize = 64;

    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        self.prefix.as_ref().map_or(0, |prefix| prefix.len()) + self.suffix.len()
    }

    /// Returns the tag in full.
    pub(crate) fn text(&self) -> Cow<'_, str> {
        match &self.prefix {
            Some(prefix) => Cow::Owned(format!("{prefix}{}", self.suffix)),
            None => Cow::Borrowed(&self.suffix),
        }
    }

    /// Returns the tag in full where it may be one that has a meaning.
    pub(crate) fn known(&self) -> Option<Cow<'_, str>> {
        (self.len() <= Self::LONGEST_KNOWN).then(|| self.text())
    }

    /// Tells whether it is the mark that stands for no tag.
    pub(crate) fn is_bare(&self) -> bool {
        self.len() == 1 && self.text() == "!"
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// A document may begin without its mark.
    ImplicitDocumentStart,
    DocumentStart,
    DocumentContent,
    /// The content of a document without a mark, which must not be empty.
    BlockNode,
    DocumentEnd,
    BlockSequenceEntry,
    /// A list that stands level with its key.
    IndentlessSequenceEntry,
    BlockMappingKey,
    BlockMappingValue,
    FlowSequenceFirstEntry,
    FlowSequenceEntry,
    /// A map of one field in brackets, `[a: b]`.
    FlowPairKey,
    FlowPairValue,
    FlowPairEnd,
    FlowMappingFirstKey,
    FlowMappingKey,
    FlowMappingValue,
    /// A key in braces without a colon.
    FlowMappingNoValue,
    End,
}

/// Which nodes may stand at a place.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Flow,
    Block,
    /// A block, and a list that is not further in.
    BlockOrIndentless,
}

/// Makes events as they are asked for.
pub(crate) struct Parser<'t> {
    scanner: Scanner<'t>,
    state: State,
    /// Where to go on once the open nodes have ended, outermost first.
    states: Vec<State>,
    /// What handles of tags stand for in this document.
    handles: HashMap<&'t str, Rc<str>>,
}

impl<'t> Parser<'t> {
    /// Parses a text without control characters.
    pub(crate) fn new(text: &'t str, version: Version) -> Parser<'t> {
        Parser {
            scanner: Scanner::new(text, version),
            state: State::ImplicitDocumentStart,
            states: Vec::new(),
            handles: HashMap::new(),
        }
    }

    /// Returns the next event and the line where it begins, from 1; the end of the stream again and again.
    pub(crate) fn next(&mut self) -> Result<(Event<'t>, usize), ScanError> {
        match self.state {
            State::ImplicitDocumentStart => self.document_start(true),
            State::DocumentStart => self.document_start(false),
            State::DocumentContent => self.document_content(),
            State::BlockNode => self.node(Place::Block),
            State::DocumentEnd => self.document_end(),
            State::BlockSequenceEntry => self.block_sequence_entry(),
            State::IndentlessSequenceEntry => self.indentless_sequence_entry(),
            State::BlockMappingKey => self.block_mapping_key(),
            State::BlockMappingValue => self.block_mapping_value(),
            State::FlowSequenceFirstEntry => self.flow_sequence_entry(true),
            State::FlowSequenceEntry => self.flow_sequence_entry(false),
            State::FlowPairKey => self.flow_pair_key(),
            State::FlowPairValue => self.flow_pair_value(),
            State::FlowPairEnd => self.flow_pair_end(),
            State::FlowMappingFirstKey => self.flow_mapping_key(true),
            State::FlowMappingKey => self.flow_mapping_key(false),
            State::FlowMappingValue => self.flow_mapping_value(),
            State::FlowMappingNoValue => {
                let line = self.scanner.peek()?.line;
                Ok(self.empty(line, State::FlowMappingKey))
            }
            State::End => Ok((Event::StreamEnd, 0)),
        }
    }

    fn document_start(&mut self, implicit: bool) -> Result<(Event<'t>, usize), ScanError> {
        if !implicit {
            while matches!(self.scanner.peek()?.kind, TokenKind::DocumentEnd) {
                self.scanner.next()?;
            }
        }
        let token = self.scanner.peek()?;
        let line = token.line;
        match token.kind {
            TokenKind::StreamEnd => {
                self.state = State::End;
                return Ok((Event::StreamEnd, line));
            }
            TokenKind::Version(..) | TokenKind::TagDirective { .. } | TokenKind::DocumentStart => {}
            _ if implicit => {
                self.directives()?;
                self.states.push(State::DocumentEnd);
                self.state = State::BlockNode;
                return Ok((Event::DocumentStart, line));
            }
            _ => {}
        }
        self.directives()?;
        let token = self.scanner.peek()?;
        if !matches!(token.kind, TokenKind::DocumentStart) {
            return Err(ScanError {
                line: token.line,
                message: "did not find expected <document start>",
            });
        }
        self.scanner.next()?;
        self.states.push(State::DocumentEnd);
        self.state = State::DocumentContent;
        Ok((Event::DocumentStart, line))
    }

    /// Reads the directives of a document.
    fn directives(&mut self) -> Result<(), ScanError> {
        let mut has_version = false;
        loop {
            let token = self.scanner.peek()?;
            let refused = |message| ScanError {
                line: token.line,
                message,
            };
            match &token.kind {
                TokenKind::Version(..) if has_version => {
                    return Err(refused("found duplicate %YAML directive"));
                }
                TokenKind::Version(1, 1) => has_version = true,
                TokenKind::Version(..) => return Err(refused("found incompatible YAML document")),
                TokenKind::TagDirective { handle, prefix } => {
                    if self.handles.insert(handle, prefix.as_str().into()).is_some() {
                        return Err(refused("found duplicate %TAG directive"));
                    }
                }
                _ => break,
            }
            self.scanner.next()?;
        }
        for (handle, prefix) in [("!", "!"), ("!!", YAML_TAG)] {
            self.handles.entry(handle).or_insert_with(|| prefix.into());
        }
        Ok(())
    }

    fn document_content(&mut self) -> Result<(Event<'t>, usize), ScanError> {
        let token = self.scanner.peek()?;
        let line = token.line;
        match token.kind {
            TokenKind::Version(..)
            | TokenKind::TagDirective { .. }
            | TokenKind::DocumentStart
            | TokenKind::DocumentEnd
            | TokenKind::StreamEnd => {
                let state = self.pop();
                Ok(self.empty(line, state))
            }
            _ => self.node(Place::Block),
        }
    }

    fn document_end(&mut self) -> Result<(Event<'t>, usize), ScanError> {
        let token = self.scanner.peek()?;
        let line = token.line;
        if matches!(token.kind, TokenKind::DocumentEnd) {
            self.scanner.next()?;
        }
        self.handles.clear();
        self.state = State::DocumentStart;
        Ok((Event::DocumentEnd, line))
    }

    /// Returns where to go on behind a node.
    fn pop(&mut self) -> State {
        self.states.pop().unwrap_or(State::End)
    }

    /// Returns the scalar that stands where there is nothing.
    fn empty(&mut self, line: usize, next: State) -> (Event<'t>, usize) {
        self.state = next;
        (empty(Properties::default()), line)
    }

    /// Goes on with the node that stands here, and then with that state.
    fn node_then(&mut self, place: Place, next: State) -> Result<(Event<'t>, usize), ScanError> {
        self.states.push(next);
        self.node(place)
    }

    fn node(&mut self, place: Place) -> Result<(Event<'t>, usize), ScanError> {
        let line = self.scanner.peek()?.line;
        if let TokenKind::Alias(name) = self.scanner.peek()?.kind {
            self.scanner.next()?;
            self.state = self.pop();
            return Ok((Event::Alias(name), line));
        }
        let mut properties = self.properties()?;
        let token = self.scanner.peek()?;
        let (state, is_map) = match &token.kind {
            TokenKind::BlockEntry if place == Place::BlockOrIndentless => {
                (State::IndentlessSequenceEntry, false)
            }
            TokenKind::Scalar(..) => return self.scalar(properties, line),
            TokenKind::FlowSequenceStart => (State::FlowSequenceFirstEntry, false),
            TokenKind::FlowMappingStart => (State::FlowMappingFirstKey, true),
            TokenKind::BlockSequenceStart if place != Place::Flow => (State::BlockSequenceEntry, false),
            TokenKind::BlockMappingStart if place != Place::Flow => (State::BlockMappingKey, true),
            _ if properties.anchor.is_some() || properties.tag.is_some() => {
                self.state = self.pop();
                return Ok((empty(properties), line));
            }
            _ => {
                return Err(ScanError {
                    line: token.line,
                    message: "did not find expected node content",
                });
            }
        };
        properties.flow = matches!(state, State::FlowSequenceFirstEntry | State::FlowMappingFirstKey);
        if state != State::IndentlessSequenceEntry {
            self.scanner.next()?;
        }
        self.state = state;
        let event = if is_map {
            Event::MappingStart(properties)
        } else {
            Event::SequenceStart(properties)
        };
        Ok((event, line))
    }

    /// Reads the anchor and the tag of a node, in either order.
    fn properties(&mut self) -> Result<Properties<'t>, ScanError> {
        let mut properties = Properties::default();
        loop {
            match &self.scanner.peek()?.kind {
                TokenKind::Anchor(name) if properties.anchor.is_none() => properties.anchor = Some(*name),
                TokenKind::Tag { handle, suffix } if properties.tag.is_none() => {
                    let prefix = match (*handle, self.handles.get(handle)) {
                        ("", _) => None,
                        (_, Some(prefix)) => Some(Rc::clone(prefix)),
                        _ => {
                            return Err(ScanError {
                                line: self.scanner.peek()?.line,
                                message: "found undefined tag handle",
                            });
                        }
                    };
                    properties.tag = Some(WrittenTag {
                        prefix,
                        suffix: suffix.clone(),
                    });
                }
                _ => return Ok(properties),
            }
            self.scanner.next()?;
        }
    }

    fn scalar(&mut self, properties: Properties<'t>, line: usize) -> Result<(Event<'t>, usize), ScanError> {
        let event = match self.scanner.next()?.kind {
            TokenKind::Scalar(text, style) => Event::Scalar(Scalar {
                text,
                style,
                properties,
            }),
            _ => empty(properties),
        };
        self.state = self.pop();
        Ok((event, line))
    }

    /// Ends a map or a list with the token that stands here.
    fn end(&mut self, event: Event<'t>) -> Result<(Event<'t>, usize), ScanError> {
        let Token { line, .. } = self.scanner.next()?;
        self.state = self.pop();
        Ok((event, line))
    }

    fn block_sequence_entry(&mut self) -> Result<(Event<'t>, usize), ScanError> {
        let token = self.scanner.peek()?;
        let line = token.line;
        match token.kind {
            TokenKind::BlockEntry => self.scanner.next()?,
            TokenKind::BlockEnd => return self.end(Event::SequenceEnd),
            _ => {
                return Err(ScanError {
                    line,
                    message: "did not find expected '-' indicator",
                });
            }
        };
        match self.scanner.peek()?.kind {
            TokenKind::BlockEntry | TokenKind::BlockEnd => Ok(self.empty(line, State::BlockSequenceEntry)),
            _ => self.node_then(Place::Block, State::BlockSequenceEntry),
        }
    }

    fn indentless_sequence_entry(&mut self) -> Result<(Event<'t>, usize), ScanError> {
        let token = self.scanner.peek()?;
        let line = token.line;
        if !matches!(token.kind, TokenKind::BlockEntry) {
            self.state = self.pop();
            return Ok((Event::SequenceEnd, line));
        }
        self.scanner.next()?;
        match self.scanner.peek()?.kind {
            TokenKind::BlockEntry | TokenKind::Key | TokenKind::Value | TokenKind::BlockEnd => {
                Ok(self.empty(line, State::IndentlessSequenceEntry))
            }
            _ => self.node_then(Place::Block, State::IndentlessSequenceEntry),
        }
    }

    fn block_mapping_key(&mut self) -> Result<(Event<'t>, usize), ScanError> {
        let token = self.scanner.peek()?;
        let line = token.line;
        match token.kind {
            TokenKind::Key => self.scanner.next()?,
            TokenKind::BlockEnd => return self.end(Event::MappingEnd),
            _ => {
                return Err(ScanError {
                    line,
                    message: "did not find expected key",
                });
            }
        };
        self.block_node_or_nothing(line, State::BlockMappingValue)
    }

    fn block_mapping_value(&mut self) -> Result<(Event<'t>, usize), ScanError> {
        let token = self.scanner.peek()?;
        let line = token.line;
        if !matches!(token.kind, TokenKind::Value) {
            return Ok(self.empty(line, State::BlockMappingKey));
        }
        self.scanner.next()?;
        self.block_node_or_nothing(line, State::BlockMappingKey)
    }

    fn block_node_or_nothing(&mut self, line: usize, next: State) -> Result<(Event<'t>, usize), ScanError> {
        match self.scanner.peek()?.kind {
            TokenKind::Key | TokenKind::Value | TokenKind::BlockEnd => Ok(self.empty(line, next)),
            _ => self.node_then(Place::BlockOrIndentless, next),
        }
    }

    fn flow_sequence_entry(&mut self, first: bool) -> Result<(Event<'t>, usize), ScanError> {
        if !self.flow_entry(first, |kind| matches!(kind, TokenKind::FlowSequenceEnd))? {
            return self.end(Event::SequenceEnd);
        }
        let token = self.scanner.peek()?;
        let line = token.line;
        match token.kind {
            TokenKind::Key => {
                self.scanner.next()?;
                self.state = State::FlowPairKey;
                let properties = Properties {
                    flow: true,
                    ..Properties::default()
                };
                Ok((Event::MappingStart(properties), line))
            }
            _ => self.node_then(Place::Flow, State::FlowSequenceEntry),
        }
    }

    /// Goes on to the next entry of a collection in braces or brackets; returns whether there is one.
    fn flow_entry(&mut self, first: bool, ends: fn(&TokenKind<'t>) -> bool) -> Result<bool, ScanError> {
        let token = self.scanner.peek()?;
        if ends(&token.kind) {
            return Ok(false);
        }
        if first {
            return Ok(true);
        }
        if !matches!(token.kind, TokenKind::FlowEntry) {
            let message = match self.state {
                State::FlowMappingKey => "did not find expected ',' or '}'",
                _ => "did not find expected ',' or ']'",
            };
            return Err(ScanError {
                line: token.line,
                message,
            });
        }
        self.scanner.next()?;
        Ok(!ends(&self.scanner.peek()?.kind))
    }

    fn flow_pair_key(&mut self) -> Result<(Event<'t>, usize), ScanError> {
        let token = self.scanner.peek()?;
        let line = token.line;
        match token.kind {
            TokenKind::Value | TokenKind::FlowEntry | TokenKind::FlowSequenceEnd => {
                self.scanner.next()?;
                Ok(self.empty(line, State::FlowPairValue))
            }
            _ => self.node_then(Place::Flow, State::FlowPairValue),
        }
    }

    fn flow_pair_value(&mut self) -> Result<(Event<'t>, usize), ScanError> {
        if matches!(self.scanner.peek()?.kind, TokenKind::Value) {
            self.scanner.next()?;
            if !matches!(
                self.scanner.peek()?.kind,
                TokenKind::FlowEntry | TokenKind::FlowSequenceEnd
            ) {
                return self.node_then(Place::Flow, State::FlowPairEnd);
            }
        }
        let line = self.scanner.peek()?.line;
        Ok(self.empty(line, State::FlowPairEnd))
    }

    fn flow_pair_end(&mut self) -> Result<(Event<'t>, usize), ScanError> {
        let line = self.scanner.peek()?.line;
        self.state = State::FlowSequenceEntry;
        Ok((Event::MappingEnd, line))
    }

    fn flow_mapping_key(&mut self, first: bool) -> Result<(Event<'t>, usize), ScanError> {
        if !self.flow_entry(first, |kind| matches!(kind, TokenKind::FlowMappingEnd))? {
            return self.end(Event::MappingEnd);
        }
        if !matches!(self.scanner.peek()?.kind, TokenKind::Key) {
            return self.node_then(Place::Flow, State::FlowMappingNoValue);
        }
        self.scanner.next()?;
        self.flow_node_or_nothing(State::FlowMappingValue)
    }

    fn flow_mapping_value(&mut self) -> Result<(Event<'t>, usize), ScanError> {
        let token = self.scanner.peek()?;
        let line = token.line;
        if !matches!(token.kind, TokenKind::Value) {
            return Ok(self.empty(line, State::FlowMappingKey));
        }
        self.scanner.next()?;
        self.flow_node_or_nothing(State::FlowMappingKey)
    }

    /// Reads a key or a value of a map in braces.
    fn flow_node_or_nothing(&mut self, next: State) -> Result<(Event<'t>, usize), ScanError> {
        let token = self.scanner.peek()?;
        let line = token.line;
        let is_key = next == State::FlowMappingValue;
        match token.kind {
            TokenKind::FlowEntry | TokenKind::FlowMappingEnd => Ok(self.empty(line, next)),
            TokenKind::Value if is_key => Ok(self.empty(line, next)),
            _ => self.node_then(Place::Flow, next),
        }
    }
}

fn empty(properties: Properties<'_>) -> Event<'_> {
    Event::Scalar(Scalar {
        text: Cow::Borrowed(""),
        style: Style::Plain,
        properties,
    })
}
