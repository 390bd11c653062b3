//! A field that nobody knows: where it stands, and what was probably meant.

use crate::yaml::{Place, decode, places};

use super::error::shortened;

/// A field of a file that no reader asked for.
#[derive(Debug)]
pub(crate) struct UnknownField {
    pub(crate) name: String,
    /// The fields and items that lead to what holds it, as `patches[0].target`; empty for the file itself.
    pub(crate) parent: String,
    pub(crate) meant: Option<&'static str>,
}

impl UnknownField {
    fn path(&self) -> String {
        match self.parent.as_str() {
            "" => self.name.clone(),
            parent => format!("{parent}.{}", self.name),
        }
    }

    /// The question at the end of a message, or nothing.
    fn question(&self) -> String {
        self.meant
            .map_or_else(String::new, |meant| format!(" (did you mean {meant:?}?)"))
    }

    /// Tells the field by its path.
    pub(crate) fn told(&self) -> String {
        format!("unknown field {:?}{}", shortened(&self.path()), self.question())
    }

    /// Tells the field as kustomize does of one of a kustomization, and then the line of the file and the path.
    pub(crate) fn told_of_kustomization(&self, file: &[u8]) -> String {
        let line = match self.line(file) {
            Some(line) => format!("line {line}: "),
            None => String::new(),
        };
        format!(
            "invalid Kustomization: json: unknown field {:?}: {line}{}{}",
            shortened(&self.name),
            shortened(&self.path()),
            self.question()
        )
    }

    /// Returns the line on which the field stands; none where an alias or a merge brings it.
    fn line(&self, file: &[u8]) -> Option<usize> {
        let text = decode(file).ok()?;
        let root = places(&text);
        let parts = self.parent.split('.').filter(|part| !part.is_empty());
        let parent = parts.clone().try_fold(&root, |place, part| below(place, part))?;
        parent.field(&self.name).map(Place::line)
    }
}

/// Follows a field and perhaps an item of it: `patches[0]`.
fn below<'p>(place: &'p Place, part: &str) -> Option<&'p Place> {
    let (name, index) = match part.strip_suffix(']').and_then(|part| part.split_once('[')) {
        Some((name, index)) => (name, Some(index.parse().ok()?)),
        None => (part, None),
    };
    let field = place.field_in_any_case(name)?;
    match index {
        Some(index) => field.item(index),
        None => Some(field),
    }
}
