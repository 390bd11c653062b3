//! Renders the charts of `charts/` as `charts/cases.txt` says, and with random values, and compares each byte
//! with what Helm prints.

use std::collections::BTreeMap;

use flotilla_render::helm::archive::{File, Limits};
use flotilla_render::helm::capabilities::{Capabilities, KubeVersion};
use flotilla_render::helm::chart::Chart;
use flotilla_render::helm::context::Context;
use flotilla_render::helm::driver::{Output, RenderInput, template};
use flotilla_render::helm::scope::Release;
use flotilla_render::helm::values::Sources;
use flotilla_render_tests::charts::{Expected, Files, read_chart, renderings, theirs};
use flotilla_render_tests::{Oracle, Random, cases, seed};
use serde_json::{Value as Json, json};

/// How many renderings with random values there are, for all charts together.
const RANDOM_VALUES: usize = 430;

#[test]
fn charts_render_to_what_helm_prints() {
    let mut oracle = Oracle::start();
    let mut charts: BTreeMap<String, bool> = BTreeMap::new();
    let (mut equal, mut total, mut same_error, mut errors) = (0, 0, 0, 0);
    let mut differences = String::new();
    for (chart, flags, expected) in renderings() {
        let files = read_chart(&chart);
        let theirs = theirs(&mut oracle, &files, &flags);
        let ours = ours(&files, &flags);
        total += 1;
        let agrees = match (&ours, &theirs, &expected) {
            (Ok(ours), Ok(theirs), Expected::Builds) => ours == theirs,
            (Err(ours), Err(theirs), Expected::Fails(words)) => {
                errors += 1;
                same_error += usize::from(theirs.starts_with(ours.as_str()));
                theirs.contains(words.as_str()) && ours.contains(words.as_str())
            }
            _ => false,
        };
        equal += usize::from(agrees);
        *charts.entry(chart.clone()).or_insert(true) &= agrees;
        if !agrees {
            differences += &format!(
                "=== {chart} {} ({expected:?})\n{}\n",
                flags.join(" "),
                difference(&ours, &theirs)
            );
        }
    }
    let whole = charts.values().filter(|agrees| **agrees).count();
    println!(
        "helm agreement: {whole} of {} charts, {equal} of {total} renderings byte for byte",
        charts.len()
    );
    println!("helm agreement: {same_error} of {errors} refusals in the same words");
    assert!(differences.is_empty(), "{differences}");
    assert!(charts.len() >= 60, "only {} charts", charts.len());
}

#[test]
fn random_values_render_to_what_helm_prints() {
    let mut oracle = Oracle::start();
    let mut random = Random::new(seed(5));
    let (mut equal, mut total, mut refused, mut bounded) = (0, 0, 0, 0);
    let mut differences = String::new();
    let mut names: Vec<String> = renderings().into_iter().map(|(chart, ..)| chart).collect();
    names.dedup();
    let for_each = cases(RANDOM_VALUES).div_ceil(names.len());
    for chart in names {
        let mut files = read_chart(&chart);
        let defaults = files
            .get("values.yaml")
            .map(|text| flotilla_render::helm::values::load(text));
        let Some(Ok(defaults)) = defaults else { continue };
        let defaults = Json::from(flotilla_render::yaml::Value::Map(defaults));
        for _ in 0..for_each {
            let values = changed(&mut random, &defaults);
            files.insert("ci/random.json".to_owned(), values.to_string().into_bytes());
            let flags = ["-f".to_owned(), "{dir}/ci/random.json".to_owned()];
            let ours = ours(&files, &flags);
            // A number that is a count somewhere: the reference goes on for minutes where ours ends at its bound.
            if ours.as_ref().is_err_and(|error| error.contains(" steps")) {
                bounded += 1;
                continue;
            }
            let theirs = theirs(&mut oracle, &files, &flags);
            total += 1;
            let agrees = match (&ours, &theirs) {
                (Ok(ours), Ok(theirs)) => ours == theirs,
                (Err(_), Err(_)) => {
                    refused += 1;
                    true
                }
                _ => false,
            };
            equal += usize::from(agrees);
            if !agrees {
                differences += &format!("=== {chart} {values}\n{}\n", difference(&ours, &theirs));
            }
        }
    }
    println!(
        "helm agreement: {equal} of {total} random values, {refused} of them refused by both; {bounded} took too many steps"
    );
    assert!(bounded * 10 < total, "{bounded} renderings end at a bound");
    assert!(differences.is_empty(), "{differences}");
    assert!(refused * 2 < total, "{refused} of {total} say nothing");
}

