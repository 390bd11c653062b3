use std::{collections::BTreeMap, time::Duration};

use flotilla_core::{
    apply::UNIT_LABEL,
    clock::Timestamp,
    content::{Content, Form, ObjectEntry, Objects, object_digest},
    id::{ResourceUid, UnitId},
    unit::{AppRef, Settings, Substitution, UnitState, VariableLayer, Withheld, target_digest},
};
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::ledger::{
    record::Record,
    state::{Blob, BlobKind},
};

/// A unit's objects.
#[derive(Debug, Default)]
struct Evaluated {
    /// The objects, in the renderer's order.
    objects: Vec<Object>,
    /// Their bodies.
    values: Vec<Value>,
    /// Whoever rendered asserts that nothing is missing.
    complete: bool,
}

impl Evaluation {
    /// Evaluates what is left.
    async fn finish(&mut self) -> Result<Evaluated, EvaluateError> {
        let mut evaluated = Evaluated::default();
        while let Some(step) = self.next().await {
            if let Step::Object(object, value) = step? {
                evaluated.objects.push(*object);
                evaluated.values.push(value);
            }
        }
        evaluated.complete = self.is_complete();
        Ok(evaluated)
    }
}

/// A ledger with one unit, made object by object.
struct World {
    state: State,
    entry: Entry,
    entries: Vec<ObjectEntry>,
    environment: Environment,
}

fn world() -> World {
    let settings = Settings {
        interval: Duration::from_secs(600),
        retry_interval: Duration::from_secs(60),
        timeout: Duration::from_secs(570),
        wait: false,
        prune: true,
        common_labels: BTreeMap::new(),
        common_annotations: BTreeMap::new(),
        substitution: Substitution::WithVariables,
        default_namespace: "default".to_owned(),
        ..Settings::default()
    };
    let resource = |group: &str, kind: &str, plural: &str, namespaced| Resource {
        group: group.into(),
        version: "v1".into(),
        kind: kind.into(),
        plural: plural.into(),
        namespaced,
        watchable: true,
    };
    let served = vec![
        resource("", "ConfigMap", "configmaps", true),
        resource("", "Secret", "secrets", true),
        resource("", "Service", "services", true),
        resource("", "Namespace", "namespaces", false),
        resource("apps", "Deployment", "deployments", true),
        resource(
            "apiextensions.k8s.io",
            "CustomResourceDefinition",
            "customresourcedefinitions",
            false,
        ),
    ];
    World {
        state: State::default(),
        entry: Entry {
            unit: UnitId(Uuid::from_u128(1)),
            version: 1,
            app: AppRef {
                uid: ResourceUid(Uuid::from_u128(2)),
                kind: "Kustomization".into(),
                namespace: "apps".into(),
                name: "web".into(),
            },
            content: None,
            target: target_digest(None, &settings, &[]),
            revision: String::new(),
            state: UnitState::Active,
            prune_cleared: None,
            prune_approved: None,
            settings,
            variables: Vec::new(),
            depends_on: Vec::new(),
            withheld: Vec::new(),
            requested: String::new(),
        },
        entries: Vec::new(),
        environment: Environment {
            discovery: Arc::new(Discovery::new(served, vec!["failed.example.com".into()])),
            known: Arc::default(),
            protected: Protected::new("flotilla-system", "flotilla-agent"),
            namespaces: Arc::default(),
            key: [7; 32],
            keyring: None,
        },
    }
}

impl World {
    fn blob(&mut self, kind: BlobKind, digest: Digest, bytes: &[u8]) {
        let blob = Blob::new(kind, bytes).expect("compresses");
        self.state.apply(Record::Blob(digest, blob));
    }

    fn add(&mut self, key: ObjectKey, form: Form, bytes: &[u8]) {
        let digest = object_digest(form, bytes, None);
        self.blob(BlobKind::Object, digest, bytes);
        self.entries.push(ObjectEntry { key, form, digest });
    }

