//! Errors as callers see them: what failed and what to do, never a secret, never a row.

use tonic::{Code, Status};
use tracing::error;

use crate::store::StoreError;

/// Maps a store error. The cause is logged here, once; the caller gets what to do.
pub(crate) fn from_store(error: StoreError) -> Status {
    if let StoreError::Unavailable(cause) = &error
        && let Some(status) = refused(cause)
    {
        error!(
            error = &error as &dyn std::error::Error,
            "the database answers and takes nothing"
        );
        return status;
    }
    match &error {
        StoreError::Unavailable(_) => {
            error!(
                error = &error as &dyn std::error::Error,
                "the database is unavailable"
            );
            Status::unavailable("the hub's database is unavailable; try again")
        }
        StoreError::Conflict(what) => Status::aborted(format!("{what} was changed meanwhile; try again")),
        StoreError::Rejected(_) => {
            error!(
                error = &error as &dyn std::error::Error,
                "the database refuses what was to be written"
            );
            Status::invalid_argument("the hub's database refuses what was to be written; see the hub's log")
        }
        StoreError::Kept { .. } => Status::failed_precondition(error.to_string()),
        StoreError::Refused(why) => Status::invalid_argument(why.clone()),
        StoreError::Superseded => Status::unavailable("a newer hub decides; try again"),
        StoreError::Corrupt { .. }
        | StoreError::Foreign
        | StoreError::HalfRestored
        | StoreError::Migrate(_) => {
            error!(
                error = &error as &dyn std::error::Error,
                "the store holds what this hub cannot read"
            );
            Status::internal("the store holds what this hub cannot read; see the hub's log")
        }
    }
}

/// What is said of a database that is there and refuses: trying again does not help until somebody has done something.
fn refused(cause: &sqlx::Error) -> Option<Status> {
    let code = cause.as_database_error()?.code()?;
    let (code, what) = match &*code {
        "53100" => (
            Code::ResourceExhausted,
            "the disk of the hub's database is full: make room on it; the hub goes on by itself then",
        ),
        "53200" => (
            Code::ResourceExhausted,
            "the hub's database is out of memory: give it more; the hub goes on by itself then",
        ),
        "25006" => (
            Code::FailedPrecondition,
            "the hub's database takes no writes: it is read-only, as a standby is; set DATABASE_URL to the primary",
        ),
        "42501" => (
            Code::FailedPrecondition,
            "the hub's database user lacks rights: it has to own the hub's tables; see the hub's log",
        ),
        _ => return None,
    };
    Some(Status::new(code, what))
}
