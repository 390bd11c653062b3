//! Renders what is due for one app: once per distinct input, for all clusters. Equal output stops here.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use flotilla_api::kinds::kustomization::KustomizationSpec;
use flotilla_core::{
    backoff::Backoff,
    content::{Content, Form, ObjectEntry, Objects, object_bytes, object_digest},
    digest::Digest,
    object::{ObjectKey, group_of},
    rollout::{plan::Admitted, waiting::Waiting},
    substitute,
};
use flotilla_render::kustomize::{GenerateOptions, Image, ReadSet};
use serde_json::{Value, json};
use tracing::Instrument as _;
use zeroize::Zeroizing;

use super::{Context, queue::Outcome};
use crate::{
    artifact::{ArtifactDigest, ReadLimits},
    renderer::{Built, KustomizeInput, RenderFailure, Rendered, RenderedObject, Renderer},
    store::{
        StoreError,
        content::Blob,
        event::NewEvent,
        rendered::{Outcome as Ended, RenderedRow},
        resource::ResourceRow,
        source::RevisionRow,
    },
};

/// The engines there are.
pub struct Engine {
    /// The default.
    pub native: Renderer,
    /// Only for apps that ask for it; why there is none, where there is none.
    pub reference: Result<Renderer, String>,
}

/// An app asks for an engine by this annotation: `native` (the default) or `reference`. Never a silent fallback.
pub const RENDERER_ANNOTATION: &str = "fleet.flotilla.dev/renderer";

impl Engine {
    /// The engine an app asks for, or why it cannot be had.
    fn of(&self, app: &ResourceRow) -> Result<&Renderer, Waiting> {
        match app.annotations.get(RENDERER_ANNOTATION).and_then(Value::as_str) {
            None | Some("native") => Ok(&self.native),
            Some("reference") => self
                .reference
                .as_ref()
                .map_err(|why| Waiting::NotSupported(format!("this hub has no reference renderer: {why}"))),
            Some(other) => Err(Waiting::NotSupported(format!(
                "annotation {RENDERER_ANNOTATION}: {other} is neither native nor reference"
            ))),
        }
    }
}

/// What an app may be given now.
pub struct Ensured {
    /// The newest content, if any.
    pub admitted: Option<Admitted>,
    /// The source's newest revision; '' while there is none.
    pub revision: String,
    /// Why it is not that of the source's newest revision.
    pub waiting: Vec<Waiting>,
    /// When to look again.
    pub outcome: Outcome,
}

/// Bound of one rendering.
const TIMEOUT: Duration = Duration::from_secs(300);
/// Groups whose objects the hub would have to keep: not in this release.
const KEPT_GROUPS: [&str; 7] = [
    "source.toolkit.fluxcd.io",
    "kustomize.toolkit.fluxcd.io",
    "helm.toolkit.fluxcd.io",
    "notification.toolkit.fluxcd.io",
    "image.toolkit.fluxcd.io",
    "source.extensions.fluxcd.io",
    "fleet.flotilla.dev",
];

/// Renders the source's newest revision for `app` if that is due, and tells what may be admitted.
pub async fn ensure(
    context: &Context,
    app: &ResourceRow,
    spec: &KustomizationSpec,
    substitutes: bool,
) -> anyhow::Result<Ensured> {
    let mut waiting = Vec::new();
    let mut outcome = Outcome::Done;
    let renderer = match context.renderer.of(app) {
        Ok(renderer) => renderer,
        Err(problem) => {
            waiting.push(problem);
            return Ok(Ensured {
                admitted: None,
                revision: String::new(),
                waiting,
                outcome,
            });
        }
    };
    let variant = variant(renderer, spec, substitutes);
    let mut named = String::new();
    match source_revision(context, app, spec).await? {
        Err(problem) => waiting.push(problem),
        // A suspended app follows nothing; what it has stays.
        Ok(_) if app.is_suspended() => {}
        Ok(revision) => {
            named.clone_from(&revision.revision);
            let mut row = context
                .store
                .ensure_rendered(app.uid, variant.as_bytes(), revision.id)
                .await?;
            if row.state == "Pending" {
                render(context, renderer, app, spec, &variant, &revision, substitutes)
                    .instrument(crate::trace::render(&app.display(), &revision.revision))
                    .await?;
                row = context
                    .store
                    .ensure_rendered(app.uid, variant.as_bytes(), revision.id)
                    .await?;
            }
            if row.state == "Pending" {
                outcome = Outcome::After(Backoff::RECONCILE.bound(u32::try_from(row.attempts).unwrap_or(1)));
            }
            waiting.extend(problem(&row));
        }
    }
    let newest = context.store.newest_rendered(app.uid, variant.as_bytes()).await?;
    let admitted = newest.as_ref().and_then(admit);
    Ok(Ensured {
        admitted,
        revision: named,
        waiting,
        outcome,
    })
}

