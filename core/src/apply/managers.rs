//! Takes over objects that other appliers wrote: their fields become ours, so that a field that leaves the
//! desired state leaves the cluster too, and their bookkeeping goes.

use serde_json::{Value, json};

use super::{MANAGER, fields};

/// Annotations and labels of appliers that no longer act.
const LEFTOVERS: &[(&str, &str)] = &[
    ("annotations", "kubectl.kubernetes.io/last-applied-configuration"),
    ("annotations", "kustomize.toolkit.fluxcd.io/checksum"),
    ("annotations", "fluxcd.io/sync-checksum"),
    ("labels", "fluxcd.io/sync-gc-mark"),
];

/// Managers folded into ours whatever the operation, besides everything that begins with `kubectl`.
const FOLDED: &[&str] = &[
    "before-first-apply",
    "kustomize-controller",
    "helm-controller",
    "argocd-controller",
    "flux",
];

/// Tells whether a `managedFields` entry belongs to an applier whose fields become ours: kubectl, Flux, Argo CD,
/// and ourselves where we wrote without apply. Entries of subresources stay.
pub fn is_folded(entry: &Value) -> bool {
    let manager = entry["manager"].as_str().unwrap_or_default();
    let ours_by_update = manager == MANAGER && entry["operation"] == "Update";
    fields::is_whole(entry) && (ours_by_update || manager.starts_with("kubectl") || FOLDED.contains(&manager))
}

/// The JSON patch that folds other appliers into ours and drops their bookkeeping. `metadata` is the live
/// object's. Empty when there is nothing to do.
///
/// It replaces the resource version by the one seen, so that an object changed meanwhile answers with a
/// conflict instead of losing an entry.
pub fn fold(metadata: &Value) -> Vec<Value> {
    let mut patch: Vec<Value> = LEFTOVERS
        .iter()
        .filter(|(field, name)| metadata[*field].get(name).is_some())
        .map(|(field, name)| json!({"op": "remove", "path": format!("/metadata/{field}/{}", name.replace('/', "~1"))}))
        .collect();
    if let Some(entries) = folded(fields::entries(metadata)) {
        patch.push(json!({"op": "replace", "path": "/metadata/managedFields", "value": entries}));
    }
    if !patch.is_empty() {
        let version = &metadata["resourceVersion"];
        patch.push(json!({"op": "replace", "path": "/metadata/resourceVersion", "value": version}));
    }
    patch
}

/// The entries after folding: all others in their order, then ours with everything folded in.
fn folded(entries: &[Value]) -> Option<Vec<Value>> {
    let is_ours = |entry: &Value| {
        entry["manager"] == MANAGER && entry["operation"] == "Apply" && fields::is_whole(entry)
    };
    let (folding, kept): (Vec<&Value>, Vec<&Value>) = entries.iter().partition(|entry| is_folded(entry));
    let (first, _) = folding.split_first()?;
    let mut ours = entries
        .iter()
        .find(|entry| is_ours(entry))
        .unwrap_or(first)
        .clone();
    ours["manager"] = json!(MANAGER);
    ours["operation"] = json!("Apply");
    ours["fieldsV1"] = folding
        .iter()
        .fold(ours["fieldsV1"].clone(), |all, entry| match &entry["fieldsV1"] {
            Value::Null => all,
            theirs if all.is_null() => theirs.clone(),
            theirs => fields::union(&all, theirs),
        });
    let others = kept.into_iter().filter(|entry| !is_ours(entry)).cloned();
    Some(others.chain([ours]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(manager: &str, operation: &str, field: &str) -> Value {
        json!({
            "manager": manager, "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:data": {format!("f:{field}"): {}}},
        })
    }

    fn after(entries: &[Value]) -> Option<Vec<(String, String, Value)>> {
        let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        folded(entries).map(|entries| {
            entries
                .iter()
                .map(|e| {
                    (
                        text(e, "manager"),
                        text(e, "operation"),
                        e["fieldsV1"]["f:data"].clone(),
                    )
                })
                .collect()
        })
    }

    #[test]
    fn fields_of_other_appliers_become_ours() {
        let entries = [
            entry("kubectl-client-side-apply", "Update", "a"),
            entry("hpa", "Update", "h"),
            entry(MANAGER, "Apply", "b"),
            entry("kustomize-controller", "Apply", "c"),
            entry("argocd-controller", "Apply", "d"),
        ];
        assert_eq!(
            after(&entries),
            Some(vec![
                ("hpa".into(), "Update".into(), json!({"f:h": {}})),
                (
                    MANAGER.into(),
                    "Apply".into(),
                    json!({"f:a": {}, "f:b": {}, "f:c": {}, "f:d": {}})
                ),
            ])
        );
    }

    #[test]
    fn the_first_folded_entry_becomes_ours_where_we_have_none() {
        let entries = [
            entry("kubectl", "Apply", "a"),
            entry("before-first-apply", "Update", "b"),
        ];
        assert_eq!(
            after(&entries),
            Some(vec![(
                MANAGER.into(),
                "Apply".into(),
                json!({"f:a": {}, "f:b": {}})
            )])
        );
    }

    #[test]
    fn others_and_subresources_stay_untouched() {
        let mut status = entry("kubectl-edit", "Update", "s");
        status["subresource"] = json!("status");
        let entries = [
            entry("hpa", "Update", "h"),
            entry("helm", "Apply", "x"),
            entry(MANAGER, "Apply", "b"),
            status,
        ];
        assert_eq!(after(&entries), None);
        assert!(fold(&json!({"managedFields": entries, "resourceVersion": "7"})).is_empty());
    }

    #[test]
    fn the_patch_drops_leftovers_and_fails_on_a_changed_object() {
        let metadata = json!({
            "resourceVersion": "7",
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "mine": "1"},
            "labels": {"fluxcd.io/sync-gc-mark": "x"},
        });
        assert_eq!(
            fold(&metadata),
            [
                json!({"op": "remove", "path": "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration"}),
                json!({"op": "remove", "path": "/metadata/labels/fluxcd.io~1sync-gc-mark"}),
                json!({"op": "replace", "path": "/metadata/resourceVersion", "value": "7"}),
            ]
        );
    }
}
