//! What holds for every document.

use flotilla_api::kinds::cluster::ClusterSpec;
use flotilla_api::kinds::config::ConfigMapData;
use flotilla_api::kinds::git_repository::{GitProvider, GitReference, GitRepositorySpec};
use flotilla_api::kinds::kustomization::{ConfigKind, KustomizationSpec, PostBuild, SubstituteRef};
use flotilla_api::kinds::placement::{
    AppKind, AppRef, ClusterChoice, CountOrPercent, PlacementSpec, RolloutStrategy, Wave,
};
use flotilla_api::kinds::{Spec, schema};
use flotilla_api::meta::{LabelSelector, LocalRef, Patch};
use flotilla_api::text::{GitRef, GitUrl, GoDuration, InnerPath, Label, Name};
use flotilla_api::{Kind, Mode, Options, parse, parse_value};
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use serde_json::{Value, json};

fn name() -> impl Strategy<Value = Name> {
    "[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?".prop_map(|text| Name::new(text).expect("a name"))
}

fn label() -> impl Strategy<Value = Label> {
    "[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?".prop_map(|text| Label::new(text).expect("a label"))
}

fn duration() -> impl Strategy<Value = GoDuration> {
    "[1-9][0-9]{0,3}(ms|s|m|h)([1-9][0-9]{0,3}(\\.[0-9]{1,3})?s)?"
        .prop_map(|text| GoDuration::new(text).expect("a duration"))
}

fn variables() -> impl Strategy<Value = std::collections::BTreeMap<String, String>> {
    btree_map("[a-zA-Z_][a-zA-Z0-9_]{0,8}", any::<String>(), 0..4)
}

fn selector() -> impl Strategy<Value = LabelSelector> {
    btree_map("[a-z]{1,8}", "[a-z]{0,8}", 0..3).prop_map(|match_labels| LabelSelector {
        match_labels,
        match_expressions: Vec::new(),
    })
}

fn git_repository() -> impl Strategy<Value = GitRepositorySpec> {
    let reference = of("[a-z]{1,8}(/[a-z]{1,8})?").prop_map(|branch| {
        branch.map(|branch| GitReference {
            branch: Some(GitRef::new(branch).expect("a ref")),
            ..Default::default()
        })
    });
    (
        "(http|https|ssh)://[a-z]{1,10}(:[1-9][0-9]{0,3})?/[a-z/]{1,10}",
        duration(),
        of(name()),
        reference,
        of(any::<String>()),
        any::<bool>(),
    )
        .prop_map(
            |(url, interval, secret, reference, ignore, suspend)| GitRepositorySpec {
                url: GitUrl::new(url).expect("a URL"),
                interval,
                timeout: None,
                secret_ref: secret.map(|name| LocalRef { name }),
                provider: GitProvider::Generic,
                service_account_name: None,
                reference,
                verify: None,
                proxy_secret_ref: None,
                ignore,
                suspend,
                recurse_submodules: false,
                include: Vec::new(),
                sparse_checkout: Vec::new(),
            },
        )
}

fn kustomization() -> impl Strategy<Value = KustomizationSpec> {
    let from = (
        prop_oneof![Just(ConfigKind::ConfigMap), Just(ConfigKind::Secret)],
        name(),
        any::<bool>(),
    )
        .prop_map(|(kind, name, optional)| SubstituteRef { kind, name, optional });
    let post_build = of(
        (variables(), vec(from, 0..3)).prop_map(|(substitute, substitute_from)| PostBuild {
            substitute,
            substitute_from,
            substitute_strategy: None,
        }),
    );
    let path = of("(\\./)?[a-z]{1,5}(/[a-z]{1,5}){0,3}");
    (duration(), of(duration()), path, any::<[bool; 3]>(), name(), of(label()), post_build, vec(any::<String>(), 0..3)).prop_map(
        |(interval, timeout, path, [prune, wait, suspend], source, target_namespace, post_build, patches)| {
            let minimal = json!({
                "interval": interval, "prune": prune, "sourceRef": {"kind": "GitRepository", "name": source},
            });
            let spec: KustomizationSpec = serde_json::from_value(minimal).expect("it decodes");
            KustomizationSpec {
                timeout,
                path: path.map(|path| InnerPath::new(path).expect("a path")),
                wait,
                suspend,
                target_namespace,
                post_build,
                patches: patches.into_iter().map(|patch| Patch { patch, target: None }).collect(),
                ..spec
            }
        },
    )
}