fn ours(files: &Files, flags: &[String]) -> Result<String, String> {
    let read = |name: &str| {
        let data = name
            .strip_prefix("/chart/")
            .and_then(|name| files.get(name))
            .expect("a file of the chart");
        data.clone()
    };
    let mut sources = Sources::default();
    let mut output = Output::default();
    let mut capabilities = Capabilities::default();
    let mut release = Release {
        name: "release-name".to_owned(),
        namespace: "default".to_owned(),
        revision: 1,
        is_upgrade: false,
    };
    let mut skip_schema_validation = false;
    let mut flags = flags.iter().map(|flag| flag.replace("{dir}", "/chart"));
    while let Some(flag) = flags.next() {
        let mut value = || flags.next().expect("a flag with a value");
        match flag.as_str() {
            "-f" | "--values" => {
                let name = value();
                sources.files.push((name.clone(), read(&name)));
            }
            "--set" => sources.set.push(value()),
            "--set-string" => sources.string.push(value()),
            "--set-json" => sources.json.push(value()),
            "--set-file" => sources.file.push(value()),
            "--set-literal" => sources.literal.push(value()),
            "-n" => release.namespace = value(),
            "-s" | "--show-only" => output.show_only.push(value()),
            "-a" | "--api-versions" => {
                capabilities
                    .api_versions
                    .extend(value().split(',').map(str::to_owned));
            }
            "--kube-version" => {
                capabilities.kube_version =
                    KubeVersion::parse(&value()).map_err(|error| error.to_string())?;
            }
            "--include-crds" => output.include_crds = true,
            "--is-upgrade" => release.is_upgrade = true,
            "--no-hooks" => output.no_hooks = true,
            "--skip-tests" => output.skip_tests = true,
            "--skip-schema-validation" => skip_schema_validation = true,
            "--skip-crds" => {}
            other => panic!("the test knows no flag {other}"),
        }
    }
    let values = sources
        .merge(&mut |name| Ok(read(name)))
        .map_err(|error| error.to_string())?;
    let files = files
        .iter()
        .map(|(name, data)| File::new(name.as_str(), data))
        .collect();
    let chart = Chart::from_directory(files, Limits::default()).map_err(|error| error.to_string())?;
    let input = RenderInput {
        chart: &chart,
        values,
        release,
        capabilities,
        skip_schema_validation,
        subchart_notes: false,
        context: Context::default(),
    };
    let rendered = template(&input).map_err(|error| error.to_string())?;
    rendered.text(&output).map_err(|error| error.to_string())
}

/// Shows the first lines in which two outputs differ.
fn difference(ours: &Result<String, String>, theirs: &Result<String, String>) -> String {
    let (Ok(ours), Ok(theirs)) = (ours, theirs) else {
        let brief = |side: &Result<String, String>| match side {
            Ok(text) => format!("{} bytes", text.len()),
            Err(error) => format!("error: {error}"),
        };
        return format!("ours   {}\ntheirs {}", brief(ours), brief(theirs));
    };
    let (mut left, mut right) = (ours.lines(), theirs.lines());
    let mut shown = String::new();
    let mut number = 0;
    loop {
        number += 1;
        match (left.next(), right.next()) {
            (None, None) => return shown,
            (left, right) if left == right => {}
            (left, right) => {
                shown += &format!("line {number}\n  ours   {left:?}\n  theirs {right:?}\n");
                if shown.lines().count() > 12 {
                    return shown;
                }
            }
        }
    }
}

/// Returns values that change some of the defaults, keeping the kind of most.
fn changed(random: &mut Random, defaults: &Json) -> Json {
    match defaults {
        Json::Object(map) => {
            let mut kept = serde_json::Map::new();
            for (key, value) in map {
                if random.one_in(3) {
                    kept.insert(key.clone(), changed(random, value));
                }
            }
            Json::Object(kept)
        }
        Json::Array(items) if random.below(4) > 0 => {
            items.iter().filter(|_| random.below(3) > 0).cloned().collect()
        }
        _ if random.below(5) == 0 => any(random),
        Json::String(text) => match random.below(8) {
            0 => json!(""),
            1 => json!(format!("{text}-x")),
            2 => json!("yes: #1"),
            3 => json!("<a href=\"x\">&amp;</a>"),
            4 => json!(format!("{} ümläut 日本語 {}", "long ".repeat(30), "é".repeat(90))),
            5 => json!("01a"),
            6 => json!("1e6"),
            _ => json!("multi\nline text"),
        },
        Json::Number(_) => match random.below(6) {
            0 => json!(0),
            1 => json!(random.below(40)),
            2 => json!(1.5),
            // Some are counts, and the reference takes minutes for millions.
            3 => json!(123.5),
            4 => json!(1_200),
            _ => json!(-3),
        },
        Json::Bool(flag) => json!(!flag),
        _ => any(random),
    }
}

fn any(random: &mut Random) -> Json {
    match random.below(8) {
        0 => Json::Null,
        1 => json!([]),
        2 => json!({}),
        3 => json!(["a", 1, null]),
        4 => {
            json!({"k": "v", "n": 1.25, "f": 1_234_567.5, "i": 12_345_678, "01a": 1e21, "k10": "<", "k1b": true})
        }
        5 => json!(true),
        6 => json!("text"),
        _ => json!(1_200),
    }
}
