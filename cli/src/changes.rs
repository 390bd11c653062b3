//! The hub's word that something changed. It carries no data: whoever watches lists again.

use std::time::Duration;

use flotilla_proto::fleet::v1::{WatchEvent, WatchRequest};
use tokio::time::{Instant, timeout_at};
use tonic::Streaming;

use crate::client::Fleet;
use crate::error::CommandError;

/// Changes that come close together are shown together, but none is held back for longer.
const TOGETHER: Duration = Duration::from_millis(300);

/// A watch on the hub.
pub(crate) struct Changes(Streaming<WatchEvent>);

impl Changes {
    /// Starts to watch. What changes from here on is told, so a list fetched afterwards misses nothing.
    pub(crate) async fn start(fleet: &mut Fleet) -> Result<Self, CommandError> {
        Ok(Self(fleet.watch(WatchRequest {}).await?.into_inner()))
    }

    /// Waits for a change. Ends with an error when the hub ends the watch.
    pub(crate) async fn next(&mut self) -> Result<(), CommandError> {
        if self.0.message().await?.is_none() {
            return Err(CommandError::unreachable("the hub ended the watch"));
        }
        let end = Instant::now() + TOGETHER;
        // An end or failure in between is met again by the next call, after what changed was shown.
        while let Ok(Ok(Some(_))) = timeout_at(end, self.0.message()).await {}
        Ok(())
    }
}
