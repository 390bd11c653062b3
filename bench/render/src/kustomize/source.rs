//! Sources of any number of objects: a base, and an overlay that uses what overlays use: namespace, prefix, labels,
//! images, replicas, patches, generators, and references to names that all of that changes.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Which source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Apps of three objects (Deployment, Service, ServiceAccount) and generated objects; this many in all.
    Apps(usize),
    /// 131 objects as a monitoring stack has them: definitions, dashboards, rules, roles, monitors, workloads.
    Monitoring,
}

impl Shape {
    /// Returns how many objects the build prints.
    pub(crate) fn objects(self) -> usize {
        match self {
            Shape::Apps(count) => count,
            Shape::Monitoring => 131,
        }
    }

    /// Writes the source below a folder and returns the directory to build.
    pub(crate) fn write(self, folder: &Path) -> std::io::Result<PathBuf> {
        let mut base = Base {
            folder: folder.join("base"),
            resources: String::new(),
        };
        fs::create_dir_all(&base.folder)?;
        let generated = match self {
            Shape::Apps(count) => {
                let apps = (count - 1) / 3;
                for app in 0..apps {
                    base.add(
                        &format!("app-{app}.yaml"),
                        &app_objects(&format!("app-{app}"), app),
                    )?;
                }
                count - apps * 3
            }
            Shape::Monitoring => monitoring(&mut base)?,
        };
        base.close()?;
        let overlay = folder.join("overlay");
        fs::create_dir_all(&overlay)?;
        fs::write(overlay.join("kustomization.yaml"), kustomization(generated))?;
        fs::write(overlay.join("settings.properties"), "level=info\nregion=north\n")?;
        Ok(overlay)
    }
}

struct Base {
    folder: PathBuf,
    resources: String,
}

impl Base {
    fn add(&mut self, name: &str, text: &str) -> std::io::Result<()> {
        let _ = writeln!(self.resources, "- {name}");
        fs::write(self.folder.join(name), text)
    }

    fn close(self) -> std::io::Result<()> {
        let text = format!("resources:\n{}", self.resources);
        fs::write(self.folder.join("kustomization.yaml"), text)
    }
}

/// The overlay. The first generated object is the one that every app refers to.
fn kustomization(generated: usize) -> String {
    let mut more = String::new();
    for index in 1..generated {
        let _ = write!(more, "- name: extra-{index}\n  literals:\n  - number={index}\n");
    }
    format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: fleet
namePrefix: north-
resources:
- ../base
labels:
- pairs:
    region: north
  includeSelectors: true
- pairs:
    team: platform
  includeTemplates: true
commonAnnotations:
  example.com/owner: platform
images:
- name: registry.example/app
  newTag: v2.4.1
- name: registry.example/sidecar
  newName: mirror.example/sidecar
  newTag: v1.9.0
replicas:
- name: app-0
  count: 5
configMapGenerator:
- name: settings
  files:
  - settings.properties
  literals:
  - mode=fast
{more}patches:
- patch: |-
    apiVersion: apps/v1
    kind: Deployment
    metadata:
      name: app-0
    spec:
      template:
        spec:
          containers:
          - name: main
            resources:
              limits:
                memory: 512Mi
- target:
    kind: Deployment
  patch: |-
    - op: add
      path: /spec/template/spec/terminationGracePeriodSeconds
      value: 45
"
    )
}

fn app_objects(name: &str, number: usize) -> String {
    format!(
        "{}---\n{}---\n{}",
        deployment(name, number),
        service(name, number),
        account(name)
    )
}

fn deployment(name: &str, number: usize) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
  labels:
    app: {name}
spec:
  replicas: 2
  selector:
    matchLabels:
      app: {name}
  template:
    metadata:
      labels:
        app: {name}
    spec:
      serviceAccountName: {name}
      containers:
      - name: main
        image: registry.example/app:v{}
        args: [--listen, \":8080\", --name={name}]
        ports:
        - name: http
          containerPort: 8080
        env:
        - name: MODE
          valueFrom:
            configMapKeyRef:
              name: settings
              key: mode
        resources:
          requests: {{cpu: 50m, memory: 64Mi}}
          limits: {{memory: 256Mi}}
        readinessProbe:
          httpGet: {{path: /ready, port: http}}
        volumeMounts:
        - name: settings
          mountPath: /etc/settings
      - name: sidecar
        image: registry.example/sidecar:v1
      volumes:
      - name: settings
        configMap:
          name: settings
",
        number % 7
    )
}

