//! Composes values from references as Flux's own library does, on fixed cases and on random ones.

use std::collections::BTreeMap;

use base64::Engine as _;
use flotilla_render::helm::values::references::{Data, Reference, ReferenceError, compose};
use flotilla_render::yaml::{self, Value};
use flotilla_render_tests::{Oracle, Random, cases, describe, seed};
use serde_json::{Value as Json, json};

/// What a case's references may name.
fn objects(extra: &[(&str, &str, &str)]) -> BTreeMap<String, Data> {
    let mut objects = BTreeMap::<String, Data>::new();
    let fixed = [
        (
            "ConfigMap/a",
            "values.yaml",
            "x: 1\nm: {k: v, n: {d: 1}}\nl: [1, 2]\n",
        ),
        (
            "ConfigMap/b",
            "values.yaml",
            "m: {k: w, z: null, n: 5}\nl: [3]\nx: null\n",
        ),
        ("Secret/a", "values.yaml", "s: secret\nm: {n: {e: 2}}\n"),
        ("ConfigMap/a", "other", "y: true\n"),
        ("ConfigMap/a", "empty", ""),
        ("ConfigMap/a", "list", "[1]"),
        ("ConfigMap/a", "broken", "a: [\n"),
        ("ConfigMap/a", "two", "a: 1\n---\nb: 2\n"),
    ];
    for (object, key, text) in fixed.iter().chain(extra) {
        let data = objects.entry((*object).to_owned()).or_default();
        data.insert((*key).to_owned(), text.as_bytes().to_vec());
    }
    objects
}

fn ours(
    references: &[Reference],
    inline: &Json,
    objects: &BTreeMap<String, Data>,
) -> Result<String, ReferenceError> {
    let inline = yaml::read(&inline.to_string(), &yaml::Limits::default()).expect("JSON is YAML");
    let Value::Map(inline) = inline else {
        panic!("a map")
    };
    let find = |kind: &str, name: &str| objects.get(&format!("{kind}/{name}"));
    compose(references, inline, find).map(|values| describe(&Value::Map(values)))
}

fn theirs(
    oracle: &mut Oracle,
    references: &[Reference],
    inline: &Json,
    objects: &BTreeMap<String, Data>,
) -> Result<String, String> {
    let encoded = |data: &Vec<u8>| base64::engine::general_purpose::STANDARD.encode(data);
    let objects: BTreeMap<_, BTreeMap<_, _>> = objects
        .iter()
        .map(|(name, data)| {
            (
                name,
                data.iter().map(|(key, text)| (key, encoded(text))).collect(),
            )
        })
        .collect();
    let references: Vec<Json> = references
        .iter()
        .map(|one| {
            json!({
                "kind": one.kind, "name": one.name, "valuesKey": one.values_key,
                "targetPath": one.target_path, "optional": one.optional, "literal": one.literal,
            })
        })
        .collect();
    let given = json!({ "references": references, "objects": objects, "inline": inline });
    oracle.text("flux_values", &given.to_string())
}

fn compare(
    oracle: &mut Oracle,
    references: &[Reference],
    inline: &Json,
    objects: &BTreeMap<String, Data>,
) -> bool {
    let (ours, theirs) = (
        ours(references, inline, objects),
        theirs(oracle, references, inline, objects),
    );
    match (&ours, &theirs) {
        (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs, "{references:#?} over {inline}"),
        (Err(_), Err(_)) => {}
        _ => panic!("ours {ours:?}, theirs {theirs:?}: {references:#?} over {inline}"),
    }
    ours.is_ok()
}

fn from(object: &str, key: &str) -> Reference {
    let (kind, name) = object.split_once('/').expect("a kind and a name");
    Reference {
        kind: kind.to_owned(),
        name: name.to_owned(),
        values_key: key.to_owned(),
        ..Reference::default()
    }
}

fn at(object: &str, key: &str, path: &str) -> Reference {
    Reference {
        target_path: path.to_owned(),
        ..from(object, key)
    }
}

const PATHS: &[&str] = &[
    "x",
    "m",
    "m.k",
    "m.n",
    "m.n.d",
    "l",
    "l[0]",
    "l[1]",
    "l[3]",
    "new",
    "new.deep",
    "m\\.k",
    "ll[0].b",
    "deep.l[0]",
    "a[",
    "",
    "m.n.d.e",
    "b=1,c",
];

const TEXTS: &[&str] = &[
    "",
    "1",
    "01",
    "true",
    "null",
    "1.5",
    "text",
    "a,b",
    "a,b=2",
    "{1,2}",
    "[1]",
    "'5'",
    "\"true\"",
    "'",
    "a=b",
    "a\\,b",
    "line\ntwo",
    "{",
    "ü",
];

const INLINES: &[&str] = &[
    "{}",
    r#"{"x": 5, "new": {"deep": 1}}"#,
    r#"{"m": {"k": "inline", "n": {"d": 9}}, "l": [7, 8]}"#,
    r#"{"deep": {"l": [1, 2], "m": {"a": null}}, "ll": [{"b": 1}, 2], "m": 1}"#,
];

