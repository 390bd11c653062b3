//! The property behind reuse: as long as a tree holds what a build read, building it gives the same result.

use flotilla_render::kustomize::{Budget, MemoryTree, ReadSet, RenderInput, Rendered, build};

use crate::corpus::{self, Case};
use crate::random;

/// A change of a source.
enum Edit<'a> {
    Append(&'a str),
    Replace(&'a str),
    Remove(&'a str),
    Add(String),
}

fn tree(case: &Case, edit: Option<&Edit<'_>>) -> MemoryTree {
    let mut tree = MemoryTree::new();
    for (path, text) in &case.files {
        match edit {
            Some(Edit::Remove(removed)) if *removed == path => {}
            Some(Edit::Append(changed)) if *changed == path => {
                tree.insert(path, format!("{text}\n# more\nadded: x\n"));
            }
            Some(Edit::Replace(changed)) if *changed == path => {
                tree.insert(path, text.replace('a', "b"));
            }
            _ => tree.insert(path, text.as_str()),
        }
    }
    if let Some(Edit::Add(path)) = edit {
        tree.insert(path, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: added}\n");
    }
    tree
}

fn edits(case: &Case) -> Vec<Edit<'_>> {
    let mut edits = Vec::new();
    for path in case.files.keys() {
        edits.extend([Edit::Append(path), Edit::Replace(path), Edit::Remove(path)]);
        let folder = path
            .rsplit_once('/')
            .map_or(String::new(), |(folder, _)| format!("{folder}/"));
        for name in ["kustomization.yml", "Kustomization", "unnamed.yaml"] {
            edits.push(Edit::Add(format!("{folder}{name}")));
        }
    }
    edits
}

fn render(case: &Case, tree: &MemoryTree) -> Option<Rendered> {
    build(&RenderInput::new(tree, &case.directory, &Budget::default())).ok()
}

#[test]
fn a_result_is_reusable_while_nothing_it_read_has_changed() {
    let (mut kept, mut dropped) = (0, 0);
    let fixtures = corpus::cases().into_iter().step_by(6);
    for case in fixtures.chain((0..40).map(random::case)) {
        let Some(before) = render(&case, &tree(&case, None)) else {
            continue;
        };
        assert!(before.reads.is_current(&tree(&case, None)), "{}", case.name);
        for edit in edits(&case) {
            let edited = tree(&case, Some(&edit));
            if !before.reads.is_current(&edited) {
                dropped += 1;
                continue;
            }
            kept += 1;
            let after = render(&case, &edited);
            assert_eq!(
                after.as_ref().map(|r| &r.objects),
                Some(&before.objects),
                "{}",
                case.name
            );
            assert_eq!(
                after.map(|r| r.reads.digest()),
                Some(before.reads.digest()),
                "{}",
                case.name
            );
        }
    }
    // Both happen often, or the property would hold for no reason.
    assert!(kept > 100 && dropped > 1000, "{kept} kept, {dropped} dropped");
}

#[test]
fn a_stored_read_set_is_the_one_that_was_recorded() {
    let built = |seed| {
        let case = random::case(seed);
        render(&case, &tree(&case, None))
    };
    let rendered = (0..100).find_map(built).expect("one of them builds");
    let stored = serde_json::to_string(&rendered.reads).expect("a read set is data");
    let read: ReadSet = serde_json::from_str(&stored).expect("what was stored is read again");
    assert_eq!(read, rendered.reads);
    assert_eq!(read.digest(), rendered.reads.digest());
}
