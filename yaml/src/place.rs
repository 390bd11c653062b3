//! Finds where fields and items stand, for those who say what is wrong with them.

use crate::Version;
use crate::parse::{Event, Parser};

/// What nests deeper is not looked into; readers refuse it long before.
const MAX_DEPTH: usize = 1000;

/// A node of a document, and where it begins.
#[derive(Debug, Default)]
pub struct Place {
    line: usize,
    /// The fields of a map by their written keys, or the items of a list with no names.
    children: Vec<(Option<String>, Place)>,
}

impl Place {
    /// Returns the line from 1: of a field, where its key stands.
    pub fn line(&self) -> usize {
        self.line
    }

    /// Returns the first field of a name.
    pub fn field(&self, name: &str) -> Option<&Place> {
        let found = self.children.iter().find(|(key, _)| key.as_deref() == Some(name));
        found.map(|(_, place)| place)
    }

    /// Returns the first field of a name, or else the first that differs from it only in case.
    pub fn field_in_any_case(&self, name: &str) -> Option<&Place> {
        let is_alike = |key: &Option<String>| key.as_ref().is_some_and(|key| key.eq_ignore_ascii_case(name));
        let alike = || self.children.iter().find(|(key, _)| is_alike(key));
        self.field(name).or_else(|| alike().map(|(_, place)| place))
    }

    /// Returns an item of a list, from 0.
    pub fn item(&self, index: usize) -> Option<&Place> {
        let (key, place) = self.children.get(index)?;
        key.is_none().then_some(place)
    }
}

/// Returns where everything in the first document stands, as far as the text is YAML. What an alias repeats stands
/// where the alias does.
pub fn places(text: &str) -> Place {
    let mut parser = Parser::new(text, Version::V2);
    let mut open: Vec<Open> = Vec::new();
    while let Ok((event, line)) = parser.next() {
        let scalar = match event {
            Event::MappingStart(_) | Event::SequenceStart(_) if open.len() == MAX_DEPTH => break,
            Event::MappingStart(_) | Event::SequenceStart(_) => {
                open.push(Open {
                    place: Place {
                        line,
                        children: Vec::new(),
                    },
                    is_map: matches!(event, Event::MappingStart(_)),
                    key: None,
                });
                continue;
            }
            Event::MappingEnd | Event::SequenceEnd => {
                let Some(done) = open.pop() else { break };
                match open.last_mut() {
                    Some(parent) => parent.take(None, done.place),
                    None => return done.place,
                }
                continue;
            }
            Event::Scalar(scalar) => Some(scalar.text.into_owned()),
            Event::Alias(_) => None,
            Event::DocumentStart => continue,
            Event::DocumentEnd | Event::StreamEnd => break,
        };
        let place = Place {
            line,
            children: Vec::new(),
        };
        match open.last_mut() {
            Some(parent) => parent.take(scalar, place),
            None => return place,
        }
    }
    open.into_iter()
        .next()
        .map(|first| first.place)
        .unwrap_or_default()
}

/// A map or list whose end has not come yet.
struct Open {
    place: Place,
    is_map: bool,
    /// The key that waits for its value, and its line.
    key: Option<(String, usize)>,
}

impl Open {
    /// Takes the next node: an item, a key, or the value of the waiting key.
    fn take(&mut self, scalar: Option<String>, mut place: Place) {
        if !self.is_map {
            self.place.children.push((None, place));
            return;
        }
        match self.key.take() {
            Some((key, line)) => {
                place.line = line;
                self.place.children.push((Some(key), place));
            }
            None => self.key = Some((scalar.unwrap_or_default(), place.line)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::places;

    #[test]
    fn fields_and_items_are_found_where_they_stand() {
        let text = "---\na:\n  - b: |\n      x\n    c:\n      1\n  - *x\n\"d\": {e: [1,\n  2]}\n";
        let root = places(text);
        let item = |index| root.field("a").and_then(|a| a.item(index));
        assert_eq!(item(0).map(|item| item.line()), Some(3));
        assert_eq!(
            item(0).and_then(|item| item.field("c")).map(|c| c.line()),
            Some(5)
        );
        assert_eq!(item(1).map(|item| item.line()), Some(7));
        let e = root.field("d").and_then(|d| d.field("e"));
        assert_eq!(e.and_then(|e| e.item(1)).map(|item| item.line()), Some(9));
        assert!(item(2).is_none() && root.field("x").is_none());
    }

    #[test]
    fn what_stands_before_an_error_is_found() {
        let root = places("a: 1\nb: [\n");
        assert_eq!(root.field("a").map(|a| a.line()), Some(1));
    }
}
