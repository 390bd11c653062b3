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

/// The annotation by which `kubectl rollout restart` replaces a workload's pods. Removing it would replace them
/// once more, so it stays with whoever wrote it.
const RESTARTED_AT: &[&str] = &[
    "f:spec",
    "f:template",
    "f:metadata",
    "f:annotations",
    "f:kubectl.kubernetes.io/restartedAt",
];

/// Tells whether a `managedFields` entry belongs to an applier whose fields become ours: kubectl, Flux, Argo CD,
/// and ourselves where we wrote without apply. Entries of subresources stay, and so does one that owns nothing but
/// the time of a restart.
pub fn is_folded(entry: &Value) -> bool {
    let manager = entry["manager"].as_str().unwrap_or_default();
    let ours_by_update = manager == MANAGER && entry["operation"] == "Update";
    fields::is_whole(entry)
        && (ours_by_update || manager.starts_with("kubectl") || FOLDED.contains(&manager))
        && !is_only_restart(&entry["fieldsV1"])
}

fn is_only_restart(set: &Value) -> bool {
    // Looked up first: events of objects that kubectl wrote come often, restarts do not.
    let found = RESTARTED_AT.iter().try_fold(set, |set, name| set.get(name));
    found.is_some() && fields::split(set, RESTARTED_AT).0.is_none()
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

/// The entries after folding: all others in their order, then ours with everything folded in. Of a folded entry
/// only the time of a restart stays.
fn folded(entries: &[Value]) -> Option<Vec<Value>> {
    let is_ours = |entry: &Value| {
        entry["manager"] == MANAGER && entry["operation"] == "Apply" && fields::is_whole(entry)
    };
    let mut ours = entries.iter().find(|entry| is_ours(entry)).cloned();
    let mut kept = Vec::with_capacity(entries.len());
    let mut any = false;
    for entry in entries.iter().filter(|entry| !is_ours(entry)) {
        if !is_folded(entry) {
            kept.push(entry.clone());
            continue;
        }
        any = true;
        let (theirs, restarted) = fields::split(&entry["fieldsV1"], RESTARTED_AT);
        if let Some(restarted) = restarted {
            let mut entry = entry.clone();
            entry["fieldsV1"] = restarted;
            kept.push(entry);
        }
        let theirs = theirs.unwrap_or_default();
        match &mut ours {
            Some(ours) if theirs.is_object() => {
                ours["fieldsV1"] = fields::union(&ours["fieldsV1"], &theirs);
            }
            Some(_) => {}
            None => {
                let mut entry = entry.clone();
                entry["manager"] = json!(MANAGER);
                entry["operation"] = json!("Apply");
                entry["fieldsV1"] = theirs;
                ours = Some(entry);
            }
        }
    }
    kept.extend(ours);
    any.then_some(kept)
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

    fn restart(more: Value) -> Value {
        let mut spec = json!({"f:template": {"f:metadata": {"f:annotations": {
            ".": {}, "f:kubectl.kubernetes.io/restartedAt": {},
        }}}});
        if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
            spec.extend(more);
        }
        json!({
            "manager": "kubectl-rollout", "operation": "Update", "apiVersion": "apps/v1",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": spec},
        })
    }

    #[test]
    fn a_rollout_restart_is_not_undone() {
        let entries = [entry(MANAGER, "Apply", "a"), restart(json!({}))];
        assert!(!is_folded(&entries[1]));
        assert_eq!(folded(&entries), None);
    }

    #[test]
    fn what_kubectl_rollout_owns_besides_the_restart_is_folded() {
        let entries = [restart(json!({"f:paused": {}})), entry(MANAGER, "Apply", "a")];
        let mut ours = entry(MANAGER, "Apply", "a");
        ours["fieldsV1"]["f:spec"] = json!({"f:paused": {}});
        assert_eq!(folded(&entries), Some(vec![restart(json!({})), ours]));
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
