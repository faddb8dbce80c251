{{/* The restricted Pod Security Standard, for a pod of Crewbeat's image. */}}
{{- define "crewbeat.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "crewbeat.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* A variable from a secret; (list ROOT NAME EXISTING), EXISTING with a name if the secret was made elsewhere. */}}
{{- define "crewbeat.secretVar" -}}
{{- $existing := last . -}}
- name: {{ index . 1 }}
  valueFrom:
    secretKeyRef:
      {{- if $existing.name }}
      name: {{ $existing.name }}
      key: {{ $existing.key }}
      {{- else }}
      name: {{ include "crewbeat.fullname" (first .) }}-secret
      key: {{ index . 1 }}
      {{- end }}
{{- end -}}

{{/* What every container of Crewbeat's image gets. */}}
{{- define "crewbeat.env" -}}
{{ include "crewbeat.secretVar" (list . "SESSION_SECRET" .Values.session.existingSecret) }}
{{- if eq .Values.database.driver "postgres" }}
{{ include "crewbeat.secretVar" (list . "DATABASE_URL" .Values.database.existingSecret) }}
{{ include "crewbeat.secretVar" (list . "REDIS_URL" .Values.redis.existingSecret) }}
{{- end }}
{{- end -}}

{{/* Where traces go; (list ROOT COMPONENT). Nothing without an endpoint. */}}
{{- define "crewbeat.otelEnv" -}}
{{- $otel := (first .).Values.otel -}}
{{- if $otel.endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ $otel.endpoint | quote }}
- name: OTEL_EXPORTER_OTLP_PROTOCOL
  value: {{ $otel.protocol | quote }}
- name: OTEL_TRACES_SAMPLER
  value: {{ $otel.sampler | quote }}
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ $otel.samplerArg | quote }}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: k8s.namespace.name={{ (first .).Release.Namespace }},k8s.pod.name=$(POD_NAME)
{{- end }}
{{- end -}}

{{/* Containers that prepare the database before a pod starts. */}}
{{- define "crewbeat.initContainers" -}}
{{- $root := first . -}}{{- $values := $root.Values -}}
{{- if and (eq $values.database.driver "postgres") (eq $values.migrations.mode "init") }}
{{- if $values.postgresql.enabled }}
- name: wait-for-postgresql
  image: {{ $values.postgresql.image | quote }}
  command: [sh, -c, 'until pg_isready -q -t 2; do echo "PostgreSQL does not answer yet"; sleep 1; done']
  env:
    - {name: PGHOST, value: {{ include "crewbeat.fullname" $root }}-postgresql}
    - {name: PGUSER, value: crewbeat}
  resources:
    requests: {cpu: 10m, memory: 32Mi}
    limits: {memory: 32Mi}
  securityContext:
    {{- include "crewbeat.containerSecurity" $root | nindent 4 }}
{{- end }}
- name: migrate
  image: {{ include "crewbeat.image" $root | quote }}
  imagePullPolicy: {{ $values.image.pullPolicy }}
  args: [migrate]
  envFrom:
    - configMapRef: {name: {{ include "crewbeat.fullname" $root }}-config}
  env:
    {{- include "crewbeat.env" $root | nindent 4 }}
  resources:
    requests: {cpu: 50m, memory: 128Mi}
    limits: {memory: 128Mi}
  securityContext:
    {{- include "crewbeat.containerSecurity" $root | nindent 4 }}
{{- end }}
{{- end -}}
