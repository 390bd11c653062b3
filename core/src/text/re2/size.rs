//! How large an expression is: what compiling it takes, and what a match takes for each character where no cache of
//! states helps.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind};

use super::NEST_LIMIT;

/// What is counted; all that repeats, as often as it may.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// States in which a match may be.
    pub(super) states: usize,
    /// Ranges of characters and bytes of literals.
    pub(super) ranges: usize,
    /// Groups with a number.
    pub(super) groups: usize,
}

impl Size {
    /// Counts an expression that compiles.
    pub(super) fn of(pattern: &str) -> Size {
        let all = Size {
            states: usize::MAX,
            ranges: usize::MAX,
            groups: usize::MAX,
        };
        // The crate that compiles expressions reads them by the same parser, which bounds their depth.
        let parsed = ParserBuilder::new().nest_limit(NEST_LIMIT).build().parse(pattern);
        parsed.map_or(all, |hir| Size::of_part(&hir))
    }

    fn of_part(hir: &Hir) -> Size {
        let leaf = |ranges| Size {
            states: 1,
            ranges,
            groups: 0,
        };
        match hir.kind() {
            HirKind::Empty => Size::default(),
            HirKind::Look(_) => leaf(1),
            HirKind::Class(Class::Unicode(class)) => leaf(class.ranges().len()),
            HirKind::Class(Class::Bytes(class)) => leaf(class.ranges().len()),
            HirKind::Literal(literal) => Size {
                states: literal.0.len(),
                ranges: literal.0.len(),
                groups: 0,
            },
            HirKind::Repetition(repetition) => {
                let times = repetition.max.unwrap_or(repetition.min).max(1);
                let times = usize::try_from(times).unwrap_or(usize::MAX);
                Size::of_part(&repetition.sub).times(times).plus(leaf(0))
            }
            HirKind::Capture(capture) => Size::of_part(&capture.sub).plus(Size {
                groups: 1,
                ..Size::default()
            }),
            HirKind::Concat(all) | HirKind::Alternation(all) => {
                all.iter().map(Size::of_part).fold(Size::default(), Size::plus)
            }
        }
    }

    fn plus(self, other: Size) -> Size {
        Size {
            states: self.states.saturating_add(other.states),
            ranges: self.ranges.saturating_add(other.ranges),
            groups: self.groups.saturating_add(other.groups),
        }
    }

    fn times(self, times: usize) -> Size {
        Size {
            states: self.states.saturating_mul(times),
            ranges: self.ranges.saturating_mul(times),
            groups: self.groups.saturating_mul(times),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Size;

    #[test]
    fn groups_within_each_other_are_counted_as_deep_as_they_compile() {
        let nested = |depth: usize| format!("{}ab{}", "(?:".repeat(depth), ")".repeat(depth));
        assert_eq!(Size::of(&nested(400)).states, 2);
        assert_eq!(Size::of(&nested(600)).states, usize::MAX);
    }

    #[test]
    fn states_and_ranges_are_counted_as_often_as_they_repeat() {
        for (pattern, states, ranges, groups) in [
            ("", 0, 0, 0),
            ("a", 1, 1, 0),
            ("abc", 3, 3, 0),
            ("[a-z_]+", 2, 2, 0),
            ("[01]{1000}", 1001, 1000, 0),
            ("(?:[01]{10}){10}", 111, 100, 0),
            ("(?:xx){0,500}", 1001, 1000, 0),
            ("a|bc*", 4, 3, 0),
            ("()()((a))", 1, 1, 4),
            ("(?:(a)(b)){50}", 101, 100, 100),
        ] {
            let size = Size {
                states,
                ranges,
                groups,
            };
            assert_eq!(Size::of(pattern), size, "{pattern}");
        }
        let letters = Size::of("\\pL{10}");
        assert!(letters.states < 20 && letters.ranges > 5000, "{letters:?}");
    }
}
