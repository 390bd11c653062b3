{{- $l := .Values.l }}
append: {{ append $l 9 }} {{ $l }}
prepend: {{ prepend $l 0 | toJson }}
concat: {{ concat $l .Values.s (list "z") | toJson }}
first: {{ first $l }} {{ last $l }} {{ rest $l }} {{ initial $l }}
uniq: {{ uniq $l }}
without: {{ without $l 2.0 | toJson }}
has: {{ has "a" .Values.s }} {{ has 3.0 $l }} {{ has 3 $l }}
slice: {{ slice .Values.s 1 }} {{ slice .Values.s 0 2 }}
reverse: {{ reverse .Values.s }}
compact: {{ compact (list "" 1 nil "a" 0) }}
sort: {{ sortAlpha .Values.s }} {{ sortAlpha $l }}
join: {{ join "-" .Values.s }} {{ join "," $l }}
until: {{ until 4 }} {{ untilStep 2 10 3 }} {{ seq 3 }} {{ seq 5 -2 1 }}
chunk: {{ chunk 2 .Values.s | toJson }}
len: {{ len $l }} {{ len "héé" }} {{ len .Values }}
index: {{ index $l 1 }} {{ index .Values "s" 2 }}
tuple: {{ tuple 1 "a" | toJson }}
split: {{ (split "." "a.b.c")._1 }} {{ splitList "," "x,y" | toJson }} {{ (splitn "." 2 "a.b.c")._1 }}
range: {{ range $i, $v := .Values.s }}{{ $i }}={{ $v }};{{ else }}none{{ end }}{{ range list }}x{{ else }}none{{ end }}
rangeInt: {{ range 3 }}{{ . }},{{ end }} {{ range $i := 2 }}{{ $i }}{{ end }}
brk: {{ range .Values.s }}{{ if eq . "a" }}{{ continue }}{{ end }}{{ if eq . "c" }}{{ break }}{{ end }}{{ . }}{{ end }}
