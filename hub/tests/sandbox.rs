//! The sandbox and the reference renderer in it: whatever a program tries, and whatever a source holds, nothing
//! leaves. Every attack is also made without the sandbox, where it must succeed: else it proves nothing.
//!
//! The tests run as whoever runs them; as root they run once more as an unprivileged user.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use flotilla_hub::{
    artifact::{File, Tree},
    renderer::{
        KustomizeInput, ReferenceRenderer, RenderFailure, Renderer,
        sandbox::{Isolation, Job, Limits, RunError, Sandbox},
    },
};
use flotilla_render::kustomize::GenerateOptions;
use flotilla_testkit::{Tool, tool};

const HUB: &str = "FLOTILLA_TEST_HUB";
const KUSTOMIZE: &str = "FLOTILLA_KUSTOMIZE";
const NOBODY: u32 = 65534;

fn hub() -> PathBuf {
    std::env::var_os(HUB).map_or_else(|| env!("CARGO_BIN_EXE_flotilla-hub").into(), PathBuf::from)
}

async fn kustomize() -> PathBuf {
    match std::env::var_os(KUSTOMIZE) {
        Some(path) => path.into(),
        None => tool(Tool::Kustomize).await.expect("the reference kustomize"),
    }
}

async fn sandbox(isolation: Isolation) -> Sandbox {
    Sandbox::probe(hub(), isolation)
        .await
        .expect("this machine confines programs")
}

/// Runs a script of bash, which may also run the libraries it is linked with, in a directory of its own.
async fn script(isolation: Isolation, text: &str, limits: Limits) -> Result<String, RunError> {
    let place = tempfile::tempdir().expect("a directory");
    let job = Job {
        program: std::fs::canonicalize("/bin/bash").expect("bash is installed"),
        arguments: vec!["--norc".into(), "-c".into(), text.into()],
        directory: place.path().to_owned(),
        execute: ["/lib", "/lib64", "/usr/lib"]
            .map(PathBuf::from)
            .into_iter()
            .filter(|path| path.exists())
            .collect(),
        timeout: Duration::from_secs(10),
        max_output: 1 << 20,
        limits,
    };
    let printed = sandbox(isolation).await.run(&job).await?;
    Ok(String::from_utf8_lossy(&printed).into_owned())
}

/// Tells whether an attack gets through, and that it was made at all.
async fn gets_through(isolation: Isolation, attack: &str) -> bool {
    let text = format!("echo begun; if {attack}; then echo through; else echo stopped; fi");
    match script(isolation, &text, Limits::default()).await {
        Ok(printed) => {
            assert!(printed.starts_with("begun\n"), "{printed}");
            printed.contains("through")
        }
        // Without processes a shell gives up.
        Err(RunError::Failed(said)) if said.contains("fork: Function not implemented") => false,
        Err(error) => panic!("{attack}: {error}"),
    }
}

#[tokio::test]
async fn confined_programs_cannot_leave() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let secret = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(secret.path(), "secret\n").expect("written");
    let target = secret.path().display();
    for (name, attack) in [
        ("connecting", format!("exec 3<>/dev/tcp/127.0.0.1/{port}")),
        (
            "reading a neighbour's file",
            format!("read -r line < {target} && [ -n \"$line\" ]"),
        ),
        ("reading the system's files", "read -r line < /etc/passwd".into()),
        (
            "reading about processes",
            "read -r line < /proc/self/status".into(),
        ),
        ("writing", format!("echo x > {target}")),
        ("writing in its own directory", "echo x > here".into()),
        (
            "running another program",
            "shopt -s execfail; exec /bin/echo through".into(),
        ),
        ("starting a process", "( : )".into()),
        ("signalling others", "kill -0 $PPID".into()),
    ] {
        let attack = format!("{attack} 2>&-");
        // Without the sandbox the limit of file sizes still ends a writer.
        if !name.starts_with("writing") {
            assert!(
                gets_through(Isolation::Off, &attack).await,
                "{name} proves nothing"
            );
        }
        assert!(
            !gets_through(Isolation::Required, &attack).await,
            "{name} got through"
        );
    }
}

#[tokio::test]
async fn confined_programs_have_an_empty_environment() {
    let printed = script(Isolation::Required, "export -p", Limits::default())
        .await
        .expect("it runs");
    // Cargo puts many variables into the environment of a test.
    assert!(std::env::vars().any(|(name, _)| name.starts_with("CARGO") || name == HUB));
    assert!(
        !printed.contains("CARGO") && !printed.contains("FLOTILLA") && !printed.contains("PATH="),
        "{printed}"
    );
}

