//! Cuts rendered templates into manifests, tells hooks from the rest, and puts both in Helm's order.
//!
//! Text stays as it was rendered, byte for byte: only the head of each manifest (kind, name, annotations) is
//! read.

mod shares;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use shares::shared_out;

use super::hooks::Hook;
use super::typed;
use super::warning::{Warn, Warning};
use crate::yaml::Value;

/// A manifest that is applied as part of the release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The template it comes from, beginning with the chart's name.
    pub source: Arc<str>,
    /// The text, without the separator that was in front of it.
    pub content: String,
    /// The kind; empty when it has none.
    pub kind: String,
    /// The API version; empty when it has none.
    pub api_version: String,
}

/// The texts that templates rendered to cannot be cut into manifests.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The text cannot be understood. Nothing helps but another chart or values.
    #[error("YAML parse error on {template}: {reason}")]
    Yaml {
        /// The template.
        template: String,
        /// What is wrong; names no value.
        reason: String,
    },
    /// A bound was reached, or the caller asked to stop.
    #[error("{template}: {reason}")]
    Over {
        /// The template.
        template: String,
        /// Which bound.
        reason: String,
    },
}

/// The order in which kinds are installed; others follow in the order of their names.
pub const INSTALL_ORDER: [&str; 38] = [
    "PriorityClass",
    "Namespace",
    "NetworkPolicy",
    "ResourceQuota",
    "LimitRange",
    "PodSecurityPolicy",
    "PodDisruptionBudget",
    "ServiceAccount",
    "Secret",
    "SecretList",
    "ConfigMap",
    "StorageClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleList",
    "ClusterRoleBinding",
    "ClusterRoleBindingList",
    "Role",
    "RoleList",
    "RoleBinding",
    "RoleBindingList",
    "Service",
    "DaemonSet",
    "Pod",
    "ReplicationController",
    "ReplicaSet",
    "Deployment",
    "HorizontalPodAutoscaler",
    "StatefulSet",
    "Job",
    "CronJob",
    "IngressClass",
    "Ingress",
    "APIService",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
];

/// Takes steps of what is left of a rendering's, or says why it is not to go on.
pub(super) type Charge<'c> = &'c mut dyn FnMut(u64) -> Result<(), String>;

/// How many bytes of a manifest are read in one step.
const BYTES_PER_STEP: usize = 16;
/// The steps of a manifest by itself, so that what their lists take is bounded as well as the time.
const STEPS_PER_MANIFEST: u64 = 32;
/// How many nodes a manifest may have: it is read beside all texts. That is more than the largest object of a cluster.
const MAX_NODES: usize = 2_000_000;
/// How many nodes of a manifest, those that aliases repeat included, are made in one step.
const NODES_PER_STEP: usize = 4;

/// Returns the hooks and the manifests of rendered templates, each in install order. A template's text is freed once its
/// documents are taken out of it, so that never all of it stands twice.
pub(super) fn sort(
    rendered: BTreeMap<String, Vec<u8>>,
    charge: Charge<'_>,
    warn: Warn<'_>,
) -> Result<(Vec<Hook>, Vec<Manifest>), ManifestError> {
    let mut hooks = Vec::new();
    let mut manifests = Vec::new();
    for (template, text) in rendered {
        if base_name(&template).starts_with('_') {
            continue;
        }
        let text = String::from_utf8(text).map_err(|_| ManifestError::Yaml {
            template: template.clone(),
            reason: "error converting YAML to JSON: yaml: invalid UTF-8 octet".to_owned(),
        })?;
        let source: Arc<str> = template.as_str().into();
        let (first_hook, first_manifest) = (hooks.len(), manifests.len());
        let (mut of_hooks, mut of_manifests) = (Vec::new(), Vec::new());
        for document in pieces(&text) {
            let over = |reason| ManifestError::Over {
                template: template.clone(),
                reason,
            };
            if document.is_empty() {
                charge(1).map_err(over)?;
                continue;
            }
            charge((document.len() / BYTES_PER_STEP) as u64 + STEPS_PER_MANIFEST).map_err(over)?;
            let value = Head::value(document).map_err(|reason| ManifestError::Yaml {
                template: template.clone(),
                reason: placed(reason, &text, document),
            })?;
            charge((nodes(&value) / NODES_PER_STEP) as u64).map_err(over)?;
            let head = Head::read(&value).map_err(|reason| ManifestError::Yaml {
                template: template.clone(),
                reason: placed(reason, &text, document),
            })?;
            let start = offset(&text, document);
            let place = start..start + document.len();
            if let Some(events) = head.annotations.get(super::hooks::EVENTS) {
                match Hook::new(&template, &head) {
                    Some(hook) => {
                        hooks.push(hook);
                        of_hooks.push(place);
                    }
                    None => warn(Warning::Hook {
                        template: template.clone(),
                        events: events.clone(),
                    }),
                }
            } else {
                manifests.push(Manifest {
                    source: source.clone(),
                    content: String::new(),
                    kind: head.kind,
                    api_version: head.api_version,
                });
                of_manifests.push(place);
            }
        }
        let contents = hooks[first_hook..].iter_mut().map(|hook| &mut hook.content);
        let of_manifests = manifests[first_manifest..]
            .iter_mut()
            .map(|manifest| &mut manifest.content)
            .zip(of_manifests);
        let mut places: Vec<_> = contents.zip(of_hooks).chain(of_manifests).collect();
        places.sort_unstable_by_key(|(_, place)| place.start);
        shared_out(text, places);
    }
    hooks.sort_by_cached_key(|hook| rank(&hook.kind));
    manifests.sort_by_cached_key(|manifest| rank(&manifest.kind));
    Ok((hooks, manifests))
}

