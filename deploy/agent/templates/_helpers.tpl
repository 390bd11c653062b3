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

{{- define "agent.image" -}}
"{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
{{- end }}

{{- define "agent.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- /* A volume takes more state than Secrets do, and what is kept is in memory too. */}}
{{- define "agent.resources" -}}
{{- $memory := ternary "512Mi" "128Mi" .Values.state.volume.enabled }}
{{- $limits := mergeOverwrite (dict "memory" $memory) (.Values.resources.limits | default dict) }}
{{- mergeOverwrite (deepCopy .Values.resources) (dict "limits" $limits) | toYaml }}
{{- end }}
