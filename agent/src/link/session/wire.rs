//! What goes over a stream to the hub and comes from it: reports as things change and their acknowledgements, also while
//! the ledger is waited for. What follows from an offer within moments goes together: each message is a wake, a statement
//! and a row at the hub, for each cluster that a commit concerns.

use std::{collections::VecDeque, mem, pin::pin, sync::Arc, time::Duration};

use flotilla_core::clock::Clock;
use flotilla_proto::agent::v1::{Ack, AgentMessage, HubMessage, ReportAck, agent_message, hub_message};
use tokio::{sync::mpsc, time::Instant};
use tonic::Streaming;

use super::SessionError;
use crate::report::Reports;

/// Rows that change within this go in one report, and an acknowledgement of what is accepted with it.
const COALESCE: Duration = Duration::from_millis(20);
/// Units on their way are told after this, unless they have arrived by then, or something else is to be told.
pub(super) const PASSING: Duration = Duration::from_millis(500);
/// One report comes so long after another, unless it is full. Each costs the hub the same few statements, whatever it says,
/// and while an agent applies hundreds of units each of them has a word within moments.
pub(super) const SPACED: Duration = Duration::from_millis(250);

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
    /// What is accepted and not yet acknowledged.
    pub(super) acks: VecDeque<Ack>,
    /// When that goes, with a report or without.
    pub(super) acks_at: Option<Instant>,
    /// Until when it is waited for what becomes of units on their way.
    pub(super) passing_until: Option<Instant>,
    /// Until when the last report keeps the next one back.
    pub(super) spaced_until: Option<Instant>,
    /// The same, where there is something to tell.
    pub(super) gathering_until: Option<Instant>,
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

    /// Takes what the hub is to hear of an offer: it goes with the next message, or within moments.
    pub(super) fn acknowledge(&mut self, ack: Ack) {
        self.acks.push_back(ack);
        let soon = Instant::now() + COALESCE;
        self.acks_at
            .get_or_insert(self.spaced_until.map_or(soon, |until| until.max(soon)));
    }

    /// Sends a message, behind the acknowledgements that came before it.
    pub(super) async fn send(&mut self, kind: agent_message::Kind) -> Result<(), SessionError> {
        self.send_acks().await?;
        send(&self.tx, kind).await
    }

    pub(super) async fn send_acks(&mut self) -> Result<(), SessionError> {
        self.acks_at = None;
        for ack in mem::take(&mut self.acks) {
            send(&self.tx, agent_message::Kind::Ack(ack)).await?;
        }
        Ok(())
    }

    /// Sends a report, if there is something to tell and none is in flight, and the acknowledgements that are due.
    pub(super) async fn report(&mut self) -> Result<(), SessionError> {
        let now = Instant::now();
        let report = match self.holds_back(now) {
            true => None,
            false => self.reports.next(self.epoch),
        };
        match report {
            Some(mut report) => {
                report.sent_at_ms = self.clock.now().0;
                self.sent_at = Some(now);
                self.spaced_until = Some(now + SPACED);
                self.send(agent_message::Kind::Report(report)).await
            }
            None if self.acks_at.is_some_and(|at| at <= now) => self.send_acks().await,
            None => Ok(()),
        }
    }

    /// Tells whether all that is to be told are units on their way, whose next word is waited for, or it is little and the last
    /// report was a moment ago.
    fn holds_back(&mut self, now: Instant) -> bool {
        let is_passing = self.reports.is_passing();
        let until = is_passing.then(|| self.passing_until.unwrap_or(now + PASSING));
        self.passing_until = until.filter(|until| now < *until);
        let spaced = self.spaced_until.filter(|until| now < *until);
        self.gathering_until = spaced.filter(|_| self.reports.may_gather());
        self.passing_until.is_some() || self.gathering_until.is_some()
    }

    /// When something goes although nothing changes any more.
    pub(super) fn due_at(&self) -> Option<Instant> {
        [self.acks_at, self.passing_until, self.gathering_until]
            .into_iter()
            .flatten()
            .min()
    }

    /// Waits for a write of the ledger. Its storage may stand still, and that, with all else, is to be told meanwhile,
    /// report by report. When the stream breaks, what was begun with the ledger ends all the same.
    pub(super) async fn beside<T>(&mut self, write: impl Future<Output = T>) -> T {
        let mut write = pin!(write);
        while self.broken.is_none() {
            let (reports, due_at) = (self.reports.clone(), self.due_at());
            let message = tokio::select! {
                biased;
                written = &mut write => return written,
                message = self.read(), if self.early.len() < EARLY => Some(message),
                () = due(&reports, due_at) => None,
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

/// Waits until there may be something to send: rows have changed, and others had a moment to change with them, or the
/// time is `at`. Cancel-safe where [`Wire::report`] comes next: it looks by itself what there is.
pub(super) async fn due(reports: &Reports, at: Option<Instant>) {
    let changed = async {
        reports.changed().await;
        tokio::time::sleep(COALESCE).await;
    };
    match at {
        Some(at) => drop(tokio::time::timeout_at(at, changed).await),
        None => changed.await,
    }
}
