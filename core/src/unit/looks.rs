//! The objects that `healthChecks` names: those of the unit itself are watched in any case, others are looked at while they
//! are waited for, and once an interval from then on.

use std::{collections::BTreeMap, time::Duration};

use super::{
    UnitState,
    event::Action,
    health::HealthCheck,
    now::{Mono, Now},
    object::Object,
    record::{Condition, Ready},
    state::State,
};
use crate::{
    clock::go_duration,
    health::{Health, State as HealthState},
    object::ObjectKey,
};

/// How often what is waited for is looked at, as with Flux.
const POLL: Duration = Duration::from_secs(5);
/// Objects that a message names.
const NAMED: usize = 10;

/// What is known of objects that are not the unit's.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// What the last look has shown, of the target that is applied.
    seen: BTreeMap<ObjectKey, Health>,
    /// A look is under way.
    is_looking: bool,
    /// When to look; `None`: once the target is applied.
    next: Option<Mono>,
    /// Since when some of them are not healthy.
    since: Option<Mono>,
}

impl State {
    /// Forgets what was seen for another target. A look that is under way ends in nothing.
    pub(super) fn look_anew(&mut self) {
        self.looks = Looks {
            is_looking: self.looks.is_looking,
            ..Looks::default()
        };
    }

    /// The objects that the unit waits for and that are not its own.
    fn others(&self) -> impl Iterator<Item = &HealthCheck> {
        let checks = self.named().iter();
        checks.filter(|check| self.own(&check.key).is_none())
    }

    /// The objects that are named. What is to be removed waits for none of them.
    fn named(&self) -> &[HealthCheck] {
        match self.entry.state {
            UnitState::Active => &self.entry.settings.health.objects,
            _ => &[],
        }
    }

    /// The row of an object of its own. One that is named without a namespace may live in the app's.
    fn own(&self, key: &ObjectKey) -> Option<&Object> {
        let desired = |key: &ObjectKey| {
            let object = self.objects.get(key)?;
            object.desired.as_ref().map(|_| &**object)
        };
        desired(key).or_else(|| {
            let namespace = Some(&self.entry.app.namespace).filter(|_| key.namespace.is_empty())?;
            desired(&ObjectKey {
                namespace: namespace.clone(),
                ..key.clone()
            })
        })
    }

    fn awaits_looks(&self) -> bool {
        self.is_active() && self.judges_health() && self.is_applied() && self.others().next().is_some()
    }

    /// When to look next.
    pub(super) fn next_look(&self) -> Option<Mono> {
        let is_due = !self.looks.is_looking && !self.stopping && self.awaits_looks();
        is_due.then(|| self.looks.next.unwrap_or_default())
    }

    /// Asks for a look that is due.
    pub(super) fn look(&mut self, now: Now, actions: &mut Vec<Action>) {
        if self.next_look().is_some_and(|at| at <= now.mono) {
            self.looks.is_looking = true;
            actions.push(Action::Look {
                entry: self.entry.clone(),
                checks: self.others().cloned().collect(),
            });
        }
    }

    /// Takes in what a look has shown, of the target that it was asked for.
    pub(super) fn looked(&mut self, version: u64, seen: BTreeMap<ObjectKey, Health>, now: Now) {
        self.looks.is_looking = false;
        if version != self.entry.version {
            return;
        }
        let is_healthy = seen.values().all(|health| health.state == HealthState::Current);
        self.dirty_unit |= self.looks.seen != seen;
        self.looks.seen = seen;
        let settings = &self.entry.settings;
        let wait = match (is_healthy, self.is_check_late(now.mono)) {
            (true, _) => settings.interval,
            (false, true) => settings.retry_interval,
            (false, false) => POLL,
        };
        self.looks.next = Some(now.mono + wait.max(POLL));
    }

    /// Notes since when something is waited for.
    pub(super) fn settle_looks(&mut self, now: Mono) {
        let waits = self.is_active() && self.is_applied() && self.unhealthy_checks().next().is_some();
        match waits {
            true => drop(self.looks.since.get_or_insert(now)),
            false => self.looks.since = None,
        }
    }

    /// Until when what is named is waited for.
    pub(super) fn check_deadline(&self) -> Option<Mono> {
        self.looks.since.map(|since| since + self.entry.settings.timeout)
    }

    fn is_check_late(&self, now: Mono) -> bool {
        self.check_deadline().is_some_and(|deadline| deadline <= now)
    }

    /// The named objects that are not healthy, each with how it stands; one that was not looked at yet is not known.
    fn unhealthy_checks(&self) -> impl Iterator<Item = (&ObjectKey, HealthState, &str)> {
        let checks = self.named().iter();
        let all = checks.map(|check| match self.own(&check.key) {
            Some(own) => (&check.key, own.health_state(), own.said()),
            None => match self.looks.seen.get(&check.key) {
                Some(seen) => (&check.key, seen.state, &*seen.message),
                None => (&check.key, HealthState::Unknown, ""),
            },
        });
        all.filter(|(_, state, _)| *state != HealthState::Current)
    }

    /// What the health of the named objects means for the unit; `None`: all are healthy.
    pub(super) fn checks_condition(&self, now: Mono) -> Option<Condition> {
        let unhealthy: Vec<_> = self.unhealthy_checks().collect();
        if unhealthy.is_empty() {
            return None;
        }
        let named = |only: Option<HealthState>| {
            let meant = |state: HealthState| only.is_none_or(|only| only == state);
            let all = unhealthy.iter().filter(|(_, state, _)| meant(*state));
            let mut texts: Vec<String> = all.map(described).collect();
            let more = texts.len().saturating_sub(NAMED);
            texts.truncate(NAMED);
            if more > 0 {
                texts.push(format!("and {more} more"));
            }
            texts.join(", ")
        };
        let failed = |why: &str| Some(Condition::new(Ready::False, "HealthCheckFailed", why));
        if unhealthy
            .iter()
            .any(|(_, state, _)| *state == HealthState::Failed)
        {
            return failed(&format!(
                "health check failed: failed early due to stalled resources: [{}]",
                named(Some(HealthState::Failed))
            ));
        }
        let timeout = go_duration(self.entry.settings.timeout);
        if self.is_check_late(now) {
            return failed(&format!(
                "health check failed after {timeout}: timeout waiting for: [{}]",
                named(None)
            ));
        }
        let names: Vec<String> = unhealthy
            .iter()
            .take(NAMED)
            .map(|(key, ..)| key.to_string())
            .collect();
        Some(Condition::new(
            Ready::Unknown,
            "Progressing",
            format!(
                "Running health checks with a timeout of {timeout}: waiting for {}",
                names.join("; ")
            ),
        ))
    }
}

fn described((key, state, said): &(&ObjectKey, HealthState, &str)) -> String {
    let is_told = !said.is_empty() && matches!(state, HealthState::Unknown | HealthState::Failed);
    match is_told {
        true => format!("{key} status: '{}': {said}", state.as_str()),
        false => format!("{key} status: '{}'", state.as_str()),
    }
}
