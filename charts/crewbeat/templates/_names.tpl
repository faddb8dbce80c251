{{/* The chart's name, and the release's full name, within 63 characters less the longest suffix. */}}
{{- define "crewbeat.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 48 | trimSuffix "-" -}}
{{- end -}}

{{- define "crewbeat.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 48 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "crewbeat.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 48 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 48 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A list, as JSON, of what runs: api and realtime, or all in one. */}}
{{- define "crewbeat.components" -}}
{{- if eq .Values.database.driver "sqlite" -}}["all"]{{- else -}}["api", "realtime"]{{- end -}}
{{- end -}}

{{/* Takes (list ROOT COMPONENT). The all-in-one carries the release's own name. */}}
{{- define "crewbeat.component" -}}
{{- $root := first . -}}{{- $component := last . -}}
{{- include "crewbeat.fullname" $root -}}{{- if ne $component "all" }}-{{ $component }}{{ end -}}
{{- end -}}

{{/* Where a path is routed to: the names of the two services, which are one with sqlite. */}}
{{- define "crewbeat.apiService" -}}
{{- include "crewbeat.component" (list . (eq .Values.database.driver "sqlite" | ternary "all" "api")) -}}
{{- end -}}
{{- define "crewbeat.realtimeService" -}}
{{- include "crewbeat.component" (list . (eq .Values.database.driver "sqlite" | ternary "all" "realtime")) -}}
{{- end -}}

{{- define "crewbeat.selector" -}}
app.kubernetes.io/name: {{ include "crewbeat.name" (first .) }}
app.kubernetes.io/instance: {{ (first .).Release.Name }}
app.kubernetes.io/component: {{ last . }}
{{- end -}}

{{- define "crewbeat.labels" -}}
{{- $root := first . -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{ include "crewbeat.selector" . }}
app.kubernetes.io/version: {{ default $root.Chart.AppVersion $root.Values.image.tag | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/part-of: crewbeat
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "crewbeat.serviceAccount" -}}
{{- $root := first . -}}
{{- if $root.Values.serviceAccount.name -}}
{{- $root.Values.serviceAccount.name -}}
{{- else if $root.Values.serviceAccount.create -}}
{{- include "crewbeat.component" . -}}
{{- else -}}
default
{{- end -}}
{{- end -}}

{{- define "crewbeat.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "crewbeat.publicURL" -}}
{{- if .Values.publicURL -}}
{{- .Values.publicURL | trimSuffix "/" -}}
{{- else if .Values.ingress.enabled -}}
{{ .Values.ingress.tls.enabled | ternary "https" "http" }}://{{ .Values.ingress.host }}
{{- else if and .Values.httpRoute.enabled .Values.httpRoute.hostnames -}}
https://{{ first .Values.httpRoute.hostnames }}
{{- else -}}
http://localhost:8080
{{- end -}}
{{- end -}}

{{/* Labels of pods: without the chart's version, so that a new chart alone restarts nothing. */}}
{{- define "crewbeat.podLabels" -}}
{{ include "crewbeat.selector" . }}
app.kubernetes.io/part-of: crewbeat
{{- with (first .).Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "crewbeat.environment" -}}
{{ include "crewbeat.publicURL" . | hasPrefix "https://" | ternary "production" "development" }}
{{- end -}}
