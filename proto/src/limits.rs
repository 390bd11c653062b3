//! Bounds of what an agent says, known to both sides: the agent stays within them, the hub takes no more.

use std::time::Duration;

/// Bytes of one report.
pub const REPORT_BYTES: usize = 1 << 20;
/// Rows of one report: units and objects together, and as many events.
pub const REPORT_ROWS: usize = 2000;
/// Bytes of a unit's or a condition's message.
pub const MESSAGE_BYTES: usize = 4096;
/// Bytes of an object's or an event's message.
pub const OBJECT_MESSAGE_BYTES: usize = 1024;
/// Bytes of a part of an object's key: Kubernetes takes none longer.
pub const NAME_BYTES: usize = 253;
/// Bytes of a word: a reason, a state, a version, a UID.
pub const WORD_BYTES: usize = 128;
/// Bytes of one message from the hub: the entries of all units.
pub const DESIRED_BYTES: usize = 32 << 20;

/// So often an agent asks whether its hub is there. The hub takes one of which it hears nothing for so long, and as long
/// again or nearly, for gone.
pub const ASKED_EVERY: Duration = Duration::from_secs(40);

/// Cuts `text` to at most `max` bytes, the mark of the cut included.
pub fn cut(text: &mut String, max: usize) {
    const MARK: char = '…';
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max.saturating_sub(MARK.len_utf8())));
        text.push(MARK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_text_is_within_the_bound_and_marked() {
        let mut text = "ä".repeat(10);
        cut(&mut text, 20);
        assert_eq!(text.len(), 20, "it fits");
        cut(&mut text, 10);
        assert_eq!(text, "äää…");
    }
}
