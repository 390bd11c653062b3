//! The maps that functions have made and what each takes, so that what nothing holds any longer is given back.

use std::rc::Weak;

use crate::helm::value::Shared;

/// How many maps are noted before they are gone through.
const FEWEST: usize = 1024;

/// Maps that were counted.
#[derive(Default)]
pub(super) struct Held {
    maps: Vec<(Weak<Shared>, usize)>,
    /// How many of them there were once those that were freed had been left out.
    kept: usize,
}

impl Held {
    /// Notes a map that takes so many bytes. Returns how many bytes maps took that are freed: they are looked for each
    /// time that twice as many are noted as were there still, so that this costs the same for each map.
    pub(super) fn add(&mut self, map: Weak<Shared>, bytes: usize) -> usize {
        let mut freed = 0;
        if self.maps.len() >= FEWEST.max(2 * self.kept) {
            self.maps.retain(|(map, bytes)| {
                let is_held = map.strong_count() > 0;
                freed += if is_held { 0 } else { *bytes };
                is_held
            });
            self.kept = self.maps.len();
        }
        self.maps.push((map, bytes));
        freed
    }
}
