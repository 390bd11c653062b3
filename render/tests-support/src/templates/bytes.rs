//! Templates over text that is no UTF-8, of which each writes only what is.

/// Sources of such text, and what may be done with it.
pub const BYTES: &[&str] = &[
    "{{ trimAll (b64dec \"//4A\") (b64dec \"7aCA\") | b64enc }}|{{ trimAll \"\\ufffd\" \"\\xffa\\xfe\" }}|{{ trimAll \"\\xff\" \"\\ufffda\\xc3\" }}|{{ trimAll \"a\" \"a\\xffa\" | b64enc }}",
    "{{ .Files.Get \"bin/k.p12\" | b64enc }}|{{ .Files.Get \"bin/k.p12\" | sha256sum }}|{{ .Files.Get \"bin/k.p12\" | len }}",
    "{{ range .Files.Lines \"bin/half.txt\" }}{{ . | b64enc }},{{ end }}",
    "{{ (.Files.Glob \"bin/*\").AsSecrets }}",
    "{{ (.Files.Glob \"bin/half.txt\").AsConfig }}",
    "{{ range $p, $b := .Files.Glob \"config/*\" }}{{ printf \"%s|%q|%x|%X|%8s|%-8s|%.1s\" $b $b $b $b $b $b $b }}{{ end }}",
    "{{ $b := .Files.GetBytes \"config/b.txt\" }}{{ printf \"%v|%d|%3d|%#v|%o|%c|%U|%t|%e\" $b $b $b $b $b $b $b $b $b }}",
    "{{ $b := .Files.GetBytes \"config/b.txt\" }}{{ printf \"% x|%#x|%# X|%#q|%+q|%T|%w\" $b $b $b $b $b $b $b }}",
    "{{ printf \"%s %v\" (.Files.GetBytes \"nope\") (.Files.GetBytes \"nope\") }}",
    "{{ printf \"%s|%q|%v\" (.Files.Glob \"config/*\") (.Files.Glob \"config/*\") (.Files.Glob \"config/*\") }}",
    "{{ printf \"%q\" (.Files.GetBytes \"bin/k.p12\") }}{{ printf \"%x\" (.Files.Get \"bin/k.p12\") }}{{ toString (.Files.GetBytes \"bin/k.p12\") | b64enc }}",
    "{{ \"/////w==\" | b64dec | b64enc }}{{ \"/////w==\" | b64dec | sha1sum }}{{ \"/////w==\" | b64dec | sha512sum }}{{ \"/////w==\" | b64dec | adler32sum }}",
    "{{ \"77777777\" | b32dec | b32enc }}",
    "{{ b64dec \"YQ=\" | quote }}|{{ b64dec \"YQ=x\" | quote }}|{{ b64dec \"YQ==YQ==\" | quote }}|{{ b64dec \"YQ==\\n\\nx\" | quote }}|{{ b64dec \"YQ\" | quote }}|{{ b64dec \"Y\" | quote }}",
    "{{ b64dec \"YWI\" | quote }}|{{ b64dec \"Y\\nQ\" | quote }}|{{ b64dec \"YQ\\n=\" | quote }}|{{ b64dec \"YQ\\n=\\n\" | quote }}|{{ b64dec \"YQ\\n=\\n=\\n\" | quote }}|{{ b64dec \"YQ=\\n=x\" | quote }}",
    "{{ b64dec \"YWI=\\n=\" | quote }}|{{ b64dec \"YWI==\" | quote }}|{{ b64dec \"=\" | quote }}|{{ b64dec \"Y=\" | quote }}|{{ b64dec \"Y===\" | quote }}|{{ b64dec \"YWJj\\nYQ\" | quote }}",
    "{{ b64dec \"YWJj\\n\\nY\\n\\n\" | quote }}|{{ b64dec \"YWJjZGVmYWJj*\" | quote }}|{{ b64dec \"YWJj_\" | quote }}|{{ b64dec \"Y Q==\" | quote }}|{{ b64dec \"\\n\" | quote }}|{{ b64dec \"YQ=\\nx\" | quote }}",
    "{{ b32dec \"ME======x\" | quote }}|{{ b32dec \"ME======ME======\" | quote }}|{{ b32dec \"ME\" | quote }}|{{ b32dec \"ME=====\" | quote }}|{{ b32dec \"ME====\" | quote }}|{{ b32dec \"ME=\" | quote }}",
    "{{ b32dec \"M\" | quote }}|{{ b32dec \"M=======\" | quote }}|{{ b32dec \"MF======\" | quote }}|{{ b32dec \"MFR=====\" | quote }}|{{ b32dec \"MFRA====\" | quote }}|{{ b32dec \"MFRGG===\" | quote }}",
    "{{ b32dec \"MFRGGZ==\" | quote }}|{{ b32dec \"MFRGGZA=\" | quote }}|{{ b32dec \"MFRGGZDF\" | quote }}|{{ b32dec \"MFRGGZDFM\" | quote }}|{{ b32dec \"MFRGGZDFME\" | quote }}|{{ b32dec \"MFRGGZDFME======\" | quote }}",
    "{{ b32dec \"ME=x====\" | quote }}|{{ b32dec \"ME===\\n===\" | quote }}|{{ b32dec \"mfrggzdf\" | quote }}|{{ b32dec \"ME====x=\" | quote }}|{{ b32dec \"ME=====x\" | quote }}|{{ b32dec \"========\" | quote }}",
    "{{ b32dec \"MFRGGZDF=\" | quote }}|{{ b32dec \"ME=======\" | quote }}|{{ b32dec \"1\" | quote }}|{{ b32dec \"ME1\" | quote }}",
    "{{ trunc 1 \"é\" | b64enc }}{{ trunc -1 \"é\" | b64enc }}{{ substr 1 3 \"éé\" | b64enc }}{{ printf \"%s%s\" (trunc 1 \"é\") (trunc -1 \"é\") }}",
    "{{ abbrev 5 \"éééé\" | b64enc }}{{ abbrevboth 5 10 \"abcdéééééééé\" | b64enc }}{{ wrapWith 1 \"-\" \"éé\" | b64enc }}{{ wrap 3 \"é é é\" | b64enc }}",
    "{{ quote (trunc 1 \"é\") }}{{ squote (trunc 1 \"é\") | b64enc }}{{ printf \"%q %+q %x\" (trunc 1 \"é\") (trunc 1 \"é\") (trunc 1 \"é\") }}",
    "{{ printf \"%5s|%-5s|%.2s\" (trunc 3 \"éé\") (trunc 3 \"éé\") (trunc 3 \"éé\") | b64enc }}",
    "{{ toJson (dict \"a\" (trunc 1 \"é\")) }}{{ toYaml (dict \"a\" (trunc 1 \"é\")) }}{{ toPrettyJson (trunc 1 \"é\") }}{{ toRawJson (trunc 1 \"é\") }}",
    "{{ len (trunc 3 \"éé\") }}{{ index (trunc 3 \"éé\") 2 }}{{ eq (trunc 1 \"é\") (trunc 1 \"è\") }}{{ lt (trunc 1 \"é\") \"z\" }}{{ gt (trunc 1 \"é\") \"\u{20ac}\" }}",
    "{{ upper (trunc 3 \"éé\") }}{{ lower (trunc 3 \"ÉÉ\") }}{{ title (trunc 3 \"éé\") }}{{ untitle (trunc 3 \"ÉÉ\") }}{{ swapcase (trunc 3 \"éé\") }}",
    "{{ nospace (trunc 3 \"éé\") | b64enc }}{{ initials (trunc 3 \"éé\") }}{{ trim (trunc 3 \"éé\") | b64enc }}{{ trimPrefix \"\\xc3\" \"é\" | b64enc }}{{ trimSuffix \"\\xa9\" \"é\" | b64enc }}",
    "{{ contains \"\\xc3\" \"é\" }}{{ hasPrefix \"\\xc3\" \"é\" }}{{ hasSuffix \"\\xa9\" \"é\" }}{{ cat \"\\xff\" 1 | b64enc }}{{ print \"\\xff\" | b64enc }}{{ list \"\\xff\" | join \",\" | b64enc }}",
    "{{ toToml (dict \"a\" (trunc 1 \"é\") \"b\" \"\u{10ff80}\") | b64enc }}{{ toYaml \"\u{10ff80}\" }}{{ toYamlPretty \"\u{10ff80}\" }}{{ fromJson \"{\\\"a\\\": \\\"\u{10ff80}\\\"}\" }}",
    "{{ splitList \"\" \"a\\xffb\" | join \"-\" | b64enc }}{{ splitList \"\\xff\" \"a\\xffb\" | join \"-\" }}{{ replace \"\\xff\" \"-\" \"a\\xffb\" }}{{ repeat 2 \"\\xff\" | b64enc }}",
    "{{ indent 2 \"\\xff\\n\\xfe\" | b64enc }}{{ nindent 1 \"\\xff\" | b64enc }}{{ default \"x\" \"\\xff\" | b64enc }}{{ html \"<\\xff>\" | b64enc }}{{ js \"'\\xff'\" | b64enc }}{{ urlquery \"\\xff é\" }}",
    "{{ regexReplaceAll \"b\" \"a\\xffb\" \"c\" | b64enc }}{{ regexMatch \"^a.b$\" \"a\\xffb\" }}{{ regexFind \"[^a]+\" \"a\\xff\" | b64enc }}{{ regexMatch \"\\xff\" \"a\" }}",
    "{{ define \"x\" }}\\{{ . }}{{ end }}{{ include \"x\" \"\\xff\" | b64enc }}{{ tpl \"{{ . }}\" \"\\xff\" | b64enc }}{{ decryptAES \"k\" \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\" | len }}",
    "{{ fromJson \"{\\\"a\\\": \\\"\\xff\\\"}\" | toJson }}{{ sortAlpha (list \"\\xff\" \"é\" \"a\") | join \",\" | b64enc }}{{ \"\u{10ff80}\u{10ffff}\" }}{{ len \"\u{10ff80}\" }}{{ \"\u{10ff80}\" | b64enc }}",
    "{{ quote \"\u{10ff80}\" | b64enc }}{{ toJson \"\u{10ff80}\" }}{{ .Values.b | b64enc }}{{ \"\\u00e9\" | b64enc }}{{ \"\\303\\251\" }}{{ hasKey (fromYaml \"a: \\xff\") \"Error\" }}",
];

/// What follows characters as Go maps them, one to one.
pub const CASES: &[&str] = &[
    "{{ upper \"straße ŉ ǆ ᾳ ﬁ ı\" }}{{ lower \"ΟΔΟΣ İ Ǆ ᾼ\" }}{{ title \"ßa ǆa ŉb ﬁc\" }}{{ untitle \"İa ẞb\" }}{{ swapcase \"ßAİı\" }}",
    "{{ snakecase \"ÉtatCivil\" }}{{ kebabcase \"ẞigmaΣ\" }}{{ camelcase \"état_civil\" }}",
];
