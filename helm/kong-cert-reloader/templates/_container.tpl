{{/*
The sidecar, for Deployments that are not Kong's chart's. All of these take the chart's own context: in a
chart that depends on this one, (index .Subcharts "kong-cert-reloader").
*/}}

{{- define "kong-cert-reloader.image" -}}
{{- with .Values.container.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* One container, as a mapping: for a list of containers, or of initContainers where it is native. */}}
{{- define "kong-cert-reloader.container" -}}
{{- with .Values.container -}}
name: {{ .name }}
image: {{ include "kong-cert-reloader.image" $ }}
imagePullPolicy: {{ .image.pullPolicy }}
args: [run]
{{- if .native }}
# An init container that goes on: Kubernetes starts it before Kong and stops it after.
restartPolicy: Always
{{- end }}
env:
  - name: CERT_RELOADER__INSTANCE
    value: {{ .instance | quote }}
  {{- if $.Values.settings }}
  - name: CERT_RELOADER__CONFIG
    value: /etc/kong-cert-reloader/settings.yaml
  {{- end }}
  {{- with .env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  - name: metrics
    containerPort: 9797
    protocol: TCP
{{- if .native }}
# /livez, for Kong is not there yet: the next container starts when this one has answered.
startupProbe:
  httpGet:
    path: /livez
    port: metrics
  periodSeconds: 1
  timeoutSeconds: 3
  failureThreshold: 30
{{- end }}
{{- with .livenessProbe }}
livenessProbe:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .readinessProbe }}
readinessProbe:
  {{- toYaml . | nindent 2 }}
{{- end }}
resources:
  {{- toYaml .resources | nindent 2 }}
securityContext:
  {{- toYaml .securityContext | nindent 2 }}
{{- if or .certificates .volumeMounts $.Values.settings }}
volumeMounts:
  {{- range .certificates }}
  - name: {{ include "kong-cert-reloader.certificateVolume" . }}
    mountPath: /etc/kong-certs/{{ .name }}
    readOnly: true
  {{- end }}
  {{- if $.Values.settings }}
  - name: kong-cert-reloader-settings
    mountPath: /etc/kong-cert-reloader
    readOnly: true
  {{- end }}
  {{- with .volumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* The volumes of that container, as a list; nothing where there are none. */}}
{{- define "kong-cert-reloader.volumes" -}}
{{- $volumes := list -}}
{{- range .Values.container.certificates -}}
  {{- $secret := dict "secretName" .secretName "optional" (dig "optional" true .) -}}
  {{- with .defaultMode -}}{{- $_ := set $secret "defaultMode" . -}}{{- end -}}
  {{- $volumes = append $volumes (dict "name" (include "kong-cert-reloader.certificateVolume" .) "secret" $secret) -}}
{{- end -}}
{{- if .Values.settings -}}
  {{- $settings := dict "name" (include "kong-cert-reloader.settingsName" .) -}}
  {{- $volumes = append $volumes (dict "name" "kong-cert-reloader-settings" "configMap" $settings) -}}
{{- end -}}
{{- range .Values.container.volumes -}}{{- $volumes = append $volumes . -}}{{- end -}}
{{- with $volumes -}}{{- toYaml . -}}{{- end -}}
{{- end -}}

{{/* A certificate's volume. Names of certificates may have what names of volumes may not. */}}
{{- define "kong-cert-reloader.certificateVolume" -}}
{{- printf "cert-%s" (.name | lower | replace "." "-" | replace "_" "-") | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Settings are read at the start: with this, a change of them restarts the pod. Nothing without settings. */}}
{{- define "kong-cert-reloader.podAnnotations" -}}
{{- with .Values.settings -}}
checksum/kong-cert-reloader-settings: {{ toYaml . | sha256sum }}
{{- end -}}
{{- end -}}
