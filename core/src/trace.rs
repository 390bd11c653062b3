//! The trace of a revision: everybody who handles it derives the same identifier from its name, so that hub and
//! agents of any version share one trace without sending it to each other. The form is W3C Trace Context's.

use std::fmt;

use crate::digest::Digest;

/// The trace of one revision, from its fetch to the last cluster that applied it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// Trace id: 16 bytes, never all zero.
    pub id: [u8; 16],
    /// Span id that all steps have as their parent: 8 bytes, never all zero.
    pub root: [u8; 8],
}

impl Trace {
    /// Derives the trace of a revision as its source names it, e.g. `main@sha1:…`; none for an empty one.
    pub fn of_revision(revision: &str) -> Option<Self> {
        if revision.is_empty() {
            return None;
        }
        let digest = Digest::of("trace", revision.as_bytes());
        let (mut id, mut root) = ([0; 16], [0; 8]);
        id.copy_from_slice(&digest.as_bytes()[..16]);
        root.copy_from_slice(&digest.as_bytes()[16..24]);
        // All zero means "no trace"; one bit keeps the promise of the fields above.
        id[15] |= 1;
        root[7] |= 1;
        Some(Self { id, root })
    }
}

impl fmt::Display for Trace {
    /// 32 lower-case hexadecimal digits, as trace viewers and logs write them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_has_one_trace_wherever_it_is_derived() {
        let revision = "main@sha1:0123456789012345678901234567890123456789";
        let trace = Trace::of_revision(revision).expect("a trace");
        // Agents in the field derive this too: it must never change.
        assert_eq!(trace.to_string(), "90ed2bf98c5e142c4af01aca0222f591");
        assert_ne!(Some(trace), Trace::of_revision("main@sha1:1"));
        assert_eq!(Trace::of_revision(""), None);
    }
}
