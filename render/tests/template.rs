//! Templates against Helm's own engine: syntax, functions and error texts, each case in its own chart.

mod oracle;
mod template_cases;

use std::rc::Rc;

use flotilla_render::helm::capabilities::Capabilities;
use flotilla_render::helm::context::Context;
use flotilla_render::helm::object::{Files, Object};
use flotilla_render::helm::render::{Renderable, render};
use flotilla_render::helm::value::{Entries, MapKind, MapVal, Val};
use flotilla_render::yaml::{self, Limits};
use oracle::Oracle;
use serde_json::json;

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
    let values = yaml::read(values, &Limits::default()).expect("a case's values are YAML");
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
    let files = [
        ("config/a.txt", "one\ntwo\n"),
        ("config/b.txt", "bee"),
        ("other/c.yaml", "c: 1\n"),
    ];
    files
        .into_iter()
        .map(|(name, text)| (name.into(), text.as_bytes().into()))
        .collect()
}

fn ours(source: &str) -> Result<String, String> {
    let template = Renderable {
        name: "t/templates/a.yaml".into(),
        source: source.into(),
        values: top(template_cases::VALUES),
        base_path: "t/templates".into(),
    };
    let rendered = render(vec![template], &Context::default()).map_err(|cause| cause.to_string())?;
    Ok(rendered.files["t/templates/a.yaml"].clone())
}

fn theirs(oracle: &mut Oracle, source: &str) -> Result<String, String> {
    use base64::Engine as _;
    let encoded = |data: &[u8]| base64::engine::general_purpose::STANDARD.encode(data);
    let files: serde_json::Map<String, serde_json::Value> = files()
        .iter()
        .map(|(name, data)| (name.to_string(), encoded(data).into()))
        .collect();
    let output = oracle.ask(&json!({
        "op": "template",
        "templates": { "templates/a.yaml": source },
        "values": template_cases::VALUES,
        "files": files,
    }))?;
    Ok(output.files["templates/a.yaml"].clone())
}

/// Compares every case; what differs is shown, and more than `known` fails.
fn compare(table: &str, cases: &[&str], known: &[&str]) {
    let mut oracle = Oracle::start();
    let mut differences = Vec::new();
    let mut agreed = 0;
    for case in cases {
        let (ours, theirs) = (ours(case), theirs(&mut oracle, case));
        if ours == theirs {
            agreed += 1;
        } else if !known.contains(case) {
            differences.push(format!(
                "template: {case}\nours:     {ours:?}\ntheirs:   {theirs:?}\n"
            ));
        }
    }
    println!("agreement: {table}: {agreed} of {}", cases.len());
    for difference in &differences {
        println!("{difference}");
    }
    assert!(differences.is_empty(), "{table}: {} differ", differences.len());
}

#[test]
fn syntax_means_what_it_means_to_go() {
    compare("template syntax", template_cases::SYNTAX, &[]);
}

#[test]
fn errors_are_worded_as_helm_words_them() {
    compare("template errors", template_cases::ERRORS, template_cases::KNOWN);
}

#[test]
fn functions_return_what_go_functions_return() {
    compare(
        "template functions",
        template_cases::FUNCTIONS,
        template_cases::KNOWN,
    );
}

#[test]
fn printf_prints_as_go_prints() {
    let cases: Vec<String> = template_cases::printf();
    let cases: Vec<&str> = cases.iter().map(String::as_str).collect();
    compare("printf", &cases, &[]);
}

#[test]
fn endless_templates_are_stopped() {
    let bombs = [
        "{{ define \"a\" }}{{ include \"a\" . }}{{ end }}{{ include \"a\" . }}",
        "{{ define \"a\" }}{{ template \"a\" . }}{{ end }}{{ template \"a\" . }}",
        "{{ define \"a\" }}{{ tpl \"{{ include \\\"a\\\" . }}\" . }}{{ end }}{{ include \"a\" . }}",
        "{{ range until 10000000 }}{{ range until 10000000 }}{{ end }}{{ end }}",
        "{{ repeat 1000000000 \"x\" }}",
        "{{ range untilStep 0 1000000000 1 }}{{ end }}",
        "{{ $s := \"xxxxxxxxxx\" }}{{ range until 100 }}{{ $s = print $s $s }}{{ end }}{{ $s }}",
        "{{ $d := dict }}{{ $_ := set $d \"d\" $d }}{{ $d }}",
    ];
    for bomb in bombs {
        assert!(ours(bomb).is_err(), "{bomb}");
    }
}

#[test]
fn deep_nesting_is_refused_without_exhausting_the_stack() {
    let depth = 10_000;
    for (open, close) in [
        ("{{ if . }}", "{{ end }}"),
        ("{{ with . }}", "{{ end }}"),
        ("{{ range . }}", "{{ end }}"),
    ] {
        assert!(
            ours(&format!("{}{}", open.repeat(depth), close.repeat(depth))).is_err(),
            "{open}"
        );
    }
    assert!(ours(&format!("{{{{ {}1{} }}}}", "(".repeat(depth), ")".repeat(depth))).is_err());
    let chained = format!("{{{{ if . }}}}{}{{{{ end }}}}", "{{ else if . }}".repeat(depth));
    assert!(ours(&chained).is_err());
}
