//! Apps of which what is offered begins to be refused, or is taken after all. Each turn is an event, once, however
//! often a stream begins anew and says of them what the one before said.

use std::collections::BTreeMap;

use flotilla_core::{clock::Timestamp, id::UnitId};
use flotilla_proto::agent::v1::{Event, UnitAcceptance};

/// Of what is in the ledger the unit itself says that it cannot be evaluated.
const OF_THE_UNIT: [&str; 2] = ["ContentMissing", "NotSupported"];
/// The reason of the event that an app is taken.
const TAKEN: &str = "OfferTaken";

/// The apps of which something is refused, with the reason.
#[derive(Debug, Default)]
pub(super) struct Turns {
    refused: BTreeMap<UnitId, String>,
    news: Vec<Turn>,
}

/// That the agent begins, or ceases, to refuse what it is offered of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    unit: UnitId,
    app: Option<String>,
    /// Why it does; `None`: it ceases to.
    refused: Option<(String, String)>,
}

impl Turns {
    /// Takes in what is answered of a unit's entry.
    pub(super) fn note(
        &mut self,
        unit: UnitId,
        answer: &UnitAcceptance,
        app: impl FnOnce() -> Option<String>,
    ) {
        let is_taken = answer.accepted || OF_THE_UNIT.contains(&&*answer.reason);
        let before = match is_taken {
            true => self.refused.remove(&unit),
            false => self.refused.insert(unit, answer.reason.clone()),
        };
        let is_news = match is_taken {
            true => before.is_some(),
            false => before.as_ref() != Some(&answer.reason),
        };
        if is_news {
            let refused = (!is_taken).then(|| (answer.reason.clone(), answer.message.clone()));
            let app = app();
            self.news.push(Turn { unit, app, refused });
        }
    }

    /// Forgets a unit that is let go of.
    pub(super) fn forget(&mut self, unit: UnitId) {
        self.refused.remove(&unit);
    }

    /// What is to be told.
    pub(super) fn take(&mut self) -> Vec<Turn> {
        std::mem::take(&mut self.news)
    }
}

impl Turn {
    /// The event for the hub; it is logged, too.
    pub fn into_event(self, at: Timestamp) -> Event {
        let warning = self.refused.is_some();
        let (reason, message) = match self.refused {
            Some((reason, why)) => (
                reason,
                format!("what is offered is not taken, what is held stays enforced: {why}"),
            ),
            None => (TAKEN.to_owned(), "what is offered is taken".to_owned()),
        };
        let app = self.app.unwrap_or_else(|| self.unit.to_string());
        match warning {
            true => tracing::warn!(app, reason, "{message}"),
            false => tracing::info!(app, reason, "{message}"),
        }
        Event {
            unit_id: self.unit.to_vec().into(),
            key: None,
            warning,
            reason,
            message,
            at_ms: at.0,
        }
    }
}
