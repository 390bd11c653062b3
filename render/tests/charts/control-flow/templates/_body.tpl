if: {{ if .Values.flag }}yes{{ else if .Values.zero }}zero{{ else if .Values.list }}list{{ else }}none{{ end }}
with: {{ with .Values.name }}{{ . }}{{ else with .Values.map }}{{ .a }}{{ else }}no{{ end }}
and: {{ and .Values.flag (.Values.missing).deeper | quote }}
or: {{ or .Values.emptyString .Values.zero "last" }}
range: {{ range $k, $v := .Values.map }}{{ $k }}{{ $v }}{{ end }}
scope: {{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ $x := 3 }}{{ $x }}{{ end }}{{ $x }}
dollar: {{ range .Values.list }}{{ $.Release.Name }}{{ . }}{{ end }}
nothing: "{{ .Values.absent }}|{{ .Values.map.absent }}"
coalesce: {{ coalesce .Values.absent "" 0 "found" "other" }}
ternary: {{ .Values.flag | ternary "t" "f" }} {{ ternary 1 2 true }}
default: {{ default "d" .Values.zero }} {{ .Values.emptyString | default "e" }} {{ default "x" false }}
empty: {{ empty .Values.zero }} {{ empty "a" }} {{ empty (dict) }} {{ empty nil }}
all: {{ all 1 "a" true }} {{ any 0 "" nil }} {{ all }} {{ any }}
paren: {{ (eq (len .Values.list) 2) | ternary "two" "not two" }}
pipeline: {{ .Values.list | join "," | upper | printf "%s-%s" "pre" }}
assignInRange: {{ $out := list }}{{ range .Values.list }}{{ $out = append $out (printf "%s!" .) }}{{ end }}{{ $out | join " " }}
nestedDefine: {{ template "t1" . }}
{{- define "t1" }}{{ template "t2" dict "v" .Values.flag }}{{ end }}
{{- define "t2" }}<{{ .v }}>{{ end }}
call: {{ with $y := dict "f" "v" }}{{ $y.f }}{{ end }}
