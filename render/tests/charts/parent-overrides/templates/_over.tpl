{{- define "sub.label" -}}from-parent{{- end -}}
{{- define "dup" -}}parent{{- end -}}
