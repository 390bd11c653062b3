{{- define "agent.labels" -}}
app.kubernetes.io/name: flotilla-agent
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "agent.selector" -}}
app.kubernetes.io/name: flotilla-agent
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "agent.joinSecret" -}}
{{ .Values.join.existingSecret | default "flotilla-agent-join" }}
{{- end }}

{{- define "agent.subjects" -}}
- kind: ServiceAccount
  name: flotilla-agent
  namespace: {{ .Release.Namespace }}
{{- end }}
