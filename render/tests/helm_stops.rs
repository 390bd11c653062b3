//! Where a caller of Helm's engine is asked whether to stop: between the pieces of whatever may last, counted.

use std::cell::Cell;
use std::rc::Rc;

use flate2::Compression;
use flate2::write::GzEncoder;
use flotilla_render::helm::action::template;
use flotilla_render::helm::archive::{Budget, File, Limits};
use flotilla_render::helm::chart::Chart;
use flotilla_render::helm::context::{Context, Stop};
use flotilla_render_tests::rendered::first_install;

const CHART: &str = "apiVersion: v2\nname: c\nversion: 1.0.0\n";

/// Returns how often a caller is asked, once the first, the last and one answer between them were seen to end the work.
fn asked(work: impl Fn(Stop) -> Result<(), String>) -> usize {
    let until = |last: usize| {
        let asked = Rc::new(Cell::new(0));
        let counted = asked.clone();
        let done = work(Stop::new(move || {
            counted.set(counted.get() + 1);
            counted.get() == last
        }));
        (asked.get(), done)
    };
    let (times, done) = until(usize::MAX);
    done.expect("it is not stopped");
    for last in [1, times / 2, times] {
        let (asked, done) = until(last);
        let error = done.expect_err("it is stopped");
        assert!(error.contains("was stopped"), "{error}");
        assert_eq!(
            asked, last,
            "nothing goes on once the caller wants to stop: {error}"
        );
    }
    times
}

/// Returns how much more often a caller is asked of a hundred pieces than of ten.
fn asked_of_ninety(work: impl Fn(usize, Stop) -> Result<(), String>) -> usize {
    asked(|stop| work(100, stop)) - asked(|stop| work(10, stop))
}

fn files(count: usize) -> Vec<(String, String)> {
    let files = (0..count).map(|at| (format!("files/{at}.txt"), "a\n".to_owned()));
    [("Chart.yaml".to_owned(), CHART.to_owned())]
        .into_iter()
        .chain(files)
        .collect()
}

fn packed(files: &[(String, String)], fill: impl Fn(&mut tar::Builder<GzEncoder<Vec<u8>>>)) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, text) in files {
        append(&mut tar, &format!("c/{name}"), text.as_bytes());
    }
    fill(&mut tar);
    tar.into_inner()
        .and_then(GzEncoder::finish)
        .expect("memory takes it")
}

fn append(tar: &mut tar::Builder<GzEncoder<Vec<u8>>>, name: &str, data: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, data).expect("memory takes it");
}

fn unpacked(packed: &[u8], stop: &Stop) -> Result<(), String> {
    let budget = Budget::from(Limits::default()).until(stop);
    Chart::from_archive(packed, budget)
        .map(|_| ())
        .map_err(|error| chain(&error))
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[test]
fn a_caller_stops_the_loading_of_a_folder_between_its_files() {
    let times = asked_of_ninety(|count, stop| {
        let files = files(count);
        let files = files.iter().map(|(name, text)| File::new(name, text.as_bytes()));
        let budget = Budget::from(Limits::default()).until(&stop);
        Chart::from_directory(files.collect(), budget)
            .map(|_| ())
            .map_err(|error| error.to_string())
    });
    // Once where it is looked at whether each is ignored, and once where it is put to its place.
    assert_eq!(times, 2 * 90);
}

#[test]
fn a_caller_stops_the_loading_of_an_archive_between_its_pieces() {
    let times = asked_of_ninety(|count, stop| unpacked(&packed(&files(count), |_| {}), &stop));
    assert!(times >= 3 * 90, "{times}");
    // What is passed over takes as long as what is kept.
    let times = asked_of_ninety(|count, stop| {
        let folders = |tar: &mut tar::Builder<_>| {
            for at in 0..count {
                let mut header = tar::Header::new_ustar();
                header.set_entry_type(tar::EntryType::Directory);
                header.set_size(1 << 16);
                tar.append_data(&mut header, format!("c/d{at}"), &*vec![0; 1 << 16])
                    .expect("memory takes it");
            }
        };
        unpacked(&packed(&files(0), folders), &stop)
    });
    assert!(times >= 2 * 90, "{times}");
}

#[test]
fn a_caller_stops_the_loading_of_charts_below_a_chart() {
    let times = asked_of_ninety(|count, stop| {
        let mut below = files(count);
        below[0].1 = CHART.replace("name: c", "name: below");
        let below = packed(&below, |_| {});
        let all = packed(&files(0), |tar| append(tar, "c/charts/below.tgz", &below));
        unpacked(&all, &stop)
    });
    assert!(times >= 3 * 90, "{times}");
}

/// Renders a chart with a schema and a template until its caller stops.
fn rendered(schema: Option<&str>, source: &str, stop: Stop) -> Result<(), String> {
    let schema = schema.map(|schema| File::new("values.schema.json", schema.as_bytes()));
    let files = [
        File::new("Chart.yaml", CHART.as_bytes()),
        File::new("templates/a.yaml", source.as_bytes()),
    ];
    let files = files.into_iter().chain(schema).collect();
    let chart = Chart::from_directory(files, Limits::default()).expect("it is a chart");
    let context = Context {
        stop: Some(stop),
        ..Context::default()
    };
    template(&first_install(&chart, Default::default(), context))
        .map(|_| ())
        .map_err(|error| error.to_string())
}

#[test]
fn a_caller_stops_the_check_of_a_schema_between_its_patterns() {
    for (what, schema, least) in [
        // Each is measured, and translated.
        ("pattern", r#"{"properties": {"a": {"allOf": [ALL]}}}"#, 2),
        // And looked at for the properties that it may name.
        ("patternProperties", r#"{"patternProperties": {ALL}}"#, 3),
    ] {
        let times = asked_of_ninety(|count, stop| {
            let all: Vec<String> = (0..count)
                .map(|at| match what {
                    "pattern" => format!(r#"{{"pattern": "^a{at}$"}}"#),
                    _ => format!(r#""^a{at}$": {{}}"#),
                })
                .collect();
            rendered(Some(&schema.replace("ALL", &all.join(", "))), "", stop)
        });
        assert!(times >= least * 90, "{what}: {times}");
    }
    // Some that are larger than most are looked for among all.
    let large = |stop| {
        let patterns: Vec<String> = (0..10)
            .map(|at| format!(r#"{{"pattern": "^a{at}$"}}"#))
            .chain([r#"{"pattern": "\\pL{200}"}"#.to_owned()])
            .collect();
        let schema = format!(
            r#"{{"properties": {{"a": {{"allOf": [{}]}}}}}}"#,
            patterns.join(", ")
        );
        rendered(Some(&schema), "", stop)
    };
    assert!(asked(large) >= 3 * 11);
}

#[test]
fn a_caller_stops_the_reading_of_an_output_between_its_empty_documents() {
    let times = asked_of_ninety(|count, stop| rendered(None, &"---\n".repeat(count), stop));
    assert_eq!(times, 90);
}
