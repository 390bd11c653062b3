//! What watches bring, and whom it concerns (`agent/src/reconcile/watches/news.rs`).

use std::collections::{BTreeSet, VecDeque};

use flotilla_core::{
    apply::inventory::State,
    id::UnitId,
    unit::{event::Event, object::Observed},
};

use super::{Agent, Env};
use crate::{
    cluster::{Change, gone},
    git::Key,
};

#[derive(Debug)]
enum News {
    Listing,
    Seen(Box<Change>, bool),
    Listed(u64),
}

/// One watch of all kinds, of what bears a mark.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    is_open: bool,
    news: VecDeque<News>,
    listing: BTreeSet<(UnitId, Key)>,
    listed: bool,
}

impl Watch {
    pub(crate) fn has_listed(&self) -> bool {
        self.listed
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    pub(crate) fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// Its connection breaks.
    pub(crate) fn cut(&mut self) {
        self.is_open = false;
        self.news.clear();
        self.listing.clear();
    }

    /// What has happened is on its way.
    pub(crate) fn tell(&mut self, change: Change) {
        if self.is_open {
            let is_present = change.observed.observation.is_some();
            self.news.push_back(News::Seen(Box::new(change), is_present));
        }
    }
}

impl Agent {
    /// Opens the watch, which begins with a list.
    pub(crate) fn open_watch(&mut self, env: &mut Env<'_>) {
        let news = &mut self.watch.news;
        self.watch.is_open = true;
        news.push_back(News::Listing);
        for (key, live) in &env.cluster.objects {
            if live.mark.is_some() {
                let change = Change {
                    key: key.clone(),
                    mark: live.mark.clone(),
                    observed: live.observed(),
                };
                news.push_back(News::Seen(Box::new(change), true));
            }
        }
        news.push_back(News::Listed(env.cluster.version));
    }

    /// Takes in the next of what the watch has brought.
    pub(crate) fn observe(&mut self, env: &mut Env<'_>) {
        match self.watch.news.pop_front() {
            None => {}
            Some(News::Listing) => {
                let units = self.units.iter();
                let written = units.flat_map(|(id, unit)| {
                    let objects = unit.state.objects().iter();
                    let written = objects.filter(|(_, object)| {
                        let record = object.record.as_ref();
                        record.is_some_and(|record| record.state != State::Intent)
                    });
                    written.map(|(key, _)| (*id, key.clone()))
                });
                self.watch.listing = written.collect();
            }
            Some(News::Seen(change, is_present)) => {
                let Some(unit) = self.owner(&change) else { return };
                if is_present {
                    self.watch.listing.remove(&(unit, change.key.clone()));
                }
                let Change { key, observed, .. } = *change;
                self.feed(unit, Event::Observed { key, observed }, env);
            }
            Some(News::Listed(version)) => {
                self.watch.listed = true;
                for (unit, key) in std::mem::take(&mut self.watch.listing) {
                    let observed = Observed {
                        version: Some(version),
                        ..gone(None)
                    };
                    self.feed(unit, Event::Observed { key, observed }, env);
                }
            }
        }
        self.is_woken = true;
    }

    /// The unit that has an object. Its mark alone proves nothing.
    fn owner(&self, change: &Change) -> Option<UnitId> {
        let holds = |id: &UnitId| {
            let unit = self.units.get(id)?;
            unit.state.objects().contains_key(&change.key).then_some(*id)
        };
        let marked = change
            .mark
            .as_ref()
            .and_then(|mark| mark.parse().ok())
            .map(UnitId);
        marked
            .as_ref()
            .and_then(holds)
            .or_else(|| self.units.keys().find_map(holds))
    }
}
