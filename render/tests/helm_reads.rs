//! What a rendering records of having looked at: whatever changes its output beside chart and values is recorded,
//! and what needs only these is reproducible.

use flotilla_render::helm::action::{RenderInput, Rendered, template};
use flotilla_render::helm::archive::{File, Limits};
use flotilla_render::helm::capabilities::{Capabilities, KubeVersion};
use flotilla_render::helm::chart::Chart;
use flotilla_render::helm::context::{Context, Lookup, Reads};
use flotilla_render::helm::render_values::Release;
use flotilla_render::helm::values;
use flotilla_render::yaml::{Map, Value};
use flotilla_render_tests::rendered::first_install;

/// A cluster in which every object has one field.
#[derive(Debug)]
struct Cluster(&'static str);

impl Lookup for Cluster {
    fn lookup(&self, _: &str, _: &str, _: &str, _: &str) -> Result<Value, String> {
        Ok(Value::Map(Map::from([("data".to_owned(), self.0.into())])))
    }
}

/// What surrounds a rendering.
#[derive(Clone)]
struct Surroundings {
    cluster: &'static str,
    kube_version: &'static str,
    revision: i64,
    is_upgrade: bool,
    now: i64,
    seed: u8,
}

const HERE: Surroundings = Surroundings {
    cluster: "one",
    kube_version: "v1.30.0",
    revision: 1,
    is_upgrade: false,
    now: 1_700_000_000_000_000_000,
    seed: 1,
};

fn rendered(source: &str, around: &Surroundings) -> Result<Rendered, String> {
    let chart = Chart::from_directory(
        vec![
            File::new("Chart.yaml", b"apiVersion: v2\nname: c\nversion: 1.0.0\n"),
            File::new("templates/a.yaml", format!("x: |\n  {source}\n").as_bytes()),
            File::new(
                "templates/_b.tpl",
                b"{{ define \"all\" }}{{ . | toJson }}{{ end }}",
            ),
            File::new(
                "charts/s/Chart.yaml",
                b"apiVersion: v2\nname: s\nversion: 1.0.0\n",
            ),
        ],
        Limits::default(),
    );
    let chart = chart.map_err(|error| error.to_string())?;
    let capabilities = Capabilities {
        kube_version: KubeVersion::parse(around.kube_version).map_err(|error| error.to_string())?,
        ..Capabilities::default()
    };
    let input = RenderInput {
        chart: &chart,
        values: values::load(b"a: {b: [1, two]}\nold: 2020-01-01\n").map_err(|error| error.to_string())?,
        release: Release {
            name: "r".to_owned(),
            namespace: "n".to_owned(),
            revision: around.revision,
            is_upgrade: around.is_upgrade,
        },
        capabilities,
        skip_schema_validation: false,
        subchart_notes: false,
        context: Context {
            cluster: Some(Box::new(Cluster(around.cluster))),
            now: around.now,
            seed: [around.seed; 32],
            ..Context::default()
        },
    };
    template(&input).map_err(|error| error.to_string())
}

/// Returns the records in a fixed order: cluster, capabilities, revision, clock, random.
fn marks(reads: &Reads) -> String {
    let named = [
        (reads.cluster, "cluster"),
        (reads.capabilities, "capabilities"),
        (reads.revision, "revision"),
        (reads.clock, "clock"),
        (reads.random, "random"),
    ];
    let noted: Vec<&str> = named
        .iter()
        .filter(|(noted, _)| *noted)
        .map(|(_, name)| *name)
        .collect();
    noted.join(" ")
}

/// Templates, and what rendering them must record, no more and no less.
const CASES: &[(&str, &str)] = &[
    ("plain", ""),
    ("{{ .Values.a.b | toJson }}", ""),
    (
        "{{ .Release.Name }}{{ .Release.Namespace }}{{ .Release.Service }}{{ .Chart.Version }}",
        "",
    ),
    (
        "{{ .Template.Name }}{{ .Files.Get `x` }}{{ .Subcharts.s.Chart.Name }}",
        "",
    ),
    (
        "{{ sha256sum `a` }}{{ semver `1.2.3` }}{{ regexFind `a` `a` }}{{ derivePassword 1 `long` `a` `b` `c` }}",
        "",
    ),
    ("{{ date `2006` (toDate `2006-01-02` `2020-01-01`) }}", ""),
    ("{{ include `all` .Values }}{{ tpl `{{ .Values.a }}` . }}", ""),
    ("{{ lookup `v1` `Secret` `n` `x` | toJson }}", "cluster"),
    ("{{ (lookup `v1` `Secret` `` ``).data }}", "cluster"),
    ("{{ .Capabilities.KubeVersion }}", "capabilities"),
    ("{{ .Capabilities.APIVersions.Has `v1` }}", "capabilities"),
    ("{{ $.Capabilities.KubeVersion.Minor }}", "capabilities"),
    ("{{ (index . `Capabilities`).KubeVersion }}", "capabilities"),
    (
        "{{ with . }}{{ .Capabilities.KubeVersion }}{{ end }}",
        "capabilities",
    ),
    ("{{ (get . `Capabilities`).KubeVersion }}", "capabilities"),
    ("{{ .Subcharts.s.Capabilities.KubeVersion }}", "capabilities"),
    ("{{ (pick . `Capabilities`) | toJson }}", "capabilities"),
    (
        "{{ if semverCompare `>=1.25-0` .Capabilities.KubeVersion.Version }}a{{ end }}",
        "capabilities",
    ),
    ("{{ tpl `{{ .Capabilities.KubeVersion }}` . }}", "capabilities"),
    ("{{ .Release.Revision }}", "revision"),
    ("{{ .Release.IsUpgrade }}{{ .Release.IsInstall }}", "revision"),
    ("{{ if .Release.IsInstall }}a{{ end }}", "revision"),
    ("{{ .Release }}", "revision"),
    ("{{ toYaml .Release | nindent 2 }}", "revision"),
    ("{{ range $k, $v := .Release }}{{ $v }}{{ end }}", "revision"),
    ("{{ range .Release }}{{ . }}{{ end }}", "revision"),
    ("{{ values .Release }}", "revision"),
    ("{{ pluck `Revision` .Release }}", "revision"),
    ("{{ omit .Release `Name` | toJson }}", "revision"),
    ("{{ dig `Revision` 0 .Release }}", "revision"),
    ("{{ index .Release `Revision` }}", "revision"),
    ("{{ (deepCopy .Release).Revision }}", "revision"),
    ("{{ merge (dict) .Release | toJson }}", "revision"),
    ("{{ printf `%v` .Release }}", "revision"),
    ("{{ quote .Release }}", "revision"),
    ("{{ list .Release | toJson }}", "revision"),
    ("{{ include `all` .Release }}", "revision"),
    (
        "{{ $r := dict }}{{ $_ := set $r `x` .Release }}{{ $r.x }}",
        "revision",
    ),
    ("{{ eq .Release.Revision 1 }}", "revision"),
    ("{{ now | date `2006` }}", "clock"),
    ("{{ now.Unix }}", "clock"),
    ("{{ date `2006-01-02T15:04:05` `no time` }}", "clock"),
    ("{{ htmlDate `no time` }}", "clock"),
    ("{{ dateInZone `2006-01-02T15:04:05` `no time` `UTC` }}", "clock"),
    ("{{ ago (toDate `2006-01-02` .Values.old) }}", "clock"),
    ("{{ randAlphaNum 8 }}", "random"),
    (
        "{{ randAlpha 8 }}{{ randNumeric 8 }}{{ randAscii 8 | b64enc }}",
        "random",
    ),
    ("{{ randBytes 8 }}", "random"),
    ("{{ randInt 0 1000000 }}", "random"),
    ("{{ uuidv4 }}", "random"),
    ("{{ shuffle `abcdefghijklmnop` }}", "random"),
    ("{{ htpasswd `a` `b` }}", "random"),
    ("{{ bcrypt `a` }}", "random"),
    ("{{ . | toJson }}", "capabilities revision"),
    (
        "{{ now | unixEpoch }}{{ uuidv4 }}{{ .Release.Revision }}",
        "revision clock random",
    ),
];

#[test]
fn exactly_what_was_looked_at_is_recorded() {
    let mut differences = String::new();
    for (source, expected) in CASES {
        match rendered(source, &HERE) {
            Ok(rendered) if marks(&rendered.reads) == *expected => {
                assert_eq!(rendered.reads.is_reproducible(), expected.is_empty(), "{source}");
            }
            Ok(rendered) => {
                differences += &format!("{source}: {:?}, not {expected:?}\n", marks(&rendered.reads))
            }
            Err(error) => differences += &format!("{source}: {error}\n"),
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn whatever_changes_the_output_is_recorded() {
    let others = [
        (
            "cluster",
            Surroundings {
                cluster: "two",
                ..HERE
            },
        ),
        (
            "capabilities",
            Surroundings {
                kube_version: "v1.20.5",
                ..HERE
            },
        ),
        (
            "revision",
            Surroundings {
                revision: 2,
                is_upgrade: true,
                ..HERE
            },
        ),
        (
            "clock",
            Surroundings {
                now: HERE.now + 400 * 24 * 3600 * 1_000_000_000,
                ..HERE
            },
        ),
        ("random", Surroundings { seed: 2, ..HERE }),
    ];
    let mut changed = 0;
    for (source, _) in CASES {
        let here = rendered(source, &HERE).expect("the case renders");
        let noted = marks(&here.reads);
        let text = here.text(&Default::default()).unwrap_or_default();
        for (name, around) in &others {
            let there = rendered(source, around).expect("the case renders");
            if there.text(&Default::default()).unwrap_or_default() != text {
                changed += 1;
                assert!(
                    noted.split(' ').any(|noted| noted == *name),
                    "{source}: {name} is not in {noted:?}"
                );
            }
        }
    }
    assert!(
        changed >= 40,
        "only {changed} outputs changed: the cases show nothing"
    );
}

#[test]
fn a_chart_for_certain_clusters_is_bound_to_them() {
    let files = vec![File::new(
        "Chart.yaml",
        b"apiVersion: v2\nname: c\nversion: 1.0.0\nkubeVersion: '>=1.20-0'\n",
    )];
    let chart = Chart::from_directory(files, Limits::default()).expect("the chart loads");
    let input = first_install(&chart, Map::new(), Context::default());
    assert_eq!(
        marks(&template(&input).expect("it renders").reads),
        "capabilities"
    );
}
