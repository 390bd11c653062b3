//! What stopped a template, with the errors it wraps, so that rendering can word it as Helm does.
//!
//! Each error that wraps another keeps its own words alone: the text of all of them is made once, at the end. Of very
//! many that wrap each other the innermost and the outermost are kept, so that they take bounded memory.

use std::collections::VecDeque;
use std::fmt::{self, Display, Write};
use std::mem::size_of;
use std::rc::Rc;

use super::ast::Source;
use super::quote::quote;

/// The most bytes that the innermost errors take, and as many again the outermost. A function that calls itself a
/// thousand times, which is as often as it may, takes fewer.
const MAX_KEPT: usize = 128 * 1024;
/// How many bytes of a source, a name or a node an error shows.
const MAX_SHOWN: usize = 4096;

/// An error of a function or of an execution.
#[derive(Debug)]
pub(super) struct ExecError {
    /// The innermost error, and those around it outwards.
    inner: Kept,
    /// Those around these, the last ones of them.
    outer: Kept,
    /// How many between the two are left out.
    left_out: usize,
    /// Whether one of those is a function's.
    function_left_out: bool,
}

/// Some of the errors that wrap each other.
#[derive(Debug, Default)]
struct Kept {
    levels: VecDeque<Level>,
    bytes: usize,
}

/// One of the errors that wrap each other: what it says itself, in front of what the next one says.
#[derive(Debug)]
pub(super) struct Level {
    /// The place in a template whose execution says it; none for a function. Lines are counted only in what is shown.
    place: Option<(Rc<Source>, usize)>,
    text: String,
}

impl Level {
    /// Returns what the execution of the template of that name says at a node.
    pub(super) fn executing(
        (source, pos): (&Rc<Source>, usize),
        name: &str,
        node: &dyn Display,
        message: impl Display,
    ) -> Level {
        let (name, node) = (quote_beginning(name), beginning(node));
        Level {
            place: Some((source.clone(), pos)),
            text: format!("executing {name} at <{node}>: {message}"),
        }
    }

    /// Returns what a function says.
    pub(super) fn of_function(text: String) -> Level {
        Level { place: None, text }
    }

    fn bytes(&self) -> usize {
        size_of::<Level>() + self.text.len()
    }

    fn text(&self) -> String {
        match &self.place {
            Some((source, pos)) => format!("template: {}: {}", source.location(*pos), self.text),
            None => self.text.clone(),
        }
    }
}

impl Kept {
    fn push(&mut self, level: Level) {
        self.bytes += level.bytes();
        self.levels.push_back(level);
    }
}

impl ExecError {
    /// Returns the error of a function.
    pub(super) fn plain(text: String) -> Box<ExecError> {
        ExecError::new(Level::of_function(text))
    }

    /// Returns an error that wraps none.
    pub(super) fn new(level: Level) -> Box<ExecError> {
        let mut inner = Kept::default();
        inner.push(level);
        Box::new(ExecError {
            inner,
            outer: Kept::default(),
            left_out: 0,
            function_left_out: false,
        })
    }

    /// Wraps the error into one that says this in front of it.
    pub(super) fn within(mut self: Box<Self>, level: Level) -> Box<ExecError> {
        if self.outer.levels.is_empty() && self.inner.bytes < MAX_KEPT {
            self.inner.push(level);
            return self;
        }
        self.outer.push(level);
        while self.outer.bytes > MAX_KEPT {
            let Some(level) = self.outer.levels.pop_front() else {
                break;
            };
            self.outer.bytes -= level.bytes();
            self.left_out += 1;
            self.function_left_out |= level.place.is_none();
        }
        self
    }

    /// Returns the texts of the errors that are kept, from the outermost on, and how many were left out in front of each.
    fn texts(&self) -> impl Iterator<Item = (usize, String)> {
        let first_of_inner = self.inner.levels.len().saturating_sub(1);
        let inner = self.inner.levels.iter().enumerate().rev();
        let inner = inner.map(move |(at, level)| match at == first_of_inner {
            true => (self.left_out, level.text()),
            false => (0, level.text()),
        });
        let outer = self.outer.levels.iter().rev();
        outer.map(|level| (0, level.text())).chain(inner)
    }

