//! What happened, for people: shown when a seed fails.

use std::{cell::RefCell, rc::Rc};

/// The last lines of a story. Shared, so that they are there when a step panics.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trace(Option<Rc<RefCell<Vec<String>>>>);

impl Trace {
    /// One that keeps what is said.
    pub(crate) fn kept() -> Self {
        Self(Some(Rc::default()))
    }

    /// Says something; it is put into words only where they are kept.
    pub(crate) fn say(&self, words: impl FnOnce() -> String) {
        if let Some(lines) = &self.0 {
            lines.borrow_mut().push(words());
        }
    }

    pub(crate) fn text(&self) -> String {
        let lines = self.0.as_ref().map(|lines| lines.borrow().join("\n"));
        lines.unwrap_or_default()
    }
}
