//! Prints JSON as the YAML that `kustomize build` prints: keys sorted, two spaces, lists not indented.

use std::cmp::Ordering;

use serde_json::Value;

use super::number::go_float;
use super::scalar::{Meaning, resolve_old};

/// Where go-yaml v2 folds long text.
const WIDTH: usize = 80;

/// Prints a value as one YAML document.
pub fn to_text(value: &Value) -> String {
    let mut text = String::new();
    push_document(&mut text, value);
    text
}

/// Appends a value as one YAML document, to a text that is empty or ends a line.
pub(crate) fn push_document(text: &mut String, value: &Value) {
    let mut out = Printer {
        text: std::mem::take(text),
    };
    match value {
        Value::Object(fields) if !fields.is_empty() => out.map(fields, 0, true),
        Value::Array(items) if !items.is_empty() => out.list(items, 0, true),
        _ => {
            out.inline(value, 0, false);
            out.text.push('\n');
        }
    }
    *text = out.text;
}

/// Appends text in the plainest style that keeps it as it is, as a block when told to.
pub(super) fn push_text(out: &mut String, text: &str, indent: usize, block: bool) {
    let mut printer = Printer {
        text: std::mem::take(out),
    };
    let shape = Shape::of(text);
    if block && shape.block {
        printer.literal(text, indent);
    } else if shape.plain {
        printer.text.push_str(text);
    } else if shape.single && !text.contains('\n') {
        printer.text.push('\'');
        printer.text.push_str(&text.replace('\'', "''"));
        printer.text.push('\'');
    } else {
        push_double(&mut printer.text, text);
    }
    *out = printer.text;
}

/// Appends text in double quotes.
pub(super) fn push_double(out: &mut String, text: &str) {
    out.push('"');
    text.chars().for_each(|c| escape(out, c));
    out.push('"');
}

struct Printer {
    text: String,
}

impl Printer {
    fn indent(&mut self, indent: usize) {
        const SPACES: &str = "                                ";
        let mut left = indent;
        while left > SPACES.len() {
            self.text.push_str(SPACES);
            left -= SPACES.len();
        }
        self.text.push_str(&SPACES[..left]);
    }

    fn map(&mut self, fields: &serde_json::Map<String, Value>, indent: usize, mut first: bool) {
        let mut sorted: Vec<(&String, &Value)> = fields.iter().collect();
        sorted.sort_by(|(a, _), (b, _)| natural(a, b));
        for (key, value) in sorted {
            if first {
                first = false;
            } else {
                self.indent(indent);
            }
            self.key(key, indent);
            self.value(value, indent);
        }
    }

    fn key(&mut self, key: &str, indent: usize) {
        if key.contains('\n') || key.len() > 128 {
            self.text.push_str("? ");
            self.string(key, indent, false);
            self.text.push('\n');
            self.indent(indent);
            self.text.push(':');
            return;
        }
        self.string(key, indent, true);
        self.text.push(':');
    }

