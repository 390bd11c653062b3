{{- define "backup.targets" -}}
{{- $on := dict -}}
{{- range $name, $target := .Values.targets -}}
{{- if $target.enabled }}{{ $_ := set $on $name (omit $target "enabled") }}{{ end -}}
{{- end -}}
{{- $on | toJson -}}
{{- end -}}
