//! What a hub has taken from the others: asked for until there is an answer, and kept while it works at it. What a lease is
//! for, and that no answer is right because of it, stands in [`crate::store::work`].

use std::{future::Future, time::Duration};

use crate::store::Result;

/// Before what was not answered is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// Takes `what` for this hub, by `take`; `false`: it is not to be had now. An error is no answer: it is asked again, since
/// nobody may come to ask for this hub's part later.
pub(super) async fn taken<F>(what: &str, take: impl Fn() -> F) -> bool
where
    F: Future<Output = Result<bool>>,
{
    loop {
        match take().await {
            Ok(taken) => return taken,
            Err(error) => tracing::warn!(%error, what, "taking it for this hub failed; it is tried again"),
        }
        tokio::time::sleep(AGAIN).await;
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
    use crate::store::StoreError;

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
        StoreError::Conflict("the lease")
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
            let answers = Answers::of([Err(away()), Err(away()), Ok(answer)]);
            assert_eq!(taken("it", || answers.next()).await, answer);
            assert_eq!(answers.left(), 0);
        }
    }
}
