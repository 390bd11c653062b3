//! What no error of Helm's engine tells: a value that a user gives, by whichever flag or file. Errors go into terminals,
//! statuses and logs. Names are told: what stands in front of `=`. What functions of templates say of a text that they
//! cannot take is Helm's to the word; those of them that tell the text are listed here, and no others do.

use flotilla_render::helm::action::template;
use flotilla_render::helm::archive::{File, Limits};
use flotilla_render::helm::chart::Chart;
use flotilla_render::helm::context::Context;
use flotilla_render::helm::values::Sources;
use flotilla_render_tests::rendered::first_install;

/// Stands wherever a secret may stand.
const MARKER: &str = "hunter2";

const CHART: &str = "apiVersion: v2\nname: c\nversion: 1.0.0\n";

/// Returns an error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn given(flag: &str, text: &str) -> Sources {
    let mut sources = Sources::default();
    let all = vec![text.to_owned()];
    match flag {
        "set" => sources.set = all,
        "set-string" => sources.string = all,
        "set-json" => sources.json = all,
        "set-file" => sources.file = all,
        "set-literal" => sources.literal = all,
        _ => sources.files = vec![("v.yaml".to_owned(), text.as_bytes().to_vec())],
    }
    sources
}

/// Returns what is said of values that cannot be read.
fn refused(flag: &str, text: &str) -> String {
    let merged = given(flag, text).merge(&mut |_| Ok(MARKER.as_bytes().to_vec()));
    match merged {
        Ok(values) => panic!("{flag} {text:?} is read: {values:?}"),
        Err(error) => chain(&error),
    }
}

/// Returns which of the refusals tell the marker.
fn telling(refusals: impl IntoIterator<Item = (String, String)>) -> Vec<String> {
    refusals
        .into_iter()
        .filter(|(_, error)| error.contains(MARKER))
        .map(|(what, error)| format!("{what}: {error}"))
        .collect()
}

#[test]
fn a_flag_that_cannot_be_read_is_told_without_its_value() {
    let typed = ["set", "set-string", "set-file"];
    let lines = [
        "a=b,hunter2",
        "a=b,hunter2.x",
        "a={b,hunter2",
        "a={b}hunter2",
        "a[0]=b,c[hunter2]=x",
        "a=b,hunter2[-1]=x",
        "a=b,hunter2[70000]=x",
        "a=b,a.c=hunter2",
        "a=b,a[0]=hunter2",
        "a[-1]=hunter2",
        "a[70000]=hunter2",
        "a.b=1,a[0]=hunter2",
        "a[0]=1,a.b=hunter2",
        "a[0][0]=1,a[0].b[0]=1,a[0][0]=hunter2",
    ];
    let lines = typed
        .iter()
        .flat_map(|flag| lines.iter().map(move |line| (*flag, *line)));
    let other = [
        ("set-json", "a=hunter2"),
        ("set-json", "a={\"b\": hunter2}"),
        ("set-json", "a=\"hunter2"),
        ("set-json", "a=1 hunter2"),
        ("set-json", "{\"a\": hunter2}"),
        ("set-json", "{\"a\": \"hunter2\"} x"),
        ("set-literal", "a[-1]=hunter2"),
        ("set-literal", "a[70000]=hunter2"),
        ("set-literal", "a[0]b=hunter2"),
    ];
    let refusals = lines.chain(other).filter_map(|(flag, line)| {
        let merged = given(flag, line).merge(&mut |_| Ok(Vec::new()));
        let error = merged.err()?;
        Some((format!("{flag} {line}"), chain(&error)))
    });
    let refusals: Vec<_> = refusals.collect();
    assert!(refusals.len() > 40, "{refusals:?}");
    let told = telling(refusals);
    assert!(told.is_empty(), "{}", told.join("\n"));
}

