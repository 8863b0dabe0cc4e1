{{- define "catalog.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "catalog.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "catalog.labels" -}}
{{ include "catalog.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
{{- end }}

{{- define "catalog.metadata" -}}
name: {{ include "catalog.name" .root }}-{{ .component }}
labels:
  {{- include "catalog.labels" . | nindent 2 }}
{{- end }}

{{- define "catalog.image" -}}
image: {{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end }}

{{- define "catalog.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* What every pod has beside its containers; {root, user}. */}}
{{- define "catalog.pod" -}}
serviceAccountName: {{ include "catalog.name" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .user }}
  runAsGroup: {{ .group }}
  fsGroup: {{ .group }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "catalog.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "catalog.selector" . | nindent 8 }}
{{- end }}

{{- /* Variables and folders of our containers. */}}
{{- define "catalog.environment" -}}
envFrom:
  - secretRef: {name: {{ .Values.existingSecret }}}
  - configMapRef: {name: {{ include "catalog.name" . }}}
env:
  - name: POD_NAME
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  - name: POD_NAMESPACE
    valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
  - name: NODE_NAME
    valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
  - name: OTEL_RESOURCE_ATTRIBUTES
    value: k8s.pod.name=$(POD_NAME),k8s.namespace.name=$(POD_NAMESPACE),k8s.node.name=$(NODE_NAME){{ with .Values.env.OTEL_RESOURCE_ATTRIBUTES }},{{ . }}{{ end }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  - {name: state, mountPath: /var/lib/catalog-sync}
securityContext:
  {{- include "catalog.containerSecurity" . | nindent 2 }}
{{- end }}

{{- /* {root, claim: whether it may take the claim}. */}}
{{- define "catalog.volumes" -}}
{{- $state := .root.Values.state }}
volumes:
  - name: tmp
    emptyDir: {}
  - name: state
    {{- if and .claim (or $state.existingClaim $state.create) }}
    persistentVolumeClaim: {claimName: {{ $state.existingClaim | default (include "catalog.name" .root) }}}
    {{- else }}
    emptyDir: {}
    {{- end }}
{{- end }}

{{- /* A process that touches /tmp/alive while it works; {seconds}. A Redis that is away for two minutes restarts nothing. */}}
{{- define "catalog.aliveProbes" -}}
startupProbe:
  exec: {command: [test, -f, /tmp/alive]}
  periodSeconds: 5
  failureThreshold: 60
livenessProbe:
  exec: {command: [sh, -c, 'test -n "$(find /tmp/alive -newermt "-{{ .seconds }} seconds")"']}
  periodSeconds: 15
  timeoutSeconds: 5
  failureThreshold: 8
{{- end }}

{{- /* A restart where the configuration changed. */}}
{{- define "catalog.podAnnotations" -}}
checksum/config: {{ include (print $.Template.BasePath "/configmap.yaml") . | sha256sum }}
{{- with .Values.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "catalog.hpa" -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "catalog.metadata" . | nindent 2 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ include "catalog.name" .root }}-{{ .component }}}
  minReplicas: {{ .values.minReplicas }}
  maxReplicas: {{ .values.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target: {type: Utilization, averageUtilization: {{ .values.targetCPUUtilizationPercentage }}}
{{- end }}

{{- define "catalog.pdb" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "catalog.metadata" . | nindent 2 }}
spec:
  maxUnavailable: {{ .values.maxUnavailable }}
  selector:
    matchLabels:
      {{- include "catalog.selector" . | nindent 6 }}
{{- end }}
