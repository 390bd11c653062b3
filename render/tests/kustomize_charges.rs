//! What is gone through for each object, each patch or each piece of a text is charged, and so ends when the caller
//! says so.

use std::cell::Cell;

use flotilla_render::kustomize::{
    Budget, BuildError, GenerateError, GenerateOptions, MemoryTree, RenderInput, Rendered, build, generate,
};

const OBJECT: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n";

fn built(kustomization: &str, objects: &str) -> Rendered {
    let tree = tree(kustomization, objects);
    build(&RenderInput::new(&tree, "", &Budget::default())).expect("it builds")
}

fn tree(kustomization: &str, objects: &str) -> MemoryTree {
    let mut tree = MemoryTree::new();
    tree.insert(
        "kustomization.yaml",
        format!("resources: [a.yaml]\n{kustomization}"),
    );
    tree.insert("a.yaml", objects);
    tree
}

/// So many objects of a name that begins like that.
fn objects(count: usize, more: &str) -> String {
    let objects: Vec<String> = (0..count)
        .map(|at| format!("{}{more}", OBJECT.replace("name: a", &format!("name: a{at}"))))
        .collect();
    objects.join("---\n")
}

fn listed(count: usize, entry: impl Fn(usize) -> String) -> String {
    (0..count).map(entry).collect::<Vec<_>>().join(", ")
}

/// Holds that ten times as much takes ten times the steps, and that each takes at least one.
fn assert_linear(what: &str, count: usize, steps: impl Fn(usize) -> u64) {
    let (small, large) = (steps(count), steps(10 * count));
    let each = u64::try_from(count).expect("a number of 64 bits");
    assert!(
        large >= small + 9 * each,
        "{what}: {small} steps, {large} for ten times as many"
    );
    assert!(
        large < 12 * small,
        "{what}: {small} steps, {large} for ten times as many"
    );
}

#[test]
fn each_piece_of_a_text_with_variables_is_charged() {
    let vars = "vars: [{name: A, objref: {apiVersion: v1, kind: Pod, name: p}, fieldref: {fieldpath: metadata.name}}]\n";
    for piece in ["$(", "$(B)", "$$", "$x"] {
        assert_linear(piece, 2_000, |count| {
            let args = piece.repeat(count);
            let pod = format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {{containers: [{{name: c, args: ['{args}']}}]}}\n"
            );
            built(vars, &pod).steps
        });
    }
}

#[test]
fn variables_are_put_in_up_to_the_last_that_ends() {
    let vars = "vars: [{name: A, objref: {apiVersion: v1, kind: Pod, name: p}, fieldref: {fieldpath: metadata.name}}]\n";
    for (text, expanded) in [
        ("$(A)", "p"),
        ("x$(A)y$(", "xpy$("),
        ("$(A)$(A", "p$(A"),
        ("$((A)", "$((A)"),
        ("$$(A)$(A)$$", "$(A)p$"),
        (")$(", ")$("),
        ("$(B)$(A)", "$(B)p"),
        ("$($(A)", "$($(A)"),
        ("$)", "$)"),
    ] {
        let pod = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {{containers: [{{name: c, args: ['{text}']}}]}}\n"
        );
        let rendered = built(vars, &pod);
        assert_eq!(
            rendered.objects[0].value["spec"]["containers"][0]["args"][0], expanded,
            "{text}"
        );
    }
}

#[test]
fn each_reject_is_charged_for_each_object() {
    let steps = |rejects: usize, count: usize| {
        let rejects = listed(rejects, |at| format!("{{name: 'a[0-9]+b{at}'}}"));
        let replacement = format!(
            "replacements:\n- sourceValue: x\n  targets: [{{select: {{kind: ConfigMap}}, reject: [{rejects}], fieldPaths: [data.x], options: {{create: true}}}}]\n"
        );
        built(&replacement, &objects(count, "")).steps
    };
    let (without, with) = (steps(0, 100), steps(100, 100));
    assert!(with >= without + 100 * 100, "{without} without, {with}");
}

#[test]
fn a_caller_stops_a_build_between_expressions_of_one_target() {
    let rejects = listed(200, |at| format!("{{name: 'a[0-9]+b{at}'}}"));
    let tree = tree(
        &format!(
            "replacements:\n- sourceValue: x\n  targets: [{{select: {{kind: ConfigMap}}, reject: [{rejects}], fieldPaths: [data.x], options: {{create: true}}}}]\n"
        ),
        OBJECT,
    );
    let asked = Cell::new(0);
    let count = |end: usize| {
        asked.set(0);
        let stop = || {
            asked.set(asked.get() + 1);
            asked.get() > end
        };
        let budget = Budget::default();
        let input = RenderInput {
            stop: Some(&stop),
            ..RenderInput::new(&tree, "", &budget)
        };
        build(&input).map(|_| asked.get())
    };
    assert!(count(usize::MAX).expect("it builds") > 200);
    assert_eq!(count(100), Err(BuildError::Cancelled));
}

