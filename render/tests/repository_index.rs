//! Reads indexes of Helm repositories, chooses versions and makes addresses absolute, and compares each answer
//! with Helm's.

use flotilla_render::helm::index::{Index, IndexError, MAX_INDEX_BYTES, ResolveError, absolute};
use serde_json::{Value as Json, json};

use flotilla_render_tests::Oracle;

/// Indexes, each for what it is about.
const INDEXES: &[(&str, &str)] = &[
    ("empty text", ""),
    ("null", "null"),
    ("no version of the format", "entries: {}\n"),
    ("nothing in it", "apiVersion: v1\n"),
    ("no entries", "apiVersion: v1\nentries: {}\n"),
    (
        "a chart without versions",
        "apiVersion: v1\nentries: {a: [], b: null}\n",
    ),
    (
        "sorted by precedence and not by text",
        "apiVersion: v1\nentries:\n  a:\n  - {name: a, version: 1.2.0}\n  - {name: a, version: 1.10.0}\n  - {name: a, version: v2}\n  - {name: a, version: 2.0.0-rc.1}\n  - {name: a, version: 2.0.0-rc.11}\n  - {name: a, version: 2.0.0-rc.2}\n",
    ),
    (
        "equal versions stay in order",
        "apiVersion: v1\nentries:\n  a:\n  - {name: a, version: 1.0.0+a, digest: x}\n  - {name: a, version: v1.0.0, digest: y}\n  - {name: a, version: 1.0.0+b, digest: z}\n",
    ),
    (
        "entries that are not allowed are left out",
        "apiVersion: v1\nentries:\n  a:\n  -\n  - {name: a}\n  - {version: 1.0.0}\n  - {name: a, version: nonsense}\n  - {name: a/b, version: 1.0.0}\n  - {name: .., version: 1.0.0}\n  - {name: a, version: 1.0.1, type: other}\n  - {name: a, version: 1.0.2, maintainers: [null]}\n  - {name: a, version: 1.0.3, dependencies: [null]}\n  - {name: a, version: 1.0.4, dependencies: [{name: x, alias: 'a b'}]}\n  - {name: a, version: 1.0.5}\n",
    ),
    (
        "an alias that is not told is forgiven",
        "apiVersion: v1\nentries:\n  a:\n  - name: a\n    version: 1.0.0\n    dependencies: [{name: x}, {name: x}]\n",
    ),
    (
        "an entry under another name",
        "apiVersion: v1\nentries:\n  a:\n  - {name: b, version: 1.0.0}\n",
    ),
    (
        "every field of a version",
        "apiVersion: v1\ngenerated: 2020-01-02T03:04:05.678901234+02:00\nserverInfo: {contextPath: x}\npublicKeys: [k]\nannotations: {a: b}\nentries:\n  a:\n  - apiVersion: v2\n    name: a\n    version: 1.0.0\n    home: h\n    sources: [s]\n    description: d\n    keywords: [k]\n    maintainers: [{name: m, email: e, url: u}]\n    icon: i\n    condition: c\n    tags: t\n    appVersion: '1'\n    deprecated: true\n    annotations: {x: z}\n    kubeVersion: '>=1'\n    dependencies: [{name: x, version: '1', repository: r, condition: c, tags: [t], import-values: [v], alias: z}]\n    type: application\n    urls: [a-1.0.0.tgz, https://h/a.tgz]\n    created: 2020-01-02T03:04:05Z\n    removed: true\n    digest: abc\n    checksum: c\n    engine: gotpl\n    tillerVersion: '>2'\n    url: u\n",
    ),
    (
        "numbers for text",
        "apiVersion: 1\nentries:\n  a:\n  - {name: a, version: 1.5.0, digest: 12}\n",
    ),
    (
        "a boolean for text",
        "apiVersion: v1\nentries: {a: [{name: a, version: 1.0.0, digest: true}]}\n",
    ),
    (
        "a number for a version",
        "apiVersion: v1\nentries: {a: [{name: a, version: 1.5}]}\n",
    ),
    (
        "a boolean for the text of a chart",
        "apiVersion: v1\nentries: {a: [{name: a, version: 1.0.0, home: true}]}\n",
    ),
    (
        "a boolean for a maintainer",
        "apiVersion: v1\nentries: {a: [{name: a, version: 1.0.0, maintainers: [{name: true}]}]}\n",
    ),
    (
        "a number for a maintainer",
        "apiVersion: v1\nentries: {a: [{name: a, version: 1.0.0, maintainers: [{name: 1}]}]}\n",
    ),
    (
        "a boolean for an alias",
        "apiVersion: v1\nentries: {a: [{name: a, version: 1.0.0, dependencies: [{alias: true}]}]}\n",
    ),
    (
        "a boolean for an annotation",
        "apiVersion: v1\nentries: {a: [{name: a, version: 1.0.0, annotations: {x: true}}]}\n",
    ),
    (
        "an enabled dependency",
        "apiVersion: v1\nentries: {a: [{name: a, version: 1.0.0, dependencies: [{enabled: true}]}]}\n",
    ),
    (
        "a number for an address",
        "apiVersion: v1\nentries: {a: [{name: a, version: 1.0.0, urls: [1]}]}\n",
    ),
    (
        "a number in JSON",
        r#"{"apiVersion":"v1","entries":{"a":[{"name":"a","version":"1.0.0","digest":1}]}}"#,
    ),
    (
        "a number for the version in JSON",
        r#"{"apiVersion":1,"entries":{}}"#,
    ),
    (
        "an unknown field of the index",
        "apiVersion: v1\nother: 1\nentries: {}\n",
    ),
    (
        "an unknown field of a version",
        "apiVersion: v1\nentries:\n  a: [{name: a, version: 1.0.0, other: 1}]\n",
    ),
    (
        "an unknown field of a maintainer",
        "apiVersion: v1\nentries:\n  a: [{name: a, version: 1.0.0, maintainers: [{nick: n}]}]\n",
    ),
    (
        "an unknown field of a dependency",
        "apiVersion: v1\nentries:\n  a: [{name: a, version: 1.0.0, dependencies: [{nick: n}]}]\n",
    ),
    ("a key twice", "apiVersion: v1\nentries: {}\nentries: {}\n"),
    ("a list for entries", "apiVersion: v1\nentries: []\n"),
    ("a map for versions", "apiVersion: v1\nentries: {a: {name: a}}\n"),
    ("text for a version", "apiVersion: v1\nentries: {a: [b]}\n"),
    (
        "text for urls",
        "apiVersion: v1\nentries: {a: [{name: a, version: 1.0.0, urls: u}]}\n",
    ),
    (
        "text for a flag",
        "apiVersion: v1\nentries: {a: [{name: a, version: 1.0.0, removed: 'x'}]}\n",
    ),
    (
        "a day for a time",
        "apiVersion: v1\nentries: {a: [{name: a, version: 1.0.0, created: 2020-01-02}]}\n",
    ),
    (
        "a day that is none",
        "apiVersion: v1\ngenerated: 2021-02-29T00:00:00Z\nentries: {}\n",
    ),
    ("not YAML", "apiVersion: [v1\n"),
    (
        "JSON",
        r#"{"apiVersion":"v1","entries":{"a":[{"name":"a","version":"1.0.0","urls":["u"]},{"name":"a","version":"1.1.0"}]}}"#,
    ),
    (
        "JSON with fields that nobody knows",
        r#"{"apiVersion":"v1","x":1,"entries":{"a":[{"name":"a","version":"1.0.0","y":{}}]}}"#,
    ),
    ("a web page", "<!DOCTYPE html>\n<html></html>\n"),
];

