//! The maps and lists that functions have made and what each takes, so that what nothing holds any longer is given back.

use std::any::Any;
use std::rc::Weak;

/// How many are noted before they are gone through.
const FEWEST: usize = 1024;
/// How many bytes these may take meanwhile.
const FEWEST_BYTES: usize = 32 << 20;
/// How many bytes are added for each that is looked at.
const BYTES_PER_LOOK: usize = 64;

/// Maps and lists that were counted.
#[derive(Default)]
pub(super) struct Held {
    noted: Vec<(Weak<dyn Any>, usize)>,
    /// How many of them there were once those that were freed had been left out.
    kept: usize,
    /// Bytes that they have taken since.
    added: usize,
}

impl Held {
    /// Notes a map or a list that takes so many bytes. Returns how many bytes those took that are freed: they are looked
    /// for each time that twice as many are noted as were there still, so that this costs the same for each, or that
    /// many bytes were added, which took far more to make.
    pub(super) fn add(&mut self, held: Weak<dyn Any>, bytes: usize) -> usize {
        let mut freed = 0;
        let is_due = self.noted.len() >= FEWEST.max(2 * self.kept);
        if is_due || self.added > FEWEST_BYTES.max(self.kept * BYTES_PER_LOOK) {
            self.noted.retain(|(held, bytes)| {
                let is_held = held.strong_count() > 0;
                freed += if is_held { 0 } else { *bytes };
                is_held
            });
            self.kept = self.noted.len();
            self.added = 0;
        }
        self.added += bytes;
        self.noted.push((held, bytes));
        freed
    }
}
