{{- define "labels" -}}
{{- $own := dict "release" .root.Release.Name "managed" "yes" -}}
{{- $all := mergeOverwrite (dict) (default (dict) .root.Values.commonLabels) (default (dict) .extra) $own -}}
{{- range $key, $value := $all }}
{{ $key }}: {{ $value | quote }}
{{- end -}}
{{- end -}}
