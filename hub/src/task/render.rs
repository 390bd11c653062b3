//! Renders what is due for one app: once per distinct input, for all clusters. Equal output stops here.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use flotilla_api::{
    kinds::kustomization::KustomizationSpec,
    nested::{self, Fate},
};
use flotilla_core::{
    backoff::Backoff,
    content::{Content, Form, ObjectEntry, Objects, object_bytes, object_digest},
    digest::Digest,
    object::ObjectKey,
    printable::printable_message,
    rollout::{
        plan::{Admission, Admitted},
        waiting::Waiting,
    },
};
use flotilla_render::kustomize::{GenerateOptions, Image};
use serde_json::{Value, json};
use tracing::Instrument as _;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    Context,
    lease::kept,
    planner::{Planner, is_large},
    queue::Outcome,
};
use crate::{
    artifact::{self, ArtifactDigest, ReadLimits, Tree},
    renderer::{InLine, KustomizeInput, Place, RenderFailure, Rendered, RenderedObject, Renderer},
    store::{
        StoreError, Topic,
        content::Blob,
        event::NewEvent,
        reference::sources_named,
        rendering::{Ended as RenderingEnded, Input, Kept, Outcome as Ended, RenderingRow},
        resource::ResourceRow,
        source::RevisionRow,
        work::HELD,
    },
};

/// The engines there are.
pub struct Engine {
    /// The default.
    pub native: Renderer,
    /// Only for apps that ask for it; why there is none, where there is none.
    pub reference: Result<Renderer, String>,
    /// Held by a rendering that has ended the hub before.
    alone: tokio::sync::Mutex<()>,
    /// What is rendered here now: several apps may ask for one.
    running: Running,
}

/// Renderings in progress on this replica.
#[derive(Debug, Default)]
struct Running(Mutex<HashSet<Digest>>);

/// One rendering in progress; ends with its drop.
struct Turn<'a>(&'a Running, Digest);

impl Running {
    /// Begins a rendering; `None`: it is in progress.
    fn begin(&self, digest: Digest) -> Option<Turn<'_>> {
        let begun = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(digest);
        begun.then(|| Turn(self, digest))
    }
}

/// An attempt in progress. One that is left before it has ended, whatever the cause, is given back: only what ends with
/// the process counts as lost.
struct Attempt<'a> {
    work: &'a Work<'a>,
    number: i32,
    has_ended: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let Work {
            context, rendering, ..
        } = *self.work;
        let (store, replica) = (context.store.clone(), context.replica.clone());
        let number = self.number;
        // With none the process ends, and says so itself.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            if let Err(error) = store.release_rendering(&rendering, &replica, number).await {
                tracing::debug!(%error, "a rendering is given back by its time");
            }
        });
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut running = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.remove(&self.1);
    }
}

/// An app asks for an engine by this annotation: `native` (the default) or `reference`. Never a silent fallback.
pub const RENDERER_ANNOTATION: &str = "fleet.flotilla.dev/renderer";

impl Engine {
    /// These engines.
    pub fn new(native: Renderer, reference: Result<Renderer, String>) -> Self {
        Self {
            native,
            reference,
            alone: tokio::sync::Mutex::default(),
            running: Running::default(),
        }
    }

    /// The engine an app asks for, or why it cannot be had.
    fn of(&self, app: &ResourceRow) -> Result<&Renderer, Waiting> {
        match app.annotations.get(RENDERER_ANNOTATION).and_then(Value::as_str) {
            None | Some("native") => Ok(&self.native),
            Some("reference") => self
                .reference
                .as_ref()
                .map_err(|why| Waiting::NoReferenceRenderer {
                    message: why.to_string(),
                }),
            Some(other) => Err(Waiting::UnknownRenderer {
                annotation: RENDERER_ANNOTATION.to_owned(),
                name: other.to_owned(),
            }),
        }
    }
}

