//! Compares the values that each chart of a random tree is rendered with to those that Helm gives it.

use std::collections::BTreeMap;

use base64::Engine as _;
use flotilla_render_tests::{Oracle, Random, aborted, cases, seed};
use serde_json::{Value as Json, json};

use crate::helm::archive::{File, Limits};
use crate::helm::chart::Chart;
use crate::helm::context::Context;
use crate::helm::dependencies::Resolved;
use crate::helm::values;
use crate::helm::values::coalesce::{Nulls, coalesce};
use crate::helm::values::copies::Copies;
use crate::helm::values::table::{Table, TooDeep};
use crate::yaml::Value;

const MARK: &str = "templates/values.txt";
const TEMPLATE: &str = "path: {{ .Template.BasePath }}\nvalues: {{ toJson .Values }}\n";

#[test]
fn random_chart_trees_get_the_values_that_helm_gives_them() {
    let mut oracle = Oracle::start();
    let mut random = Random::new(seed(11));
    let (mut compared, mut refused, mut aborts) = (0, 0, 0);
    let cases = cases(400);
    for round in 0..cases {
        let files = random_chart(&mut random, "root", 0);
        let given = random_map(&mut random, 3, &KEYS);
        let theirs = theirs(&mut oracle, &files, &given);
        let ours = ours(&files, &given);
        match (theirs, ours) {
            (Ok(theirs), Ok(ours)) => {
                assert_eq!(ours, theirs, "round {round}: given {given}\n{}", shown(&files));
                compared += 1;
            }
            // Maps that imports let hold themselves end the reference. They are what is refused here, and nothing else.
            (Err(theirs), Err(ours)) if aborted(&theirs) => {
                assert_eq!(ours, TooDeep.to_string(), "round {round}: {}", shown(&files));
                aborts += 1;
            }
            (Err(_), Err(_)) => refused += 1,
            (theirs, ours) => {
                panic!(
                    "round {round}: ours {ours:?}, theirs {theirs:?}: given {given}\n{}",
                    shown(&files)
                )
            }
        }
    }
    println!(
        "values: {compared} of {compared} random chart trees equal, {refused} refused by both, {aborts} end the reference"
    );
    assert!(
        compared * 2 > cases,
        "most trees must be renderable to say something: {compared} of {cases}"
    );
}

#[test]
fn an_import_into_what_it_holds_is_refused_where_helm_aborts() {
    let mut oracle = Oracle::start();
    let imports = json!([{ "child": "a", "parent": "." }, { "child": "a", "parent": "b.deep" }]);
    let dependency = json!({ "name": "sub", "version": "1.2.3", "import-values": imports });
    let metadata = |name: &str| json!({ "apiVersion": "v2", "name": name, "version": "1.2.3" });
    let mut root = metadata("root");
    root["dependencies"] = json!([dependency]);
    let files: Files = [
        ("Chart.yaml", root.to_string()),
        (MARK, TEMPLATE.to_owned()),
        ("charts/sub/Chart.yaml", metadata("sub").to_string()),
        ("charts/sub/values.yaml", "a: {b: {x: 1}}\n".to_owned()),
        (&format!("charts/sub/{MARK}"), TEMPLATE.to_owned()),
    ]
    .map(|(name, text)| (name.to_owned(), text))
    .into();

    let error = theirs(&mut oracle, &files, &json!({})).expect_err("maps that hold themselves have no copy");
    assert!(aborted(&error), "{error}");
    assert!(error.contains("stack overflow"), "{error}");
    assert_eq!(ours(&files, &json!({})), Err(TooDeep.to_string()));

    let mut files = files;
    files.insert("Chart.yaml".to_owned(), metadata("root").to_string());
    let answer = theirs(&mut oracle, &files, &json!({})).expect("a program that aborted is started again");
    assert_eq!(ours(&files, &json!({})), Ok(answer));
}

type Files = BTreeMap<String, String>;

fn theirs(oracle: &mut Oracle, files: &Files, given: &Json) -> Result<BTreeMap<String, Json>, String> {
    let encode = |text: &String| base64::engine::general_purpose::STANDARD.encode(text);
    let mut sent: BTreeMap<String, String> = files
        .iter()
        .map(|(name, text)| (format!("c/{name}"), encode(text)))
        .collect();
    sent.insert("values.json".to_owned(), encode(&given.to_string()));
    let args = ["template", "r", "{dir}/c", "--values", "{dir}/values.json"];
    let output = oracle.ask(&json!({ "op": "chart_template", "files": sent, "args": args }))?;
    Ok(parse(&output.text))
}

fn parse(text: &str) -> BTreeMap<String, Json> {
    let mut found = BTreeMap::new();
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.windows(2) {
        if let (Some(path), Some(values)) = (pair[0].strip_prefix("path: "), pair[1].strip_prefix("values: "))
        {
            let path = path.trim_end_matches("/templates").to_owned();
            found.insert(path, serde_json::from_str(values).expect("toJson writes JSON"));
        }
    }
    found
}

