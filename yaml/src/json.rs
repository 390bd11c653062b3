//! Writes JSON as Go's encoding/json does: keys in the order of their bytes, signs of markup escaped unless told
//! otherwise.

use std::borrow::Cow;
use std::fmt::Write;

use serde_json::Value;

use crate::number;

/// How JSON is laid out, and what the bytes of a text are.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Whether each item stands on a line of its own, two blanks further in than what holds it.
    pub indented: bool,
    /// Whether `<`, `>` and `&` are escaped.
    pub escapes_markup: bool,
    /// Finds the bytes that a text stands for. Each that is no UTF-8 is written as `\ufffd`.
    pub bytes: fn(&str) -> Cow<'_, [u8]>,
}

impl Layout {
    /// All on one line, as `json.Marshal` writes.
    pub const COMPACT: Layout = Layout {
        indented: false,
        escapes_markup: true,
        bytes: |text| Cow::Borrowed(text.as_bytes()),
    };
    /// In lines, as `json.MarshalIndent` writes.
    pub const INDENTED: Layout = Layout {
        indented: true,
        ..Layout::COMPACT
    };
}

/// Counts the values of a JSON text that nobody has read yet, or more: each is the first of what holds it, or follows a
/// comma.
pub fn values_in(text: &str) -> usize {
    let (mut values, mut quoted, mut escaped) = (1, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b',' | b'[' | b'{' if !quoted => values += 1,
            _ => {}
        }
    }
    values
}

/// Returns a value as JSON.
pub fn write(value: &Value, layout: Layout) -> String {
    let mut writer = Writer {
        out: String::new(),
        layout,
        depth: 0,
    };
    writer.value(value);
    writer.out
}

struct Writer {
    out: String,
    layout: Layout,
    depth: usize,
}

impl Writer {
    fn value(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.text(text),
            Value::Number(number) if number.is_f64() => {
                self.out
                    .push_str(&number::json(number.as_f64().unwrap_or_default()));
            }
            Value::Array(items) => self.between(['[', ']'], items.iter(), Writer::value),
            Value::Object(fields) => {
                let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
                fields.sort_unstable_by_key(|(key, _)| key.as_bytes());
                self.between(['{', '}'], fields.into_iter(), |writer, (key, value)| {
                    writer.text(key);
                    writer
                        .out
                        .push_str(if writer.layout.indented { ": " } else { ":" });
                    writer.value(value);
                });
            }
            Value::Null => self.out.push_str("null"),
            Value::Bool(flag) => _ = write!(self.out, "{flag}"),
            Value::Number(number) => _ = write!(self.out, "{number}"),
        }
    }

    /// Writes items between brackets or braces.
    fn between<T>(
        &mut self,
        [open, close]: [char; 2],
        items: impl ExactSizeIterator<Item = T>,
        each: impl Fn(&mut Writer, T),
    ) {
        self.out.push(open);
        let is_empty = items.len() == 0;
        self.depth += 1;
        for (at, item) in items.enumerate() {
            if at > 0 {
                self.out.push(',');
            }
            self.line();
            each(self, item);
        }
        self.depth -= 1;
        if !is_empty {
            self.line();
        }
        self.out.push(close);
    }

    fn line(&mut self) {
        if self.layout.indented {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n("  ", self.depth));
        }
    }

    fn text(&mut self, text: &str) {
        self.out.push('"');
        for chunk in (self.layout.bytes)(text).utf8_chunks() {
            chunk.valid().chars().for_each(|c| self.character(c));
            self.out.extend(chunk.invalid().iter().map(|_| "\\ufffd"));
        }
        self.out.push('"');
    }

    fn character(&mut self, c: char) {
        match c {
            '"' | '\\' => self.out.extend(['\\', c]),
            '\n' => self.out.push_str("\\n"),
            '\r' => self.out.push_str("\\r"),
            '\t' => self.out.push_str("\\t"),
            '\x08' => self.out.push_str("\\b"),
            '\x0c' => self.out.push_str("\\f"),
            '<' | '>' | '&' if !self.layout.escapes_markup => self.out.push(c),
            '<' | '>' | '&' | '\0'..='\x1f' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(self.out, "\\u{:04x}", u32::from(c));
            }
            c => self.out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use serde_json::json;

    use super::{Layout, write};

    #[test]
    fn json_is_laid_out_and_escaped_as_go_does() {
        let value = json!({"b": [1, -2.5, 1e21, 1e-7, u64::MAX, [], {}], "a<b": "\u{8}\u{c}\n\r\t\"\\\u{1}\u{7f}\u{2028}é&",
            "é": {"x": null, "y": true}});
        assert_eq!(
            write(&value, Layout::COMPACT),
            r#"{"a\u003cb":"\b\f\n\r\t\"\\\u0001"#.to_owned()
                + "\u{7f}"
                + r#"\u2028é\u0026","b":[1,-2.5,1e+21,1e-7,18446744073709551615,[],{}],"é":{"x":null,"y":true}}"#
        );
        assert_eq!(
            write(&json!({"a": [1, {"b": "<"}], "c": {}, "d": []}), Layout::INDENTED),
            "{\n  \"a\": [\n    1,\n    {\n      \"b\": \"\\u003c\"\n    }\n  ],\n  \"c\": {},\n  \"d\": []\n}"
        );
        let raw = Layout {
            escapes_markup: false,
            bytes: |_| Cow::Borrowed(b"<\xff\xe2\x82>"),
            ..Layout::COMPACT
        };
        assert_eq!(write(&json!(""), raw), r#""<\ufffd\ufffd\ufffd>""#);
    }
}
