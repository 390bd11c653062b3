json: '{{ toJson .Values.v }}'
raw: '{{ toRawJson .Values.v }}'
pretty: |
  {{- toPrettyJson .Values.v | nindent 2 }}
yaml: |
  {{- toYaml .Values.v | nindent 2 }}
yamlPretty: |
  {{- toYamlPretty .Values.v | nindent 2 }}
toml: |
  {{- toToml (omit .Values.v "nul") | nindent 2 }}
fromYaml: {{ (fromYaml "a: 1\nb: [x]").b | toJson }} {{ fromYaml "- no map" | toJson | quote }}
fromYamlArray: {{ fromYamlArray "- 1\n- b: 2" | toJson }} {{ fromYamlArray "a: 1" | toJson | quote }}
fromJson: {{ (fromJson "{\"a\":[1,2]}").a | last }}
fromJsonArray: {{ fromJsonArray "[1,\"x\"]" | toJson }}
roundtrip: {{ .Values.v | toJson | fromJson | toYaml | sha256sum | trunc 8 }}
scalars: {{ toYaml "yes" }} {{ toYaml 1.0 }} {{ toYaml nil }} {{ toYaml (list) }} {{ toYaml true }} {{ toYaml "multi\nline" | quote }}
