//! How far a search goes beyond its match: to where nothing longer can follow, which may be the end of the text. Many
//! searches of one text that go far take the square of its length, and the crate that searches does not tell.

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

use super::STATES_PER_STEP;

/// So many steps are not worth to be counted one by one.
const FREE: usize = 1 << 16;

/// What searches of one text after another cost.
pub(super) struct Searches<'c> {
    /// The expression in the syntax of Rust's crate.
    translated: &'c str,
    /// How many states a match may be in at each character.
    states: usize,
    /// The steps of searches that each went to the end of the text.
    at_worst: usize,
    /// Runs as the searches do; made once it matters.
    automaton: Option<Automaton>,
}

impl<'c> Searches<'c> {
    pub(super) fn of(translated: &'c str, states: usize) -> Searches<'c> {
        Searches {
            translated,
            states: states.max(1),
            at_worst: 0,
            automaton: None,
        }
    }

    /// Returns the steps of going beyond the start of a match; what is in front of it belongs to going through the text
    /// once.
    pub(super) fn steps(&mut self, text: &str, start: usize) -> u64 {
        let states = self.states;
        let steps = |bytes: usize| bytes.saturating_mul(states) / STATES_PER_STEP;
        self.at_worst = self.at_worst.saturating_add(steps(text.len() - start));
        if self.at_worst <= FREE {
            return 0;
        }
        let translated = self.translated;
        let automaton = self.automaton.get_or_insert_with(|| Automaton::of(translated));
        u64::try_from(steps(automaton.reach(text, start))).unwrap_or(u64::MAX)
    }
}

enum Automaton {
    Runs(Box<(DFA, Cache)>),
    /// It cannot be made of this expression: each search may go to the end.
    Unknown,
}

impl Automaton {
    fn of(translated: &str) -> Automaton {
        // What compiled once is within its bounds: the same expression, without its groups.
        let automaton = thompson::Config::new().which_captures(thompson::WhichCaptures::None);
        let built = DFA::builder()
            .configure(DFA::config().skip_cache_capacity_check(true))
            .syntax(syntax::Config::new().nest_limit(u32::MAX))
            .thompson(automaton)
            .build(translated);
        built.map_or(Automaton::Unknown, |dfa| {
            let cache = dfa.create_cache();
            Automaton::Runs(Box::new((dfa, cache)))
        })
    }

    /// Returns how many bytes are looked at from the start of a match on, until no longer one can follow.
    fn reach(&mut self, text: &str, start: usize) -> usize {
        let rest = text.len() - start;
        let Automaton::Runs(runs) = self else { return rest };
        let (dfa, cache) = &mut **runs;
        let input = Input::new(text).range(start..).anchored(Anchored::Yes);
        let Ok(mut state) = dfa.start_state_forward(cache, &input) else {
            return rest;
        };
        for (at, byte) in text.as_bytes()[start..].iter().enumerate() {
            match dfa.next_state(cache, state, *byte) {
                Ok(next) if next.is_dead() => return at + 1,
                Ok(next) if !next.is_quit() => state = next,
                _ => return rest,
            }
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use flotilla_core::text::re2::Regex;

    use super::Automaton;

    fn reach(pattern: &str, text: &str, start: usize) -> usize {
        let regex = Regex::compile(pattern, 2 << 20).expect("it compiles");
        Automaton::of(regex.translated()).reach(text, start)
    }

    #[test]
    fn a_search_goes_to_where_nothing_longer_can_follow() {
        let text = "ab12  AAAA".repeat(100);
        for (pattern, start, bytes) in [
            ("[0-9]+", 2, 3),
            (r"\s+", 4, 3),
            ("(?i)b", 1, 2),
            (r"\bab", 0, 3),
            ("a.*?2", 0, 5),
            // What follows may be longer up to the end.
            ("(?s)a.*z|a", 0, text.len()),
            (".*[^A-Z0-9a-z ]|[A-Z]", 6, text.len() - 6),
        ] {
            // An automaton is a byte late.
            let reached = reach(pattern, &text, start);
            assert!((bytes..=bytes + 1).contains(&reached), "{pattern}: {reached}");
        }
    }
}
