{{- /*
The kinds of each profile. `core/src/rights.rs` names them in advice about refusals; a test compares the two.
None is a wildcard, and none is a subresource: `pods/exec`, `pods/attach`, `pods/portforward` and every `proxy` would
let the agent run code where it may only read.
*/}}

{{- define "agent.tenantKinds" -}}
- apiGroups: [""]
  resources: [configmaps, persistentvolumeclaims, pods, secrets, serviceaccounts, services]
{{ include "agent.workloadKinds" . }}
{{- end }}

{{- /* As those of a tenant, without Secrets: these are bound in the namespaces that are listed. */}}
{{- define "agent.platformKinds" -}}
- apiGroups: [""]
  resources:
    - configmaps
    - limitranges
    - namespaces
    - persistentvolumeclaims
    - persistentvolumes
    - pods
    - resourcequotas
    - serviceaccounts
    - services
{{ include "agent.workloadKinds" . }}
- apiGroups: [admissionregistration.k8s.io]
  resources:
    - mutatingwebhookconfigurations
    - validatingadmissionpolicies
    - validatingadmissionpolicybindings
    - validatingwebhookconfigurations
- apiGroups: [apiextensions.k8s.io]
  resources: [customresourcedefinitions]
- apiGroups: [apiregistration.k8s.io]
  resources: [apiservices]
- apiGroups: [networking.k8s.io]
  resources: [ingressclasses]
- apiGroups: [node.k8s.io]
  resources: [runtimeclasses]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [clusterrolebindings, clusterroles, rolebindings, roles]
- apiGroups: [scheduling.k8s.io]
  resources: [priorityclasses]
- apiGroups: [storage.k8s.io]
  resources: [csidrivers, storageclasses]
{{- end }}

{{- define "agent.workloadKinds" -}}
- apiGroups: [apps]
  resources: [daemonsets, deployments, statefulsets]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
- apiGroups: [batch]
  resources: [cronjobs, jobs]
- apiGroups: [networking.k8s.io]
  resources: [ingresses, networkpolicies]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
{{- end }}

{{- /* Whether Flux still reconciles an object that bears its labels: two managers never fight. */}}
{{- define "agent.fluxKinds" -}}
- apiGroups: [helm.toolkit.fluxcd.io]
  resources: [helmreleases]
  verbs: [get]
- apiGroups: [kustomize.toolkit.fluxcd.io]
  resources: [kustomizations]
  verbs: [get]
{{- end }}

{{- /*
Rules for kinds. Without verbs of its own, a kind is read, watched, applied and deleted: `prune: true` is what Flux's apps
say. Deleted one by one, each the very object that was read: nothing asks for `deletecollection`.
*/}}
{{- define "agent.rules" -}}
{{- range . }}
- apiGroups: {{ toJson .apiGroups }}
  resources: {{ toJson .resources }}
  {{- with .resourceNames }}
  resourceNames: {{ toJson . }}
  {{- end }}
  verbs: {{ .verbs | default (list "get" "list" "watch" "create" "patch" "delete") | toJson }}
{{- end }}
{{- end }}

{{- /* Acting as ServiceAccounts, these or all, and finding out whether one is there. */}}
{{- define "agent.impersonation" -}}
- apiGroups: [""]
  resources: ["serviceaccounts"]
  {{- with . }}
  resourceNames: {{ toJson . }}
  {{- end }}
  verbs: ["get","impersonate"]
{{- end }}

{{- /* What the profile leaves open is refused here, with the choices. */}}
{{- define "agent.checkedProfile" -}}
{{- $rbac := .Values.rbac }}
{{- $listed := list }}
{{- $value := "" }}
{{- if eq $rbac.profile "tenant" }}
  {{- if not $rbac.tenant.namespaces }}
    {{- fail (include "agent.choices" .) }}
  {{- end }}
  {{- $listed = $rbac.tenant.namespaces }}
  {{- $value = "rbac.tenant.namespaces" }}
{{- else if eq $rbac.profile "platform" }}
  {{- $listed = $rbac.platform.secretNamespaces }}
  {{- $value = "rbac.platform.secretNamespaces" }}
{{- end }}
{{- range $listed }}
  {{- if eq . $.Release.Namespace }}
    {{- fail (printf "%s names %s, where the agent keeps its identity and its state: choose other namespaces, or another namespace for the agent" $value .) }}
  {{- end }}
  {{- if and (eq . "kube-system") (eq $rbac.profile "tenant") }}
    {{- fail (printf "%s names kube-system, whose ServiceAccounts may do everything: the profile platform says so openly" $value) }}
  {{- end }}
{{- end }}
{{- range $rbac.impersonate }}
  {{- if or (eq .namespace "kube-system") (eq .namespace $.Release.Namespace) }}
    {{- fail (printf "rbac.impersonate names %s, whose ServiceAccounts have the rights of the cluster or of the agent: the profile admin says so openly" .namespace) }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "agent.choices" -}}
rbac.profile is tenant, which works in the namespaces of rbac.tenant.namespaces, and none is given. Choose one:
  --set 'rbac.tenant.namespaces={shop,web}'   apply and delete what applications consist of, Secrets too, in these namespaces only
  --set rbac.profile=platform   apply and delete what an infrastructure repository holds (CustomResourceDefinitions, RBAC, webhooks, workloads in every namespace): does not stop an attacker
  --set rbac.profile=admin      everything, as cluster-admin
The README of this chart says what each amounts to.
{{- end }}
