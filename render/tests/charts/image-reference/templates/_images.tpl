{{- define "images.image" -}}
{{- $registry := default .image.registry ((.global).imageRegistry) -}}
{{- $separator := ternary "@" ":" (not (empty .image.digest)) -}}
{{- $termination := .image.digest | default (.image.tag | toString | default (.chart.AppVersion | toString)) -}}
{{- if $registry }}{{ printf "%s/%s%s%s" $registry .image.repository $separator $termination }}{{ else }}{{ printf "%s%s%s" .image.repository $separator $termination }}{{ end -}}
{{- end -}}
{{- define "images.pullSecrets" -}}
{{- $secrets := list -}}
{{- range concat (.Values.global.pullSecrets | default list) .Values.image.pullSecrets -}}
{{- if kindIs "map" . -}}{{- $secrets = append $secrets .name -}}{{- else -}}{{- $secrets = append $secrets . -}}{{- end -}}
{{- end -}}
{{- if $secrets }}
imagePullSecrets:
{{- range $secrets | uniq }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end -}}
