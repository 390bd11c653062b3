//! The agent under the rights that its chart gives, with RBAC on: what each profile lets it do, and what not.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use flotilla_agent::{cluster::kube::KubeCluster, ledger::secrets::Secrets, sim::SimAgent};
use flotilla_proto::agent::v1::ObjectState;
use flotilla_testkit::{AuditFilter, ControlPlane, ControlPlaneOptions, wait_until};
use k8s_openapi::api::{authorization::v1::SubjectAccessReview, core::v1::Secret};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::{
    chart::{documents, render},
    world::{World, config_map},
};

const SOON: Duration = Duration::from_secs(30);

/// A control plane of these tests, in which Flux's kinds are served.
async fn plane() -> &'static ControlPlane {
    static PLANE: OnceCell<&'static ControlPlane> = OnceCell::const_new();
    let plane = PLANE.get_or_init(|| async {
        flotilla_testkit::install_tls_provider();
        let plane = ControlPlane::start(ControlPlaneOptions::named("rights"))
            .await
            .unwrap();
        let plane: &'static ControlPlane = Box::leak(Box::new(plane));
        let world = World::over(plane).await;
        apply(&world, &kustomizations()).await;
        let served = format!(
            "/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/{}/kustomizations",
            world.own
        );
        wait_until("Flux's kind is served", SOON, async || {
            Ok::<_, String>(plane.get_json(&served).await.ok())
        })
        .await
        .unwrap();
        plane
    });
    plane.await
}

fn kustomizations() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "kustomizations.kustomize.toolkit.fluxcd.io"},
        "spec": {"group": "kustomize.toolkit.fluxcd.io", "scope": "Namespaced",
            "names": {"kind": "Kustomization", "listKind": "KustomizationList",
                "plural": "kustomizations", "singular": "kustomization"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]},
    })
}

fn api_of(world: &World, api_version: &str, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    match namespace {
        Some(namespace) => Api::namespaced_with(world.client.clone(), namespace, &resource),
        None => Api::all_with(world.client.clone(), &resource),
    }
}

/// Applies an object as the cluster's administrator.
pub(crate) async fn apply(world: &World, object: &Value) {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let api = api_of(
        world,
        text("/apiVersion").unwrap(),
        text("/kind").unwrap(),
        text("/metadata/namespace"),
    );
    let params = PatchParams::apply("test").force();
    api.patch(text("/metadata/name").unwrap(), &params, &Patch::Apply(object))
        .await
        .unwrap();
}

/// Gives an agent the rights that the chart gives it with these values, and starts it as the chart's ServiceAccount.
pub(crate) async fn install(world: &mut World, rbac: &str, namespaces: Vec<String>) {
    let rendered = documents(&render(&world.own, &format!("rbac: {rbac}"), None).unwrap());
    for object in &rendered {
        let kind = object["kind"].as_str().unwrap();
        if kind == "ServiceAccount" || kind.ends_with("Role") || kind.ends_with("RoleBinding") {
            apply(world, object).await;
        }
    }
    let kubeconfig = world
        .plane
        .kubeconfig_for_service_account(&world.own, "flotilla-agent")
        .await
        .unwrap();
    let client = world.plane.client_for(&kubeconfig).await.unwrap();
    world.user = format!("system:serviceaccount:{}:flotilla-agent", world.own);
    let cells = Arc::new(Secrets::new(client.clone(), &world.own));
    let cluster = Arc::new(KubeCluster::new(client));
    world.agent = SimAgent::start_within(cluster, cells, namespaces).await.unwrap();
}

