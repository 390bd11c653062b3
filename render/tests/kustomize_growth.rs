//! Eight times the objects may not take many times eight times the steps, in each shape of source that once did.
//!
//! Steps are charged where the engine loops, so that no busy machine decides.

use std::fmt::Write as _;

use flotilla_render::kustomize::{Budget, MemoryTree, RenderInput, build};

const SMALL: usize = 60;
const TIMES: usize = 8;
/// Above eight with its logarithm, and far below its square.
const BOUND: u64 = 16;

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

/// A component for each object, which patches it.
fn a_component_for_each(count: usize) -> MemoryTree {
    let objects: Vec<String> = (0..count)
        .map(|n| deployment(&format!("app-{n}"), "apps"))
        .collect();
    let names: String = (0..count).map(|n| format!("- ../c{n}\n")).collect();
    let mut tree = source(format!("components:\n{names}"), &objects);
    for n in 0..count {
        tree.insert(
            &format!("c{n}/kustomization.yaml"),
            format!(
                "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\npatches:\n- target: {{kind: Deployment, name: app-{n}}}\n  patch: '[{{\"op\": \"add\", \"path\": \"/spec/replicas\", \"value\": 2}}]'\n- patch: '{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: app-{n}, namespace: apps}}, spec: {{paused: true}}}}'\n"
            ),
        );
    }
    tree
}

fn steps(tree: &MemoryTree) -> u64 {
    build(&RenderInput::new(tree, "overlay", &Budget::default()))
        .expect("the source builds")
        .steps
}

/// One Deployment with so many rows of a list that merges by two keys, and a patch of a tenth of them.
fn one_large_list(count: usize) -> MemoryTree {
    let head = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec:\n  template:\n    spec:\n      containers:\n      - name: c\n        ports:\n";
    let row = |at: usize| format!("        - {{containerPort: {at}, protocol: TCP}}\n");
    let rows = |step: usize| (1..=count * 50).step_by(step).map(row).collect::<String>();
    let mut tree = source(
        "patches: [{path: p.yaml}]\n".to_owned(),
        &[format!("{head}{}", rows(1))],
    );
    tree.insert("overlay/p.yaml", format!("{head}{}", rows(10)));
    tree
}

/// One ConfigMap with so many fields, and a patch of a tenth of them.
fn one_large_map(count: usize) -> MemoryTree {
    let head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n";
    let rows = |step: usize| {
        let rows = (0..count * 50).step_by(step);
        rows.map(|at| format!("  k{at}: v{step}\n")).collect::<String>()
    };
    let mut tree = source(
        "patches: [{path: p.yaml}]\n".to_owned(),
        &[format!("{head}{}", rows(1))],
    );
    tree.insert("overlay/p.yaml", format!("{head}{}", rows(10)));
    tree
}

/// One object with so many annotations, and as many written over half of them.
fn many_annotations(count: usize) -> MemoryTree {
    let rows = |first: usize, indent: &str| {
        let rows = first..first + count * 20;
        rows.map(|at| format!("{indent}k{at}: v{first}\n"))
            .collect::<String>()
    };
    let object = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  annotations:\n{}",
        rows(0, "    ")
    );
    source(
        format!("commonAnnotations:\n{}", rows(count * 10, "  ")),
        &[object],
    )
}

/// One generator with a file of so many lines, merged into another.
fn one_large_file(count: usize) -> MemoryTree {
    let lines = |first: usize| {
        let lines = first..first + count * 50;
        lines.map(|at| format!("k{at}=v\n")).collect::<String>()
    };
    let mut tree = MemoryTree::new();
    tree.insert(
        "base/kustomization.yaml",
        "configMapGenerator: [{name: a, envs: [a.env]}]\n",
    );
    tree.insert("base/a.env", lines(0));
    tree.insert(
        "overlay/kustomization.yaml",
        "resources: [../base]\nconfigMapGenerator: [{name: a, behavior: merge, envs: [b.env]}]\n",
    );
    tree.insert("overlay/b.env", lines(25));
    tree
}