fn admit(row: &RenderedRow) -> Option<Admitted> {
    let content = Digest::try_from_slice(row.content.as_deref()?).ok()?;
    Some(Admitted {
        revision: row.revision_id,
        content,
    })
}

fn problem(row: &RenderedRow) -> Option<Waiting> {
    match row.state.as_str() {
        "Failed" => Some(Waiting::Rendering(row.message.clone())),
        "Pending" if !row.message.is_empty() => Some(Waiting::Rendering(row.message.clone())),
        "NotSupported" => Some(Waiting::NotSupported(row.message.clone())),
        _ => None,
    }
}

async fn source_revision(
    context: &Context,
    app: &ResourceRow,
    spec: &KustomizationSpec,
) -> anyhow::Result<Result<RevisionRow, Waiting>> {
    let kind = spec.source_ref.kind.kind().name();
    let name = spec.source_ref.name.as_str();
    let namespace = spec
        .source_ref
        .namespace
        .as_ref()
        .map_or(app.namespace.as_str(), |one| one.as_str());
    let Some(source) = context
        .store
        .resource_by_name(&app.scope, kind, namespace, name)
        .await?
    else {
        return Ok(Err(Waiting::Source(format!(
            "Source '{kind}/{namespace}/{name}' not found"
        ))));
    };
    let revision = context.store.current_revision(source.uid).await?;
    Ok(revision.ok_or_else(|| Waiting::Source("Source artifact not found, retrying in 30s".to_owned())))
}

/// Digest of the input without the artifact.
fn variant(renderer: &Renderer, spec: &KustomizationSpec, substitutes: bool) -> Digest {
    Digest::of_json(
        "variant",
        &json!({
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
        }),
    )
}

async fn render(
    context: &Context,
    renderer: &Renderer,
    app: &ResourceRow,
    spec: &KustomizationSpec,
    variant: &Digest,
    revision: &RevisionRow,
    substitutes: bool,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let known = context.store.known_rendering(app.uid, variant.as_bytes()).await?;
    let reads = known.as_ref().and_then(|known| read_set(&known.reads));
    let ended = match build(context, renderer, spec, revision, reads).await? {
        Ok(Built::New(rendered)) => ended(context, rendered, substitutes),
        Ok(Built::Unchanged) => known.map_or_else(
            || Ended::Again {
                message: "an earlier rendering is gone".to_owned(),
            },
            Ended::Unchanged,
        ),
        Err(failure) if failure.is_transient() => Ended::Again {
            message: failure.to_string(),
        },
        Err(failure) => Ended::Failed {
            reason: failure.reason().to_owned(),
            message: failure.to_string(),
        },
    };
    let duration_ms = i32::try_from(began.elapsed().as_millis()).unwrap_or(i32::MAX);
    let key = (app.uid, &variant.as_bytes()[..], revision.id);
    context
        .store
        .record_rendered(key, &ended, duration_ms, &context.seal)
        .await?;
    let failure = match &ended {
        Ended::Done { objects, .. } => {
            tracing::info!(
                app = %app.display(), revision = %revision.revision, objects = objects.len(), duration_ms, "rendered"
            );
            None
        }
        Ended::Unchanged(_) => {
            tracing::info!(
                app = %app.display(), revision = %revision.revision,
                "not rendered again: nothing that it read has changed"
            );
            None
        }
        Ended::Failed { reason, message } => Some((reason.as_str(), message)),
        Ended::Again { message } => Some(("BuildFailed", message)),
        Ended::NotSupported { message } => Some(("NotSupported", message)),
    };
    if let Some((reason, message)) = failure {
        let event = NewEvent {
            warning: true,
            reason,
            message,
            resource: app.uid,
            revision: &revision.revision,
        };
        context.store.record_event(&event).await?;
    }
    Ok(())
}

async fn build(
    context: &Context,
    renderer: &Renderer,
    spec: &KustomizationSpec,
    revision: &RevisionRow,
    known: Option<ReadSet>,
) -> anyhow::Result<Result<Built, RenderFailure>> {
    let digest = ArtifactDigest::parse(&revision.artifact_digest)
        .map_err(|e| StoreError::corrupt("artifact digest", e))?;
    let tree = context
        .sources
        .artifacts
        .tree(digest, ReadLimits::default())
        .await?;
    let path = spec.path.as_ref().map_or("", |path| path.as_str()).to_owned();
    let input = KustomizeInput {
        tree: Arc::new(tree),
        path,
        options: options(spec)?,
        known,
        timeout: TIMEOUT,
    };
    Ok(renderer.kustomize(input).await)
}