/// Of these requests, written `verb group/resource namespace`, those that RBAC allows the agent.
async fn allowed<'a>(world: &World, requests: &[&'a str]) -> Vec<&'a str> {
    let reviews: Api<SubjectAccessReview> = Api::all(world.client.clone());
    let mut allowed = Vec::new();
    for request in requests {
        let mut words = request.split(' ');
        let (verb, kind) = (words.next().unwrap(), words.next().unwrap());
        let (group, resource) = kind.split_once(':').unwrap_or(("", kind));
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let namespace = words.next().unwrap_or_default();
        let review = json!({"spec": {
            "user": world.user,
            "groups": [
                "system:serviceaccounts",
                format!("system:serviceaccounts:{}", world.own),
                "system:authenticated",
            ],
            "resourceAttributes": {"verb": verb, "group": group, "resource": resource,
                "subresource": subresource, "namespace": namespace},
        }});
        let review = serde_json::from_value(review).unwrap();
        let answer = reviews.create(&PostParams::default(), &review).await.unwrap();
        if answer.status.unwrap().allowed {
            allowed.push(*request);
        }
    }
    allowed
}

/// What no profile but `admin` lets the agent do anywhere.
const NEVER: &[&str] = &[
    "get pods/exec default",
    "create pods/exec default",
    "get pods/attach default",
    "create pods/portforward default",
    "get pods/proxy default",
    "get services/proxy default",
    "get nodes/proxy",
    "get secrets kube-system",
    "list secrets",
    "create secrets kube-system",
    "patch secrets kube-system",
    "create serviceaccounts/token kube-system",
    "impersonate serviceaccounts kube-system",
    "deletecollection apps:deployments default",
    "deletecollection namespaces",
    "delete secrets kube-system",
    "delete nodes",
];

/// What the agent asked for and was refused, written `verb resource namespace`.
fn refused(world: &World) -> BTreeSet<String> {
    let filter = AuditFilter::all().user(&world.user);
    let requests = world.plane.audit().requests(&filter).unwrap();
    let refused = requests.into_iter().filter(|request| {
        request
            .response_status
            .as_ref()
            .is_some_and(|status| status.code == 403)
    });
    refused
        .map(|request| {
            let object = request.object_ref.unwrap();
            format!("{} {} {}", request.verb, object.resource, object.namespace)
        })
        .collect()
}

fn of_flux(mut object: Value, namespace: &str) -> Value {
    object["metadata"]["labels"] = json!({
        "kustomize.toolkit.fluxcd.io/name": "apps",
        "kustomize.toolkit.fluxcd.io/namespace": namespace,
    });
    object
}

#[tokio::test]
async fn profile_tenant_applies_and_corrects_where_flux_is_installed() {
    let mut world = World::over(plane().await).await;
    let namespace = world.namespace.clone();
    let tenant = format!("{{profile: tenant, tenant: {{namespaces: [{namespace}]}}}}");
    install(&mut world, &tenant, vec![namespace.clone()]).await;

    assert_eq!(allowed(&world, NEVER).await, [""; 0]);
    let here = [
        "patch apps:deployments",
        "delete apps:deployments",
        "get secrets",
        "create secrets",
        "delete secrets",
    ]
    .map(|what| format!("{what} {namespace}"));
    let here: Vec<&str> = here.iter().map(String::as_str).collect();
    assert_eq!(allowed(&world, &here).await, here);
    let elsewhere = [
        "get configmaps default",
        "patch configmaps default",
        "delete configmaps default",
        "patch namespaces",
        "delete namespaces",
        "patch apiextensions.k8s.io:customresourcedefinitions",
        "patch rbac.authorization.k8s.io:clusterroles",
        "patch apps:deployments kube-system",
    ];
    assert_eq!(allowed(&world, &elsewhere).await, [""; 0]);

    // The labels are Flux's, and the Kustomization they name is where the agent may not look.
    let mine = of_flux(config_map("x", "1"), "flux-system");
    let entry = world.offer(&[mine.clone(), config_map("y", "1")], false).await;
    world.until_ready(&entry).await;
    world.edit("x", "hacked").await;
    world.until_value("x", "1").await;
    world
        .until("the correction is told", |world| {
            world.events.iter().any(|(reason, _)| reason == "DriftCorrected")
        })
        .await;

    let expected = ["get kustomizations flux-system".to_owned()];
    assert_eq!(refused(&world), BTreeSet::from(expected));

    // What bears Flux's labels and not our mark is left alone, and the right that is lacking is named.
    let theirs = of_flux(config_map("theirs", "1"), "flux-system");
    let mut live = theirs.clone();
    live["metadata"]["namespace"] = namespace.clone().into();
    live["data"]["a"] = "of flux".into();
    apply(&world, &live).await;
    world.offer(&[mine, theirs], false).await;
    world
        .until("the lacking right is named", |world| {
            world.objects.get("theirs").is_some_and(|theirs| {
                theirs.state() == ObjectState::Failed
                    && theirs.message.contains("Kustomization flux-system/apps")
                    && theirs.message.contains("profile `platform`")
            })
        })
        .await;
    assert_eq!(world.value("theirs").await.as_deref(), Some("of flux"));
}