    fn value(&mut self, value: &Value, indent: usize) {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                self.text.push('\n');
                self.indent(indent + 2);
                self.map(fields, indent + 2, true);
            }
            Value::Array(items) if !items.is_empty() => {
                self.text.push('\n');
                self.list(items, indent, false);
            }
            _ => {
                self.text.push(' ');
                self.inline(value, indent, false);
                self.text.push('\n');
            }
        }
    }

    fn list(&mut self, items: &[Value], indent: usize, mut first: bool) {
        for item in items {
            if first {
                first = false;
            } else {
                self.indent(indent);
            }
            self.text.push_str("- ");
            match item {
                Value::Object(fields) if !fields.is_empty() => self.map(fields, indent + 2, true),
                Value::Array(inner) if !inner.is_empty() => self.list(inner, indent + 2, true),
                _ => {
                    self.inline(item, indent, false);
                    self.text.push('\n');
                }
            }
        }
    }

    fn inline(&mut self, value: &Value, indent: usize, key: bool) {
        match value {
            Value::Null => self.text.push_str("null"),
            Value::Bool(flag) => self.text.push_str(if *flag { "true" } else { "false" }),
            Value::Number(number) => match number.as_f64() {
                Some(float) if !number.is_i64() && !number.is_u64() => {
                    self.text.push_str(&go_float(float, 21))
                }
                _ => self.text.push_str(&number.to_string()),
            },
            Value::String(text) => self.string(text, indent, key),
            Value::Array(_) => self.text.push_str("[]"),
            Value::Object(_) => self.text.push_str("{}"),
        }
    }

    fn string(&mut self, text: &str, indent: usize, key: bool) {
        let shape = Shape::of(text);
        if !key && text.as_bytes().contains(&b'\n') {
            return match shape.block {
                true => self.literal(text, indent),
                false => self.double(text, indent, key),
            };
        }
        let reads_as_text = matches!(resolve_old(text), Meaning::Text) && !is_base_sixty(text);
        if !reads_as_text {
            return self.double(text, indent, key);
        }
        if shape.plain {
            self.folded(text, indent, key);
        } else if shape.single {
            self.single(text, indent, key);
        } else {
            self.double(text, indent, key);
        }
    }

    fn column(&self) -> usize {
        let line = self.text.rfind('\n').map_or(0, |at| at + 1);
        self.text[line..].chars().count()
    }

    fn single(&mut self, text: &str, indent: usize, key: bool) {
        self.text.push('\'');
        if text.as_bytes().contains(&b'\'') {
            self.folded(&text.replace('\'', "''"), indent, key);
        } else {
            self.folded(text, indent, key);
        }
        self.text.push('\'');
    }

    /// Writes text, breaking the line at single spaces past the width.
    fn folded(&mut self, text: &str, indent: usize, key: bool) {
        if key || !text.as_bytes().contains(&b' ') || self.column() + text.len() <= WIDTH {
            self.text.push_str(text);
            return;
        }
        let mut column = self.column();
        let mut spaces = false;
        let mut chars = text.chars().peekable();
        let mut first = true;
        while let Some(c) = chars.next() {
            let inner = !std::mem::take(&mut first) && chars.peek().is_some_and(|next| *next != ' ');
            if c == ' ' && !spaces && column > WIDTH && inner {
                self.text.push('\n');
                self.indent(indent + 2);
                column = indent + 2;
                spaces = true;
                continue;
            }
            self.text.push(c);
            column += 1;
            spaces = c == ' ';
        }
    }

    fn double(&mut self, text: &str, indent: usize, key: bool) {
        self.text.push('"');
        let mut column = self.column();
        let mut spaces = false;
        let mut chars = text.chars().peekable();
        let mut first = true;
        while let Some(c) = chars.next() {
            let next = chars.peek().copied();
            let inner = !std::mem::take(&mut first) && next.is_some();
            if c == ' ' && !key && !spaces && column > WIDTH && inner {
                self.text.push('\n');
                self.indent(indent + 2);
                column = indent + 2;
                if next == Some(' ') {
                    self.text.push('\\');
                    column += 1;
                }
                spaces = true;
                continue;
            }
            let before = self.text.len();
            escape(&mut self.text, c);
            column += self.text.len() - before;
            spaces = c == ' ';
        }
        self.text.push('"');
    }

    fn literal(&mut self, text: &str, indent: usize) {
        self.text.push('|');
        if text.starts_with([' ', '\n']) {
            self.text.push('2');
        }
        let body = text.strip_suffix('\n');
        match body {
            None => self.text.push('-'),
            Some(rest) if rest.is_empty() || rest.ends_with('\n') => self.text.push('+'),
            Some(_) => {}
        }
        for line in body.unwrap_or(text).split('\n') {
            self.text.push('\n');
            if !line.is_empty() {
                self.indent(indent + 2);
                self.text.push_str(line);
            }
        }
    }
}

fn escape(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\0' => out.push_str("\\0"),
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\t' => out.push_str("\\t"),
        '\n' => out.push_str("\\n"),
        '\u{b}' => out.push_str("\\v"),
        '\u{c}' => out.push_str("\\f"),
        '\r' => out.push_str("\\r"),
        '\u{1b}' => out.push_str("\\e"),
        '\u{85}' => out.push_str("\\N"),
        '\u{a0}' => out.push_str("\\_"),
        '\u{2028}' => out.push_str("\\L"),
        '\u{2029}' => out.push_str("\\P"),
        c if is_printable(c) => out.push(c),
        c if (c as u32) <= 0xff => out.push_str(&format!("\\x{:02X}", c as u32)),
        c if (c as u32) <= 0xffff => out.push_str(&format!("\\u{:04X}", c as u32)),
        c => out.push_str(&format!("\\U{:08X}", c as u32)),
    }
}

fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}') && c != '\u{feff}'
}

/// Which styles a text may be written in.
struct Shape {
    plain: bool,
    single: bool,
    block: bool,
}

/// Tells whether go-yaml may write the text as a block scalar.
pub(super) fn is_block_allowed(text: &str) -> bool {
    Shape::of(text).block
}

