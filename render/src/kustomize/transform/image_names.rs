//! The names that entries of `images` are for, found by the texts of images.
//!
//! kustomize makes an expression of each name, in which a dot is any character. Nearly all names have no other signs
//! of an expression: those are looked up, and only the others are compiled and tried one by one.

use std::collections::HashMap;

use crate::kustomize::error::Result;
use crate::kustomize::expression::Expression;
use crate::kustomize::steps::Steps;

/// The entries of a name that is no expression, in order.
type Entries = Vec<usize>;

/// Names with dots in the same places.
#[derive(Debug)]
struct Dotted {
    /// The positions of the dots among the characters.
    dots: Vec<usize>,
    names: HashMap<String, Entries>,
}

/// The names of the entries of a list.
#[derive(Debug, Default)]
pub(super) struct ImageNames {
    /// Names without dots, and others, by the number of their characters.
    plain: HashMap<String, Entries>,
    dotted: HashMap<usize, Vec<Dotted>>,
    expressions: Vec<(usize, Expression)>,
}

impl ImageNames {
    /// Adds the name of the entry at a position, which is behind those of all others.
    pub(super) fn add(&mut self, position: usize, name: &str, steps: &Steps<'_>) -> Result<()> {
        if name.contains(['\\', '+', '*', '?', '(', ')', '|', '[', ']', '{', '}', '^', '$']) {
            let pattern = format!("^{name}(:[a-zA-Z0-9_.{{}}-]*)?(@sha256:[a-zA-Z0-9_.{{}}-]*)?$");
            self.expressions
                .push((position, Expression::kept(&pattern, steps)?));
            return Ok(());
        }
        steps.spend_bytes(name.len())?;
        let chars = name.chars().enumerate();
        let dots: Vec<usize> = chars.filter(|(_, c)| *c == '.').map(|(at, _)| at).collect();
        if dots.is_empty() {
            self.plain.entry(name.to_owned()).or_default().push(position);
            return Ok(());
        }
        let group = self.dotted.entry(name.chars().count()).or_default();
        steps.spend(group.len())?;
        let place = group.iter().position(|known| known.dots == dots);
        let names = match place {
            Some(place) => &mut group[place].names,
            None => {
                group.push(Dotted {
                    dots,
                    names: HashMap::new(),
                });
                let last = group.len() - 1;
                &mut group[last].names
            }
        };
        names.entry(name.to_owned()).or_default().push(position);
        Ok(())
    }

    /// Returns the first entry from a position on whose name is that of an image.
    pub(super) fn first(&self, image: &str, from: usize, steps: &Steps<'_>) -> Result<Option<usize>> {
        let mut first: Option<usize> = None;
        let mut take = |found: Option<usize>| {
            first = match (first, found) {
                (Some(first), Some(found)) => Some(first.min(found)),
                (first, found) => first.or(found),
            };
        };
        let behind = |entries: &Entries| {
            let at = entries.partition_point(|entry| *entry < from);
            entries.get(at).copied()
        };
        for name in names(image) {
            take(self.plain.get(name).and_then(behind));
            if self.dotted.is_empty() {
                continue;
            }
            let Some(groups) = self.dotted.get(&name.chars().count()) else {
                continue;
            };
            let chars: Vec<char> = name.chars().collect();
            steps.spend(groups.len())?;
            for group in groups {
                // A dot is any character but the end of a line.
                if group.dots.iter().any(|dot| chars[*dot] == '\n') {
                    continue;
                }
                let mut masked = chars.clone();
                group.dots.iter().for_each(|dot| masked[*dot] = '.');
                take(group.names.get(&String::from_iter(masked)).and_then(behind));
            }
        }
        let start = self.expressions.partition_point(|(entry, _)| *entry < from);
        for (entry, expression) in &self.expressions[start..] {
            if expression.fits(image, steps)? {
                take(Some(*entry));
                break;
            }
        }
        Ok(first)
    }
}

/// Returns what may be the name in an image: what is before a tag, a digest, or both, as kustomize's expression reads
/// them.
fn names(image: &str) -> impl Iterator<Item = &str> {
    let is_word = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'{' | b'}' | b'-'))
    };
    let untagged = move |text: &'_ str| text.rfind(':').filter(|at| is_word(&text[at + 1..]));
    let digest = image.rfind("@sha256:").filter(|at| is_word(&image[at + 8..]));
    let both = digest.and_then(|at| untagged(&image[..at]));
    let ends = [Some(image.len()), untagged(image), digest, both];
    ends.into_iter().flatten().map(move |end| &image[..end])
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::{ImageNames, Steps};

    #[test]
    fn a_name_is_found_where_its_expression_would_match() {
        let steps = Steps::new(u64::MAX, usize::MAX, None);
        let names = [
            "a", "a.b", "a.b/c", "a:1", "é.b", "a@sha256", "", ".", "a+", "x/a",
        ];
        let images = [
            "a",
            "a:1",
            "a:1.2@sha256:0f",
            "a@sha256:0f",
            "axb",
            "a.b",
            "a\nb",
            "a.b/c:x",
            "a:1:2",
            "éxb:1",
            "a@sha256:",
            "a@sha256:1@sha256:2",
            "aa:1",
            "x/a:{{tag}}",
            "a:",
            "",
            ":1",
            "x",
            "a:1 ",
            "b",
            "a:ü",
            "a:5000/b:1",
            "a:1@sha256:x:y",
        ];
        for name in names {
            let mut index = ImageNames::default();
            index.add(0, name, &steps).expect("a name");
            let expression = format!("^{name}(:[a-zA-Z0-9_.{{}}-]*)?(@sha256:[a-zA-Z0-9_.{{}}-]*)?$");
            let expression = Regex::new(&expression).expect("an expression");
            for image in images {
                let found = index.first(image, 0, &steps).expect("steps are left");
                assert_eq!(
                    found.is_some(),
                    expression.is_match(image),
                    "{name:?} in {image:?}"
                );
            }
        }
    }

    #[test]
    fn the_first_entry_from_a_position_on_is_found() {
        let steps = Steps::new(u64::MAX, usize::MAX, None);
        let mut index = ImageNames::default();
        for (at, name) in ["b", "a.c", "a+bc", "abc", "abc", "a.c"].into_iter().enumerate() {
            index.add(at, name, &steps).expect("a name");
        }
        let found: Vec<Option<usize>> = (0..7)
            .map(|from| index.first("abc:1", from, &steps).expect("steps are left"))
            .collect();
        assert_eq!(
            found,
            [Some(1), Some(1), Some(2), Some(3), Some(4), Some(5), None]
        );
    }
}
