//! Renders with the reference `kustomize` program, in the sandbox, on a private copy of the source. Flux's own
//! preparation of the kustomization comes first, so that the result is what Flux would apply.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use flotilla_render::kustomize::{self, Budget, GenerateError, PathError, RenderInput};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::{
    KustomizeInput, RenderFailure, Rendered, output,
    places::{InLine, Place, Places},
    sandbox::{Job, Limits, RunError, Sandbox},
};

/// The version whose output is Flux's.
pub const VERSION: &str = "v5.8.1";
/// Bound of what one build prints.
const MAX_OUTPUT: usize = 64 << 20;

/// Why there is no reference renderer.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// The program is not there or does not run in the sandbox.
    #[error("cannot run kustomize at {path}: {reason}")]
    Program {
        /// The program.
        path: String,
        /// Why.
        reason: String,
    },
    /// Another version renders otherwise.
    #[error("kustomize at {path} is version {version}, expected {VERSION}")]
    Version {
        /// The program.
        path: String,
        /// What it says it is.
        version: String,
    },
    /// The directory for private copies cannot be had.
    #[error("cannot use {path}")]
    Scratch {
        /// The directory.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The program, found fit. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ReferenceRenderer {
    sandbox: Sandbox,
    program: PathBuf,
    scratch: PathBuf,
    limits: Limits,
    places: Places,
    stopping: CancellationToken,
}

impl ReferenceRenderer {
    /// Checks the program at `program` (a plain name is looked for on `PATH`) and clears `scratch`, where private
    /// copies of sources stand while they are rendered. At most `concurrency` builds run at the same time.
    pub async fn find(
        program: &Path,
        sandbox: Sandbox,
        scratch: PathBuf,
        concurrency: usize,
    ) -> Result<Self, ReferenceError> {
        let path = program.display().to_string();
        let program = locate(program).ok_or_else(|| ReferenceError::Program {
            path,
            reason: "there is none".into(),
        })?;
        clear(&scratch).map_err(|source| ReferenceError::Scratch {
            path: scratch.display().to_string(),
            source,
        })?;
        let renderer = Self {
            sandbox,
            program,
            scratch,
            limits: Limits::default(),
            places: Places::new(concurrency),
            stopping: CancellationToken::new(),
        };
        renderer.check().await?;
        Ok(renderer)
    }

    /// This engine, whose builds are ended once the hub is told to stop.
    #[must_use]
    pub fn until(self, stopping: CancellationToken) -> Self {
        Self { stopping, ..self }
    }

    /// Names the engine.
    pub fn version(&self) -> String {
        format!("kustomize-reference/{VERSION}")
    }

