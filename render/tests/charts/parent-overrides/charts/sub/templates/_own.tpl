{{- define "sub.label" -}}from-sub{{- end -}}
{{- define "dup" -}}sub{{- end -}}
text of the partial
