{{/* Names, labels and the pod that all components of the control plane share. */}}

{{- define "fleetune.name" -}}
{{- if contains "fleetune" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-fleetune" (.Release.Name | trunc 31 | trimSuffix "-") }}{{ end }}
{{- end }}

{{- define "fleetune.selector" -}}
app.kubernetes.io/name: fleetune
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Of pods: nothing that a newer chart alone would change. */}}
{{- define "fleetune.pod-labels" -}}
{{ include "fleetune.selector" . }}
app.kubernetes.io/part-of: fleetune
{{- end }}

{{- define "fleetune.labels" -}}
{{ include "fleetune.pod-labels" . }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "fleetune.image" -}}
{{- if .image.digest }}{{ .image.repository }}@{{ .image.digest }}
{{- else }}{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "fleetune.secret" -}}
{{ .Values.secrets.existingSecret | default (printf "%s-secrets" (include "fleetune.name" .)) }}
{{- end }}

{{/* What loads trials when it is pods: this image, of the trials' priority. */}}
{{- define "fleetune.load-pods" -}}
image: {{ include "fleetune.image" (dict "root" . "image" .Values.image) }}
image_pull_secrets: {{ toJson .Values.imagePullSecrets }}
{{- if .Values.priorityClasses.create }}
priority_class: {{ .Values.priorityClasses.trials }}
{{- end }}
{{- with .Values.trials.loadPods }}
node_selector: {{ toJson .nodeSelector }}
tolerations: {{ toJson .tolerations }}
cpus: {{ .cpus }}
memory_gib: {{ .memoryGib }}
requests_per_s: {{ .requestsPerSecond }}
tokens_per_s: {{ .tokensPerSecond }}
most: {{ .most }}
{{- end }}
{{- end }}

{{/* What `fleetune up` would write into its data folder. */}}
{{- define "fleetune.installation" -}}
{{- $cluster := dict "namespace" .Release.Namespace "gateways" true }}
{{- with .Values.gateway.adminTls }}{{ if .secret }}
{{- if not .serverName }}{{ fail "gateway.adminTls.serverName: controllers reach pods by address and must know the certificate's name" }}{{ end }}
{{- $_ := set $cluster "admin_trust" (dict "ca" "/etc/fleetune-gateways/ca.crt" "server_name" .serverName) }}
{{- end }}{{ end }}
{{- with .Values.trials.loadPods }}{{ if .enabled }}{{ $_ := set $cluster "load_pods" (include "fleetune.load-pods" $ | fromYaml) }}{{ end }}{{ end }}
{{- $settings := dict
  "data_dir" "/data"
  "host" "0.0.0.0"
  "secrets_dir" "/etc/fleetune-secrets"
  "cluster" $cluster }}
{{- if .Values.oidc.issuers }}{{ $_ := set $settings "issuers_file" "/etc/fleetune/issuers.yaml" }}{{ end }}
{{- if .Values.mlflow.url }}{{ $_ := set $settings "mlflow_url" .Values.mlflow.url }}{{ end }}
{{- toJson $settings }}
{{- end }}

{{- define "fleetune.configuration" -}}
installation.json: {{ include "fleetune.installation" . | quote }}
{{- if .Values.oidc.issuers }}
issuers.yaml: |
  {{- dict "issuers" .Values.oidc.issuers | toYaml | nindent 2 }}
{{- end }}
{{- end }}

{{/* The environment of every process that opens the store. */}}
{{- define "fleetune.environment" -}}
- {name: FLEETUNE_INSTALLATION, value: /etc/fleetune/installation.json}
- name: FLEETUNE_STORE_URL
  valueFrom: {secretKeyRef: {{ toJson .Values.store.urlSecret }}}
- {name: HOME, value: /tmp}
- {name: PYTHONUNBUFFERED, value: "1"}
{{- include "fleetune.tracing" . }}
{{- end }}

