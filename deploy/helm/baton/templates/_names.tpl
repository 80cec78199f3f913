{{/* What the chart's objects are called and labelled. */}}

{{- define "baton.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* 40 characters leave room for the longest of our suffixes. */}}
{{- define "baton.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "baton.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "baton.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "baton.operatorName" -}}
{{ include "baton.fullname" . }}-operator
{{- end }}

{{/* Permissions on the whole cluster carry the namespace too: two releases may share a name. */}}
{{- define "baton.clusterName" -}}
{{ .Release.Namespace }}-{{ include "baton.operatorName" . }}
{{- end }}

{{- define "baton.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "baton.operatorName" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* Labels that only the pods of one component of this release have. Call with (list . COMPONENT). */}}
{{- define "baton.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "baton.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Labels of every object. Call with (list . COMPONENT). */}}
{{- define "baton.labels" -}}
{{- $root := index . 0 -}}
{{ include "baton.selector" . }}
app.kubernetes.io/part-of: baton
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* The whole metadata of an object. Call with a map of root, component, name, and where there are
     any: namespace ("" for what has none), labels, annotations. */}}
{{- define "baton.metadata" -}}
{{- $labels := include "baton.labels" (list .root .component) | fromYaml -}}
{{- $own := dict "name" .name -}}
{{- with hasKey . "namespace" | ternary .namespace .root.Release.Namespace }}
{{- $_ := set $own "namespace" . }}
{{- end }}
{{- $_ := set $own "labels" (merge $labels (default dict .labels) .root.Values.commonLabels) }}
{{- with merge (dict) (default dict .annotations) .root.Values.commonAnnotations }}
{{- $_ := set $own "annotations" . }}
{{- end }}
{{- toYaml $own }}
{{- end }}

{{/* The reference of an image. Call with (list . IMAGE). */}}
{{- define "baton.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- $registry := default $root.Values.global.imageRegistry $image.registry | trimSuffix "/" -}}
{{- $name := empty $registry | ternary $image.repository (printf "%s/%s" $registry $image.repository) -}}
{{- if $image.digest }}
{{- printf "%s@%s" $name $image.digest }}
{{- else }}
{{- printf "%s:%s" $name (default $root.Chart.AppVersion $image.tag) }}
{{- end }}
{{- end }}

{{/* Refuses what needs an API that the cluster lacks. Call with (list . API VALUE WHAT). */}}
{{- define "baton.requireApi" -}}
{{- $root := index . 0 -}}
{{- if not ($root.Capabilities.APIVersions.Has (index . 1)) }}
{{- fail (printf "%s is true, but this cluster has no %s: install %s first, or set %s to false" (index . 2) (index . 1) (index . 3) (index . 2)) }}
{{- end }}
{{- end }}

{{/* The Service of the model that clients are led to. Call with (list . VALUE). */}}
{{- define "baton.modelServiceName" -}}
{{- $root := index . 0 -}}
{{- if not $root.Values.modelService.name }}
{{- fail (printf "%s needs a model to lead to: set modelService.name" (index . 1)) }}
{{- end }}
{{- $root.Values.modelService.name }}
{{- end }}
