//! Finds keys that an error is about in the file they were read from.

use std::collections::HashSet;

use crate::Version;
use crate::parse::{Event, Parser, Style};

/// An open list or map.
enum Open {
    List,
    /// A map, its keys so far, and whether a value is next.
    Map(HashSet<String>, bool),
}

/// Returns the line of the second `key` in a map of a file; none when there is none.
pub fn duplicate_line(bytes: &[u8], key: &str) -> Option<usize> {
    key_line(bytes, |event, before| match event {
        Event::Scalar(scalar) => scalar.text == key && before.contains(key),
        _ => false,
    })
}

/// Returns the line of the first key of a file that is this text, and not in quotes.
pub fn plain_key_line(bytes: &[u8], key: &str) -> Option<usize> {
    key_line(bytes, |event, _| match event {
        Event::Scalar(scalar) => scalar.text == key && scalar.style == Style::Plain,
        _ => false,
    })
}

/// Returns the line of the first map or list of a file that stands in the place of a key.
pub fn collection_key_line(bytes: &[u8]) -> Option<usize> {
    key_line(bytes, |event, _| {
        matches!(event, Event::SequenceStart(_) | Event::MappingStart(_))
    })
}

/// Returns the line of the first key of a file that is wanted, which sees the keys in front of it in its map.
fn key_line(bytes: &[u8], wanted: impl Fn(&Event<'_>, &HashSet<String>) -> bool) -> Option<usize> {
    let text = crate::decode(bytes).ok()?;
    let mut parser = Parser::new(&text, Version::V3);
    let mut open: Vec<Open> = Vec::new();
    loop {
        let (event, line) = parser.next().ok()?;
        let is_node = matches!(
            event,
            Event::Scalar(_) | Event::Alias(_) | Event::SequenceStart(_) | Event::MappingStart(_)
        );
        if let (true, Some(Open::Map(keys, value_is_next))) = (is_node, open.last_mut()) {
            if !*value_is_next {
                if wanted(&event, keys) {
                    return Some(line);
                }
                if let Event::Scalar(scalar) = &event {
                    keys.insert(scalar.text.to_string());
                }
            }
            *value_is_next = !*value_is_next;
        }
        match event {
            Event::StreamEnd => return None,
            Event::SequenceStart(_) => open.push(Open::List),
            Event::MappingStart(_) => open.push(Open::Map(HashSet::new(), false)),
            Event::SequenceEnd | Event::MappingEnd => _ = open.pop(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{collection_key_line, duplicate_line, plain_key_line};

    #[test]
    fn the_second_of_two_keys_is_found_where_it_stands() {
        let file = b"a: {b: 1}\nc:\n- b: 1\n- b: 2\n---\nd:\n  b: 1\n  x: {b: 1}\n  b: 2\n";
        assert_eq!(duplicate_line(file, "b"), Some(9));
        assert_eq!(duplicate_line(file, "x"), None);
        assert_eq!(duplicate_line(b"a: b\nx: a\na: c\n", "a"), Some(3));
    }

    #[test]
    fn keys_that_are_no_texts_are_found_where_they_stand() {
        let file = b"a: 1\nb:\n  '2': x\n  2: y\n---\nx: {c: {{ .Values.y }}}\n";
        assert_eq!(plain_key_line(file, "2"), Some(4));
        assert_eq!(plain_key_line(file, "3"), None);
        assert_eq!(collection_key_line(file), Some(6));
        assert_eq!(collection_key_line(b"a: {b: [c]}\n"), None);
    }
}
