//! The page of all figures, as Markdown. Rows of an older page whose figures no results file has are kept, so that
//! a fresh clone which measures one figure does not drop the rest.

use std::collections::BTreeMap;

use crate::{Conditions, Figure};

const HEAD: &str = "# Benchmarks

Written by `make bench`, which merges each figure that it takes into this table. Processors are shared by all that
takes part in a measurement: wall times are noisy, and only those of one run may be compared. A gate that is missed
fails `make bench`, after everything is written.

| figure | value | unit | peer | gate | what it is made of | measured on |
|---|---|---|---|---|---|---|
";

/// Returns the page with `figures` in it, and the rows of `older` for all other names.
pub(crate) fn page<'a>(figures: impl Iterator<Item = (&'a Figure, &'a Conditions)>, older: &str) -> String {
    let mut rows: BTreeMap<String, String> = older.lines().filter_map(named_row).collect();
    rows.extend(figures.map(|(figure, conditions)| (figure.name.clone(), row(figure, conditions))));
    let mut page = HEAD.to_owned();
    for row in rows.values() {
        page.push_str(row);
        page.push('\n');
    }
    page
}

fn named_row(line: &str) -> Option<(String, String)> {
    let (name, _) = line.strip_prefix("| `")?.split_once("` |")?;
    Some((name.to_owned(), line.to_owned()))
}

fn row(figure: &Figure, conditions: &Conditions) -> String {
    let peer = figure.peer.map_or("-".to_owned(), rounded);
    let gate = figure.gate.map_or("-".to_owned(), |gate| {
        let verdict = if gate.is_met_by(figure.value) {
            "met"
        } else {
            "**missed**"
        };
        format!("{gate}: {verdict}")
    });
    format!(
        "| `{}` | {} | {} | {peer} | {gate} | {} | {conditions} |",
        figure.name,
        rounded(figure.value),
        figure.unit,
        figure.note.replace('|', "\\|").replace('\n', " ")
    )
}

/// Three decimals at most, none of them a zero that says nothing.
pub(crate) fn rounded(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions() -> Conditions {
        Conditions {
            date: "2026-11-30".to_owned(),
            processors: 2,
            memory: 24 << 30,
            kernel: "Linux 6.12".to_owned(),
            build: "release".to_owned(),
        }
    }

    #[test]
    fn rows_state_gates_and_conditions() {
        let conditions = conditions();
        let met = Figure::new("a_ratio", 1097.0, "ratio", "5 runs | median")
            .peer(0.25)
            .at_least(10.0);
        let missed = Figure::new("b_ratio", 0.6, "ratio", "once").at_most(0.5);
        let page = page([(&missed, &conditions), (&met, &conditions)].into_iter(), "");
        let on = "2026-11-30: 2 processors, 24 GiB, Linux 6.12, release build";
        let expected = format!(
            "| `a_ratio` | 1097 | ratio | 0.25 | >= 10: met | 5 runs \\| median | {on} |\n\
             | `b_ratio` | 0.6 | ratio | - | <= 0.5: **missed** | once | {on} |\n"
        );
        assert!(page.ends_with(&expected), "{page}");
    }

    #[test]
    fn rows_of_other_names_outlive_a_run() {
        let conditions = conditions();
        let older = "| `a` | 1 | s | - | - | old | then |\n| `b` | 2 | s | - | - | old | then |\n";
        let page = page(
            [(&Figure::new("b", 3.0, "s", "new"), &conditions)].into_iter(),
            older,
        );
        assert!(page.contains("| `a` | 1 | s |"), "{page}");
        assert!(page.contains("| `b` | 3 | s |"), "{page}");
        assert_eq!(page.matches("| `b` |").count(), 1, "{page}");
    }
}
