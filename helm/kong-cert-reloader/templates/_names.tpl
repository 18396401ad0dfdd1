{{/* The chart's name, or what stands for it. */}}
{{- define "kong-cert-reloader.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* What all objects are called: the release's name with ours, once. */}}
{{- define "kong-cert-reloader.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "kong-cert-reloader.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Labels of every object. Where a label is there twice, ours wins: tools find objects by it. */}}
{{- define "kong-cert-reloader.labels" -}}
{{- $own := dict
  "app.kubernetes.io/name" (include "kong-cert-reloader.name" .)
  "app.kubernetes.io/instance" .Release.Name
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/managed-by" .Release.Service
  "app.kubernetes.io/part-of" "kong-cert-reloader"
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
-}}
{{- merge $own .Values.commonLabels | toYaml -}}
{{- end -}}

{{/* The same with more labels, which the caller gives as a list: context, labels. */}}
{{- define "kong-cert-reloader.labelsWith" -}}
{{- $own := include "kong-cert-reloader.labels" (index . 0) | fromYaml -}}
{{- merge $own (index . 1 | default dict) | toYaml -}}
{{- end -}}

{{/* Where Kong is. */}}
{{- define "kong-cert-reloader.kongNamespace" -}}
{{- default .Release.Namespace .Values.kong.namespace -}}
{{- end -}}

{{/* The ConfigMap of settings. */}}
{{- define "kong-cert-reloader.settingsName" -}}
{{- printf "%s-settings" (include "kong-cert-reloader.fullname" . | trunc 54 | trimSuffix "-") -}}
{{- end -}}
