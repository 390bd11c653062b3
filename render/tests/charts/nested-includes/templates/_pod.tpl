{{- define "pod.env" -}}
{{- range $k, $v := . }}
- name: {{ $k }}
  value: {{ $v | quote }}
{{- end }}
{{- end }}
{{- define "pod.ports" }}
{{- range $i, $p := . }}
- containerPort: {{ $p }}
  name: p{{ $i }}
{{- end }}
{{- end }}
{{- define "pod.container" -}}
name: {{ .c.name }}-{{ .root.Release.Name }}
{{- with .c.env }}
env:
  {{- include "pod.env" . | trim | nindent 2 }}
{{- end }}
{{- if .c.ports }}
ports: {{- include "pod.ports" .c.ports | indent 2 }}
{{- end }}
{{- end -}}
{{- define "pod" -}}
spec:
  containers:
  {{- range .Values.pod.containers }}
    - {{- include "pod.container" (dict "c" . "root" $) | nindent 6 }}
  {{- end }}
{{- end -}}
{{- define "countdown" -}}
{{- if gt (int .) 0 }}{{ . }} {{ include "countdown" (sub . 1) }}{{ else }}done{{ end -}}
{{- end -}}
