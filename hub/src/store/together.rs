//! Questions that are asked of the store at the same time, asked as one: while a statement is under way, those that come
//! wait for the next. One that comes alone is asked at once. Where what is asked is to write something, several are one
//! transaction.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};

use super::{Result, StoreError};
use crate::pace::Pace;

/// Questions of one statement.
const MOST: usize = 500;
/// Questions that are asked by themselves at the same time, after they have failed together.
const APART: usize = 4;

type Waiting<Q, A> = (Q, oneshot::Sender<Result<A>>);

/// Asks one kind of question. Cheap to clone.
pub struct Together<Q, A> {
    asked_tx: mpsc::Sender<Waiting<Q, A>>,
}

impl<Q, A> Clone for Together<Q, A> {
    fn clone(&self) -> Self {
        Self {
            asked_tx: self.asked_tx.clone(),
        }
    }
}

impl<Q: Clone + Send + 'static, A: Send + 'static> Together<Q, A> {
    /// Starts the task that asks: `ask` gives an answer to each of the questions, in their order. Where it fails because of
    /// one of them, each is asked by itself, and those that come meanwhile wait for none of these.
    pub fn start<Asked>(ask: impl Fn(Vec<Q>) -> Asked + Send + Sync + 'static) -> Self
    where
        Asked: Future<Output = Result<Vec<A>>> + Send + 'static,
    {
        Self::collecting(Duration::ZERO, ask)
    }

    /// The same for questions of which thousands come within seconds: while many come, those of a while are asked together,
    /// of `longest` at most.
    pub fn collecting<Asked>(longest: Duration, ask: impl Fn(Vec<Q>) -> Asked + Send + Sync + 'static) -> Self
    where
        Asked: Future<Output = Result<Vec<A>>> + Send + 'static,
    {
        let ask = Arc::new(ask);
        let (asked_tx, mut asked_rx) = mpsc::channel::<Waiting<Q, A>>(MOST);
        tokio::spawn(async move {
            let mut together = Vec::new();
            let mut pace = Pace::new(Instant::now());
            while asked_rx.recv_many(&mut together, MOST).await > 0 {
                let collects = pace.collects(Instant::now(), longest);
                if !collects.is_zero() {
                    sleep(collects).await;
                    while together.len() < MOST
                        && let Ok(next) = asked_rx.try_recv()
                    {
                        together.push(next);
                    }
                }
                pace.count(together.len(), Instant::now());
                // Whoever has gone away needs no answer.
                together.retain(|(_, answered)| !answered.is_closed());
                let (questions, waiting): (Vec<Q>, Vec<_>) = together.drain(..).unzip();
                if questions.is_empty() {
                    continue;
                }
                match answers(ask(questions.clone())).await {
                    Ok(answers) => {
                        for (answered, answer) in waiting.into_iter().zip(answers) {
                            let _ = answered.send(Ok(answer));
                        }
                    }
                    Err(error) if questions.len() == 1 || is_of_all(&error) => {
                        let mut error = Some(error);
                        for answered in waiting {
                            let again = error.as_ref().map(of_another);
                            let _ =
                                answered.send(Err(std::mem::replace(&mut error, again).unwrap_or_else(gone)));
                        }
                    }
                    Err(_) => drop(tokio::spawn(apart(ask.clone(), questions, waiting))),
                }
            }
        });
        Self { asked_tx }
    }

    /// Asks with those that ask now.
    pub async fn ask(&self, question: Q) -> Result<A> {
        let (answer_tx, answer_rx) = oneshot::channel();
        let asked = self.asked_tx.send((question, answer_tx)).await;
        asked.map_err(|_| gone())?;
        answer_rx.await.map_err(|_| gone())?
    }
}

/// Asks each by itself.
async fn apart<Q, A, Asked>(
    ask: Arc<impl Fn(Vec<Q>) -> Asked>,
    questions: Vec<Q>,
    waiting: Vec<oneshot::Sender<Result<A>>>,
) where
    A: Send + 'static,
    Asked: Future<Output = Result<Vec<A>>> + Send + 'static,
{
    let each = stream::iter(questions.into_iter().zip(waiting));
    each.for_each_concurrent(APART, |(question, answered)| {
        let asked = answers(ask(vec![question]));
        async move {
            let answer = asked.await.and_then(|mut all| all.pop().ok_or_else(gone));
            let _ = answered.send(answer);
        }
    })
    .await;
}

/// In a task of its own: one that panics has no answer, and those after it are asked.
async fn answers<A: Send + 'static>(
    asked: impl Future<Output = Result<Vec<A>>> + Send + 'static,
) -> Result<Vec<A>> {
    match tokio::spawn(asked).await {
        Ok(answers) => answers,
        Err(_) => Err(gone()),
    }
}

/// Whether an error would be the same for each question by itself.
fn is_of_all(error: &StoreError) -> bool {
    match error {
        StoreError::Unavailable(sqlx::Error::Database(error)) => {
            let code = error.code();
            let code = code.as_deref().unwrap_or_default();
            // A lock that one of them waits for, or a statement that is too long because of one of them.
            !(code.starts_with("55") || code == "57014")
        }
        StoreError::Unavailable(error) => !matches!(error, sqlx::Error::WorkerCrashed),
        error => matches!(error, StoreError::Superseded),
    }
}

/// The same error for another question.
fn of_another(error: &StoreError) -> StoreError {
    match error {
        StoreError::Superseded => StoreError::Superseded,
        StoreError::Unavailable(sqlx::Error::PoolTimedOut) => {
            StoreError::Unavailable(sqlx::Error::PoolTimedOut)
        }
        StoreError::Unavailable(error) => StoreError::Unavailable(sqlx::Error::Protocol(error.to_string())),
        other => StoreError::Unavailable(sqlx::Error::Protocol(other.to_string())),
    }
}

fn gone() -> StoreError {
    StoreError::Unavailable(sqlx::Error::WorkerCrashed)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn what_is_asked_while_a_statement_is_under_way_is_the_next_statement_together() {
        let asked: Arc<Mutex<Vec<usize>>> = Arc::default();
        let go = Arc::new(Semaphore::new(0));
        let (seen, may_go) = (asked.clone(), go.clone());
        let together = Together::start(move |questions: Vec<u32>| {
            seen.lock().expect("whole").push(questions.len());
            let may_go = may_go.clone();
            async move {
                may_go.acquire().await.expect("open").forget();
                Ok(questions.iter().map(|question| question * 2).collect())
            }
        });
        let first = tokio::spawn({
            let together = together.clone();
            async move { together.ask(1).await }
        });
        while asked.lock().expect("whole").is_empty() {
            tokio::task::yield_now().await;
        }
        let others = together.clone();
        let many = tokio::spawn(async move { join_all((2..10).map(|question| others.ask(question))).await });
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        go.add_permits(2);
        assert_eq!(first.await.expect("ended").expect("answered"), 2);
        let answers = many.await.expect("ended").into_iter();
        let answers: Vec<u32> = answers.map(|answer| answer.expect("answered")).collect();
        assert_eq!(answers, [4, 6, 8, 10, 12, 14, 16, 18]);
        assert_eq!(*asked.lock().expect("whole"), [1, 8]);
    }

    #[tokio::test(start_paused = true)]
    async fn questions_that_trickle_in_are_few_statements_and_one_that_comes_alone_is_asked_at_once() {
        let longest = Duration::from_millis(100);
        let asked: Arc<Mutex<Vec<usize>>> = Arc::default();
        let seen = asked.clone();
        let together = Together::collecting(longest, move |questions: Vec<u32>| {
            seen.lock().expect("whole").push(questions.len());
            async move {
                sleep(Duration::from_millis(1)).await;
                Ok(questions)
            }
        });
        let begun = Instant::now();
        assert_eq!(together.ask(0).await.expect("answered"), 0);
        assert!(begun.elapsed() < Duration::from_millis(5));
        let mut waiting = Vec::new();
        for question in 0..1000 {
            sleep(Duration::from_millis(2)).await;
            let together = together.clone();
            waiting.push(tokio::spawn(async move {
                let begun = Instant::now();
                assert_eq!(together.ask(question).await.expect("answered"), question);
                begun.elapsed()
            }));
        }
        for waited in waiting {
            let waited = waited.await.expect("answered");
            assert!(waited < 3 * longest, "{waited:?}");
        }
        // The first of them one by one, until there are many.
        let statements = asked.lock().expect("whole").len();
        assert!(statements < 100, "{statements}");
        sleep(Duration::from_secs(2)).await;
        let begun = Instant::now();
        assert_eq!(together.ask(1).await.expect("answered"), 1);
        assert!(
            begun.elapsed() < Duration::from_millis(5),
            "{:?}",
            begun.elapsed()
        );
    }

    /// A conflict of one question among many, an outage, and a fault of the driver.
    async fn asked(questions: Vec<u32>) -> Result<Vec<u32>> {
        assert!(!questions.contains(&14), "as a fault of the driver");
        match (questions.contains(&12), questions.contains(&13)) {
            (_, true) => Err(StoreError::Superseded),
            (true, _) => Err(StoreError::Conflict("it")),
            _ => Ok(questions),
        }
    }

    async fn all(together: &Together<u32, u32>, questions: [u32; 3]) -> [Result<u32>; 3] {
        let [one, two, three] = questions.map(|question| together.ask(question));
        tokio::join!(one, two, three).into()
    }

    #[tokio::test]
    async fn a_statement_that_fails_fails_for_those_who_asked_it_and_for_nobody_after() {
        let together = Together::start(asked);
        together.ask(13).await.expect_err("it failed");
        together.ask(14).await.expect_err("it panicked");
        assert_eq!(together.ask(1).await.expect("answered"), 1);
        // What is of all is asked once.
        let answers = all(&together, [1, 13, 2]).await;
        assert!(
            answers
                .iter()
                .all(|answer| matches!(answer, Err(StoreError::Superseded))),
            "{answers:?}"
        );
    }

    /// Three that fail together, of which one hangs by itself.
    #[tokio::test]
    async fn who_comes_later_waits_for_none_that_failed_together() {
        let together = Together::start(async |questions: Vec<u32>| {
            if questions.contains(&12) {
                if questions.len() == 1 {
                    std::future::pending::<()>().await;
                }
                return Err(StoreError::Conflict("it"));
            }
            Ok(questions)
        });
        let hangs = tokio::spawn({
            let together = together.clone();
            async move { all(&together, [1, 12, 2]).await }
        });
        // It is behind the three, which are asked first.
        tokio::task::yield_now().await;
        assert_eq!(together.ask(3).await.expect("answered"), 3);
        assert!(!hangs.is_finished());
        hangs.abort();
    }

    #[tokio::test]
    async fn what_one_of_many_fails_by_is_that_ones_alone() {
        let together = Together::start(asked);
        let answers = all(&together, [1, 12, 2]).await;
        assert!(
            matches!(answers, [Ok(1), Err(StoreError::Conflict("it")), Ok(2)]),
            "{answers:?}"
        );
        let answers = all(&together, [1, 14, 2]).await;
        assert!(matches!(answers, [Ok(1), Err(_), Ok(2)]), "{answers:?}");
    }
}
