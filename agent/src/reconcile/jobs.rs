//! Jobs: what the state machine of a unit asks for and that takes longer than a step. A panic is the failure of one job.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc};

use flotilla_core::{
    id::UnitId,
    unit::event::{Action, Event, JobFailure},
};
use futures::{FutureExt as _, future::BoxFuture};
use tokio_util::sync::CancellationToken;

use crate::{causes::with_causes, ledger::LedgerError};

use super::{
    apply, check,
    context::{Context, UnitContext},
    queue::Kind,
    remove, units,
};

/// What came of a job, and what ended it early.
pub(super) struct Done<T> {
    /// What became of the objects that were reached.
    pub(super) outcomes: Vec<T>,
    /// Why the rest was not.
    pub(super) failure: Option<JobFailure>,
    /// This agent is not the only one: it must exit.
    pub(super) lost: bool,
}

impl<T> Done<T> {
    /// A job that could not be done at all.
    pub(super) fn failed(error: &dyn std::error::Error) -> Self {
        Self {
            outcomes: Vec::new(),
            failure: Some(JobFailure::Unavailable(with_causes(error))),
            lost: false,
        }
    }

    /// Ends with the ledger's refusal.
    pub(super) fn unsaved(outcomes: Vec<T>, error: &LedgerError) -> Self {
        Self {
            outcomes,
            failure: Some(JobFailure::Unavailable(with_causes(error))),
            lost: matches!(error, LedgerError::Lost),
        }
    }

    fn tell(self, job: u64, event: impl FnOnce(Vec<T>, Option<JobFailure>) -> Event) -> (u64, Event, bool) {
        (job, event(self.outcomes, self.failure), self.lost)
    }
}

/// The outcome of a job that was taken back before it began; `None`: the action is no job.
pub(super) fn not_begun(action: &Action) -> Option<Event> {
    Some(match action {
        Action::Evaluate { job, .. } => Event::Evaluated {
            job: *job,
            failure: None,
            evaluation: None,
        },
        Action::Apply { job, .. } => Event::Applied {
            job: *job,
            outcomes: Vec::new(),
            failure: None,
        },
        Action::Check { job, .. } => Event::Checked {
            job: *job,
            outcomes: Vec::new(),
            failure: None,
        },
        Action::Remove { job, .. } => Event::Removed {
            job: *job,
            outcomes: Vec::new(),
            failure: None,
        },
        _ => return None,
    })
}

/// The outcome of a job; `lost`: this agent is not the only one.
pub(super) struct Finished {
    pub(super) unit: UnitId,
    pub(super) job: u64,
    pub(super) event: Event,
    pub(super) lost: bool,
}

/// What kind of job an action is, and its number; `None`: it is none.
pub(super) fn kind(action: &Action) -> Option<(Kind, u64)> {
    match action {
        Action::Evaluate { job, .. } => Some((Kind::Evaluate, *job)),
        Action::Apply { job, .. } => Some((Kind::Apply, *job)),
        Action::Check { job, .. } => Some((Kind::Check, *job)),
        Action::Remove { job, .. } => Some((Kind::Remove, *job)),
        _ => None,
    }
}

/// Makes a job of an action. A panic is the failure of this one job.
pub(super) fn job(
    context: &Arc<Context>,
    id: UnitId,
    action: Action,
    cancel: CancellationToken,
) -> BoxFuture<'static, Finished> {
    let context = context.clone();
    async move {
        let (job, event, lost) = match action {
            Action::Evaluate {
                job,
                entry,
                enforced,
                before,
            } => {
                let work = async {
                    let (failure, evaluation, unavailable) =
                        units::evaluate_unit(&context, &entry, enforced, before).await;
                    match unavailable {
                        Some(message) => Event::Failed {
                            job,
                            failure: JobFailure::Unavailable(message),
                        },
                        None => Event::Evaluated {
                            job,
                            failure,
                            evaluation,
                        },
                    }
                };
                let event = caught(work).await.unwrap_or_else(|message| Event::Failed {
                    job,
                    failure: JobFailure::Panicked(message),
                });
                (job, event, false)
            }
            Action::Apply { job, entry, keys } => {
                let unit = UnitContext::new(&context, id, entry);
                let done = caught(apply::apply(&unit, keys, &cancel)).await;
                done.unwrap_or_else(panicked)
                    .tell(job, |outcomes, failure| Event::Applied {
                        job,
                        outcomes,
                        failure,
                    })
            }
            Action::Check { job, entry, objects } => {
                let unit = UnitContext::new(&context, id, entry);
                let done = caught(check::check(&unit, objects, &cancel)).await;
                done.unwrap_or_else(panicked)
                    .tell(job, |outcomes, failure| Event::Checked {
                        job,
                        outcomes,
                        failure,
                    })
            }
            Action::Remove { job, entry, keys } => {
                let unit = UnitContext::new(&context, id, entry);
                let done = caught(remove::remove(&unit, keys, &cancel)).await;
                done.unwrap_or_else(panicked)
                    .tell(job, |outcomes, failure| Event::Removed {
                        job,
                        outcomes,
                        failure,
                    })
            }
            // The others are done where they are asked for.
            _ => (0, Event::Tick, false),
        };
        Finished {
            unit: id,
            job,
            event,
            lost,
        }
    }
    .boxed()
}

pub(super) async fn caught<T>(work: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(work)
        .catch_unwind()
        .await
        .map_err(|panic| panic_text(panic.as_ref()))
}

pub(super) fn panicked<T>(message: String) -> Done<T> {
    tracing::error!("reconciling panicked: {message}");
    Done {
        outcomes: Vec::new(),
        failure: Some(JobFailure::Panicked(format!(
            "reconciling failed unexpectedly: {message}"
        ))),
        lost: false,
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic".to_owned())
}
