{{- define "toolkit.base" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}
  labels: {from: toolkit}
spec:
  replicas: 1
  strategy: {type: Recreate}
{{- end -}}
{{- define "toolkit.merged" -}}
{{- $top := first . -}}
{{- $over := fromYaml (include (index . 1) $top) | default (dict) -}}
{{- $base := fromYaml (include "toolkit.base" $top) | default (dict) -}}
{{- toYaml (merge $over $base) -}}
{{- end -}}
{{- define "toolkit.config" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}-config
data:
  payload: |-
    {{ .payload }}
{{- end -}}
