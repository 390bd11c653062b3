{{- define "operator.args" -}}
- --log-level={{ .Values.logLevel }}
{{- with .Values.watchNamespaces }}
- --namespaces={{ . | join "," }}
{{- end }}
{{- range $flag, $value := .Values.extraArgs }}
{{- if kindIs "bool" $value }}
{{- if $value }}
- --{{ $flag }}
{{- end }}
{{- else }}
- --{{ $flag }}={{ $value }}
{{- end }}
{{- end }}
{{- end -}}
