//! The native kustomize engine: in this process, on a blocking thread, within a budget and a deadline. It does no
//! IO, so there is nothing to confine.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use flotilla_render::kustomize::{
    self, Budget, BuildError, KUSTOMIZE_VERSION, Overlay, RenderInput, Restriction,
};
use tokio::sync::Semaphore;

use super::{KustomizeInput, RenderFailure, Rendered, output, reference::ungenerated};

/// The native engine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct NativeRenderer {
    running: Arc<Semaphore>,
}

impl NativeRenderer {
    /// An engine that renders so many at the same time.
    pub fn new(concurrency: usize) -> Self {
        Self {
            running: Arc::new(Semaphore::new(concurrency.max(1))),
        }
    }

    /// Names the engine: the version of kustomize it follows, and its own.
    pub fn version() -> String {
        format!(
            "kustomize-native/{KUSTOMIZE_VERSION}+{}",
            env!("CARGO_PKG_VERSION")
        )
    }

    /// Builds a Kustomization.
    pub async fn kustomize(&self, input: KustomizeInput) -> Result<Rendered, RenderFailure> {
        let stopping = |_| RenderFailure::Local("the hub is stopping".into());
        let permit = Arc::clone(&self.running)
            .acquire_owned()
            .await
            .map_err(stopping)?;
        // A panic of the engine is this rendering's failure and nobody else's.
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            build(&input)
        });
        done.await
            .map_err(|error| RenderFailure::Build(format!("the engine failed: {error}")))?
    }
}

fn build(input: &KustomizeInput) -> Result<Rendered, RenderFailure> {
    let budget = Budget::default();
    let generated = kustomize::generate(&*input.tree, &input.path, &input.options, &budget, &|_| false)
        .map_err(|error| ungenerated(error, &input.path))?;
    let tree = Overlay {
        tree: &*input.tree,
        path: &generated.path,
        bytes: generated.text.as_bytes(),
    };
    let deadline = Instant::now() + input.timeout;
    let stop = || Instant::now() > deadline;
    let built = kustomize::build(&RenderInput {
        restriction: Restriction::Tree,
        stop: Some(&stop),
        ..RenderInput::new(&tree, &generated.directory, &budget)
    });
    let built = built.map_err(|error| failure(error, input.timeout))?;
    let objects = built.objects.into_iter().map(|object| {
        let text = object.to_yaml();
        (object.value, text)
    });
    output::from_values(objects).map(|objects| Rendered { objects })
}

fn failure(error: BuildError, timeout: Duration) -> RenderFailure {
    match error {
        BuildError::Cancelled => RenderFailure::Timeout(timeout),
        error => RenderFailure::Build(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::artifact::{File, Tree};

    async fn rendered(files: &[(&str, &'static str)], path: &str) -> Result<Rendered, RenderFailure> {
        let mut tree = Tree::default();
        for (path, text) in files {
            let file = File {
                executable: false,
                bytes: Bytes::from_static(text.as_bytes()),
            };
            tree.insert_file(path, file).expect("new");
        }
        let input = KustomizeInput {
            tree: Arc::new(tree),
            path: path.to_owned(),
            options: Default::default(),
            timeout: Duration::from_secs(60),
        };
        NativeRenderer::new(1).kustomize(input).await
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
        assert!(
            rendered.objects[0].text.contains("k: ${v}"),
            "{}",
            rendered.objects[0].text
        );
    }

    #[tokio::test]
    async fn a_directory_without_kustomization_gets_the_one_flux_would_write() {
        let rendered = rendered(&[("a.yaml", MAP)], "").await.expect("built");
        assert_eq!(rendered.objects[0].key.to_string(), "ConfigMap/a");
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