#[tokio::test]
async fn profile_platform_applies_an_infrastructure_repository_and_secrets_where_listed() {
    let mut world = World::over(plane().await).await;
    let namespace = world.namespace.clone();
    let platform = format!("{{profile: platform, platform: {{secretNamespaces: [{namespace}]}}}}");
    install(&mut world, &platform, Vec::new()).await;
    assert_eq!(allowed(&world, NEVER).await, [""; 0]);
    let deletes = [
        "delete apps:deployments default",
        "delete namespaces",
        "delete apiextensions.k8s.io:customresourcedefinitions",
    ];
    assert_eq!(allowed(&world, &deletes).await, deletes);
    let own = format!("delete secrets {}", world.own);
    assert_eq!(allowed(&world, &[own.as_str()]).await, [""; 0], "its state");

    let group = format!("{namespace}.example.com");
    let mut crd = kustomizations();
    crd["metadata"]["name"] = format!("widgets.{group}").into();
    crd["spec"]["group"] = group.clone().into();
    crd["spec"]["names"] =
        json!({"kind": "Widget", "listKind": "WidgetList", "plural": "widgets", "singular": "widget"});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"},
        "stringData": {"password": "1"}});
    let objects = [
        crd,
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": format!("{namespace}-made")}}),
        // More than the agent holds itself.
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": format!("{namespace}-operator")},
            "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "patch"]}]}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": format!("{namespace}-operator")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                "name": format!("{namespace}-operator")},
            "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": namespace}]}),
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": format!("{namespace}-operator")},
            "webhooks": [{"name": "v.example.org", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "failurePolicy": "Ignore", "clientConfig": {"url": "https://127.0.0.1:9/"},
                "rules": [{"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE"],
                    "resources": ["widgets"]}]}]}),
        secret.clone(),
        config_map("x", "1"),
    ];
    let entry = world.offer(&objects, false).await;
    world.until_ready(&entry).await;
    world.edit("x", "hacked").await;
    world.until_value("x", "1").await;

    // Secrets may not be watched in the whole cluster: they are where they may be read.
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), &namespace);
    let patch = Patch::Merge(json!({"stringData": {"password": "hacked"}}));
    secrets
        .patch("login", &PatchParams::default(), &patch)
        .await
        .unwrap();
    wait_until("the Secret is put back", SOON, async || {
        let found = secrets.get("login").await.map_err(|e| e.to_string())?;
        let password = found
            .data
            .unwrap_or_default()
            .remove("password")
            .unwrap_or_default()
            .0;
        Ok::<_, String>((password == b"1").then_some(()))
    })
    .await
    .unwrap();

    let wide = ["list secrets ", "watch secrets "].map(str::to_owned);
    assert!(
        refused(&world).is_subset(&BTreeSet::from(wide)),
        "{:?}",
        refused(&world)
    );

    let mut elsewhere = secret;
    elsewhere["metadata"] = json!({"name": "elsewhere", "namespace": "default"});
    world.offer(&[config_map("x", "1"), elsewhere], false).await;
    world
        .until("a Secret elsewhere is refused", |world| {
            world
                .objects
                .get("elsewhere")
                .is_some_and(|object| object.state() == ObjectState::Failed)
        })
        .await;
}