    /// Returns the whole text, that of all it wraps included.
    pub(super) fn text(&self) -> String {
        let mut whole = String::new();
        for (left_out, text) in self.texts() {
            if left_out > 0 {
                whole.push_str(&format!("({left_out} more are left out): "));
            }
            whole.push_str(&text);
        }
        whole
    }

    /// Returns whether a template's execution says it, not a function.
    fn is_of_execution(&self) -> bool {
        let outermost = self.outer.levels.back().or(self.inner.levels.back());
        outermost.is_some_and(|level| level.place.is_some())
    }

    /// Returns the places of the executions one after the other, as Helm lists them; none where an error between them
    /// is a function's.
    fn traces(&self) -> Option<String> {
        if self.function_left_out {
            return None;
        }
        let mut traces: Vec<String> = Vec::new();
        let mut texts = self.texts().peekable();
        while let Some((left_out, text)) = texts.next() {
            // An execution's text ends where that of the next begins.
            let next = texts.peek().map_or("", |(_, text)| text.as_str());
            let trace = trace(&format!("{text}{next}"))?;
            if left_out > 0 {
                traces.push(format!("({left_out} more are left out)\n"));
            }
            if traces.last() != Some(&trace) {
                traces.push(trace);
            }
        }
        Some(traces.concat().trim().to_owned())
    }
}

impl From<String> for Box<ExecError> {
    fn from(text: String) -> Self {
        ExecError::plain(text)
    }
}

/// Returns a text in double quotes, as Go's `%q`; of a long one, its beginning.
pub(super) fn quote_beginning(text: &str) -> String {
    quote(&beginning(&text))
}

/// Returns what is written of something, or its beginning where that is long.
fn beginning(shown: &dyn Display) -> String {
    let mut beginning = Beginning(String::new());
    // It fails where it has enough.
    match write!(beginning, "{shown}") {
        Ok(()) => beginning.0,
        Err(fmt::Error) => beginning.0 + "…",
    }
}

struct Beginning(String);

impl Write for Beginning {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MAX_SHOWN - self.0.len();
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        Err(fmt::Error)
    }
}

/// What `fail` and `required` put around their message; only what is between is shown.
pub(super) const WARN_START: &str = "HELM_ERR_START";
pub(super) const WARN_END: &str = "HELM_ERR_END";

/// Returns the error of rendering a file as Helm prints it.
pub(super) fn reformat(filename: &str, fault: &ExecError) -> String {
    let whole = fault.text();
    if !fault.is_of_execution() {
        return whole;
    }
    let mut tokens = whole.splitn(3, ": ");
    let (Some(_), Some(location), Some(rest)) = (tokens.next(), tokens.next(), tokens.next()) else {
        return format!("execution error in ({filename}): {whole}");
    };
    if let Some(message) = warned(rest) {
        return format!("execution error at ({location}): {message}");
    }
    fault.traces().unwrap_or(whole)
}

fn warned(text: &str) -> Option<&str> {
    let start = text.find(WARN_START)? + WARN_START.len();
    let end = text.rfind(WARN_END)?;
    text.get(start..end)
}

/// Takes an execution's error apart into a location, what was executed, and the message, each on its line.
fn trace(text: &str) -> Option<String> {
    let rest = text.strip_prefix("template: ")?;
    if rest.starts_with("no template ") {
        return Some(format!("{text}\n"));
    }
    let cut = |message: &str| message.split(" template:").next().unwrap_or_default().to_owned();
    if let Some((location, after)) = rest.split_once(": executing \"") {
        let (function, after) = after.split_once('"')?;
        let (at, message) = after.strip_prefix(" at <")?.split_once(">: ")?;
        let message = cut(message);
        let mut trace = format!("{location}\n  executing \"{function}\" at <{at}>:\n    ");
        if !message.is_empty() {
            trace.push_str(&message);
            trace.push('\n');
        }
        return Some(trace);
    }
    let (location, message) = rest.rsplit_once(": ")?;
    Some(format!("{location}\n  {}\n", cut(message)))
}

/// Returns the error of parsing a file as Helm prints it.
pub(super) fn reformat_parse(filename: &str, text: &str) -> String {
    let tokens: Vec<&str> = text.split(": ").collect();
    match tokens[..] {
        [_] => format!("parse error in ({filename}): {text}"),
        [_, location, ..] => format!("parse error at ({location}): {}", tokens[tokens.len() - 1]),
        [] => text.to_owned(),
    }
}
