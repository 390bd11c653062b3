//! Templates over expressions, patterns and constants that Go writes in its own way.

/// Regular expressions.
pub const REGEXPS: &[&str] = &[
    "{{ regexReplaceAll \"(?P<1234567890>a)\" \"xax\" \"[$1234567890]\" }}|{{ regexReplaceAll \"(?P<123456789>a)\" \"xax\" \"[$123456789]\" }}|{{ regexReplaceAll \"(?P<99999999999999999999>a)\" \"xax\" \"[${99999999999999999999}]\" }}|{{ regexReplaceAll \"(a)\" \"xax\" \"[$1000000000][$0000000001]\" }}",
    "{{ regexMatch \"^a{$\" \"a{\" }}|{{ regexMatch \"^a{1$\" \"a{1\" }}|{{ regexMatch \"^a{1,$\" \"a{1,\" }}|{{ regexMatch \"^a{,2}$\" \"a{,2}\" }}|{{ regexMatch \"^a{01}$\" \"a{01}\" }}|{{ regexMatch \"^a{1,01}$\" \"a{1,01}\" }}|{{ regexMatch \"^a{1,2$\" \"a{1,2\" }}|{{ regexMatch \"^a{1x}$\" \"a{1x}\" }}|{{ regexMatch \"^a{{2}$\" \"a{{2}\" }}|{{ regexMatch \"^a{1}{$\" \"a{1}{\" }}|{{ regexMatch \"^a{ 1}$\" \"a{ 1}\" }}|{{ regexMatch \"^a{0,}$\" \"a{0,}\" }}|{{ regexMatch \"^a{}$\" \"a{}\" }}|{{ regexMatch \"^a{1,2,3}$\" \"a{1,2,3}\" }}",
    "{{ regexReplaceAll \"a{\" \"aaa{a{1\" \"-\" }}|{{ regexReplaceAll \"a{1\" \"aaa{a{1\" \"-\" }}|{{ regexReplaceAll \"a{1,\" \"aaa{a{1\" \"-\" }}|{{ regexReplaceAll \"a{,2}\" \"aaa{a{1\" \"-\" }}|{{ regexReplaceAll \"a{01}\" \"aaa{a{1\" \"-\" }}|{{ regexReplaceAll \"a{1,01}\" \"aaa{a{1\" \"-\" }}|{{ regexReplaceAll \"a{1,2\" \"aaa{a{1\" \"-\" }}|{{ regexReplaceAll \"a{1x}\" \"aaa{a{1\" \"-\" }}|{{ regexReplaceAll \"a{{2}\" \"aaa{a{1\" \"-\" }}|{{ regexReplaceAll \"a{1}{\" \"aaa{a{1\" \"-\" }}|{{ regexReplaceAll \"a{ 1}\" \"aaa{a{1\" \"-\" }}|{{ regexReplaceAll \"a{0,}\" \"aaa{a{1\" \"-\" }}|{{ regexReplaceAll \"a{}\" \"aaa{a{1\" \"-\" }}|{{ regexReplaceAll \"a{1,2,3}\" \"aaa{a{1\" \"-\" }}",
    "{{ regexReplaceAll \"a{99999999999999999999}\" \"aaa\" \"-\" }}",
    "{{ regexReplaceAll \"a{1,99999999999999999999}\" \"aaa\" \"-\" }}",
    "{{ regexReplaceAll \"a{2,1}\" \"aaa\" \"-\" }}",
    "{{ regexReplaceAll \"a{1001,}\" \"aaa\" \"-\" }}",
    "{{ regexMatch \"^[\\\\w-\\\\.]+$\" \"mymaster\" }}{{ regexMatch \"[\\\\w-a]\" \"-\" }}{{ regexMatch \"\\\\141\" \"a\" }}{{ regexMatch \"a**\" \"a\" }}",
    "{{ regexMatch \"\\\\<a\" \"a\" }}{{ regexMatch \"\\\\<a\" \"<a\" }}{{ regexMatch \"[a--b]\" \"a\" }}{{ regexMatch \"(?x) a b\" \"ab\" }}{{ regexMatch \"x*+\" \"x\" }}{{ regexMatch \"\\\\u0061\" \"a\" }}",
    "{{ regexMatch \"\\\\p{Alphabetic}\" \"a\" }}{{ regexMatch \"[[:foo:]]\" \"a\" }}{{ regexMatch \"a{1001}\" \"a\" }}{{ regexMatch \"\\\\p{^L}\" \"1\" }}{{ regexMatch \"\\\\pN\" \"1\" }}{{ regexMatch \"\\\\C\" \"a\" }}",
    "{{ regexMatch \"\\\\Qa.b\\\\E\" \"a.b\" }}{{ regexMatch \"\\\\Qa.b\\\\E\" \"axb\" }}{{ regexMatch \"[a[b]\" \"[\" }}{{ regexMatch \"[a&&b]\" \"&\" }}{{ regexMatch \"[a~~b]\" \"~\" }}{{ regexMatch \"[]a]\" \"]\" }}{{ regexMatch \"\\\\Z\" \"a\" }}",
    "{{ regexMatch \"(?i)K\" \"\u{212a}\" }}{{ regexMatch \"(?i)[k]\" \"\u{212a}\" }}{{ regexMatch \"\\\\s\" \"\u{a0}\" }}{{ regexMatch \"\\\\bé\" \"é\" }}{{ regexMatch \"a$\" \"a\\n\" }}{{ regexMatch \"(?m)a$\" \"a\\n\" }}{{ regexMatch \"a.b\" \"a\\nb\" }}{{ regexMatch \"(?s)a.b\" \"a\\nb\" }}",
    "{{ regexReplaceAll \"(?P<1a>..)\" \"ab\" \"<${1a}>\" }}{{ regexReplaceAll \"(a)(b)?\" \"a\" \"[$1$2${3}$0x${0}x]\" }}{{ regexReplaceAll \"a\" \"a\" \"$\" }}{{ regexReplaceAll \"a\" \"a\" \"${b\" }}{{ regexReplaceAll \"a\" \"a\" \"$$1\" }}{{ regexReplaceAll \"(?<x>a)\" \"a\" \"$x-$x1-$01\" }}",
    "{{ regexFind \"(?U)a+\" \"aaa\" }}{{ regexFind \"(?U)a+?\" \"aaa\" }}{{ regexFind \"a{,2}\" \"a{,2}\" }}{{ regexFind \"x{01}\" \"x{01}\" }}{{ regexFind \"a|ab\" \"ab\" }}{{ regexFind \"^*a\" \"a\" }}{{ regexFind \"a(?i)B\" \"ab\" }}{{ regexFind \"a(?i)*b\" \"aaB\" }}",
    "{{ regexMatch \"\\\\x{10FFFF}\" \"a\" }}{{ regexMatch \"\\\\x{110000}\" \"a\" }}{{ regexMatch \"[\\\\x{d800}-\\\\x{e000}]\" \"\u{e000}\" }}{{ regexMatch \"\\\\01\" \"\\x01\" }}{{ regexMatch \"\\\\8\" \"8\" }}{{ regexMatch \"\\\\_\" \"_\" }}{{ regexMatch \"(?i-s:a)\" \"A\" }}{{ regexMatch \"(?i-)a\" \"a\" }}{{ regexMatch \"(?)a\" \"a\" }}",
    "{{ regexMatch \"\\\\p{Greek}\" \"α\" }}{{ regexMatch \"\\\\p{Letter}\" \"a\" }}{{ regexMatch \"\\\\p{uppercase_letter}\" \"A\" }}{{ regexMatch \"\\\\p{Any}\" \"a\" }}{{ regexMatch \"\\\\p{Script=Greek}\" \"α\" }}{{ regexMatch \"(?P<n>a)(?P<n>b)\" \"ab\" }}{{ regexMatch \"((a{10}){10}){10}\" \"a\" }}{{ regexMatch \"((a{10}){10}){11}\" \"a\" }}",
    "{{ mustRegexMatch \"a**\" \"a\" }}",
    "{{ mustRegexMatch \"(?=a)\" \"a\" }}",
    "{{ regexFind \"[b-a]\" \"a\" }}",
    "{{ mustRegexFind \"a{2,1}\" \"a\" }}",
    "{{ mustRegexReplaceAll \"[a\" \"a\" \"b\" }}",
];

