//! Prints JSON as the YAML that `kustomize build` prints: keys sorted, two spaces, lists not indented.

use serde_json::Value;

use super::number::go_float;
use super::scalar::{Meaning, resolve_old};

/// Where go-yaml v2 folds long text.
const WIDTH: usize = 80;

/// Prints a value as one YAML document.
pub fn to_text(value: &Value) -> String {
    let mut out = Printer { text: String::new() };
    match value {
        Value::Object(fields) if !fields.is_empty() => out.map(fields, 0, true),
        Value::Array(items) if !items.is_empty() => out.list(items, 0, true),
        _ => {
            out.inline(value, 0, false);
            out.text.push('\n');
        }
    }
    out.text
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
        self.text.extend(std::iter::repeat_n(' ', indent));
    }

    fn map(&mut self, fields: &serde_json::Map<String, Value>, indent: usize, mut first: bool) {
        let mut keys: Vec<&String> = fields.keys().collect();
        keys.sort_by(|a, b| natural(a, b));
        for key in keys {
            if first {
                first = false;
            } else {
                self.indent(indent);
            }
            self.key(key, indent);
            self.value(&fields[key], indent);
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
        if text.contains('\n') && !key {
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
            self.plain(text, indent, key);
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

    fn plain(&mut self, text: &str, indent: usize, key: bool) {
        self.folded(text, indent, key, |out, c| out.push(c));
    }

    fn single(&mut self, text: &str, indent: usize, key: bool) {
        self.text.push('\'');
        self.folded(text, indent, key, |out, c| {
            if c == '\'' {
                out.push('\'');
            }
            out.push(c);
        });
        self.text.push('\'');
    }

    /// Writes text, breaking the line at single spaces past the width.
    fn folded(&mut self, text: &str, indent: usize, key: bool, push: impl Fn(&mut String, char)) {
        let chars: Vec<char> = text.chars().collect();
        let mut column = self.column();
        let mut spaces = false;
        for (i, c) in chars.iter().copied().enumerate() {
            let inner = i > 0 && i + 1 < chars.len();
            if c == ' ' && !key && !spaces && column > WIDTH && inner && chars[i + 1] != ' ' {
                self.text.push('\n');
                self.indent(indent + 2);
                column = indent + 2;
                spaces = true;
                continue;
            }
            let before = self.text.len();
            push(&mut self.text, c);
            column += self.text[before..].chars().count();
            spaces = c == ' ';
        }
    }

    fn double(&mut self, text: &str, indent: usize, key: bool) {
        self.text.push('"');
        let chars: Vec<char> = text.chars().collect();
        let mut column = self.column();
        let mut spaces = false;
        for (i, c) in chars.iter().copied().enumerate() {
            if c == ' ' && !key && !spaces && column > WIDTH && i > 0 && i + 1 < chars.len() {
                self.text.push('\n');
                self.indent(indent + 2);
                column = indent + 2;
                if chars[i + 1] == ' ' {
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

impl Shape {
    fn of(text: &str) -> Shape {
        if text.is_empty() {
            return Shape {
                plain: false,
                single: true,
                block: false,
            };
        }
        let chars: Vec<char> = text.chars().collect();
        let mut indicator = text.starts_with("---") || text.starts_with("...");
        let (mut special, mut breaks, mut space_break, mut break_space) = (false, false, false, false);
        let (mut previous_space, mut previous_break) = (false, false);
        for (i, c) in chars.iter().copied().enumerate() {
            let preceded = i == 0 || is_blank(chars[i - 1]);
            let followed = chars.get(i + 1).is_none_or(|c| is_blank(*c));
            indicator |= match c {
                '#' => preceded,
                ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' => {
                    i == 0
                }
                '?' => i == 0 && followed,
                ':' => followed,
                '-' => i == 0 && followed,
                _ => false,
            };
            special |= !is_printable(c) || !c.is_ascii() && c == '\u{feff}';
            let is_break = matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}');
            breaks |= is_break;
            if c == ' ' {
                break_space |= previous_break;
            } else if is_break {
                space_break |= previous_space;
            }
            previous_space = c == ' ';
            previous_break = is_break;
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
fn natural(a: &str, b: &str) -> std::cmp::Ordering {
    use std::cmp::Ordering;
    let (x, y): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut digits = false;
    for i in 0..x.len().min(y.len()) {
        if x[i] == y[i] {
            digits = x[i].is_numeric();
            continue;
        }
        let (al, bl) = (x[i].is_alphabetic(), y[i].is_alphabetic());
        if al && bl {
            return x[i].cmp(&y[i]);
        }
        if al || bl {
            let less = if digits { al } else { bl };
            return if less { Ordering::Less } else { Ordering::Greater };
        }
        let (mut ai, mut bi) = (i, i);
        let (mut an, mut bn) = (0i64, 0i64);
        if x[i] == '0' || y[i] == '0' {
            for j in (0..i).rev().take_while(|j| x[*j].is_numeric()) {
                if x[j] != '0' {
                    an = 1;
                    bn = 1;
                    break;
                }
            }
        }
        while ai < x.len() && x[ai].is_numeric() {
            an = an.wrapping_mul(10).wrapping_add(x[ai] as i64 - '0' as i64);
            ai += 1;
        }
        while bi < y.len() && y[bi].is_numeric() {
            bn = bn.wrapping_mul(10).wrapping_add(y[bi] as i64 - '0' as i64);
            bi += 1;
        }
        return an.cmp(&bn).then(ai.cmp(&bi)).then(x[i].cmp(&y[i]));
    }
    x.len().cmp(&y.len())
}
