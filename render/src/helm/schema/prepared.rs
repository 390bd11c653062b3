//! Makes of a schema what its checker takes: addresses as a URI has them, which the reference does not ask for.

use serde_json::Value as Json;

/// Keywords whose values are addresses.
const ADDRESSES: [&str; 5] = ["$id", "id", "$ref", "$dynamicRef", "$recursiveRef"];
/// Keywords whose values are data, whatever they look like.
const DATA: [&str; 5] = ["enum", "const", "default", "examples", "example"];

/// Escapes what no URI holds in the addresses of a schema.
pub(super) fn escape_addresses(schema: &mut Json) {
    match schema {
        Json::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                match value {
                    Json::String(address) if ADDRESSES.contains(&name.as_str()) => {
                        if let Some(escaped) = escaped(address) {
                            *address = escaped;
                        }
                    }
                    value if !DATA.contains(&name.as_str()) => escape_addresses(value),
                    _ => {}
                }
            }
        }
        Json::Array(items) => items.iter_mut().for_each(escape_addresses),
        _ => {}
    }
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

/// Returns the first address of the network that a schema refers to.
pub(super) fn remote_reference(schema: &Json) -> Option<&str> {
    match schema {
        Json::Object(fields) => fields.iter().find_map(|(name, value)| match value {
            Json::String(address) if name == "$ref" => {
                let remote = ["http://", "https://", "file://"];
                remote
                    .iter()
                    .any(|scheme| address.starts_with(scheme))
                    .then_some(address.as_str())
            }
            value if !DATA.contains(&name.as_str()) => remote_reference(value),
            _ => None,
        }),
        Json::Array(items) => items.iter().find_map(remote_reference),
        _ => None,
    }
}

/// Returns how many patterns of a schema are larger than a limit when they are compiled.
pub(super) fn large_patterns(schema: &Json, limit: usize) -> usize {
    let is_large = |pattern: &str| {
        let built = regex::RegexBuilder::new(pattern).size_limit(limit).build();
        usize::from(matches!(built, Err(regex::Error::CompiledTooBig(_))))
    };
    match schema {
        Json::Object(fields) => fields
            .iter()
            .map(|(name, value)| match (name.as_str(), value) {
                ("pattern", Json::String(pattern)) => is_large(pattern),
                ("patternProperties", Json::Object(patterns)) => patterns
                    .iter()
                    .map(|(pattern, below)| is_large(pattern) + large_patterns(below, limit))
                    .sum(),
                (name, value) if !DATA.contains(&name) => large_patterns(value, limit),
                _ => 0,
            })
            .sum(),
        Json::Array(items) => items.iter().map(|item| large_patterns(item, limit)).sum(),
        _ => 0,
    }
}
