{{/* What the chart's pods have in common: they are restricted, and pull images alike. */}}

{{- define "baton.pullSecrets" -}}
{{- with .Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The pod of a hook: Python, one script of hooks/, nothing else. Call with a map of root, name,
     script, config, args, token (whether it may talk to the API server), and env if it has more. */}}
{{- define "baton.hookPod" -}}
restartPolicy: Never
automountServiceAccountToken: {{ .token }}
{{- if .token }}
serviceAccountName: {{ .name }}
{{- end }}
enableServiceLinks: false
{{- include "baton.pullSecrets" .root }}
securityContext:
  {{- toYaml .root.Values.operator.podSecurityContext | nindent 2 }}
{{- with .root.Values.operator.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.operator.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: hook
    image: {{ include "baton.image" (list .root .root.Values.images.operator) }}
    imagePullPolicy: {{ .root.Values.images.pullPolicy }}
    command: [python, /hooks/{{ .script }}]
    args:
      {{- toYaml .args | nindent 6 }}
    env:
      - {name: HOME, value: /tmp}
      - {name: PYTHONDONTWRITEBYTECODE, value: "1"}
      {{- with .env }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    resources:
      requests: {cpu: 50m, memory: 64Mi}
      limits: {memory: 128Mi}
    securityContext:
      {{- toYaml .root.Values.operator.containerSecurityContext | nindent 6 }}
    terminationMessagePolicy: FallbackToLogsOnError
    volumeMounts:
      - {name: hooks, mountPath: /hooks, readOnly: true}
      - {name: tmp, mountPath: /tmp}
volumes:
  - name: hooks
    configMap: {name: {{ .config }}}
  - name: tmp
    emptyDir: {sizeLimit: 16Mi}
{{- end }}
