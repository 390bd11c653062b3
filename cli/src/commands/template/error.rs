//! Why `flotilla template` prints nothing, and what to do then.

use flotilla_core::version::VersionRange;
use flotilla_render::helm::action::{PrintError, RenderError};
use flotilla_render::helm::archive::size;
use flotilla_render::helm::capabilities::KubeVersionError;
use flotilla_render::helm::chart::ChartError;
use flotilla_render::helm::manifest::ManifestError;
use flotilla_render::helm::strvals::StrvalsError;
use flotilla_render::helm::values::ValuesError;

use super::flags::RefusedFlag;

/// Why nothing was printed.
#[derive(Debug, thiserror::Error)]
pub(super) enum TemplateError {
    /// A file or folder cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The path as it was given.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file, or a chart's folder, holds more than is allowed.
    #[error("{path}: {over}")]
    TooLarge {
        /// The path as it was given.
        path: String,
        /// Which limit.
        over: Over,
    },
    /// The time was over while a file or folder was read.
    #[error("the reading of {0} was stopped")]
    Stopped(String),
    /// The chart is named in a way that would have to be fetched.
    #[error(
        "{0:?} is no folder or file, and is not fetched: download it first, as with helm pull, and name what that wrote"
    )]
    NotLocal(String),
    /// A file of values is named by an address.
    #[error("{0} is not fetched: download it first, and name the file")]
    NotFetched(String),
    /// The files are no chart.
    #[error("cannot load chart {chart}")]
    Chart {
        /// The chart as it was given.
        chart: String,
        /// Why.
        #[source]
        source: ChartError,
    },
    /// The values cannot be read.
    #[error(transparent)]
    Values(#[from] ValuesError),
    /// The Kubernetes version cannot be read.
    #[error(transparent)]
    KubeVersion(#[from] KubeVersionError),
    /// The chart does not render with these values.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// `--show-only` names a template that renders to nothing, or too much is printed.
    #[error(transparent)]
    Print(#[from] PrintError),
    /// A flag that Helm has and that cannot be had here.
    #[error(transparent)]
    Refused(#[from] RefusedFlag),
    /// Charts that the chart needs are not inside it, and were to be fetched.
    #[error("--dependency-update fetches nothing here")]
    DependencyUpdate(#[source] RenderError),
    /// What is printed is chosen, and nothing is printed.
    #[error("--show-only cannot be had with --output-dir, which leaves no output to choose from")]
    ShowOnlyFiles,
    /// The release is named twice, or by a template that is none.
    #[error("{0}")]
    Name(String),
    /// A file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There is no randomness to be had.
    #[error("the system gives no random bytes")]
    Random,
}

/// A limit of what is read from the disk.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub(super) enum Over {
    /// The most bytes of a file.
    #[error("it is larger than {}", size(*.0))]
    File(u64),
    /// The most bytes of a chart.
    #[error("with it the files of the chart take more than {}", size(*.0))]
    Chart(u64),
    /// The most folders above a file.
    #[error("it is more than {0} folders deep in the chart")]
    Depth(usize),
    /// The most files and folders of a chart.
    #[error("with it the chart has more than {0} files and folders")]
    Entries(usize),
}

impl TemplateError {
    /// Tells whether the command was called wrongly, whatever chart and files hold.
    pub(super) fn is_usage(&self) -> bool {
        match self {
            Self::KubeVersion(_)
            | Self::Refused(_)
            | Self::ShowOnlyFiles
            | Self::Name(_)
            | Self::Values(ValuesError::Json(_))
            | Self::Render(RenderError::NoReleaseName | RenderError::ReleaseName(_)) => true,
            Self::Values(ValuesError::Set { source, .. }) => !matches!(source, StrvalsError::File(_)),
            _ => false,
        }
    }

    /// What to do about it, where that is known.
    pub(super) fn hint(&self, debug: bool) -> Option<&'static str> {
        match self {
            Self::Render(RenderError::MissingDependencies(_)) | Self::DependencyUpdate(_) => {
                Some("put them into its charts folder, as with helm dependency build")
            }
            Self::Render(RenderError::KubeVersion { range, .. }) if VersionRange::parse(range).is_err() => {
                Some("kubeVersion in Chart.yaml is no range of versions, such as '>= 1.28.0-0'")
            }
            Self::Render(RenderError::KubeVersion { .. }) => {
                Some("--kube-version tells the chart another version of Kubernetes")
            }
            Self::Print(PrintError::NoTemplate(_)) => Some(
                "name it by its path in the chart, such as templates/service.yaml; what renders to nothing is none",
            ),
            Self::Render(RenderError::Manifest(ManifestError::Yaml { .. })) if !debug => {
                Some("--debug prints what was rendered, though it is no YAML")
            }
            _ => None,
        }
    }
}
