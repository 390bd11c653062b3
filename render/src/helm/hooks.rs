//! Hooks: manifests that are applied at an event of a release and not as part of it.
//!
//! It reads what the annotations say; when a hook runs and what becomes of it is decided elsewhere.

use super::manifest::Head;

/// The annotation that makes a manifest a hook.
pub const EVENTS: &str = "helm.sh/hook";
/// The annotation that orders the hooks of an event.
pub const WEIGHT: &str = "helm.sh/hook-weight";
/// The annotation that says when a hook's object is deleted.
pub const DELETE_POLICIES: &str = "helm.sh/hook-delete-policy";
/// The annotation that says when a hook's logs are printed.
pub const OUTPUT_LOG_POLICIES: &str = "helm.sh/hook-output-log-policy";

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// Before the objects of a new release.
    PreInstall,
    /// After the objects of a new release.
    PostInstall,
    /// Before the objects of a release are deleted.
    PreDelete,
    /// After the objects of a release are deleted.
    PostDelete,
    /// Before the objects of a newer revision.
    PreUpgrade,
    /// After the objects of a newer revision.
    PostUpgrade,
    /// Before the objects of an older revision are back.
    PreRollback,
    /// After the objects of an older revision are back.
    PostRollback,
    /// When the release is tested.
    Test,
}

impl Event {
    /// Returns the event of that name, in lower case; `test-success` is Helm 2's name of a test.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "pre-install" => Self::PreInstall,
            "post-install" => Self::PostInstall,
            "pre-delete" => Self::PreDelete,
            "post-delete" => Self::PostDelete,
            "pre-upgrade" => Self::PreUpgrade,
            "post-upgrade" => Self::PostUpgrade,
            "pre-rollback" => Self::PreRollback,
            "post-rollback" => Self::PostRollback,
            "test" | "test-success" => Self::Test,
            _ => return None,
        })
    }
}

/// A hook of a chart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The object's name.
    pub name: String,
    /// The object's kind.
    pub kind: String,
    /// The template that it comes from, beginning with the chart's name.
    pub source: String,
    /// The text.
    pub content: String,
    /// When it runs.
    pub events: Vec<Event>,
    /// Its place among the hooks of an event: lower runs first.
    pub weight: i64,
    /// When its object is deleted, as written, in lower case.
    pub delete_policies: Vec<String>,
    /// When its logs are printed, as written, in lower case.
    pub output_log_policies: Vec<String>,
}

impl Hook {
    /// Returns the hook that a manifest is, without its text; none when it names an event that there is not, as in the
    /// reference.
    pub(super) fn new(template: &str, head: &Head) -> Option<Self> {
        let events = words(head, EVENTS)
            .iter()
            .map(|word| Event::from_name(word))
            .collect::<Option<_>>()?;
        Some(Self {
            name: head.name.clone(),
            kind: head.kind.clone(),
            source: template.to_owned(),
            content: String::new(),
            events,
            weight: head
                .annotations
                .get(WEIGHT)
                .and_then(|weight| weight.parse().ok())
                .unwrap_or_default(),
            delete_policies: words(head, DELETE_POLICIES),
            output_log_policies: words(head, OUTPUT_LOG_POLICIES),
        })
    }

    /// Returns whether the hook is a test.
    pub fn is_test(&self) -> bool {
        self.events.contains(&Event::Test)
    }
}

/// Returns the hooks of an event in the order in which they run: by weight, name, then in install order.
pub fn at(event: Event, hooks: &[Hook]) -> Vec<&Hook> {
    let mut due: Vec<&Hook> = hooks.iter().filter(|hook| hook.events.contains(&event)).collect();
    due.sort_by(|left, right| (left.weight, &left.name).cmp(&(right.weight, &right.name)));
    due
}

fn words(head: &Head, annotation: &str) -> Vec<String> {
    let text = head.annotations.get(annotation);
    text.into_iter()
        .flat_map(|text| text.split(','))
        .map(|word| word.trim().to_lowercase())
        .collect()
}
