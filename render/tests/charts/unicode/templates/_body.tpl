name: {{ .Values.name | upper | quote }}
emoji: {{ .Values.emoji }} {{ .Values.emoji | quote }} {{ .Values.emoji | squote }}
json: {{ .Values | toJson }}
yaml: |
  {{- .Values | toYaml | nindent 2 }}
trunc: {{ trunc 2 .Values.name | b64enc }}
len: {{ len .Values.name }}
desc: {{ .Chart.Description }}
rev: {{ splitList "" .Values.name | reverse | join "" }}
printf: {{ printf "%q %x" .Values.name .Values.name }}
