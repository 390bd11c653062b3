//! Renders one template by itself, with the engine and with Helm.

use std::rc::Rc;

use flotilla_render::helm::capabilities::Capabilities;
use flotilla_render::helm::context::{Context, Limits};
use flotilla_render::helm::object::{Files, Object};
use flotilla_render::helm::render::{Renderable, render};
use flotilla_render::helm::value::{Entries, MapKind, MapVal, Val};
use flotilla_render::yaml;
use serde_json::json;

use crate::{Oracle, shown};

/// The time here, in nanoseconds since 1970; theirs is the machine's, which is later.
const NOW: i64 = 1_700_000_000_000_000_000;

/// The values every case sees.
pub const VALUES: &str = r#"
a: 1
b: two
f: 1.5
big: 1234567
huge: 12345678901234567890
t: true
n: null
empty: ""
zero: 0
list: [1, two, 3.5, true, null]
names: [b, a, c]
none: []
nested: {x: {y: {z: deep}}}
map: {k1: v1, k2: 2, k3: [1, 2]}
multi: "one\ntwo\n"
quoted: "it's \"q\""
tpl: "{{ .Values.b }}-{{ .Release.Name }}"
yaml: "x: 1\ny: [a, b]\n"
json: '{"x": 1, "y": ["a", 2.5]}'
version: 1.21.3
"#;

fn map(entries: Vec<(&str, Val)>) -> Val {
    Val::map(
        entries
            .into_iter()
            .map(|(key, value)| (Rc::from(key), value))
            .collect::<Entries>(),
    )
}

/// Builds what the oracle's `template` operation gives to a template named `t/templates/a.yaml`.
fn top(values: &str) -> MapVal {
    let values = yaml::read(values, &yaml::Limits::default()).expect("a case's values are YAML");
    let Val::Map(values) = Val::from_document(&values) else {
        panic!("a case's values are a map")
    };
    let values = Val::Map(MapVal {
        kind: MapKind::Values,
        ..values
    });
    let chart = map(vec![
        ("Name", "t".into()),
        ("Version", "1.2.3".into()),
        ("AppVersion", "4.5".into()),
        ("APIVersion", "v2".into()),
        ("IsRoot", true.into()),
    ]);
    let release = map(vec![
        ("Name", "r".into()),
        ("Namespace", "n".into()),
        ("IsUpgrade", false.into()),
        ("IsInstall", true.into()),
        ("Revision", Val::Int(1)),
        ("Service", "Helm".into()),
    ]);
    let object = |object| Val::Object(Rc::new(object));
    let Val::Map(top) = map(vec![
        ("Values", values),
        ("Chart", chart),
        ("Release", release),
        (
            "Capabilities",
            object(Object::Capabilities(Rc::new(Capabilities::default()))),
        ),
        ("Files", object(Object::Files(Rc::new(files())))),
        ("Subcharts", map(vec![])),
    ]) else {
        unreachable!("map makes a map")
    };
    top
}

fn files() -> Files {
    let files: [(&str, &[u8]); 5] = [
        ("bin/half.txt", b"a\xc3\nb\xa9\n"),
        ("bin/k.p12", b"\xff\xfe\x00\xc3\xa9"),
        ("config/a.txt", b"one\ntwo\n"),
        ("config/b.txt", b"bee"),
        ("other/c.yaml", b"c: 1\n"),
    ];
    files
        .into_iter()
        .map(|(name, data)| (name.into(), data.into()))
        .collect()
}

/// Renders one template with the engine.
pub fn ours(source: &str) -> Result<String, String> {
    let context = Context {
        now: NOW,
        ..Context::default()
    };
    with_context(source, &context)
}

/// As [`ours`], with a budget of so many steps.
pub fn within_steps(source: &str, steps: u64) -> Result<String, String> {
    let limits = Limits {
        steps,
        ..Limits::default()
    };
    let context = Context {
        limits,
        ..Context::default()
    };
    with_context(source, &context)
}

fn with_context(source: &str, context: &Context) -> Result<String, String> {
    let template = Renderable {
        name: "t/templates/a.yaml".into(),
        source: source.as_bytes().into(),
        values: top(VALUES),
        base_path: "t/templates".into(),
    };
    let rendered = render(vec![template], context).map_err(|cause| cause.to_string())?;
    Ok(shown(&rendered.files["t/templates/a.yaml"]))
}

/// Renders one template with Helm.
pub fn theirs(oracle: &mut Oracle, source: &str) -> Result<String, String> {
    use base64::Engine as _;
    let encoded = |data: &[u8]| base64::engine::general_purpose::STANDARD.encode(data);
    let files: serde_json::Map<String, serde_json::Value> = files()
        .iter()
        .map(|(name, data)| (name.to_string(), encoded(data).into()))
        .collect();
    let output = oracle.ask(&json!({
        "op": "template",
        "templates": { "templates/a.yaml": source },
        "values": VALUES,
        "files": files,
    }))?;
    Ok(output.files["templates/a.yaml"].clone())
}
