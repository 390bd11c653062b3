//! Changes of an object's health that are not taken in at once: its words change with each try of its controller, and
//! one that somebody scales is on its way for moments. Each would be a row at the hub, of each cluster, without end.

use std::time::Duration;

use super::now::Mono;
use crate::health::{Health, State as HealthState};

/// Once an object is in another state, its next words are told after this.
const FIRST_WORDS: Duration = Duration::from_secs(10);
/// How often other words are told at most, and how long an object that was done has to be on its way until that counts.
const LASTS: Duration = Duration::from_secs(60);
/// For so long after a unit's target was first tried, and after it was applied, each object of it that is on its way
/// counts at once: whoever waits for the target to be healthy, and to stay so, waits for just that.
pub(super) const PROVING: Duration = Duration::from_secs(600);

/// When something is observed, and of what unit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) now: Mono,
    /// No target was first tried, or applied, within [`PROVING`], and none that is not applied is under way.
    pub(super) is_proven: bool,
}

/// What is held back of an object's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    /// Until when.
    pub(super) until: Mono,
    /// The newest; `None`: it is as it was told, and other words of it are not told before.
    pub(super) health: Option<Health>,
}

impl Held {
    /// After `told` was told, which says something else than before.
    pub(super) fn after(told: &Health, is_turn: bool, now: Mono) -> Option<Box<Self>> {
        // The words of what is done count nothing, and change no more.
        (told.state != HealthState::Current).then(|| {
            Box::new(Self {
                until: now + if is_turn { FIRST_WORDS } else { LASTS },
                health: None,
            })
        })
    }

    /// What is held back once `new` is observed of an object of which `told` was told; `None`: nothing, it is told.
    pub(super) fn holding(
        told: &Health,
        new: &Health,
        before: Option<&Self>,
        at: Moment,
    ) -> Option<Box<Self>> {
        let is_turn = told.state != new.state;
        let until = match is_turn {
            false => before
                .map(|held| held.until)
                .filter(|_| told.state != HealthState::Current),
            // What failed, or is done, and is tried again, is mostly back soon.
            true => (at.is_proven && is_on_its_way(told, new)).then(|| {
                let turned = before.filter(|held| held.turns(told));
                turned.map_or(at.now + LASTS, |held| held.until)
            }),
        };
        let until = until.filter(|until| at.now < *until)?;
        let health = (new != told).then(|| new.clone());
        Some(Box::new(Self { until, health }))
    }

    /// Tells whether it is another state, and not other words alone.
    pub(super) fn turns(&self, told: &Health) -> bool {
        let health = self.health.as_ref();
        health.is_some_and(|health| health.state != told.state)
    }
}

fn is_on_its_way(told: &Health, new: &Health) -> bool {
    let was_over = matches!(told.state, HealthState::Current | HealthState::Failed);
    was_over && new.state == HealthState::InProgress
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(state: HealthState, message: &str) -> Health {
        Health {
            state,
            reason: "".into(),
            message: message.into(),
        }
    }

    fn at(seconds: u64, is_proven: bool) -> Moment {
        Moment {
            now: Mono(Duration::from_secs(seconds)),
            is_proven,
        }
    }

    #[test]
    fn a_turn_to_the_worse_is_never_held_and_one_to_being_under_way_only_of_what_is_proven() {
        for told in HealthState::ALL {
            for new in HealthState::ALL.into_iter().filter(|new| *new != told) {
                let (told, new) = (health(told, ""), health(new, ""));
                let held =
                    |is_proven| Held::holding(&told, &new, None, at(0, is_proven)).map(|held| held.until);
                let is_held = is_on_its_way(&told, &new).then_some(Mono(LASTS));
                assert_eq!(held(true), is_held, "{told:?} {new:?}");
                assert_eq!(held(false), None, "{told:?} {new:?}");
            }
        }
    }

    #[test]
    fn what_goes_on_under_way_holds_a_turn_no_longer() {
        let (done, on_its_way) = (health(HealthState::Current, ""), |n: u64| {
            health(HealthState::InProgress, &format!("{n}/5"))
        });
        let mut held = None;
        for second in 0..60 {
            held = Held::holding(&done, &on_its_way(second), held.as_deref(), at(second, true));
            let until = held.as_ref().map(|held| held.until);
            assert_eq!(until, Some(Mono(LASTS)), "{second}");
        }
        assert_eq!(
            Held::holding(&done, &on_its_way(60), held.as_deref(), at(60, true)),
            None
        );
    }

    #[test]
    fn words_alone_are_told_after_ten_seconds_and_then_each_minute_whatever_is_proven() {
        let words = |n: u64| health(HealthState::InProgress, &format!("{n} tries"));
        let mut told = words(0);
        let mut held = Held::after(&told, true, Mono::default());
        let mut times = Vec::new();
        for second in 1..200 {
            let at = at(second, second % 2 == 0);
            let before = held.take();
            held = Held::holding(&told, &words(second), before.as_deref(), at);
            if held.is_none() {
                told = words(second);
                held = Held::after(&told, false, at.now);
                times.push(second);
            }
        }
        assert_eq!(times, [10, 70, 130, 190]);
        assert_eq!(
            Held::after(&health(HealthState::Current, ""), true, Mono::default()),
            None
        );
    }
}
