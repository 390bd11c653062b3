//! INI as `gopkg.in/ini.v1` reads and writes it for SOPS: a list of sections, each with its names and values.

use super::{Format, scalar_text};
use crate::{
    error::Error,
    tree::{Field, Node},
};

/// The section of what stands above all sections.
const DEFAULT: &str = "DEFAULT";

/// Reads sections. The one without a name is always the first.
pub(super) fn read(content: &[u8]) -> Result<Vec<Field>, Error> {
    let text = std::str::from_utf8(content).map_err(|_| Format::Ini.unreadable("it is not UTF-8"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader {
        lines: text.split_inclusive('\n').enumerate().collect(),
        next: 0,
        comment: String::new(),
    };
    let mut sections: Vec<(String, Vec<Field>)> = vec![(DEFAULT.to_owned(), Vec::new())];
    while let Some((index, line)) = reader.line() {
        let line = line.trim_start();
        let bad = |why: &str| Format::Ini.unreadable(format!("line {}: {why}", index + 1));
        if line.is_empty() {
            continue;
        }
        if line.starts_with(['#', ';']) {
            reader.comment.push_str(line);
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            let (name, behind) = rest
                .rsplit_once(']')
                .ok_or_else(|| bad("the section's name is not closed"))?;
            reader.comment_behind(behind);
            let mut fields = Vec::new();
            fields.extend(reader.take_comment());
            match name {
                DEFAULT => sections[0].1.extend(fields),
                _ => sections.push((name.to_owned(), fields)),
            }
            continue;
        }
        let (name, rest) = key(line).ok_or_else(|| bad("no name and '=' in it"))?;
        let value = reader.value(rest).ok_or_else(|| bad("a quote is not closed"))?;
        let Some((_, fields)) = sections.last_mut() else {
            continue;
        };
        let comment = reader.take_comment();
        let known = fields
            .iter_mut()
            .find(|field| matches!(field, Field::Value(known, _) if *known == name));
        match known {
            Some(known) => *known = Field::Value(name, Node::text(&value)),
            None => fields.push(Field::Value(name, Node::text(&value))),
        }
        fields.extend(comment);
    }
    let sections = sections.into_iter();
    Ok(sections
        .map(|(name, fields)| Field::Value(name, Node::Map(fields)))
        .collect())
}

/// The name before `=` or `:`, and what follows.
fn key(line: &str) -> Option<(String, &str)> {
    let quote = match () {
        () if line.starts_with("\"\"\"") && line.len() > 6 => "\"\"\"",
        () if line.starts_with('"') => "\"",
        () if line.starts_with('`') => "`",
        () => "",
    };
    if quote.is_empty() {
        let at = line.find(['=', ':']).filter(|at| *at > 0)?;
        return Some((line[..at].trim().to_owned(), &line[at + 1..]));
    }
    let (name, rest) = line.strip_prefix(quote)?.split_once(quote)?;
    let at = rest.find(['=', ':'])?;
    Some((name.trim().to_owned(), &rest[at + 1..]))
}

struct Reader<'a> {
    lines: Vec<(usize, &'a str)>,
    next: usize,
    /// Comments since the last name.
    comment: String,
}

impl<'a> Reader<'a> {
    fn line(&mut self) -> Option<(usize, &'a str)> {
        let line = self.lines.get(self.next).copied();
        self.next += 1;
        line
    }

    fn comment_behind(&mut self, text: &str) {
        if let Some(at) = text.find(['#', ';']) {
            self.comment.push_str(&text[at..]);
        }
    }

    fn take_comment(&mut self) -> Option<Field> {
        let comment = std::mem::take(&mut self.comment);
        let comment = comment.trim();
        let text = match comment.chars().next()? {
            ';' => comment.trim_start_matches([';', ' ']),
            _ => comment.trim_start_matches(['#', ' ']),
        };
        Some(Field::Comment(text.as_bytes().to_vec()))
    }

    /// Reads a value; `None`: a quote in it is not closed.
    fn value(&mut self, rest: &str) -> Option<String> {
        let line = rest.trim_start();
        let quote = match () {
            () if line.starts_with("\"\"\"") && line.len() > 3 => "\"\"\"",
            () if line.starts_with('`') => "`",
            () => "",
        };
        if let Some(quoted) = line.strip_prefix(quote).filter(|_| !quote.is_empty()) {
            if let Some((value, _)) = quoted.rsplit_once(quote) {
                return Some(value.to_owned());
            }
            let mut value = quoted.to_owned();
            loop {
                let (_, next) = self.line()?;
                match next.rsplit_once(quote) {
                    Some((_, behind)) if behind.trim().ends_with('\\') => value.push_str(next),
                    Some((end, behind)) => {
                        value.push_str(end);
                        self.comment_behind(behind.trim());
                        return Some(value);
                    }
                    None => value.push_str(next),
                }
            }
        }
        let line = line.trim();
        if let Some(begun) = line.strip_suffix('\\') {
            return Some(self.continued(begun));
        }
        let value = match line.find(['#', ';']) {
            Some(at) => {
                self.comment.push_str(&line[at..]);
                line[..at].trim()
            }
            None => line,
        };
        let unquoted = ['\'', '"'].into_iter().find_map(|quote| {
            let inner = value.strip_prefix(quote)?.strip_suffix(quote)?;
            (!inner.contains(quote)).then_some(inner)
        });
        Some(unquoted.unwrap_or(value).to_owned())
    }

    fn continued(&mut self, begun: &str) -> String {
        let mut value = begun.to_owned();
        while let Some((_, next)) = self.line() {
            let next = next.trim();
            value.push_str(next);
            if next.is_empty() || !value.ends_with('\\') {
                break;
            }
            value.pop();
        }
        value
    }
}

/// Writes sections, the signs between names and values below each other.
pub(super) fn write(sections: &[Field]) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    let sections: Vec<(&String, &Node)> = sections
        .iter()
        .filter_map(|section| match section {
            Field::Value(name, fields) => Some((name, fields)),
            Field::Comment(_) => None,
        })
        .collect();
    for (index, (name, fields)) in sections.iter().enumerate() {
        let Node::Map(fields) = fields else {
            return Err(Format::Ini.inexpressible("a section is no map"));
        };
        section(&mut out, name, fields, index == 0)?;
        let is_left_out = index == 0 && is_default(name) && fields.is_empty();
        if index + 1 < sections.len() && !is_left_out {
            out.push(b'\n');
        }
    }
    Ok(out)
}

fn is_default(name: &str) -> bool {
    name.eq_ignore_ascii_case(DEFAULT)
}

fn section(out: &mut Vec<u8>, name: &str, fields: &[Field], is_first: bool) -> Result<(), Error> {
    let mut fields = fields.iter().peekable();
    if let Some(Field::Comment(text)) = fields.peek() {
        comment(out, text);
        fields.next();
    }
    if !is_first || !is_default(name) {
        out.extend_from_slice(format!("[{name}]\n").as_bytes());
    }
    // A comment stands before the name that it follows in the tree.
    let mut named: Vec<(&String, &Node, Option<&Vec<u8>>)> = Vec::new();
    for field in fields {
        match field {
            Field::Value(name, value) => named.push((name, value, None)),
            Field::Comment(text) => {
                if let Some((_, _, comment)) = named.last_mut() {
                    *comment = Some(text);
                }
            }
        }
    }
    let names = named.iter().map(|(name, ..)| quoted_name(name));
    let names: Vec<String> = names.collect();
    let width = names.iter().map(String::len).max().unwrap_or_default();
    for ((_, value, text), name) in named.iter().zip(names) {
        if let Some(text) = text {
            comment(out, text);
        }
        let value = scalar_text(value)
            .ok_or_else(|| Format::Ini.inexpressible("a value is no text, number or truth"))?;
        out.extend_from_slice(name.as_bytes());
        out.extend(std::iter::repeat_n(b' ', width - name.len()));
        out.extend_from_slice(b" = ");
        quoted_value(out, &value);
        out.push(b'\n');
    }
    Ok(())
}

fn quoted_name(name: &str) -> String {
    match () {
        () if name.contains(['"', '=', ':']) => format!("`{name}`"),
        () if name.contains('`') => format!("\"\"\"{name}\"\"\""),
        () => name.to_owned(),
    }
}

fn quoted_value(out: &mut Vec<u8>, value: &[u8]) {
    let holds = |signs: &[u8]| value.iter().any(|byte| signs.contains(byte));
    let quote: &[u8] = match () {
        () if holds(b"\n`") => b"\"\"\"",
        () if holds(b"#;") => b"`",
        () if value.trim_ascii().len() != value.len() => b"\"",
        () => b"",
    };
    out.extend_from_slice(quote);
    out.extend_from_slice(value);
    out.extend_from_slice(quote);
}

fn comment(out: &mut Vec<u8>, text: &[u8]) {
    for line in text.split(|byte| *byte == b'\n') {
        match line.first() {
            Some(sign @ (b'#' | b';')) => {
                out.extend_from_slice(&[*sign, b' ']);
                out.extend_from_slice(line[1..].trim_ascii());
            }
            _ => {
                out.extend_from_slice(b"; ");
                out.extend_from_slice(line.trim_ascii());
            }
        }
        out.push(b'\n');
    }
}
