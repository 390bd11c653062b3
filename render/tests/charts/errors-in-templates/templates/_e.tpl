{{- define "err.fail" }}{{ fail (printf "mode is %s" .Values.mode) }}{{ end }}
{{- define "err.loop" }}{{ include "err.loop" . }}{{ end }}