    fn object(mut self, object: Value) -> Self {
        let key = ObjectKey::of(&object).expect("a key");
        self.add(key, Form::Json, object.to_string().as_bytes());
        self
    }

    fn template(mut self, group: &str, kind: &str, name: &str, text: &str) -> Self {
        self.add(ObjectKey::new(group, kind, "", name), Form::Yaml, text.as_bytes());
        self
    }

    fn variables(mut self, values: Value, secret: bool) -> Self {
        let bytes = values.to_string();
        let digest = Digest::of("config", bytes.as_bytes());
        self.blob(BlobKind::Config, digest, bytes.as_bytes());
        self.entry
            .variables
            .push(VariableLayer::Config { digest, secret });
        self
    }

    fn recorded(mut self, key: ObjectKey) -> Self {
        let unit = self.entry.unit;
        self.state.apply(Record::Offered {
            unit,
            entry: self.entry.to_bytes().into(),
            at: Timestamp(0),
        });
        self.state.apply(Record::Item {
            unit,
            key: key.into(),
            record: Arc::default(),
        });
        self
    }

    fn begin(mut self, only: Option<Only<'_>>) -> Result<Evaluation, EvaluateError> {
        if self.entry.content.is_none() {
            let content = Content::Objects(Objects {
                count: u32::try_from(self.entries.len()).expect("few"),
                entries: std::mem::take(&mut self.entries),
                complete: true,
            });
            let (digest, bytes) = (content.digest(), content.to_bytes());
            self.blob(BlobKind::Content, digest, &bytes);
            self.entry.content = Some(digest);
        }
        Evaluation::begin(&self.state, &Arc::new(self.entry), self.environment, only)
    }

    fn steps(self, only: Option<Only<'_>>) -> Result<Vec<(Object, Value)>, EvaluateError> {
        let mut evaluation = self.begin(only)?;
        let evaluated = run(evaluation.finish())?;
        Ok(evaluated.objects.into_iter().zip(evaluated.values).collect())
    }

    fn all(self) -> Vec<(Object, Value)> {
        self.steps(None).expect("evaluates")
    }

    fn one(self) -> (Object, Value) {
        self.all().pop().expect("an object")
    }

    fn error(self) -> EvaluateError {
        self.steps(None).expect_err("an error")
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(future)
}

fn secret(fields: Value) -> Value {
    let mut object =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "a"}});
    object
        .as_object_mut()
        .expect("a map")
        .extend(fields.as_object().cloned().unwrap_or_default());
    object
}

#[test]
fn string_data_that_is_no_text_names_its_key_and_not_its_value() {
    for value in [json!(1234), json!(true), json!({"a": "b"})] {
        let error = world()
            .object(secret(json!({"stringData": {"pw": value}})))
            .error();
        let text = error.to_string();
        assert_eq!(error.reason(), "BuildFailed");
        assert!(
            text.contains("Secret/a/s") && text.contains("stringData.pw"),
            "{text}"
        );
        assert!(!text.contains("1234"), "{text}");
    }
    let template = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\nstringData:\n  pw: ${pw}\n";
    let error = world()
        .template("", "Secret", "s", template)
        .variables(json!({"pw": "1234"}), true)
        .error();
    assert!(error.to_string().contains("stringData.pw"), "{error}");
}

#[test]
fn string_data_goes_into_data_as_kubernetes_does_it() {
    let (_, value) = world()
        .object(secret(
            json!({"stringData": {"a": "x", "none": null}, "data": {"b": "eQ=="}}),
        ))
        .one();
    assert_eq!(value["data"], json!({"a": "eA==", "b": "eQ==", "none": ""}));
    assert!(value.get("stringData").is_none());
    for broken in [
        json!({"stringData": {"a": "x"}, "data": "text"}),
        json!({"stringData": ["x"]}),
    ] {
        let error = world().object(secret(broken)).error();
        assert!(error.to_string().contains("is no map"), "{error}");
    }
}

