add: {{ add 1 2 3 }} {{ add1 .Values.n }} {{ sub 5 2 }} {{ mul 2 3 4 }} {{ div 7 2 }} {{ mod 7 3 }}
value: {{ .Values.n }} {{ int .Values.n }} {{ float64 .Values.n }} {{ add .Values.n 1 }} {{ mul .Values.n .Values.f }}
float: {{ addf 1.5 2 }} {{ subf 3 1.25 }} {{ mulf 1.5 2 }} {{ divf 10 4 }} {{ add1f 1.5 }}
round: {{ round 123.5555 3 }} {{ floor 1.9 }} {{ ceil 1.1 }} {{ round .Values.f 0 }}
max: {{ max 1 5 3 }} {{ min 4 2 8 }} {{ maxf 1.5 2 }} {{ minf 1.5 0.5 }}
cmp: {{ gt 2 1 }} {{ lt 1.5 2.5 }} {{ ge 2 2 }} {{ le 3 2 }} {{ eq 1 1 2 }} {{ ne "a" "b" }} {{ eq "a" "b" "a" }}
bits: {{ printf "%o %b %X" 8 5 255 }}
big: {{ mul 1000000 1000000 }} {{ 1000000.0 }} {{ 1e21 }} {{ 0.000001 }} {{ 12345678.9 }} {{ 0x1F }} {{ 1_000 }} {{ 0b11 }} {{ 0o17 }}
type: {{ kindOf .Values.n }} {{ typeOf (int .Values.n) }} {{ typeOf (add 1 2) }} {{ kindOf 1 }} {{ typeOf 1.5 }}
bool: {{ and 1 0 }} {{ or 0 "x" }} {{ not 0 }}
texts: {{ range list "1_000.5" "1_23.50_0_0e+1_2" "1__0" "0x1p-2" "0x_1.8p1" "1e400" "-1e400" "inf" "-Infinity" "nan" "-nan" "1_" ".5" "5." "1f" "0b1" " 1" }}{{ float64 . }} {{ end }}
wholes: {{ range list "1_000" "0_7" "0x_f" "0b1_0" "08" "0x" "1__0" "_1" "-0x10" "+5" "--1" "9223372036854775808" "7.000" }}{{ int64 . }} {{ end }}