#[test]
fn a_file_of_values_that_cannot_be_read_is_told_without_its_values() {
    let texts = [
        "a: [hunter2",
        "a: {hunter2",
        "a: \"hunter2",
        "a: 'hunter2\nb: 1",
        "a: hunter2: x",
        "a: *hunter2",
        "a: &hunter2",
        "a: &hunter2 1\nb: [*hunter2",
        "a: !!int hunter2",
        "a: !!float hunter2",
        "a: !!bool hunter2",
        "a: !!binary hunter2!",
        "a: !!timestamp hunter2",
        "a: !hunter2! x",
        "a: !<hunter2",
        "a: %hunter2",
        "a: @hunter2",
        "a: `hunter2",
        "a: |hunter2\n  x",
        "a: >hunter2",
        "a: \"\\hunter2\"",
        "a: \"\\xhunter2\"",
        "a: hunter2\n\tb: x",
        "hunter2",
        "- hunter2",
        "a: 1\n--- hunter2\n",
        "a: 1\n%hunter2\n",
        "<<: hunter2",
        "a: {<<: [hunter2]}",
        "? [hunter2]\n: x",
        "a: {[hunter2]: x}",
        "a: \u{1}hunter2",
    ];
    let refusals = texts.iter().filter_map(|text| {
        let merged = given("values", text).merge(&mut |_| Ok(Vec::new()));
        Some((format!("{text:?}"), chain(&merged.err()?)))
    });
    let refusals: Vec<_> = refusals.collect();
    assert!(refusals.len() > 20, "{refusals:?}");
    for (text, error) in &refusals {
        assert!(error.starts_with("failed to parse v.yaml"), "{text}: {error}");
    }
    let told = telling(refusals);
    assert!(told.is_empty(), "{}", told.join("\n"));
    assert!(!refused("set-file", "a=x,b[70000]=x").contains(MARKER));
}

/// Renders a chart with a value, and returns what is said where it does not render.
fn rendered(files: &[(&str, &str)], value: &str) -> Option<String> {
    let files = [("Chart.yaml", CHART)].iter().chain(files);
    let files = files
        .map(|(name, text)| File::new(*name, text.as_bytes()))
        .collect();
    let chart = Chart::from_directory(files, Limits::default()).expect("it is a chart");
    let sources = given("set-json", &format!("{{\"v\": {value}, \"n\": 1}}"));
    let values = sources.merge(&mut |_| Ok(Vec::new())).expect("it is JSON");
    let rendered = template(&first_install(&chart, values, Context::default()));
    rendered.err().map(|error| chain(&error))
}

#[test]
fn a_value_that_does_not_fit_a_schema_is_not_told() {
    let rules = [
        r#"{"type": "integer"}"#,
        r#"{"const": 1}"#,
        r#"{"enum": [1, 2]}"#,
        r#"{"pattern": "^x"}"#,
        r#"{"maxLength": 1}"#,
        r#"{"format": "ipv4"}"#,
        r#"{"not": {}}"#,
        r#"{"anyOf": [{"type": "integer"}, {"const": 3}]}"#,
        r#"{"oneOf": [{}, {}]}"#,
        r#"{"if": {}, "then": false}"#,
    ];
    let refusals = rules.iter().map(|rule| {
        let schema = format!(
            "{{\"$schema\": \"http://json-schema.org/draft-07/schema#\", \"properties\": {{\"v\": {rule}}}}}"
        );
        let said = rendered(&[("values.schema.json", &schema)], "\"hunter2\"");
        ((*rule).to_owned(), said.unwrap_or_default())
    });
    let told = telling(refusals.collect::<Vec<_>>());
    assert!(told.is_empty(), "{}", told.join("\n"));
}

#[test]
fn what_a_template_cannot_do_with_a_value_is_told_without_it_but_for_functions_that_helm_words_so() {
    let said = |call: &&&str| {
        let source = format!("a: 1 # {{{{ {call} }}}}");
        rendered(&[("templates/a.yaml", &source)], "\"hunter2\"")
    };
    let telling: Vec<&str> = CALLS
        .iter()
        .filter(|call| said(call).is_some_and(|error| error.contains(MARKER)))
        .copied()
        .collect();
    assert_eq!(telling, AS_HELM_SAYS);
    let refused = CALLS.iter().filter(|call| said(call).is_some()).count();
    assert!(refused > 30, "{refused}");
}

