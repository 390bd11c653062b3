//! The namespace that the context of a kubeconfig names: Helm renders for it where no other is given.

use std::collections::HashSet;

use flotilla_render::yaml::{self, Map, Value};

/// Returns the namespace of a context, of the current one where none is given. Of several files the first that says
/// something counts; files of which one cannot be understood say nothing, as Helm has it.
pub(super) fn namespace(files: &[Vec<u8>], context: Option<&str>) -> Option<String> {
    let files: Vec<Map> = files.iter().map(|bytes| read(bytes)).collect::<Option<_>>()?;
    let current = || files.iter().find_map(|file| text(file, "current-context"));
    let context = context.or_else(current)?;
    let mut contexts = files
        .iter()
        .filter_map(|file| file.get("contexts").and_then(Value::as_list))
        .flatten()
        .filter_map(Value::as_map);
    let entry = contexts.find(|entry| text(entry, "name") == Some(context))?;
    text(entry.get("context")?.as_map()?, "namespace").map(str::to_owned)
}

fn read(bytes: &[u8]) -> Option<Map> {
    match yaml::read(std::str::from_utf8(bytes).ok()?, &yaml::Limits::default()).ok()? {
        Value::Map(fields) => is_config(&fields).then_some(fields),
        Value::Null => Some(Map::new()),
        _ => None,
    }
}

/// Tells whether fields are those of a kubeconfig, in whose lists no name stands twice.
fn is_config(fields: &Map) -> bool {
    let is = |name: &str, wanted: &str| text(fields, name).is_none_or(|text| text == wanted);
    let is_distinct = |name: &str| {
        let entries = fields.get(name).and_then(Value::as_list).into_iter().flatten();
        let names = entries.filter_map(|entry| text(entry.as_map()?, "name"));
        let mut seen = HashSet::new();
        names.into_iter().all(|name| seen.insert(name))
    };
    is("kind", "Config")
        && is("apiVersion", "v1")
        && ["clusters", "users", "contexts"].into_iter().all(is_distinct)
}

fn text<'a>(fields: &'a Map, name: &str) -> Option<&'a str> {
    fields.get(name)?.as_str().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_that_says_something_counts() {
        let first = b"current-context: b\n".to_vec();
        let second = b"current-context: a\ncontexts:\n- {name: a, context: {namespace: one}}\n- {name: b, context: {namespace: two}}\n- {name: none, context: {cluster: x}}\n".to_vec();
        let files = [first, second];
        let at = |context| namespace(&files, context);
        assert_eq!(at(None).as_deref(), Some("two"));
        assert_eq!(at(Some("a")).as_deref(), Some("one"));
        assert_eq!(at(Some("none")), None);
        assert_eq!(at(Some("unknown")), None);
        assert_eq!(namespace(&[b"a: [".to_vec(), files[1].clone()], None), None);
        assert_eq!(namespace(&[], Some("a")), None);
    }
}