/// What an app may be given now.
pub struct RenderStatus {
    /// The current revision's rendering, or why there is none. `None` while that is not known: units stay as they are.
    pub admission: Option<Admission>,
    /// Why that is not known yet, where it is to be said.
    pub waiting: Option<Waiting>,
    /// The source's current revision; '' while there is none.
    pub revision: String,
    /// Digest of what the hub keeps of it, where it keeps anything.
    pub kept: Option<Digest>,
    /// The manifest of what was rendered just now.
    pub manifest: Option<Arc<[u8]>>,
    /// It is left to whoever can render it sooner.
    pub is_left: bool,
    /// When to look again.
    pub outcome: Outcome,
}

impl RenderStatus {
    /// Nothing, for these reasons; a suspended app has none of its own.
    pub fn held(reasons: Vec<Waiting>) -> Self {
        Self::known(Admission::Held(reasons), Outcome::Done)
    }

    fn known(admission: Admission, outcome: Outcome) -> Self {
        Self {
            admission: Some(admission),
            ..Self::later(outcome)
        }
    }

    /// It is rendered elsewhere, or later.
    fn later(outcome: Outcome) -> Self {
        Self {
            admission: None,
            waiting: None,
            revision: String::new(),
            kept: None,
            manifest: None,
            is_left: false,
            outcome,
        }
    }
}

/// What came of an attempt.
enum Attempted {
    /// It has ended.
    Ended(Ended),
    /// Nothing was done: it counts for nothing, and any replica may begin. What is to be said of that, if anything.
    GivenBack(Option<Waiting>),
}

/// What a failure may say, in bytes.
const MAX_MESSAGE: usize = 4 << 10;
/// Bound of one rendering.
const TIMEOUT: Duration = Duration::from_secs(300);
/// For so long a rendering belongs to the replica that began it, unless it says that it is still at it: one that was
/// killed or stands still delays the others by no more.
const LEASE: Duration = Duration::from_secs(5);
/// How often it says so.
const RENEW: Duration = Duration::from_millis(1500);
/// How long a rendering that must be alone waits while another one is.
const ALONE: Duration = Duration::from_secs(2);
/// How long one that found no place leaves its app to hubs that may have one: they look again when it is no longer held.
const BUSY: Duration = HELD.saturating_add(Duration::from_secs(1));
/// Objects that a notice names.
const NAMED: usize = 5;

/// Renders the source's current revision for `app` if that is due. Only that rendering may be admitted: another
/// revision's, or another source's, is not what the app says now. A suspended app is rendered as well: it is given nothing of it,
/// and what it would claim is known to those that it would take something over from.
pub async fn reconcile(
    context: &Context,
    planner: &Planner,
    app: &ResourceRow,
    spec: &KustomizationSpec,
    substitutes: bool,
) -> anyhow::Result<RenderStatus> {
    let renderer = match context.renderer.of(app) {
        Ok(renderer) => renderer,
        Err(problem) => return Ok(RenderStatus::held(vec![problem])),
    };
    let (source, revision) = match source_revision(planner, app).await? {
        Ok(found) => found,
        Err(problem) => return Ok(RenderStatus::held(vec![problem])),
    };
    let fields = fields(renderer, spec, substitutes);
    let input = Input::new(app.uid, fields, source, revision.id, &revision.artifact_digest);
    let (rendering, row) = current(planner, &input).await?;
    let work = Work {
        context,
        planner,
        renderer,
        app,
        spec,
        source,
        revision: &revision,
        substitutes,
        rendering,
    };
    let mut status = work.admission(row).await?;
    status.revision = revision.revision;
    Ok(status)
}

/// What the input renders to at the source's present revision, and how far that is; recorded as the app's where that is new.
async fn current(planner: &Planner, input: &Input) -> anyhow::Result<(Digest, Option<RenderingRow>)> {
    let known = planner.input(input).await?;
    let taken = match known.as_ref().is_some_and(|row| row.is_named) {
        true => None,
        false => planner.take_input(input).await?,
    };
    Ok(known.map_or((input.rendering, taken), |known| (known.rendering, known.row)))
}

