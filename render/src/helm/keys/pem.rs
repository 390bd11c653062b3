//! PEM as Go's decoder has it: the first block of a text, whatever stands around it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const BEGIN: &str = "-----BEGIN ";
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

/// Returns the first whole block of the text.
pub(in crate::helm) fn decode(text: &str) -> Option<Block> {
    let mut rest = text;
    while let Some(start) = find_line(rest, BEGIN) {
        rest = &rest[start + BEGIN.len()..];
        if let Some(block) = block(rest) {
            return Some(block);
        }
    }
    None
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

/// Returns where a line starts with `mark`.
fn find_line(text: &str, mark: &str) -> Option<usize> {
    text.match_indices(mark)
        .map(|(at, _)| at)
        .find(|at| *at == 0 || text.as_bytes()[at - 1] == b'\n')
}

/// Reads a block from behind its first mark.
fn block(text: &str) -> Option<Block> {
    let (first, body) = text.split_once('\n')?;
    let label = first.trim_end().strip_suffix(DASHES)?;
    let end = find_line(body, &format!("-----END {label}{DASHES}"))?;
    let lines = body[..end].lines().skip_while(|line| line.contains(':'));
    let encoded: String = lines
        .flat_map(|line| line.chars().filter(|c| !c.is_ascii_whitespace()))
        .collect();
    Some(Block {
        label: label.to_owned(),
        bytes: STANDARD.decode(encoded).ok()?,
    })
}
