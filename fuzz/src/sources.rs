//! Sources for kustomize.

use flotilla_render::kustomize::{Budget, MemoryTree, RenderInput, build};

use crate::text::limits;
use crate::{files, parts};

fn budget() -> Budget {
    Budget {
        steps: 200_000,
        yaml: flotilla_render::yaml::node::Limits {
            nodes: limits().nodes,
            ..Default::default()
        },
        ..Budget::default()
    }
}

fn render(tree: &MemoryTree) {
    if let Ok(rendered) = build(&RenderInput::new(tree, "", &budget())) {
        let _ = rendered.to_yaml();
    }
}

/// Builds the source that the input's files are.
pub(crate) fn kustomization(input: &[u8]) {
    let mut tree = MemoryTree::new();
    for (path, content) in files(input) {
        tree.insert(&path, content);
    }
    render(&tree);
}

/// The first part holds objects, the others a strategic merge patch and a JSON patch for all of them.
pub(crate) fn patches(input: &[u8]) {
    let [objects, merge, json] = parts(input);
    for (name, patch) in [("merge.yaml", merge), ("json.yaml", json)] {
        let mut tree = MemoryTree::new();
        tree.insert("objects.yaml", objects.as_str());
        tree.insert(name, patch);
        let kustomization =
            format!("resources: [objects.yaml]\npatches:\n- path: {name}\n  target: {{kind: .*}}\n");
        tree.insert("kustomization.yaml", kustomization);
        render(&tree);
    }
}