/// What says more of the text in Helm too: of actions and names, of expressions, and of what is no date, range, address.
const AS_HELM_SAYS: &[&str] = &[
    "range .Values.v }}{{ end",
    "mustRegexMatch (print `(` .Values.v) `x`",
    "regexReplaceAll (print `(` .Values.v) `x` `y`",
    "semverCompare .Values.v `1.0.0`",
    "tpl (print `{{ ` .Values.v ` }}`) .",
    "tpl (print `{{ .Values.v.` .Values.v ` }}`) .",
    "tpl (print `{{ fail ` .Values.v) .",
    "include .Values.v .",
    "urlParse (print `:` .Values.v)",
    "genSelfSignedCert `a` (list .Values.v) nil 1",
    "mustDateModify .Values.v now",
];

/// Each fails of a text that it cannot take.
const CALLS: &[&str] = &[
    ".Values.v.x",
    "index .Values.v `x`",
    "index .Values .Values.v `x`",
    "range .Values.v }}{{ end",
    "range (list 1) }}{{ template `none` $.Values.v }}{{ end",
    "add .Values.v 1",
    "len .Values.n .Values.v",
    "mustToDate `2006` .Values.v",
    "toDate `2006` .Values.v",
    "mustRegexMatch (print `(` .Values.v) `x`",
    "regexMatch (print `(` .Values.v) `x`",
    "regexReplaceAll (print `(` .Values.v) `x` `y`",
    "semver .Values.v",
    "semverCompare .Values.v `1.0.0`",
    "semverCompare `>1` .Values.v",
    "tpl (print `{{ ` .Values.v ` }}`) .",
    "tpl (print `{{ .Values.v.` .Values.v ` }}`) .",
    "tpl (print `{{ fail ` .Values.v) .",
    "include .Values.v .",
    "urlParse (print `:` .Values.v)",
    "urlJoin .Values.v",
    "mustFromJson .Values.v",
    "fromToml .Values.v",
    "b32dec .Values.v",
    "decryptAES .Values.v .Values.v",
    "buildCustomCert .Values.v .Values.v",
    "genPrivateKey .Values.v",
    "genSelfSignedCert `a` (list .Values.v) nil 1",
    "derivePassword 1 .Values.v `a` `b` `c`",
    "mustDateModify .Values.v now",
    "duration .Values.v",
    "durationRound .Values.v",
    "set .Values.v `a` 1",
    "merge .Values.v (dict)",
    "first .Values.v",
    "mustFirst .Values.v",
    "slice .Values.v `a`",
    "lt .Values.v 1",
    "eq .Values.v 1",
    "eq (dict) .Values.v",
    "dict .Values.v",
    "dig `v` `x` 1 .Values",
    "get .Values.v `a`",
    "keys .Values.v",
    "until .Values.v",
    "repeat .Values.v `a`",
    "lookup .Values.v",
    "kindIs",
    "call .Values.v",
    "html .Values.v.x",
    ".Files.Glob (print `[` .Values.v)",
    "bcrypt (repeat 20 .Values.v)",
    "htpasswd (print .Values.v `:`) `a`",
];

#[test]
fn a_manifest_that_cannot_be_read_is_told_without_its_values() {
    let manifests = [
        "a: [{{ .Values.v }}",
        "a: *{{ .Values.v }}",
        "a: !!int {{ .Values.v }}",
        "a: {{ .Values.v }}: x",
        "a: @{{ .Values.v }}",
        "a: !{{ .Values.v }}! x",
        "{{ .Values.v }}",
        "kind: [{{ .Values.v }}]",
        "metadata: {{ .Values.v }}",
        "metadata: {annotations: {a: [{{ .Values.v }}]}}",
        "metadata: {annotations: {{ .Values.v }}}",
        "? {{ .Values.v }}\n: [",
    ];
    let told = telling(manifests.iter().filter_map(|manifest| {
        let said = rendered(&[("templates/a.yaml", manifest)], "\"hunter2\"")?;
        Some(((*manifest).to_owned(), said))
    }));
    assert!(told.is_empty(), "{}", told.join("\n"));
}