#[tokio::test]
async fn confined_programs_end_at_their_limits() {
    let started = Instant::now();
    let small = Limits {
        memory: 256 << 20,
        cpu_seconds: 5,
        open_files: 64,
        ..Limits::default()
    };
    let bomb = script(Isolation::Required, "a=x; while :; do a=$a$a; done", small).await;
    assert!(
        matches!(&bomb, Err(RunError::Failed(said)) if said.contains("cannot allocate")),
        "{bomb:?}"
    );
    let flood = script(Isolation::Required, "while :; do echo flood; done", small).await;
    assert!(matches!(flood, Err(RunError::Output(_))), "{flood:?}");
    let spin = script(
        Isolation::Required,
        "while :; do :; done",
        Limits {
            cpu_seconds: 1,
            ..small
        },
    )
    .await;
    assert!(matches!(&spin, Err(RunError::Failed(_))), "{spin:?}");
    assert!(started.elapsed() < Duration::from_secs(30));
    let hang = script(
        Isolation::Required,
        "read -r -t 600 -u 1; while :; do :; done",
        small,
    )
    .await;
    assert!(
        matches!(&hang, Err(RunError::Failed(_) | RunError::Timeout)),
        "{hang:?}"
    );
}

/// What [`confined_programs_cannot_crowd_the_machine_with_threads`] runs in the sandbox.
#[test]
#[ignore = "no test: it starts threads until somebody ends it"]
fn crowd() {
    let mut started = 0;
    while started < 4000 {
        let thread = std::thread::Builder::new().stack_size(16 << 10);
        match thread.spawn(|| std::thread::sleep(Duration::from_secs(60))) {
            Ok(_) => started += 1,
            Err(_) => break,
        }
    }
    assert!(started > 600, "only {started} threads");
    std::thread::sleep(Duration::from_secs(60));
}

#[tokio::test]
async fn confined_programs_cannot_crowd_the_machine_with_threads() {
    let place = tempfile::tempdir().expect("a directory");
    let job = Job {
        program: std::env::current_exe().expect("known"),
        arguments: ["--ignored", "--exact", "crowd"].map(Into::into).to_vec(),
        directory: place.path().to_owned(),
        execute: ["/lib", "/lib64", "/usr/lib"].map(PathBuf::from).to_vec(),
        timeout: Duration::from_secs(30),
        max_output: 1 << 20,
        limits: Limits::default(),
    };
    let began = Instant::now();
    let crowded = sandbox(Isolation::Required).await.run(&job).await;
    assert!(matches!(crowded, Err(RunError::Threads(256))), "{crowded:?}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_launcher_that_does_not_confine_is_no_sandbox() {
    let missing = Sandbox::probe("/nonexistent".into(), Isolation::Required).await;
    assert!(missing.is_err());
    let wrong = Sandbox::probe("/bin/false".into(), Isolation::Required)
        .await
        .expect_err("no sandbox");
    assert!(wrong.to_string().contains("has no sandbox"), "{wrong}");
}

struct Rendering {
    _place: tempfile::TempDir,
    scratch: PathBuf,
    renderer: Renderer,
}

impl Rendering {
    async fn new() -> Self {
        let place = tempfile::tempdir().expect("a directory");
        let scratch = place.path().join("render");
        let sandbox = sandbox(Isolation::Required).await;
        let found = ReferenceRenderer::find(&kustomize().await, sandbox, scratch.clone(), 2).await;
        Self {
            _place: place,
            scratch,
            renderer: Renderer::Reference(found.expect("kustomize runs")),
        }
    }

    async fn render(&self, files: &[(&str, &str)], path: &str) -> Result<Vec<String>, RenderFailure> {
        self.render_tree(tree(files), path, Duration::from_secs(30)).await
    }

    async fn render_tree(
        &self,
        tree: Tree,
        path: &str,
        timeout: Duration,
    ) -> Result<Vec<String>, RenderFailure> {
        let options = GenerateOptions::default();
        let input = KustomizeInput {
            tree: Arc::new(tree),
            path: path.into(),
            options,
            substitutes: true,
            decrypts: false,
            timeout,
        };
        let rendered = self.renderer.kustomize(input).await;
        let left = std::fs::read_dir(&self.scratch).expect("readable").count();
        assert_eq!(left, 0, "private copies go away");
        Ok(rendered?
            .objects
            .into_iter()
            .map(|object| object.key.to_string())
            .collect())
    }
}

fn tree(files: &[(&str, &str)]) -> Tree {
    let mut tree = Tree::default();
    for (path, text) in files {
        let file = File {
            executable: false,
            bytes: Bytes::copy_from_slice(text.as_bytes()),
        };
        tree.insert_file(path, file).expect("a new path");
    }
    tree
}

const CONFIG_MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n";

#[tokio::test]
async fn confined_kustomize_renders_what_flux_would() {
    let rendering = Rendering::new().await;
    let overlay = "namePrefix: p-\nnamespace: apps\nresources: [../base]\n";
    let files = [
        ("base/kustomization.yaml", "resources: [cm.yaml]\n"),
        ("base/cm.yaml", CONFIG_MAP),
        ("overlay/kustomization.yaml", overlay),
        (
            "plain/a.yaml",
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: apps}\n",
        ),
    ];
    assert_eq!(
        rendering.render(&files, "./overlay").await.expect("rendered"),
        ["ConfigMap/apps/p-x"]
    );
    assert_eq!(
        rendering.render(&files, "plain").await.expect("rendered"),
        ["Namespace/apps"]
    );
    let gone = rendering.render(&files, "gone").await.expect_err("no such path");
    assert_eq!((gone.reason(), gone.is_transient()), ("ArtifactFailed", false));
    assert_eq!(rendering.renderer.version(), "kustomize-reference/v5.8.1");
}

