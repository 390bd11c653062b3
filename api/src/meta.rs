//! Parts that several kinds share: references, selectors, patches.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::problem::Check;
use crate::text::{JsonPointer, Name, Pattern};

/// A reference to an object in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LocalRef {
    /// Name of the object.
    pub name: Name,
}

/// A reference to a key of a Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretKeyRef {
    /// Name of the Secret.
    pub name: Name,
    /// Key in the Secret; the reader's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// A reference to an app that must be ready first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DependencyRef {
    /// Name of the app.
    pub name: Name,
    /// Namespace of the app; that of the dependent when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Name>,
    /// CEL expression over `dep` and `self` that says when the dependency is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_expr: Option<String>,
}

/// A reference to any object by kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// The object's `apiVersion`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// The object's kind.
    pub kind: String,
    /// The object's name.
    pub name: String,
    /// The object's namespace; that of the referrer when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Name>,
}

/// Labels and annotations forced on every object of an app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommonMetadata {
    /// Annotations to set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Labels to set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
}

impl CommonMetadata {
    pub(crate) fn check(&self, at: &mut Check<'_>) {
        check_labels(self.labels.iter().flatten(), &mut at.at("labels"));
    }
}

/// A cluster named by a kubeconfig: a Secret that holds one, or a ConfigMap that says how to get one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubeConfigRef {
    /// Secret with a kubeconfig under `value` or `value.yaml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeyRef>,
    /// ConfigMap with provider, address and certificate authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<LocalRef>,
}

impl KubeConfigRef {
    pub(crate) fn check(&self, at: &mut Check<'_>) {
        at.exactly_one(&[
            ("secretRef", self.secret_ref.is_some()),
            ("configMapRef", self.config_map_ref.is_some()),
        ]);
    }
}

/// A patch and the objects it applies to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Patch {
    /// A strategic merge patch or a list of JSON 6902 operations, as YAML text.
    pub patch: String,
    /// The objects to patch; those the patch itself names when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Selector>,
}

/// Chooses objects of an app by regular expressions and selectors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// API group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Pattern>,
    /// API version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Pattern>,
    /// Kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Pattern>,
    /// Namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Pattern>,
    /// Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Pattern>,
    /// Labels, as `kubectl -l` takes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<String>,
    /// Annotations, in the same form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotation_selector: Option<String>,
}

/// Replaces an image's name, tag or digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// The image's name as the manifests have it, without tag.
    pub name: String,
    /// The name to use instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_name: Option<String>,
    /// The tag to use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_tag: Option<String>,
    /// The digest to use; wins over the tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// Fields whose drift is left alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IgnoreRule {
    /// JSON pointers to the fields.
    pub paths: Vec<JsonPointer>,
    /// The objects; all of the app when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Selector>,
}

/// How to judge the health of a kind by CEL expressions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheckExpr {
    /// The kind's `apiVersion`, of which only the group counts.
    pub api_version: String,
    /// The kind; the whole group when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// True while the object is being worked on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_progress: Option<String>,
    /// True when the object has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// True when the object is as it should be.
    pub current: String,
}

/// Chooses by labels, as Kubernetes does. An empty selector chooses everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels that must have these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Expressions that must all hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<LabelExpression>,
}

/// One condition on a label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LabelExpression {
    /// The label.
    pub key: String,
    /// What must hold.
    pub operator: LabelOperator,
    /// The values that `In` and `NotIn` compare with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// What must hold of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LabelOperator {
    /// The value is one of the given.
    In,
    /// The label is absent or its value is none of the given.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

impl LabelSelector {
    pub(crate) fn check(&self, at: &mut Check<'_>) {
        check_labels(self.match_labels.iter(), &mut at.at("matchLabels"));
        at.each("matchExpressions", &self.match_expressions, |expression, at| {
            if let Some(why) = label_key_error(&expression.key) {
                at.at("key").problem(why);
            }
            let compares = matches!(expression.operator, LabelOperator::In | LabelOperator::NotIn);
            if compares && expression.values.is_empty() {
                at.at("values")
                    .problem(format!("{:?} needs at least one value", expression.operator));
            }
            if !compares && !expression.values.is_empty() {
                at.at("values")
                    .problem(format!("{:?} takes no values", expression.operator));
            }
        });
    }
}

/// Checks labels by Kubernetes' rules for keys and values.
pub(crate) fn check_labels<'a>(labels: impl Iterator<Item = (&'a String, &'a String)>, at: &mut Check<'_>) {
    for (key, value) in labels {
        if let Some(why) = label_key_error(key).or_else(|| label_value_error(value)) {
            at.at(key).problem(why);
        }
    }
}

/// Says what is wrong with a label's or annotation's key.
pub(crate) fn label_key_error(key: &str) -> Option<String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if prefix.is_some_and(|prefix| Name::new(prefix).is_err()) {
        return Some(format!(
            "the part before \"/\" of the key {key:?} is not a DNS name"
        ));
    }
    let fits = !name.is_empty() && is_qualified(name);
    (!fits).then(|| format!("{key:?} is not a valid key: at most 63 letters, digits, \"-\", \"_\" or \".\""))
}

fn label_value_error(value: &str) -> Option<String> {
    let fits = value.is_empty() || is_qualified(value);
    (!fits).then(|| {
        format!("{value:?} is not a valid label value: at most 63 letters, digits, \"-\", \"_\" or \".\"")
    })
}

fn is_qualified(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && ends(text.chars().next())
        && ends(text.chars().last())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}