fn placement() -> impl Strategy<Value = PlacementSpec> {
    let app = (name(), of(label())).prop_map(|(name, namespace)| AppRef {
        kind: AppKind::Kustomization,
        name,
        namespace,
    });
    let limit = prop_oneof![
        (1..500_u32).prop_map(CountOrPercent::Count),
        (1..=100_u32).prop_map(CountOrPercent::Percent)
    ];
    let wave = of((label(), of(selector()), of(limit), of(duration()))).prop_map(|wave| {
        wave.map(|(name, selector, max_unavailable, soak)| Wave {
            name,
            selector,
            max_unavailable,
            soak,
            approval: None,
            health: None,
        })
    });
    (vec(app, 1..4), selector(), vec(label(), 0..4), wave).prop_map(|(apps, selector, exclude, wave)| {
        PlacementSpec {
            apps,
            clusters: ClusterChoice {
                selector: Some(selector),
                groups: Vec::new(),
                names: Vec::new(),
                exclude,
            },
            overrides: Vec::new(),
            rollout: wave.map(|wave| RolloutStrategy {
                waves: vec![wave],
                ..Default::default()
            }),
        }
    })
}

/// Writes a spec, reads it as a document, and compares.
fn reads_back<T: Spec + PartialEq + std::fmt::Debug>(spec: &T) -> Result<(), TestCaseError> {
    let kind = T::KIND;
    let mut object =
        json!({"apiVersion": kind.api_version(), "kind": kind.name(), "metadata": {"name": "a"}});
    let content = serde_json::to_value(spec).expect("it serialises");
    if kind.has_spec() {
        object["spec"] = content.clone();
    } else {
        object
            .as_object_mut()
            .expect("an object")
            .extend(content.as_object().expect("an object").clone());
    }
    let options = Options {
        namespace: kind.is_namespaced().then_some("b"),
        ..Options::default()
    };
    for text in [
        object.to_string(),
        serde_json::to_string_pretty(&object).expect("it serialises"),
    ] {
        let parsed = parse(text.as_bytes(), &options).remove(0);
        let resource = parsed
            .outcome
            .map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(resource.value(), Some(&content));
        prop_assert_eq!(&resource.spec::<T>().expect("it decodes"), spec);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn a_git_repository_reads_back(spec in git_repository()) {
        reads_back(&spec)?;
    }

    #[test]
    fn a_kustomization_reads_back(spec in kustomization()) {
        reads_back(&spec)?;
    }

    #[test]
    fn a_placement_reads_back(spec in placement()) {
        reads_back(&spec)?;
    }

    #[test]
    fn a_cluster_and_a_config_map_read_back(variables in variables()) {
        reads_back(&ConfigMapData { data: variables.clone(), ..Default::default() })?;
        reads_back(&ClusterSpec { variables, ..Default::default() })?;
    }

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes, &Options::default());
    }

    #[test]
    fn no_yaml_like_text_panics(text in "(---|\\.\\.\\.|[a-d]{1,3}:|- |\\{|\\}|\\[|\\]|&a |\\*a|\"|'|!!x |#|[0-9]{1,3}|%| |\n|\n  ){0,60}") {
        let _ = parse(text.as_bytes(), &Options::default());
    }

    #[test]
    fn no_object_panics(kind in 0..20_usize, spec in json_value(), metadata in json_value(), nested in any::<bool>()) {
        let kind = Kind::all().nth(kind).expect("there are twenty");
        let object = json!({
            "apiVersion": kind.api_version(), "kind": kind.name(), "metadata": metadata, "spec": spec, "data": spec,
        });
        let mode = if nested { Mode::Nested } else { Mode::Strict };
        let _ = parse_value(object, &Options { mode, ..Options::default() });
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("name".to_owned()),
        Just("interval".to_owned()),
        Just("sourceRef".to_owned()),
        Just("ref".to_owned()),
        Just("patches".to_owned()),
        Just("chart".to_owned()),
        Just("spec".to_owned()),
        any::<String>(),
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(key.clone(), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

#[test]
fn every_kind_has_a_schema_with_a_description_for_each_field() {
    for kind in Kind::all() {
        let schema = schema(kind);
        let fields = schema
            .get("properties")
            .and_then(Value::as_object)
            .expect("it describes an object");
        for (field, schema) in fields {
            assert!(schema["description"].is_string(), "{kind}.{field}");
        }
    }
}
