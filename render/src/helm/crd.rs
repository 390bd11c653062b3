//! Definitions of custom resources that come with a chart.

use std::borrow::Cow;
use std::sync::Arc;

/// A file below `crds/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crd {
    /// The path that output names, beginning with the chart's name.
    pub path: String,
    /// What the file holds, shared by all names that its chart has.
    pub data: Arc<[u8]>,
}

impl Crd {
    /// Returns the content as text, with U+FFFD in place of what is not UTF-8.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.data)
    }
}
