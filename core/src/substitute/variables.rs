//! The variables of one unit, made from ordered layers.

use std::{collections::BTreeMap, fmt};

/// The variables of one unit by name. Values are bytes, since a Secret's need not be text. Never printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Variables(BTreeMap<String, Vec<u8>>);

/// A variable's name is not `[_a-zA-Z][_a-zA-Z0-9]*`. Nothing is substituted until the layer is changed: a
/// hyphenated key in a ConfigMap would otherwise be a variable that no expression can reach.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{name}' var name is invalid, must match '^[_[:alpha:]][_[:alpha:][:digit:]]*$'")]
pub struct InvalidName {
    /// The offending name.
    pub name: String,
}

impl Variables {
    /// Merges layers, later ones winning, and removes newlines from values: a value that ends in one, as files
    /// do, must not break the line it is put into.
    pub fn from_layers<L, N, V>(layers: impl IntoIterator<Item = L>) -> Result<Self, InvalidName>
    where
        L: IntoIterator<Item = (N, V)>,
        N: Into<String>,
        V: Into<Vec<u8>>,
    {
        let mut merged = BTreeMap::new();
        for (name, value) in layers.into_iter().flatten() {
            let (name, mut value) = (name.into(), value.into());
            if !is_valid_name(&name) {
                return Err(InvalidName { name });
            }
            value.retain(|&byte| byte != b'\n');
            merged.insert(name, value);
        }
        Ok(Self(merged))
    }

    /// Tells whether there is no variable at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a variable; empty values are values.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// Names only: values may be secret.
impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

fn is_valid_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b == b'_' || b.is_ascii_alphabetic())
        && bytes.all(|b| b == b'_' || b.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_layers_win_and_newlines_go() {
        let layers = [vec![("a", "1\n"), ("b", "x\ny\r\n")], vec![("a", "2")]];
        let variables = Variables::from_layers(layers).expect("valid names");
        assert_eq!(variables.get("a"), Some(&b"2"[..]));
        assert_eq!(variables.get("b"), Some(&b"xy\r"[..]));
        assert_eq!(variables.get("c"), None);
    }

    #[test]
    fn a_name_that_no_expression_can_reach_is_refused() {
        for name in ["", "1a", "a-b", "a.b", "é", "a\n"] {
            let error = Variables::from_layers([[(name, "v")]]).expect_err(name);
            assert_eq!(error.name, name);
        }
        for name in ["_", "A1", "_1", "app_name"] {
            assert!(Variables::from_layers([[(name, "v")]]).is_ok());
        }
    }

    #[test]
    fn values_are_never_printed() {
        let variables = Variables::from_layers([[("token", "hunter2")]]).expect("valid name");
        assert_eq!(format!("{variables:?}"), r#"{"token"}"#);
    }
}
