//! What Helm's engine refuses: each bound on a chart, its templates, its values and its schema, by its name.

use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;

use flate2::Compression;
use flate2::write::GzEncoder;
use flotilla_render::helm::action::template;
use flotilla_render::helm::archive::{File, Limits as ChartLimits};
use flotilla_render::helm::chart::Chart;
use flotilla_render::helm::context::{Context, Limits, Stop};
use flotilla_render::helm::values;
use flotilla_render_tests::rendered::first_install;

const CHART: &str = "apiVersion: v2\nname: c\nversion: 1.0.0\n";

fn render(files: &[(&str, &str)], given: &str, limits: Limits) -> Result<String, String> {
    let files = [("Chart.yaml", CHART)]
        .iter()
        .chain(files)
        .map(|(name, text)| File::new(*name, text.as_bytes()))
        .collect();
    let chart = Chart::from_directory(files, ChartLimits::default()).map_err(|error| error.to_string())?;
    let input = first_install(
        &chart,
        values::load(given.as_bytes()).map_err(|error| error.to_string())?,
        Context {
            limits,
            ..Context::default()
        },
    );
    let rendered = template(&input).map_err(|error| error.to_string())?;
    Ok(rendered.text(&Default::default()).unwrap_or_default())
}

/// Renders one template within few steps, as the tests are built without optimisation.
fn one(source: &str) -> Result<String, String> {
    let limits = Limits {
        steps: 1_000_000,
        bytes: 64 << 20,
    };
    render(&[("templates/a.yaml", source)], "", limits)
}

fn refused(source: &str, why: &[&str]) {
    match one(source) {
        Err(error) => {
            let end: String = error
                .chars()
                .skip(error.chars().count().saturating_sub(300))
                .collect();
            assert!(why.iter().any(|why| error.contains(why)), "{source}: {end}");
        }
        Ok(text) => panic!("{source}: renders {} bytes", text.len()),
    }
}

/// A template is looked for in the sets of all texts that are evaluated around it.
#[test]
fn looking_for_a_template_within_many_texts_takes_steps() {
    let source = |depth: u32| {
        format!(
            "{{{{ define `x` }}}}{{{{ end }}}}{{{{ define `n` }}}}{{{{ if lt (int .i) {depth} }}}}{{{{ tpl (printf `{{{{ include \"n\" (dict \"i\" %d) }}}}` (add1 .i)) . }}}}{{{{ else }}}}{{{{ range until 20000 }}}}{{{{ include `x` . }}}}{{{{ end }}}}{{{{ end }}}}{{{{ end }}}}{{{{ include `n` (dict `i` 0) }}}}"
        )
    };
    one(&source(10)).expect("few texts");
    refused(&source(900), &["more than 1000000 steps"]);
}

