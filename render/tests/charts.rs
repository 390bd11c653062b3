//! Renders the charts of `charts/` with random values, and charts of a folder with theirs, and compares each byte with
//! what Helm prints. What `charts/cases.txt` says is tested through `flotilla template`.

use std::path::{Path, PathBuf};

use flotilla_render::helm::action::{Output, RenderInput, template};
use flotilla_render::helm::archive::{File, Limits};
use flotilla_render::helm::capabilities::Capabilities;
use flotilla_render::helm::chart::Chart;
use flotilla_render::helm::context::Context;
use flotilla_render::helm::render_values::Release;
use flotilla_render::helm::values::Sources;
use flotilla_render_tests::charts::{Files, difference, folder, read_chart, read_folder, renderings, theirs};
use flotilla_render_tests::{Oracle, Random, cases, seed};
use serde_json::{Value as Json, json};

/// How many renderings with random values there are, for all charts together.
const RANDOM_VALUES: usize = 430;

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
            let ours = ours(&files, Some("ci/random.json")).map(|(text, _)| text);
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

/// What the engine made of a chart, and whether it would make the same another time.
type Ours = Result<(String, bool), String>;

/// Renders a chart with a file of values, or with none but its own.
fn ours(files: &Files, values: Option<&str>) -> Ours {
    let sources = Sources {
        files: values
            .map(|name| (name.to_owned(), files[name].clone()))
            .into_iter()
            .collect(),
        ..Sources::default()
    };
    let values = sources
        .merge(&mut |name| Err(format!("{name} is not there")))
        .map_err(|error| error.to_string())?;
    let files = files
        .iter()
        .map(|(name, data)| File::new(name.as_str(), data))
        .collect();
    let chart = Chart::from_directory(files, Limits::default()).map_err(|error| error.to_string())?;
    let input = RenderInput {
        chart: &chart,
        values,
        release: Release {
            name: "release-name".to_owned(),
            namespace: "default".to_owned(),
            revision: 1,
            is_upgrade: false,
        },
        capabilities: Capabilities::default(),
        skip_schema_validation: false,
        subchart_notes: false,
        context: Context::default(),
    };
    let rendered = template(&input).map_err(|error| error.to_string())?;
    let changes = rendered.reads.clock || rendered.reads.random;
    let text = rendered
        .text(&Output::default())
        .map_err(|error| error.to_string())?;
    Ok((text, !changes))
}

/// Returns the charts of a folder, however deep they lie; those within others are parts of these.
fn charts_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        if folder.join("Chart.yaml").is_file() {
            found.push(folder);
            continue;
        }
        let entries = std::fs::read_dir(&folder).expect("a folder can be read");
        waiting.extend(
            entries
                .map(|entry| entry.expect("an entry").path())
                .filter(|path| path.is_dir() && !path.is_symlink()),
        );
    }
    found.sort();
    found
}

/// The charts of the folder that FLOTILLA_CHARTS names, or our own.
#[test]
fn charts_of_a_folder_render_to_what_helm_prints() {
    let folder = std::env::var_os("FLOTILLA_CHARTS").map_or_else(folder, PathBuf::from);
    let mut oracle = Oracle::start();
    let (mut equal, mut refused, mut changing, mut total) = (0, 0, 0, 0);
    let mut differences = String::new();
    for chart in charts_below(Path::new(&folder)) {
        let files = read_folder(&chart);
        let of_values = |name: &&String| {
            let name = name.as_str();
            name.starts_with("ci/") && (name.ends_with(".yaml") || name.ends_with(".yml"))
        };
        let values: Vec<Option<&str>> = [None]
            .into_iter()
            .chain(files.keys().filter(of_values).map(|name| Some(name.as_str())))
            .collect();
        for values in values {
            total += 1;
            let flags: Vec<String> = values
                .iter()
                .flat_map(|name| ["-f".to_owned(), format!("{{dir}}/{name}")])
                .collect();
            let ours = ours(&files, values);
            let theirs = theirs(&mut oracle, &files, &flags);
            let agrees = match (&ours, &theirs) {
                (Ok((ours, _)), Ok(theirs)) if ours == theirs => {
                    equal += 1;
                    true
                }
                // Keys, passwords and dates are others each time; that both build is all that can be asked.
                (Ok((_, false)), Ok(_)) => {
                    changing += 1;
                    true
                }
                (Err(_), Err(_)) => {
                    refused += 1;
                    true
                }
                _ => false,
            };
            if !agrees {
                let name = chart.strip_prefix(&folder).unwrap_or(&chart).display();
                let shown = difference(&ours.map(|(text, _)| text), &theirs);
                differences += &format!("=== {name} {}\n{shown}\n", values.unwrap_or_default());
            }
        }
    }
    println!(
        "charts of a folder: {equal} of {total} byte for byte, {changing} with random values, {refused} refused by both"
    );
    assert!(differences.is_empty(), "{differences}");
    assert!(equal > 0, "{} holds no chart that renders", folder.display());
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
