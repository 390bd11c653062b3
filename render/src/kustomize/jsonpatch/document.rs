//! JSON as the library holds it that applies patches: scalars stay as they are written, since `test` compares that.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;

use crate::surrogates::paired;
use crate::yaml::json::{Layout, write};

/// A document, or a part of one.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Document {
    Scalar(Scalar),
    Array(Vec<Document>),
    Object(BTreeMap<String, Document>),
}

/// A text, a number, a boolean or null. Two are equal when they are written alike, as `1.5` and `1.50` are not.
#[derive(Debug, Clone)]
pub(super) struct Scalar {
    value: Value,
    /// How a patch writes it, where Go does otherwise.
    written: Option<Box<str>>,
}

/// How a null is told from others which is the value of an operation: to the library it equals no null of a document.
const GIVEN: &str = "";
/// The same of one that was copied, which equals no value of an operation either.
const COPIED: &str = " ";

impl Scalar {
    fn text(&self) -> Cow<'_, str> {
        match &self.written {
            Some(written) => Cow::Borrowed(written),
            None => Cow::Owned(write(&self.value, Layout::COMPACT)),
        }
    }
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Scalar) -> bool {
        match (&self.written, &other.written) {
            (None, None) => self.value == other.value,
            _ => self.text() == other.text(),
        }
    }
}

impl Document {
    pub(super) const NULL: Document = Document::Scalar(Scalar {
        value: Value::Null,
        written: None,
    });

    /// Reads a text, and keeps how it writes what Go writes in another way.
    pub(super) fn read(text: &str) -> Result<Document, serde_json::Error> {
        let paired = paired(text);
        // What follows goes along a text that is known to be JSON, and to nest no deeper than this reader goes.
        serde_json::from_str::<Value>(&paired)?;
        let mut reader = Reader {
            text,
            paired: &paired,
            at: 0,
        };
        reader.document()
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self, Document::Scalar(scalar) if scalar.value.is_null())
    }

    /// Tells whether it is a null as documents have them, which the library does not tell from a field that is missing.
    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Document::Scalar(scalar) if scalar.value.is_null() && scalar.written.is_none())
    }

    /// Returns the value of an operation as the library holds it.
    pub(super) fn given(self) -> Document {
        match self.is_null() {
            true => Document::Scalar(Scalar {
                value: Value::Null,
                written: Some(GIVEN.into()),
            }),
            false => self,
        }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Document::Scalar(scalar) => scalar.value.as_str(),
            _ => None,
        }
    }

    /// Returns how many bytes of text a scalar holds.
    pub(super) fn text_bytes(&self) -> usize {
        match self {
            Document::Scalar(scalar) => {
                scalar.value.as_str().map_or(0, str::len)
                    + scalar.written.as_ref().map_or(0, |text| text.len())
            }
            _ => 0,
        }
    }

    /// Returns a copy as the library makes it: it writes the document anew, and escapes what a browser might read.
    pub(super) fn copied(&self) -> Document {
        match self {
            Document::Scalar(scalar) => Document::Scalar(Scalar {
                value: scalar.value.clone(),
                written: match (&scalar.value, scalar.written.as_deref()) {
                    (Value::Null, Some(_)) => Some(COPIED.into()),
                    (_, written) => written.map(escaped),
                },
            }),
            Document::Array(items) => Document::Array(items.iter().map(Document::copied).collect()),
            Document::Object(fields) => {
                let fields = fields.iter().map(|(name, field)| (name.clone(), field.copied()));
                Document::Object(fields.collect())
            }
        }
    }
}

impl From<Value> for Document {
    fn from(value: Value) -> Document {
        match value {
            Value::Array(items) => Document::Array(items.into_iter().map(Document::from).collect()),
            Value::Object(fields) => {
                let fields = fields.into_iter().map(|(name, field)| (name, field.into()));
                Document::Object(fields.collect())
            }
            value => Document::Scalar(Scalar { value, written: None }),
        }
    }
}

impl From<Document> for Value {
    fn from(document: Document) -> Value {
        match document {
            Document::Scalar(scalar) => scalar.value,
            Document::Array(items) => Value::Array(items.into_iter().map(Value::from).collect()),
            Document::Object(fields) => {
                let fields = fields.into_iter().map(|(name, field)| (name, field.into()));
                Value::Object(fields.collect())
            }
        }
    }
}

fn escaped(written: &str) -> Box<str> {
    let mut text = String::with_capacity(written.len());
    for c in written.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text.into()
}

/// Goes along a text that is JSON.
struct Reader<'t> {
    text: &'t str,
    /// The same, without halves of surrogate pairs.
    paired: &'t str,
    at: usize,
}

