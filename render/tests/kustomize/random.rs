//! Makes sources of random bases, overlays, components and patches. The same seed makes the same source.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use flotilla_render_tests::Random;

use crate::corpus::{Case, Expected};

const NAMES: &[&str] = &["web", "api", "db", "cache", "job"];
const IMAGES: &[&str] = &[
    "nginx",
    "reg.example/team/app",
    "redis",
    "localhost:5000/tool",
    "app@sha256:0123",
];

/// Makes the source of a seed.
pub(crate) fn case(seed: u64) -> Case {
    let mut dice = Random::new(seed);
    let mut files = BTreeMap::new();
    let mut objects = Vec::new();
    let mut resources = String::new();
    for index in 0..1 + dice.below(5) {
        let (kind, name, text) = object(&mut dice);
        if objects.iter().any(|(k, n)| *k == kind && *n == name) {
            continue;
        }
        objects.push((kind, name));
        files.insert(format!("base/o{index}.yaml"), text);
        let _ = writeln!(resources, "- o{index}.yaml");
    }
    let mut base = format!("resources:\n{resources}");
    fields(&mut dice, &mut base, &objects, 3);
    files.insert("base/kustomization.yaml".into(), base);
    let mut overlay = "resources:\n- ../base\n".to_string();
    if dice.one_in(4) {
        overlay.push_str("components:\n- ../comp\n");
        let mut component = "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n".to_string();
        fields(&mut dice, &mut component, &objects, 2);
        files.insert("comp/kustomization.yaml".into(), component);
    }
    fields(&mut dice, &mut overlay, &objects, 6);
    files.insert("overlay/kustomization.yaml".into(), overlay);
    for text in files.values_mut() {
        end(&mut dice, text);
    }
    Case {
        name: format!("seed-{seed}"),
        directory: "overlay".into(),
        files,
        expected: Expected::Alike,
    }
}

/// Ends a file as editors and templates do.
fn end(dice: &mut Random, text: &mut String) {
    match dice.below(16) {
        0 => text.push_str("# the end\n"),
        1 => text.push_str("  # the end"),
        2 => text.push_str("\n\n"),
        3 => text.push_str("---\n"),
        4 => *text = text.replace('\n', "\r\n"),
        5 => text.insert(0, '\u{feff}'),
        6..9 => drop(text.pop()),
        _ => {}
    }
}

fn object(dice: &mut Random) -> (&'static str, &'static str, String) {
    let name = dice.pick(NAMES);
    let namespace = if dice.one_in(5) {
        format!("  namespace: {}\n", dice.pick(&["prod", "default"]))
    } else {
        String::new()
    };
    match dice.below(9) {
        0..=2 => ("Deployment", name, workload(dice, name, &namespace, "Deployment")),
        3 => (
            "StatefulSet",
            name,
            workload(dice, name, &namespace, "StatefulSet"),
        ),
        4 => {
            let text = format!(
                "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n{namespace}spec:\n  selector:\n    app: {name}\n  ports:\n  - port: 80\n  - port: {}\n    name: other\n    protocol: UDP\n",
                80 + dice.below(3)
            );
            ("Service", name, text)
        }
        5 => {
            let text = format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n{namespace}data:\n  a: \"1\"\n  b: {}\n    x: {}\n{}    y: two\n",
                dice.pick(&["|", "|", "|-", "|+", ">", ">-", "|2", "\"", "", "# c"]),
                dice.below(9),
                dice.pick(&[
                    "",
                    "\n",
                    "      z: deep\n",
                    "      z: a\n    - b\n",
                    "  \n",
                    "    # c\n"
                ])
            );
            ("ConfigMap", name, text)
        }
        6 => {
            let text = format!(
                "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata:\n  name: {name}\n{namespace}roleRef:\n  apiGroup: rbac.authorization.k8s.io\n  kind: ClusterRole\n  name: view\nsubjects:\n- kind: ServiceAccount\n  name: {}\n  namespace: prod\n",
                dice.pick(&["default", "web", "api"])
            );
            ("RoleBinding", name, text)
        }
        7 => {
            let text =
                format!("apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: {name}\n{namespace}");
            ("ServiceAccount", name, text)
        }
        _ => {
            let text = format!(
                "apiVersion: example.com/v1\nkind: Widget\nmetadata:\n  name: {name}\n{namespace}spec:\n  size: {}\n  ref:\n    name: web\n  list: [a, b, {{c: 1}}]\n",
                dice.below(100)
            );
            ("Widget", name, text)
        }
    }
}

fn workload(dice: &mut Random, name: &str, namespace: &str, kind: &str) -> String {
    let mut text = format!(
        "apiVersion: apps/v1\nkind: {kind}\nmetadata:\n  name: {name}\n{namespace}  labels: {{app: {name}}}\nspec:\n  replicas: {}\n  selector:\n    matchLabels:\n      app: {name}\n  template:\n    metadata:\n      labels:\n        app: {name}\n    spec:\n      containers:\n",
        1 + dice.below(4)
    );
    for index in 0..1 + dice.below(3) {
        let container = ["main", "side", "extra"][index];
        let image = dice.pick(IMAGES);
        let _ = writeln!(
            text,
            "      - name: {container}\n        image: {image}:1.{index}"
        );
        if dice.one_in(2) {
            let config = dice.pick(NAMES);
            let _ = write!(
                text,
                "        env:\n        - name: A\n          value: \"{}\"\n        - name: B\n          valueFrom:\n            configMapKeyRef:\n              name: {config}\n              key: a\n",
                dice.below(3)
            );
        }
        if dice.one_in(3) {
            text.push_str("        ports:\n        - containerPort: 80\n        - containerPort: 443\n          protocol: TCP\n");
        }
        if dice.one_in(3) {
            text.push_str("        args: [--one, \"--two=2\"]\n");
        }
    }
    if dice.one_in(3) {
        let config = dice.pick(NAMES);
        let _ = write!(
            text,
            "      volumes:\n      - name: v\n        configMap:\n          name: {config}\n      - name: w\n        secret:\n          secretName: {config}\n"
        );
    }
    text
}

