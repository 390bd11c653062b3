//! Calls of functions on many entries, and charts of many parts.

use super::Source;

/// What each call sees: a list of numbers, one of texts, a map, a map of maps, a text of words and one of lines, YAML and
/// JSON.
const GIVEN: &str = "{{ $l := until N }}{{ $s := list }}{{ $m := dict }}{{ $n := dict }}{{ range $l }}{{ $_ := set $m (printf `k%d` .) . }}{{ $_ := set $n (printf `k%d` .) (dict `a` . `b` (list .)) }}{{ end }}{{ $s = keys $m }}{{ $t := join ` ` $s }}{{ $lines := join \"\\n\" $s }}{{ $y := toYaml $n }}{{ $j := toJson $n }}";

/// Returns a template with a call; its result is not printed.
pub(super) fn called(call: &str, entries: usize) -> String {
    format!("{GIVEN}{{{{ $x := {call} }}}}").replace('N', &entries.to_string())
}

/// A call for each function whose work depends on how much it is given.
pub(super) const FUNCTIONS: &[&str] = &[
    // Text.
    "print $l $m",
    "println $l $m",
    "printf `%v %s %q %x` $l $s $t $t",
    "html $t",
    "js $t",
    "urlquery $t",
    "toString $n",
    "toStrings $l",
    "quote $s $t",
    "squote $s $t",
    "cat $s $t",
    "upper $t",
    "title $t",
    "untitle $t",
    "swapcase $t",
    "snakecase $t",
    "kebabcase $t",
    "camelcase $t",
    "trim $t",
    "trimAll $t $t",
    "trimPrefix `k` $t",
    "nospace $t",
    "initials $t",
    "contains $t $t",
    "replace ` ` `--` $t",
    "repeat N `ab`",
    "indent 4 $lines",
    "nindent 4 $lines",
    "trunc 100 $t",
    "substr 1 100 $t",
    "abbrev 100 $t",
    "wrap 20 $t",
    "wrapWith 20 `--` $t",
    "join `,` $l",
    "split ` ` $t",
    "splitn ` ` N $t",
    "splitList ` ` $t",
    "sortAlpha $s",
    // Lists.
    "append $l 1",
    "prepend $l 1",
    "first $l",
    "rest $l",
    "initial $l",
    "last $l",
    "reverse $l",
    "uniq (concat $s $s)",
    "compact $l",
    "without $l 1 2",
    "has `k` $s",
    "concat $l $s $l",
    "chunk 10 $l",
    "slice $l 0 1",
    "index $l 0",
    "len $l",
    "until N",
    "untilStep 0 N 2",
    "seq 1 N",
    // Maps.
    "get $m `k1`",
    "hasKey $m `k1`",
    "pluck `k1` $m $m",
    "keys $m $m",
    "values $m",
    "pick $m `k1`",
    "omit $m `k1`",
    "merge (dict) $n $m",
    "mergeOverwrite (dict) $n $m",
    "deepCopy $n",
    "dig `k1` `a` 0 $n",
    "unset $m `k1`",
    // Values.
    "toYaml $n",
    "toYamlPretty $n",
    "toJson $n",
    "toPrettyJson $n",
    "toRawJson $n",
    "toToml $n",
    "fromYaml $y",
    "fromYamlArray (toYaml $s)",
    "fromJson $j",
    "fromJsonArray (toJson $s)",
    "fromToml (toToml $n)",
    "deepEqual $n (deepCopy $n)",
    "eq $t $t",
    "empty $m",
    "default $m $n",
    "ternary $m $n true",
    // Digests and encodings.
    "b64enc $t | b64dec",
    "b32enc $t | b32dec",
    "sha256sum $t",
    "adler32sum $t",
    // Expressions.
    "regexMatch `k[0-9]+` $t",
    "regexFindAll `k[0-9]+` $t -1",
    "regexReplaceAll `k([0-9]+)` $t `$1`",
    "regexReplaceAllLiteral `k` $t `x`",
    "regexSplit ` ` $t -1",
    "regexQuoteMeta $t",
    // Templates within templates.
    "tpl $t $m",
    "tpl (repeat N `{{ 1 }}`) $m",
    "tpl (repeat N `{{ if . }}a{{ else }}b{{ end }}`) $m",
];

