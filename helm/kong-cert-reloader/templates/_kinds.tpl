{{/*
Whether to make an object whose kind is a cluster's own affair: "true" or nothing. Given as a list:
context, kind (monitoring.coreos.com/v1/PodMonitor), what is set (auto, true, false), name of that value.

Who asks for it by name gets it or an error. To go on without would install a gateway that nobody
watches, and say so in notes that nobody reads.
*/}}
{{- define "kong-cert-reloader.wants" -}}
{{- $context := index . 0 -}}
{{- $kind := index . 1 -}}
{{- $set := index . 2 | toString -}}
{{- $value := index . 3 -}}
{{- $known := $context.Capabilities.APIVersions.Has $kind -}}
{{- if and (eq $set "true") (not $known) -}}
{{- fail (printf "%s asks for a %s, which this cluster does not know: install its CRD, or take that value out; where no cluster is asked (helm template, GitOps), add --api-versions %s" $value (base $kind) $kind) -}}
{{- end -}}
{{- if and $known (ne $set "false") -}}true{{- end -}}
{{- end -}}

{{- define "kong-cert-reloader.wantsPodMonitor" -}}
{{- include "kong-cert-reloader.wants" (list . "monitoring.coreos.com/v1/PodMonitor" .Values.podMonitor.enabled "podMonitor.enabled: true") -}}
{{- end -}}

{{- define "kong-cert-reloader.wantsPrometheusRule" -}}
{{- include "kong-cert-reloader.wants" (list . "monitoring.coreos.com/v1/PrometheusRule" .Values.prometheusRule.enabled "prometheusRule.enabled: true") -}}
{{- end -}}

{{- define "kong-cert-reloader.wantsCertificates" -}}
{{- if .Values.certificates -}}
{{- include "kong-cert-reloader.wants" (list . "cert-manager.io/v1/Certificate" true "certificates") -}}
{{- end -}}
{{- end -}}
