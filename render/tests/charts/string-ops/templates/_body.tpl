{{- $s := .Values.s }}
case: {{ upper $s }} {{ lower $s }} {{ title "foo bar" }} {{ untitle $s }}
camel: {{ camelcase "http_server_name" }} {{ snakecase "FirstName" }} {{ kebabcase "FirstName" }} {{ swapcase $s }}
trim: "{{ trim "  x  " }}|{{ trimAll "$" "$5$" }}|{{ trimSuffix "-" "a-" }}|{{ trimPrefix "v" "v1" }}"
sub: {{ substr 0 5 $s }} {{ trunc 3 $s }} {{ trunc -3 $s }} {{ abbrev 8 $s }} {{ abbrevboth 5 10 "1234 5678 9123" }}
repeat: {{ repeat 3 "ab" }} {{ nospace "a b c" }} {{ initials "First Try" }}
contains: {{ contains "lo" $s }} {{ hasPrefix "He" $s }} {{ hasSuffix "x" $s }}
quote: {{ quote "a\"b" 1 nil true }} {{ squote "it" 2 }} {{ cat "a" 1 nil "b" }}
indent: |
{{ indent 2 "a\nb" }}
  {{- nindent 2 "c\nd" }}
replace: {{ replace "o" "0" $s }} {{ plural "one" "many" 1 }} {{ plural "one" "many" 2 }}
wrap: {{ wrap 5 "aaa bbb ccc" | quote }} {{ wrapWith 3 "-" "abcdefg" }}
print: {{ print "a" 1 2 "b" "c" nil }} {{ println "x" | quote }} {{ html "<a>" }} {{ js "it's" | quote }} {{ urlquery "a b&c" }}
printf: {{ printf "%s|%d|%5.2f|%v|%q|%x|%05d|%-5s|%t|%%|%c|%U|%e|%T" "s" 42 3.14159 (list 1 "a") "q" 255 7 "ab" true 65 65 12345.678 1.5 }}
bad: {{ printf "%d" "x" | quote }} {{ printf "%s" 1 | quote }} {{ printf "%d %d" 1 | quote }} {{ printf "x" 1 | quote }}
toString: {{ toString 1.0 }} {{ toString true }} {{ list 1 2 | toStrings }} {{ toString nil | quote }}
b64: {{ b64enc $s }} {{ b64dec "SGk=" }} {{ b32enc "hi" }} {{ b32dec "NBUQ====" }}
sha: {{ sha1sum "a" }} {{ sha256sum "a" | trunc 12 }} {{ sha512sum "a" | trunc 12 }} {{ adler32sum "a" }}
regex: {{ regexMatch "^H.*d$" $s }} {{ regexFind "[a-z]+" $s }} {{ regexFindAll "[aeo]" $s -1 }} {{ regexReplaceAll "(l+)" $s "<${1}>" }} {{ regexReplaceAllLiteral "l" $s "$1" }} {{ regexSplit "o" $s -1 }} {{ regexQuoteMeta "a.b" }}
semver: {{ semver "1.2.3-rc.1+b" | toJson }} {{ (semver "v2.3").Major }} {{ semverCompare "^1.2" "1.9.0" }}
path: {{ base "a/b.c" }} {{ dir "a/b/c" }} {{ ext "x.tar.gz" }} {{ clean "a//b/../c" }} {{ isAbs "/a" }}
shuffled: {{ shuffle "abc" | len }}
fuzzy: {{ substr 2 -1 "abcdef" }}
int: {{ atoi "12" }} {{ int "13" }} {{ int64 "14" }} {{ float64 "1.25" }} {{ toDecimal "777" }}