/// One rendering, and what it is of.
struct Work<'a> {
    context: &'a Context,
    planner: &'a Planner,
    renderer: &'a Renderer,
    app: &'a ResourceRow,
    spec: &'a KustomizationSpec,
    source: Uuid,
    revision: &'a RevisionRow,
    substitutes: bool,
    rendering: Digest,
}

impl Work<'_> {
    /// `row`: the rendering as recorded.
    async fn admission(&self, mut row: Option<RenderingRow>) -> anyhow::Result<RenderStatus> {
        // What ended the hub once is rendered with nothing beside it that could be blamed in its place.
        let _alone = match &row {
            Some(row) if row.state == "Pending" && row.lost > 0 => {
                match self.context.renderer.alone.try_lock() {
                    Ok(alone) => Some(alone),
                    Err(_) => return Ok(RenderStatus::later(Outcome::After(ALONE))),
                }
            }
            _ => None,
        };
        if row.as_ref().is_none_or(|row| row.state == "Pending") {
            // Who is at it wakes all that have the same.
            let Some(_turn) = self.context.renderer.running.begin(self.rendering) else {
                return Ok(RenderStatus::later(Outcome::After(ALONE)));
            };
            // Of many that are to be rendered most would wait for a place longer than they may.
            let Some(in_line) = self.renderer.stand_in_line().await else {
                return Ok(RenderStatus {
                    is_left: true,
                    ..RenderStatus::later(Outcome::After(BUSY))
                });
            };
            if let Some(attempt) = self.planner.begin_rendering(&self.rendering, LEASE).await? {
                let step = crate::trace::render(&self.app.display(), &self.revision.revision);
                return self.render(attempt, in_line).instrument(step).await;
            }
            row = self.context.store.rendering(&self.rendering).await?;
        }
        let row = row.ok_or(StoreError::Conflict("the app's rendering"))?;
        let mut kept = None;
        let admission = match row.state.as_str() {
            "Done" => {
                kept = row.kept.as_deref().map(|kept| self.digest(kept)).transpose()?;
                Admission::Admitted(self.admitted(row.content.as_deref())?)
            }
            // Another replica's first attempt has said nothing yet.
            "Pending" if row.message.is_empty() => return Ok(RenderStatus::later(later(&row))),
            _ => Admission::Held(vec![waiting(&row.reason, &row.message)]),
        };
        let outcome = if row.state == "Pending" {
            later(&row)
        } else {
            Outcome::Done
        };
        Ok(RenderStatus {
            kept,
            ..RenderStatus::known(admission, outcome)
        })
    }

    fn admitted(&self, content: Option<&[u8]>) -> anyhow::Result<Admitted> {
        Ok(Admitted {
            revision: self.revision.id,
            content: self.digest(content.unwrap_or_default())?,
        })
    }

    fn digest(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        Digest::try_from_slice(bytes)
            .map_err(|e| StoreError::corrupt(format!("rendering of {}", self.app.display()), e))
    }

    /// Renders and records what came of it; of a rendering that the end of this hub stopped there is nothing to say.
    async fn render(&self, attempt: i32, in_line: InLine) -> anyhow::Result<RenderStatus> {
        let context = self.context;
        let mut begun = Attempt {
            work: self,
            number: attempt,
            has_ended: false,
        };
        let work = async {
            let began = Instant::now();
            let (attempted, place) = self.ended(attempt).await?;
            let ended = match attempted {
                Attempted::Ended(ended) => Arc::new(told(ended)),
                Attempted::GivenBack(waiting) => {
                    context
                        .store
                        .give_back_rendering(&self.rendering, &context.replica)
                        .await?;
                    return Ok((Err(waiting), 0));
                }
            };
            let duration_ms = i32::try_from(began.elapsed().as_millis()).unwrap_or(i32::MAX);
            // What is large keeps its place until it is recorded: there is no more of it at once than there are places.
            let place = place.filter(|_| is_large(&ended)).map(|place| (place, in_line));
            let recorded = RenderingEnded {
                app: self.app.uid,
                rendering: self.rendering,
                outcome: ended.clone(),
                duration_ms,
            };
            self.planner.record_rendered(recorded).await?;
            drop(place);
            anyhow::Ok((Ok(ended), duration_ms))
        };
        let held = async {
            let keep = || {
                context
                    .store
                    .keep_rendering(&self.rendering, &context.replica, attempt, LEASE)
            };
            kept(
                RENEW,
                keep,
                "another replica may take this rendering too; both come to the same",
            )
            .await;
            // The other may wait for a place or never come to it: whoever has ended first has rendered it.
            std::future::pending::<std::convert::Infallible>().await
        };
        let done = tokio::select! {
            done = work => done?,
            never = held => match never {},
        };
        begun.has_ended = true;
        let (attempted, duration_ms) = done;
        let ended = match attempted {
            Ok(ended) => ended,
            Err(waiting) => {
                let again = if waiting.is_some() { BUSY } else { ALONE };
                return Ok(RenderStatus {
                    waiting,
                    ..RenderStatus::later(Outcome::After(again))
                });
            }
        };
        self.tell(&ended, attempt, duration_ms).await?;
        let (manifest, kept) = match &*ended {
            Ended::Done { manifest, kept, .. } => (
                Some(manifest.clone()),
                kept.as_ref().map(|kept| self.digest(&kept.content)).transpose()?,
            ),
            _ => (None, None),
        };
        let (admission, outcome) = match &*ended {
            Ended::Done { content, .. } => (
                Admission::Admitted(self.admitted(Some(&content[..]))?),
                Outcome::Done,
            ),
            Ended::Failed { reason, message } => {
                (Admission::Held(vec![waiting(reason, message)]), Outcome::Done)
            }
            Ended::Again {
                reason,
                message,
                after,
            } => (
                Admission::Held(vec![waiting(reason, message)]),
                Outcome::After(*after),
            ),
            Ended::NotSupported { message } => (
                Admission::Held(vec![waiting("NotSupported", message)]),
                Outcome::Done,
            ),
        };
        Ok(RenderStatus {
            kept,
            manifest,
            ..RenderStatus::known(admission, outcome)
        })
    }

    /// Renders, and stores nothing. What came out has its place still.
    async fn ended(&self, attempt: i32) -> anyhow::Result<(Attempted, Option<Place>)> {
        let again = |reason: &str, message: String| Ended::Again {
            reason: reason.to_owned(),
            message,
            after: Backoff::RECONCILE.bound(u32::try_from(attempt).unwrap_or(1)),
        };
        let store = &self.context.store;
        // Before the source is there: as many are unpacked as there are places.
        let place = match self.renderer.place().await {
            Ok(place) => place,
            Err(failure) => return Ok((self.not_rendered(failure, again), None)),
        };
        let tree = match self.tree().await? {
            Ok(tree) => tree,
            Err(artifact::StoreError::Refused { digest, source }) => {
                let failed = Ended::Failed {
                    reason: "ArtifactFailed".to_owned(),
                    message: format!("artifact {digest} cannot be used: {source}"),
                };
                return Ok((Attempted::Ended(failed), None));
            }
            Err(
                error @ (artifact::StoreError::Unavailable { .. } | artifact::StoreError::Foreign { .. }),
            ) => {
                return Ok((Attempted::Ended(again("ArtifactFailed", error.to_string())), None));
            }
            Err(error) => {
                // Only its source can bring it back.
                store.wake(Topic::Resource, &[self.source]).await?;
                let again = again("ArtifactFailed", format!("{error}; the source is fetched again"));
                return Ok((Attempted::Ended(again), None));
            }
        };
        let input = KustomizeInput {
            tree,
            path: self
                .spec
                .path
                .as_ref()
                .map_or("", |path| path.as_str())
                .to_owned(),
            options: options(self.spec)?,
            substitutes: self.substitutes,
            decrypts: self.spec.decryption.is_some(),
            timeout: TIMEOUT,
        };
        let key = self.context.digest_key;
        // All objects are written and hashed once, where they were made: not on a thread that has streams to serve.
        let decrypts = self.spec.decryption.is_some();
        let ended = move |rendered: Rendered| ended(&key, rendered, decrypts);
        Ok(match self.renderer.at_place(place.clone(), input, ended).await {
            Ok(ended) => (Attempted::Ended(ended), Some(place)),
            Err(failure) => (self.not_rendered(failure, again), None),
        })
    }

    /// What becomes of a rendering that nothing came out of.
    fn not_rendered(&self, failure: RenderFailure, again: impl FnOnce(&str, String) -> Ended) -> Attempted {
        Attempted::Ended(match failure {
            RenderFailure::Stopping => return Attempted::GivenBack(None),
            busy @ RenderFailure::Busy(_) => {
                tracing::debug!(app = %self.app.display(), %busy, "not rendered yet");
                return Attempted::GivenBack(Some(Waiting::RendererBusy));
            }
            failure if failure.is_transient() => again(failure.reason(), failure.to_string()),
            failure => Ended::Failed {
                reason: failure.reason().to_owned(),
                message: failure.to_string(),
            },
        })
    }

    async fn tree(&self) -> anyhow::Result<Result<Arc<Tree>, artifact::StoreError>> {
        let digest = ArtifactDigest::parse(&self.revision.artifact_digest)
            .map_err(|e| StoreError::corrupt("artifact digest", e))?;
        let artifacts = &self.context.sources.artifacts;
        Ok(artifacts.tree(digest, ReadLimits::packaged_here()).await)
    }

    /// Logs how a rendering ended; a failure that repeats is one event, not one each attempt.
    async fn tell(&self, ended: &Ended, attempt: i32, duration_ms: i32) -> anyhow::Result<()> {
        let (app, revision) = (self.app.display(), &self.revision.revision);
        let (reason, message) = match ended {
            Ended::Done { objects, notice, .. } => {
                tracing::info!(app = %app, revision = %revision, objects = objects.len(), duration_ms, "rendered");
                let Some(notice) = notice else {
                    return Ok(());
                };
                let event = NewEvent {
                    warning: false,
                    reason: "LeftOut",
                    message: notice,
                    resource: self.app.uid,
                    revision,
                };
                return Ok(self.context.store.record_event(&event).await?);
            }
            Ended::Again { .. } if attempt > 1 => return Ok(()),
            Ended::Failed { reason, message } | Ended::Again { reason, message, .. } => {
                (reason.as_str(), message)
            }
            Ended::NotSupported { message } => ("NotSupported", message),
        };
        let event = NewEvent {
            warning: true,
            reason,
            message,
            resource: self.app.uid,
            revision,
        };
        Ok(self.context.store.record_event(&event).await?)
    }
}

