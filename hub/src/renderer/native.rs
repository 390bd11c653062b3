//! The native kustomize engine: in this process, on a blocking thread, within a budget and a deadline. It does no
//! IO, so there is nothing to confine.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use flotilla_render::kustomize::{
    self, Budget, BuildError, GenerateError, KUSTOMIZE_VERSION, Overlay, RenderInput, Restriction,
};
use flotilla_render::yaml;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{
    KustomizeInput, RenderFailure, Rendered,
    output::Taken,
    places::{InLine, Place, Places},
    reference::ungenerated,
};

/// The native engine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct NativeRenderer {
    places: Places,
    version: String,
    stopping: CancellationToken,
}

/// How much longer than its time a rendering is waited for: it asks for the time between its steps.
const GRACE: Duration = Duration::from_secs(30);

impl NativeRenderer {
    /// An engine that renders so many at the same time.
    pub fn new(concurrency: usize) -> Self {
        Self {
            places: Places::new(concurrency),
            version: format!(
                "kustomize-native/{KUSTOMIZE_VERSION}+{}",
                env!("CARGO_PKG_VERSION")
            ),
            stopping: CancellationToken::new(),
        }
    }

    /// This engine under the name of another release's.
    #[must_use]
    pub fn of_release(self, release: i64) -> Self {
        Self {
            version: format!("{}.{release}", self.version),
            ..self
        }
    }

    /// This engine, whose renderings end early once the hub is told to stop.
    #[must_use]
    pub fn until(self, stopping: CancellationToken) -> Self {
        Self { stopping, ..self }
    }

    /// Names the engine: the version of kustomize it follows, and its own.
    pub fn version(&self) -> &str {
        &self.version
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

    /// Builds a Kustomization at a place, and does with it on the same thread what is to be done.
    pub async fn at_place<T: Send + 'static>(
        &self,
        place: Place,
        input: KustomizeInput,
        then: impl FnOnce(Rendered) -> T + Send + 'static,
    ) -> Result<T, RenderFailure> {
        let work = |input: &KustomizeInput, stopping: &CancellationToken| build(input, stopping).map(then);
        self.at(place, input, work).await
    }

    /// Builds a Kustomization once there is a place.
    pub async fn kustomize(&self, input: KustomizeInput) -> Result<Rendered, RenderFailure> {
        self.at(self.place().await?, input, build).await
    }

    /// Does the work of a rendering that has a place. It is asked to stop once nobody waits for it any more.
    async fn at<T: Send + 'static>(
        &self,
        place: Place,
        input: KustomizeInput,
        work: impl FnOnce(&KustomizeInput, &CancellationToken) -> Result<T, RenderFailure> + Send + 'static,
    ) -> Result<T, RenderFailure> {
        let stopping = self.stopping.child_token();
        let _waited_for = stopping.clone().drop_guard();
        let (path, longest) = (input.path.clone(), input.timeout + GRACE);
        // A task of its own: one that nobody waits for any more is given up as well.
        let ended = ended_within(self.places.clone(), place, path, longest, move || {
            work(&input, &stopping)
        });
        tokio::spawn(ended.in_current_span())
            .await
            .unwrap_or_else(|error| Err(failed(&error)))
    }
}

/// Does the work on a thread of its own, and waits for it no longer than that. A thread that does not end keeps what it
/// holds: its source is not rendered again, and its place is given to another.
async fn ended_within<T: Send + 'static>(
    places: Places,
    place: Place,
    path: String,
    longest: Duration,
    work: impl FnOnce() -> Result<T, RenderFailure> + Send + 'static,
) -> Result<T, RenderFailure> {
    let of_thread = place.clone();
    let thread = tokio::task::spawn_blocking(move || {
        let _place = of_thread;
        work()
    });
    match tokio::time::timeout(longest, thread).await {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => Err(failed(&error)),
        Err(_) => {
            let seconds = longest.as_secs_f32();
            if places.replace(&place) {
                tracing::error!(
                    path,
                    seconds,
                    "the engine does not stop; the rendering was given up, and its thread runs on"
                );
            } else {
                tracing::error!(
                    path,
                    seconds,
                    "the engine does not stop, as in other renderings before; this place is lost until its thread ends"
                );
            }
            Err(RenderFailure::Build(format!(
                "the engine does not stop: it was given up after {seconds}s"
            )))
        }
    }
}

