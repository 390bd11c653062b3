//! What a rendering tells of besides its result: parts of a chart or of values that mean nothing.

use std::fmt::{self, Display, Formatter};

use super::values::coalesce::ValueWarning;

/// Something that means nothing where it stands. Holds no value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Warning {
    /// A value that does not count.
    Value(ValueWarning),
    /// A condition of a dependency finds something other than a boolean, and so decides nothing.
    Condition {
        /// The path that the condition names.
        path: String,
        /// The dependency.
        chart: String,
    },
    /// A tag of a dependency is set to something other than a boolean, and so decides nothing.
    Tag {
        /// The tag.
        tag: String,
        /// The dependency.
        chart: String,
    },
    /// What `import-values` names is no table of the dependency, and so nothing is imported.
    Import {
        /// The path in the dependency's values.
        path: String,
        /// The part of the path that is missing or no table.
        missing: String,
        /// The dependency.
        chart: String,
    },
    /// A manifest is a hook of an event that there is not, and so is left out.
    Hook {
        /// The template that it comes from.
        template: String,
        /// The events as they are written.
        events: String,
    },
}

impl Display for Warning {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(warning) => warning.fmt(f),
            Self::Condition { path, chart } => {
                write!(
                    f,
                    "condition {path} of dependency {chart}: returned non-bool value"
                )
            }
            Self::Tag { tag, chart } => write!(f, "tag {tag} of dependency {chart}: returned non-bool value"),
            Self::Import { path, missing, chart } => write!(
                f,
                "import-values of dependency {chart}: missing table {path}: {missing:?} is not a table"
            ),
            Self::Hook { template, events } => write!(f, "{template}: skipping unknown hooks {events:?}"),
        }
    }
}

/// Who hears of them.
pub(crate) type Warn<'w> = &'w mut dyn FnMut(Warning);