{{/* OpenTelemetry's own variables. */}}
{{- define "fleetune.tracing" -}}
{{- with .Values.tracing }}{{ if .endpoint }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ .endpoint | quote }}}
- {name: OTEL_TRACES_SAMPLER_ARG, value: {{ .share | quote }}}
{{- if .headersSecret.name }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom: {secretKeyRef: {{ toJson .headersSecret }}}
{{- end }}
{{- end }}{{ end }}
{{- end }}

{{/* What the controller alone asks with. */}}
{{- define "fleetune.controller-environment" -}}
{{- if .Values.mlflow.tokenSecret.name -}}
- name: MLFLOW_TRACKING_TOKEN
  valueFrom: {secretKeyRef: {{ toJson .Values.mlflow.tokenSecret }}}
{{- end }}
{{- end }}

{{- define "fleetune.container-security" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* What every pod says beside its containers and volumes. */}}
{{- define "fleetune.pod" -}}
enableServiceLinks: false     # else the cluster sets variables that begin with FLEETUNE_
securityContext:
  runAsNonRoot: true
  runAsUser: 2000
  runAsGroup: 2000
  fsGroup: 2000
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.placement.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with .Values.placement.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- end }}

{{- define "fleetune.mounts" -}}
- {name: data, mountPath: /data}
- {name: configuration, mountPath: /etc/fleetune, readOnly: true}
- {name: secrets, mountPath: /etc/fleetune-secrets, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- end }}

{{- define "fleetune.volumes" -}}
- name: data
  persistentVolumeClaim: {claimName: {{ .Values.volume.existingClaim | default (include "fleetune.name" .) }}}
- name: configuration
  configMap: {name: {{ include "fleetune.name" . }}}
- name: secrets
  secret: {secretName: {{ include "fleetune.secret" . }}, defaultMode: 0440}
- name: tmp
  emptyDir: {}
{{- end }}

{{/* A Deployment that runs `fleetune process NAME`. Takes root, component, replicas, resources, arguments, gitSecret, more. */}}
{{- define "fleetune.process" -}}
{{- $root := .root -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "fleetune.name" $root }}-{{ .component }}
  labels: {{- include "fleetune.labels" . | nindent 4 }}
spec:
  replicas: {{ .replicas }}
  selector:
    matchLabels: {{- include "fleetune.selector" . | nindent 6 }}
  template:
    metadata:
      labels: {{- include "fleetune.pod-labels" . | nindent 8 }}
      annotations:
        fleetune.dev/configuration: {{ include "fleetune.configuration" $root | sha256sum }}
    spec:
      serviceAccountName: {{ include "fleetune.name" $root }}
      {{- include "fleetune.pod" $root | nindent 6 }}
      terminationGracePeriodSeconds: {{ .graceSeconds | default 30 }}
      containers:
        - name: {{ .component }}
          image: {{ include "fleetune.image" (dict "root" $root "image" $root.Values.image) }}
          command: {{ toJson (concat (list "fleetune" "process" .component "--data-dir=/data") (.arguments | default list)) }}
          env:
            {{- include "fleetune.environment" $root | nindent 12 }}
            {{- with .environment }}
            {{- . | nindent 12 }}
            {{- end }}
          resources: {{ toJson .resources }}
          securityContext: {{- include "fleetune.container-security" $root | nindent 12 }}
          {{- with .container }}
          {{- . | nindent 10 }}
          {{- end }}
          volumeMounts: {{- include "fleetune.mounts" $root | nindent 12 }}
            {{- if $root.Values.gateway.adminTls.secret }}
            - {name: gateways, mountPath: /etc/fleetune-gateways, readOnly: true}
            {{- end }}
            {{- with .gitSecret }}
            - {name: git, mountPath: /etc/fleetune-git, readOnly: true}
            {{- end }}
      volumes: {{- include "fleetune.volumes" $root | nindent 8 }}
        {{- with $root.Values.gateway.adminTls.secret }}
        - name: gateways
          secret: {secretName: {{ . }}, items: [{key: ca.crt, path: ca.crt}]}
        {{- end }}
        {{- with .gitSecret }}
        - name: git
          secret: {secretName: {{ . }}, defaultMode: 0440}
        {{- end }}
{{- end }}