#[test]
fn an_object_in_which_a_secrets_value_stands_is_secret_whatever_its_kind() {
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\ndata:\n  host: ${host}\n";
    let with = |text: &str, secret: bool| {
        let (object, _) = world()
            .template("", "ConfigMap", "c", text)
            .variables(json!({"host": "db"}), secret)
            .one();
        object.secret
    };
    assert!(with(template, true));
    assert!(!with(template, false));
    // Nothing was substituted in it.
    assert!(!with(&template.replace("${host}", "plain"), true));
    assert!(world().object(secret(json!({}))).one().0.secret);
}

#[test]
fn withheld_and_protected_objects_stay_in_the_set() {
    let map = |namespace: &str, name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}});
    let mut world = world()
        .object(map("a", "theirs"))
        .object(map("flotilla-system", "flotilla-agent-ledger"))
        .object(map("a", "ours"));
    world.entry.withheld.push(Withheld {
        key: ObjectKey::new("", "ConfigMap", "a", "theirs"),
        owner: "Kustomization/apps/other".into(),
    });
    let withheld: Vec<_> = world
        .all()
        .into_iter()
        .map(|(object, _)| object.withheld.map(|why| why.message))
        .collect();
    assert_eq!(
        withheld,
        [
            Some("ConfigMap/a/theirs is owned by Kustomization/apps/other".into()),
            Some(
                "ConfigMap/flotilla-system/flotilla-agent-ledger is the agent's own: no unit may write it"
                    .into()
            ),
            None,
        ]
    );
}

fn widget(namespace: Option<&str>) -> Value {
    let mut widget = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}});
    if let Some(namespace) = namespace {
        widget["metadata"]["namespace"] = json!(namespace);
    }
    widget
}

fn definition(scope: &str) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": scope, "names": {"kind": "Widget", "plural": "widgets"}},
    })
}

fn widget_key(namespace: &str) -> ObjectKey {
    ObjectKey::new("example.com", "Widget", namespace, "w")
}

#[test]
fn a_key_is_settled_by_the_sets_own_definition() {
    for (scope, namespace) in [("Namespaced", "default"), ("Cluster", "")] {
        let all = world().object(widget(None)).object(definition(scope)).all();
        assert_eq!(all[0].0.desired.key, widget_key(namespace));
        assert!(!all[0].0.unresolved && all[0].0.resource.is_none());
    }
}

#[test]
fn an_object_without_the_namespace_that_its_kind_asks_for_is_refused_as_flux_does() {
    for (scope, is_refused) in [("Namespaced", true), ("Cluster", false)] {
        let mut world = world().object(widget(None)).object(definition(scope));
        world.entry.settings.default_namespace.clear();
        let all = world.all();
        assert_eq!(all[0].0.desired.key, widget_key(""));
        let said = all[0]
            .0
            .withheld
            .as_ref()
            .map(|withheld| withheld.message.as_str());
        assert_eq!(
            said.is_some_and(
                |said| said.starts_with("Widget/w namespace not specified: the server could not find")
            ),
            is_refused,
            "{said:?}"
        );
    }
}

#[test]
fn a_key_is_that_of_the_kind_as_last_known() {
    for (namespaced, namespace) in [(true, "default"), (false, "")] {
        let mut world = world().object(widget(None));
        let kind = ("example.com".to_owned(), "Widget".to_owned());
        world.environment.known = Arc::new(BTreeMap::from([(kind, namespaced)]));
        let (object, _) = world.one();
        assert_eq!(
            (object.desired.key, object.unresolved),
            (widget_key(namespace), false)
        );
    }
}

#[test]
fn an_object_of_an_unknown_kind_keeps_the_key_of_its_record() {
    let keys = |written: Option<&str>, recorded: &[&str]| {
        let mut world = world().object(widget(written));
        for namespace in recorded {
            world = world.recorded(widget_key(namespace));
        }
        let (object, _) = world.one();
        assert!(object.unresolved);
        object.desired.key.namespace
    };
    assert_eq!(keys(None, &["default"]), "default");
    assert_eq!(keys(Some("a"), &["a"]), "a");
    assert_eq!(keys(Some("a"), &["a", "b"]), "a");
    // The manifest names a namespace, and the kind has none.
    assert_eq!(keys(Some("a"), &[""]), "");
    // Nothing is known: the manifest's own.
    assert_eq!(keys(None, &[]), "");
    assert_eq!(keys(None, &["a", "b"]), "");
    assert_eq!(keys(Some("c"), &["a"]), "c");
}

