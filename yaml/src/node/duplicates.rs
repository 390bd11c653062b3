//! Finds where a key stands twice in one map, for the words of an error.

use std::collections::HashSet;

use crate::Version;
use crate::parse::{Event, Parser};

/// An open list or map.
enum Open {
    List,
    /// A map, its keys so far, and whether a value is next.
    Map(HashSet<String>, bool),
}

/// Returns the line of the second `key` in a map of a file; none when there is none.
pub fn duplicate_line(bytes: &[u8], key: &str) -> Option<usize> {
    let text = crate::decode(bytes).ok()?;
    let mut parser = Parser::new(&text, Version::V3);
    let mut open: Vec<Open> = Vec::new();
    loop {
        let (event, line) = parser.next().ok()?;
        let scalar = match &event {
            Event::Scalar(scalar) => Some(&*scalar.text),
            _ => None,
        };
        let is_node = matches!(
            event,
            Event::Scalar(_) | Event::Alias(_) | Event::SequenceStart(_) | Event::MappingStart(_)
        );
        if let (true, Some(Open::Map(keys, value_is_next))) = (is_node, open.last_mut()) {
            if !*value_is_next
                && let Some(text) = scalar
                && !keys.insert(text.to_owned())
                && text == key
            {
                return Some(line);
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
    use super::duplicate_line;

    #[test]
    fn the_second_of_two_keys_is_found_where_it_stands() {
        let file = b"a: {b: 1}\nc:\n- b: 1\n- b: 2\n---\nd:\n  b: 1\n  x: {b: 1}\n  b: 2\n";
        assert_eq!(duplicate_line(file, "b"), Some(9));
        assert_eq!(duplicate_line(file, "x"), None);
        assert_eq!(duplicate_line(b"a: b\nx: a\na: c\n", "a"), Some(3));
    }
}
