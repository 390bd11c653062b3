{{- define "presets" -}}
{{- $presets := dict
  "small" (dict "requests" (dict "cpu" "100m" "memory" "128Mi") "limits" (dict "cpu" "150m" "memory" "192Mi"))
  "large" (dict "requests" (dict "cpu" 1 "memory" "2Gi") "limits" (dict "cpu" 1.5 "memory" "3Gi"))
-}}
{{- if hasKey $presets .type -}}
{{- index $presets .type | toYaml -}}
{{- else -}}
{{- printf "preset %q is not one of %s" .type (join ", " (keys $presets | sortAlpha)) | fail -}}
{{- end -}}
{{- end -}}