{{/* What the control plane may do. Takes root, name (of the account too), labels, annotations. */}}
{{- define "fleetune.rights" }}
{{- $everywhere := printf "%s-%s" .root.Release.Namespace .name }}
{{- $head := dict "labels" (fromYaml .labels) }}
{{- if .annotations }}{{ $_ := set $head "annotations" .annotations }}{{ end }}
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ .name }}
  {{- toYaml $head | nindent 2 }}
rules:
  {{- $rights := fromYaml (.root.Files.Get "files/rights.yaml") }}
  {{- range concat $rights.namespace (ternary $rights.routes list .root.Values.routes.enabled) }}
  - {{ toJson . }}
  {{- end }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ .name }}
  {{- toYaml $head | nindent 2 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ .name }}}
subjects: [{kind: ServiceAccount, name: {{ .name }}, namespace: {{ .root.Release.Namespace }}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ $everywhere }}
  {{- toYaml $head | nindent 2 }}
rules:
  {{- range $rights.cluster }}
  - {{ toJson . }}
  {{- end }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ $everywhere }}
  {{- toYaml $head | nindent 2 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {{ $everywhere }}}
subjects: [{kind: ServiceAccount, name: {{ .name }}, namespace: {{ .root.Release.Namespace }}}]
{{- end }}

{{/* A service's description with the place its pool names, this namespace and the priority classes laid under it. */}}
{{- define "fleetune.service" -}}
{{- $values := .root.Values }}
{{- $place := dict "namespace" .root.Release.Namespace }}
{{- if $values.priorityClasses.create }}
{{- $_ := set $place "priority_class" $values.priorityClasses.serving }}
{{- $_ := set $place "trial_priority_class" $values.priorityClasses.trials }}
{{- end }}
{{- with .told.pool }}
{{- $pool := index $values.pools . }}
{{- if not $pool }}{{ fail (printf "services.%s: there is no pool %s; there are: %s" $.name . (keys $values.pools | sortAlpha | join ", " | default "none")) }}{{ end }}
{{- with $pool.nodeSelector }}{{ $_ := set $place "node_selector" . }}{{ end }}
{{- with $pool.tolerations }}{{ $_ := set $place "tolerations" . }}{{ end }}
{{- with $pool.gpuResource }}{{ $_ := set $place "gpu_resource" . }}{{ end }}
{{- with $pool.gpusPerNode }}{{ $_ := set $place "gpus_per_node" . }}{{ end }}
{{- end }}
{{- if ne .told.spec.name .name }}{{ fail (printf "services.%s: its spec is named %s" .name .told.spec.name) }}{{ end }}
{{- $own := .told.spec.kubernetes | default dict }}
{{- toYaml (merge (dict "kubernetes" (merge (deepCopy $own) $place)) (omit .told.spec "kubernetes")) }}
{{- end }}

{{/* One entry of `from`: pods of these components. Takes root, components. */}}
{{- define "fleetune.from" -}}
{podSelector: {matchLabels: {app.kubernetes.io/name: fleetune, app.kubernetes.io/instance: {{ .root.Release.Name }}}, matchExpressions: [{key: app.kubernetes.io/component, operator: In, values: {{ toJson .components }}}]}}
{{- end }}

{{/* The head of a policy on what reaches a component. Takes root, component. */}}
{{- define "fleetune.policy" }}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "fleetune.name" .root }}-{{ .component }}
  labels: {{- include "fleetune.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels: {{- include "fleetune.selector" . | nindent 6 }}
  policyTypes: [Ingress]
{{- end }}
