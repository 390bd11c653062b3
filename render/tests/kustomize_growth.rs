//! Eight times the objects may not cost many times eight times the time, in each shape of source that once could.
//!
//! The bound is far above n log n and far below n²: it fails for a loop within a loop and not for a busy machine.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use flotilla_render::kustomize::{Budget, MemoryTree, RenderInput, build};

const SMALL: usize = 60;
const TIMES: usize = 8;
const BOUND: u32 = 32;

fn account(name: &str, namespace: &str) -> String {
    format!("apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}, namespace: {namespace}}}\n")
}

fn deployment(name: &str, namespace: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{selector: {{matchLabels: {{app: {name}}}}}, template: {{metadata: {{labels: {{app: {name}}}}}, spec: {{serviceAccountName: {name}, containers: [{{name: c, image: 'x:1', envFrom: [{{configMapRef: {{name: settings}}}}]}}]}}}}}}\n"
    )
}

fn binding(name: &str, account: &str, namespace: &str) -> String {
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {{name: {name}}}\nroleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}}\nsubjects: [{{kind: ServiceAccount, name: {account}, namespace: {namespace}}}]\n"
    )
}

type Source = (&'static str, fn(usize) -> MemoryTree);

fn source(overlay: String, objects: &[String]) -> MemoryTree {
    let mut tree = MemoryTree::new();
    tree.insert("base/kustomization.yaml", "resources: [all.yaml]\n");
    tree.insert("base/all.yaml", objects.join("---\n"));
    tree.insert(
        "overlay/kustomization.yaml",
        format!("resources: [../base]\n{overlay}"),
    );
    tree
}

fn references(count: usize) -> MemoryTree {
    let objects: Vec<String> = (0..count)
        .flat_map(|n| {
            let name = format!("app-{n}");
            [
                deployment(&name, "apps"),
                account(&name, "apps"),
                binding(&name, &name, "apps"),
            ]
        })
        .collect();
    let overlay = "namespace: north\nnamePrefix: n-\nlabels: [{pairs: {a: b}, includeSelectors: true}]\nimages: [{name: x, newTag: '2'}]\nconfigMapGenerator: [{name: settings, literals: [a=b]}]\n";
    source(overlay.to_string(), &objects)
}

fn one_name_in_many_namespaces(count: usize) -> MemoryTree {
    let objects: Vec<String> = (0..count)
        .flat_map(|n| {
            let namespace = format!("team-{n}");
            let name = format!("bind-{n}");
            [
                deployment("app", &namespace),
                account("app", &namespace),
                binding(&name, "app", &namespace),
            ]
        })
        .collect();
    source("namePrefix: n-\n".to_string(), &objects)
}

fn patches(count: usize, body: fn(&str) -> String) -> MemoryTree {
    let objects: Vec<String> = (0..count)
        .map(|n| deployment(&format!("app-{n}"), "apps"))
        .collect();
    let mut overlay = "patches:\n".to_string();
    for n in 0..count {
        let _ = write!(overlay, "{}", body(&format!("app-{n}")));
    }
    source(overlay, &objects)
}

fn a_merge_patch_for_each(count: usize) -> MemoryTree {
    patches(count, |name| {
        format!(
            "- patch: '{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}, namespace: apps}}, spec: {{replicas: 2}}}}'\n"
        )
    })
}

fn a_json_patch_and_a_merge_patch_in_turn(count: usize) -> MemoryTree {
    patches(count, |name| {
        format!(
            "- target: {{kind: Deployment, name: {name}}}\n  patch: '[{{\"op\": \"add\", \"path\": \"/spec/replicas\", \"value\": 2}}]'\n- patch: '{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}, namespace: apps}}, spec: {{paused: true}}}}'\n"
        )
    })
}

fn fastest(tree: &MemoryTree) -> Duration {
    let budget = Budget::default();
    let run = || {
        let began = Instant::now();
        build(&RenderInput::new(tree, "overlay", &budget)).expect("the source builds");
        began.elapsed()
    };
    (0..3).map(|_| run()).min().unwrap_or_default()
}

#[test]
fn time_grows_with_the_objects_and_not_with_their_square() {
    let sources: [Source; 4] = [
        ("references", references),
        ("one name in many namespaces", one_name_in_many_namespaces),
        ("a merge patch for each object", a_merge_patch_for_each),
        (
            "patches of both kinds in turn",
            a_json_patch_and_a_merge_patch_in_turn,
        ),
    ];
    for (what, source) in sources {
        let small = fastest(&source(SMALL));
        let large = fastest(&source(SMALL * TIMES));
        assert!(large < small * BOUND, "{what}: {small:?} grew to {large:?}");
    }
}
