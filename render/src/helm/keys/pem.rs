//! PEM as Go's decoder has it: the first block of a text, whatever stands around it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "\n-----END ";
const DASHES: &str = "-----";
/// Base64 characters in a line.
const LINE: usize = 64;

/// A block of PEM.
pub(in crate::helm) struct Block {
    /// What it says it holds, such as `CERTIFICATE`.
    pub(in crate::helm) label: String,
    /// The DER inside it.
    pub(in crate::helm) bytes: Vec<u8>,
}

/// Returns the first whole block of the text: the one of the first end whose last beginning in front of it is its own.
/// Ends are looked for first, so that a text of many beginnings is gone through once.
pub(in crate::helm) fn decode(text: &str) -> Option<Block> {
    let mut from = 0;
    loop {
        let end = from + text[from..].find(END)?;
        match block(text, from, end) {
            Read::Block(block) => return Some(block),
            Read::Other => from = end + END.len(),
            Read::Nothing => return None,
        }
    }
}

/// Returns the DER in lines of 64 characters between the two marks.
pub(in crate::helm) fn encode(label: &str, bytes: &[u8]) -> String {
    let mut text = format!("{BEGIN}{label}{DASHES}\n");
    let encoded = STANDARD.encode(bytes);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(&format!("-----END {label}{DASHES}\n"));
    text
}

/// What stands in front of an end.
enum Read {
    Block(Block),
    /// No block; another end may have one.
    Other,
    /// No block, and none is looked for behind it.
    Nothing,
}

/// Reads the block between where the last one was looked for and the break of line in front of an end.
fn block(text: &str, from: usize, end: usize) -> Read {
    let Some(begin) = text[from..end].rfind(BEGIN) else {
        return Read::Other;
    };
    if begin > 0 && text.as_bytes()[from + begin - 1] != b'\n' {
        return Read::Other;
    }
    let (first, mut at) = line(text, from + begin + BEGIN.len());
    let Some(label) = first.strip_suffix(DASHES) else {
        return Read::Other;
    };
    let body = at;
    loop {
        if at == text.len() {
            return Read::Nothing;
        }
        let (header, next) = line(text, at);
        if !header.contains(':') {
            break;
        }
        at = next;
    }
    let trailer = end + END.len();
    if at > body && end < at {
        // Go looks no further where the end itself was read as a header.
        return if trailer < at { Read::Nothing } else { Read::Other };
    }
    let closes = |text: &str| {
        let behind = text
            .strip_prefix(label)
            .and_then(|text| text.strip_prefix(DASHES));
        behind.is_some_and(|behind| line(behind, 0).0.is_empty())
    };
    if !closes(&text[trailer..]) {
        return Read::Other;
    }
    // Without a line between them, the break of line in front of the end is the one behind the beginning.
    let encoded: String = text
        .get(at..end)
        .unwrap_or_default()
        .chars()
        .filter(|c| !matches!(c, ' ' | '\t'))
        .collect();
    match flotilla_core::text::base64::decode(&encoded) {
        Some(bytes) => Read::Block(Block {
            label: label.to_owned(),
            bytes,
        }),
        None => Read::Other,
    }
}

/// Returns the line that begins there, without the blanks at its end, and where the next one begins.
fn line(text: &str, from: usize) -> (&str, usize) {
    let rest = &text[from..];
    let (line, next) = match rest.find('\n') {
        Some(at) => (rest[..at].strip_suffix('\r').unwrap_or(&rest[..at]), at + 1),
        None => (rest, rest.len()),
    };
    (line.trim_end_matches([' ', '\t']), from + next)
}

#[cfg(test)]
mod tests {
    use super::decode;

    /// What Go 1.26 makes of the same texts.
    #[test]
    fn pem_is_read_as_go_reads_it() {
        for (text, wanted) in [
            ("-----BEGIN A-----\nYQ==\n-----END A-----\n", Some(("A", "a"))),
            ("-----BEGIN A-----\nYR==\n-----END A-----", Some(("A", "a"))),
            (
                "x\n-----BEGIN A----- \r\n Y Q\t==\r\n-----END A-----\t\r\n",
                Some(("A", "a")),
            ),
            (
                "-----BEGIN A-----\nk: v\n\nYQ==\n-----END A-----\n",
                Some(("A", "a")),
            ),
            ("-----BEGIN A-----\n-----END A-----\n", Some(("A", ""))),
            (
                "-----BEGIN A-----\n-----BEGIN B-----\nYQ==\n-----END B-----\n",
                Some(("B", "a")),
            ),
            (
                "-----BEGIN A-----\nYQ==\n-----END B-----\n-----BEGIN A-----\nYg==\n-----END A-----\n",
                Some(("A", "b")),
            ),
            (
                "-----BEGIN A-----\n-----BEGIN B-----\nYQ==\n-----END A-----\n",
                None,
            ),
            ("x-----BEGIN A-----\nYQ==\n-----END A-----\n", None),
            ("-----BEGIN A-----\nYQ==\n-----END A-----x\n", None),
            ("-----BEGIN A\nYQ==\n-----END A-----\n", None),
            ("-----BEGIN A-----\nY!==\n-----END A-----\n", None),
            ("-----BEGIN A-----\nk: v\n-----END A-----\n", None),
            (
                "-----BEGIN A:B-----\n-----END A:B-----\n-----BEGIN C-----\nYQ==\n-----END C-----\n",
                None,
            ),
            ("-----BEGIN A-----\nYQ==\n", None),
            ("", None),
        ] {
            let block = decode(text);
            let read = block
                .as_ref()
                .map(|block| (block.label.as_str(), block.bytes.as_slice()));
            assert_eq!(
                read,
                wanted.map(|(label, bytes)| (label, bytes.as_bytes())),
                "{text:?}"
            );
        }
    }
}
