//! Values that hold one value many times: what a function writes or copies of them is far more than what they take.

use flotilla_render::helm::context::Limits;

use super::{Hostile, chart_with, is_long};

/// What a template refuses for lack of room says so.
const BYTES: &str = "bytes of output and values";

pub(crate) const INPUTS: &[Hostile] = &[
    ("shared-to-yaml", BYTES, || shared("{{ $y := toYaml $x }}")),
    ("shared-must-to-yaml", BYTES, || {
        shared("{{ $y := mustToYaml $x }}")
    }),
    ("shared-to-yaml-pretty", BYTES, || {
        shared("{{ $y := toYamlPretty $x }}")
    }),
    ("shared-to-json", BYTES, || shared("{{ $y := toJson $x }}")),
    ("shared-to-pretty-json", BYTES, || {
        shared("{{ $y := toPrettyJson $x }}")
    }),
    ("shared-to-raw-json", BYTES, || shared("{{ $y := toRawJson $x }}")),
    ("shared-to-toml", BYTES, || {
        shared("{{ $y := toToml (dict `a` $x) }}")
    }),
    ("shared-deep-copy", BYTES, || shared("{{ $y := deepCopy $x }}")),
    ("shared-merge-of-copies", BYTES, || {
        shared("{{ $y := merge (dict `a` (deepCopy $x)) (dict `a` (deepCopy $x)) }}")
    }),
    ("shared-print", BYTES, || shared("{{ $y := print $x }}")),
    ("shared-printf", BYTES, || shared("{{ $y := printf `%v` $x }}")),
    ("shared-printf-of-quotes", BYTES, || {
        shared("{{ $y := printf `%q` $x }}")
    }),
    ("shared-output", BYTES, || shared("# {{ $x }}")),
    ("shared-quote", BYTES, || shared("{{ $y := quote $x }}")),
    ("shared-squote", BYTES, || shared("{{ $y := squote $x }}")),
    ("shared-cat", BYTES, || shared("{{ $y := cat $x $x }}")),
    ("shared-html", BYTES, || shared("{{ $y := html $x }}")),
    ("shared-js", BYTES, || shared("{{ $y := js $x }}")),
    ("shared-urlquery", BYTES, || shared("{{ $y := urlquery $x }}")),
    ("shared-to-string", BYTES, || shared("{{ $y := toString $x }}")),
    ("shared-to-strings", BYTES, || {
        shared("{{ $y := toStrings (list $x $x) }}")
    }),
    ("shared-join", BYTES, || {
        shared("{{ $y := join `,` (list $x $x) }}")
    }),
    ("shared-eq", BYTES, || shared("{{ $y := eq $x $x }}")),
    ("shared-deep-equal", BYTES, || {
        shared("{{ $y := deepEqual $x $x }}")
    }),
    ("shared-sort-alpha", BYTES, || {
        shared("{{ $y := sortAlpha (list $x $x) }}")
    }),
    ("shared-has", BYTES, || shared("{{ $y := has $x (list $x) }}")),
    ("shared-uniq", BYTES, || shared("{{ $y := uniq (list $x $x) }}")),
    ("shared-without", BYTES, || {
        shared("{{ $y := without (list $x) $x }}")
    }),
    ("shared-key", BYTES, || shared("{{ $y := dict $x 1 }}")),
    ("long-texts", BYTES, long_texts),
    ("json-of-many-maps", "more than 500000 values", || {
        template("{{ $y := fromJson (printf `{\"a\":[%s1]}` (repeat 1000000 `{\"a\":0},`)) }}")
    }),
    ("toml-of-many-tables", "more than 500000 values", || {
        template("{{ $y := fromToml (repeat 2700000 `[[a]]\n`) }}")
    }),
    ("toml-of-long-names", "text of more than", toml_of_long_names),
    ("a-text-of-many-actions", BYTES, || {
        template("{{ $y := tpl (repeat 2600000 `{{.}}`) 1 }}")
    }),
    ("a-list-cut-into-ones", "builds", || {
        template("{{ $y := chunk 1 (until 1000000) }}")
    }),
    (
        "maps-that-are-filled-by-merge",
        "bytes of output",
        maps_filled_by_merge,
    ),
    ("lists-put-together-over-and-over", BYTES, || {
        template("{{ $l := until 1000000 }}{{ $y := concat $l $l $l $l $l $l $l $l $l $l $l $l $l $l $l }}")
    }),
];