/// When a pending rendering is to be looked at again.
fn later(row: &RenderingRow) -> Outcome {
    Outcome::After(row.wait().unwrap_or(ALONE))
}

/// What a failure says in a row, an event and a condition: it may quote the source, whose names of files and objects may
/// hold anything, and be of any length.
fn said(message: &str) -> String {
    printable_message(message, MAX_MESSAGE)
}

/// Makes what a failure says fit to be kept and told.
fn told(mut ended: Ended) -> Ended {
    match &mut ended {
        Ended::Done { .. } => {}
        Ended::Failed { message, .. } | Ended::Again { message, .. } | Ended::NotSupported { message } => {
            *message = said(message);
        }
    }
    ended
}

fn waiting(reason: &str, message: &str) -> Waiting {
    let message = said(message);
    match reason {
        "ArtifactFailed" => Waiting::ArtifactFailed { message },
        "NotSupported" => Waiting::RenderingNotSupported { message },
        _ => Waiting::BuildFailed { message },
    }
}

/// The source that the app names now, and its current revision.
async fn source_revision(
    planner: &Planner,
    app: &ResourceRow,
) -> anyhow::Result<Result<(Uuid, RevisionRow), Waiting>> {
    let named = sources_named(app.scope, &app.namespace, &app.spec);
    let mut missing = None;
    for one in named {
        if let Some((source, revision)) = planner.named_source(one.clone()).await? {
            return Ok(revision
                .map(|revision| (source, revision))
                .ok_or(Waiting::NoArtifact));
        }
        missing = Some(one);
    }
    let missing = missing
        .ok_or_else(|| StoreError::corrupt(format!("spec of {}", app.display()), "it names no source"))?;
    Ok(Err(Waiting::SourceNotFound {
        kind: missing.kind,
        namespace: missing.namespace,
        name: missing.name,
    }))
}