impl Reader<'_> {
    /// Returns the next byte that is no blank.
    fn next(&mut self) -> Option<u8> {
        let rest = &self.text.as_bytes()[self.at..];
        let blanks = rest.iter().take_while(|byte| byte.is_ascii_whitespace());
        self.at += blanks.count();
        self.text.as_bytes().get(self.at).copied()
    }

    fn document(&mut self) -> Result<Document, serde_json::Error> {
        match self.next() {
            Some(b'[') => {
                let mut items = Vec::new();
                while self.another(b']') {
                    items.push(self.document()?);
                }
                Ok(Document::Array(items))
            }
            Some(b'{') => {
                let mut fields = BTreeMap::new();
                while self.another(b'}') {
                    let name = self.scalar();
                    let name: String = serde_json::from_str(&self.paired[name])?;
                    self.next();
                    // The colon.
                    self.at += 1;
                    fields.insert(name, self.document()?);
                }
                Ok(Document::Object(fields))
            }
            _ => {
                let place = self.scalar();
                let value: Value = serde_json::from_str(&self.paired[place.clone()])?;
                let written = &self.text[place];
                let is_usual = write(&value, Layout::COMPACT) == written;
                Ok(Document::Scalar(Scalar {
                    value,
                    written: (!is_usual).then(|| written.into()),
                }))
            }
        }
    }

    /// Passes the bracket or comma before an item, or the bracket behind the last one.
    fn another(&mut self, end: u8) -> bool {
        let passed = self.next();
        self.at += 1;
        if passed == Some(end) {
            return false;
        }
        let is_empty = self.next() == Some(end);
        self.at += usize::from(is_empty);
        !is_empty && self.at < self.text.len()
    }

    /// Passes a scalar or a key and returns where it stands.
    fn scalar(&mut self) -> std::ops::Range<usize> {
        let is_text = self.next() == Some(b'"');
        let start = self.at;
        let rest = &self.text.as_bytes()[start..];
        let length = if is_text {
            let mut escaped = false;
            let inner = rest.iter().skip(1).take_while(|byte| {
                let goes_on = escaped || **byte != b'"';
                escaped = !escaped && **byte == b'\\';
                goes_on
            });
            inner.count() + 2
        } else {
            let is_end = |byte: u8| byte.is_ascii_whitespace() || matches!(byte, b',' | b']' | b'}');
            rest.iter().take_while(|byte| !is_end(**byte)).count()
        };
        self.at = (start + length).min(self.text.len());
        start..self.at
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Document;

    fn read(text: &str) -> Document {
        Document::read(text).expect("it is JSON")
    }

    #[test]
    fn documents_are_read_to_what_serde_json_reads() {
        for text in [
            "null",
            " [ ] ",
            "{}",
            r#"[1, -2.50, 1e3, "a\"b\\", "\u00e9<", true , null, [[]], {"a" : {"b\n": [ ]}, "c":1,"a":2}]"#,
            "\t{\r\n\"a\"\t:\t\"\"\n}\n",
        ] {
            let value: Value = serde_json::from_str(text).expect("it is JSON");
            assert_eq!(Value::from(read(text)), value, "{text}");
        }
        assert!(Document::read("[1,]").is_err() && Document::read("[1] 2").is_err());
        assert!(Document::read(&format!("{}{}", "[".repeat(1_000), "]".repeat(1_000))).is_err());
        assert_eq!(Value::from(read(r#"["\ud800"]"#)), json!(["\u{fffd}"]));
    }

    #[test]
    fn scalars_are_equal_when_they_are_written_alike() {
        let gos = |value: Value| Document::from(value);
        assert_eq!(read("1.5"), gos(json!(1.5)));
        assert_ne!(read("1.50"), gos(json!(1.5)));
        assert_eq!(read("1.50"), read("1.50"));
        assert_ne!(read("15e-1"), read("1.5"));
        assert_ne!(read("1.0"), gos(json!(1)));
        assert_eq!(read("9007199254740993"), gos(json!(9_007_199_254_740_993_i64)));
        assert_eq!(read(r#""x\u003cy""#), gos(json!("x<y")));
        assert_ne!(read(r#""x<y""#), gos(json!("x<y")));
        assert_eq!(read(r#""x<y""#).copied(), gos(json!("x<y")));
        assert_ne!(read(r#"{"a": ["\u00e9"]}"#), gos(json!({"a": ["é"]})));
        assert_eq!(read(r#"{"\u0061": ["é"]}"#), gos(json!({"a": ["é"]})));
    }
}
