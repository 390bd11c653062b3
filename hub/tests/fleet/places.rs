//! Renderings that find no place, and hubs that stop while they render.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use flotilla_testkit::wait_until;

use crate::{
    deploys::{Fleet, config_map},
    hub::{Hub, PATIENCE, Setting},
    world::World,
};

/// A hub that is told to stop while it renders may take so long: it waits for what runs for half of this.
const ENDS: Duration = Duration::from_secs(10);
/// Another hub leaves alone what one holds for so long; what was given back it takes before that.
const HELD: Duration = Duration::from_secs(5);

/// A program in place of kustomize, each of whose builds lasts until it is let through: it waits for a line.
struct Gate {
    dir: tempfile::TempDir,
}

impl Gate {
    fn new() -> Self {
        let this = Self {
            dir: tempfile::tempdir().expect("a directory"),
        };
        let made = std::process::Command::new("mkfifo").arg(this.pipe()).status();
        assert!(made.expect("mkfifo runs").success());
        let text = format!(
            "#!/bin/bash\nif [ \"$1\" = version ]; then echo v5.8.1; exit; fi\nread -r < '{}'\ndir=\"${{@: -1}}\"\n\
             printf 'apiVersion: v1\\nkind: ConfigMap\\nmetadata: {{name: %s, namespace: apps}}\\n' \"${{dir##*/}}\"\n",
            this.pipe().display()
        );
        std::fs::write(this.program(), text).expect("written");
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(this.program(), executable).expect("executable");
        this
    }

    fn pipe(&self) -> PathBuf {
        self.dir.path().join("gate")
    }

    fn program(&self) -> PathBuf {
        self.dir.path().join("kustomize")
    }

    /// A hub with one place for renderings.
    fn setting(&self, options: &[&str]) -> Setting {
        // Half as many places as workers. What runs is a script, which nothing confined could start.
        let options = [&["--workers", "2", "--insecure-renderer"][..], options].concat();
        Setting {
            kustomize: Some(self.program()),
            ..Setting::of(&options)
        }
    }

    /// Lets all builds through, also those that begin while what is returned is kept.
    fn open(&self) -> std::fs::File {
        let mut pipe = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.pipe())
            .expect("opened");
        std::io::Write::write_all(&mut pipe, &[b'\n'; 100]).expect("written");
        pipe
    }

    /// Whether a build is under way.
    fn has_builds(&self) -> bool {
        let builds = format!("/bin/bash\0{}\0build\0", self.program().display());
        let processes = std::fs::read_dir("/proc").expect("processes").flatten();
        processes
            .filter_map(|process| std::fs::read(process.path().join("cmdline")).ok())
            .any(|arguments| arguments.starts_with(builds.as_bytes()))
    }
}

fn app(name: &str, renderer: &str) -> String {
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\n\
         metadata:\n  name: {name}\n  namespace: apps\n  annotations: {{fleet.flotilla.dev/renderer: {renderer}}}\n\
         spec:\n  interval: 10m\n  path: ./{name}\n  prune: true\n  sourceRef: {{kind: GitRepository, name: repo}}\n"
    )
}

/// Places everything on one cluster.
fn placement(apps: &[&str]) -> String {
    let apps: Vec<String> = apps
        .iter()
        .map(|name| format!("{{kind: Kustomization, name: {name}, namespace: apps}}"))
        .collect();
    format!(
        "apiVersion: fleet.flotilla.dev/v1alpha1\nkind: Placement\nmetadata: {{name: everywhere}}\n\
         spec:\n  apps: [{}]\n  clusters: {{names: [c1]}}\n",
        apps.join(", ")
    )
}

