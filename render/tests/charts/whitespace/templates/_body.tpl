one: [{{- range $i, $e := list 1 2 3 -}} {{ if $i }}, {{ end -}} {{ $e }} {{- end -}}]
two: |
  {{ "a" -}}   
  b
    {{- "c" }}
  {{/* comment */}}
  {{- /* trimmed */ -}}
  d
three: {{ " x " -}} {{- " y " }}
{{ if true -}}
four: 4
{{- else -}}
four: 5
{{- end }}
{{- with $x := "w" }}
five: {{ $x }}
{{- end }}
six: "{{`{{ raw }}`}} {{"\t\"tab\""}} {{ 'a' }}"
{{ define "inline" }}[{{ . }}]{{ end -}}
seven: {{ template "inline" 7 }}{{ block "blk" 8 }}<{{ . }}>{{ end }}