    async fn check(&self) -> Result<(), ReferenceError> {
        let path = self.program.display().to_string();
        let job = self.job(
            self.scratch.clone(),
            vec!["version".into()],
            Duration::from_secs(20),
        );
        let printed = self.sandbox.run(&job).await;
        let printed = printed.map_err(|error| ReferenceError::Program {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        let version = String::from_utf8_lossy(&printed).trim().to_owned();
        if version == VERSION {
            Ok(())
        } else {
            Err(ReferenceError::Version { path, version })
        }
    }

    fn job(&self, directory: PathBuf, arguments: Vec<std::ffi::OsString>, timeout: Duration) -> Job {
        Job {
            program: self.program.clone(),
            arguments,
            directory,
            execute: Vec::new(),
            timeout,
            max_output: MAX_OUTPUT,
            limits: self.limits,
        }
    }

    /// Waits until there is a place soon.
    pub(super) async fn stand_in_line(&self) -> Option<InLine> {
        self.places.stand_in_line().await
    }

    /// Waits for a place; who has one may hold a source.
    pub async fn place(&self) -> Result<Place, RenderFailure> {
        tokio::select! {
            place = self.places.take() => place,
            () = self.stopping.cancelled() => Err(RenderFailure::Stopping),
        }
    }

    /// Builds a Kustomization at a place. Once the hub is told to stop it is not waited for, and the program is killed.
    pub async fn at_place(&self, place: Place, input: KustomizeInput) -> Result<Rendered, RenderFailure> {
        tokio::select! {
            rendered = self.build(place, input) => rendered,
            () = self.stopping.cancelled() => Err(RenderFailure::Stopping),
        }
    }

    async fn build(&self, place: Place, input: KustomizeInput) -> Result<Rendered, RenderFailure> {
        let (started, timeout, substitutes) = (Instant::now(), input.timeout, input.substitutes);
        // What is left in the middle goes on with its thread until it is asked to stop: the place is the thread's as well.
        let of_thread = place.clone();
        let stopping = self.stopping.child_token();
        let _waited_for = stopping.clone().drop_guard();
        let prepared = self
            .blocking(move |renderer| {
                let _place = of_thread;
                renderer.prepare(&input, started + timeout, &stopping)
            })
            .await?;
        let root = prepared.root.path().to_owned();
        let arguments = ["build", "--load-restrictor", "LoadRestrictionsNone"].map(Into::into);
        let arguments = arguments
            .into_iter()
            .chain([root.join(&prepared.directory).into()])
            .collect();
        let job = self.job(root.clone(), arguments, timeout.saturating_sub(started.elapsed()));
        let printed = self
            .sandbox
            .run(&job)
            .await
            .map_err(|error| self.failure(error, &root, timeout))?;
        self.blocking(move |_| {
            drop(prepared);
            let text = String::from_utf8(printed)
                .map_err(|_| RenderFailure::Build("the output is not UTF-8".into()))?;
            output::objects(&text, substitutes).map(|objects| Rendered { objects, reads: None })
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, RenderFailure> + Send + 'static,
    ) -> Result<T, RenderFailure> {
        let renderer = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&renderer)).await;
        // A panic is the source's doing, and would come again.
        done.map_err(|error| RenderFailure::Build(format!("the engine failed: {error}")))?
    }

    /// Lays the source out with the kustomization that Flux would build.
    fn prepare(
        &self,
        input: &KustomizeInput,
        deadline: Instant,
        stopping: &CancellationToken,
    ) -> Result<Prepared, RenderFailure> {
        let generated = generate(input, deadline, stopping)?;
        let lay_out = || -> io::Result<TempDir> {
            let root = tempfile::Builder::new()
                .prefix("kustomization-")
                .tempdir_in(&self.scratch)?;
            input.tree.unpack(root.path())?;
            fs::write(root.path().join(&generated.path), &generated.text)?;
            Ok(root)
        };
        let root =
            lay_out().map_err(|error| RenderFailure::Local(format!("cannot lay out the source: {error}")))?;
        Ok(Prepared {
            root,
            directory: generated.directory,
        })
    }

    fn failure(&self, error: RunError, root: &Path, timeout: Duration) -> RenderFailure {
        match error {
            RunError::Timeout => RenderFailure::Timeout(timeout),
            RunError::Output(max) => too_large("the output", format!("{} MiB", max >> 20)),
            RunError::Threads(max) => too_large("the number of threads", max.to_string()),
            RunError::Failed(said)
                if said.contains("out of memory") || said.contains("cannot allocate memory") =>
            {
                too_large("the memory needed", format!("{} MiB", self.limits.memory >> 20))
            }
            RunError::Failed(said) => RenderFailure::Build(reason(&said, root)),
            RunError::Sandbox(detail) => RenderFailure::Local(detail),
        }
    }
}

/// A source laid out. The copy goes away with this value.
struct Prepared {
    root: TempDir,
    directory: String,
}

/// Writes the kustomization before the deadline, unless it is told to stop.
fn generate(
    input: &KustomizeInput,
    deadline: Instant,
    stopping: &CancellationToken,
) -> Result<kustomize::Generated, RenderFailure> {
    let budget = Budget::default();
    let stop = || stopping.is_cancelled() || Instant::now() > deadline;
    let source = RenderInput {
        stop: Some(&stop),
        ..RenderInput::new(&*input.tree, &input.path, &budget)
    };
    kustomize::generate(&source, &input.options).map_err(|error| match error {
        GenerateError::Cancelled if stopping.is_cancelled() => RenderFailure::Stopping,
        GenerateError::Cancelled => RenderFailure::Timeout(input.timeout),
        error => ungenerated(error, &input.path),
    })
}

/// Says why there is no kustomization to build.
pub(super) fn ungenerated(error: GenerateError, path: &str) -> RenderFailure {
    match error {
        GenerateError::Path(
            PathError::Missing(_)
            | PathError::Dangling { .. }
            | PathError::WrongKind { .. }
            | PathError::Absolute(_)
            | PathError::Escapes(_),
        ) => RenderFailure::Path(path.to_owned()),
        error => RenderFailure::Build(crate::source::transport::chain(&error)),
    }
}

fn too_large(what: &str, limit: String) -> RenderFailure {
    RenderFailure::TooLarge {
        what: what.to_owned(),
        limit,
    }
}

/// What kustomize complains of, without the place of the private copy.
fn reason(said: &str, root: &Path) -> String {
    let lines = said.lines().filter(|line| !line.starts_with("# Warning"));
    let text = lines.collect::<Vec<_>>().join(" ");
    let root = root.display().to_string();
    let text = text.replace(&format!("{root}/"), "").replace(&root, ".");
    text.trim()
        .trim_start_matches("Error: ")
        .chars()
        .take(4000)
        .collect()
}

/// Finds a program as a shell does.
fn locate(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return fs::canonicalize(program).ok();
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|found| found.is_file())
}

/// Removes what a crash left behind, and makes the directory private.
fn clear(scratch: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    match fs::remove_dir_all(scratch) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(scratch)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn input() -> KustomizeInput {
        let mut tree = crate::artifact::Tree::default();
        let file = crate::artifact::File {
            executable: false,
            bytes: bytes::Bytes::from_static(b"a: [\n"),
        };
        tree.insert_file("a.yaml", file).expect("new");
        KustomizeInput {
            tree: Arc::new(tree),
            path: String::new(),
            options: Default::default(),
            substitutes: true,
            decrypts: false,
            timeout: Duration::from_secs(60),
        }
    }

    #[test]
    fn the_deadline_holds_while_the_kustomization_is_written() {
        let late = generate(&input(), Instant::now(), &CancellationToken::new()).expect_err("late");
        assert!(matches!(late, RenderFailure::Timeout(_)), "{late}");
    }

    #[test]
    fn a_kustomization_is_written_no_further_once_the_hub_stops() {
        let stopping = CancellationToken::new();
        stopping.cancel();
        let deadline = Instant::now() + Duration::from_secs(60);
        let stopped = generate(&input(), deadline, &stopping).expect_err("stopped");
        assert!(matches!(stopped, RenderFailure::Stopping), "{stopped}");
    }

    #[test]
    fn complaints_do_not_show_where_the_copy_stood() {
        let said = "# Warning: 'bases' is deprecated\nError: accumulating resources: '/s/k-1/base/x.yaml' not in '/s/k-1'\n";
        assert_eq!(
            reason(said, Path::new("/s/k-1")),
            "accumulating resources: 'base/x.yaml' not in '.'"
        );
    }
}