/// So many objects, and two hundred patches of which each looks at all of them.
fn patches_that_select_by_expression(count: usize) -> MemoryTree {
    let objects: Vec<String> = (0..count)
        .map(|n| deployment(&format!("app-{n}"), "apps"))
        .collect();
    let patches: String = (0..200)
        .map(|n| {
            format!(
                "- target: {{kind: Deployment, name: 'app-.*{n}'}}\n  patch: '[{{\"op\": \"add\", \"path\": \"/spec/replicas\", \"value\": {n}}}]'\n"
            )
        })
        .collect();
    source(format!("patches:\n{patches}"), &objects)
}

/// One object with so many fields, each added by an operation of one patch.
fn one_long_json_patch(count: usize) -> MemoryTree {
    let operations: String = (0..count * 50)
        .map(|n| format!("- {{op: add, path: /data/k{n}, value: v}}\n"))
        .collect();
    let mut tree = source(
        "patches: [{path: p.yaml, target: {kind: ConfigMap}}]\n".to_owned(),
        &["apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {}\n".to_owned()],
    );
    tree.insert("overlay/p.yaml", operations);
    tree
}

/// A binding of so many accounts, each in a namespace of its own.
fn one_binding_of_many_accounts(count: usize) -> MemoryTree {
    let mut objects: Vec<String> = (0..count).map(|n| account("app", &format!("team-{n}"))).collect();
    let subjects: String = (0..count)
        .map(|n| format!("- {{kind: ServiceAccount, name: app, namespace: team-{n}}}\n"))
        .collect();
    objects.push(format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: all, namespace: apps}}\nroleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}}\nsubjects:\n{subjects}"
    ));
    source("namePrefix: n-\n".to_owned(), &objects)
}

/// So many objects without a namespace, of which each refers to a name that as many namespaces have.
fn one_name_of_many_namespaces_referred_to_from_none(count: usize) -> MemoryTree {
    let objects: Vec<String> = (0..count)
        .flat_map(|n| {
            let role = format!(
                "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {{name: g-{n}, annotations: {{account: app}}}}\n"
            );
            [account("app", &format!("team-{n}")), role]
        })
        .collect();
    let mut tree = source("namePrefix: n-\nconfigurations: [c.yaml]\n".to_owned(), &objects);
    tree.insert(
        "overlay/c.yaml",
        "nameReference:\n- {kind: ServiceAccount, version: v1, fieldSpecs: [{kind: ClusterRole, path: metadata/annotations/account}]}\n",
    );
    tree
}

/// So many variables, each of an object of its own.
fn many_variables(count: usize) -> MemoryTree {
    let objects: Vec<String> = (0..count)
        .map(|n| deployment(&format!("app-{n}"), "apps"))
        .collect();
    let variables: String = (0..count)
        .map(|n| {
            format!("- {{name: V{n}, objref: {{apiVersion: apps/v1, kind: Deployment, name: app-{n}}}}}\n")
        })
        .collect();
    source(format!("vars:\n{variables}"), &objects)
}

#[test]
fn steps_grow_with_the_source_and_not_with_its_square() {
    let sources: [Source; 14] = [
        ("references", references),
        ("one name in many namespaces", one_name_in_many_namespaces),
        ("a merge patch for each object", a_merge_patch_for_each),
        (
            "patches of both kinds in turn",
            a_json_patch_and_a_merge_patch_in_turn,
        ),
        ("a component for each object", a_component_for_each),
        ("one large list", one_large_list),
        ("one large map", one_large_map),
        ("one large file", one_large_file),
        ("many annotations", many_annotations),
        (
            "patches that select by expression",
            patches_that_select_by_expression,
        ),
        ("one long JSON patch", one_long_json_patch),
        ("one binding of many accounts", one_binding_of_many_accounts),
        ("many variables", many_variables),
        (
            "one name of many namespaces referred to from none",
            one_name_of_many_namespaces_referred_to_from_none,
        ),
    ];
    for (what, source) in sources {
        let (small, large) = (steps(&source(SMALL)), steps(&source(SMALL * TIMES)));
        assert!(large < small * BOUND, "{what}: {small} steps grew to {large}");
        assert!(
            large > small * 4,
            "{what}: {small} steps grew to {large}: the work is not charged"
        );
    }
}