/// Returns how often a caller is asked, once each answer was seen to end the work.
fn asked<E: PartialEq + std::fmt::Debug>(
    tree: &MemoryTree,
    work: impl Fn(&RenderInput<'_>) -> Result<(), E>,
    is_stopped: impl Fn(&E) -> bool,
) -> usize {
    let until = |last: usize| {
        let asked = Cell::new(0);
        let stop = || {
            asked.set(asked.get() + 1);
            asked.get() == last
        };
        let budget = Budget::default();
        let input = RenderInput {
            stop: Some(&stop),
            ..RenderInput::new(tree, "", &budget)
        };
        let done = work(&input);
        (asked.get(), done)
    };
    let (times, done) = until(usize::MAX);
    done.expect("it is not stopped");
    for last in 1..=times {
        let (asked, done) = until(last);
        assert!(
            done.as_ref().is_err_and(&is_stopped),
            "of {times} answers {last}: {done:?}"
        );
        assert_eq!(asked, last, "nothing goes on once the caller wants to stop");
    }
    times
}

#[test]
fn a_caller_stops_a_build_between_the_files_that_it_reads() {
    let times = |count: usize| {
        let files = listed(count, |at| format!("f{at}.txt"));
        let more = format!("components: [c]\nconfigMapGenerator: [{{name: g, files: [{files}]}}]\n");
        let mut tree = tree(&more, OBJECT);
        for at in 0..count {
            tree.insert(&format!("f{at}.txt"), "x");
        }
        tree.insert("c/kustomization.yaml", "kind: Component\nnamePrefix: c-\n");
        asked(
            &tree,
            |input| build(input).map(|_| ()),
            |error| *error == BuildError::Cancelled,
        )
    };
    let (few, many) = (times(2), times(12));
    assert!(many >= few + 2 * 10, "{few} and {many}");
}

#[test]
fn a_caller_stops_the_listing_of_manifests_between_files_of_any_kind() {
    let times = |count: usize| {
        let mut tree = MemoryTree::new();
        tree.insert("a.yaml", OBJECT);
        tree.insert("b/kustomization.yaml", "resources: [a.yaml]\n");
        for at in 0..count {
            tree.insert(&format!("f{at}.txt"), "x");
            tree.insert_link(&format!("l{at}"), "nowhere");
        }
        asked(
            &tree,
            |input| {
                generate(input, &GenerateOptions::default())
                    .map(|_| ())
                    .map_err(|error| error.to_string())
            },
            |error| *error == GenerateError::Cancelled.to_string(),
        )
    };
    let (few, many) = (times(2), times(12));
    assert!(many >= few + 2 * 10, "{few} and {many}");
}

#[test]
fn expressions_that_are_kept_are_counted_as_long_as_they_are() {
    let build_with = |pattern: &str, targets: usize, output: usize| {
        let rejects = listed(40, |at| format!("{{name: '{pattern}b{at}'}}"));
        let targets = listed(targets, |_| {
            format!(
                "{{select: {{kind: ConfigMap}}, reject: [{rejects}], fieldPaths: [data.x], options: {{create: true}}}}"
            )
        });
        let tree = tree(
            &format!("replacements:\n- sourceValue: x\n  targets: [{targets}]\n"),
            OBJECT,
        );
        let budget = Budget {
            output,
            ..Budget::default()
        };
        build(&RenderInput::new(&tree, "", &budget)).map(|rendered| rendered.objects.len())
    };
    // Letters of all scripts, so often: half a megabyte each, which 40 do not fit into 8.
    let error = build_with("\\pL{9}", 1, 8 << 20).expect_err("they are large");
    assert!(error.to_string().contains("bytes of text"), "{error}");
    assert_eq!(build_with("[a-z]+", 1, 8 << 20), Ok(1));
    // A megabyte for each target, whose rejects go before the next one's are compiled.
    assert_eq!(build_with("[a-z]+", 10, 8 << 20), Ok(1));
}

#[test]
fn an_expression_is_charged_for_a_long_name() {
    let steps = |length: usize| {
        let object = OBJECT.replace("name: a", &format!("name: {}", "a".repeat(length)));
        built(
            "patches: [{target: {name: '[a-z]+x'}, patch: '[{\"op\": \"add\", \"path\": \"/data\", \"value\": {}}]'}]\n",
            &object,
        )
        .steps
    };
    assert_linear("bytes of a name", 2_000, |length| {
        // At worst every state is gone through at each of them.
        steps(length * 64)
    });
}

#[test]
fn each_label_is_looked_for_by_steps_and_each_value_at_once() {
    let steps = |values: usize, labels: usize| {
        let values = listed(values, |at| format!("v{at}"));
        let labels = listed(labels, |at| format!("k{at}: v"));
        let object =
            format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a, labels: {{{labels}}}}}\n");
        built(
            &format!(
                "patches: [{{target: {{labelSelector: 'k0 in ({values}), l1, l2, l3, l4, l5, l6, l7, l8'}}, patch: '[{{\"op\": \"add\", \"path\": \"/data\", \"value\": {{}}}}]'}}]\n"
            ),
            &object,
        )
        .steps
    };
    let (few, many) = (steps(10, 100), steps(10, 1100));
    // Beside what reading them takes: nine requirements, each of which looks through all in steps of eight.
    assert!(many >= few + 1000 + 9 * 1000 / 8, "{few} and {many}");
    let (few, many) = (steps(10, 1), steps(1010, 1));
    assert!(many < few + 1000, "{few} and {many}");
}

