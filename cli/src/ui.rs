//! Lines for people: Flux's symbols, colours only on a terminal. A closed pipe ends output quietly; any other result
//! that cannot be written fails the command. What a line holds may be somebody else's, of a commit or a cluster: it never
//! reaches the terminal as a command to it.

use std::io::{self, ErrorKind, Write};

use flotilla_core::printable::{printable_document, printable_lines};

use crate::error::CommandError;

/// Where a command writes.
pub struct Ui {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    color: bool,
    /// Why the result could not be written; nothing more is after that.
    failed: Option<io::Error>,
}

impl Ui {
    /// Makes a pair of streams; `color` when the second is a terminal, which is the one that has colours.
    pub fn new(out: Box<dyn Write>, err: Box<dyn Write>, color: bool) -> Self {
        Self {
            out,
            err,
            color,
            failed: None,
        }
    }

    /// Writes a line of the result.
    pub fn line(&mut self, text: &str) {
        self.text(&format!("{}\n", printable_lines(text)));
    }

    /// Writes a result as JSON or YAML, which ends its own lines.
    pub(crate) fn document(&mut self, text: &str) {
        self.text(&printable_document(text));
    }

    /// Writes what was made from the user's own files, as it is. It ends its own lines.
    pub fn text(&mut self, text: &str) {
        if self.failed.is_some() {
            return;
        }
        let written = self.out.write_all(text.as_bytes());
        self.failed = written.and_then(|()| self.out.flush()).err();
    }

    /// Tells whether nothing that is printed arrives any more, so that a command without an end can end.
    pub(crate) fn is_closed(&self) -> bool {
        self.failed.is_some()
    }

    /// Fails when a part of the result was not written. Whoever reads may have seen enough, as in
    /// `flotilla get … | head`: a closed pipe is no failure.
    pub(crate) fn finish(&mut self) -> Result<(), CommandError> {
        match self.failed.take() {
            Some(error) if error.kind() != ErrorKind::BrokenPipe => Err(CommandError::failed(format!(
                "cannot write to standard output: {error}"
            ))),
            _ => Ok(()),
        }
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

    /// Says what failed and what to do next: `✗` before each error, blanks before the other lines of one.
    pub(crate) fn failure(&mut self, error: &CommandError) {
        for message in std::iter::once(&error.message).chain(&error.others) {
            let mut lines = message.lines().filter(|line| !line.is_empty());
            self.progress("\u{2717}", "31", lines.next().unwrap_or_default());
            lines.for_each(|line| self.error_line(&format!("  {line}")));
        }
        for hint in &error.hints {
            self.error_line(&format!("  hint: {hint}"));
        }
    }

    /// Writes a line beside the result.
    pub fn error_line(&mut self, text: &str) {
        let _ = writeln!(self.err, "{}", printable_lines(text)).and_then(|()| self.err.flush());
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