/// Digest of what `app` asks to be rendered with, as it stands, without source and artifact; `None`: it cannot be read, or
/// asks for an engine that is not there.
pub fn asked(engine: &Engine, app: &ResourceRow, overrides_variables: bool) -> Option<Digest> {
    let spec: KustomizationSpec = serde_json::from_value(app.spec.clone()).ok()?;
    let renderer = engine.of(app).ok()?;
    let substitutes = spec.post_build.is_some() || overrides_variables;
    Some(fields(renderer, &spec, substitutes))
}

/// Digest of the input without source and artifact.
fn fields(renderer: &Renderer, spec: &KustomizationSpec, substitutes: bool) -> Digest {
    let mut fields = json!({
        "engine": renderer.version(),
        "path": spec.path,
        "targetNamespace": spec.target_namespace,
        "namePrefix": spec.name_prefix,
        "nameSuffix": spec.name_suffix,
        "patches": spec.patches,
        "images": spec.images,
        "components": spec.components,
        "ignoreMissingComponents": spec.ignore_missing_components,
        "buildMetadata": spec.build_metadata,
        "substitutes": substitutes,
    });
    // What is encrypted goes to the cluster as it is, or is refused.
    if spec.decryption.is_some() {
        fields["decrypts"] = true.into();
    }
    Digest::of_json("fields", &fields)
}

