//! How many objects pages of lists have. A list whose pages were too large is asked for in smaller ones from then on,
//! until its objects are small again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What is listed, as a path, and in which form.
pub(super) type List = (String, Form);

/// Sizes of pages in objects, by list. Shared by all clones.
#[derive(Debug, Clone, Default)]
pub(super) struct Sizes(Arc<Mutex<BTreeMap<List, u32>>>);

/// What a page has of its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    /// All.
    Whole,
    /// Metadata.
    Metadata,
    /// Metadata without managed fields.
    Lean,
}

impl Form {
    /// Objects in a page as long as none was too large. Those of metadata are a kilobyte or two each, most of it managed
    /// fields.
    const fn most(self) -> u32 {
        match self {
            Self::Whole => 100,
            Self::Metadata => 250,
            Self::Lean => 500,
        }
    }

    /// Bytes of an answer with a page of objects: parsed it takes several times as much, and several kinds are listed at
    /// once. Of the leanest little is taken out.
    pub(super) const fn bytes(self) -> usize {
        match self {
            Self::Whole | Self::Metadata => 1 << 20,
            Self::Lean => 2 << 20,
        }
    }
}

impl Sizes {
    /// Objects to ask for in the next page.
    pub(super) fn of(&self, list: &List) -> u32 {
        self.lock().get(list).copied().unwrap_or(list.1.most())
    }

    /// Takes in that a page of this size was too large. Returns whether a smaller one may be asked for.
    pub(super) fn too_large(&self, list: &List, size: u32) -> bool {
        if size > 1 {
            self.lock().insert(list.clone(), size / 2);
        }
        size > 1
    }

    /// Takes in how many bytes a full page of this size took.
    pub(super) fn took(&self, list: &List, size: u32, bytes: usize) {
        // Twice as many objects would still leave half of the room.
        if size == list.1.most() || bytes > list.1.bytes() / 4 {
            return;
        }
        let mut sizes = self.lock();
        match size * 2 < list.1.most() {
            true => drop(sizes.insert(list.clone(), size * 2)),
            false => drop(sizes.remove(list)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<List, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_large_objects_keeps_its_small_pages_until_its_objects_are_small() {
        let sizes = Sizes::default();
        let list = |path: &str| (path.to_owned(), Form::Lean);
        assert!(sizes.too_large(&list("a"), 500));
        assert!(sizes.too_large(&list("a"), 250));
        assert_eq!((sizes.of(&list("a")), sizes.of(&list("b"))), (125, 500));
        assert_eq!(sizes.of(&("a".to_owned(), Form::Whole)), 100);
        sizes.took(&list("a"), 125, 1 << 20);
        assert_eq!(sizes.of(&list("a")), 125);
        sizes.took(&list("a"), 125, 100 << 10);
        assert_eq!(sizes.of(&list("a")), 250);
        sizes.took(&list("a"), 250, 100 << 10);
        assert_eq!(sizes.of(&list("a")), 500);
        assert!(sizes.lock().is_empty(), "what is as at the start takes no room");
        assert!(!sizes.too_large(&list("a"), 1), "one object is the least");
    }
}