#[tokio::test]
async fn confined_kustomize_reaches_nothing_outside_its_source() {
    let rendering = Rendering::new().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("set");
    let address = listener.local_addr().expect("an address");
    let outside = tempfile::NamedTempFile::with_suffix(".yaml").expect("a file");
    std::fs::write(outside.path(), CONFIG_MAP).expect("written");
    let up = "../".repeat(8);
    for reference in [
        format!("http://{address}/x.yaml"),
        format!("http://{address}/repo.git?ref=main"),
        format!(
            "{up}{}",
            outside.path().display().to_string().trim_start_matches('/')
        ),
        outside.path().display().to_string(),
    ] {
        let kustomization = format!("resources: ['{reference}']\n");
        let failure = rendering
            .render(&[("kustomization.yaml", &kustomization)], "")
            .await
            .expect_err("refused");
        assert!(
            matches!(failure, RenderFailure::Build(_)),
            "{reference}: {failure}"
        );
        assert!(
            !failure
                .to_string()
                .contains(&rendering.scratch.display().to_string()),
            "{failure}"
        );
    }
    let connected = listener.accept();
    assert!(
        connected.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock),
        "nobody connected"
    );
}

#[tokio::test]
async fn confined_kustomize_ends_at_its_limits_and_says_which() {
    let rendering = Rendering::new().await;
    let large = "x".repeat(20 << 20);
    let list: String = (0..200)
        .map(|number| format!("  - k{number}=large.txt\n"))
        .collect();
    let bomb = format!("configMapGenerator:\n- name: bomb\n  files:\n{list}");
    let files = [
        ("kustomization.yaml", bomb.as_str()),
        ("large.txt", large.as_str()),
    ];
    let failure = rendering.render(&files, "").await.expect_err("too large");
    assert!(
        matches!(failure, RenderFailure::TooLarge { .. }),
        "{}",
        &failure.to_string()[..200]
    );
    let quick = rendering
        .render_tree(tree(&files), "", Duration::from_millis(100))
        .await
        .expect_err("too late");
    assert!(matches!(quick, RenderFailure::Timeout(_)), "{quick}");
}

/// Copies a program to where everybody may run it.
fn copy(from: &Path, to: PathBuf) -> PathBuf {
    std::fs::copy(from, &to).expect("copied");
    std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o755)).expect("set");
    to
}

#[tokio::test]
async fn all_of_it_holds_for_an_unprivileged_user() {
    if !rustix::process::getuid().is_root() {
        // Then the other tests have just shown it.
        return;
    }
    let place = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).expect("set");
    let own = std::env::current_exe().expect("known");
    let tests = copy(&own, place.path().join("tests"));
    let hub = copy(&hub(), place.path().join("hub"));
    let kustomize = copy(&kustomize().await, place.path().join("kustomize"));
    let id = NOBODY.to_string();
    let output = Command::new("setpriv")
        .args(["--reuid", &id, "--regid", &id, "--clear-groups", "--no-new-privs"])
        .arg(tests)
        .args(["confined_", "--test-threads=2"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env(HUB, hub)
        .env(KUSTOMIZE, kustomize)
        .current_dir(place.path())
        .output()
        .expect("setpriv is installed");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{printed}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(printed.contains("7 passed"), "{printed}");
}