/// A source that takes the native engine minutes: each of its patches is compared with each of its objects.
fn slow() -> [(&'static str, String); 2] {
    let objects: Vec<String> = (0..3000).map(|n| config_map(&format!("x{n}"), "a")).collect();
    let patches = (0..3000).map(|n| {
        format!(
            "- {{target: {{kind: ConfigMap, name: \".*y{n}\"}}, patch: '[{{\"op\": \"remove\", \"path\": \"/data\"}}]'}}\n"
        )
    });
    [
        ("native/all.yaml", objects.join("---\n")),
        (
            "native/kustomization.yaml",
            format!("resources: [all.yaml]\npatches:\n{}", patches.collect::<String>()),
        ),
    ]
}

async fn apply(fleet: &Fleet, files: &[(&str, &str)], apps: &[(&str, &str)]) {
    fleet.hub.world.cluster("c1").await;
    let _repository = fleet.repository("repo", files).await;
    let mut documents = vec![fleet.source("repo")];
    documents.extend(apps.iter().map(|(name, renderer)| app(name, renderer)));
    let names: Vec<&str> = apps.iter().map(|(name, _)| *name).collect();
    documents.push(placement(&names));
    let documents: Vec<&str> = documents.iter().map(String::as_str).collect();
    fleet.apply(&documents).await;
}

/// Waits until as many rows as this are counted.
async fn counted(world: &World, query: &str, rows: i64, within: Duration) {
    let state = format!("{rows} of {query}");
    let look = async || match world.count(query).await {
        count if count == rows => Ok(Some(())),
        count => Err(format!("{count}")),
    };
    wait_until(&state, within, look).await.expect("counted");
}

const DEPLOYED: &str = "SELECT count(*) FROM unit u JOIN resource r ON r.uid = u.app_uid WHERE r.name";

#[tokio::test]
async fn renderings_that_find_no_place_say_so_hold_up_no_other_app_and_cost_no_attempt() {
    let gate = Gate::new();
    let fleet = Fleet::empty_as(&gate.setting(&[])).await;
    let object = config_map("x", "1");
    let files = ["one", "two", "three", "quick"].map(|name| (format!("{name}/x.yaml"), object.clone()));
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    let apps = [
        ("one", "reference"),
        ("two", "reference"),
        ("three", "reference"),
        ("quick", "native"),
    ];
    apply(&fleet, &files, &apps).await;
    let world = &fleet.hub.world;
    let waiting = r#"SELECT count(*) FROM app_plan WHERE waiting = '[{"reason": "RendererBusy"}]'"#;
    counted(world, waiting, 2, PATIENCE).await;
    counted(world, &format!("{DEPLOYED} = 'quick'"), 1, PATIENCE).await;
    assert!(gate.has_builds());
    let listed = fleet.resources("Kustomization").await;
    let said = listed.iter().filter(|app| {
        let ready = &app.conditions[0];
        let said = (
            ready.status.as_str(),
            ready.reason.as_str(),
            ready.message.as_str(),
        );
        said == (
            "Unknown",
            "Progressing",
            "waiting for a place to render: all are taken",
        )
    });
    assert_eq!(said.count(), 2, "{listed:#?}");
    let _open = gate.open();
    counted(world, &format!("{DEPLOYED} <> ''"), 4, PATIENCE).await;
    let once = "SELECT count(*) FROM rendering WHERE state = 'Done' AND (attempts, lost) = (1, 0)";
    assert_eq!(world.count(once).await, 4);
    assert_eq!(
        world
            .count("SELECT count(*) FROM app_plan WHERE waiting = '[]'")
            .await,
        4
    );
    world.is_quiet().await;
}

#[tokio::test]
async fn what_a_hub_renders_that_is_told_to_stop_is_another_hubs_at_once_and_costs_no_attempt() {
    let gate = Gate::new();
    let mut fleet = Fleet::empty_as(&gate.setting(&[])).await;
    let artifacts = fleet.hub.world.dir.path().join("artifacts");
    let artifacts = ["--artifact-store", artifacts.to_str().expect("text")];
    let mut other = fleet.hub.another_as(&gate.setting(&artifacts)).await;
    let [objects, patches] = slow();
    let object = config_map("x", "1");
    let files = [
        (objects.0, objects.1.as_str()),
        (patches.0, patches.1.as_str()),
        ("scripted/x.yaml", object.as_str()),
    ];
    apply(&fleet, &files, &[("native", "native"), ("scripted", "reference")]).await;
    let begun = |name: &str| {
        format!("SELECT count(*) FROM rendering WHERE state = 'Pending' AND (begun_by, lost) = ('{name}', 0)")
    };
    let both = "SELECT count(*) FROM rendering WHERE begun_by <> ''";
    counted(&fleet.hub.world, both, 2, PATIENCE).await;
    wait_until("the program to run", PATIENCE, async || {
        Ok::<_, String>(gate.has_builds().then_some(()))
    })
    .await
    .expect("it runs");
    ends(&mut fleet.hub).await;
    counted(&fleet.hub.world, &begun(&other.name()), 2, HELD).await;
    let began = Instant::now();
    other.end().await;
    assert!(began.elapsed() < ENDS, "{:?}", began.elapsed());
    let due = "SELECT count(*) FROM rendering
               WHERE state = 'Pending' AND (begun_by, attempts, lost, message) = ('', 0, 0, '') AND not_before <= now()";
    assert_eq!(fleet.hub.world.count(due).await, 2);
    assert!(!gate.has_builds(), "nothing goes on");
}

async fn ends(hub: &mut Hub) {
    let began = Instant::now();
    hub.end().await;
    assert!(began.elapsed() < ENDS, "{:?}", began.elapsed());
}
