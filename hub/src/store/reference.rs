//! Who uses what, by name, as specs say it.

use serde_json::Value;
use uuid::Uuid;

use super::{Connection, Result, resource::FLEET};

/// What an object names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// Kind.
    pub kind: String,
    /// Where the name resolves: in a cluster's scope, or in [`FLEET`].
    pub scope: Uuid,
    /// Namespace, '' when the kind has none.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// The source that an app names, whose scope and namespace are given.
pub fn source_named(scope: Uuid, namespace: &str, spec: &Value) -> Option<Reference> {
    named(scope, &spec["sourceRef"], None, namespace)
}

/// Where the source may be that an app names, in the order in which it is looked for: in the app's own scope, then in the
/// fleet's.
pub fn sources_named(scope: Uuid, namespace: &str, spec: &Value) -> Vec<Reference> {
    let own = source_named(scope, namespace, spec);
    let fleet = (scope != FLEET).then(|| source_named(FLEET, namespace, spec));
    own.into_iter().chain(fleet.flatten()).collect()
}

/// What a reference names: of this kind, else of the one that it says, in a namespace that it may say.
fn named(scope: Uuid, value: &Value, kind: Option<String>, namespace: &str) -> Option<Reference> {
    let text = |field: &str| value[field].as_str().map(str::to_owned);
    Some(Reference {
        kind: kind.or_else(|| text("kind"))?,
        scope,
        namespace: text("namespace")
            .filter(|one| !one.is_empty())
            .unwrap_or_else(|| namespace.to_owned()),
        name: text("name")?,
    })
}