fn service(name: &str, number: usize) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata:
  name: {name}
  labels:
    app: {name}
spec:
  selector:
    app: {name}
  ports:
  - name: http
    port: {}
    targetPort: http
",
        8000 + number % 100
    )
}

fn account(name: &str) -> String {
    format!("apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: {name}\n")
}

/// 130 objects; one more is generated.
fn monitoring(base: &mut Base) -> std::io::Result<usize> {
    let mut add = |kind: &str, count: usize, text: &dyn Fn(usize) -> String| -> std::io::Result<()> {
        (0..count).try_for_each(|number| base.add(&format!("{kind}-{number}.yaml"), &text(number)))
    };
    add("definition", 10, &definition)?;
    add("dashboard", 28, &dashboard)?;
    add("rule", 10, &rule)?;
    add("monitor", 14, &monitor)?;
    add("role", 12, &|number| role("ClusterRole", number))?;
    add("binding", 12, &binding)?;
    add("workload", 8, &|number| {
        deployment(&format!("app-{number}"), number)
    })?;
    add("service", 14, &|number| service(&format!("app-{number}"), number))?;
    add("account", 12, &|number| account(&format!("app-{number}")))?;
    add("policy", 10, &policy)?;
    Ok(1)
}

fn definition(number: usize) -> String {
    let mut properties = String::new();
    for field in 0..120 {
        let _ = write!(
            properties,
            "              field{field}:
                description: Says how the part {field} of resource {number} behaves when nothing else says so.
                type: object
                properties:
                  mode:
                    type: string
                    enum: [Always, Never, IfNeeded]
                  limit:
                    type: integer
                    minimum: 0
"
        );
    }
    format!(
        "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: things{number}.monitoring.example
spec:
  group: monitoring.example
  scope: Namespaced
  names: {{kind: Thing{number}, listKind: Thing{number}List, plural: things{number}, singular: thing{number}}}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
{properties}"
    )
}

fn dashboard(number: usize) -> String {
    let mut panels = String::new();
    for panel in 0..60 {
        let _ = write!(
            panels,
            "      {{\n        \"title\": \"Panel {panel} of {number}\",\n        \"expr\": \"sum(rate(requests_total{{job=\\\"app-{number}\\\"}}[5m])) by (code)\",\n        \"span\": 6\n      }},\n"
        );
    }
    format!(
        "apiVersion: v1
kind: ConfigMap
metadata:
  name: dashboard-{number}
  labels:
    grafana: dashboard
data:
  dashboard.json: |-
    {{
      \"panels\": [
{panels}      ]
    }}
"
    )
}

fn rule(number: usize) -> String {
    let mut rules = String::new();
    for alert in 0..20 {
        let _ = write!(
            rules,
            "    - alert: Alert{alert}
      expr: sum(rate(errors_total{{job=\"app-{number}\"}}[5m])) > {alert}
      for: 10m
      labels: {{severity: warning}}
      annotations:
        summary: The app {number} fails more than {alert} times a second
"
        );
    }
    format!(
        "apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: rules-{number}
spec:
  groups:
  - name: group-{number}
    rules:
{rules}"
    )
}

fn monitor(number: usize) -> String {
    format!(
        "apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: app-{number}
spec:
  selector:
    matchLabels:
      app: app-{number}
  endpoints:
  - port: http
    interval: 30s
    relabelings:
    - sourceLabels: [__meta_kubernetes_pod_node_name]
      targetLabel: node
"
    )
}

fn role(kind: &str, number: usize) -> String {
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1
kind: {kind}
metadata:
  name: app-{number}
rules:
- apiGroups: [\"\"]
  resources: [nodes, pods, services, endpoints]
  verbs: [get, list, watch]
"
    )
}

fn binding(number: usize) -> String {
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: app-{number}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: app-{number}
subjects:
- kind: ServiceAccount
  name: app-{number}
  namespace: default
"
    )
}

fn policy(number: usize) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: app-{number}
spec:
  podSelector:
    matchLabels:
      app: app-{number}
  policyTypes: [Ingress]
  ingress:
  - from:
    - podSelector:
        matchLabels:
          app: app-0
    ports:
    - port: 8080
      protocol: TCP
"
    )
}
