{{/*
The groups of files/alerts.yaml as the values want them. The file has templates of Prometheus in it
({{`{{ $labels.binding }}`}}), so it is parsed, and never rendered.
*/}}
{{- define "kong-cert-reloader.ruleGroups" -}}
{{- $file := .Files.Get "files/alerts.yaml" | fromYaml -}}
{{- with $file.Error }}{{ fail (printf "files/alerts.yaml: %s" .) }}{{ end -}}
{{- $want := .Values.prometheusRule -}}
{{- $names := list -}}
{{- $groups := list -}}
{{- range $group := $file.groups -}}
  {{- $rules := list -}}
  {{- range $rule := $group.rules -}}
    {{- with $rule.alert -}}{{- $names = append $names . -}}{{- end -}}
    {{- if not (and $rule.alert (has $rule.alert $want.disabled)) -}}
      {{- with $want.ruleLabels -}}
        {{- $_ := set $rule "labels" (mergeOverwrite (dict) ($rule.labels | default dict) .) -}}
      {{- end -}}
      {{- if and $want.runbookUrl (dig "annotations" "runbook_url" "" $rule) -}}
        {{- $link := regexReplaceAllLiteral "^[^#]*" $rule.annotations.runbook_url $want.runbookUrl -}}
        {{- $_ := set $rule.annotations "runbook_url" $link -}}
      {{- end -}}
      {{- $rules = append $rules $rule -}}
    {{- end -}}
  {{- end -}}
  {{- if $rules -}}
    {{- $_ := set $group "rules" $rules -}}
    {{- $groups = append $groups $group -}}
  {{- end -}}
{{- end -}}
{{- range $want.disabled -}}
  {{- if not (has . $names) -}}
    {{- fail (printf "prometheusRule.disabled: there is no alert %s; there are %s" . (join ", " (sortAlpha $names))) -}}
  {{- end -}}
{{- end -}}
{{- toYaml $groups -}}
{{- end -}}
