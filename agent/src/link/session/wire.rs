//! What goes over a stream to the hub and comes from it: reports as things change and their acknowledgements, also while
//! the ledger is waited for.

use std::{collections::VecDeque, pin::pin, sync::Arc, time::Duration};

use flotilla_core::clock::Clock;
use flotilla_proto::agent::v1::{AgentMessage, HubMessage, ReportAck, agent_message, hub_message};
use tokio::{sync::mpsc, time::Instant};
use tonic::Streaming;

use super::SessionError;
use crate::report::Reports;

/// Rows that change within this go in one report.
const COALESCE: Duration = Duration::from_millis(20);

/// Messages that may wait for the ledger; more stay with the hub.
const EARLY: usize = 16;

/// A stream to the hub.
pub(super) struct Wire {
    pub(super) tx: mpsc::Sender<AgentMessage>,
    pub(super) inbound: Streaming<HubMessage>,
    /// What came while the ledger was waited for.
    pub(super) early: VecDeque<HubMessage>,
    /// Why the stream ended, which came while the ledger was waited for.
    pub(super) broken: Option<SessionError>,
    pub(super) epoch: u64,
    pub(super) reports: Arc<Reports>,
    pub(super) clock: Arc<dyn Clock>,
    /// When the report in flight was sent.
    pub(super) sent_at: Option<Instant>,
}

impl Wire {
    /// The next message of the hub. Cancel-safe: a half-read frame stays in the stream.
    pub(super) async fn message(&mut self) -> Result<HubMessage, SessionError> {
        if let Some(message) = self.early.pop_front() {
            return Ok(message);
        }
        match self.broken.take() {
            Some(broken) => Err(broken),
            None => self.read().await,
        }
    }

    async fn read(&mut self) -> Result<HubMessage, SessionError> {
        match self.inbound.message().await? {
            Some(message) => Ok(message),
            None => Err(SessionError::Closed),
        }
    }

    /// Takes in that the hub has committed a report.
    pub(super) fn acknowledged(&mut self, ack: &ReportAck) {
        if !ack.left_out.is_empty() {
            tracing::error!(
                report = ack.seq,
                "the hub left out what was reported: {}",
                ack.left_out
            );
        }
        self.reports.ack(ack.seq);
        self.sent_at = None;
    }

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

    /// Waits for a write of the ledger. Its storage may stand still, and that, with all else, is to be told meanwhile,
    /// report by report. When the stream breaks, what was begun with the ledger ends all the same.
    pub(super) async fn beside<T>(&mut self, write: impl Future<Output = T>) -> T {
        let mut write = pin!(write);
        while self.broken.is_none() {
            let reports = self.reports.clone();
            let message = tokio::select! {
                biased;
                written = &mut write => return written,
                message = self.read(), if self.early.len() < EARLY => Some(message),
                () = changed(&reports) => None,
            };
            match message.transpose() {
                Err(broken) => self.broken = Some(broken),
                Ok(Some(HubMessage {
                    kind: Some(hub_message::Kind::ReportAck(ack)),
                })) => self.acknowledged(&ack),
                Ok(Some(message)) => self.early.push_back(message),
                Ok(None) => {}
            }
            if let Err(broken) = self.report().await {
                self.broken.get_or_insert(broken);
            }
        }
        write.await
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
