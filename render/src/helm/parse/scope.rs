//! What each definition starts afresh: the variables it knows, and the loops it is in.

use std::collections::HashMap;
use std::rc::Rc;

/// The variable that every template begins with.
const ROOT: &str = "$";

#[derive(Default)]
pub(super) struct Scope {
    /// Those that were declared, in their order.
    variables: Vec<Rc<str>>,
    /// How often each of them is among these.
    declared: HashMap<Rc<str>, usize>,
    /// How many loops are around the place.
    pub(super) ranges: usize,
}

impl Scope {
    /// Returns how many variables were declared, for [`Scope::leave`].
    pub(super) fn variables(&self) -> usize {
        self.variables.len()
    }

    pub(super) fn declare(&mut self, name: Rc<str>) {
        *self.declared.entry(name.clone()).or_insert(0) += 1;
        self.variables.push(name);
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        name == ROOT || self.declared.contains_key(name)
    }

    /// Forgets the variables behind so many.
    pub(super) fn leave(&mut self, variables: usize) {
        for name in self.variables.drain(variables..) {
            if let Some(count) = self.declared.get_mut(&name) {
                *count -= 1;
                if *count == 0 {
                    self.declared.remove(&name);
                }
            }
        }
    }
}