/// Templates are given what is wrong with a text as a value: a bound would be a hole in what is rendered.
#[test]
fn a_text_of_too_many_values_ends_the_rendering_and_is_no_value() {
    for (read, text) in [
        ("fromJson", r#"(printf `{"a":[%s0]}` (repeat 500001 `0,`))"#),
        ("fromJsonArray", "(printf `[%s0]` (repeat 500001 `0,`))"),
        ("fromToml", "(printf `a = [%s0]` (repeat 500001 `0,`))"),
        ("fromYamlArray", "(repeat 500001 (printf `- a%c` 10))"),
        (
            "fromJson",
            "(printf `{\"a\":%s%s}` (repeat 200 `[`) (repeat 200 `]`))",
        ),
        (
            "fromToml",
            "(printf `a = %s%s` (repeat 200 `[`) (repeat 200 `]`))",
        ),
        ("fromToml", "(printf `%sa = 1` (repeat 100 `a.`))"),
    ] {
        let source = format!("{{{{ len ({read} {text}) }}}}");
        let error = render(&[("templates/a.yaml", &source)], "", Limits::default()).expect_err(read);
        let why = [
            "more than 500000 values",
            "exceeds the limit of 500000",
            "recursion limit exceeded",
            "deeper than 80 levels",
        ];
        assert!(why.iter().any(|why| error.contains(why)), "{read}: {error}");
    }
}

const STEPS: &[&str] = &["more than 1000000 steps"];
const BYTES: &[&str] = &["bytes of output", "steps"];
const TEXT: &[&str] = &["text of more than 16777216 bytes"];
const ITEMS: &[&str] = &["more than 1048576"];

#[test]
fn template_fuel_ends_loops_and_names_the_template() {
    for source in [
        "{{ range until 100000 }}{{ range until 100000 }}{{ end }}{{ end }}",
        "{{ range 1000000000000 }}{{ end }}",
        "{{ range $i := until 1000000 }}{{ $x := add $i 1 }}{{ end }}",
        "{{ define `a` }}{{ range until 100 }}{{ include `b` . }}{{ end }}{{ end }}{{ define `b` }}{{ range until 100 }}{{ include `c` . }}{{ end }}{{ end }}{{ define `c` }}{{ range until 1000 }}{{ end }}{{ end }}{{ include `a` . }}",
    ] {
        refused(source, STEPS);
    }
    let error = one("{{ range 1000000000000 }}{{ end }}").unwrap_err();
    assert!(error.contains("c/templates/a.yaml:1:"), "{error}");
}

#[test]
fn include_tpl_and_template_end_at_their_depth() {
    let nested = [
        "nested reference name",
        "maximum template depth",
        "tpl is nested deeper",
        "steps",
        "bytes of output",
    ];
    for source in [
        "{{ define `a` }}{{ include `a` . }}{{ end }}{{ include `a` . }}",
        "{{ define `a` }}{{ include `b` . }}{{ end }}{{ define `b` }}{{ include `a` . }}{{ end }}{{ include `a` . }}",
        "{{ define `a` }}{{ template `a` . }}{{ end }}{{ template `a` . }}",
        "{{ define `a` }}{{ tpl `{{ include \"a\" . }}` . }}{{ end }}{{ include `a` . }}",
        "{{ $_ := set .Values `t` `{{ tpl .Values.t . }}` }}{{ tpl .Values.t . }}",
        "{{ $_ := set .Values `t` `{{ tpl .Values.t . }}{{ tpl .Values.t . }}` }}{{ tpl .Values.t . }}",
    ] {
        refused(source, &nested);
    }
}

#[test]
fn errors_that_wrap_each_other_keep_the_innermost_and_the_outermost() {
    let levels = |padding: usize| {
        let text = format!("{{{{ tpl .Values.src . }}}}{{{{/* {} */}}}}", "x".repeat(padding));
        let given = format!("src: \"{text}\"\n");
        render(
            &[("templates/a.yaml", "{{ tpl .Values.src . }}")],
            &given,
            Limits::default(),
        )
        .expect_err("it is nested without end")
    };
    let all = levels(0);
    assert!(!all.contains("left out"), "those of a short text are all said");
    assert_eq!(all.matches("error during tpl function execution").count(), 1000);
    let some = levels(3000);
    assert!(some.len() < 300_000, "{} bytes", some.len());
    assert!(some.starts_with("template: c/templates/a.yaml:1:3: executing"));
    assert!(some.ends_with("error calling tpl: tpl is nested deeper than 1000"));
    assert!(some.contains(" more are left out): "));
}

#[test]
fn a_name_or_a_text_that_an_error_shows_is_cut() {
    for source in [
        "{{ tpl (printf `{{ fail \"no\" }}%s` (repeat 100000 `x`)) . }}",
        "{{ tpl (printf `{{ if }}%s` (repeat 100000 `x`)) . }}",
        "{{ include (repeat 100000 `x`) . }}",
    ] {
        let error = one(source).expect_err(source);
        assert!(error.len() < 10_000, "{source}: {} bytes", error.len());
    }
}

#[test]
fn assigning_takes_steps_for_the_variables_it_looks_through() {
    let of = |variables: usize| {
        let declared: String = (0..variables)
            .map(|at| format!("{{{{ $a{at} := 1 }}}}"))
            .collect();
        steps_of(&format!(
            "{declared}{{{{ range until 1000 }}}}{{{{ $a0 = 2 }}}}{{{{ end }}}}"
        ))
    };
    assert!(of(3_200) >= 16 * of(1));
}

#[test]
fn names_take_steps_by_their_length_where_they_are_looked_up() {
    const NAMES: &str =
        "{{ $n := repeat 100000 `n` }}{{ $m := dict $n 1 }}{{ $t := print `{{/*` $n `*/}}` }}";
    for call in [
        "tpl $t .",
        "get $m $n",
        "hasKey $m $n",
        "set $m $n 1",
        "unset $m $n",
        "index $m $n",
        "dig $n 1 $m",
        "dict $n $m",
    ] {
        let of = |turns: usize| {
            steps_of(&format!(
                "{NAMES}{{{{ range until {turns} }}}}{{{{ $x := {call} }}}}{{{{ end }}}}"
            ))
        };
        assert!(of(1000) >= 8 * of(1), "{call}");
    }
}

#[test]
fn a_file_is_looked_up_by_its_name_however_many_there_are() {
    let files: Vec<(String, String)> = (0..2_000)
        .map(|at| (format!("f/{at}.txt"), "x".to_owned()))
        .collect();
    let source = "a: {{ range $p, $_ := .Files.Glob `f/**` }}{{ $.Files.Get $p }}{{ end }}";
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .chain([("templates/a.yaml", source)])
        .collect();
    let limits = Limits {
        steps: 100_000,
        ..Limits::default()
    };
    assert!(render(&files, "", limits).is_ok());
}

#[test]
fn lists_that_nothing_holds_any_longer_are_given_back() {
    let source =
        "{{ $l := list }}{{ range $i := until 4000 }}{{ $l = append $l $i }}{{ end }}a: {{ len $l }}";
    let rendered = render(&[("templates/a.yaml", source)], "", Limits::default());
    assert!(rendered.is_ok(), "{rendered:?}");
    let held = "{{ $d := dict }}{{ $l := list }}{{ range $i := until 4000 }}{{ $l = append $l $i }}{{ $_ := set $d (toString $i) $l }}{{ end }}";
    let error = render(&[("templates/a.yaml", held)], "", Limits::default()).expect_err("all are held");
    assert!(error.contains("bytes of output"), "{error}");
}

#[test]
fn deep_templates_need_no_deep_stack() {
    let limits = Limits::default();
    let source = "{{ define `a` }}{{ template `a` . }}{{ end }}{{ template `a` . }}";
    let small = std::thread::Builder::new().stack_size(512 << 10);
    let rendered = small.spawn(move || render(&[("templates/a.yaml", source)], "", limits));
    let error = rendered
        .expect("a thread starts")
        .join()
        .expect("no panic")
        .unwrap_err();
    assert!(
        error.contains("maximum template depth"),
        "{}",
        &error[error.len().saturating_sub(200)..]
    );
}

#[test]
fn deeply_nested_source_is_refused_by_the_parser() {
    for (open, close) in [
        ("{{ if 1 }}", "{{ end }}"),
        ("{{ range .a }}", "{{ end }}"),
        ("{{ with 1 }}", "{{ else }}"),
    ] {
        let source = format!("{}{}", open.repeat(100_000), close.repeat(100_000));
        assert!(one(&source).is_err());
    }
    let source = format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(one(&source).is_err());
    let source = format!("{{{{ {} }}}}", "{{ if 1 }}{{ else if 1 }}".repeat(10));
    assert!(one(&source).is_err());
    let chain = format!("{{{{ if 1 }}}}{}{{{{ end }}}}", "{{ else if 1 }}".repeat(100_000));
    assert!(one(&chain).is_err());
}

#[test]
fn output_bytes_are_bounded() {
    for source in [
        "{{ $x := repeat 1000000 `x` }}{{ range until 1000 }}{{ $x }}{{ end }}",
        "{{ define `a` }}{{ repeat 1000000 `x` }}{{ end }}{{ range until 1000 }}{{ include `a` . }}{{ end }}",
        "{{ $x := `xxxxxxxxxxxxxxxx` }}{{ range until 40 }}{{ $x = print $x $x }}{{ end }}{{ $x }}",
        "{{ range until 100 }}{{ $x := until 100000 }}{{ $x }}{{ end }}",
    ] {
        refused(source, BYTES);
    }
}

#[test]
fn maps_and_lists_that_functions_make_are_counted_as_bytes() {
    let limits = Limits {
        steps: 1_000_000,
        bytes: 1 << 20,
    };
    for made in [
        "{{ $d = dict `a` $d }}",
        "{{ $d = dict `a` $d `b` $l }}",
        "{{ $l = list $l }}",
        "{{ $l = tuple $l $d }}",
        "{{ $_ := set $d (print $i) $l }}",
    ] {
        let source = format!(
            "{{{{ $d := dict }}}}{{{{ $l := list }}}}{{{{ range $i := until 10000 }}}}{made}{{{{ end }}}}"
        );
        let source = format!("{source}{source}");
        let error = render(&[("templates/a.yaml", &source)], "", limits).expect_err(made);
        assert!(error.contains("bytes of output"), "{made}: {error}");
    }
}

#[test]
fn maps_that_nothing_holds_any_longer_are_given_back() {
    let limits = Limits {
        steps: 1_000_000,
        bytes: 4 << 20,
    };
    for made in [
        "{{ include `l` (dict `name` $i `ctx` $ `x` 1) }}",
        "{{ $d = dict `name` $i }}",
        "{{ $d = dict `name` (dict `name` $i) }}",
        "{{ $d = deepCopy $one }}",
        "{{ $d = fromJson `{\"a\":{}}` }}",
    ] {
        let source = format!(
            "{{{{ define `l` }}}}{{{{ .name }}}}{{{{ end }}}}{{{{ $d := dict }}}}{{{{ $one := dict `a` (dict) }}}}{{{{ range $i := until 10000 }}}}{made}{{{{ end }}}}"
        );
        // What is written stands in a comment.
        let rendered = render(&[("templates/a.yaml", &format!("a: 1 # {source}"))], "", limits);
        assert!(rendered.is_ok(), "{made}: {rendered:?}");
    }
}

#[test]
fn maps_that_something_holds_stay_counted() {
    let limits = Limits {
        steps: 1_000_000,
        bytes: 4 << 20,
    };
    for made in ["dict `name` $i", "deepCopy $one", "fromJson `{}`"] {
        // Between them are as many that are free at once.
        let source = format!(
            "{{{{ $d := dict }}}}{{{{ $one := dict }}}}{{{{ range $i := until 8000 }}}}{{{{ $x := {made} }}}}{{{{ $_ := set $d (toString $i) ({made}) }}}}{{{{ end }}}}"
        );
        let error = render(&[("templates/a.yaml", &source)], "", limits).expect_err(made);
        assert!(error.contains("bytes of output"), "{made}: {error}");
    }
}

#[test]
fn functions_refuse_results_that_no_memory_holds() {
    for source in [
        "{{ repeat 1000000000 `x` }}",
        "{{ repeat 9223372036854775807 `xx` }}",
        "{{ indent 1000000000 `x` }}",
        "{{ nindent 9223372036854775807 `x` }}",
        "{{ repeat 10000 `\n` | indent 10000 }}",
        "{{ repeat 100000 `a` | replace `` (repeat 100000 `b`) }}",
        "{{ repeat 100000 `a` | replace `a` (repeat 100000 `b`) }}",
        "{{ until 100000 | join (repeat 1000 `x`) }}",
        "{{ wrapWith 1 (repeat 1000 `x`) (repeat 100000 `a`) }}",
        "{{ printf (repeat 1000 `%[1]s`) (repeat 100000 `a`) }}",
        "{{ printf (repeat 1000 `%[2]*[1]d`) 1 1000000 }}",
        "{{ printf `%1000000d` (until 100) }}",
        "{{ printf `%.1000000f` 1.5 | repeat 100 }}",
    ] {
        refused(source, TEXT);
    }
    // Its replacement is gone through for each match: steps end it where the text does not.
    for source in [
        "{{ regexReplaceAll `` (repeat 100000 `a`) (repeat 100000 `b`) }}",
        "{{ regexReplaceAll `a*` (repeat 10000 `a`) (repeat 10000 `${0}`) }}",
        "{{ regexReplaceAllLiteral `a` (repeat 100000 `a`) (repeat 100000 `b`) }}",
    ] {
        refused(source, &[TEXT, &["more than 1000000 steps"]].concat());
    }
    for source in [
        "{{ until 1000000000 }}",
        "{{ untilStep -9223372036854775808 9223372036854775807 1 }}",
        "{{ seq 1 1000000000 }}",
        "{{ seq -9223372036854775808 9223372036854775807 }}",
        "{{ repeat 2000000 `a` | splitList `` }}",
        "{{ repeat 2000000 `a` | splitList `a` }}",
        "{{ regexFindAll `a` (repeat 2000000 `a`) -1 }}",
        "{{ regexSplit `a` (repeat 2000000 `a`) -1 }}",
    ] {
        refused(source, ITEMS);
    }
    // Go writes what is wrong into the text, and so does this.
    assert!(one("# {{ printf `%1000000000d` 1 }}").is_ok());
    assert!(one("# {{ untilStep -9223372036854775808 9223372036854775807 9223372036854775807 }}").is_ok());
}

#[test]
fn work_inside_of_functions_takes_fuel() {
    for source in [
        "{{ $l := until 100000 }}{{ range until 1000 }}{{ $x := toJson $l }}{{ end }}",
        "{{ $t := repeat 1000000 `a` }}{{ range until 1000 }}{{ $x := sha256sum $t }}{{ end }}",
        "{{ $t := repeat 1000000 `a` }}{{ range until 1000 }}{{ $x := regexMatch `(a*)*b` $t }}{{ end }}",
        "{{ range until 100 }}{{ $x := regexMatch (repeat 8000 `a?`) `a` }}{{ end }}",
        "{{ range until 100 }}{{ $x := bcrypt `a` }}{{ end }}",
        "{{ $l := list }}{{ range until 10000 }}{{ $l = append $l . }}{{ end }}",
        // A state for each of a thousand characters, and no cache of states holds their sets.
        "{{ $t := repeat 200000 `01101` }}{{ regexMatch `[01]*1[01]{1000}[01]{1000}$` $t }}",
        "{{ $t := repeat 10000000 `a` }}{{ range until 100000 }}{{ $x := len $t }}{{ end }}",
        "{{ $t := repeat 10000000 `a` }}{{ range until 100000 }}{{ $x := index $t 1 }}{{ end }}",
        "{{ $m := dict }}{{ range until 20000 }}{{ $_ := set $m (print .) 1 }}{{ end }}{{ range until 100000 }}{{ range $m }}{{ break }}{{ end }}{{ end }}",
        "{{ $l := until 100000 }}{{ range until 1000 }}{{ $x := dict $l 1 }}{{ end }}",
    ] {
        refused(source, &["steps", "bytes of output"]);
    }
}

#[test]
fn compiling_an_expression_takes_steps_by_its_classes_and_not_by_its_length() {
    assert!(steps_of(r"{{ $x := regexMatch `[a-z]{10}` `a` }}") < 2048);
    assert!(steps_of(r"{{ $x := regexMatch `\pL{10}` `a` }}") > 4096);
}

#[test]
fn looking_at_the_end_of_a_list_costs_no_copy_of_it() {
    let source =
        "{{ $l := until 100000 }}{{ range until 10000 }}{{ $x := first $l }}{{ $x = last $l }}{{ end }}";
    assert!(one(source).is_ok());
}

/// Finds how many steps, rounded up to a power of two, a template takes.
fn steps_of(source: &str) -> u64 {
    (10..30)
        .map(|power| 1u64 << power)
        .find(|steps| {
            let limits = Limits {
                steps: *steps,
                ..Limits::default()
            };
            render(&[("templates/a.yaml", source)], "", limits).is_ok()
        })
        .unwrap_or_else(|| panic!("it does not end: {source}"))
}

#[test]
fn steps_grow_with_what_functions_are_given_and_not_with_its_square() {
    const MAP: &str = "{{ $m := dict }}{{ range until N }}{{ $_ := set $m (printf `k%d` .) . }}{{ end }}";
    for (what, source) in [
        ("range", "{{ range until N }}{{ $x := . }}{{ end }}".to_owned()),
        ("uniq of all", "{{ $x := uniq (until N) }}".to_owned()),
        (
            "uniq of lists that begin alike",
            "{{ $x := uniq (chunk 10 (until N)) }}".to_owned(),
        ),
        ("without", "{{ $x := without (until N) 1 2 3 }}".to_owned()),
        ("toYaml", format!("{MAP}{{{{ $x := toYaml $m }}}}")),
        ("fromYaml", format!("{MAP}{{{{ $x := fromYaml (toYaml $m) }}}}")),
        ("fromJson", format!("{MAP}{{{{ $x := fromJson (toJson $m) }}}}")),
        ("merge", format!("{MAP}{{{{ $x := merge (dict) $m $m }}}}")),
        ("omit", format!("{MAP}{{{{ $x := omit $m `k1` `k2` }}}}")),
        ("sortAlpha", format!("{MAP}{{{{ $x := sortAlpha (keys $m) }}}}")),
        (
            "regexReplaceAll",
            "{{ $x := regexReplaceAll `[0-9]+` (join ` ` (until N)) `x` }}".to_owned(),
        ),
    ] {
        let of = |entries: usize| steps_of(&source.replace('N', &entries.to_string()));
        let (small, large) = (of(6_250), of(50_000));
        assert!(large <= 16 * small, "{what}: {small} steps grew to {large}");
        assert!(
            large >= 4 * small,
            "{what}: {small} steps grew to {large}: the work is not charged"
        );
    }
}

#[test]
fn values_that_hold_each_other_many_times_are_not_expanded() {
    let doubled = "{{ $l := list 1 }}{{ range until 60 }}{{ $l = list $l $l }}{{ end }}";
    for last in [
        "{{ $l }}",
        "{{ toYaml $l }}",
        "{{ toJson $l }}",
        "{{ $x := deepCopy $l }}",
        "{{ deepEqual $l $l }}",
        "{{ printf `%v` $l }}",
        "{{ quote $l }}",
    ] {
        refused(&format!("{doubled}{last}"), &["bytes of output and values"]);
    }
}

#[test]
fn values_nested_deep_are_refused_where_they_are_walked_and_freed_without_a_stack() {
    for nest in ["{{ $l = list $l }}", "{{ $l = dict `a` $l }}"] {
        let source = format!("{{{{ $l := list 1 }}}}{{{{ range until 100000 }}}}{nest}{{{{ end }}}}");
        assert!(one(&source).is_ok(), "it is made and freed");
        for last in [
            "{{ $l }}",
            "{{ toYaml $l }}",
            "{{ toJson $l }}",
            "{{ print $l }}",
            "{{ deepCopy $l }}",
        ] {
            refused(&format!("{source}{last}"), &["nested deeper than 1000"]);
        }
    }
}

#[test]
fn maps_that_hold_themselves_are_refused_where_they_are_walked() {
    let source = "{{ $d := dict }}{{ $_ := set $d `a` (list (dict `b` $d)) }}{{ $_ := set $d `self` $d }}";
    assert!(one(&format!("{source}a: {{{{ $d.self.self.a | len }}}}")).is_ok());
    for last in [
        "{{ $d }}",
        "{{ toYaml $d }}",
        "{{ toJson $d }}",
        "{{ print $d }}",
        "{{ deepCopy $d }}",
        "{{ eq $d $d }}",
        "{{ deepEqual $d (dict `self` $d) }}",
        "{{ merge (dict `self` (dict `self` (dict))) $d | toJson }}",
    ] {
        refused(&format!("{source}{last}"), &["nested deeper than 1000"]);
    }
}

#[test]
fn building_a_map_costs_its_entries_once() {
    let steps = |entries: usize| {
        steps_of(&format!(
            "{{{{ $d := dict }}}}{{{{ range $i := until {entries} }}}}{{{{ $_ := set $d (print $i) (list $i) }}}}{{{{ end }}}}"
        ))
    };
    // Ten times the entries must not take a hundred times the steps.
    assert!(steps(10_000) <= 16 * steps(1_000));
}

#[test]
fn regular_expressions_are_bounded_in_size() {
    for (source, why) in [
        (
            "{{ mustRegexMatch (repeat 20000 `a`) `a` }}",
            "expression too large",
        ),
        (
            "{{ mustRegexMatch `((a{100}){100}){100}` `a` }}",
            "invalid repeat count",
        ),
        (
            "{{ mustRegexMatch `(((((((((x{9}){9}){9}){9}){9}){9}){9}){9}){9})` `x` }}",
            "invalid repeat count",
        ),
        (
            "{{ mustRegexMatch (repeat 2000 `(`) `x` }}",
            "expression nests too deeply",
        ),
    ] {
        refused(source, &[why]);
    }
}

#[test]
fn regex_match_answers_nothing_about_an_expression_beyond_its_bounds() {
    // The reference matches these; what it cannot read itself matches nothing there.
    for source in [
        "{{ regexMatch (repeat 20000 `a`) `a` }}",
        "{{ regexMatch `\\pL{900}` `a` }}",
        "{{ regexMatch (printf `%s%s` (repeat 300 `(`) (repeat 300 `)`)) `a` }}",
    ] {
        refused(source, &["expression too large", "expression nests too deeply"]);
    }
    let read = one("a: {{ regexMatch `a**` `a` }}").expect("it is no expression of the reference either");
    assert!(read.contains("a: false"), "{read}");
}

#[test]
fn a_schema_that_describes_a_tree_costs_what_it_visits() {
    let list = format!("a: {}{}\n", "[".repeat(40), "]".repeat(40));
    let map = format!("a: {}1{}\n", "{a: ".repeat(40), "}".repeat(40));
    for schema in [
        r##"{"additionalProperties":{"$ref":"#"},"items":{"$ref":"#"}}"##,
        r##"{"properties":{"a":{"$ref":"#"}},"additionalProperties":{"$ref":"#"},"patternProperties":{"^b":{"$ref":"#"}}}"##,
        r##"{"prefixItems":[{"$ref":"#"},{"$ref":"#"}],"properties":{"a":{"$ref":"#"},"b":{"$ref":"#"}}}"##,
    ] {
        for values in [&list, &map] {
            let rendered = render(&[("values.schema.json", schema)], values, Limits::default());
            rendered.unwrap_or_else(|cause| panic!("{schema}: {cause}"));
        }
    }
    let twice = r##"{"properties":{"a":{"$ref":"#"}},"patternProperties":{"^a":{"$ref":"#"}}}"##;
    let refused = render(&[("values.schema.json", twice)], &map, Limits::default());
    let cause = refused.expect_err("each level is visited twice as often as the one above");
    assert!(cause.contains("take too long"), "{cause}");
}

#[test]
fn hostile_schemas_are_refused_and_fetch_nothing() {
    let deep = format!("{}{}{}", r#"{"not":"#.repeat(2000), "{}", "}".repeat(2000));
    let chain: String = (0..40)
        .map(|at| {
            format!(
                r##""d{at}":{{"allOf":[{{"$ref":"#/$defs/d{0}"}},{{"$ref":"#/$defs/d{0}"}}]}},"##,
                at + 1
            )
        })
        .collect();
    let chain = format!(r##"{{"$ref":"#/$defs/d0","$defs":{{{chain}"d40":{{}}}}}}"##);
    let pattern = format!(
        r#"{{"properties":{{"a":{{"pattern":"{}"}}}}}}"#,
        "(a{100}){100}".repeat(200)
    );
    let large = format!(r#"{{"title":"{}"}}"#, "x".repeat(5 << 20));
    for (schema, why) in [
        (r##"{"$ref":"#"}"##, "without end"),
        (
            r##"{"allOf":[{"$ref":"#/$defs/a"}],"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}}"##,
            "without end",
        ),
        (r##"{"$dynamicRef":"#x","$dynamicAnchor":"x"}"##, "without end"),
        (
            r#"{"$ref":"https://example.org/schema.json"}"#,
            "schema refers to https://example.org/schema.json, which is not fetched; render with --skip-schema-validation",
        ),
        (r#"{"$ref":"file:///etc/passwd"}"#, "refers to file:///etc/passwd"),
        (r#"{"$ref":"other.json"}"#, "cannot be used"),
        (
            r#"{"properties":{"a":{"$ref":"http://169.254.169.254/x"}}}"#,
            "is not fetched",
        ),
        (deep.as_str(), "schema is not JSON: recursion limit exceeded"),
        (chain.as_str(), "take too long"),
        (pattern.as_str(), "pattern"),
        (large.as_str(), "limit"),
        ("{", "not JSON"),
    ] {
        let shown = &schema[..schema.len().min(80)];
        let error =
            render(&[("values.schema.json", schema)], "a: aaaa\n", Limits::default()).expect_err(shown);
        assert!(error.contains(why), "{shown}: {error}");
    }
    // A dialect that is not known is taken for the newest.
    let unknown = r#"{"$schema":"https://example.org/meta","properties":{"a":{"const":"aaaa"}}}"#;
    render(&[("values.schema.json", unknown)], "a: aaaa\n", Limits::default()).expect("it holds");
}

#[test]
fn archives_are_bounded_by_5_10_and_50_mebibytes() {
    let limits = ChartLimits::default();
    assert_eq!(
        (limits.file_bytes, limits.archive_bytes, limits.unpacked_bytes),
        (5 << 20, 10 << 20, 50 << 20)
    );
    let error = Chart::from_archive(&vec![0; (10 << 20) + 1], limits)
        .unwrap_err()
        .to_string();
    assert!(error.contains("archive is over the limit of 10 MiB"), "{error}");
    let error = load(&[("c/templates/a.yaml", (5 << 20) + 1)]);
    assert!(error.contains("over the limit of 5 MiB"), "{error}");
    let names: Vec<String> = (0..11).map(|at| format!("c/templates/{at}.yaml")).collect();
    let files: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 5 << 20)).collect();
    let error = load(&files);
    assert!(error.contains("over the limit of 50 MiB"), "{error}");
}

#[test]
fn names_in_archives_that_escape_are_refused() {
    for (name, why) in [
        ("c/../../etc/passwd", "references a parent directory"),
        ("c/templates/../../../x", "references a parent directory"),
        ("c\\..\\..\\x", "references a parent directory"),
        ("c//etc/passwd", "has an absolute path"),
        ("c/C:/x/y", "names a drive"),
        ("Chart.yaml", "is not in a base directory"),
    ] {
        let error = load(&[(name, 1)]);
        assert!(error.contains(why), "{name}: {error}");
    }
    // The first part is the folder that the chart was packed from, whatever its name.
    for name in ["../x", "/x", "C:/x"] {
        assert_eq!(load(&[(name, 1)]), "", "{name}");
    }
}

/// Packs a chart with files of so many zero bytes, and returns why it does not load.
fn load(files: &[(&str, usize)]) -> String {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    append(&mut tar, "c/Chart.yaml", CHART.as_bytes());
    for (name, bytes) in files {
        append(&mut tar, name, &vec![b'\n'; *bytes]);
    }
    let packed = tar
        .into_inner()
        .and_then(GzEncoder::finish)
        .expect("memory takes it");
    assert!(packed.len() < 10 << 20);
    match Chart::from_archive(&packed, ChartLimits::default()) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}

fn append(tar: &mut tar::Builder<impl Write>, name: &str, data: &[u8]) {
    let mut header = tar::Header::new_ustar();
    // The name is written as it is: the builder would refuse it.
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    tar.append(&header, data).expect("memory takes it");
}

#[test]
fn values_are_bounded_in_depth_and_by_what_aliases_repeat() {
    let deep = format!("a: {}{}", "[".repeat(1000), "]".repeat(1000));
    let mut bomb = "a0: &a0 [x]\n".to_owned();
    for at in 1..30 {
        bomb.push_str(&format!("a{at}: &a{at} [*a{0}, *a{0}, *a{0}]\n", at - 1));
    }
    for given in [deep, bomb] {
        assert!(render(&[], &given, Limits::default()).is_err());
    }
    let own = "# {{ toJson .Values }}";
    assert!(render(&[("templates/a.yaml", own)], "a: [1]", Limits::default()).is_ok());
}

#[test]
fn aliases_of_long_texts_are_refused_wherever_yaml_is_read() {
    let why = "bytes of text, aliases expanded, exceeds the limit of 134217728";
    let long = "x".repeat(1 << 20);
    let bomb = format!("a: &a {long}\nb: [{}]\n", "*a, ".repeat(20_000));
    let given = render(&[("templates/a.yaml", "")], &bomb, Limits::default());
    let own = render(
        &[("values.yaml", &bomb), ("templates/a.yaml", "")],
        "",
        Limits::default(),
    );
    let manifest = render(&[("templates/a.yaml", &bomb)], "", Limits::default());
    assert!(manifest.is_err_and(|error| error.contains(why)), "a manifest");
    for (what, refused) in [("given values", given), ("values of the chart", own)] {
        let error = refused.expect_err(what);
        let read = ["cannot unmarshal yaml document", "cannot load values.yaml"];
        assert!(read.iter().any(|words| error.contains(words)), "{what}: {error}");
    }
    let made = "{{ $v := fromYaml (printf \"a: &a %s\\nb: [%s]\" (repeat 1000000 \"a\") (repeat 400000 \"*a,\")) }}a: {{ $v.Error | quote }}";
    let error = render(&[("templates/a.yaml", made)], "", Limits::default()).expect_err("a bound");
    assert!(error.contains(why), "{error}");
}

#[test]
fn parsing_a_text_within_a_template_takes_steps() {
    let big = format!("{{{{if false}}}}{}{{{{end}}}}", "{{``}}".repeat(26_000));
    let within = |turns: usize, steps: u64| {
        let source = format!(
            "# {{{{ range $i := until {turns} }}}}{{{{ tpl (printf `{{{{/*%d*/}}}}{{{{ tpl .Values.big . }}}}` $i) $ }}}}{{{{ end }}}}"
        );
        let limits = Limits {
            steps,
            bytes: 64 << 20,
        };
        render(
            &[("templates/a.yaml", &source)],
            &format!("big: \"{big}\"\n"),
            limits,
        )
    };
    // A text of 156,000 bytes takes about ten thousand steps each time, beside a few for running it.
    assert!(within(1, 20_000).is_ok());
    assert!(within(20, 150_000).is_err_and(|error| error.contains("more than 150000 steps")));
}

#[test]
fn numbers_at_the_ends_of_their_range_wrap_around() {
    let (least, most) = (i64::MIN, i64::MAX);
    for number in [least, least + 1, -1, 1, most - 1, most] {
        for (first, second, third) in [
            (number, 0, 0),
            (0, number, 0),
            (0, 0, number),
            (number, number, number),
        ] {
            let source = format!(
                "{{{{ $t := toDate `2006-01-02` `2020-02-03` }}}}{{{{ $u := $t.AddDate {first} {second} {third} }}}}# {{{{ $u.Unix }}}} {{{{ $u.UnixMilli }}}} {{{{ $u.Year }}}} {{{{ ($u.AddDate 1 1 {number}).YearDay }}}} {{{{ $u.Sub $t }}}}"
            );
            assert!(one(&source).is_ok(), "{source}");
        }
        for width in [least, 4, 7, most] {
            let text = one(&format!(
                "# {{{{ abbrevboth {number} {width} `a text of some length` }}}}"
            ));
            assert!(text.is_ok(), "{number} {width}");
        }
    }
    let text =
        one("a: {{ abbrevboth -9223372036854775808 10 `a text of some length` }}").expect("it renders");
    assert!(text.contains("a: ... length"), "{text}");
}

#[test]
fn a_variable_that_is_not_declared_is_not_assigned_to() {
    for (source, name) in [
        ("{{ $x = 1 }}", "$x"),
        ("{{ if true }}{{ $x := 1 }}{{ end }}{{ $x = 2 }}", "$x"),
        ("{{ range $i = until 3 }}{{ end }}", "$i"),
        ("{{ $i := 0 }}{{ range $i, $v = until 3 }}{{ end }}", "$v"),
        ("{{ with $w = 1 }}{{ end }}", "$w"),
    ] {
        refused(source, &[&format!("undefined variable: {name}")]);
    }
}

#[test]
fn slow_functions_ask_the_caller_whether_to_stop() {
    // Each line takes but a few steps beside what the function is charged for.
    for source in [
        "{{ bcrypt `a` }}",
        "{{ htpasswd `a` `b` }}",
        "{{ derivePassword 1 `long` `a` `b` `c` }}",
        "{{ genCA `a` 1 }}",
    ] {
        let asked = Rc::new(Cell::new(0));
        let error = stopped(source.as_bytes(), {
            let asked = asked.clone();
            move || {
                asked.set(asked.get() + 1);
                true
            }
        });
        let error = error.expect_err(source);
        assert!(error.contains("the rendering was stopped"), "{source}: {error}");
        assert_eq!(asked.get(), 1, "{source}");
    }
}

#[test]
fn a_caller_stops_a_search_of_an_expression_between_two_matches() {
    // Each search goes to the end of the text.
    let source = b"{{ $x := regexFindAll `.*[^A-Z]|[A-Z]` (repeat 100000 `A`) -1 }}";
    let asked = Cell::new(0);
    let error = stopped(source, move || {
        asked.set(asked.get() + 1);
        asked.get() == 10
    });
    let error = error.expect_err("the tenth answer stops it");
    assert!(error.contains("the rendering was stopped"), "{error}");
}

#[test]
fn searches_that_each_go_to_the_end_of_a_text_take_steps() {
    let words = "join ` ` (until 20000)";
    for (what, source) in [
        (
            "all",
            "{{ $x := regexFindAll `.*[^A-Z]|[A-Z]` (repeat 20000 `A`) -1 }}",
        ),
        (
            "split",
            "{{ $x := regexSplit `.*[^A-Z]|[A-Z]` (repeat 20000 `A`) -1 }}",
        ),
        (
            "replace",
            "{{ $x := regexReplaceAll `.*[^A-Z]|[A-Z]` (repeat 20000 `A`) `b` }}",
        ),
        (
            "literal",
            "{{ $x := regexReplaceAllLiteral `.*[^A-Z]|[A-Z]` (repeat 20000 `A`) `b` }}",
        ),
    ] {
        let error = one(source).expect_err(what);
        assert!(error.contains("more than 1000000 steps"), "{what}: {error}");
    }
    // These end at their match, and any number of them is as cheap as the text is long.
    for pattern in ["[0-9]+", r"\s+", r"\b1", "(?m)^1", "[0-9]+ |x"] {
        let source = format!("{{{{ $x := regexReplaceAll `{pattern}` ({words}) `b` }}}}");
        let rendered = one(&source);
        rendered.unwrap_or_else(|cause| panic!("{pattern}: {cause}"));
    }
}

#[test]
fn templates_of_a_chart_under_many_names_are_parsed_within_the_steps() {
    let names: String = (0..200)
        .map(|at| format!("- {{name: below, version: 1.0.0, alias: a{at}}}\n"))
        .collect();
    let chart = format!("{CHART}dependencies:\n{names}");
    let source = format!("{{{{ if false }}}}{}{{{{ end }}}}", "{{ `` }}".repeat(20_000));
    let files = [
        ("Chart.yaml", chart.as_str()),
        (
            "charts/below/Chart.yaml",
            "apiVersion: v2\nname: below\nversion: 1.0.0\n",
        ),
        ("charts/below/templates/a.yaml", source.as_str()),
    ];
    let files = files.map(|(name, text)| File::new(name, text.as_bytes()));
    let chart = Chart::from_directory(files.to_vec(), ChartLimits::default()).expect("it is a chart");
    let limits = Limits {
        steps: 200_000,
        ..Limits::default()
    };
    let asked = Rc::new(Cell::new(0));
    let counted = asked.clone();
    let context = Context {
        limits,
        stop: Some(Stop::new(move || {
            counted.set(counted.get() + 1);
            false
        })),
        ..Context::default()
    };
    let refused = template(&first_install(&chart, Default::default(), context));
    let error = refused.expect_err("32 million bytes are parsed").to_string();
    assert!(error.contains("more than 200000 steps"), "{error}");
    assert!(error.contains("c/charts/a"), "{error}");
    assert!(asked.get() > 10, "the caller is asked meanwhile: {}", asked.get());
}

/// A chart with a template, below which another stands under so many names, with a partial.
fn under_many_names(count: usize, partial: &str, own: &str, limits: Limits) -> Result<String, String> {
    let names: String = (0..count)
        .map(|at| format!("- {{name: below, version: 1.0.0, alias: a{at}}}\n"))
        .collect();
    let chart = format!("{CHART}dependencies:\n{names}");
    let files = [
        ("Chart.yaml", chart.as_str()),
        (
            "charts/below/Chart.yaml",
            "apiVersion: v2\nname: below\nversion: 1.0.0\n",
        ),
        ("charts/below/templates/_h.tpl", partial),
        ("templates/a.yaml", own),
    ];
    let files = files.map(|(name, text)| File::new(name, text.as_bytes()));
    let chart = Chart::from_directory(files.to_vec(), ChartLimits::default()).expect("it is a chart");
    let context = Context {
        limits,
        ..Context::default()
    };
    let rendered = template(&first_install(&chart, Default::default(), context));
    let rendered = rendered.map_err(|error| error.to_string())?;
    Ok(rendered.text(&Default::default()).unwrap_or_default())
}

#[test]
fn what_templates_of_many_names_take_is_counted_as_they_take_it() {
    let limits = Limits {
        bytes: 8 << 20,
        ..Limits::default()
    };
    let comments = "{{/* what a helper gives }} and how it is used */}}\n{{- /* more */ -}}\n".repeat(1000);
    let calls = format!(
        "{{{{ define `x` }}}}{}{{{{ end }}}}",
        "{{- include \"below.names.of.the.whole.release\" . | nindent 4 }}\n    some.text/between: them\n"
            .repeat(100)
    );
    let dense = format!("{{{{ if . }}}}{}{{{{ end }}}}", "{{.}}".repeat(2000));
    for legal in [&comments, &calls] {
        let rendered = under_many_names(50, legal, "a: 1", limits);
        assert!(rendered.is_ok(), "{rendered:?}");
    }
    let error = under_many_names(50, &dense, "a: 1", limits).expect_err("they take 20 million bytes");
    assert!(
        error.contains("_h.tpl) is not parsed: more than 8388608 bytes of parsed templates"),
        "{error}"
    );
    assert!(!error.contains("parse error"), "{error}");
    // They take nothing of the room of output and values, which together are 5 million bytes here.
    let long = r#"a: {{ repeat 2500000 "x" }}"#;
    let rendered = under_many_names(15, &dense, long, limits).map(|text| text.len());
    assert!(rendered.is_ok(), "{rendered:?}");
}

#[test]
fn a_caller_stops_a_rendering() {
    let source = b"{{ range until 100000 }}{{ end }}";
    assert!(stopped(source, || false).is_ok());
    let error = stopped(source, || true).expect_err("it is stopped");
    assert!(error.contains("the rendering was stopped"), "{error}");
}

/// Renders a template that its caller may stop.
fn stopped(source: &[u8], stop: impl Fn() -> bool + 'static) -> Result<(), String> {
    let files = [
        File::new("Chart.yaml", CHART.as_bytes()),
        File::new("templates/a.yaml", source),
    ];
    let chart = Chart::from_directory(files.to_vec(), ChartLimits::default()).expect("it is a chart");
    let input = first_install(
        &chart,
        Default::default(),
        Context {
            stop: Some(Stop::new(stop)),
            ..Context::default()
        },
    );
    template(&input).map(|_| ()).map_err(|error| error.to_string())
}