/// A panic of the engine is this rendering's failure and nobody else's.
fn failed(error: &tokio::task::JoinError) -> RenderFailure {
    RenderFailure::Build(format!("the engine failed: {error}"))
}

fn build(input: &KustomizeInput, stopping: &CancellationToken) -> Result<Rendered, RenderFailure> {
    let budget = Budget::default();
    let deadline = Instant::now() + input.timeout;
    let refused = Cell::new(None);
    let stop = || {
        let refusal: Option<RenderFailure> = refused.take();
        let stopped = refusal.is_some() || stopping.is_cancelled() || Instant::now() > deadline;
        refused.set(refusal);
        stopped
    };
    let cancelled = || match stopping.is_cancelled() {
        true => RenderFailure::Stopping,
        false => RenderFailure::Timeout(input.timeout),
    };
    let source = RenderInput {
        restriction: Restriction::Tree,
        stop: Some(&stop),
        carries: input.decrypts,
        ..RenderInput::new(&*input.tree, &input.path, &budget)
    };
    let generated = kustomize::generate(&source, &input.options).map_err(|error| match error {
        GenerateError::Cancelled => cancelled(),
        error => ungenerated(error, &input.path),
    })?;
    let tree = Overlay {
        tree: &*input.tree,
        path: &generated.path,
        bytes: generated.text.as_bytes(),
    };
    let mut taken = Taken::new(input.substitutes);
    // Each object is looked at when it comes: nothing is kept of what is over a limit.
    let built = kustomize::build_each_with_file(
        &RenderInput {
            tree: &tree,
            directory: &generated.directory,
            ..source
        },
        &mut |object, file| {
            let refusal = refused.take();
            refused.set(refusal.or_else(|| taken.add(object.value, file, &printed).err()));
        },
    );
    if let Some(refusal) = refused.take() {
        return Err(refusal);
    }
    let built = built.map_err(|error| match error {
        BuildError::Cancelled => cancelled(),
        error => RenderFailure::Build(error.to_string()),
    })?;
    // What the generated file was made from counts as well.
    let mut reads = generated.reads;
    reads.merge(built);
    Ok(Rendered {
        objects: taken.into_objects(),
        reads: Some(reads),
    })
}

