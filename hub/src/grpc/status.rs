//! Errors as callers see them: what failed and what to do, never a secret, never a row.

use tonic::Status;
use tracing::error;

use crate::store::StoreError;

/// Maps a store error. The cause is logged here, once; the caller gets what to do.
pub(crate) fn from_store(error: StoreError) -> Status {
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
        StoreError::Superseded => Status::unavailable("a newer hub decides; try again"),
        StoreError::Corrupt { .. } | StoreError::Migrate(_) => {
            error!(
                error = &error as &dyn std::error::Error,
                "the store holds what this hub cannot read"
            );
            Status::internal("the store holds what this hub cannot read; see the hub's log")
        }
    }
}