#[test]
fn a_set_with_an_object_of_an_unknown_kind_says_of_none_that_it_left() {
    let complete = |world: World| {
        run(world.begin(None).expect("begins").finish())
            .expect("evaluates")
            .complete
    };
    assert!(complete(world()));
    assert!(!complete(world().object(widget(None)).recorded(widget_key("a"))));
}

#[test]
fn a_group_whose_discovery_failed_is_told_from_one_that_is_not_served() {
    let mut failed = widget(Some("a"));
    failed["apiVersion"] = json!("failed.example.com/v1");
    let all = world().object(failed).object(widget(Some("a"))).all();
    assert_eq!([all[0].0.group_failed, all[1].0.group_failed], [true, false]);
}

#[test]
fn a_kind_that_is_served_since_settles_the_object() {
    let mut evaluation = world().object(widget(None)).begin(None).expect("begins");
    let (before, _) = run(evaluation.object(0)).expect("evaluates");
    assert!(before.unresolved && before.resource.is_none());
    let resource = Resource {
        group: "example.com".into(),
        version: "v1".into(),
        kind: "Widget".into(),
        plural: "widgets".into(),
        namespaced: true,
        watchable: true,
    };
    evaluation.rediscovered(Arc::new(Discovery::new(vec![resource.clone()], Vec::new())));
    let (after, value) = run(evaluation.object(0)).expect("evaluates");
    assert_eq!(after.desired.key, widget_key("default"));
    assert_eq!((after.resource, after.unresolved), (Some(resource), false));
    assert_eq!(value["metadata"]["namespace"], "default");
}

#[test]
fn a_body_made_again_has_the_same_digest() {
    let mut evaluation = world()
        .object(secret(json!({"stringData": {"a": "x"}})))
        .begin(None)
        .expect("begins");
    let Some(Ok(Step::Object(object, value))) = run(evaluation.next()) else {
        panic!("an object");
    };
    assert_eq!(run(evaluation.object(object.index)), Ok((*object, value)));
    assert!(run(evaluation.next()).is_none() && evaluation.is_complete());
}

#[test]
fn only_what_may_match_is_read() {
    // What is passed over is not even parsed.
    let key = ObjectKey::new("", "ConfigMap", "a", "wanted");
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: made}\n";
    let world = world()
        .object(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "wanted", "namespace": "a"}}))
        .template("", "ConfigMap", "other", "not: [valid")
        .template("", "Secret", "wanted", "not: [valid")
        .template("", "ConfigMap", "${name}", template);
    let found = world
        .steps(Some(Only::Possible(std::slice::from_ref(&key))))
        .expect("evaluates");
    let names: Vec<_> = found
        .iter()
        .map(|(object, _)| object.desired.key.name.as_str())
        .collect();
    assert_eq!(names, ["wanted", "made"]);
    let mut partial = self::world()
        .object(widget(None))
        .begin(Some(Only::Likely(&[key])))
        .expect("begins");
    assert!(!run(partial.finish()).expect("evaluates").complete);
}

/// A set whose names all hold a variable.
fn templates(count: usize) -> World {
    (0..count).fold(world().variables(json!({"cluster": "c1"}), false), |world, n| {
        let name = format!("${{cluster}}-{n}");
        let text = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: \"{name}\"}}\n");
        world.template("", "ConfigMap", &name, &text)
    })
}