/// Patterns of files.
pub const GLOBS: &[&str] = &[
    "{{ range $p, $_ := .Files.Glob \"config/[ab].txt\" }}{{ $p }} {{ end }}|{{ range $p, $_ := .Files.Glob \"config/[a-b].txt\" }}{{ $p }} {{ end }}|{{ range $p, $_ := .Files.Glob \"config/[!a].txt\" }}{{ $p }} {{ end }}|{{ range $p, $_ := .Files.Glob \"config/[!a-b].txt\" }}{{ $p }} {{ end }}",
    "{{ range $p, $_ := .Files.Glob \"config/[a-b0-9].txt\" }}{{ $p }} {{ end }}|{{ range $p, $_ := .Files.Glob \"config/[ab0-9].txt\" }}{{ $p }} {{ end }}|{{ range $p, $_ := .Files.Glob \"config/[].txt\" }}{{ $p }} {{ end }}|{{ range $p, $_ := .Files.Glob \"config/[a.txt\" }}{{ $p }} {{ end }}",
    "{{ range $p, $_ := .Files.Glob \"{config,other\" }}{{ $p }} {{ end }}|{{ range $p, $_ := .Files.Glob \"{config,other}/*\" }}{{ $p }} {{ end }}|{{ range $p, $_ := .Files.Glob \"{config/{a,b}.txt,other/*\" }}{{ $p }} {{ end }}|{{ range $p, $_ := .Files.Glob \"config/a.txt}\" }}{{ $p }} {{ end }}",
    "{{ range $p, $_ := .Files.Glob \"**\" }}{{ $p }} {{ end }}|{{ range $p, $_ := .Files.Glob \"*\" }}{{ $p }} {{ end }}|{{ range $p, $_ := .Files.Glob \"**.txt\" }}{{ $p }} {{ end }}|{{ range $p, $_ := .Files.Glob \"config/**\" }}{{ $p }} {{ end }}|{{ range $p, $_ := .Files.Glob \"*/?.txt\" }}{{ $p }} {{ end }}",
    "{{ range $p, $_ := .Files.Glob \"config\\\\/a.txt\" }}{{ $p }} {{ end }}|{{ range $p, $_ := .Files.Glob \"config/a.txt\\\\\" }}{{ $p }} {{ end }}|{{ range $p, $_ := .Files.Glob \"{config,}/a.txt\" }}{{ $p }} {{ end }}|{{ range $p, $_ := .Files.Glob \"\" }}{{ $p }} {{ end }}|{{ range $p, $_ := .Files.Glob \"a,b\" }}{{ $p }} {{ end }}",
];

