//! Charts whose parts are each within their bounds and together are not.

use std::fmt::Write;

use flotilla_render::helm::context::Limits;

use super::{Hostile, chart_with, rendered};

pub(crate) const INPUTS: &[Hostile] = &[
    (
        "errors-of-a-text-within-itself",
        "tpl is nested deeper",
        errors_of_a_text_within_itself,
    ),
    (
        "errors-of-a-long-name-within-itself",
        "nested reference name",
        errors_of_a_long_name_within_itself,
    ),
    ("many-definitions", "builds", many_definitions),
    ("one-definition-many-times", "builds", one_definition_many_times),
    ("a-variable-behind-many", "builds", a_variable_behind_many),
    ("parsed-texts-kept", "builds", parsed_texts_kept),
    (
        "parsed-texts-within-each-other",
        "parsed templates",
        parsed_texts_within_each_other,
    ),
    (
        "values-of-many-charts",
        "error unpacking subchart",
        values_of_many_charts,
    ),
    ("globals-of-aliases", "builds", || globals_of_aliases(80, true)),
    ("plain-globals-of-aliases", "builds", || {
        globals_of_aliases(80, false)
    }),
    ("globals-of-many-aliases", "steps", || {
        globals_of_aliases(900, true)
    }),
    ("plain-globals-of-many-aliases", "steps", || {
        globals_of_aliases(900, false)
    }),
    (
        "globals-that-each-alias-changes",
        "bytes of copies",
        globals_that_each_alias_changes,
    ),
    (
        "globals-that-each-template-changes",
        "bytes of output and values",
        globals_that_each_template_changes,
    ),
    (
        "definitions-of-many-aliases",
        "builds",
        definitions_of_many_aliases,
    ),
    ("paths-of-many-aliases", "bytes of copies", || {
        many_files_of_many_aliases("crds")
    }),
    ("templates-of-many-aliases", "bytes of copies", || {
        many_files_of_many_aliases("templates")
    }),
    ("files-of-many-aliases", "builds", || {
        many_files_of_many_aliases("f")
    }),
    (
        "descriptions-of-many-aliases",
        "bytes of copies",
        descriptions_of_many_aliases,
    ),
    ("dependencies-of-one-name", "steps", dependencies_of_one_name),
    ("patterns-of-a-schema", "ranges of characters", || {
        patterns_of_a_schema(4_000, 25)
    }),
    ("patterns-of-a-schema-of-many-aliases", "steps", || {
        let below = vec![
            of_chart("Chart.yaml", BELOW),
            of_chart("values.schema.json", schema_of_patterns(15, 9)),
        ];
        aliased_within(FEW_STEPS, 900, below, "")
    }),
    ("documents-that-say-nothing", "steps", documents_that_say_nothing),
    ("a-long-pattern-of-files", "pattern of files of more than", || {
        template("{{ $x := .Files.Glob (repeat 16000000 `a`) }}", "")
    }),
    ("a-pattern-of-files-of-many-states", "steps", || {
        let names: Vec<String> = (0..100)
            .map(|at| format!("{}{at:03}", "a".repeat(4_000)))
            .collect();
        let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
        let source = format!("{{{{ $x := .Files.Glob `**a{}` }}}}", "?".repeat(4_000));
        chart_with(&source, "", &files, FEW_STEPS)
    }),
    ("toml-of-many-words", "words, marks and blanks", || {
        template("{{ $x := fromToml (repeat 8000000 `a `) }}", "")
    }),
    ("a-long-replacement-of-matches", "steps", || {
        within_few_steps(
            "{{ $r := repeat 3300000 `${z}` }}{{ $x := regexReplaceAll `a` (repeat 200 `a`) $r }}",
        )
    }),
];

fn template(source: &str, given: &str) -> Result<(), String> {
    chart_with(source, given, &[], Limits::default())
}

/// So that the test does not last.
const FEW_STEPS: Limits = Limits {
    steps: 1_000_000,
    bytes: 256 << 20,
};