fn options(spec: &KustomizationSpec) -> Result<GenerateOptions, serde_json::Error> {
    let text = |one: &Option<String>| one.clone().unwrap_or_default();
    Ok(GenerateOptions {
        target_namespace: spec.target_namespace.as_ref().map(|one| one.as_str().to_owned()),
        name_prefix: spec.name_prefix.clone(),
        name_suffix: spec.name_suffix.clone(),
        patches: spec
            .patches
            .iter()
            .map(serde_json::to_value)
            .collect::<Result<_, _>>()?,
        components: spec.components.clone(),
        ignore_missing_components: spec.ignore_missing_components,
        images: spec
            .images
            .iter()
            .map(|image| Image {
                name: image.name.clone(),
                new_name: text(&image.new_name),
                new_tag: text(&image.new_tag),
                digest: text(&image.digest),
            })
            .collect(),
        build_metadata: spec
            .build_metadata
            .iter()
            .filter_map(|one| serde_json::to_value(one).ok()?.as_str().map(str::to_owned))
            .collect(),
    })
}

/// Turns rendered objects into a content, and what the hub keeps of them into another one; refuses what this release does not
/// do. `decrypts`: what is encrypted is decrypted in the cluster.
fn ended(digest_key: &[u8; 32], rendered: Rendered, decrypts: bool) -> Ended {
    let paths: Option<BTreeSet<String>> = rendered.reads.map(|reads| reads.seen.into_keys().collect());
    let rendered = rendered.objects;
    if let Some(message) = rendered.iter().find_map(|one| unsupported(one, decrypts)) {
        return Ended::NotSupported { message };
    }
    let fates = nested::fates(rendered.iter().map(|one| &one.value));
    let (mut sent, mut kept) = (Part::default(), Part::default());
    let mut left_out = Vec::new();
    for (one, fate) in rendered.into_iter().zip(fates) {
        match fate {
            Fate::Send => sent.add(digest_key, one),
            Fate::Keep => kept.add(digest_key, one),
            Fate::Both => {
                kept.add(digest_key, one.clone());
                sent.add(digest_key, one);
            }
            Fate::LeaveOut => left_out.push(one.key),
        }
    }
    let sent = sent.into_content();
    Ended::Done {
        content: sent.content,
        manifest: sent.manifest,
        objects: sent.objects,
        kept: (!kept.entries.is_empty()).then(|| kept.into_content()),
        notice: notice(&left_out),
        paths,
    }
}

