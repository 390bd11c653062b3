//! Entries of one field that share a pass over the objects do what they do one after another.

use flotilla_render::kustomize::{Budget, MemoryTree, RenderInput, build};

const OBJECTS: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: a, labels: {app: a}}
spec:
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      initContainers: [{name: i, image: 'a:1'}]
      containers: [{name: c, image: 'a:1'}, {name: d, image: 'b@sha256:0f'}, {name: e, image: c.d/e}]
---
apiVersion: example.com/v1
kind: Part
metadata: {name: a}
spec: {deep: {containers: [{image: 'a:1'}, {image: 'cxd/e:2'}]}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: b}
spec: {replicas: 1, template: {spec: {volumes: [{image: {reference: 'a:1'}}]}}}
";

/// Builds the objects with one field after another, each in a kustomization above the one before.
fn built(fields: &[String]) -> String {
    let mut tree = MemoryTree::new();
    tree.insert("0/kustomization.yaml", "resources: [a.yaml]\n");
    tree.insert("0/a.yaml", OBJECTS);
    for (below, field) in fields.iter().enumerate() {
        let at = below + 1;
        tree.insert(
            &format!("{at}/kustomization.yaml"),
            format!("resources: [../{below}]\n{field}"),
        );
    }
    let last = fields.len().to_string();
    build(&RenderInput::new(&tree, &last, &Budget::default()))
        .expect("the source builds")
        .to_yaml()
}

#[test]
fn entries_together_do_what_they_do_one_after_another() {
    for (field, entries) in [
        (
            "images",
            &[
                "{name: a, newName: b}",
                "{name: b, newName: a, newTag: '2'}",
                "{name: a, tagSuffix: -x}",
                "{name: c.d/e, newTag: '3'}",
                "{name: 'c[x.]d/e', newName: a}",
                "{name: a, newName: b}",
            ][..],
        ),
        (
            "images",
            &[
                "{name: b, newName: c}",
                "{name: a, newName: b}",
                "{name: b, digest: 'sha256:1'}",
                "{name: b, tagSuffix: -y}",
                "{name: b, tagSuffix: -z}",
            ],
        ),
        (
            "replicas",
            &[
                "{name: a, count: 2}",
                "{name: b, count: 3}",
                "{name: a, count: 4}",
            ],
        ),
        (
            "labels",
            &[
                "{pairs: {app: b, z: w}, includeSelectors: true}",
                "{pairs: {app: c, a: b}, includeSelectors: true}",
                "{pairs: {app: d}}",
                "{pairs: {app: e, x: u}}",
                "{pairs: {x: z}, includeTemplates: true}",
                "{pairs: {x: w}, fields: [{path: spec/x, kind: Part, create: true}]}",
                "{pairs: {x: v}, fields: [{path: spec/y, kind: Part, create: true}]}",
                "{pairs: {app: f}, includeSelectors: true}",
            ],
        ),
    ] {
        let alone: Vec<String> = entries
            .iter()
            .map(|entry| format!("{field}: [{entry}]\n"))
            .collect();
        let together = format!("{field}: [{}]\n", entries.join(", "));
        assert_eq!(built(&[together]), built(&alone), "{field}");
    }
}