/// What an earlier rendering read. One that cannot be understood is none: it costs a rendering.
fn read_set(bytes: &[u8]) -> Option<ReadSet> {
    serde_json::from_reader(zstd::Decoder::new(bytes).ok()?).ok()
}

fn read_set_bytes(reads: &ReadSet) -> Option<Vec<u8>> {
    zstd::encode_all(&serde_json::to_vec(reads).ok()?[..], 3).ok()
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

/// Turns rendered objects into a content; refuses what this release does not do.
fn ended(context: &Context, rendered: Rendered, substitutes: bool) -> Ended {
    let reads = rendered.reads.as_ref().and_then(read_set_bytes);
    let rendered = rendered.objects;
    if let Some(message) = rendered.iter().find_map(unsupported) {
        return Ended::NotSupported { message };
    }
    let mut entries = Vec::with_capacity(rendered.len());
    let mut objects = Vec::with_capacity(rendered.len());
    for one in rendered {
        let secret = one.key.is_secret();
        let in_text =
            substitutes && one.text.contains('$') && !substitute::is_disabled(&one.value["metadata"]);
        let (form, bytes): (Form, Vec<u8>) = if in_text {
            (Form::Yaml, one.text.into_bytes())
        } else {
            (Form::Json, object_bytes(&one.value))
        };
        let bytes = Zeroizing::new(bytes);
        let digest = object_digest(form, &bytes, secret.then_some(&context.digest_key));
        objects.push(Blob {
            digest: *digest.as_bytes(),
            bytes,
            secret,
        });
        entries.push(ObjectEntry {
            key: one.key,
            form,
            digest,
        });
    }
    let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    let content = Content::Objects(Objects {
        entries,
        count,
        complete: true,
    });
    let manifest = content.to_bytes();
    Ended::Done {
        content: *Content::digest_of(&manifest).as_bytes(),
        manifest,
        objects,
        reads,
    }
}

fn unsupported(one: &RenderedObject) -> Option<String> {
    let group = group_of(one.value["apiVersion"].as_str().unwrap_or_default());
    if KEPT_GROUPS.contains(&group) {
        return Some(format!(
            "the output holds {} of {group}, which this release does not reconcile",
            one.key
        ));
    }
    if is_encrypted(&one.key, &one.value) {
        return Some(format!(
            "{} is SOPS encrypted, which this release does not decrypt",
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
    use crate::renderer::NativeRenderer;

    fn app(annotations: Value) -> ResourceRow {
        ResourceRow {
            uid: uuid::Uuid::nil(),
            scope: String::new(),
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
        }
    }

    #[test]
    fn an_app_gets_the_engine_it_asks_for_or_none_and_never_another() {
        let engine = Engine {
            native: Renderer::Native(NativeRenderer::new(1)),
            reference: Err("no such program".into()),
        };
        let chosen = |annotations: Value| engine.of(&app(annotations)).map(Renderer::version);
        assert_eq!(chosen(json!({})), Ok(NativeRenderer::version()));
        assert_eq!(
            chosen(json!({ RENDERER_ANNOTATION: "native" })),
            Ok(NativeRenderer::version())
        );
        for asked in ["reference", "Reference", "other"] {
            let refused = chosen(json!({ RENDERER_ANNOTATION: asked }));
            assert!(matches!(refused, Err(Waiting::NotSupported(_))), "{asked}");
        }
    }

    #[test]
    fn what_the_hub_would_have_to_keep_or_decrypt_is_refused_by_name() {
        let one = |value: Value| RenderedObject {
            key: ObjectKey::of(&value).expect("a key"),
            text: String::new(),
            value,
        };
        let metadata = json!({ "name": "x", "namespace": "a" });
        let refused = [
            json!({ "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "metadata": metadata }),
            json!({ "apiVersion": "fleet.flotilla.dev/v1alpha1", "kind": "Cluster", "metadata": metadata }),
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "sops": { "mac": "x" } }),
            json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": { "a": "ENC[AES256_GCM,data:x]" } }),
        ];
        for value in refused {
            let object = one(value);
            let message = unsupported(&object).expect("refused");
            assert!(message.contains(&object.key.to_string()), "{message}");
        }
        let plain = one(
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": { "sops": "x" } }),
        );
        assert_eq!(unsupported(&plain), None);
    }
}