/// Objects of a rendering that go one way.
#[derive(Default)]
struct Part {
    entries: Vec<ObjectEntry>,
    objects: Vec<Blob>,
}

impl Part {
    fn add(&mut self, digest_key: &[u8; 32], one: RenderedObject) {
        let secret = one.key.is_secret();
        let (form, bytes): (Form, Vec<u8>) = match one.text {
            Some(text) => (Form::Yaml, text.into_bytes()),
            None => (Form::Json, object_bytes(&one.value)),
        };
        let bytes = Zeroizing::new(bytes);
        let digest = object_digest(form, &bytes, secret.then_some(digest_key));
        self.objects.push(Blob {
            digest: *digest.as_bytes(),
            bytes,
            secret,
        });
        self.entries.push(ObjectEntry {
            key: one.key,
            form,
            digest,
        });
    }

    fn into_content(self) -> Kept {
        let count = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        let content = Content::Objects(Objects {
            entries: self.entries,
            count,
            complete: true,
        });
        let manifest = content.to_bytes();
        Kept {
            content: *Content::digest_of(&manifest).as_bytes(),
            manifest: manifest.into(),
            objects: self.objects.into(),
        }
    }
}

/// What is said of objects that are left out.
fn notice(left_out: &[ObjectKey]) -> Option<String> {
    let mut names: Vec<String> = left_out.iter().take(NAMED).map(ToString::to_string).collect();
    if left_out.len() > names.len() {
        names.push(format!("and {} more", left_out.len() - names.len()));
    }
    let objects = match left_out.len() {
        0 => return None,
        1 => "an object of Flux itself is".to_owned(),
        count => format!("{count} objects of Flux itself are"),
    };
    Some(format!(
        "{objects} left out, since the hub and its agents do what they do: {}",
        names.join(", ")
    ))
}

fn unsupported(one: &RenderedObject, decrypts: bool) -> Option<String> {
    if !decrypts && is_encrypted(&one.key, &one.value) {
        return Some(format!(
            "{} is SOPS encrypted, configuring decryption is required for this object to be reconciled",
            one.key
        ));
    }
    None
}