/// What an object of `kind` names in its spec, each once: what is named in a cluster's scope may be the fleet's too.
pub fn references(kind: &str, scope: Uuid, namespace: &str, spec: &Value) -> Vec<Reference> {
    let mut found = in_scope(kind, scope, namespace, spec);
    if scope != FLEET && kind != "Placement" {
        found.extend(in_scope(kind, FLEET, namespace, spec));
    }
    if kind == "Kustomization" {
        found.extend(kube_config(scope, namespace, spec));
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// The kind by which references to kubeconfigs are kept: they name a Secret or a ConfigMap that need not exist.
pub(super) const KUBE_CONFIG: &str = "KubeConfig";

/// The kind by which references to repositories are kept that others include: of a repository that all apps use, who includes it
/// is found without them.
pub(super) const INCLUDED: &str = "Included";

/// The kubeconfig that an app names, in its own scope.
pub fn kube_config(scope: Uuid, namespace: &str, spec: &Value) -> Option<Reference> {
    let named = &spec["kubeConfig"];
    let name = ["secretRef", "configMapRef"]
        .iter()
        .find_map(|field| named[*field]["name"].as_str())?;
    Some(Reference {
        kind: KUBE_CONFIG.to_owned(),
        scope,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}

fn in_scope(kind: &str, scope: Uuid, namespace: &str, spec: &Value) -> Vec<Reference> {
    let named = |value: &Value, kind: Option<&str>, default: &str| {
        named(scope, value, kind.map(str::to_owned), default)
    };
    let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
    match kind {
        "Kustomization" => {
            let variables = items(&spec["postBuild"]["substituteFrom"]);
            let variables = variables.iter().map(|one| named(one, None, namespace));
            let needed = items(&spec["dependsOn"]);
            let needed = needed.iter().filter_map(|one| named(one, Some(kind), namespace));
            variables
                .chain([source_named(scope, namespace, spec)])
                .flatten()
                .chain(needed)
                .collect()
        }
        "GitRepository" => {
            let secrets = [
                &spec["secretRef"],
                &spec["proxySecretRef"],
                &spec["verify"]["secretRef"],
            ];
            let secrets = secrets.map(|one| named(one, Some("Secret"), namespace));
            let included = items(&spec["include"]);
            let included = included
                .iter()
                .map(|one| named(&one["repository"], Some(INCLUDED), namespace));
            secrets.into_iter().chain(included).flatten().collect()
        }
        "Receiver" => named(&spec["secretRef"], Some("Secret"), namespace)
            .into_iter()
            .collect(),
        "Placement" => {
            let apps = items(&spec["apps"]);
            let apps = apps
                .iter()
                .filter_map(|one| named(one, None, flotilla_api::kinds::placement::DEFAULT_NAMESPACE));
            let groups = items(&spec["clusters"]["groups"]);
            let groups = groups.iter().filter_map(Value::as_str).map(|name| Reference {
                kind: "ClusterGroup".to_owned(),
                scope: FLEET,
                namespace: String::new(),
                name: name.to_owned(),
            });
            apps.chain(groups).collect()
        }
        _ => Vec::new(),
    }
}

/// Replaces what these objects name, in the caller's transaction.
pub(super) async fn put_references(
    tx: &mut Connection,
    referrers: &[Uuid],
    references: &[(Uuid, Reference)],
) -> Result<()> {
    sqlx::query!("DELETE FROM reference WHERE referrer = ANY($1)", referrers)
        .execute(&mut *tx)
        .await?;
    let scopes: Vec<Uuid> = references.iter().map(|(_, one)| one.scope).collect();
    let column = |f: fn(&Reference) -> &String| {
        references
            .iter()
            .map(|(_, one)| f(one).clone())
            .collect::<Vec<_>>()
    };
    let uids: Vec<Uuid> = references.iter().map(|(uid, _)| *uid).collect();
    sqlx::query!(
        "INSERT INTO reference (referrer, kind, scope, namespace, name, of_scope)
         SELECT v.*, r.scope FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::text[])
           AS v(referrer, kind, scope, namespace, name)
         CROSS JOIN LATERAL (SELECT scope FROM resource WHERE uid = v.referrer OFFSET 0) AS r",
        &uids,
        &column(|one| &one.kind),
        &scopes,
        &column(|one| &one.namespace),
        &column(|one| &one.name)
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// The apps that a change of these objects concerns.
pub(super) async fn apps_of(tx: &mut Connection, changed: &[Uuid]) -> Result<Vec<Uuid>> {
    Ok(
        sqlx::query_scalar!(r#"SELECT app AS "app!" FROM apps_of($1) AS app"#, changed)
            .fetch_all(tx)
            .await?,
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(kind: &str, spec: Value) -> Vec<String> {
        let cluster = Uuid::from_u128(1);
        let found = references(kind, cluster, "apps", &spec);
        let shown = found.iter();
        shown
            .map(|one| {
                let scope = if one.scope == cluster { "c1" } else { "" };
                assert!(one.scope == cluster || one.scope == FLEET);
                format!("{scope}/{}/{}/{}", one.kind, one.namespace, one.name)
            })
            .collect()
    }

    #[test]
    fn an_app_names_its_source_variables_and_what_it_depends_on() {
        let spec = json!({
            "sourceRef": { "kind": "GitRepository", "name": "repo", "namespace": "sources" },
            "postBuild": { "substituteFrom": [
                { "kind": "ConfigMap", "name": "a" }, { "kind": "Secret", "name": "b" }, { "kind": "ConfigMap", "name": "a" },
            ] },
            "dependsOn": [{ "name": "c" }, { "name": "d", "namespace": "infra" }],
        });
        assert_eq!(
            of("Kustomization", spec.clone()),
            [
                "/ConfigMap/apps/a",
                "c1/ConfigMap/apps/a",
                "/GitRepository/sources/repo",
                "c1/GitRepository/sources/repo",
                "/Kustomization/apps/c",
                "/Kustomization/infra/d",
                "c1/Kustomization/apps/c",
                "c1/Kustomization/infra/d",
                "/Secret/apps/b",
                "c1/Secret/apps/b",
            ]
        );
        let of_fleet = references("Kustomization", FLEET, "apps", &spec);
        assert!(of_fleet.len() == 5 && of_fleet.iter().all(|one| one.scope == FLEET));
        let source = |scope| {
            let named = sources_named(scope, "apps", &spec).into_iter();
            named.map(|one| one.scope).collect::<Vec<_>>()
        };
        let cluster = Uuid::from_u128(1);
        assert_eq!(
            (source(cluster), source(FLEET)),
            (vec![cluster, FLEET], vec![FLEET])
        );
    }

    #[test]
    fn an_app_names_its_kubeconfig_in_its_own_scope_alone() {
        for field in ["secretRef", "configMapRef"] {
            let spec = json!({ "kubeConfig": { field: { "name": "prod" } } });
            assert_eq!(of("Kustomization", spec), ["c1/KubeConfig/apps/prod"]);
        }
        assert!(of("Kustomization", json!({ "kubeConfig": {} })).is_empty());
    }

    #[test]
    fn a_placement_names_apps_and_groups() {
        let spec = json!({
            "apps": [{ "kind": "Kustomization", "name": "a" }, { "kind": "Kustomization", "name": "b", "namespace": "x" }],
            "clusters": { "groups": ["eu"] },
        });
        assert_eq!(
            of("Placement", spec),
            [
                "/ClusterGroup//eu",
                "c1/Kustomization/flux-system/a",
                "c1/Kustomization/x/b"
            ]
        );
    }

    #[test]
    fn a_repository_names_those_that_it_includes_apart_from_what_apps_name() {
        let spec = json!({ "include": [{ "repository": { "name": "lib" } }] });
        assert_eq!(
            of("GitRepository", spec),
            ["/Included/apps/lib", "c1/Included/apps/lib"]
        );
    }

    #[test]
    fn credentials_are_named_and_what_cannot_be_read_names_nothing() {
        for kind in ["GitRepository", "Receiver"] {
            assert_eq!(
                of(kind, json!({ "secretRef": { "name": "s" } })),
                ["/Secret/apps/s", "c1/Secret/apps/s"]
            );
        }
        for kind in ["Kustomization", "Placement", "GitRepository", "ConfigMap"] {
            assert!(
                of(kind, json!({ "sourceRef": 1, "apps": {}, "secretRef": [] })).is_empty(),
                "{kind}"
            );
        }
    }
}
