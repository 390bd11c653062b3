//! Control planes that all tests of one binary share, since starting one takes longer than most tests.
//!
//! Tests keep apart by namespace ([`ControlPlane::namespace`]); one that freezes, stops or fills a control plane starts
//! its own.

use futures::future::try_join_all;
use tokio::sync::OnceCell;

use crate::{ControlPlane, ControlPlaneOptions, RigError};

/// More would not fit the memory of a small machine.
const MOST: usize = 8;

static POOL: [OnceCell<ControlPlane>; MOST] = [const { OnceCell::const_new() }; MOST];

/// Returns the first `count` control planes of this process, starting those that do not run yet.
///
/// They end with the process.
///
/// # Errors
/// As [`ControlPlane::start`]; [`RigError::Invalid`] for more than eight.
pub async fn shared_clusters(count: usize) -> Result<Vec<&'static ControlPlane>, RigError> {
    let Some(cells) = POOL.get(..count) else {
        return Err(RigError::Invalid(format!(
            "at most {MOST} control planes can be shared, not {count}"
        )));
    };
    let start = |(index, cell): (usize, &'static OnceCell<ControlPlane>)| {
        let options = ControlPlaneOptions::named(&format!("shared-{}", index + 1));
        cell.get_or_try_init(move || ControlPlane::start(options))
    };
    try_join_all(cells.iter().enumerate().map(start)).await
}