/// Layouts of dates, and texts within texts.
pub const LAYOUTS: &[&str] = &[
    "{{ toDate \"2006-01-02\" \"2020-03-04\" | date \"backup_2006-01-02 job_2006_01_02 _2 __2 _2_2006\" }}",
    "{{ toDate \"2006-01-02\" \"2020-03-04\" | date \"Month Mon Mond Monday Janu Jan January Monat MON\" }}",
    "{{ toDate \"2006-01-02 MST\" \"2020-03-04 CET\" | date \"2006-01-02\" }}{{ toDate \"2006-01-02 MST\" \"2020-03-04 GMT+3\" | date \"2006-01-02 15\" }}{{ toDate \"MST 2006\" \"WITA 2020\" | date \"2006\" }}{{ toDate \"MST 2006\" \"AB 2020\" | date \"2006\" }}{{ toDate \"MST 2006\" \"ABCDT 2020\" | date \"2006\" }}{{ toDate \"MST 2006\" \"ABCDE 2020\" | date \"2006\" }}",
    "{{ toDate \"2006-01-02 MST\" \"2020-03-04 CET\" }}|{{ toDate \"2006-01-02 15:04 MST\" \"2020-03-04 10:00 GMT+3\" }}|{{ toDate \"2006 MST\" \"2020 GMT-12\" }}|{{ toDate \"2006 MST\" \"2020 GMT\" }}|{{ toDate \"MST 2006\" \"WITA 2020\" }}|{{ toDate \"MST 2006\" \"+03 2020\" }}|{{ toDate \"MST 2006\" \"ChST 2020\" }}",
    "{{ toDate \"2006 -0700 MST\" \"2020 +0100 CET\" }}|{{ toDate \"2006 -0700 MST\" \"2020 +0100 UTC\" }}|{{ toDate \"2006 -0700 MST\" \"2020 +0000 GMT\" }}|{{ toDate \"2006 -0700\" \"2020 +0000\" }}|{{ toDate \"2006 Z07:00 MST\" \"2020 Z CET\" }}|{{ toDate \"2006 -07:00\" \"2020 -03:30\" }}",
    "{{ $t := toDate \"2006-01-02 15 MST\" \"2020-03-04 10 EST\" }}{{ $t.UTC }}|{{ $t.Local }}|{{ $t.Format \"MST -0700 Z0700\" }}|{{ $t.Unix }}|{{ date \"15 MST\" $t }}|{{ dateModify \"1h\" $t }}|{{ $t.AddDate 0 1 0 }}|{{ toJson $t }}|{{ toYaml $t }}|{{ htmlDate $t }}|{{ $t.Weekday }}",
    "{{ tpl \"a{{ tpl \\\"{{/* none */}}\\\" . }}b\" . }}{{ tpl \"a{{ tpl \\\" {{- /* none */ -}} \\\" . }}b\" . }}{{ tpl \"a{{ tpl \\\"{{ define `x` }}X{{ end }}\\\" . }}b\" . }}{{ tpl \"{{ define `x` }}1{{ end }}{{ tpl `{{ define \\\"x\\\" }}{{ end }}{{ include \\\"x\\\" . }}` . }}\" . }}",
];