#[test]
fn lists_of_few_items_are_charged_however_they_nest() {
    let steps = |levels: usize| {
        let nested = (0..levels).fold("{a: b}".to_owned(), |inner, _| {
            format!("[{}]", vec![inner; 8].join(", "))
        });
        let object = format!("{OBJECT}x: {nested}\n");
        let with = built("labels: [{pairs: {l: m}, fields: [{path: x/none/l}]}]\n", &object);
        with.steps - built("", &object).steps
    };
    let (one, four) = (steps(1), steps(4));
    assert!(four >= one + 8 * 8 * 8 * 8, "{one} for a level, {four} for four");
}

#[test]
fn an_object_with_labels_is_looked_through_by_steps_behind_each_patch() {
    let steps = |labels: &str| {
        let patch = "- {patch: '{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {b: c}}'}\n";
        let data = listed(1000, |at| format!("k{at}: v"));
        // A patch behind the labels that another kustomization wrote.
        let mut tree = MemoryTree::new();
        tree.insert(
            "kustomization.yaml",
            format!("resources: [b]\npatches:\n{}", patch.repeat(100)),
        );
        tree.insert("b/kustomization.yaml", format!("resources: [a.yaml]\n{labels}"));
        tree.insert("b/a.yaml", format!("{OBJECT}data: {{{data}}}\n"));
        let budget = Budget::default();
        build(&RenderInput::new(&tree, "", &budget))
            .expect("it builds")
            .steps
    };
    let (without, with) = (steps(""), steps("commonLabels: {l: m}\n"));
    assert!(
        with >= without + 100 * 1000 / 8,
        "{without} without labels, {with}"
    );
}

#[test]
fn a_kind_is_found_in_an_order_at_once() {
    let steps = |kinds: usize, count: usize| {
        let kinds = listed(kinds, |at| format!("K{at}"));
        built(
            &format!(
                "sortOptions: {{order: legacy, legacySortOptions: {{orderFirst: [{kinds}], orderLast: []}}}}\n"
            ),
            &objects(count, ""),
        )
        .steps
    };
    let (small, large) = (steps(1000, 100), steps(10_000, 1000));
    assert!(large >= small + 9000 + 900, "{small} and {large}");
    assert!(large < 12 * small, "{small} and {large}");
}

#[test]
fn kinds_stand_where_the_last_place_in_an_order_has_them() {
    let object = |kind: &str| format!("apiVersion: v1\nkind: {kind}\nmetadata: {{name: a}}\n");
    let all = ["A", "B", "C", "D", "E"].map(object).join("---\n");
    let rendered = built(
        "sortOptions: {order: legacy, legacySortOptions: {orderFirst: [C, B, C, E], orderLast: [A, E, A]}}\n",
        &all,
    );
    let kinds: Vec<&str> = rendered
        .objects
        .iter()
        .filter_map(|object| object.value["kind"].as_str())
        .collect();
    assert_eq!(kinds, ["B", "C", "D", "E", "A"]);
}

#[test]
fn a_name_is_remembered_once_however_many_patches_keep_it() {
    assert_linear("patches", 100, |count| {
        let patch = "- {target: {kind: ConfigMap}, patch: '[{\"op\": \"add\", \"path\": \"/data\", \"value\": {\"a\": \"b\"}}]'}\n";
        built(&format!("patches:\n{}", patch.repeat(count)), OBJECT).steps
    });
}

