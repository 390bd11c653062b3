//! How many bytes each place of the values takes, all below it included.

use std::collections::HashMap;

use serde_json::Value as Json;

/// What a value takes beside its text.
const BYTES_PER_VALUE: u32 = 64;

/// The sizes of maps and lists, and the longest name of a property.
pub(super) struct Sizes {
    of: HashMap<usize, u32>,
    /// As a value that schemas of names can be asked about; each costs most with the longest.
    pub(super) longest: Json,
}

impl Sizes {
    pub(super) fn of(values: &Json) -> Sizes {
        let (mut of, mut longest) = (HashMap::new(), "");
        measure(values, &mut of, &mut longest);
        Sizes {
            of,
            longest: Json::from(longest),
        }
    }

    /// Returns the size of a place.
    pub(super) fn get(&self, place: &Json) -> u32 {
        match place {
            Json::Object(_) | Json::Array(_) => {
                let found = self.of.get(&std::ptr::from_ref(place).addr());
                found.copied().unwrap_or(BYTES_PER_VALUE)
            }
            Json::String(text) => of_text(text),
            _ => BYTES_PER_VALUE,
        }
    }
}

fn of_text(text: &str) -> u32 {
    length(text.len()).saturating_add(BYTES_PER_VALUE)
}

pub(super) fn length(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn measure<'v>(place: &'v Json, of: &mut HashMap<usize, u32>, longest: &mut &'v str) -> u32 {
    let mut size = BYTES_PER_VALUE;
    match place {
        Json::Object(fields) => {
            for (name, value) in fields {
                if name.len() > longest.len() {
                    *longest = name;
                }
                size = size.saturating_add(of_text(name));
                size = size.saturating_add(measure(value, of, longest));
            }
        }
        Json::Array(items) => {
            for item in items {
                size = size.saturating_add(measure(item, of, longest));
            }
        }
        Json::String(text) => return of_text(text),
        _ => return size,
    }
    // Empty ones need no entry.
    if size > BYTES_PER_VALUE {
        of.insert(std::ptr::from_ref(place).addr(), size);
    }
    size
}