/// Constants and verbs.
pub const NUMBERS: &[&str] = &[
    "{{ 0x1p60 }} {{ 0x1.8p1 }} {{ -0x1p-2 }} {{ 0X.8P0 }} {{ 0x1_0p4 }} {{ 0x1.fffffffffffff8p0 }} {{ 0x1p-1074 }} {{ 0x10p0 }}",
    "{{ 0x1p1024 }}",
    "{{ 0x1.8 }}",
    "{{ printf \"%x|%b|%#v|%5v\" 1.5 1.5 (list nil) (list nil) }}",
    "{{ printf \"%x|%X|%.3x|%.0x|%20x|%-20x|%+x|% x|%020x\" 1.0 0.1 3.14159 1.99 0.5 0.5 0.5 0.5 0.5 }}",
    "{{ printf \"%x|%x|%x|%x|%b|%b|%b\" 0.0 -0.5 5e-324 1.7976931348623157e308 0.0 -0.5 5e-324 }}",
    "{{ printf \"%d|%5d|%f|%5s|%q\" (list nil 1) (list nil) (list nil) (list nil \"a\") (list nil) }}",
    "{{ printf \"%w|%w|%w|%w\" (list \"a\") (dict \"a\" 1) \"a\" nil }}",
    "{{ printf \"%#v|%#v|%#v|%#v\" (dict \"a\" nil) (list (list nil)) nil (splitList \",\" \"a,b\") }}",
    "{{ html nil \"x\" }}|{{ js nil 1 }}|{{ html nil }}|{{ js nil nil }}|{{ urlquery nil 1 }}|{{ html 1 2 }}|{{ html \"a\" 1 2 }}|{{ html .Values.nope }}",
];
