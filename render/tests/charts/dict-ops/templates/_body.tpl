{{- $d := deepCopy .Values.d }}
{{- $_ := set $d "new" "x" }}
{{- $_ := unset $d "list" }}
d: {{ toJson $d }}
original: {{ toJson .Values.d }}
dig: {{ dig "a" "b" "c" 0 $d }} {{ dig "a" "x" "c" "dflt" $d }}
get: {{ get $d "new" }}|{{ get $d "none" }}|
hasKey: {{ hasKey $d "a" }} {{ hasKey $d "n" }} {{ hasKey $d "zz" }}
keys: {{ keys $d | sortAlpha }}
values: {{ dict "a" 1 "b" 2 | values | len }}
pluck: {{ pluck "k" (dict "k" 1) (dict "k" 2) (dict "z" 3) }}
pick: {{ pick $d "new" "zz" | toJson }}
omit: {{ omit $d "a" "n" | toJson }}
merge: {{ merge (dict "a" 1 "m" (dict "x" 1)) (dict "a" 2 "b" 3 "m" (dict "x" 2 "y" 3)) | toJson }}
over: {{ mergeOverwrite (dict "a" 1 "m" (dict "x" 1)) (dict "a" 2 "b" 3 "m" (dict "x" 2 "y" 3)) | toJson }}
must: {{ mustMerge (dict "e" "") (dict "e" "full") | toJson }}
shared: {{ $s := dict "k" "v" }}{{ $t := $s }}{{ $_ := set $t "k" "w" }}{{ $s.k }}
nested: {{ $n := dict "in" (dict) }}{{ $_ := set $n.in "x" 1 }}{{ $n | toJson }}
print: {{ dict "b" 1 "a" (list 1 "two" nil true 1.5) }}
setValues: {{ $_ := set .Values "added" "here" }}{{ .Values.added }}
chain: {{ (dict "a" (dict "b" (list "x" "y"))).a.b | last }}
fromValues: {{ index .Values.d "list" 0 "k" }} {{ (index .Values.d.list 0).k }}
compare: {{ deepEqual (dict "a" 1) (dict "a" 1) }} {{ deepEqual (list 1) (list 2) }}
