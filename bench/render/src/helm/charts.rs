//! Charts in the idioms of those that people run: helpers with `include` and `nindent`, `tpl` of values, `toYaml` of
//! whole sections, `with` and `range`, subcharts with conditions and globals.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Which chart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One web service, as a new chart begins.
    Small,
    /// 130 objects as a monitoring stack has them, in ten charts.
    Stack,
    /// A chart that is nothing but a hundred dependencies.
    Umbrella,
    /// 1,000 objects in one chart.
    Thousand,
}

impl Shape {
    /// Writes the chart into a folder.
    pub(crate) fn write(self, folder: &Path) -> std::io::Result<()> {
        match self {
            Shape::Small => service(folder, "web", ""),
            Shape::Stack => stack(folder),
            Shape::Umbrella => umbrella(folder, 100),
            Shape::Thousand => thousand(folder),
        }
    }
}

fn put(folder: &Path, name: &str, content: &str) -> std::io::Result<()> {
    let path = folder.join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, content)
}

/// The helpers of a chart, named after it.
fn helpers(name: &str) -> String {
    HELPERS.replace("NAME", name)
}

const HELPERS: &str = r#"{{/* The name of the chart, cut to what a label holds. */}}
{{- define "NAME.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "NAME.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "NAME.selectorLabels" -}}
app.kubernetes.io/name: {{ include "NAME.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "NAME.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "NAME.selectorLabels" . }}
{{- if .Chart.AppVersion }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with (.Values.global | default dict).labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "NAME.image" -}}
{{- $registry := (.Values.global | default dict).registry | default .Values.image.registry -}}
{{- printf "%s/%s:%s" $registry .Values.image.repository (.Values.image.tag | default .Chart.AppVersion | toString) -}}
{{- end }}
"#;

