//! Replacements that name groups after `$`: by number or name, in braces or as far as letters, digits and underscores
//! go. `$` before anything that is no name stays as it is.

use std::collections::HashMap;

use flotilla_core::text::re2::Captures;
use flotilla_core::text::runes::is_name;

use super::room;

/// What looking at one group takes, in bytes that are gone through.
const BYTES_PER_GROUP: usize = 16;

/// A replacement, read once for all matches.
pub(super) struct Template<'r> {
    parts: Vec<Part<'r>>,
    /// The groups of each name. Several may have one.
    named: HashMap<&'r str, Vec<usize>>,
    cost: usize,
}

enum Part<'r> {
    Text(&'r str),
    Numbered(usize),
    Named(&'r str),
}

impl<'r> Template<'r> {
    /// Reads a replacement for an expression whose groups have these names.
    pub(super) fn read(replacement: &'r str, names: &'r [Option<String>]) -> Template<'r> {
        let mut named: HashMap<&str, Vec<usize>> = HashMap::new();
        for (name, number) in names.iter().zip(1..) {
            if let Some(name) = name {
                named.entry(name).or_default().push(number);
            }
        }
        let parts = parts(replacement);
        let looked_at = |part: &Part<'_>| match part {
            Part::Text(_) => 0,
            Part::Numbered(_) => 1,
            Part::Named(name) => named.get(name).map_or(0, Vec::len),
        };
        let looked_at = parts
            .iter()
            .map(looked_at)
            .fold(names.len(), usize::saturating_add);
        Template {
            cost: replacement
                .len()
                .saturating_add(looked_at.saturating_mul(BYTES_PER_GROUP)),
            parts,
            named,
        }
    }

    /// Returns what each match costs, in bytes that are gone through: of a match all groups are copied.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    /// Writes the replacement of one match of a text.
    pub(super) fn expand(&self, text: &str, groups: &Captures, out: &mut String) -> Result<(), String> {
        for part in &self.parts {
            let group = match part {
                Part::Text(text) => {
                    out.push_str(text);
                    continue;
                }
                Part::Numbered(number) => groups.get_group(*number),
                Part::Named(name) => {
                    let numbers = self.named.get(name).map_or(&[][..], Vec::as_slice);
                    numbers.iter().find_map(|number| groups.get_group(*number))
                }
            };
            let group = group.map_or("", |group| &text[group.range()]);
            // One match may name a long group as often as it has room for.
            room(out.len().checked_add(group.len()))?;
            out.push_str(group);
        }
        Ok(())
    }
}

fn parts(replacement: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = replacement;
    while let Some(at) = rest.find('$') {
        parts.push(Part::Text(&rest[..at]));
        let dollar = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            parts.push(Part::Text(dollar));
            rest = after;
            continue;
        }
        let braced = rest.starts_with('{');
        let inner = if braced { &rest[1..] } else { rest };
        let length = inner.find(|c| !is_name(c)).unwrap_or(inner.len());
        let (name, after) = inner.split_at(length);
        let after = match (braced, after.strip_prefix('}')) {
            (true, Some(after)) => after,
            (true, None) => {
                parts.push(Part::Text(dollar));
                continue;
            }
            (false, _) => after,
        };
        if name.is_empty() {
            parts.push(Part::Text(dollar));
            continue;
        }
        parts.push(named(name));
        rest = after;
    }
    parts.push(Part::Text(rest));
    parts
}

/// The most digits of a number; Go takes more of them for a name.
const DIGITS: usize = 9;

/// Returns the group of a number or a name.
fn named(name: &str) -> Part<'_> {
    let is_number = name.len() <= DIGITS
        && name.bytes().all(|byte| byte.is_ascii_digit())
        && (name == "0" || !name.starts_with('0'));
    match (is_number, name.parse()) {
        (true, Ok(number)) => Part::Numbered(number),
        (true, Err(_)) => Part::Text(""),
        (false, _) => Part::Named(name),
    }
}

#[cfg(test)]
mod tests {
    use super::Template;

    #[test]
    fn the_cost_of_a_replacement_counts_each_group_that_a_name_may_mean() {
        let same = vec![Some("a".to_owned()); 100];
        let cost = |replacement: &str| Template::read(replacement, &same).cost();
        assert_eq!(cost("$a$a") - cost("$b$b"), 2 * 100 * 16);
        assert_eq!(cost("$1") - cost("$b"), 16);
    }
}
