{{- $t := toDate "2006-01-02T15:04:05Z" .Values.at }}
date: {{ date "2006-01-02" $t }} {{ dateInZone "Mon Jan _2 15:04:05 MST 2006" $t "UTC" }}
html: {{ htmlDateInZone $t "UTC" }}
modify: {{ dateInZone "2006-01-02 15:04" (dateModify "+26h30m" $t) "UTC" | quote }}
unix: {{ unixEpoch $t }}
duration: {{ duration 3725 }} {{ durationRound "2h10m5s" }} {{ duration "95" }}
parts: {{ $t.Year }} {{ $t.Month }} {{ $t.Day }}
