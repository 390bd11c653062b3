//! Lines for people: Flux's symbols, colours only on a terminal. A closed pipe ends output quietly. What a line holds
//! may be somebody else's, of a commit or a cluster: it never reaches the terminal as a command to it.

use std::io::Write;

use flotilla_core::printable::{printable_document, printable_lines};

use crate::error::CommandError;

/// Where a command writes.
pub struct Ui {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    color: bool,
}

impl Ui {
    /// Makes a pair of streams; `color` when the first is a terminal.
    pub fn new(out: Box<dyn Write>, err: Box<dyn Write>, color: bool) -> Self {
        Self { out, err, color }
    }

    /// Writes a line of the result.
    pub fn line(&mut self, text: &str) {
        write(&mut *self.out, text);
    }

    /// Writes a result as JSON or YAML, which ends its own lines.
    pub(crate) fn document(&mut self, text: &str) {
        self.text(&printable_document(text));
    }

    /// Writes what was made from the user's own files, as it is. It ends its own lines.
    pub fn text(&mut self, text: &str) {
        // Whoever reads may have seen enough, as in `flotilla get … | head`.
        let _ = self
            .out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush());
    }

    /// Says what is being done: `►`.
    pub fn action(&mut self, text: &str) {
        self.progress("\u{25ba}", "36", text);
    }

    /// Says what was done: `✔`.
    pub fn success(&mut self, text: &str) {
        self.progress("\u{2714}", "32", text);
    }

    /// Says what is waited for: `◎`.
    pub fn waiting(&mut self, text: &str) {
        self.progress("\u{25ce}", "33", text);
    }

    /// Says what deserves attention: `⚠️`.
    pub fn warning(&mut self, text: &str) {
        self.progress("\u{26a0}\u{fe0f}", "33", text);
    }

    /// Says what failed, a line each with `✗`, and what to do next.
    pub(crate) fn failure(&mut self, error: &CommandError) {
        for line in error.message.lines() {
            self.progress("\u{2717}", "31", line);
        }
        for hint in &error.hints {
            write(&mut *self.err, &format!("  hint: {hint}"));
        }
    }

    /// Writes a line beside the result.
    pub fn error_line(&mut self, text: &str) {
        write(&mut *self.err, text);
    }

    /// Progress goes beside the result, so that the result can be piped on.
    fn progress(&mut self, symbol: &str, color: &str, text: &str) {
        let (begin, end) = match self.color {
            true => (format!("\x1b[{color}m"), "\x1b[0m"),
            false => (String::new(), ""),
        };
        let line = printable_lines(text);
        let _ = writeln!(self.err, "{begin}{symbol}{end} {line}").and_then(|()| self.err.flush());
    }
}

fn write(stream: &mut dyn Write, line: &str) {
    let _ = writeln!(stream, "{}", printable_lines(line)).and_then(|()| stream.flush());
}
