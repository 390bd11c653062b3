//! What goes to the hub on a stream: reports as things change, also while the ledger is waited for.

use std::{pin::pin, sync::Arc, time::Duration};

use flotilla_core::clock::Clock;
use flotilla_proto::agent::v1::{AgentMessage, agent_message};
use tokio::{sync::mpsc, time::Instant};

use super::SessionError;
use crate::report::Reports;

/// Rows that change within this go in one report.
const COALESCE: Duration = Duration::from_millis(20);

/// The agent's side of a stream.
pub(super) struct Outbound {
    pub(super) tx: mpsc::Sender<AgentMessage>,
    pub(super) epoch: u64,
    pub(super) reports: Arc<Reports>,
    pub(super) clock: Arc<dyn Clock>,
    /// When the report in flight was sent.
    pub(super) sent_at: Option<Instant>,
}

impl Outbound {
    pub(super) async fn send(&self, kind: agent_message::Kind) -> Result<(), SessionError> {
        send(&self.tx, kind).await
    }

    /// Sends a report, if there is something to tell and none is in flight.
    pub(super) async fn report(&mut self) -> Result<(), SessionError> {
        let Some(mut report) = self.reports.next(self.epoch) else {
            return Ok(());
        };
        report.sent_at_ms = self.clock.now().0;
        self.sent_at = Some(Instant::now());
        self.send(agent_message::Kind::Report(report)).await
    }

    /// Waits for a write of the ledger. Its storage may stand still, and that, with all else, is to be told meanwhile.
    pub(super) async fn beside<T>(&mut self, write: impl Future<Output = T>) -> T {
        let mut write = pin!(write);
        loop {
            tokio::select! {
                biased;
                written = &mut write => return written,
                () = changed(&self.reports) => {}
            }
            if self.report().await.is_err() {
                // The stream is gone, which its reader will see: what was begun with the ledger ends all the same.
                return write.await;
            }
        }
    }
}

pub(in crate::link) async fn send(
    tx: &mpsc::Sender<AgentMessage>,
    kind: agent_message::Kind,
) -> Result<(), SessionError> {
    tx.send(AgentMessage { kind: Some(kind) })
        .await
        .map_err(|_| SessionError::Ended("the connection is gone".to_owned()))
}

/// Waits until rows have changed, and for others that change with them.
pub(super) async fn changed(reports: &Reports) {
    reports.changed().await;
    tokio::time::sleep(COALESCE).await;
}