/// Returns which of two kinds is installed first.
pub fn kind_order(left: &str, right: &str) -> Ordering {
    rank(left).cmp(&rank(right))
}

/// Returns the place of a kind among those that are known, or behind them with its name.
fn rank(kind: &str) -> (usize, String) {
    match INSTALL_ORDER.iter().position(|known| *known == kind) {
        Some(place) => (place, String::new()),
        None => (INSTALL_ORDER.len(), kind.to_owned()),
    }
}

/// Returns the documents of a rendered template that are not blank, each without the space before it.
///
/// A line that merely begins with `---` separates, and what follows the dashes belongs to the next document:
/// charts in the wild depend on it.
pub fn split(text: &str) -> impl Iterator<Item = &str> {
    pieces(text).filter(|document| !document.is_empty())
}

/// Returns the same documents, and an empty one for each that is blank.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some((text.trim_start(), 0));
    let pieces = std::iter::from_fn(move || {
        let (text, from) = rest?;
        let (piece, after) = cut(text, from);
        // The line of one separator holds no other.
        rest = after.map(|after| (after, next_line(after, 0)));
        Some(piece)
    });
    pieces.map(str::trim_start)
}

/// Cuts a text at the first line that separates, of those that begin at a byte or behind it, and returns what is before
/// it and what is behind the dashes.
fn cut(text: &str, from: usize) -> (&str, Option<&str>) {
    let mut at = from;
    while at < text.len() {
        if let Some(after) = text[at..].strip_prefix("---") {
            let after = after.trim_start_matches([' ', '\t']);
            return (&text[..at], Some(after));
        }
        at = next_line(text, at);
    }
    (text, None)
}

/// Returns where the line behind that of a byte begins; the end of the text when there is none.
fn next_line(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |end| at + end + 1)
}

/// Adds to what is wrong with a document where in the text it stands: lines are those of the document.
fn placed(reason: String, text: &str, document: &str) -> String {
    match text
        .get(..offset(text, document))
        .unwrap_or_default()
        .matches('\n')
        .count()
    {
        0 => reason,
        above => format!(
            "{reason} (in the document that begins at line {} of what was rendered)",
            above + 1
        ),
    }
}

/// Returns where in a text a part of it begins.
fn offset(text: &str, part: &str) -> usize {
    part.as_ptr().addr().saturating_sub(text.as_ptr().addr())
}

/// Returns the part of a path behind its last slash.
pub(super) fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Counts the nodes of a value.
pub(super) fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::List(items) => items.iter().map(nodes).sum(),
        Value::Map(fields) => fields.values().map(nodes).sum(),
        _ => 0,
    }
}

/// What is read of a manifest.
#[derive(Debug, Default)]
pub(super) struct Head {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) annotations: BTreeMap<String, String>,
}

impl Head {
    fn value(document: &str) -> Result<Value, String> {
        let limits = crate::yaml::Limits {
            floats: true,
            nodes: MAX_NODES,
            ..crate::yaml::Limits::default()
        };
        crate::yaml::read_fields(document, &limits, &["apiversion", "kind", "metadata"])
            .map_err(|error| error.to_string())
    }

    fn read(value: &Value) -> Result<Self, String> {
        let mut head = Self::default();
        for (name, field) in typed::fields(value, "manifest")? {
            match name.as_str() {
                "apiversion" => head.api_version = typed::text(field, "apiVersion")?,
                "kind" => head.kind = typed::text(field, "kind")?,
                "metadata" => head.read_metadata(field)?,
                _ => {}
            }
        }
        Ok(head)
    }

    fn read_metadata(&mut self, metadata: &Value) -> Result<(), String> {
        for (name, field) in typed::fields(metadata, "metadata")? {
            match name.as_str() {
                "name" => self.name = typed::text(field, "metadata.name")?,
                "annotations" => self.annotations = typed::text_map(field, "metadata.annotations")?,
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{sort, split};

    #[test]
    fn a_document_that_is_no_map_is_named_by_its_line() {
        for (document, words) in [
            ("metadata: [a]", "metadata is a list, not a map"),
            ("text", "manifest is text, not a map"),
        ] {
            let text = format!("a: 1\n---\nb: 1\n---\n{document}\n");
            let rendered = [("x.yaml".to_owned(), text.into_bytes())].into_iter().collect();
            let error = sort(rendered, &mut |_| Ok(()), &mut |_| {}).expect_err(document);
            assert_eq!(
                error.to_string(),
                format!(
                    "YAML parse error on x.yaml: {words} (in the document that begins at line 5 of what was rendered)"
                )
            );
        }
    }

    #[test]
    fn a_line_of_dashes_separates_once() {
        for (text, documents) in [
            ("a: 1", &["a: 1"][..]),
            ("", &[]),
            ("---\n---\n", &[]),
            ("a\n---b: 1", &["a\n", "b: 1"]),
            ("---\na: 1\n---\n\n---\nb: 1\n", &["a: 1\n", "b: 1\n"]),
            ("------\na: 1", &["---\na: 1"]),
            ("--- ---\na: 1\n---", &["---\na: 1\n"]),
            ("a: 1\n------\nb: 1", &["a: 1\n", "---\nb: 1"]),
        ] {
            assert_eq!(split(text).collect::<Vec<_>>(), documents, "{text:?}");
        }
    }
}
