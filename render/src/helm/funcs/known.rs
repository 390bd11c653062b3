//! Values found by what they are, as Go's `reflect.DeepEqual` compares them: `uniq` and `without` compare a value with
//! those of the same hash alone, and not each with each.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash as _, Hasher, RandomState};
use std::mem::discriminant;
use std::rc::Rc;

use super::reflection::{MAX_DEPTH, deep_equal};
use crate::helm::eval::Interp;
use crate::helm::exec_error::ExecError;
use crate::helm::value::Val;

/// The values seen so far.
#[derive(Default)]
pub(super) struct Known {
    by_hash: HashMap<u64, Vec<Val>>,
    state: RandomState,
}

impl Known {
    /// Adds a value; returns whether none of them was equal to it.
    pub(super) fn insert(&mut self, interp: &mut Interp<'_>, value: &Val) -> Result<bool, Box<ExecError>> {
        let (hash, size) = self.hash(value);
        let is_new = !self.has(interp, value, hash, size)?;
        if is_new {
            self.by_hash.entry(hash).or_default().push(value.clone());
        }
        Ok(is_new)
    }

    /// Returns whether one of them is equal to a value; each comparison costs the size of the value.
    pub(super) fn holds(&self, interp: &mut Interp<'_>, value: &Val) -> Result<bool, Box<ExecError>> {
        let (hash, size) = self.hash(value);
        self.has(interp, value, hash, size)
    }

    fn has(
        &self,
        interp: &mut Interp<'_>,
        value: &Val,
        hash: u64,
        size: u64,
    ) -> Result<bool, Box<ExecError>> {
        for known in self.by_hash.get(&hash).into_iter().flatten() {
            interp.charge(size)?;
            if deep_equal(known, value, 0) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the hash of a value, and how many steps it takes to go through it.
    fn hash(&self, value: &Val) -> (u64, u64) {
        let mut hasher = self.state.build_hasher();
        let mut size = 0;
        add(value, &mut hasher, &mut size, 0);
        (hasher.finish(), size)
    }
}

/// Adds what decides whether values are equal.
fn add(value: &Val, hasher: &mut impl Hasher, size: &mut u64, depth: usize) {
    *size += 1;
    if depth > MAX_DEPTH {
        return;
    }
    // No value and nil are equal.
    if !value.is_nil() {
        discriminant(value).hash(hasher);
    }
    match value {
        Val::Invalid | Val::Nil => {}
        Val::Bool(flag) => flag.hash(hasher),
        Val::Int(number) | Val::Int64(number) => number.hash(hasher),
        Val::UInt(number) => number.hash(hasher),
        Val::Byte(number) => number.hash(hasher),
        // Both zeros are equal.
        Val::Float(number) => (number + 0.0).to_bits().hash(hasher),
        Val::Str(text) => {
            *size += text.len() as u64 / 16;
            text.hash(hasher);
        }
        Val::List(list) => {
            list.items.len().hash(hasher);
            list.items
                .iter()
                .for_each(|item| add(item, hasher, size, depth + 1));
        }
        Val::Map(map) => {
            let entries = map.entries.borrow();
            entries.len().hash(hasher);
            for (key, value) in entries.iter() {
                key.hash(hasher);
                add(value, hasher, size, depth + 1);
            }
        }
        Val::Object(object) => Rc::as_ptr(object).addr().hash(hasher),
    }
}
