{{- define "db.secretName" -}}
{{- if .Values.auth.existingSecret -}}{{ .Values.auth.existingSecret }}{{- else -}}{{ .Release.Name }}-db{{- end -}}
{{- end -}}
{{- define "db.storageClass" -}}
{{- with .Values.persistence.storageClass }}
{{- if eq "-" . }}
storageClassName: ""
{{- else }}
storageClassName: {{ . | quote }}
{{- end }}
{{- end }}
{{- end -}}
{{- define "db.password" -}}
{{- $found := (lookup "v1" "Secret" .Release.Namespace (include "db.secretName" .)) -}}
{{- if $found -}}{{ index $found.data "password" }}{{- else -}}{{ .Values.auth.password | default "changeme" | b64enc }}{{- end -}}
{{- end -}}
