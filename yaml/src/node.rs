//! A YAML tree that keeps the text, tag and style of every scalar, as go-yaml v3 hands it to kustomize.
//!
//! What a scalar means is decided late, by [`scalar`]: kustomize moves text about and only the printed document is
//! read again. Aliases and merge keys are expanded while parsing, under a budget. Comments and positions of nodes are
//! not kept.

mod block;
mod duplicates;
mod folded;
mod json;
mod parse;
mod plain;
mod scalar;

use std::fmt;

use smol_str::SmolStr;

pub use block::to_block;
pub use duplicates::{collection_key_line, duplicate_line, plain_key_line};
pub use json::{ResolveError, Schema};
pub use parse::{Limits, ParseError, Part, decode_documents, parse_first, split_documents};

/// What a node is said to be, by its author or by how its text reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tag {
    /// None yet: made by the program, read from the text when it matters.
    None,
    /// `!!null`.
    Null,
    /// `!!bool`.
    Bool,
    /// `!!str`.
    Str,
    /// `!!int`.
    Int,
    /// `!!float`.
    Float,
    /// `!!timestamp`.
    Timestamp,
    /// `!!binary`: base64.
    Binary,
    /// `!!merge`: the key `<<`.
    Merge,
    /// `!!map`.
    Map,
    /// `!!seq`.
    Seq,
    /// Any other tag, as written; boxed, since there are few, and every node has room for a tag.
    Other(Box<SmolStr>),
}

/// How a node is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Without quotes. Every other style makes text of a scalar, unless a tag says otherwise.
    Plain,
    /// In single quotes.
    Single,
    /// In double quotes.
    Double,
    /// As a literal block.
    Literal,
    /// As a folded block.
    Folded,
    /// A map or list in braces or brackets.
    Flow,
}

/// The content of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Text whose meaning tag and style decide.
    Scalar(SmolStr),
    /// A list.
    Seq(Vec<Node>),
    /// Keys and values in written order; a key may stand twice until the document is read.
    Map(Vec<(Node, Node)>),
}

/// One node of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What the node is said to be.
    pub tag: Tag,
    /// Whether the author wrote the tag out.
    pub tagged: bool,
    /// How the node is written.
    pub style: Style,
    /// The node's content.
    pub content: Content,
    /// Groups scalars of one object that kustomize holds as one node: to overwrite one overwrites all.
    pub alias_group: AliasGroup,
}

/// Numbers the scalars that are one to kustomize, and counts how often this one was overwritten.
///
/// kustomize puts the same Go pointer into every field that a label goes into, so that a later change of
/// `metadata.labels` also changes selectors. [`Node::sync`] brings the copies here back together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AliasGroup {
    number: u32,
    changes: u32,
}

/// The shape of a node, without its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A scalar.
    Scalar,
    /// A list.
    Seq,
    /// A map.
    Map,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Scalar => "a scalar",
            Kind::Seq => "a list",
            Kind::Map => "a map",
        })
    }
}

impl Node {
    fn of(content: Content) -> Node {
        Node {
            tag: Tag::None,
            tagged: false,
            style: Style::Plain,
            content,
            alias_group: AliasGroup::default(),
        }
    }

    /// Returns a scalar whose meaning its text decides.
    pub fn plain(text: impl Into<SmolStr>) -> Node {
        Node::of(Content::Scalar(text.into()))
    }

    /// Returns a scalar that is text whatever it looks like.
    pub fn string(text: impl Into<SmolStr>) -> Node {
        Node {
            tag: Tag::Str,
            ..Node::plain(text)
        }
    }

    /// Returns a scalar with a tag.
    pub fn tagged(tag: Tag, text: impl Into<SmolStr>) -> Node {
        Node {
            tag,
            ..Node::plain(text)
        }
    }

    /// Returns an empty map.
    pub fn map() -> Node {
        Node::of(Content::Map(Vec::new()))
    }

    /// Returns an empty list.
    pub fn seq() -> Node {
        Node::of(Content::Seq(Vec::new()))
    }

    /// Returns an empty node of a shape.
    pub fn empty(kind: Kind) -> Node {
        match kind {
            Kind::Scalar => Node::plain(""),
            Kind::Seq => Node::seq(),
            Kind::Map => Node::map(),
        }
    }

    /// Returns the node's shape.
    pub fn kind(&self) -> Kind {
        match self.content {
            Content::Scalar(_) => Kind::Scalar,
            Content::Seq(_) => Kind::Seq,
            Content::Map(_) => Kind::Map,
        }
    }

    /// Returns the text of a scalar, and nothing for maps and lists.
    pub fn text(&self) -> &str {
        match &self.content {
            Content::Scalar(text) => text,
            _ => "",
        }
    }