fn ours(files: &Files, given: &Json) -> Result<BTreeMap<String, Json>, String> {
    let files = files
        .iter()
        .map(|(name, text)| File::new(name.as_str(), text.as_bytes()))
        .collect();
    let chart = Chart::from_directory(files, Limits::default()).map_err(|error| error.to_string())?;
    if !chart.missing_dependencies().is_empty() {
        return Err("missing dependencies".to_owned());
    }
    let Value::Map(given) = values::from_json(given.clone()) else {
        unreachable!("the values are a map")
    };
    let given = Table::from_map(&given);
    let context = Context::default();
    let copies = Copies::new(&context);
    let resolved = Resolved::new(&chart, &given, &copies, &mut |_| {}).map_err(|error| error.to_string())?;
    let values = coalesce(&resolved, &given, Nulls::Remove, &copies, &mut |_| {})
        .map_err(|error| error.to_string())?;
    let mut seen = BTreeMap::new();
    collect(&resolved, resolved.name(), &values, &mut seen);
    Ok(seen)
}

fn collect(chart: &Resolved<'_>, path: &str, values: &Table, seen: &mut BTreeMap<String, Json>) {
    seen.insert(path.to_owned(), crate::helm::schema::json(values));
    for below in &chart.dependencies {
        let values = values
            .table(below.name())
            .expect("coalescing makes a map for each chart");
        collect(below, &format!("{path}/charts/{}", below.name()), &values, seen);
    }
}

fn shown(files: &Files) -> String {
    files
        .iter()
        .filter(|(name, _)| !name.ends_with(MARK))
        .map(|(name, text)| format!("# {name}\n{text}"))
        .collect()
}

const KEYS: [&str; 12] = [
    "global", "a", "b", "sub", "other", "alias", "tags", "enabled", "exports", "data", "t1", "deep",
];

fn random_value(random: &mut Random, depth: usize, keys: &[&str]) -> Json {
    match random.below(if depth == 0 { 6 } else { 11 }) {
        0 => Json::Null,
        1 => json!(true),
        2 => json!(false),
        3 => json!(random.below(5)),
        4 => json!(format!("s{}", random.below(4))),
        5 => json!([random.below(3), {"k": null}]),
        _ => random_map(random, depth - 1, keys),
    }
}

fn random_map(random: &mut Random, depth: usize, keys: &[&str]) -> Json {
    let size = random.below(5);
    let entries = (0..size).map(|_| {
        let key = random.pick(keys).to_owned();
        // A chart's own key, and the keys that steer, mostly hold what makes a chart renderable.
        let value = match key.as_str() {
            "enabled" | "t1" if random.below(4) > 0 => json!(random.below(2) == 0),
            "sub" | "other" | "alias" | "global" | "tags" | "exports" | "data"
                if depth > 0 && random.below(12) > 0 =>
            {
                random_map(random, depth.saturating_sub(1), keys)
            }
            _ => random_value(random, depth, keys),
        };
        (key, value)
    });
    Json::Object(entries.collect())
}

fn random_chart(random: &mut Random, name: &str, depth: usize) -> Files {
    let mut files = Files::new();
    let mut metadata = json!({ "apiVersion": "v2", "name": name, "version": "1.2.3" });
    let mut listed: Vec<Json> = Vec::new();
    for inside in ["sub", "other"] {
        if depth >= 2 || random.below(3) == 0 {
            continue;
        }
        for (path, text) in random_chart(random, inside, depth + 1) {
            files.insert(format!("charts/{inside}/{path}"), text);
        }
        if random.below(5) > 0 {
            listed.push(random_dependency(random, inside));
            if random.below(6) == 0 {
                let mut second = random_dependency(random, inside);
                second["alias"] = json!("second");
                listed.push(second);
            }
        }
    }
    if !listed.is_empty() {
        metadata["dependencies"] = Json::Array(listed);
    }
    files.insert("Chart.yaml".to_owned(), metadata.to_string());
    files.insert("values.yaml".to_owned(), random_map(random, 3, &KEYS).to_string());
    files.insert(MARK.to_owned(), TEMPLATE.to_owned());
    files
}

fn random_dependency(random: &mut Random, name: &str) -> Json {
    let version = random.pick(&["1.2.3", "^1", "~1.2", "1.x", ">=1.0.0 <2"]);
    let mut dependency = json!({ "name": name, "version": version });
    if random.below(3) == 0 {
        dependency["condition"] =
            json!(random.pick(&["sub.enabled", "enabled", "other.enabled,enabled", "a.enabled"]));
    }
    if random.below(3) == 0 {
        dependency["tags"] = json!(["t1", "b"]);
    }
    if random.below(6) == 0 {
        dependency["alias"] = json!("alias");
    }
    let imports: Vec<Json> = (0..random.below(3))
        .map(|_| match random.below(3) {
            0 => json!(random.pick(&["data", "a", "deep"])),
            _ => json!({
                "child": random.pick(&["data", "a", "exports", "sub", "exports.data"]),
                "parent": random.pick(&["data", "a", ".", "global", "b.deep"]),
            }),
        })
        .collect();
    if !imports.is_empty() {
        dependency["import-values"] = Json::Array(imports);
    }
    dependency
}
