{{- range $k, $v := .Values }}
{{ $k }}: [{{ kindOf $v }}, {{ typeOf $v | quote }}, "{{ $v }}", {{ $v | quote }}, {{ toJson $v }}, "{{ toString $v }}", "{{ printf "%v" $v }}"]
{{- end }}
is: {{ kindIs "float64" .Values.fileInt }} {{ typeIs "float64" .Values.fileInt }} {{ kindIs "map" .Values }} {{ kindIs "slice" .Values.list }} {{ kindIs "invalid" .Values.absent }} {{ kindIs "string" .Values.port }}
conv: {{ int .Values.million }} {{ int64 .Values.hundredMillion }} {{ .Values.bigInt | int64 }} {{ .Values.port | int | add 1 }} {{ .Values.fileFloat | int }} {{ .Values.million | toString }}
d: {{ printf "%d" (int .Values.million) }} {{ printf "%d" .Values.million | quote }} {{ printf "%.0f" .Values.million }} {{ printf "%g" .Values.hundredMillion }}
eq: {{ eq .Values.fileInt 5.0 }} {{ eq (int .Values.fileInt) 5 }} {{ gt .Values.fileFloat 5.0 }}