/// Runs a function on lists and on maps of which each holds the one before it twice, deeper each time: where it does not
/// end with the bound's words, it does so for fewer levels only.
fn shared(function: &str) -> Result<(), String> {
    let mut last = Ok(());
    let shapes: [(&str, &[u32]); 3] = match is_long() {
        true => [
            ("list $x $x", &[20, 22, 24, 30]),
            ("dict `a` $x `b` $x", &[20, 22, 30]),
            ("list $x (dict `<key>` $x)", &[21, 30]),
        ],
        false => [
            ("list $x $x", &[20, 30]),
            ("dict `a` $x `b` $x", &[30]),
            ("list $x (dict `<key>` $x)", &[30]),
        ],
    };
    for (shape, depths) in shapes {
        for levels in depths {
            let source = format!(
                "{{{{ $x := `<` }}}}{{{{ range until {levels} }}}}{{{{ $x = {shape} }}}}{{{{ end }}}}"
            );
            last = template(&format!("{source}{function}"));
            if let Err(error) = &last
                && !error.contains(BYTES)
            {
                return Err(format!("{levels} levels of {shape}: {error}"));
            }
        }
        last.clone()
            .expect_err("thirty levels are more than any memory holds");
    }
    last
}

/// What is written of one text may be many times as long.
fn long_texts() -> Result<(), String> {
    let control = "\"\\x01\"";
    for (function, text) in [
        ("quote", control),
        ("printf `%+q`", control),
        ("html", "`<`"),
        ("js", "`<`"),
        ("urlquery", "`<`"),
        ("toJson", "`<`"),
        ("toYaml", control),
        ("toToml", control),
        ("snakecase", "`A`"),
        ("b32enc", "`a`"),
        ("replace `b` `c`", "`b`"),
        ("include `x`", "`a`"),
    ] {
        let called = template(&format!(
            "{{{{ define `x` }}}}{{{{ . }}}}{{{{ end }}}}{{{{ $t := repeat 8000000 {text} }}}}{{{{ $y := {function} $t }}}}"
        ));
        if let Err(error) = called {
            let known = [BYTES, "text of more than", "control characters"];
            assert!(
                known.iter().any(|words| error.contains(words)),
                "{function}: {error:.300}"
            );
        }
    }
    template("{{ $t := repeat 16000000 `<` }}{{ $y := toJson $t }}")
}

/// The names of all tables that a table is in stand in its header.
fn toml_of_long_names() -> Result<(), String> {
    template(
        "{{ $k := repeat 20000 `k` }}{{ $x := dict `a` 1 }}{{ range until 100 }}{{ $x = dict $k $x }}{{ end }}{{ $y := toToml $x }}",
    )
}

/// Each of many maps gets all entries of one.
fn maps_filled_by_merge() -> Result<(), String> {
    // Less than the usual bytes, so that the test does not last.
    let limits = Limits {
        bytes: 32 << 20,
        ..Limits::default()
    };
    let source = "{{ $all := dict }}{{ $one := dict }}{{ $from := dict }}{{ range until 3000 }}{{ $_ := set $one (toString .) 1 }}{{ end }}{{ range until 3000 }}{{ $_ := set $all (toString .) (dict `a` 1) }}{{ $_ := set $from (toString .) $one }}{{ end }}{{ $y := merge $all $from }}";
    chart_with(source, "", &[], limits)
}

fn template(source: &str) -> Result<(), String> {
    chart_with(source, "", &[], Limits::default())
}
