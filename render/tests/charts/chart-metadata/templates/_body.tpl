name: {{ .Chart.Name }}
version: {{ .Chart.Version }}
label: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app: {{ .Chart.AppVersion | quote }}
all: {{ .Chart | toJson }}
root: {{ .Chart.IsRoot }}
type: {{ .Chart.Type | quote }}
keywords: {{ .Chart.Keywords | join "," }}
{{- range .Chart.Maintainers }}
m-{{ .Name }}: {{ .Email }}{{ .URL }}
{{- end }}
annotation: {{ index .Chart.Annotations "example.org/text" | quote }} {{ .Chart.Annotations.absent | quote }}
yaml:
  {{- .Chart | toYaml | nindent 2 }}