/// A SOPS stanza beside the object's own fields, or a Secret's value that is a SOPS document.
fn is_encrypted(key: &ObjectKey, value: &Value) -> bool {
    let stanza = value.get("sops").and_then(|sops| sops.get("mac")).is_some();
    stanza
        || key.is_secret()
            && ["data", "stringData"]
                .iter()
                .filter_map(|field| value.get(*field)?.as_object())
                .flat_map(|values| values.values())
                .filter_map(Value::as_str)
                .any(|text| text.starts_with("ENC[AES256_GCM,"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{renderer::NativeRenderer, store::resource::FLEET};

    fn app(annotations: Value) -> ResourceRow {
        ResourceRow {
            uid: uuid::Uuid::nil(),
            scope: FLEET,
            cluster: String::new(),
            api_group: String::new(),
            kind: "Kustomization".into(),
            namespace: "a".into(),
            name: "b".into(),
            api_version: String::new(),
            generation: 1,
            labels: json!({}),
            annotations,
            spec: json!({}),
            suspended: None,
            requested_at: String::new(),
            handled_at: String::new(),
            payload_digest: None,
            not_supported: vec![],
            created_at: time::OffsetDateTime::UNIX_EPOCH,
            deletion: None,
            deletion_by: String::new(),
            owner: String::new(),
        }
    }

    #[test]
    fn an_app_gets_the_engine_it_asks_for_or_none_and_never_another() {
        let native = Renderer::Native(NativeRenderer::new(1));
        let engine = Engine::new(native, Err("no such program".into()));
        let version = engine.native.version();
        let chosen = |annotations: Value| engine.of(&app(annotations)).map(Renderer::version);
        assert_eq!(chosen(json!({})), Ok(version.clone()));
        assert_eq!(chosen(json!({ RENDERER_ANNOTATION: "native" })), Ok(version));
        for asked in ["reference", "Reference", "other"] {
            let refused = chosen(json!({ RENDERER_ANNOTATION: asked }));
            assert_eq!(
                refused.err().map(|why| why.reason().to_owned()).as_deref(),
                Some("NotSupported"),
                "{asked}"
            );
        }
    }

    fn rendered(values: Vec<Value>) -> Ended {
        let objects = values.into_iter().map(|value| RenderedObject {
            key: ObjectKey::of(&value).expect("a key"),
            text: None,
            value,
        });
        let rendered = Rendered {
            objects: objects.collect(),
            reads: None,
        };
        ended(&[7; 32], rendered, false)
    }

    fn keys(manifest: &[u8]) -> Vec<String> {
        let content = Content::from_bytes(manifest).expect("a content");
        content.objects().iter().map(|one| one.key.to_string()).collect()
    }

    #[test]
    fn what_the_hub_keeps_is_a_content_of_its_own_and_no_part_of_what_is_sent() {
        let metadata = |name: &str| json!({ "name": name, "namespace": "a" });
        let child = json!({
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "metadata": metadata("child"),
            "spec": { "postBuild": { "substituteFrom": [{ "kind": "ConfigMap", "name": "both" }] } }
        });
        let config =
            |name: &str| json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(name) });
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": { "name": "x" }, "spec": { "group": "source.toolkit.fluxcd.io" }
        });
        let Ended::Done {
            manifest,
            objects,
            kept,
            notice,
            ..
        } = rendered(vec![config("sent"), child.clone(), config("both"), definition])
        else {
            panic!("not rendered");
        };
        assert_eq!(keys(&manifest), ["ConfigMap/a/sent", "ConfigMap/a/both"]);
        assert_eq!(objects.len(), 2);
        let kept = kept.expect("kept");
        assert_eq!(
            keys(&kept.manifest),
            ["Kustomization/a/child", "ConfigMap/a/both"]
        );
        assert_eq!(kept.objects.len(), 2);
        assert_eq!(
            notice.as_deref(),
            Some(
                "an object of Flux itself is left out, since the hub and its agents do what they do: \
                 CustomResourceDefinition/x"
            )
        );
        // Nothing to send is a content all the same.
        let Ended::Done { manifest, kept, .. } = rendered(vec![child]) else {
            panic!("not rendered");
        };
        assert!(keys(&manifest).is_empty() && kept.is_some());
        let Ended::Done { kept, notice, .. } = rendered(vec![config("sent")]) else {
            panic!("not rendered");
        };
        assert!(kept.is_none() && notice.is_none());
    }

    #[test]
    fn what_the_hub_would_have_to_decrypt_is_refused_by_name() {
        let one = |value: Value| RenderedObject {
            key: ObjectKey::of(&value).expect("a key"),
            text: None,
            value,
        };
        let metadata = json!({ "name": "x", "namespace": "a" });
        let refused = [
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "sops": { "mac": "x" } }),
            json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": { "a": "ENC[AES256_GCM,data:x]" } }),
        ];
        for value in refused {
            let object = one(value);
            let message = unsupported(&object, false).expect("refused");
            assert!(message.contains(&object.key.to_string()), "{message}");
        }
        let plain = one(
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": { "sops": "x" } }),
        );
        assert_eq!(unsupported(&plain, false), None);
    }

    #[test]
    fn what_is_encrypted_passes_where_the_app_says_how_it_is_decrypted() {
        let metadata = json!({ "name": "x", "namespace": "a" });
        for value in [
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "sops": { "mac": "x" } }),
            json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": { "a": "ENC[AES256_GCM,data:x]" } }),
        ] {
            let object = RenderedObject {
                key: ObjectKey::of(&value).expect("a key"),
                text: None,
                value,
            };
            assert_eq!(unsupported(&object, true), None);
        }
    }
}