#[test]
fn a_batch_of_objects_with_variables_in_their_names_evaluates_no_others() {
    let keys: Vec<ObjectKey> = (0..200)
        .map(|n| ObjectKey::new("", "ConfigMap", "default", &format!("c1-{n}")))
        .collect();
    let mut evaluated = 0;
    for batch in keys.chunks(50) {
        let found = templates(200)
            .steps(Some(Only::Likely(batch)))
            .expect("evaluates");
        let found: Vec<_> = found.into_iter().map(|(object, _)| object.desired.key).collect();
        assert_eq!(found, batch);
        evaluated += found.len();
    }
    assert_eq!(evaluated, 200);
    let one = templates(200)
        .steps(Some(Only::Likely(&keys[7..8])))
        .expect("evaluates");
    assert_eq!(one.len(), 1);
}

#[test]
fn a_name_that_yaml_makes_another_is_possible_though_not_likely() {
    let world = || {
        let text = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: ${name}\n";
        let world = world().template("", "ConfigMap", "${name}", text);
        world.variables(json!({"name": "short # and a comment"}), false)
    };
    let keys = [ObjectKey::new("", "ConfigMap", "default", "short")];
    assert!(
        world()
            .steps(Some(Only::Likely(&keys)))
            .expect("evaluates")
            .is_empty()
    );
    let possible = world().steps(Some(Only::Possible(&keys))).expect("evaluates");
    assert_eq!(possible[0].0.desired.key, keys[0]);
}

#[test]
fn objects_of_one_name_in_other_namespaces_are_not_evaluated() {
    let namespaces = ["a", "b", "c", "d"];
    let world = || {
        namespaces.iter().fold(world(), |world, namespace| {
            world.object(json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "deny", "namespace": namespace}}))
        })
    };
    let key = ObjectKey::new("", "ConfigMap", "b", "deny");
    for only in [Only::Likely, Only::Possible] {
        let found = world()
            .steps(Some(only(std::slice::from_ref(&key))))
            .expect("evaluates");
        let found: Vec<_> = found.iter().map(|(object, _)| &object.desired.key).collect();
        assert_eq!(found, [&key]);
    }
}

#[test]
fn a_step_that_was_not_waited_for_is_taken_again() {
    let mut evaluation = world()
        .object(widget(None))
        .object(definition("Namespaced"))
        .begin(None)
        .expect("begins");
    let evaluated = run(async {
        for _ in 0..3 {
            // The first turn of a step is another task's.
            assert!(futures::poll!(std::pin::pin!(evaluation.next())).is_pending());
        }
        assert!(matches!(evaluation.next().await, Some(Ok(Step::Definition))));
        assert!(futures::poll!(std::pin::pin!(evaluation.next())).is_pending());
        assert!(!evaluation.is_complete());
        evaluation.finish().await.expect("evaluates")
    });
    assert_eq!((evaluated.objects.len(), evaluated.complete), (2, true));
    assert_eq!(evaluated.objects[0].desired.key, widget_key("default"));
}

#[test]
fn a_set_in_which_one_object_fails_is_never_complete() {
    let mut evaluation = world()
        .object(secret(json!({"stringData": {"a": 1}})))
        .object(widget(None))
        .begin(None)
        .expect("begins");
    let steps = run(async {
        let mut steps = Vec::new();
        while let Some(step) = evaluation.next().await {
            steps.push(step.is_ok());
        }
        steps
    });
    assert_eq!(steps, [false, true]);
    assert!(!evaluation.is_complete());
}

#[test]
fn content_of_an_unknown_type_is_not_supported_and_not_missing() {
    let mut world = world();
    let bytes = br#"{"type":"recipe","chart":"x"}"#;
    let digest = Content::digest_of(bytes);
    world.entry.content = Some(digest);
    let missing = world.begin(None).expect_err("missing");
    assert_eq!(missing.reason(), "ContentMissing");
    let mut world = self::world();
    world.entry.content = Some(digest);
    world.blob(BlobKind::Content, digest, bytes);
    let unknown = world.begin(None).expect_err("unknown");
    assert_eq!(unknown.reason(), "NotSupported");
    assert!(unknown.to_string().contains("recipe"), "{unknown}");
}

