//! Bounds of what is asked of a place where artifacts are kept. A shared directory whose server has gone holds up the
//! thread that asks, and nothing ends that: whoever waits gives up, and only so many are held up at once.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, Semaphore},
    time::timeout,
};

use super::failure::Unanswered;

/// What may be asked at once, what was given up and goes on all the same included.
const AT_ONCE: usize = 64;

/// Bounds, shared by all that is asked of one place.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    places: Arc<Semaphore>,
    /// What is given up when nothing has come of it for so long.
    pub(super) silent: Duration,
}

/// By which a long operation says that something has come of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress(Arc<Notify>);

impl Progress {
    pub(super) fn made(&self) {
        self.0.notify_one();
    }
}

impl Bounds {
    pub(super) fn new(silent: Duration) -> Self {
        Self {
            places: Arc::new(Semaphore::new(AT_ONCE)),
            silent,
        }
    }

    /// Bounds of what takes longer until something has come of it: a part of an upload.
    pub(super) fn slow(&self) -> Self {
        Self {
            places: self.places.clone(),
            silent: 3 * self.silent,
        }
    }

    /// Does what is asked. What is given up goes on where nobody waits for it.
    pub(super) async fn within<T, F>(&self, work: impl FnOnce(Progress) -> F) -> Result<T, Unanswered>
    where
        T: Send + 'static,
        F: Future<Output = object_store::Result<T>> + Send + 'static,
    {
        let silent = || Unanswered::Silent(self.silent);
        let place = timeout(self.silent, self.places.clone().acquire_owned()).await;
        let place = place.map_err(|_| silent())?;
        let progress = Progress::default();
        let work = work(progress.clone());
        let mut task = tokio::spawn(async move {
            let _place = place;
            work.await
        });
        loop {
            tokio::select! {
                biased;
                done = &mut task => return match done {
                    Ok(answer) => answer.map_err(Unanswered::Said),
                    Err(error) => Err(Unanswered::Said(error.into())),
                },
                () = progress.0.notified() => {}
                () = tokio::time::sleep(self.silent) => return Err(silent()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(50);

    #[tokio::test(start_paused = true)]
    async fn what_goes_on_is_waited_for_and_what_stands_still_is_given_up() {
        let bounds = Bounds::new(SOON);
        let slow = bounds.within(|progress| async move {
            for _ in 0..10 {
                tokio::time::sleep(SOON / 2).await;
                progress.made();
            }
            Ok(7)
        });
        assert_eq!(slow.await.expect("done"), 7);
        let never = bounds.within(|_| std::future::pending::<object_store::Result<()>>());
        assert!(matches!(never.await, Err(Unanswered::Silent(SOON))));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_given_up_keeps_its_place_and_others_are_refused_within_the_bound() {
        let bounds = Bounds::new(SOON);
        for _ in 0..AT_ONCE {
            let never = bounds.within(|_| std::future::pending::<object_store::Result<()>>());
            assert!(tokio::time::timeout(SOON / 10, never).await.is_err());
        }
        let next = bounds.within(|_| async { Ok(()) }).await;
        assert!(matches!(next, Err(Unanswered::Silent(_))), "{next:?}");
    }
}