fn within_few_steps(source: &str) -> Result<(), String> {
    chart_with(source, "", &[], FEW_STEPS)
}

/// Each error says what those within it say.
fn errors_of_a_text_within_itself() -> Result<(), String> {
    let text = format!("{{{{ tpl .Values.src . }}}}{{{{/* {} */}}}}", "x".repeat(10_000));
    template("{{ tpl .Values.src . }}", &format!("src: \"{text}\"\n"))
}

fn errors_of_a_long_name_within_itself() -> Result<(), String> {
    let name = "n".repeat(20_000);
    template(
        &format!(
            "{{{{ define \"{name}\" }}}}{{{{ include \"{name}\" . }}}}{{{{ end }}}}{{{{ include \"{name}\" . }}}}"
        ),
        "",
    )
}

fn many_definitions() -> Result<(), String> {
    let mut source = String::new();
    for at in 0..180_000 {
        let _ = write!(source, "{{{{define \"{at:06x}\"}}}}{{{{end}}}}");
    }
    template(&source, "")
}

/// What holds nothing is looked at to the end.
fn one_definition_many_times() -> Result<(), String> {
    let blanks = " {{/**/}}".repeat(200_000);
    let empty = "{{define `x`}}{{end}}".repeat(100_000);
    template(
        &format!("{{{{define `x`}}}}{blanks}{{{{1}}}}{{{{end}}}}{empty}"),
        "",
    )
}

fn a_variable_behind_many() -> Result<(), String> {
    let mut source = "{{ if false }}".to_owned();
    for at in 0..60_000 {
        let _ = write!(source, "{{{{$a{at:05x}:=1}}}}");
    }
    source.push_str(&"{{$a0ea56}}".repeat(100_000));
    template(&format!("{source}{{{{ end }}}}"), "")
}

fn parsed_texts_kept() -> Result<(), String> {
    template(
        "{{ range $i := until 100 }}{{ $t := printf `{{ if false }}%d%s{{ end }}` $i (repeat 20000 `{{1}}`) }}{{ $x := tpl $t $ }}{{ end }}",
        "",
    )
}

/// All of them run at once.
fn parsed_texts_within_each_other() -> Result<(), String> {
    template(
        "{{ define `next` }}{{ $t := printf `{{ if false }}%d%s{{ end }}{{ include \"next\" (add1 .) }}` . (repeat 20000 `{{1}}`) }}{{ tpl $t . }}{{ end }}{{ include `next` 1 }}",
        "",
    )
}

const BELOW: &str = "apiVersion: v2\nname: below\nversion: 1.0.0\n";

/// A chart below another that has so many names there.
fn aliased(count: usize, files: Vec<(String, String)>, values: &str) -> Result<(), String> {
    aliased_within(Limits::default(), count, files, values)
}

fn aliased_within(
    limits: Limits,
    count: usize,
    files: Vec<(String, String)>,
    values: &str,
) -> Result<(), String> {
    let mut chart = "apiVersion: v2\nname: c\nversion: 1.0.0\ndependencies:\n".to_owned();
    for at in 0..count {
        let _ = writeln!(chart, "- {{name: below, version: 1.0.0, alias: a{at}}}");
    }
    let below = files
        .into_iter()
        .map(|(name, text)| (format!("charts/below/{name}"), text));
    let own = [
        ("Chart.yaml".to_owned(), chart),
        ("values.yaml".to_owned(), values.to_owned()),
        ("templates/a.yaml".to_owned(), "a: 1".to_owned()),
    ];
    rendered(own.into_iter().chain(below).collect(), "", limits)
}

fn of_chart(name: &str, text: impl Into<String>) -> (String, String) {
    (name.to_owned(), text.into())
}