    /// Tells whether the node is a null.
    pub fn is_null(&self) -> bool {
        self.tag == Tag::Null
    }

    /// Tells whether the node is a null, an empty map or an empty list.
    pub fn is_empty(&self) -> bool {
        self.is_null()
            || match &self.content {
                Content::Scalar(_) => false,
                Content::Seq(items) => items.is_empty(),
                Content::Map(fields) => fields.is_empty(),
            }
    }

    /// Tells whether the node is text, or would be if its tag were asked for.
    pub fn is_string(&self) -> bool {
        matches!(self.content, Content::Scalar(_)) && matches!(self.tag, Tag::Str | Tag::None)
    }

    /// Returns the fields of a map, and none for anything else.
    pub fn fields(&self) -> &[(Node, Node)] {
        match &self.content {
            Content::Map(fields) => fields,
            _ => &[],
        }
    }

    /// Returns the items of a list, and none for anything else.
    pub fn items(&self) -> &[Node] {
        match &self.content {
            Content::Seq(items) => items,
            _ => &[],
        }
    }

    /// Returns the items of a list for changing, or `None` when it is no list.
    pub fn items_mut(&mut self) -> Option<&mut Vec<Node>> {
        match &mut self.content {
            Content::Seq(items) => Some(items),
            _ => None,
        }
    }

