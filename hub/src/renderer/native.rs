//! The native kustomize engine: in this process, on a blocking thread, within a budget and a deadline. It does no
//! IO, so there is nothing to confine.

use std::{
    cell::Cell,
    sync::Arc,
    time::{Duration, Instant},
};

use flotilla_render::kustomize::{
    self, Budget, BuildError, GenerateError, KUSTOMIZE_VERSION, Overlay, RenderInput, Restriction,
};
use tokio::sync::Semaphore;

use super::{Built, KustomizeInput, RenderFailure, Rendered, output::Taken, reference::ungenerated};

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
    pub async fn kustomize(&self, input: KustomizeInput) -> Result<Built, RenderFailure> {
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

fn build(input: &KustomizeInput) -> Result<Built, RenderFailure> {
    let budget = Budget::default();
    let deadline = Instant::now() + input.timeout;
    let refused = Cell::new(None);
    let stop = || {
        let refusal: Option<RenderFailure> = refused.take();
        let stopped = refusal.is_some() || Instant::now() > deadline;
        refused.set(refusal);
        stopped
    };
    let source = RenderInput {
        restriction: Restriction::Tree,
        stop: Some(&stop),
        ..RenderInput::new(&*input.tree, &input.path, &budget)
    };
    let generated = kustomize::generate(&source, &input.options).map_err(|error| match error {
        GenerateError::Cancelled => RenderFailure::Timeout(input.timeout),
        error => ungenerated(error, &input.path),
    })?;
    let tree = Overlay {
        tree: &*input.tree,
        path: &generated.path,
        bytes: generated.text.as_bytes(),
    };
    // The generated file is seen as the engine saw it: what it was made from is read anew each time.
    if input.known.as_ref().is_some_and(|reads| reads.holds(&tree)) {
        return Ok(Built::Unchanged);
    }
    let mut taken = Taken::default();
    // Each object is looked at when it comes: nothing is kept of what is over a limit.
    let built = kustomize::build_each(
        &RenderInput {
            tree: &tree,
            directory: &generated.directory,
            ..source
        },
        &mut |object| {
            let refusal = refused.take();
            let text = object.to_yaml();
            refused.set(refusal.or_else(|| taken.add(object.value, text).err()));
        },
    );
    if let Some(refusal) = refused.take() {
        return Err(refusal);
    }
    let reads = Some(built.map_err(|error| failure(error, input.timeout))?);
    let objects = taken.into_objects();
    Ok(Built::New(Rendered { objects, reads }))
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
    use flotilla_render::kustomize::ReadSet;

    use super::*;
    use crate::artifact::{File, Tree};

    async fn rendered(files: &[(&str, &'static str)], path: &str) -> Result<Rendered, RenderFailure> {
        match built(files, path, None).await? {
            Built::New(rendered) => Ok(rendered),
            Built::Unchanged => panic!("nothing was known"),
        }
    }

    async fn built(
        files: &[(&str, &'static str)],
        path: &str,
        known: Option<ReadSet>,
    ) -> Result<Built, RenderFailure> {
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
            known,
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
    async fn what_an_app_did_not_read_does_not_build_it_again() {
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
        let reads = rendered(&files(MAP, OTHER, &[]), "over")
            .await
            .expect("built")
            .reads;
        let again = async |files: &[_]| built(files, "over", reads.clone()).await.expect("built");
        assert_eq!(again(&files(MAP, MAP, &[])).await, Built::Unchanged, "a sibling");
        assert_eq!(
            again(&files(MAP, OTHER, &[("sibling/c.yaml", OTHER)])).await,
            Built::Unchanged,
            "a new sibling"
        );
        assert!(
            matches!(again(&files(OTHER, OTHER, &[])).await, Built::New(_)),
            "the base"
        );
        // Two files of a kustomization in one directory are an error, and must be found.
        let twice = files(MAP, OTHER, &[("base/kustomization.yml", "resources: []\n")]);
        assert!(
            built(&twice, "over", reads.clone()).await.is_err(),
            "what was absent"
        );
        // Where Flux writes the kustomization itself, a new file is a new resource.
        let reads = rendered(&[("d/a.yaml", MAP)], "d").await.expect("built").reads;
        let more = [("d/a.yaml", MAP), ("d/b.yaml", OTHER)];
        let grown = built(&more, "d", reads.clone()).await.expect("built");
        assert!(matches!(grown, Built::New(rendered) if rendered.objects.len() == 2));
        let same = built(&[("d/a.yaml", MAP), ("e/b.yaml", OTHER)], "d", reads).await;
        assert_eq!(same.expect("built"), Built::Unchanged);
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
