//! Renderers: from an artifact and a Kustomization's fields to objects. The [`native`] engine is the default; the
//! [`reference`] `kustomize` program, which an app may ask for, runs in a [`sandbox`]. What comes out is checked in
//! [`output`]. Callers see [`Renderer`] alone.

pub mod native;
pub mod output;
mod places;
pub mod reference;
pub mod sandbox;

use std::{sync::Arc, time::Duration};

use flotilla_render::kustomize::{GenerateOptions, ReadSet};

use crate::artifact::Tree;

pub use native::NativeRenderer;
pub use output::RenderedObject;
pub use places::{InLine, Place};
pub use reference::ReferenceRenderer;

/// What is rendered.
#[derive(Debug, Clone)]
pub struct KustomizeInput {
    /// The source's files.
    pub tree: Arc<Tree>,
    /// `spec.path` of the Kustomization.
    pub path: String,
    /// The fields of the Kustomization that change its build.
    pub options: GenerateOptions,
    /// Variables are put into what comes out: objects that may hold some are wanted as text.
    pub substitutes: bool,
    /// What is encrypted is decrypted in the cluster: values of encrypted files that are taken apart carry what it takes.
    pub decrypts: bool,
    /// Bound of the whole rendering, from when it has a place.
    pub timeout: Duration,
}

/// What came out.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    /// The objects, in the order of the engine; no two with the same key.
    pub objects: Vec<RenderedObject>,
    /// What was read; `None` from an engine that does not record it.
    pub reads: Option<ReadSet>,
}

/// Why nothing came out.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RenderFailure {
    /// `spec.path` is not in the source; the user has to change one of them. Flux's reason is `ArtifactFailed`.
    #[error("kustomization path not found: {0}")]
    Path(String),
    /// The engine or its output has a fault that only the user can mend. Flux's reason is `BuildFailed`.
    #[error("kustomize build failed: {0}")]
    Build(String),
    /// Something is over a limit; the user has to make it smaller.
    #[error("kustomize build failed: {what} exceeds the limit of {limit}")]
    TooLarge {
        /// What is counted, with the object's name where it is one's.
        what: String,
        /// The limit, with its unit.
        limit: String,
    },
    /// The time is over; retried with backoff.
    #[error("kustomize build failed: timed out after {}s", .0.as_secs_f32())]
    Timeout(Duration),
    /// As many renderings run as there are places, and none has ended for long: nothing of this one was done.
    #[error("all {0} places of the renderer are taken")]
    Busy(usize),
    /// The hub is about to end; whoever starts next renders it.
    #[error("the hub is stopping")]
    Stopping,
    /// This machine cannot render: sandbox, program, or disk. Retried with backoff, and for the operator to mend.
    #[error("the renderer cannot run: {0}")]
    Local(String),
}

impl RenderFailure {
    /// Tells whether trying again can help without anybody changing the source.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Timeout(_) | Self::Busy(_) | Self::Stopping | Self::Local(_)
        )
    }

    /// The reason of Flux's `Ready` condition.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Path(_) => "ArtifactFailed",
            _ => "BuildFailed",
        }
    }
}

/// The engines an app may ask for. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Renderer {
    /// The native engine.
    Native(NativeRenderer),
    /// The reference `kustomize` program.
    Reference(ReferenceRenderer),
}

impl Renderer {
    /// Names the engine and its version: a part of what identifies a rendering.
    pub fn version(&self) -> String {
        match self {
            Self::Native(renderer) => renderer.version().to_owned(),
            Self::Reference(renderer) => renderer.version(),
        }
    }

    /// Waits until there is a place soon; `None` when that takes long. Before an attempt is begun.
    pub async fn stand_in_line(&self) -> Option<InLine> {
        match self {
            Self::Native(renderer) => renderer.stand_in_line().await,
            Self::Reference(renderer) => renderer.stand_in_line().await,
        }
    }

    /// Waits for a place. There are fewer than workers: a source is unpacked only for one that has a place.
    pub async fn place(&self) -> Result<Place, RenderFailure> {
        match self {
            Self::Native(renderer) => renderer.place().await,
            Self::Reference(renderer) => renderer.place().await,
        }
    }

    /// Builds a Kustomization once there is a place.
    pub async fn kustomize(&self, input: KustomizeInput) -> Result<Rendered, RenderFailure> {
        let place = self.place().await?;
        self.at_place(place, input, |rendered| rendered).await
    }

    /// Builds a Kustomization at a place of this engine, and does with it what is to be done, on a thread that may block.
    pub async fn at_place<T: Send + 'static>(
        &self,
        place: Place,
        input: KustomizeInput,
        then: impl FnOnce(Rendered) -> T + Send + 'static,
    ) -> Result<T, RenderFailure> {
        match self {
            Self::Native(renderer) => renderer.at_place(place, input, then).await,
            Self::Reference(renderer) => {
                let rendered = Box::pin(renderer.at_place(place, input)).await?;
                let done = tokio::task::spawn_blocking(move || then(rendered)).await;
                done.map_err(|error| RenderFailure::Build(format!("what came out was not taken: {error}")))
            }
        }
    }
}