    /// Returns the value of the first field of a name.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.fields()
            .iter()
            .find(|(key, _)| key.text() == name)
            .map(|(_, value)| value)
    }

    /// Returns the value of the first field of a name, for changing.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Node> {
        match &mut self.content {
            Content::Map(fields) => fields
                .iter_mut()
                .find(|(key, _)| key.text() == name)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// Follows field names downwards.
    pub fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, name| node.get(name))
    }

    /// Removes the first field of a name and returns its value.
    pub fn remove(&mut self, name: &str) -> Option<Node> {
        let Content::Map(fields) = &mut self.content else {
            return None;
        };
        let index = fields.iter().position(|(key, _)| key.text() == name)?;
        Some(fields.remove(index).1)
    }

    /// Appends a field without looking for one of that name.
    pub fn push_field(&mut self, name: impl Into<SmolStr>, value: Node) {
        if let Content::Map(fields) = &mut self.content {
            fields.push((Node::plain(name), value));
        }
    }

    /// Sets a field; an existing one keeps its place and its style, as kustomize's setter has it.
    ///
    /// Returns whether that changed a scalar which has aliases.
    pub fn set(&mut self, name: &str, mut value: Node) -> bool {
        if let Some(old) = self.get_mut(name) {
            value.style = old.style;
            value.tagged = old.tagged;
            value.alias_group = if value.content == old.content {
                old.alias_group
            } else {
                old.alias_group.changed()
            };
            *old = value;
            old.alias_group.changes > 0
        } else {
            if scalar::reads_as_non_string(&value) {
                value.style = Style::Double;
            }
            self.push_field(name, value);
            false
        }
    }

    /// Replaces a scalar by another that takes over its style.
    pub fn overwrite(&mut self, mut value: Node) {
        value.style = self.style;
        value.tagged = self.tagged;
        value.alias_group = if value.content == self.content {
            self.alias_group
        } else {
            self.alias_group.changed()
        };
        *self = value;
    }

    /// Quotes a scalar that is text only as long as nobody reads it, as kustomize's setter does to its own values.
    pub fn quote_if_ambiguous(&mut self) {
        if scalar::reads_as_non_string(self) {
            self.style = Style::Double;
        }
    }

    /// Replaces only the text of a scalar.
    pub fn rewrite(&mut self, text: impl Into<SmolStr>) {
        self.content = Content::Scalar(text.into());
        self.alias_group = self.alias_group.changed();
    }

    /// Returns the field of a name, made as an empty node of a shape when it is absent.
    ///
    /// Returns `None` when this node is not a map.
    pub fn get_or_insert(&mut self, name: &str, kind: Kind) -> Option<&mut Node> {
        let Content::Map(fields) = &mut self.content else {
            return None;
        };
        let index = match fields.iter().position(|(key, _)| key.text() == name) {
            Some(index) => index,
            None => {
                fields.push((Node::plain(name), Node::empty(kind)));
                fields.len() - 1
            }
        };
        Some(&mut fields[index].1)
    }

    /// Appends a field as [`Node::set`] does where there is none of that name, which the caller knows.
    pub fn append(&mut self, name: impl Into<SmolStr>, mut value: Node) {
        if scalar::reads_as_non_string(&value) {
            value.style = Style::Double;
        }
        self.push_field(name, value);
    }

    /// Tells whether the text of a scalar was written over one of another type, so that it means nothing.
    pub fn is_mistyped(&self) -> bool {
        !matches!(self.tag, Tag::None | Tag::Str)
            && self.kind() == Kind::Scalar
            && matches!(self.to_json(Schema::New), Err(ResolveError::Type { .. }))
    }

    /// Counts the bytes of all texts and keys of the tree, and of the tags that are kept as they are written.
    pub fn text_bytes(&self) -> usize {
        let tag = match &self.tag {
            Tag::Other(text) => text.len() + size_of::<SmolStr>(),
            _ => 0,
        };
        tag + match &self.content {
            Content::Scalar(text) => text.len(),
            Content::Seq(items) => items.iter().map(Node::text_bytes).sum(),
            Content::Map(fields) => fields
                .iter()
                .map(|(key, value)| key.text_bytes() + value.text_bytes())
                .sum(),
        }
    }

    /// Counts the nodes of the tree, this one included.
    pub fn count(&self) -> usize {
        1 + match &self.content {
            Content::Scalar(_) => 0,
            Content::Seq(items) => items.iter().map(Node::count).sum(),
            Content::Map(fields) => fields.iter().map(|(k, v)| k.count() + v.count()).sum(),
        }
    }

    /// Puts this node into a group.
    pub fn aliased(mut self, group: u32) -> Node {
        self.alias_group = AliasGroup {
            number: group,
            changes: 0,
        };
        self
    }

    /// Tells whether this scalar is one with others, which change with it.
    pub fn is_aliased(&self) -> bool {
        self.alias_group.number != 0
    }

    /// Tells whether this scalar, or one right below this list or map, was changed and its aliases were not.
    pub fn is_out_of_sync(&self) -> bool {
        let changed = |node: &Node| node.alias_group.changes > 0;
        match &self.content {
            Content::Scalar(_) => changed(self),
            Content::Seq(items) => items.iter().any(changed),
            Content::Map(fields) => fields.iter().any(|(_, value)| changed(value)),
        }
    }

    /// Tells whether any scalar of the tree was changed and its aliases were not.
    pub fn is_dirty(&self) -> bool {
        match &self.content {
            Content::Scalar(_) => self.alias_group.changes > 0,
            Content::Seq(items) => items.iter().any(Node::is_dirty),
            Content::Map(fields) => fields.iter().any(|(_, value)| value.is_dirty()),
        }
    }

    /// Takes every scalar out of its group, in a copy that goes elsewhere.
    pub fn unalias(&mut self) {
        self.alias_group = AliasGroup::default();
        match &mut self.content {
            Content::Scalar(_) => {}
            Content::Seq(items) => items.iter_mut().for_each(Node::unalias),
            Content::Map(fields) => fields.iter_mut().for_each(|(_, value)| value.unalias()),
        }
    }

    /// Gives aliases the value of the one that was overwritten last. Returns how many nodes were looked at.
    pub fn sync(&mut self) -> usize {
        let mut latest: std::collections::HashMap<u32, Node> = std::collections::HashMap::new();
        let count = self.gather(&mut latest);
        if latest.values().any(|node| node.alias_group.changes > 0) {
            self.spread(&latest);
        }
        count
    }

    fn gather(&self, latest: &mut std::collections::HashMap<u32, Node>) -> usize {
        1 + match &self.content {
            Content::Scalar(_) if self.alias_group.number == 0 => 0,
            Content::Scalar(_) => match latest.get(&self.alias_group.number) {
                Some(known) if known.alias_group.changes > self.alias_group.changes => 0,
                _ => {
                    latest.insert(self.alias_group.number, self.clone());
                    0
                }
            },
            Content::Seq(items) => items.iter().map(|item| item.gather(latest)).sum(),
            Content::Map(fields) => fields.iter().map(|(_, value)| value.gather(latest)).sum(),
        }
    }

    fn spread(&mut self, latest: &std::collections::HashMap<u32, Node>) {
        match &mut self.content {
            Content::Scalar(_) => {
                if let Some(node) = latest
                    .get(&self.alias_group.number)
                    .filter(|_| self.alias_group.number != 0)
                {
                    self.clone_from(node);
                    self.alias_group.changes = 0;
                }
            }
            Content::Seq(items) => items.iter_mut().for_each(|item| item.spread(latest)),
            Content::Map(fields) => fields.iter_mut().for_each(|(_, value)| value.spread(latest)),
        }
    }
}

impl AliasGroup {
    fn changed(self) -> AliasGroup {
        AliasGroup {
            changes: if self.number == 0 { 0 } else { self.changes + 1 },
            ..self
        }
    }
}