/// A few bytes of each grow to half a million values.
fn values_of_many_charts() -> Result<(), String> {
    let mut values = "a: &a [1,1,1,1,1,1,1,1,1]\n".to_owned();
    for (below, own) in ["a", "b", "c", "d", "e"].iter().zip(["b", "c", "d", "e", "f"]) {
        let _ = writeln!(
            values,
            "{own}: &{own} [{}]",
            vec![format!("*{below}"); 9].join(",")
        );
    }
    let mut files = vec![of_chart(
        "Chart.yaml",
        "apiVersion: v2\nname: c\nversion: 1.0.0\n",
    )];
    for at in 0..60 {
        let chart = format!("apiVersion: v2\nname: s{at}\nversion: 1.0.0\n");
        files.push((format!("charts/s{at}/Chart.yaml"), chart));
        files.push((format!("charts/s{at}/values.yaml"), values.clone()));
    }
    rendered(files, "", Limits::default())
}

/// Many globals, in a map of them or beside each other.
fn globals(in_map: bool) -> String {
    let mut values = "global:\n".to_owned();
    if in_map {
        values.push_str("  big:\n");
    }
    for at in 0..100_000 {
        let _ = writeln!(values, "    k{at:05x}: 1");
    }
    values
}

/// All of them have the same, of which there is one.
fn globals_of_aliases(count: usize, in_map: bool) -> Result<(), String> {
    aliased(count, vec![of_chart("Chart.yaml", BELOW)], &globals(in_map))
}

/// Each adds one of its own, and so has all others once more.
fn globals_that_each_alias_changes() -> Result<(), String> {
    let own = of_chart("values.yaml", "global: {big: {own: 1}}\n");
    aliased(80, vec![of_chart("Chart.yaml", BELOW), own], &globals(true))
}

fn globals_that_each_template_changes() -> Result<(), String> {
    let source = "{{ $_ := set .Values.global.big .Chart.Name 1 }}";
    let files = vec![
        of_chart("Chart.yaml", BELOW),
        of_chart("templates/b.yaml", source),
    ];
    aliased(80, files, &globals(true))
}

fn definitions_of_many_aliases() -> Result<(), String> {
    let definition = format!("# {}\n", "x".repeat(4_000_000));
    let files = vec![of_chart("Chart.yaml", BELOW), of_chart("crds/a.yaml", definition)];
    aliased(250, files, "")
}

fn many_files_of_many_aliases(folder: &str) -> Result<(), String> {
    let mut files = vec![of_chart("Chart.yaml", BELOW)];
    files.extend((0..20_000).map(|at| (format!("{folder}/{at}.yaml"), String::new())));
    aliased(900, files, "")
}

fn descriptions_of_many_aliases() -> Result<(), String> {
    let chart = format!("{BELOW}annotations: {{a: \"{}\"}}\n", "x".repeat(1 << 20));
    aliased(900, vec![of_chart("Chart.yaml", chart)], "")
}

/// All of them are looked at for each chart, and none is meant.
fn dependencies_of_one_name() -> Result<(), String> {
    let mut chart = "apiVersion: v2\nname: c\nversion: 1.0.0\ndependencies:\n".to_owned();
    for at in 0..100_000 {
        let _ = writeln!(chart, "- {{name: below, version: 2.0.0, alias: a{at}}}");
    }
    let mut files = vec![of_chart("Chart.yaml", chart)];
    files.extend((0..900).map(|at| (format!("charts/{at}/Chart.yaml"), BELOW.to_owned())));
    rendered(files, "", FEW_STEPS)
}

fn documents_that_say_nothing() -> Result<(), String> {
    let source = format!(
        "{{{{ range until 20 }}}}{}{{{{ end }}}}",
        "---\n{}\n".repeat(700_000)
    );
    template(&source, "")
}

fn schema_of_patterns(count: usize, repeated: usize) -> String {
    let patterns: Vec<String> = (0..count)
        .map(|at| format!(r#""p{at}":{{"pattern":"^\\pL{{{repeated}}}x{at}$"}}"#))
        .collect();
    format!(r#"{{"properties":{{{}}}}}"#, patterns.join(","))
}

fn patterns_of_a_schema(count: usize, repeated: usize) -> Result<(), String> {
    let schema = schema_of_patterns(count, repeated);
    chart_with("a: 1", "", &[("values.schema.json", &schema)], Limits::default())
}
