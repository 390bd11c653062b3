//! What an answer of the cluster means for an object that was to be written.

use flotilla_core::unit::problem::{Problem, Retry};

use super::{acting::Acting, circuit_breaker::Stopped, evaluate::Object, message::shown};
use crate::cluster::ClusterError;

/// What an object's status says of why it was not written, and when trying again may help.
pub(super) fn problem(object: &Object, stopped: &Stopped, acting: &Acting) -> (Problem, Retry) {
    let key = &object.desired.key;
    let shown = |error: &ClusterError| shown(key, object.secret, object.desired.policy, acting, error);
    let retry = |error: &ClusterError| match (error.is_transient(), error.is_race()) {
        (true, _) => Retry::Soon,
        (false, true) => Retry::Race,
        (false, false) => Retry::Interval,
    };
    match stopped {
        Stopped::Cluster(ClusterError::NotServed { .. }) if object.group_failed => (
            Problem::Unanswered(format!(
                "{key}: whether its kind is served is not known: the discovery of {} failed",
                key.group
            )),
            Retry::Soon,
        ),
        // Definitions bring groups that are called as domains are.
        Stopped::Cluster(ClusterError::NotServed { .. }) if !key.group.contains('.') => (
            Problem::Failed(format!(
                "{key}: no matches for kind {:?} in version {:?}",
                key.kind, object.api_version
            )),
            Retry::Interval,
        ),
        Stopped::Cluster(ClusterError::NotServed { .. }) => (
            Problem::Unserved(format!(
                "{key}: no matches for kind {:?} in version {:?}: waiting for its definition",
                key.kind, object.api_version
            )),
            Retry::Interval,
        ),
        Stopped::Cluster(error @ (ClusterError::Unavailable(_) | ClusterError::Overloaded { .. })) => {
            (Problem::Unanswered(shown(error)), Retry::Soon)
        }
        // The same words for all of its objects: they are said once.
        Stopped::Cluster(
            error @ ClusterError::Rejected {
                code: 404, message, ..
            },
        ) if *message == format!("namespaces \"{}\" not found", key.namespace) => {
            let message = format!("{message}: none of its objects can be written");
            (Problem::Failed(message), retry(error))
        }
        Stopped::Cluster(error) => (Problem::Failed(shown(error)), retry(error)),
        // The same words for all of its objects: they are said once.
        Stopped::Denied(denied) => (Problem::Failed(denied.words.clone()), Retry::Interval),
        Stopped::Terminating(why) => {
            let why = match why.is_empty() {
                true => String::new(),
                false => format!(": {why}"),
            };
            (
                Problem::Waiting(format!("namespace {} is being deleted{why}", key.namespace).into()),
                Retry::Soon,
            )
        }
    }
}