type Objects = [(&'static str, &'static str)];

fn fields(dice: &mut Random, out: &mut String, objects: &Objects, most: usize) {
    let mut chosen: Vec<usize> = Vec::new();
    for _ in 0..dice.below(most + 1) {
        let field = dice.below(13);
        if !chosen.contains(&field) {
            chosen.push(field);
        }
    }
    let mut patches = String::new();
    for field in chosen {
        match field {
            10 | 11 => patch(dice, &mut patches, objects),
            _ => add_field(dice, out, objects, field),
        }
    }
    if !patches.is_empty() {
        out.push_str("patches:\n");
        out.push_str(&patches);
    }
    if !out.contains("resources:") && out.lines().count() <= 2 {
        out.push_str("namePrefix: c-\n");
    }
}

fn add_field(dice: &mut Random, out: &mut String, objects: &Objects, field: usize) {
    let _ = match field {
        0 => writeln!(out, "namePrefix: {}-", dice.pick(&["a", "dev", "x"])),
        1 => writeln!(out, "nameSuffix: -{}", dice.pick(&["b", "v2"])),
        2 => writeln!(out, "namespace: {}", dice.pick(&["prod", "stage"])),
        3 => writeln!(out, "commonLabels:\n  team: {}", dice.pick(&["red", "blue"])),
        4 => writeln!(
            out,
            "labels:\n- pairs:\n    tier: {}\n  includeSelectors: {}\n  includeTemplates: {}",
            dice.pick(&["front", "\"1\""]),
            dice.one_in(3),
            dice.one_in(2)
        ),
        5 => writeln!(
            out,
            "commonAnnotations:\n  note: {}",
            dice.pick(&["hi", "\"yes\"", "a b"])
        ),
        6 => writeln!(
            out,
            "images:\n- name: {}\n  {}: {}",
            dice.pick(&["nginx", "redis", "reg.example/team/app"]),
            dice.pick(&["newTag", "newName", "digest"]),
            dice.pick(&["v9", "other", "sha256:abc"])
        ),
        7 => writeln!(
            out,
            "configMapGenerator:\n- name: {}\n  behavior: {}\n  literals: [a=2, c=x]",
            dice.pick(NAMES),
            dice.pick(&["create", "merge", "replace"])
        ),
        8 => writeln!(
            out,
            "secretGenerator:\n- name: {}\n  literals: [p=q]",
            dice.pick(NAMES)
        ),
        9 => writeln!(
            out,
            "replicas:\n- name: {}\n  count: {}",
            dice.pick(NAMES),
            dice.below(9)
        ),
        _ => writeln!(
            out,
            "replacements:\n- source:\n    kind: {}\n    name: {}\n  targets:\n  - select:\n      kind: Deployment\n    fieldPaths:\n    - {}\n    options:\n      create: {}",
            objects[0].0,
            objects[0].1,
            dice.pick(&[
                "metadata.annotations.x",
                "spec.template.spec.containers.[name=main].image",
                "spec.replicas"
            ]),
            dice.one_in(2)
        ),
    };
}

fn patch(dice: &mut Random, out: &mut String, objects: &Objects) {
    let (kind, name) = objects[dice.below(objects.len())];
    let version = match kind {
        "Deployment" | "StatefulSet" => "apps/v1",
        "RoleBinding" => "rbac.authorization.k8s.io/v1",
        "Widget" => "example.com/v1",
        _ => "v1",
    };
    if dice.one_in(3) {
        let operation = dice.pick(&[
            "- op: add\n      path: /metadata/labels/z\n      value: \"1\"",
            "- op: add\n      path: /metadata/annotations/z\n      value: q",
            "- op: replace\n      path: /metadata/name\n      value: renamed",
            "- op: remove\n      path: /spec",
            "- op: add\n      path: /spec/template/spec/containers/-\n      value: {name: n, image: \"redis:2\"}",
        ]);
        let _ = writeln!(out, "- target:\n    kind: {kind}\n  patch: |-\n    {operation}");
        return;
    }
    let body = dice.pick(&[
        "spec:\n      replicas: 7\n      template:\n        spec:\n          containers:\n          - name: side\n            image: patched\n            env:\n            - name: A\n              value: p\n            - name: Z\n              value: z",
        "spec:\n      template:\n        spec:\n          containers:\n          - name: main\n            $patch: delete",
        "data:\n      a: null\n      n: \"3\"",
        "spec: null",
        "$patch: delete",
        "metadata2:\n      x: y",
        "spec:\n      ports:\n      - port: 80\n        targetPort: 8080\n      list: [z]",
        "spec:\n      template:\n        spec:\n          containers:\n          - $patch: replace\n          - name: only\n            image: one",
    ]);
    let _ = writeln!(
        out,
        "- patch: |-\n    apiVersion: {version}\n    kind: {kind}\n    metadata:\n      name: {name}\n    {body}"
    );
    if dice.one_in(3) {
        let _ = writeln!(
            out,
            "  target:\n    kind: {kind}\n    name: {}",
            dice.pick(&[name, ".*", "w.*|a.*"])
        );
    }
}
