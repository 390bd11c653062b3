{{- $t := toDate "2006-01-02T15:04:05Z" .Values.at }}
date: {{ date "2006-01-02" $t }} {{ dateInZone "Mon Jan _2 15:04:05 MST 2006" $t "UTC" }}
html: {{ htmlDateInZone $t "UTC" }}
modify: {{ dateInZone "2006-01-02 15:04" (dateModify "+26h30m" $t) "UTC" | quote }}
unix: {{ unixEpoch $t }}
duration: {{ duration 3725 }} {{ durationRound "2h10m5s" }} {{ duration "95" }}
parts: {{ $t.Year }} {{ $t.Month }} {{ $t.Day }}
{{- $t := toDate "2006-01-02" "2020-01-02" }}{{ $now := now }}{{ $c := .Capabilities }}{{ $v := semver "1.2.3" }}
same: {{ eq $t $t }} {{ ne $t ($t | dateModify "5m") }} {{ eq $t (toDate "2006-01-02" "2020-01-02") }} {{ ne $now ($now | dateModify "5m") }} {{ eq $now ($now | dateModify "0s") }} {{ eq $c .Capabilities }} {{ eq $c.KubeVersion .Capabilities.KubeVersion }} {{ eq $c.HelmVersion .Capabilities.HelmVersion }} {{ eq $v $v }} {{ eq $v (semver "1.2.3") }} {{ eq $t $c.KubeVersion }}