/// Prints an object as the engine does.
fn printed(value: &Value) -> String {
    let mut text = String::new();
    yaml::push_json(&mut text, value);
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::artifact::{File, Tree};

    fn tree(files: &[(&str, &'static str)]) -> Tree {
        let mut tree = Tree::default();
        for (path, text) in files {
            let file = File {
                executable: false,
                bytes: Bytes::from_static(text.as_bytes()),
            };
            tree.insert_file(path, file).expect("new");
        }
        tree
    }

    fn input(files: &[(&str, &'static str)], path: &str) -> KustomizeInput {
        KustomizeInput {
            tree: Arc::new(tree(files)),
            path: path.to_owned(),
            options: Default::default(),
            substitutes: true,
            decrypts: false,
            timeout: Duration::from_secs(60),
        }
    }

    async fn rendered(files: &[(&str, &'static str)], path: &str) -> Result<Rendered, RenderFailure> {
        NativeRenderer::new(1).kustomize(input(files, path)).await
    }

    #[tokio::test]
    async fn values_of_encrypted_env_files_and_patches_carry_their_stanza_where_the_app_decrypts() {
        let files = [
            (
                "kustomization.yaml",
                "resources: [base.yaml]\npatches: [{path: patch.yaml}]\nsecretGenerator:\n- name: env\n  envs: [a.env, \
                 b.env]\n",
            ),
            (
                "base.yaml",
                "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {own: plain}\n",
            ),
            (
                "patch.yaml",
                "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {p: 'ENC[AES256_GCM,data:x]'}\nsops:\n  \
                 mac: ENC[AES256_GCM,m]\n",
            ),
            ("a.env", "A=ENC[AES256_GCM,data:x]\nsops_mac=ENC[AES256_GCM,m]\n"),
            ("b.env", "B=ENC[AES256_GCM,data:x]\nsops_mac=ENC[AES256_GCM,m]\n"),
        ];
        let decrypts = KustomizeInput {
            decrypts: true,
            ..input(&files, "")
        };
        let rendered = NativeRenderer::new(1)
            .kustomize(decrypts)
            .await
            .expect("rendered");
        let texts: Vec<String> = rendered
            .objects
            .iter()
            .map(|object| object.value.to_string())
            .collect();
        // Base64 of what begins a carried value.
        let begins = "RU5DW0ZMT1RJTExB";
        assert!(
            texts.iter().any(|text| text.contains("ENC[FLOTILLA,")),
            "{texts:?}"
        );
        assert!(
            texts.iter().any(|text| text.matches(begins).count() == 2),
            "{texts:?}"
        );
        assert!(texts.iter().all(|text| !text.contains("sops")), "{texts:?}");
    }

    const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: \"${v}\"}\n";

    #[tokio::test]
    async fn an_overlay_reads_its_base_and_keeps_what_is_to_be_substituted() {
        let files = [
            ("base/a.yaml", MAP),
            ("base/kustomization.yaml", "resources: [a.yaml]\n"),
            ("over/kustomization.yaml", "namespace: x\nresources: [../base]\n"),
        ];
        let rendered = rendered(&files, "./over").await.expect("built");
        assert_eq!(rendered.objects.len(), 1);
        assert_eq!(rendered.objects[0].key.to_string(), "ConfigMap/x/a");
        let text = rendered.objects[0].text.as_deref().unwrap_or_default();
        assert!(text.contains("k: ${v}"), "{text}");
    }

    #[tokio::test]
    async fn what_an_app_looked_at_tells_whether_a_change_concerns_it() {
        const OTHER: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n";
        let files = |base, sibling, more: &[(&'static str, &'static str)]| {
            let mut files = vec![
                ("base/a.yaml", base),
                ("base/kustomization.yaml", "resources: [a.yaml]\n"),
                ("over/kustomization.yaml", "resources: [../base]\n"),
                ("sibling/b.yaml", sibling),
            ];
            files.extend_from_slice(more);
            files
        };
        let concerns = async |old: &[_], new: &[_], path| {
            let reads = rendered(old, path).await.expect("built").reads.expect("recorded");
            let differences = tree(old).differences(&tree(new));
            differences.iter().any(|path| reads.seen.contains_key(path))
        };
        let old = files(MAP, OTHER, &[]);
        for (new, expected, what) in [
            (files(MAP, MAP, &[]), false, "a sibling"),
            (
                files(MAP, OTHER, &[("sibling/c.yaml", OTHER)]),
                false,
                "a new sibling",
            ),
            (files(OTHER, OTHER, &[]), true, "the base"),
            // Two files of a kustomization in one directory are an error, and must be found.
            (
                files(MAP, OTHER, &[("base/kustomization.yml", "resources: []\n")]),
                true,
                "what was absent",
            ),
        ] {
            assert_eq!(concerns(&old, &new, "over").await, expected, "{what}");
        }
        // Where Flux writes the kustomization itself, a new file is a new resource.
        let old = [("d/a.yaml", MAP)];
        assert!(concerns(&old, &[("d/a.yaml", MAP), ("d/b.yaml", OTHER)], "d").await);
        assert!(concerns(&old, &[("d/a.yaml", OTHER)], "d").await);
        assert!(!concerns(&old, &[("d/a.yaml", MAP), ("e/b.yaml", OTHER)], "d").await);
    }

    #[tokio::test]
    async fn a_directory_without_kustomization_gets_the_one_flux_would_write() {
        let rendered = rendered(&[("a.yaml", MAP)], "").await.expect("built");
        assert_eq!(rendered.objects[0].key.to_string(), "ConfigMap/a");
    }

    #[tokio::test]
    async fn an_object_without_api_version_is_named_with_its_file_kind_and_name() {
        let files = [
            ("base/a.yaml", MAP),
            (
                "base/b.yaml",
                "apiVersion: v1\nkind: List\nitems:\n- kind: ConfigMap\n  metadata: {name: b}\n",
            ),
            ("base/kustomization.yaml", "resources: [a.yaml, b.yaml]\n"),
            ("over/kustomization.yaml", "namespace: x\nresources: [../base]\n"),
        ];
        let failure = rendered(&files, "over").await.expect_err("refused");
        assert_eq!(
            failure.to_string(),
            "kustomize build failed: base/b.yaml: ConfigMap/x/b has no apiVersion"
        );
    }

    #[tokio::test]
    async fn the_deadline_holds_while_the_kustomization_is_written() {
        // What is read first is no manifest: whoever looked at it before the clock would say so.
        let input = KustomizeInput {
            timeout: Duration::ZERO,
            ..input(&[("a.yaml", "a: [\n"), ("b.yaml", MAP)], "")
        };
        let failure = NativeRenderer::new(1).kustomize(input).await.expect_err("late");
        assert!(matches!(failure, RenderFailure::Timeout(_)), "{failure}");
    }

    #[tokio::test]
    async fn a_hub_that_stops_waits_for_no_rendering() {
        let input = || input(&[("a.yaml", MAP)], "");
        let stopping = CancellationToken::new();
        let native = NativeRenderer::new(1).until(stopping.clone());
        native.kustomize(input()).await.expect("built");
        // One that runs, and one that waits for its turn.
        stopping.cancel();
        let running = build(&input(), &stopping).expect_err("stopped");
        assert!(matches!(running, RenderFailure::Stopping), "{running}");
        let _all = native.places.take().await.expect("there is a place");
        let waiting = native.kustomize(input()).await.expect_err("stopped");
        assert!(matches!(waiting, RenderFailure::Stopping), "{waiting}");
    }

    #[tokio::test]
    async fn an_engine_that_does_not_stop_is_waited_for_no_longer() {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let native = NativeRenderer::new(1);
        let place = native.places.take().await.expect("a place");
        let failure = ended_within(
            native.places.clone(),
            place,
            "app".to_owned(),
            Duration::from_millis(1),
            move || {
                let _ = ended.recv();
                Err::<(), _>(RenderFailure::Stopping)
            },
        );
        let failure = failure.await.expect_err("it does not stop");
        assert!(failure.to_string().contains("does not stop"), "{failure}");
        assert!(!failure.is_transient());
        // The only place is another's, although the thread runs on.
        native
            .kustomize(input(&[("a.yaml", MAP)], ""))
            .await
            .expect("built");
        drop(end);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_a_place_takes_nothing_of_the_time_of_a_rendering() {
        let native = NativeRenderer::new(1);
        let place = native.places.take().await.expect("a place");
        let input = KustomizeInput {
            timeout: Duration::from_secs(3),
            ..input(&[("a.yaml", MAP)], "")
        };
        let waiting = tokio::spawn(async move { native.kustomize(input).await });
        // It waits from now on.
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_secs(4)).await;
        drop(place);
        waiting.await.expect("it ends").expect("built");
    }

    #[tokio::test]
    async fn a_rendering_that_nobody_waits_for_any_more_stops_and_gives_its_place_back() {
        let native = NativeRenderer::new(1);
        let place = native.places.take().await.expect("a place");
        let (begins, begun) = tokio::sync::oneshot::channel();
        let rendering = native.at(place, input(&[], ""), |_, stopping| {
            let _ = begins.send(());
            while !stopping.is_cancelled() {
                std::thread::yield_now();
            }
            Err::<(), _>(RenderFailure::Stopping)
        });
        tokio::select! {
            _ = rendering => panic!("it does not end by itself"),
            begun = begun => begun.expect("it runs"),
        }
        native.places.take().await.expect("the place is free");
    }

    #[tokio::test]
    async fn what_is_wrong_is_named_as_flux_names_it() {
        let files = [("kustomization.yaml", "resources: [none.yaml]\n")];
        let failure = rendered(&files, "").await.expect_err("missing");
        assert!(
            failure.to_string().starts_with("kustomize build failed: "),
            "{failure}"
        );
        assert!(!failure.is_transient());
        assert!(matches!(
            rendered(&files, "./other").await,
            Err(RenderFailure::Path(_))
        ));
    }
}