#[test]
fn what_the_server_sets_and_foreign_owners_are_not_sent() {
    let (_, value) = world()
        .object(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "status": {},
            "metadata": {
                "name": "c", "namespace": "a", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z",
                "deletionGracePeriodSeconds": 0, "finalizers": ["example.com/hold"],
                "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}],
            },
        }))
        .one();
    let metadata = value["metadata"].as_object().expect("a map");
    let fields: Vec<&str> = metadata.keys().map(String::as_str).collect();
    assert_eq!(fields, ["finalizers", "labels", "name", "namespace"]);
    assert_eq!(metadata["labels"][UNIT_LABEL], Uuid::from_u128(1).to_string());
    assert!(value.get("status").is_none());
}

#[test]
fn ports_without_protocol_get_tcp() {
    let (_, value) = world()
        .object(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "a"},
            "spec": {"ports": [{"port": 80}, {"port": 81, "protocol": "UDP"}]},
        }))
        .one();
    assert_eq!(
        value["spec"]["ports"],
        json!([{"port": 80, "protocol": "TCP"}, {"port": 81, "protocol": "UDP"}])
    );
    let (_, value) = world()
        .object(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "a"},
            "spec": {"template": {"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}}},
        }))
        .one();
    let container = &value["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        container["ports"],
        json!([{"containerPort": 80, "protocol": "TCP"}])
    );
    // Nothing is made where nothing stands.
    let bare = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "a"}});
    assert!(world().object(bare).one().1.get("spec").is_none());
}

#[test]
fn ports_of_each_pod_template_and_of_init_containers_get_tcp() {
    let pod = json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "protocol": ""}]}],
        "initContainers": [{"name": "i", "ports": [{"containerPort": 81}]}]});
    for (api_version, kind, path) in [
        ("v1", "Pod", "/spec"),
        ("v1", "PodTemplate", "/template/spec"),
        ("v1", "ReplicationController", "/spec/template/spec"),
        ("batch/v1", "Job", "/spec/template/spec"),
        ("batch/v1", "CronJob", "/spec/jobTemplate/spec/template/spec"),
    ] {
        let mut object =
            json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x", "namespace": "a"}});
        let mut fields = path.split('/').skip(1).collect::<Vec<_>>();
        let last = fields.pop().expect("a path");
        let mut holder = &mut object;
        for field in fields {
            holder = &mut holder[field];
        }
        holder[last] = pod.clone();
        let (_, value) = world().object(object).one();
        let port = |field: &str, number: u16| {
            let ports = value.pointer(&format!("{path}/{field}/0/ports"));
            assert_eq!(
                ports,
                Some(&json!([{"containerPort": number, "protocol": "TCP"}])),
                "{kind}"
            );
        };
        port("containers", 80);
        port("initContainers", 81);
    }
}

#[test]
fn null_fields_of_native_kinds_are_not_ours_and_of_others_stay() {
    let spec = json!({"replicas": null, "template": {
        "metadata": {"creationTimestamp": null, "labels": {"app": "x", "empty": null}},
        "spec": {"nodeSelector": null, "tolerations": null,
            "containers": [{"name": "c", "resources": {"limits": null}}]}}});
    let object = |api_version: &str, kind: &str| {
        json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x", "namespace": "a"},
            "spec": spec.clone()})
    };
    let (_, value) = world().object(object("apps/v1", "Deployment")).one();
    assert_eq!(
        value["spec"],
        json!({"template": {
            "metadata": {"labels": {"app": "x", "empty": ""}},
            "spec": {"containers": [{"name": "c", "resources": {}}]}}})
    );
    let (_, value) = world().object(object("example.com/v1", "Widget")).one();
    assert_eq!(value["spec"], spec);
}

#[test]
fn null_values_of_a_config_map_are_empty_texts() {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "a",
        "annotations": null}, "data": {"a": null, "b": "1"}});
    let (_, value) = world().object(object).one();
    assert_eq!(value["data"], json!({"a": "", "b": "1"}));
    assert!(value["metadata"].get("annotations").is_none());
}

