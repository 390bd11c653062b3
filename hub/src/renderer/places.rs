//! The places of renderings at the same time, and what becomes of one whose thread does not end.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::RenderFailure;

/// How long a rendering waits for a place. It is no part of its own time; but who waits has a worker, which apps that need no
/// rendering wait for, and the rendering's lease, which a hub with a free place may have a use for.
const WAIT: Duration = Duration::from_secs(5);

/// So many renderings at the same time. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Places {
    count: usize,
    free: Arc<Semaphore>,
    /// For those that have a place or wait for one: twice as many as there are places.
    line: Arc<Semaphore>,
    /// For threads that do not end, as many as there are places: each holds memory, so that there is a bound.
    spare: Arc<Semaphore>,
}

/// A place, kept by the thread that renders and by who waits for it, until both have let go of it.
#[derive(Debug, Clone)]
pub struct Place(Arc<Mutex<OwnedSemaphorePermit>>);

/// Whoever is to have a place soon, and until it needs none any more.
#[derive(Debug)]
pub struct InLine {
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(count: usize) -> Self {
        let count = count.max(1);
        Self {
            count,
            free: Arc::new(Semaphore::new(count)),
            line: Arc::new(Semaphore::new(2 * count)),
            spare: Arc::new(Semaphore::new(count)),
        }
    }

    /// Waits until no more wait for a place than will get one soon. `None`: that takes long, and nothing was begun yet that a
    /// hub with a free place could not begin.
    pub(super) async fn stand_in_line(&self) -> Option<InLine> {
        let permit = timeout(WAIT, Arc::clone(&self.line).acquire_owned()).await;
        permit.ok()?.ok().map(|permit| InLine { _permit: permit })
    }

    /// Waits for a place, in turn; `Busy` when there is none for long.
    pub(super) async fn take(&self) -> Result<Place, RenderFailure> {
        let permit = timeout(WAIT, Arc::clone(&self.free).acquire_owned()).await;
        let permit = permit.map_err(|_| RenderFailure::Busy(self.count))?;
        // Places are never closed.
        let permit = permit.map_err(|_| RenderFailure::Stopping)?;
        Ok(Place(Arc::new(Mutex::new(permit))))
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

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_place_gets_the_next_one_or_is_told_that_all_are_taken() {
        let places = Places::new(2);
        let (first, _second) = (places.take().await, places.take().await);
        let busy = places.take().await.expect_err("none is free");
        assert_eq!(busy.to_string(), "all 2 places of the renderer are taken");
        let waiting = tokio::spawn(async move { places.take().await.is_ok() });
        tokio::task::yield_now().await;
        tokio::time::advance(WAIT / 2).await;
        drop(first);
        assert!(waiting.await.expect("it ends"));
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_that_wait_for_a_place_most_wait_before_they_have_begun() {
        let places = Places::new(2);
        let mut line = Vec::new();
        for _ in 0..4 {
            line.push(
                places
                    .stand_in_line()
                    .await
                    .expect("two with a place, and two behind them"),
            );
        }
        assert!(places.stand_in_line().await.is_none(), "nobody has ended");
        let waiting = tokio::spawn(async move { places.stand_in_line().await.is_some() });
        tokio::task::yield_now().await;
        tokio::time::advance(WAIT / 2).await;
        line.pop();
        assert!(waiting.await.expect("it ends"));
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