#[test]
fn names_that_an_object_had_still_find_it() {
    let rename = |to: &str| {
        format!(
            "- {{target: {{kind: ConfigMap}}, patch: '[{{\"op\": \"replace\", \"path\": \"/metadata/name\", \"value\": \"{to}\"}}]'}}\n"
        )
    };
    let patches: String = ["b", "a", "b", "c"].into_iter().map(rename).collect();
    for name in ["a", "b", "c"] {
        let last = format!(
            "- {{target: {{name: {name}}}, patch: '[{{\"op\": \"add\", \"path\": \"/data\", \"value\": {{\"found\": \"{name}\"}}}}]'}}\n"
        );
        let rendered = built(&format!("patches:\n{patches}{last}"), OBJECT);
        let expected = match name {
            // A target finds an object by its first name and by its present one.
            "b" => None,
            name => Some(name),
        };
        assert_eq!(
            rendered.objects[0].value["data"]["found"].as_str(),
            expected,
            "{name}"
        );
    }
}

#[test]
fn a_piece_of_a_text_is_replaced_where_its_delimiters_say() {
    for (text, index, replaced) in [
        ("a,b,c", 0, "X,b,c"),
        ("a,b,c", 1, "a,X,c"),
        ("a,b,c", 2, "a,b,X"),
        ("a,b,c", 3, "a,b,c,X"),
        ("a,b,c", 9, "a,b,c,X"),
        ("a,b,c", -1, "X,a,b,c"),
        (",", 1, ",X"),
        (",", 0, "X,"),
        ("", 0, "X"),
        ("", 1, ",X"),
    ] {
        let replacement = format!(
            "replacements:\n- sourceValue: X\n  targets: [{{select: {{kind: ConfigMap}}, fieldPaths: [data.a], options: {{delimiter: ',', index: {index}}}}}]\n"
        );
        let rendered = built(&replacement, &format!("{OBJECT}data: {{a: '{text}'}}\n"));
        assert_eq!(
            rendered.objects[0].value["data"]["a"], replaced,
            "{text} at {index}"
        );
    }
}

#[test]
fn a_value_is_put_into_a_path_at_its_position() {
    for (text, position, placed) in [
        ("/a/b", 1, "/v/a/b"),
        ("/a/b", 2, "/a/v/b"),
        ("/a/b", 3, "/a/b/v"),
        ("/a/b", 9, "/a/b/v"),
        ("a//./b", 2, "a/v/b"),
        ("a//./b", 4, "a/v/b"),
        ("/", 1, "/v"),
        ("a", 1, "v/a"),
        ("", 1, "v"),
    ] {
        let transformer = format!(
            "transformers: ['{{apiVersion: builtin, kind: ValueAddTransformer, metadata: {{name: x}}, value: v, targets: [{{fieldPath: data/a, filePathPosition: {position}}}]}}']\n"
        );
        let rendered = built(&transformer, &format!("{OBJECT}data: {{a: '{text}'}}\n"));
        assert_eq!(
            rendered.objects[0].value["data"]["a"], placed,
            "{text} at {position}"
        );
    }
}

#[test]
fn a_text_that_replacements_write_again_takes_the_bytes_of_one() {
    let fields: String = (0..200).map(|at| format!("    k{at}: v\n")).collect();
    let object = format!("{OBJECT}data:\n  t: |\n{fields}");
    // The bytes that a build needs, to within a twentieth.
    let needed = |kustomization: &str| {
        let tree = tree(kustomization, &object);
        let (mut less, mut enough) = (0, 1 << 20);
        while enough - less > enough / 20 {
            let budget = Budget {
                output: (less + enough) / 2,
                ..Budget::default()
            };
            match build(&RenderInput::new(&tree, "", &budget)) {
                Ok(_) => enough = budget.output,
                Err(BuildError::TooLarge { .. }) => less = budget.output,
                Err(error) => panic!("{error}"),
            }
        }
        enough
    };
    let paths = |count: usize| {
        let paths = listed(count, |at| format!("data.t.k{at}"));
        format!(
            "replacements: [{{sourceValue: w, targets: [{{select: {{kind: ConfigMap}}, fieldPaths: [{paths}]}}]}}]\n"
        )
    };
    // What is read of the text takes more than 60 paths do, and is there once at a time.
    let (one, many) = (needed(&paths(1)), needed(&paths(60)));
    assert!(many < 2 * one, "{one} bytes grew to {many}");
    // What a text gets more is taken.
    let value = "x".repeat(20_000);
    let written = |count: usize| {
        let paths = listed(count, |at| format!("data.t.k{at}"));
        format!(
            "replacements: [{{sourceValue: {value}, targets: [{{select: {{kind: ConfigMap}}, fieldPaths: [{paths}]}}]}}]\n"
        )
    };
    let (one, many) = (needed(&written(1)), needed(&written(10)));
    assert!(
        many > one + 160_000,
        "{one} bytes grew to {many}: a text is not charged"
    );
}
