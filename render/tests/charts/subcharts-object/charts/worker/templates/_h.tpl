{{- define "worker.name" -}}{{ .Chart.Name }}-{{ .Values.threads }}{{- end -}}