#[test]
fn indexes_hold_what_helm_finds_in_them() {
    let mut oracle = Oracle::start();
    let mut differences = Vec::new();
    for (about, text) in INDEXES {
        let theirs = oracle.text("index", text);
        let ours = Index::parse(text);
        match (&ours, &theirs) {
            (Ok(ours), Ok(theirs)) => {
                let theirs: Json = serde_json::from_str(theirs).expect("the oracle answers in JSON");
                assert_eq!(listed(ours), theirs, "{about}");
            }
            (Err(_), Err(_)) => {}
            _ => differences.push(format!("{about}: {ours:?} and {theirs:?}")),
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn listed(index: &Index) -> Json {
    let versions = |versions: &Vec<flotilla_render::helm::index::ChartVersion>| -> Json {
        let one = |found: &flotilla_render::helm::index::ChartVersion| json!({ "version": found.metadata.version, "urls": found.urls, "digest": found.digest });
        versions.iter().map(one).collect()
    };
    index
        .entries
        .iter()
        .map(|(name, found)| (name.clone(), versions(found)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[test]
fn ranges_mean_the_version_that_helm_takes() {
    let mut oracle = Oracle::start();
    let versions = [
        "0.9.0",
        "1.0.0",
        "1.0.0-rc.1",
        "1.2.3",
        "1.2.10",
        "v1.3",
        "2.0.0-alpha",
        "2.0.0-beta.2+b7",
        "1.2.3+b1",
    ];
    let listed: Vec<String> = versions
        .iter()
        .map(|version| format!("  - {{name: a, version: '{version}'}}\n"))
        .collect();
    let text = format!("apiVersion: v1\nentries:\n  none: []\n  a:\n{}", listed.concat());
    let index = Index::parse(&text).expect("the index is one");
    let ranges = [
        "",
        "*",
        "1.2.3",
        "v1.2.3",
        "1.3",
        "1.3.0",
        "v1.3",
        "1.2",
        "1",
        "^1",
        "~1.2",
        "~1.2.4",
        ">1.2",
        ">=1.2.3 <1.2.10",
        ">0.0.0-0",
        ">=2.0.0-0",
        ">=2",
        "2.0.0-alpha",
        "<2.0.0-zeta",
        "2.0.0-beta.2",
        "1.2.3+b1",
        "1.2.3+b2",
        "3.x",
        "x",
        "1.0 - 1.2",
        "!=1.3",
        "0.9.0 || 1.0.0",
        "latest",
        ">",
        "1.2.3.4",
        "=1.0.0",
        " 1.0.0 ",
        ">1.0.0-rc.0 <1.0.0",
    ];
    for range in ranges {
        for name in ["a", "none", "other"] {
            let asked = json!({ "op": "index_resolve", "text": text, "args": [name, range] });
            let theirs = oracle.ask(&asked).ok().map(|found| found.text);
            let ours = index.resolve(name, range).ok();
            assert_eq!(
                ours.map(|found| found.metadata.version.clone()),
                theirs,
                "{name} {range:?}"
            );
        }
    }
}

#[test]
fn addresses_become_what_helm_makes_of_them() {
    let mut oracle = Oracle::start();
    let repositories = [
        "https://h",
        "https://h/",
        "https://h/charts",
        "https://h/charts/",
        "https://u:p@h:8080/a/b/?token=x&y",
        "http://h/a%2Fb/c",
        "oci://h/a",
        "h/charts",
        "",
        "https://h/a b",
        "HTTPS://H/x",
        "https://h//a//",
        "https://h/a/#f",
        ":",
        "https://h/%zz",
    ];
    let charts = [
        "a-1.0.0.tgz",
        "charts/a.tgz",
        "/a.tgz",
        "../a.tgz",
        "../../../a.tgz",
        "./a/./b/../c.tgz",
        "https://other/a.tgz",
        "//other/a.tgz",
        "a b.tgz",
        "a%20b.tgz",
        "a+b.tgz",
        "a(1).tgz",
        "?q=1",
        "",
        "a.tgz?x=1#f",
        "1:a",
        "a:b",
        "ä.tgz",
        "%zz",
        "..",
        "a/..",
        "http:a",
        "a//b",
        "a%2fb.tgz",
        "\u{7f}",
    ];
    for repository in repositories {
        for chart in charts {
            let asked = json!({ "op": "index_url", "args": [repository, chart] });
            let theirs = oracle.ask(&asked).ok().map(|found| found.text);
            let ours = absolute(repository, chart).ok();
            assert_eq!(ours, theirs, "{repository:?} {chart:?}");
        }
    }
}

#[test]
fn an_index_over_its_limits_is_refused() {
    let mut text = "apiVersion: v1\n".to_owned();
    text.push_str(&"#".repeat(MAX_INDEX_BYTES));
    assert_eq!(Index::parse(&text), Err(IndexError::TooLarge));
    let deep = format!(
        "apiVersion: v1\nserverInfo: {}{}\n",
        "[".repeat(5000),
        "]".repeat(5000)
    );
    assert!(matches!(Index::parse(&deep), Err(IndexError::Malformed(_))));
    let deep = format!(
        r#"{{"apiVersion":"v1","x":{}{}}}"#,
        "[".repeat(5000),
        "]".repeat(5000)
    );
    assert!(matches!(Index::parse(&deep), Err(IndexError::Malformed(_))));
}

#[test]
fn what_is_not_found_says_what_was_missing() {
    let index = Index::parse("apiVersion: v1\nentries: {a: [{name: a, version: 1.0.0}], b: []}\n");
    let index = index.expect("the index is one");
    assert_eq!(index.resolve("c", "").unwrap_err(), ResolveError::NoName);
    assert_eq!(index.resolve("b", "").unwrap_err(), ResolveError::NoVersion);
    assert!(matches!(
        index.resolve("a", ">>").unwrap_err(),
        ResolveError::Range { .. }
    ));
    assert!(matches!(
        index.resolve("a", ">1").unwrap_err(),
        ResolveError::NoMatch { .. }
    ));
}
