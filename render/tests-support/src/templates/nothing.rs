//! Templates over what Go has where there is nothing, methods of values, and maps that hold themselves.

/// Nil, in all its forms.
pub const NOTHING: &[&str] = &[
    "{{ merge nil (dict) }}|{{ merge nil (dict \"a\" 1) }}|{{ merge nil nil | toJson }}|{{ merge (dict) nil | toJson }}|{{ mergeOverwrite nil (dict \"a\" 1) }}|{{ merge .Values.nope (dict \"a\" 1) }}",
    "{{ unset nil \"a\" }}|{{ hasKey nil \"a\" }}|{{ get nil \"a\" }}|{{ pick nil \"a\" }}|{{ omit nil \"a\" }}|{{ values nil }}|{{ keys nil }}|{{ pluck \"a\" nil }}|{{ urlJoin nil }}|{{ toJson (unset nil \"a\") }}",
    "{{ set nil \"a\" 1 }}",
    "{{ sortAlpha nil }}|{{ sortAlpha .Values.nope }}|{{ sortAlpha 1 }}|{{ typeOf .Template }}|{{ typeOf .Subcharts }}|{{ printf \"%T\" .Template }}",
    "{{ define \"x\" }}[{{ .a.b }}]{{ end }}{{ include \"x\" .Values.nope }}{{ include \"x\" nil }}{{ include \"x\" .Values.n }}{{ tpl \"[{{ .a.b }}]\" .Values.nope }}{{ tpl \"[{{ .a.b }}]\" nil }}",
    "{{ define \"x\" }}[{{ .a.b }}]{{ end }}{{ template \"x\" .Values.nope }}{{ template \"x\" nil }}{{ template \"x\" }}",
    "{{ define \"x\" }}[{{ .a.b }}]{{ end }}{{ range list nil }}{{ include \"x\" . }}{{ end }}",
    "{{ range list nil }}{{ .a }}{{ end }}",
    "{{ define \"x\" }}{{ if . }}t{{ else }}f{{ end }}{{ kindOf . }}{{ default 1 . }}{{ . }}{{ toJson . }}{{ end }}{{ include \"x\" .Values.nope }}{{ include \"x\" nil }}",
    "{{ regexFindAll \"x\" \"abc\" -1 | toJson }}{{ regexFindAll \"b\" \"abc\" 0 | toJson }}{{ regexSplit \"b\" \"abc\" 0 | toJson }}{{ concat | toJson }}{{ concat (list) (list) | toJson }}{{ concat (list 1) (list) | toJson }}",
    "{{ rest (list) | toJson }}{{ initial (list) | toJson }}{{ rest (list 1) | toJson }}{{ initial (list 1) | toJson }}{{ reverse (list) | toJson }}{{ uniq (list) | toJson }}{{ compact (list \"\") | toJson }}{{ without (list 1) 1 | toJson }}{{ list | toJson }}",
    "{{ fromYaml \"\" | toJson }}{{ fromYaml \"null\" | toJson }}{{ fromJson \"null\" | toJson }}{{ fromYamlArray \"\" | toJson }}{{ fromJsonArray \"null\" | toJson }}{{ fromYamlArray \"[]\" | toJson }}{{ fromYaml \"{}\" | toJson }}",
    "{{ splitList \",\" \"\" | toJson }}{{ keys (dict) | toJson }}{{ values (dict) | toJson }}{{ pluck \"a\" (dict) | toJson }}{{ until 0 | toJson }}{{ .Files.Lines \"nope\" | toJson }}{{ sortAlpha (list) | toJson }}{{ toStrings (list) | toJson }}{{ chunk 2 (list) | toJson }}{{ pick (dict) | toJson }}",
    "{{ regexFindAll \"x\" \"abc\" -1 }}{{ len (regexFindAll \"x\" \"abc\" -1) }}{{ regexFindAll \"x\" \"abc\" -1 | empty }}{{ toYaml (dict \"a\" (rest (list))) }}{{ append (rest (list)) 1 | toJson }}{{ range rest (list) }}x{{ else }}none{{ end }}{{ deepEqual (rest (list)) (list) }}",
    "{{ set (fromYaml \"\") \"a\" 1 | toJson }}",
    "{{ hasKey (fromYaml \"\") \"a\" }}{{ (fromYaml \"\").a }}{{ merge (dict \"a\" 1) (fromYaml \"\") | toJson }}",
];