#[test]
fn a_path_takes_what_flux_sets_at_it() {
    let mut oracle = Oracle::start();
    let (mut agreed, mut total) = (0, 0);
    for text in TEXTS {
        let objects = objects(&[("Secret/t", "text", text)]);
        for path in PATHS.iter().filter(|path| !path.is_empty()) {
            for literal in [false, true] {
                let mut set = at("Secret/t", "text", path);
                set.literal = literal;
                let inline = serde_json::from_str(INLINES[2]).expect("JSON");
                total += 1;
                agreed += usize::from(compare(&mut oracle, &[set], &inline, &objects));
            }
        }
    }
    println!(
        "flux values at a path: {agreed} composed alike, {} refused by both",
        total - agreed
    );
}

#[test]
fn references_compose_as_in_flux() {
    let mut oracle = Oracle::start();
    let tabled = tabled();
    let mut random = Random::new(seed(3));
    for inline in INLINES {
        let inline = serde_json::from_str(inline).expect("JSON");
        for case in &tabled {
            compare(&mut oracle, case, &inline, &objects(&[]));
        }
    }
    let mut composed = 0;
    let cases = cases(400);
    for _ in 0..cases {
        let texts: Vec<&str> = (0..3).map(|_| random.pick(TEXTS)).collect();
        let objects = objects(&[
            ("Secret/t", "0", texts[0]),
            ("Secret/t", "1", texts[1]),
            ("Secret/t", "2", texts[2]),
        ]);
        let references: Vec<Reference> = (0..random.below(5)).map(|_| reference(&mut random)).collect();
        let inline = serde_json::from_str(random.pick(INLINES)).expect("JSON");
        composed += usize::from(compare(&mut oracle, &references, &inline, &objects));
    }
    println!("flux values: {composed} of {cases} random compositions, the others refused by both");
    assert!(composed * 4 > cases, "{composed} of {cases}");
}

fn tabled() -> Vec<Vec<Reference>> {
    let optional = |reference: Reference| Reference {
        optional: true,
        ..reference
    };
    vec![
        vec![],
        vec![from("ConfigMap/a", "")],
        vec![
            from("ConfigMap/a", ""),
            from("ConfigMap/b", ""),
            from("Secret/a", ""),
        ],
        vec![from("ConfigMap/b", ""), from("ConfigMap/a", "")],
        vec![from("ConfigMap/a", "other"), from("ConfigMap/a", "empty")],
        vec![from("ConfigMap/a", "list")],
        vec![from("ConfigMap/a", "broken")],
        vec![optional(from("ConfigMap/a", "broken"))],
        vec![from("ConfigMap/a", "two")],
        vec![from("ConfigMap/none", "")],
        vec![
            optional(from("ConfigMap/none", "")),
            optional(from("ConfigMap/none", "")),
            from("Secret/a", ""),
        ],
        vec![optional(from("ConfigMap/a", "none"))],
        vec![from("ConfigMap/a", "none")],
        vec![from("Deployment/a", "")],
        vec![optional(from("Deployment/a", ""))],
        vec![at("ConfigMap/a", "other", "m.k"), from("ConfigMap/b", "")],
        vec![
            from("ConfigMap/a", ""),
            at("ConfigMap/a", "other", "m.n.d"),
            at("ConfigMap/a", "empty", "m.k"),
        ],
    ]
}

#[test]
fn errors_tell_what_to_do_and_no_value() {
    let objects = objects(&[
        ("Secret/t", "text", "hidden,hunter2"),
        ("Secret/t", "yaml", "a: [hunter2\n"),
    ]);
    let inline = json!({});
    let refused = |reference: Reference| ours(&[reference], &inline, &objects).expect_err("refused");
    assert!(matches!(
        refused(from("Secret/none", "")),
        ReferenceError::NotFound { .. }
    ));
    assert!(matches!(
        refused(from("Secret/t", "none")),
        ReferenceError::KeyNotFound { .. }
    ));
    assert!(matches!(
        refused(from("Pod/t", "text")),
        ReferenceError::UnsupportedKind { .. }
    ));
    for reference in [from("Secret/t", "yaml"), at("Secret/t", "text", "a")] {
        let refused = refused(reference);
        let causes = std::iter::successors(Some(&refused as &dyn std::error::Error), |cause| cause.source());
        for cause in causes {
            assert!(!cause.to_string().contains("hunter2"), "{cause}");
        }
    }
}

fn reference(random: &mut Random) -> Reference {
    if random.one_in(2) {
        return from(random.pick(&["ConfigMap/a", "ConfigMap/b", "Secret/a"]), "");
    }
    let mut reference = at(
        "Secret/t",
        random.pick(&["0", "1", "2"]),
        random.pick(&PATHS[..14]),
    );
    reference.literal = random.one_in(3);
    reference
}
