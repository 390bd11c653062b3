//! Holds `docs/reference/kustomize-differences.md` against tests: each row is bound by a fixture, or by the test of
//! another suite where no source that stands in memory shows it.

use std::collections::BTreeMap;
use std::path::Path;

use super::corpus::{self, Case, Expected, Made};
use super::oracle::Oracle;
use super::{compare, require_agreement};

const TABLE: &str = "docs/reference/kustomize-differences.md";

/// The first words of rows, with the suite and the test that bind them.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    (
        "`--timeout` of `flotilla kustomize`",
        "cli/tests/cli/deadline.rs",
        "a_build_ends_at_its_time_and_names_its_directory",
    ),
    (
        "Remote resources and components",
        "render/tests/kustomize_errors.rs",
        "what_is_remote_is_named_with_field_and_line",
    ),
    (
        "`helmCharts`",
        "render/tests/kustomize_bounds.rs",
        "charts_are_refused_with_field_and_remedy",
    ),
    (
        "Absolute paths, links out of the source",
        "render/tests/kustomize_bounds.rs",
        "links_out_of_the_source_and_in_circles_are_refused",
    ),
    (
        "A path of `resources` that reads like an address",
        "render/tests/kustomize_errors.rs",
        "a_path_that_reads_like_an_address_is_read_where_it_is_there",
    ),
    (
        "Kustomizations within each other",
        "render/tests/kustomize_bounds.rs",
        "kustomizations_that_nest_past_the_budget_are_refused",
    ),
    (
        "Documents deeper than 100 levels",
        "render/tests/kustomize_bounds.rs",
        "yaml_that_nests_past_the_budget_is_refused",
    ),
    (
        "`test` of a list that holds null",
        "render/tests/kustomize_bounds.rs",
        "a_test_of_a_list_that_holds_null_is_answered",
    ),
    (
        "`needsHashSuffix` in an annotation",
        "render/tests/kustomize_bounds.rs",
        "the_hash_of_other_kinds_is_that_of_their_content",
    ),
    (
        "Lines above 64 KiB",
        "render/tests/kustomize/differences.rs",
        "a_long_line_of_variables_ends_nothing",
    ),
    (
        "Warnings about deprecated fields",
        "cli/tests/cli/offline.rs",
        "a_deprecated_chart_and_deprecated_fields_are_warned_of_beside_the_output",
    ),
    (
        "`--as-current-user`",
        "cli/tests/cli/drop_in.rs",
        "every_flag_of_kustomize_build_is_taken_or_refused_with_its_reason",
    ),
    (
        "`--enable-managedby-label`",
        "cli/tests/cli/drop_in.rs",
        "every_flag_of_kustomize_build_is_taken_or_refused_with_its_reason",
    ),
    (
        "`-o` of a directory",
        "cli/tests/cli/kustomize.rs",
        "files_of_objects_are_written_in_the_folder_only_and_through_no_link",
    ),
    (
        "`--stack-trace`",
        "cli/tests/cli/drop_in.rs",
        "every_flag_of_kustomize_build_is_taken_or_refused_with_its_reason",
    ),
    (
        "A kustomization that is a link",
        "cli/tests/cli/kustomize.rs",
        "links_and_folders_in_the_place_of_a_kustomization_are_taken_as_kustomize_takes_them",
    ),
    (
        "A manifest or folder that cannot be read",
        "cli/tests/cli/kustomize.rs",
        "what_stands_there_and_cannot_be_read_is_named_with_the_reason_and_fails_the_build",
    ),
    (
        "Notice that `--reorder` is deprecated",
        "cli/tests/cli/drop_in.rs",
        "of_a_flag_that_is_given_twice_kustomize_takes_the_last",
    ),
    (
        "Exit code of a wrong usage",
        "cli/tests/cli/offline.rs",
        "wrong_usage_has_its_own_exit_code_and_a_suggestion",
    ),
    (
        "A directory without a kustomization",
        "cli/tests/cli/offline.rs",
        "a_directory_without_kustomization_gets_the_one_flux_would_write",
    ),
    (
        "Texts of error messages",
        "render/tests/kustomize_errors.rs",
        "files_that_a_field_lists_are_named_with_their_place_in_it",
    ),
];

fn text_of(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn each_row_of_the_table_is_bound_by_a_test() {
    let table = text_of(TABLE);
    let rows: Vec<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| "))
        .filter_map(|line| line.split(" | ").next())
        .filter(|row| *row != "What")
        .collect();
    let cases = corpus::cases();
    let fixtures = cases.iter().filter_map(|case| match &case.expected {
        Expected::Differs { row, .. } => Some(row.as_str()),
        _ => None,
    });
    let named = ELSEWHERE.iter().map(|(row, suite, test)| {
        assert!(
            text_of(suite).contains(&format!("fn {test}(")),
            "{suite} has no {test}"
        );
        *row
    });
    let bound: Vec<&str> = fixtures.chain(named).collect();
    for words in &bound {
        let count = rows.iter().filter(|row| row.starts_with(words)).count();
        assert_eq!(count, 1, "rows that begin with {words:?}");
    }
    // One who looks at a few cases knows which.
    if std::env::var_os("KUSTOMIZE_ONLY").is_none() {
        let free: Vec<&&str> = rows
            .iter()
            .filter(|row| !bound.iter().any(|words| row.starts_with(words)))
            .collect();
        assert!(rows.len() > 20 && free.is_empty(), "bound by no test: {free:#?}");
    }
}

#[test]
fn a_long_line_of_variables_ends_nothing() {
    let variables = format!("A={}\nB=2\n", "x".repeat(70_000));
    let case = Case {
        name: "long line".to_owned(),
        directory: String::new(),
        files: BTreeMap::from([
            (
                "kustomization.yaml".to_owned(),
                "configMapGenerator: [{name: a, envs: [e]}]\n".to_owned(),
            ),
            ("e".to_owned(), variables),
        ]),
        expected: Expected::Differs {
            row: "Lines above 64 KiB".to_owned(),
            theirs: Made::Builds("apiVersion: v1\nkind: ConfigMap\n".to_owned()),
            ours: Made::Builds("\n  B: \"2\"\n".to_owned()),
        },
    };
    require_agreement("a long line", &[compare(&mut Oracle::start(), &case)], 100);
}
