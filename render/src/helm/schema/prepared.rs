//! Makes of a schema what its checker takes: addresses as a URI has them, which the reference does not ask for, and
//! regular expressions in the checker's syntax instead of Go's.

use std::collections::HashMap;

use flotilla_core::text::re2;
use serde_json::{Map, Value as Json};

use super::Refusal;
use crate::helm::values::coalesce::CoalesceError;
use crate::helm::values::copies::Copies;

/// Keywords whose values are addresses.
const ADDRESSES: [&str; 5] = ["$id", "id", "$ref", "$dynamicRef", "$recursiveRef"];
/// Keywords whose values are data, whatever they look like.
const DATA: [&str; 5] = ["enum", "const", "default", "examples", "example"];
/// Keywords whose values are schemas by a name, whatever the names look like.
const NAMED: [&str; 6] = [
    "properties",
    "patternProperties",
    "$defs",
    "definitions",
    "dependentSchemas",
    "dependencies",
];

/// Calls a function on each schema within a schema, the inner ones first.
fn each(schema: &mut Json, call: &mut impl FnMut(&mut Map<String, Json>)) {
    match schema {
        Json::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                match value {
                    Json::Object(schemas) if NAMED.contains(&name.as_str()) => {
                        schemas.values_mut().for_each(|schema| each(schema, call));
                    }
                    value if !DATA.contains(&name.as_str()) => each(value, call),
                    _ => {}
                }
            }
            call(fields);
        }
        Json::Array(items) => items.iter_mut().for_each(|item| each(item, call)),
        _ => {}
    }
}

/// A schema as its checker takes it.
pub(super) struct Prepared {
    pub(super) schema: Json,
    /// The patterns, each by the one that the checker has in its place.
    pub(super) patterns: HashMap<String, String>,
    /// The first address of the network that it refers to.
    pub(super) remote: Option<String>,
}

/// Prepares a schema; a pattern that Go refuses is told in its words. The caller may stop before each of them.
pub(super) fn prepare(mut schema: Json, copies: &Copies<'_>) -> Result<Prepared, Refusal> {
    let (mut patterns, mut remote, mut refused) = (HashMap::new(), None, None);
    let mut translated = |pattern: &str| {
        // Nothing is made of a schema that is refused.
        let made = match &refused {
            Some(_) => return String::new(),
            None => copies.go_on().map_err(Refusal::from),
        };
        let made = made.and_then(|()| {
            re2::translate(pattern).map_err(|error| {
                let what = if error.is_bound {
                    "beyond a limit"
                } else {
                    "no expression"
                };
                Refusal::of_schema(format!("has a pattern that is {what}: {error}"))
            })
        });
        match made {
            Ok(translated) => {
                // What checks the patterns of the older dialects knows no flags.
                let translated = translated.replace("(?-u:\\b)", "\\b");
                patterns.insert(translated.clone(), pattern.to_owned());
                translated
            }
            Err(refusal) => {
                refused = Some(refusal);
                String::new()
            }
        }
    };
    each(&mut schema, &mut |fields| {
        for name in ADDRESSES {
            let Some(Json::String(address)) = fields.get_mut(name) else {
                continue;
            };
            if name == "$ref" && is_remote(address) {
                remote.get_or_insert_with(|| address.clone());
            }
            if let Some(escaped) = escaped(address) {
                *address = escaped;
            }
        }
        if let Some(Json::String(pattern)) = fields.get_mut("pattern") {
            *pattern = translated(pattern);
        }
        if let Some(Json::Object(schemas)) = fields.get_mut("patternProperties") {
            for (pattern, schema) in std::mem::take(schemas) {
                match schemas.entry(translated(&pattern)) {
                    serde_json::map::Entry::Vacant(entry) => _ = entry.insert(schema),
                    // Two that say the same in two ways both hold.
                    serde_json::map::Entry::Occupied(mut entry) => {
                        let both = vec![entry.get_mut().take(), schema];
                        entry.insert(serde_json::json!({ "allOf": both }));
                    }
                }
            }
        }
    });
    match refused {
        Some(refused) => Err(refused),
        None => Ok(Prepared {
            schema,
            patterns,
            remote,
        }),
    }
}

fn is_remote(address: &str) -> bool {
    let remote = ["http://", "https://", "file://"];
    remote.iter().any(|scheme| address.starts_with(scheme))
}

/// Returns the address with its odd characters escaped; none when it has none.
fn escaped(address: &str) -> Option<String> {
    let hexadecimal = |at: usize| address.as_bytes().get(at).is_some_and(u8::is_ascii_hexdigit);
    let mut out = String::with_capacity(address.len());
    let mut fragment = false;
    for (at, c) in address.char_indices() {
        let odd = match c {
            '%' => !(hexadecimal(at + 1) && hexadecimal(at + 2)),
            // Only the first begins the fragment.
            '#' => std::mem::replace(&mut fragment, true),
            ' ' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}' => true,
            c => !c.is_ascii() || c.is_ascii_control(),
        };
        if odd {
            c.encode_utf8(&mut [0; 4])
                .bytes()
                .for_each(|byte| out.push_str(&format!("%{byte:02X}")));
        } else {
            out.push(c);
        }
    }
    (out.len() != address.len()).then_some(out)
}

impl Prepared {
    /// Returns how many patterns are larger than a limit when they are compiled, as far as so many.
    pub(super) fn large_patterns(
        &self,
        limit: usize,
        most: usize,
        copies: &Copies<'_>,
    ) -> Result<usize, CoalesceError> {
        let mut large = 0;
        for pattern in self.patterns.keys() {
            copies.go_on()?;
            let built = regex::RegexBuilder::new(pattern).size_limit(limit).build();
            large += usize::from(matches!(built, Err(regex::Error::CompiledTooBig(_))));
            if large == most {
                break;
            }
        }
        Ok(large)
    }
}
