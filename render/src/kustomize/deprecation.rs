//! Fields of a kustomization that kustomize tells its users to leave.

use std::fmt::{self, Display, Formatter};

use serde_json::Value;

/// The fields, in the order in which kustomize looks for them, and what each is written as instead.
const FIELDS: [(&str, &str); 6] = [
    ("bases", "resources"),
    ("commonLabels", "labels"),
    ("imageTags", "images"),
    ("patchesJson6902", "patches"),
    ("patchesStrategicMerge", "patches"),
    ("vars", "replacements"),
];

/// A field that works and will not for ever.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Deprecation {
    /// The kustomization file, as paths are shown.
    pub file: String,
    /// The field.
    pub field: &'static str,
    /// The field to use instead.
    pub instead: &'static str,
}

impl Display for Deprecation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Deprecation { file, field, instead } = self;
        write!(
            f,
            "{file}: '{field}' is deprecated, use '{instead}' instead; 'kustomize edit fix' rewrites it"
        )
    }
}

/// Returns the deprecated fields that a kustomization has, empty ones too.
pub(super) fn deprecations<'a>(
    kustomization: &'a Value,
    file: &'a str,
) -> impl Iterator<Item = Deprecation> + 'a {
    FIELDS
        .into_iter()
        .filter(|(field, _)| kustomization.get(field).is_some_and(|value| !value.is_null()))
        .map(|(field, instead)| Deprecation {
            file: file.to_owned(),
            field,
            instead,
        })
}
