//! The places of renderings at the same time, and what becomes of one whose thread does not end.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many renderings at the same time. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    /// For threads that do not end, as many as there are places: each holds memory, so that there is a bound.
    spare: Arc<Semaphore>,
}

/// A place, kept by the thread that renders and by who waits for it, until both have let go of it.
#[derive(Debug, Clone)]
pub(super) struct Place(Arc<Mutex<OwnedSemaphorePermit>>);

impl Places {
    pub(super) fn new(count: usize) -> Self {
        let count = count.max(1);
        Self {
            free: Arc::new(Semaphore::new(count)),
            spare: Arc::new(Semaphore::new(count)),
        }
    }

    /// Waits for a place; `None` never comes while the process runs.
    pub(super) async fn take(&self) -> Option<Place> {
        let permit = Arc::clone(&self.free).acquire_owned().await.ok()?;
        Some(Place(Arc::new(Mutex::new(permit))))
    }

    /// Gives a place to the next rendering although its thread goes on. A thread that ends after all gives back the
    /// spare one that it has instead.
    ///
    /// Returns whether there was a spare one; without, the place is lost until the thread ends.
    pub(super) fn replace(&self, place: &Place) -> bool {
        let Ok(spare) = Arc::clone(&self.spare).try_acquire_owned() else {
            return false;
        };
        let mut held = place.0.lock().unwrap_or_else(PoisonError::into_inner);
        *held = spare;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_is_replaced_as_often_as_there_are_places_and_comes_back_once() {
        let places = Places::new(2);
        let (first, second) = (places.take().await, places.take().await);
        let (first, second) = (first.expect("a place"), second.expect("a place"));
        assert_eq!(places.free.available_permits(), 0);
        assert!(places.replace(&first) && places.replace(&second));
        assert_eq!(places.free.available_permits(), 2);
        let third = places.take().await.expect("a place");
        assert!(!places.replace(&third), "more than twice as many threads");
        // However they end, there are as many places as before.
        drop((first, second, third));
        assert_eq!(places.free.available_permits(), 2);
        assert_eq!(places.spare.available_permits(), 2);
    }

    #[tokio::test]
    async fn a_place_is_held_while_either_holds_it() {
        let places = Places::new(1);
        let place = places.take().await.expect("a place");
        let of_thread = place.clone();
        drop(place);
        assert_eq!(places.free.available_permits(), 0);
        drop(of_thread);
        assert_eq!(places.free.available_permits(), 1);
    }
}
