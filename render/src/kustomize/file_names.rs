//! The names of the files that `kustomize build --output` writes to a directory.

use std::collections::BTreeSet;

use serde_json::Value;

use super::build::Object;
use super::id::group_version;
use super::tables;

/// Returns a file name for each object: its type and name, behind its namespace where the objects are of several.
pub fn file_names(objects: &[Object]) -> Vec<String> {
    let namespaces: BTreeSet<&str> = objects.iter().filter_map(namespace).collect();
    let name = |object: &Object| {
        let namespace = namespace(object).filter(|_| namespaces.len() > 1);
        let (group, version) = group_version(text(object, "/apiVersion"));
        let parts = [
            namespace.unwrap_or_default(),
            group,
            version,
            text(object, "/kind"),
            text(object, "/metadata/name"),
        ];
        let parts: Vec<String> = parts
            .iter()
            .filter(|part| !part.is_empty())
            .map(|part| part.to_lowercase())
            .collect();
        format!("{}.yaml", parts.join("_"))
    };
    objects.iter().map(name).collect()
}

/// Returns the namespace of an object, which has none where its type has none.
fn namespace(object: &Object) -> Option<&str> {
    if tables::is_cluster_scoped(text(object, "/apiVersion"), text(object, "/kind")) {
        return None;
    }
    Some(match text(object, "/metadata/namespace") {
        "" => "default",
        namespace => namespace,
    })
}

fn text<'o>(object: &'o Object, path: &str) -> &'o str {
    object
        .value
        .pointer(path)
        .and_then(Value::as_str)
        .unwrap_or_default()
}
