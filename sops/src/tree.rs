//! A document as SOPS holds it: fields in the order in which they stand, with comments among them.

use flotilla_yaml::number;

use crate::{
    cipher::{Cipher, Plain},
    error::{Error, ValueProblem, shown_path},
    limits,
    rule::Rule,
};

/// One node of a document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// Text, or any bytes that pass for it.
    Text(Vec<u8>),
    /// A time, as text.
    Time(Vec<u8>),
    /// Bytes: base64 where a format has none.
    Bytes(Vec<u8>),
    /// A comment among the items of a list.
    Comment(Vec<u8>),
    List(Vec<Node>),
    Map(Vec<Field>),
}

/// What stands in a map.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Field {
    /// A name and its value.
    Value(String, Node),
    Comment(Vec<u8>),
}

impl Node {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.as_bytes().to_vec())
    }

    /// The bytes that go into a MAC; `None`: none do.
    fn mac_bytes(&self) -> Option<Vec<u8>> {
        Some(match self {
            Self::Null | Self::Comment(_) | Self::List(_) | Self::Map(_) => return None,
            Self::Bool(flag) => if *flag { "True" } else { "False" }.into(),
            Self::Int(number) => number.to_string().into(),
            Self::Float(number) => plain_decimal(*number).into(),
            Self::Text(bytes) | Self::Time(bytes) | Self::Bytes(bytes) => bytes.clone(),
        })
    }
}

/// A float as Go writes it without an exponent, with as few digits as tell it apart.
fn plain_decimal(number: f64) -> String {
    match number.is_finite() {
        true => format!("{number}"),
        false => number::shortest(number),
    }
}

impl From<Plain> for Node {
    fn from(plain: Plain) -> Self {
        match plain {
            Plain::Text(bytes) => Self::Text(bytes),
            Plain::Time(bytes) => Self::Time(bytes),
            Plain::Bytes(bytes) => Self::Bytes(bytes),
            Plain::Int(number) => Self::Int(number),
            Plain::Float(number) => Self::Float(number),
            Plain::Bool(flag) => Self::Bool(flag),
            Plain::Comment(bytes) => Self::Comment(bytes),
        }
    }
}

/// Decrypts a document in its order.
pub(crate) struct Walk<'a> {
    cipher: &'a Cipher,
    rule: &'a Rule,
    mac_only_encrypted: bool,
    /// What goes into the MAC.
    pub(crate) hash: sha2::Sha512,
    path: String,
    values: usize,
}

/// Where a comment stands, for its encryption: in the map or list at this path.
pub(crate) fn comment_place(path: &str) -> &str {
    match path {
        "" => ":",
        path => path,
    }
}

/// Begins the MAC of a document that has only encrypted values in it.
const ONLY_ENCRYPTED: [u8; 32] = [
    0x8a, 0x3f, 0xd2, 0xad, 0x54, 0xce, 0x66, 0x52, 0x7b, 0x10, 0x34, 0xf3, 0xd1, 0x47, 0xbe, 0x0b, 0x0b,
    0x97, 0x5b, 0x3b, 0xf4, 0x4f, 0x72, 0xc6, 0xfd, 0xad, 0xec, 0x81, 0x76, 0xf2, 0x7d, 0x69,
];

impl<'a> Walk<'a> {
    pub(crate) fn new(cipher: &'a Cipher, rule: &'a Rule, mac_only_encrypted: bool) -> Self {
        use sha2::Digest as _;
        let mut hash = sha2::Sha512::new();
        if mac_only_encrypted {
            hash.update(ONLY_ENCRYPTED);
        }
        Self {
            cipher,
            rule,
            mac_only_encrypted,
            hash,
            path: String::new(),
            values: 0,
        }
    }

    /// Decrypts the fields of a document.
    pub(crate) fn document(&mut self, fields: &mut [Field]) -> Result<(), Error> {
        self.map(fields, false, 0)
    }

    fn map(&mut self, fields: &mut [Field], matched: bool, depth: usize) -> Result<(), Error> {
        for field in fields {
            match field {
                Field::Comment(text) => {
                    self.count()?;
                    if let Some(plain) = self.comment(text, matched) {
                        *text = plain;
                    }
                }
                Field::Value(name, value) => {
                    let before = self.path.len();
                    self.path.push_str(name);
                    self.path.push(':');
                    let matched = matched || self.rule.matches(name);
                    self.node(value, matched, depth)?;
                    self.path.truncate(before);
                }
            }
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), Error> {
        self.values += 1;
        match self.values > limits::VALUES {
            true => Err(Error::TooMuch {
                what: "values",
                limit: limits::VALUES,
            }),
            false => Ok(()),
        }
    }

    /// A comment that was not encrypted stays as it is.
    fn comment(&self, text: &[u8], matched: bool) -> Option<Vec<u8>> {
        let text = std::str::from_utf8(text).ok()?;
        if !self.rule.is_encrypted(matched, Some(text)) {
            return None;
        }
        match self.cipher.open(text, comment_place(&self.path)).ok()? {
            Plain::Comment(text) | Plain::Text(text) => Some(text),
            _ => None,
        }
    }

    fn node(&mut self, node: &mut Node, matched: bool, depth: usize) -> Result<(), Error> {
        use sha2::Digest as _;
        if depth > limits::DEPTH {
            return Err(Error::TooMuch {
                what: "levels",
                limit: limits::DEPTH,
            });
        }
        self.count()?;
        match node {
            Node::Null => return Ok(()),
            Node::Map(fields) => return self.map(fields, matched, depth + 1),
            Node::List(items) => {
                return items
                    .iter_mut()
                    .try_for_each(|item| self.node(item, matched, depth + 1));
            }
            Node::Comment(text) => {
                if let Some(plain) = self.comment(text, matched) {
                    *text = plain;
                }
                return Ok(());
            }
            _ => {}
        }
        let text = match node {
            Node::Text(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        };
        let is_encrypted = self.rule.is_encrypted(matched, text);
        if is_encrypted {
            let failed = |problem| Error::Value {
                path: shown_path(&self.path),
                problem,
            };
            let text = text.ok_or_else(|| failed(ValueProblem::NotEncrypted))?;
            *node = self.cipher.open(text, &self.path).map_err(failed)?.into();
        }
        if (is_encrypted || !self.mac_only_encrypted)
            && let Some(bytes) = node.mac_bytes()
        {
            self.hash.update(bytes);
        }
        Ok(())
    }
}