const DEPLOYMENT: &str = r#"apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "NAME.fullname" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "NAME.labels" . | nindent 4 }}
spec:
  {{- if not .Values.autoscaling.enabled }}
  replicas: {{ .Values.replicas }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "NAME.selectorLabels" . | nindent 6 }}
  template:
    metadata:
      annotations:
        checksum/config: {{ toYaml .Values.config | sha256sum }}
        {{- with .Values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      labels:
        {{- include "NAME.labels" . | nindent 8 }}
    spec:
      serviceAccountName: {{ include "NAME.fullname" . }}
      securityContext:
        {{- toYaml .Values.podSecurityContext | nindent 8 }}
      containers:
        - name: {{ .Chart.Name }}
          image: {{ include "NAME.image" . | quote }}
          imagePullPolicy: {{ .Values.image.pullPolicy }}
          args:
            {{- range $key, $value := .Values.args }}
            - --{{ $key }}={{ tpl (toString $value) $ }}
            {{- end }}
          ports:
            {{- range .Values.service.ports }}
            - name: {{ .name }}
              containerPort: {{ .port }}
              protocol: {{ .protocol | default "TCP" }}
            {{- end }}
          {{- with .Values.probe }}
          livenessProbe:
            httpGet: {path: {{ .path | quote }}, port: {{ .port }}}
          readinessProbe:
            httpGet: {path: {{ .path | quote }}, port: {{ .port }}}
          {{- end }}
          env:
            {{- range $name, $value := .Values.env }}
            - name: {{ $name | upper | replace "." "_" }}
              value: {{ $value | quote }}
            {{- end }}
          resources:
            {{- toYaml .Values.resources | nindent 12 }}
      {{- with .Values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
"#;

const SERVICE: &str = r#"apiVersion: v1
kind: Service
metadata:
  name: {{ include "NAME.fullname" . }}
  labels:
    {{- include "NAME.labels" . | nindent 4 }}
spec:
  type: {{ .Values.service.type }}
  ports:
    {{- range .Values.service.ports }}
    - {name: {{ .name }}, port: {{ .port }}, targetPort: {{ .name }}}
    {{- end }}
  selector:
    {{- include "NAME.selectorLabels" . | nindent 4 }}
"#;

const ACCESS: &str = r#"apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "NAME.fullname" . }}
  labels:
    {{- include "NAME.labels" . | nindent 4 }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "NAME.fullname" . }}
  labels:
    {{- include "NAME.labels" . | nindent 4 }}
data:
  config.yaml: |
    {{- toYaml .Values.config | nindent 4 }}
  name: {{ tpl "{{ .Release.Name }}.{{ .Release.Namespace }}" . }}
"#;

const VALUES: &str = r#"replicas: 2
image: {registry: registry.example.org, repository: team/web, tag: "", pullPolicy: IfNotPresent}
service:
  type: ClusterIP
  ports:
    - {name: http, port: 8080}
    - {name: metrics, port: 9090}
autoscaling: {enabled: false}
args: {log-level: info, listen: "{{ .Release.Name }}:8080", workers: 4}
env: {log.level: info, region: north}
probe: {path: /healthz, port: http}
podAnnotations: {prometheus.io/scrape: "true"}
podSecurityContext: {runAsNonRoot: true, runAsUser: 1000, fsGroup: 1000}
resources:
  limits: {cpu: 500m, memory: 256Mi}
  requests: {cpu: 50m, memory: 64Mi}
nodeSelector: {kubernetes.io/os: linux}
tolerations:
  - {key: dedicated, operator: Exists}
config:
  server: {address: 0.0.0.0, port: 8080, timeouts: {read: 5s, write: 10s}}
  features: [search, export]
  limits: {rate: 100, burst: 250, ratio: 0.75}
"#;

/// A web service: four objects.
fn service(folder: &Path, name: &str, more: &str) -> std::io::Result<()> {
    let named = |text: &str| text.replace("NAME", name);
    put(
        folder,
        "Chart.yaml",
        &format!("apiVersion: v2\nname: {name}\nversion: 1.2.3\nappVersion: \"4.5.6\"\n"),
    )?;
    put(folder, "values.yaml", &format!("{VALUES}{more}"))?;
    put(folder, "templates/_helpers.tpl", &helpers(name))?;
    put(folder, "templates/deployment.yaml", &named(DEPLOYMENT))?;
    put(folder, "templates/service.yaml", &named(SERVICE))?;
    put(folder, "templates/access.yaml", &named(ACCESS))
}

/// Rules, dashboards, monitors and roles beside nine services: 130 objects.
fn stack(folder: &Path) -> std::io::Result<()> {
    let mut chart =
        "apiVersion: v2\nname: stack\nversion: 60.1.0\nappVersion: v0.80.0\ndependencies:\n".to_owned();
    let mut more = "global: {labels: {part-of: stack}}\n".to_owned();
    for number in 0..9 {
        let name = format!("part-{number}");
        let _ = writeln!(
            chart,
            "- {{name: {name}, version: 1.2.3, condition: {name}.enabled}}"
        );
        let _ = writeln!(more, "{name}: {{enabled: true, replicas: {number}}}");
        service(&folder.join("charts").join(&name), &name, "enabled: false\n")?;
    }
    more.push_str("monitors:\n");
    for number in 0..20 {
        let _ = writeln!(
            more,
            "  - {{name: target-{number}, port: metrics, interval: {}s, selector: {{app: a{number}}}}}",
            10 + number
        );
    }
    service(folder, "stack", &more)?;
    put(folder, "Chart.yaml", &chart)?;
    put(
        folder,
        "templates/monitors.yaml",
        &MONITORS.replace("NAME", "stack"),
    )?;
    for number in 0..28 {
        let dashboard = dashboard(number);
        put(folder, &format!("templates/dashboards/{number}.yaml"), &dashboard)?;
    }
    for number in 0..28 {
        put(folder, &format!("templates/rules/{number}.yaml"), &rules(number))?;
    }
    for number in 0..14 {
        put(folder, &format!("templates/roles/{number}.yaml"), &role(number))?;
    }
    Ok(())
}

const MONITORS: &str = r#"{{- range .Values.monitors }}
---
apiVersion: monitoring.example.org/v1
kind: ServiceMonitor
metadata:
  name: {{ include "NAME.fullname" $ }}-{{ .name }}
  labels:
    {{- include "NAME.labels" $ | nindent 4 }}
spec:
  selector:
    matchLabels:
      {{- toYaml .selector | nindent 6 }}
  endpoints:
    - port: {{ .port }}
      interval: {{ .interval }}
{{- end }}
"#;

fn dashboard(number: usize) -> String {
    let mut panels = String::new();
    for panel in 0..6 {
        let comma = if panel < 5 { "," } else { "" };
        let _ = writeln!(
            panels,
            r#"        {{"id": {panel}, "title": "Panel {panel}", "expr": "rate(requests_total{{job=\"a{number}\"}}[5m])"}}{comma}"#
        );
    }
    format!(
        r#"{{{{- if .Values.dashboards | default true }}}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{{{ printf "%s-%s" (include "stack.fullname" $) "dashboard-{number}" | trunc 63 | trimSuffix "-" }}}}
  labels:
    {{{{- include "stack.labels" $ | nindent 4 }}}}
data:
  dashboard-{number}.json: |-
    {{
      "title": "Dashboard {number}",
      "legend": "{{{{`{{{{instance}}}}`}}}}",
      "panels": [
{panels}      ]
    }}
{{{{- end }}}}
"#
    )
}

fn rules(number: usize) -> String {
    let mut alerts = String::new();
    for alert in 0..4 {
        let _ = write!(
            alerts,
            r#"        - alert: Alert{number}x{alert}
          expr: sum(rate(errors_total{{job="a{number}"}}[5m])) by (instance) > {alert}
          for: {{{{ dig "Alert{number}x{alert}" "for" "15m" ($.Values.rules | default dict) }}}}
          labels:
            severity: {{{{ dig "Alert{number}x{alert}" "severity" "warning" ($.Values.rules | default dict) }}}}
          annotations:
            summary: 'Errors on {{{{`{{{{ $labels.instance }}}}`}}}}'
"#
        );
    }
    format!(
        r#"apiVersion: monitoring.example.org/v1
kind: Rules
metadata:
  name: {{{{ include "stack.fullname" . }}}}-rules-{number}
  labels:
    {{{{- include "stack.labels" . | nindent 4 }}}}
    {{{{- with .Values.ruleLabels }}}}
    {{{{- toYaml . | nindent 4 }}}}
    {{{{- end }}}}
spec:
  groups:
    - name: group-{number}
      rules:
{alerts}"#
    )
}

fn role(number: usize) -> String {
    format!(
        r#"apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{{{ include "stack.fullname" . }}}}-role-{number}
  labels:
    {{{{- include "stack.labels" . | nindent 4 }}}}
rules:
  - apiGroups: ["", apps]
    resources: [pods, nodes, deployments]
    verbs: [get, list, watch]
"#
    )
}

/// A chart of dependencies, each a service, half of them under an alias.
fn umbrella(folder: &Path, count: usize) -> std::io::Result<()> {
    let mut chart = "apiVersion: v2\nname: umbrella\nversion: 1.0.0\ndependencies:\n".to_owned();
    let mut values =
        "global: {registry: mirror.example.org, labels: {team: a}}\ntags: {backend: true}\n".to_owned();
    for number in 0..count {
        let (name, alias) = (format!("svc-{number}"), format!("app-{number}"));
        let aliased = number % 2 == 0;
        let seen = if aliased { &alias } else { &name };
        let _ = write!(
            chart,
            "- name: {name}\n  version: ^1.0\n  condition: {seen}.enabled\n  tags: [backend]\n"
        );
        if aliased {
            let _ = writeln!(chart, "  alias: {alias}");
        }
        let _ = writeln!(values, "{seen}: {{enabled: true, replicas: {}}}", number % 5);
        service(&folder.join("charts").join(&name), &name, "")?;
    }
    put(folder, "Chart.yaml", &chart)?;
    put(folder, "values.yaml", &values)
}

/// One chart that ranges over its apps: 250 times four objects.
fn thousand(folder: &Path) -> std::io::Result<()> {
    let mut values = VALUES.to_owned();
    values.push_str("apps:\n");
    for number in 0..249 {
        let _ = writeln!(
            values,
            "  app-{number}: {{replicas: {}, port: {}}}",
            number % 7,
            8000 + number
        );
    }
    service(folder, "many", "")?;
    put(folder, "values.yaml", &values)?;
    let mut template = r#"{{- range $name, $app := .Values.apps }}
{{- $scope := merge (dict "Values" (merge (dict "fullnameOverride" $name "replicas" $app.replicas) (deepCopy $.Values))) $ }}
"#
    .to_owned();
    for part in [DEPLOYMENT, SERVICE, ACCESS] {
        let part = part.replace("NAME", "many");
        let _ = write!(template, "---\n{{{{- with $scope }}}}\n{part}\n{{{{- end }}}}\n");
    }
    template.push_str("{{- end }}\n");
    put(folder, "templates/apps.yaml", &template)
}
