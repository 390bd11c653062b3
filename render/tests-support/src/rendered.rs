//! Renders one template by itself, with the engine and with Helm.

use flotilla_render::helm::action::{self, RenderInput};
use flotilla_render::helm::archive::{self, File};
use flotilla_render::helm::capabilities::Capabilities;
use flotilla_render::helm::chart::Chart;
use flotilla_render::helm::context::{Context, Limits};
use flotilla_render::helm::render_values::Release;
use flotilla_render::helm::values;
use flotilla_render::yaml::Map;
use serde_json::json;

use crate::{Oracle, shown};

/// What the oracle's operation `template` says of its chart.
const CHART: &str = "apiVersion: v2\nname: t\nversion: 1.2.3\nappVersion: \"4.5\"\n";

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

/// The files of the chart, with their bytes.
const FILES: [(&str, &[u8]); 5] = [
    ("bin/half.txt", b"a\xc3\nb\xa9\n"),
    ("bin/k.p12", b"\xff\xfe\x00\xc3\xa9"),
    ("config/a.txt", b"one\ntwo\n"),
    ("config/b.txt", b"bee"),
    ("other/c.yaml", b"c: 1\n"),
];

/// Renders one template with the engine.
pub fn ours(source: &str) -> Result<String, String> {
    let context = Context {
        now: NOW,
        ..Context::default()
    };
    with_context(source, context)
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
    with_context(source, context)
}

/// The first installation of a chart, as release `r` in the namespace `n`.
pub fn first_install(chart: &Chart, values: Map, context: Context) -> RenderInput<'_> {
    RenderInput {
        chart,
        values,
        release: Release {
            name: "r".to_owned(),
            namespace: "n".to_owned(),
            revision: 1,
            is_upgrade: false,
        },
        capabilities: Capabilities::default(),
        skip_schema_validation: false,
        subchart_notes: false,
        context,
    }
}

fn with_context(source: &str, context: Context) -> Result<String, String> {
    let mut files: Vec<File> = FILES.iter().map(|(name, data)| File::new(*name, data)).collect();
    files.push(File::new("Chart.yaml", CHART.as_bytes()));
    files.push(File::new("templates/a.yaml", source.as_bytes()));
    let chart = Chart::from_directory(files, archive::Limits::default()).expect("the chart is whole");
    let rendered = action::files(&first_install(
        &chart,
        values::load(VALUES.as_bytes()).expect("the values are a map"),
        context,
    ));
    let rendered = rendered.map_err(|cause| cause.to_string())?;
    Ok(shown(&rendered["t/templates/a.yaml"]))
}

/// Renders one template with Helm.
pub fn theirs(oracle: &mut Oracle, source: &str) -> Result<String, String> {
    use base64::Engine as _;
    let encoded = |data: &[u8]| base64::engine::general_purpose::STANDARD.encode(data);
    let files: serde_json::Map<String, serde_json::Value> = FILES
        .iter()
        .map(|(name, data)| ((*name).to_owned(), encoded(data).into()))
        .collect();
    let output = oracle.ask(&json!({
        "op": "template",
        "templates": { "templates/a.yaml": source },
        "values": VALUES,
        "files": files,
    }))?;
    Ok(output.files["templates/a.yaml"].clone())
}
