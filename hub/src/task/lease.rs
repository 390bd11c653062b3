//! What a hub has taken from the others: asked for until there is an answer, and kept while it works at it. What a lease is
//! for, and that no answer is right because of it, stands in [`crate::store::work`].

use std::{future::Future, time::Duration};

use flotilla_core::backoff::Backoff;

use super::random;
use crate::store::{Result, StoreError};

/// Between what was not answered and the next time that it is asked.
const AGAIN: Backoff = Backoff {
    base: Duration::from_secs(2),
    cap: Duration::from_secs(60),
};

/// Takes `what` for this hub, by `take`; `false`: it is not to be had now. That the database is away, or another writer was
/// faster, is no answer: it is asked again, each time later, since nobody may come to ask for this hub's part. Any other
/// error would be the same each time.
pub(super) async fn taken<F>(what: &str, take: impl Fn() -> F) -> Result<bool>
where
    F: Future<Output = Result<bool>>,
{
    let mut failures = 0;
    loop {
        let error = match take().await {
            Err(error @ (StoreError::Unavailable(_) | StoreError::Conflict(_))) => error,
            answer => return answer,
        };
        if failures == 0 {
            tracing::warn!(%error, what, "taking it for this hub failed; it is tried again");
        }
        failures += 1;
        tokio::time::sleep(AGAIN.delay(failures, random())).await;
    }
}

/// Says each `every`, by `keep`, that this hub is still at what it has taken. Returns once `keep` answers that another one
/// has taken it: the work at it, beside which this is awaited, is to end then. An error says nothing about who has it: it
/// is tried again after `every`, which is so short that one failure loses nothing. `otherwise` says what a second failure
/// may lead to.
pub(super) async fn kept<F>(every: Duration, keep: impl Fn() -> F, otherwise: &'static str)
where
    F: Future<Output = Result<bool>>,
{
    loop {
        tokio::time::sleep(every).await;
        match keep().await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => tracing::debug!(%error, "{otherwise}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const EVERY: Duration = Duration::from_secs(2);

    /// Gives these answers in order, and counts them.
    struct Answers(RefCell<Vec<Result<bool>>>);

    impl Answers {
        fn of(answers: impl IntoIterator<Item = Result<bool>>) -> Self {
            let mut answers: Vec<_> = answers.into_iter().collect();
            answers.reverse();
            Self(RefCell::new(answers))
        }

        async fn next(&self) -> Result<bool> {
            self.0.borrow_mut().pop().expect("it is asked no further")
        }

        fn left(&self) -> usize {
            self.0.borrow().len()
        }
    }

    fn away() -> StoreError {
        StoreError::Unavailable(sqlx::Error::PoolTimedOut)
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_another_has_taken_ends_the_work_and_one_that_is_kept_does_not() {
        let answers = Answers::of([Ok(true), Ok(true), Ok(false)]);
        let began = tokio::time::Instant::now();
        let work = std::future::pending::<()>();
        tokio::select! {
            () = work => unreachable!("it does not end by itself"),
            () = kept(EVERY, || answers.next(), "") => {}
        }
        assert_eq!(began.elapsed(), 3 * EVERY);
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_that_failed_is_tried_again_and_ends_no_work() {
        let answers = Answers::of([Err(away()), Err(away()), Ok(true), Err(away()), Ok(false)]);
        kept(EVERY, || answers.next(), "").await;
        assert_eq!(answers.left(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_asked_for_is_asked_for_until_there_is_an_answer() {
        for answer in [true, false] {
            let answers = Answers::of([Err(away()), Err(StoreError::Conflict("the look")), Ok(answer)]);
            assert_eq!(taken("it", || answers.next()).await.expect("an answer"), answer);
            assert_eq!(answers.left(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_database_that_is_away_is_asked_with_growing_waits() {
        let began = tokio::time::Instant::now();
        let away = (0..30).map(|_| Err(away()));
        let answers = Answers::of(away.chain([Ok(true)]));
        assert!(taken("it", || answers.next()).await.expect("an answer"));
        let waited = began.elapsed();
        let most: Duration = (1..=30).map(|failures| AGAIN.bound(failures)).sum();
        // Each wait is anywhere up to its bound: 26 minutes at most, and hardly ever less than a third of that.
        assert!(waited > Duration::from_secs(300) && waited < most, "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_stays_refused_is_not_asked_for_again() {
        for refused in [
            StoreError::Rejected(sqlx::Error::RowNotFound),
            StoreError::Superseded,
            StoreError::corrupt("look", "no time"),
        ] {
            let answers = Answers::of([Err(refused), Ok(true)]);
            taken("it", || answers.next()).await.expect_err("refused");
            assert_eq!(answers.left(), 1);
        }
    }
}