/// JSON as Go's decoder reads it.
pub const JSON: &[&str] = &[
    r#"{{ "[\"\\ud800\"]" | fromJsonArray | toJson }}{{ "[\"\\ude00x\"]" | fromJsonArray | toJson }}{{ "[\"\\ud83d\\ude00\"]" | fromJsonArray | toJson }}{{ "[\"\\ud800\\ud83d\\ude00\"]" | fromJsonArray | toJson }}"#,
    r#"{{ `["a\\ud800", "\\\\ud800", "\ud8", "x"]` | fromJsonArray | len }}{{ `["\\ud800", "é\ud800é"]` | fromJsonArray | toJson }}"#,
];

/// Methods of Helm's values, and the types that functions return.
pub const METHODS: &[&str] = &[
    "{{ .Values.AsMap.b }}{{ .Values.AsMap | typeOf }}{{ .Values | typeOf }}{{ .Values.nested.AsMap }}",
    "{{ (.Values.Table \"nested.x\").y.z }}{{ .Values.Table \"nested\" | typeOf }}{{ .Values.PathValue \"nested.x.y.z\" }}{{ .Values.PathValue \"b\" }}{{ .AsMap.Release.Name }}",
    "{{ .Values.YAML }}",
    "{{ .Values.Table \"b\" }}",
    "{{ .Values.Table \"nope.x\" }}",
    "{{ .Values.PathValue \"nested.x\" }}",
    "{{ .Values.PathValue \"nope\" }}",
    "{{ .Values.PathValue \"\" }}",
    "{{ .Values.Table }}",
    "{{ .Values.AsMap \"x\" }}",
    "{{ .Values.Encode }}",
    "{{ with .Values }}{{ .AsMap.b }}{{ end }}{{ $v := .Values }}{{ $v.AsMap.b }}{{ (index .Values \"nested\").x }}",
    "{{ typeOf (merge .Values (dict \"q\" 1)) }}{{ typeOf (set .Values \"q\" 1) }}{{ typeOf (unset .Values \"q\") }}{{ typeOf (mergeOverwrite .Values (dict)) }}{{ typeOf (pick .Values \"a\") }}{{ typeOf (omit .Values \"a\") }}{{ typeOf .Values }}",
    "{{ (semver \"1.2.3\").SetPrerelease \"x.1\" }}{{ (semver \"v1.2.3-a\").SetMetadata \"m\" }}{{ ((semver \"v1.2.3\").SetPrerelease \"x\").Major }}{{ typeOf ((semver \"v1.2.3\").IncMajor) }}{{ kindOf ((semver \"v1.2.3\").IncMajor) }}{{ ((semver \"v1.2.3\").IncMajor).IncPatch }}{{ (semver \"1.2.3-a+b\").SetPrerelease \"\" }}",
    "{{ (semver \"1.2.3\").SetPrerelease \"x+y\" }}",
    "{{ ((semver \"v1.2.3\").IncMajor).Original }}",
    "{{ ((semver \"1.2.3\").IncMajor).LessThan (semver \"3.0.0\") }}",
    "{{ fromToml \"d = 1979-05-27\\nt = 07:32:00\\nl = 1979-05-27T07:32:00\\no = 1979-05-27T07:32:00-07:00\\nf = 00:32:00.5\" | toJson }}",
];

/// Maps that hold themselves, as long as nobody walks them.
pub const CYCLES: &[&str] = &[
    "{{ $_ := set . \"self\" . }}{{ .self.Release.Name }}{{ .self.self.self.Release.Name }}",
    "{{ $_ := set .Values \"root\" $ }}{{ .Values.root.Release.Name }}{{ hasKey .Values.root \"Values\" }}{{ keys .Values.root | sortAlpha | join \",\" }}",
    "{{ $d := dict \"a\" 1 }}{{ $_ := set $d \"l\" (list $d) }}{{ (index $d.l 0).a }}{{ len $d.l }}{{ range $d.l }}{{ .a }}{{ end }}{{ kindOf $d }}{{ empty $d }}{{ default 1 $d | len }}",
    "{{ $d := dict \"a\" 1 }}{{ $_ := set $d \"s\" $d }}{{ $e := merge (dict \"b\" 2) $d }}{{ $e.s.s.a }}{{ (get $e \"s\").a }}{{ (dig \"s\" \"s\" \"a\" 0 $d) }}{{ (pick $d \"s\").s.a }}{{ (omit $d \"a\").s.a }}",
    "{{ define \"x\" }}{{ .self.Values.b }}{{ end }}{{ $_ := set $ \"self\" $ }}{{ include \"x\" . }}{{ tpl \"{{ .self.Values.b }}\" . }}{{ with .self }}{{ .Values.b }}{{ end }}",
];
