//! Which parts of the composed values are, in the reference program, the inline values' own maps and lists: a
//! path set in one is then set in both.
//!
//! The reference merges Go maps. A merge makes a new map for each map that both sides have, and puts everything else
//! into it as it is, so that a map or a list that only one side has is then held by both. `targetPath` writes into the
//! composed values after the inline values were merged over them, and the inline values are merged once more at the
//! end: what was written into a part that they share wins, what was written elsewhere is overwritten. Three cases, with
//! the inline values `{a: {x: 1}}` and a reference that sets `a.x` to 2:
//!
//! ```text
//! values    inline      1. Nothing but the inline values has `a`: it is the same map, `Whole`.
//!    \        /            Set: both say 2, and so does the result.
//!     a: {x: 1}
//!
//! values      inline    2. The values had `a` before: theirs is a new map, `Within`, which shares below only the maps
//!   |            |         and lists that the inline values alone brought.
//! a: {x: 1,    a: {x: 1}   Set: the values say 2, the inline values 1, and 1 is the result.
//!     y: 0}
//!
//! values      inline    3. A later reference is merged over the values: where it has `a`, the map of case 1 becomes one
//!   |            |         as in case 2, whose maps and lists below are shared still.
//! a: {x: 3}    a: {x: 1}
//! ```
//!
//! The values here are plain trees; [`Shared`] keeps which of their parts are shared, and [`Shared::follow`] writes what
//! was set in one of them into the inline values too.

use std::collections::BTreeMap;

use crate::yaml::{Map, Value};

/// The keys under which something is shared.
#[derive(Debug, Default)]
pub(super) struct Shared(BTreeMap<String, Part>);

#[derive(Debug)]
enum Part {
    /// The map or list itself.
    Whole,
    /// Some of what is in a map that itself is not shared.
    Within(Shared),
}

impl Shared {
    /// Merges a layer over the values; what it replaces is shared no longer.
    pub(super) fn merge(&mut self, values: &mut Map, over: &Map) {
        self.merged(values, over, false);
    }

    /// Merges the inline values over the values; what is not merged but put there is shared from now on.
    pub(super) fn merge_inline(&mut self, values: &mut Map, inline: &Map) {
        self.merged(values, inline, true);
    }

    fn merged(&mut self, values: &mut Map, over: &Map, inline: bool) {
        for (key, value) in over {
            let part = self.0.remove(key);
            if let (Some(Value::Map(below)), Value::Map(above)) = (values.get_mut(key), value) {
                // A merged map is a new one that holds the old one's items.
                let mut within = match part {
                    Some(Part::Whole) => Shared::items(below),
                    Some(Part::Within(within)) => within,
                    None => Shared::default(),
                };
                within.merged(below, above, inline);
                if !within.0.is_empty() {
                    self.0.insert(key.clone(), Part::Within(within));
                }
                continue;
            }
            values.insert(key.clone(), value.clone());
            if inline && can_be_shared(value) {
                self.0.insert(key.clone(), Part::Whole);
            }
        }
    }

    fn items(map: &Map) -> Shared {
        let shared = map.iter().filter(|(_, value)| can_be_shared(value));
        Shared(shared.map(|(key, _)| (key.clone(), Part::Whole)).collect())
    }

    /// Makes the inline values what they became when `path` was set in the composed ones.
    pub(super) fn follow(&mut self, values: &Map, inline: &mut Map, path: &str) {
        self.0.retain(|key, part| {
            let (Some(value), Some(own)) = (values.get(key), inline.get_mut(key)) else {
                return false;
            };
            match (part, value, own) {
                (Part::Whole, Value::Map(value), Value::Map(own)) => {
                    own.clone_from(value);
                    true
                }
                (Part::Whole, Value::List(value), Value::List(own)) => {
                    // An item is set in place; a list that grows, or is given whole, is another.
                    let in_place = value == own || (value.len() == own.len() && path.contains('['));
                    if in_place {
                        own.clone_from(value);
                    }
                    in_place
                }
                (Part::Within(within), Value::Map(value), Value::Map(own)) => {
                    within.follow(value, own, path);
                    !within.0.is_empty()
                }
                _ => false,
            }
        });
    }
}

fn can_be_shared(value: &Value) -> bool {
    matches!(value, Value::Map(_) | Value::List(_))
}
