//! Errors as one line of text with their causes.

use std::error::Error;

/// Longest text: what a server repeats back at us may be long.
const MAX: usize = 1024;

/// Writes an error with its causes. A cause whose text the error has already is left out.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    if text.len() > MAX {
        let end = text.floor_char_boundary(MAX);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: String,
        #[source]
        source: Option<Box<Layer>>,
    }

    fn layer(text: &str, source: Option<Layer>) -> Layer {
        Layer {
            text: text.into(),
            source: source.map(Box::new),
        }
    }

    #[test]
    fn causes_follow_the_error_and_no_text_stands_twice() {
        let error = layer(
            "cannot connect: refused",
            Some(layer("refused", Some(layer("os error 111", None)))),
        );
        assert_eq!(with_causes(&error), "cannot connect: refused: os error 111");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = with_causes(&layer(&"é".repeat(MAX), None));
        assert!(text.len() <= MAX + '…'.len_utf8() && text.ends_with('…'));
    }
}