/// A shape of a chart by its name, made with so many entries.
type Shape = (&'static str, fn(usize) -> Source);

/// A chart for each part of one that there may be many of.
pub(super) const CHARTS: &[Shape] = &[
    ("templates", templates),
    ("documents", |entries| Source::template(objects(entries))),
    ("hooks", hooks),
    ("objects that a loop writes", |entries| {
        Source::template(format!(
            "{{{{ range until {entries} }}}}\n---\nkind: A\nmetadata: {{name: a{{{{ . }}}}}}\n{{{{ end }}}}"
        ))
    }),
    ("definitions, each included", definitions),
    ("variables", |entries| {
        let declared: String = (0..entries)
            .map(|at| format!("{{{{ $v{at} := {at} }}}}"))
            .collect();
        Source::template(declared)
    }),
    ("blocks within each other", |entries| {
        let depth = entries / 10;
        Source::template("{{ if 1 }}".repeat(depth) + &"{{ end }}".repeat(depth))
    }),
    ("files", files),
    ("lines of a file", |entries| {
        Source::template("# {{ range .Files.Lines `big` }}{{ . }}{{ end }}")
            .file("big", "line\n".repeat(entries))
    }),
    ("values", values),
    ("values of the chart", |entries| {
        let Source { values, .. } = self::values(entries);
        Source::template("# {{ toYaml .Values.all | len }}").file("values.yaml", values)
    }),
    ("values of a subchart", |entries| {
        let Source { values, .. } = self::values(entries);
        subchart(Source::template(""), "below")
            .file("charts/below/values.yaml", values)
            .file(
                "charts/below/templates/a.yaml",
                "# {{ toYaml .Values.all | len }}",
            )
    }),
    ("subcharts", |entries| {
        (0..entries / 10).fold(Source::template(""), |chart, at| {
            subchart(chart, &format!("s{at}"))
        })
    }),
    ("aliases of a subchart", aliases),
    ("imported values", imports),
    ("properties of a schema", schema),
    ("definitions of kinds", |entries| {
        (0..entries).fold(Source::template(""), |chart, at| {
            chart.file(format!("crds/a{at}.yaml"), "kind: CustomResourceDefinition\n")
        })
    }),
];

fn objects(entries: usize) -> String {
    (0..entries)
        .map(|at| format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a{at}\n"))
        .collect()
}

fn templates(entries: usize) -> Source {
    (0..entries).fold(Source::template(""), |chart, at| {
        chart.file(
            format!("templates/t{at}.yaml"),
            format!("kind: A\nmetadata: {{name: {{{{ .Release.Name }}}}-{at}}}\n"),
        )
    })
}

fn hooks(entries: usize) -> Source {
    let hooks = (0..entries).map(|at| {
        format!("---\nkind: Job\nmetadata:\n  name: a{at}\n  annotations: {{helm.sh/hook: pre-install, helm.sh/hook-weight: \"{at}\"}}\n")
    });
    Source::template(hooks.collect::<String>())
}

fn definitions(entries: usize) -> Source {
    let defined = (0..entries).map(|at| format!("{{{{ define `d{at}` }}}}{{{{ . }}}}{{{{ end }}}}"));
    let included = (0..entries).map(|at| format!("{{{{ $x := include `d{at}` 1 }}}}"));
    Source::template(included.collect::<String>()).file("templates/_d.tpl", defined.collect::<String>())
}

fn files(entries: usize) -> Source {
    let source = "# {{ range $path, $_ := .Files.Glob `conf/*` }}{{ $.Files.Get $path }}{{ end }}{{ (.Files.Glob `conf/*`).AsConfig | len }}";
    (0..entries).fold(Source::template(source), |chart, at| {
        chart.file(format!("conf/f{at}"), "text")
    })
}

fn values(entries: usize) -> Source {
    let all = (0..entries).map(|at| format!("  k{at}: {{a: [1, two], b: {{c: d}}}}\n"));
    Source {
        values: format!("all:\n{}", all.collect::<String>()),
        ..Source::template(
            "# {{ toYaml .Values.all | len }}{{ range $k, $v := .Values.all }}{{ $v.b.c }}{{ end }}",
        )
    }
}

fn subchart(chart: Source, name: &str) -> Source {
    chart
        .file(
            format!("charts/{name}/Chart.yaml"),
            format!("apiVersion: v2\nname: {name}\nversion: 1.0.0\n"),
        )
        .file(
            format!("charts/{name}/templates/b.yaml"),
            "kind: A\nmetadata: {name: {{ .Chart.Name }}}\n",
        )
}

/// A chart that depends on one under many names, with more in the list of its dependencies.
fn depending(entries: usize, more: &str) -> Source {
    let listed = (0..entries).map(|at| format!("- {{name: below, version: 1.0.0, alias: a{at}{more}}}\n"));
    let chart = Source::default()
        .file(
            "Chart.yaml",
            format!(
                "apiVersion: v2\nname: c\nversion: 1.0.0\ndependencies:\n{}",
                listed.collect::<String>()
            ),
        )
        .file("templates/a.yaml", "# {{ len .Values }}\n");
    subchart(chart, "below")
}

fn aliases(entries: usize) -> Source {
    depending(entries / 10, ", condition: on").file("charts/below/values.yaml", "a: {b: c}\n")
}

fn imports(entries: usize) -> Source {
    depending(entries / 10, ", import-values: [{child: a, parent: b}]")
        .file("charts/below/values.yaml", "a: {b: c}\n")
}

fn schema(entries: usize) -> Source {
    let properties: Vec<String> = (0..entries)
        .map(|at| format!("\"k{at}\":{{\"type\":\"object\"}}"))
        .collect();
    let all = format!(
        "{{\"properties\":{{\"all\":{{\"properties\":{{{}}}}}}}}}",
        properties.join(",")
    );
    values(entries).file("values.schema.json", all)
}