impl Shape {
    fn of(text: &str) -> Shape {
        if text.is_empty() {
            return Shape {
                plain: false,
                single: true,
                block: false,
            };
        }
        let mut indicator = text.starts_with("---") || text.starts_with("...");
        let (mut special, mut breaks, mut space_break, mut break_space) = (false, false, false, false);
        let (mut previous_space, mut previous_break) = (false, false);
        let mut at = 0;
        while let Some(c) = text[at..].chars().next() {
            let (first, next) = (at == 0, at + c.len_utf8());
            let preceded = || text[..at].chars().next_back().is_none_or(is_blank);
            let followed = || text[next..].chars().next().is_none_or(is_blank);
            indicator |= match c {
                '#' => preceded(),
                ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' => {
                    first
                }
                '?' => first && followed(),
                ':' => followed(),
                '-' => first && followed(),
                _ => false,
            };
            special |= !is_printable(c);
            let is_break = matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}');
            breaks |= is_break;
            if c == ' ' {
                break_space |= previous_break;
            } else if is_break {
                space_break |= previous_space;
            }
            let dull = text.as_bytes()[next..]
                .iter()
                .take_while(|b| is_dull(**b))
                .count();
            previous_space = dull == 0 && c == ' ';
            previous_break = dull == 0 && is_break;
            at = next + dull;
        }
        let edge_space = text.starts_with(' ') || text.ends_with(' ');
        let trailing_space = text.ends_with(' ');
        let odd = space_break || special;
        Shape {
            plain: !indicator && !edge_space && !breaks && !odd && !break_space,
            single: !odd && !break_space,
            block: !trailing_space && !odd,
        }
    }
}

/// Tells whether a character says nothing of the style unless it comes first.
fn is_dull(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~') && !matches!(byte, b'#' | b':')
}

fn is_blank(c: char) -> bool {
    matches!(
        c,
        ' ' | '\t' | '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' | '\0'
    )
}

/// Tells whether YAML 1.1 would read the text as a number of base sixty, such as `1:30`.
fn is_base_sixty(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut parts = whole.split(':');
    let number = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let first = parts
        .next()
        .is_some_and(|p| p.starts_with(|c: char| c.is_ascii_digit()) && number(p));
    let mut count = 0;
    let rest = parts.all(|p| {
        count += 1;
        let bytes = p.as_bytes();
        match bytes {
            [digit] => digit.is_ascii_digit(),
            [tens, digit] => (b'0'..=b'5').contains(tens) && digit.is_ascii_digit(),
            _ => false,
        }
    });
    first && rest && count > 0 && number(fraction)
}

/// Orders keys as go-yaml does: numbers within them by value, letters after everything else.
fn natural(a: &str, b: &str) -> Ordering {
    let same = common_prefix(a, b);
    let (x, y) = (&a[same..], &b[same..]);
    let (Some(xc), Some(yc)) = (x.chars().next(), y.chars().next()) else {
        return x.len().cmp(&y.len());
    };
    match (xc.is_alphabetic(), yc.is_alphabetic()) {
        (true, true) => return xc.cmp(&yc),
        (false, false) => {}
        (x_is_letter, y_is_letter) => {
            let digits = a[..same].chars().next_back().is_some_and(char::is_numeric);
            let less = if digits { x_is_letter } else { y_is_letter };
            return if less { Ordering::Less } else { Ordering::Greater };
        }
    }
    let mut before = a[..same].chars().rev().take_while(|c| c.is_numeric());
    // A zero that goes on a number counts, one that leads does not.
    let start = i64::from((xc == '0' || yc == '0') && before.any(|c| c != '0'));
    let ((xn, xl), (yn, yl)) = (leading_number(x, start), leading_number(y, start));
    xn.cmp(&yn).then(xl.cmp(&yl)).then(xc.cmp(&yc))
}

/// Returns how many bytes the whole characters take that two texts begin with alike.
fn common_prefix(a: &str, b: &str) -> usize {
    let mut same = a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    while !a.is_char_boundary(same) || !b.is_char_boundary(same) {
        same -= 1;
    }
    same
}

/// Reads the digits a text begins with onto a number, and counts them.
fn leading_number(text: &str, start: i64) -> (i64, usize) {
    let digits = text.chars().take_while(|c| c.is_numeric());
    digits.fold((start, 0), |(number, length), c| {
        let digit = i64::from(u32::from(c)) - i64::from(u32::from('0'));
        (number.wrapping_mul(10).wrapping_add(digit), length + 1)
    })
}
