{{/* What the operator may do where it serves ModelServices. No wildcards; Secrets by name only. */}}
{{- define "baton.serviceRules" -}}
- {apiGroups: [serving.baton.dev], resources: [modelservices], verbs: [get, list, watch]}
- {apiGroups: [serving.baton.dev], resources: [modelservices/status], verbs: [patch]}
# Children block the deletion of their owner.
- {apiGroups: [serving.baton.dev], resources: [modelservices/finalizers], verbs: [update]}
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services, serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [get, list, watch, create, patch, delete]
# What routers may do, the operator must be allowed to, or it could not grant it.
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, watch]}
# Before a role shrinks, the pods that are to go are marked.
- {apiGroups: [""], resources: [pods], verbs: [get, list, watch, patch]}
# Certificates of its ModelServices, and whether the keys of their clients are there; it never lists
# what others keep in Secrets.
- {apiGroups: [""], resources: [secrets], verbs: [get, create, patch, delete]}
- {apiGroups: [events.k8s.io], resources: [events], verbs: [create, patch]}
{{- end }}