#[test]
fn a_placeholder_of_a_ca_bundle_is_dropped_and_a_certificate_stays() {
    let bundle = |bundle: &str| {
        let mut definition = definition("Cluster");
        definition["spec"]["conversion"] =
            json!({"webhook": {"clientConfig": {"caBundle": bundle, "url": "x"}}});
        let (_, value) = world().object(definition).one();
        value["spec"]["conversion"]["webhook"]["clientConfig"].clone()
    };
    for placeholder in ["Cg==", "", "not base64!"] {
        assert_eq!(bundle(placeholder), json!({"url": "x"}), "{placeholder}");
    }
    let certified = rcgen::generate_simple_self_signed(["x".to_owned()]).expect("a certificate");
    let encoded = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(certified.cert.pem())
    };
    assert_eq!(bundle(&encoded)["caBundle"], encoded);
}

#[test]
fn a_key_that_occurs_twice_is_an_error() {
    let error = world()
        .object(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}))
        .object(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "default"}}))
        .error();
    assert!(
        error.to_string().contains("ConfigMap/default/c occurs twice"),
        "{error}"
    );
}

#[test]
fn keys_and_digests_do_not_depend_on_what_discovery_shows() {
    let object = |api_version: &str, kind: &str, namespace: Option<&str>| {
        let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}});
        if let Some(namespace) = namespace {
            object["metadata"]["namespace"] = json!(namespace);
        }
        object
    };
    let objects = [
        object("v1", "ConfigMap", None),
        object("apps/v1", "Deployment", Some("a")),
        object("example.com/v1", "Widget", None),
        // A namespace that the kind has not.
        object("example.com/v1", "Gadget", Some("a")),
    ];
    let resources = [
        ("", "ConfigMap", true),
        ("apps", "Deployment", true),
        ("example.com", "Widget", true),
        ("example.com", "Gadget", false),
    ]
    .map(|(group, kind, namespaced)| Resource {
        group: group.into(),
        version: "v1".into(),
        kind: kind.into(),
        plural: String::new(),
        namespaced,
        watchable: true,
    });
    let evaluated = |served: u32, known: bool, recorded: &[ObjectKey]| {
        let is_served =
            |(index, resource): (usize, &Resource)| (served >> index & 1 == 1).then(|| resource.clone());
        let shown = resources.iter().enumerate().filter_map(is_served).collect();
        let mut world = world();
        world.environment.discovery = Arc::new(Discovery::new(shown, vec!["example.com".into()]));
        if known {
            let kinds = resources
                .iter()
                .map(|r| ((r.group.clone(), r.kind.clone()), r.namespaced));
            world.environment.known = Arc::new(kinds.collect());
        }
        for key in recorded {
            world = world.recorded(key.clone());
        }
        for object in &objects {
            world = world.object(object.clone());
        }
        let desired = world.all().into_iter().map(|(object, _)| object.desired);
        desired.collect::<Vec<_>>()
    };
    let whole = evaluated(0b1111, false, &[]);
    let keys: Vec<ObjectKey> = whole.iter().map(|desired| desired.key.clone()).collect();
    for served in 0..0b1111 {
        assert_eq!(evaluated(served, true, &[]), whole, "known, {served:b} served");
        assert_eq!(
            evaluated(served, false, &keys),
            whole,
            "recorded, {served:b} served"
        );
    }
}

#[test]
fn other_tasks_run_while_a_large_template_is_read() {
    let lines: String = (0..20_000).map(|n| format!("  k{n}: \"${{a}}\"\n")).collect();
    let text = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: big}}\ndata:\n{lines}");
    let mut evaluation = world()
        .template("", "ConfigMap", "big", &text)
        .variables(json!({"a": "1"}), false)
        .begin(None)
        .expect("begins");
    let evaluated = flotilla_testkit::done_beside(evaluation.finish()).expect("evaluates");
    assert_eq!(evaluated.objects.len(), 1);
}
