{{/* What the schema cannot say. Each message names the values to change. */}}
{{- define "crewbeat.checks" -}}
{{- range $component := include "crewbeat.components" . | fromJsonArray -}}
{{- $s := (index $.Values $component).shutdown -}}
{{- $sum := add $s.drainSeconds $s.timeoutSeconds $s.closeSeconds -}}
{{- if le (int $s.graceSeconds) (int $sum) -}}
{{- fail (printf "%s.shutdown: graceSeconds is %d, but drainSeconds + timeoutSeconds + closeSeconds is %d: Kubernetes would kill the pod before it has finished; set graceSeconds above the sum" $component (int $s.graceSeconds) (int $sum)) -}}
{{- end -}}
{{- $a := (index $.Values $component).autoscaling -}}
{{- if and (eq $.Values.autoscaling.mode "hpa") $a -}}
{{- if gt (int $a.minReplicas) (int $a.maxReplicas) -}}
{{- fail (printf "%s.autoscaling: minReplicas is %d, above maxReplicas %d" $component (int $a.minReplicas) (int $a.maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A quantity such as 256Mi or 1Gi, in MiB. */}}
{{- define "crewbeat.mebibytes" -}}
{{- $q := . | toString -}}
{{- if hasSuffix "Gi" $q -}}
{{- mulf (trimSuffix "Gi" $q | float64) 1024 | int64 -}}
{{- else -}}
{{- trimSuffix "Mi" $q | int64 -}}
{{- end -}}
{{- end -}}
