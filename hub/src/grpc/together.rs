//! Questions that agents ask of the store at the same time, asked as one: while a statement is under way, those that come
//! wait for the next. One that comes alone is asked at once.

use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use super::status::from_store;
use crate::store::StoreError;

/// Questions of one statement.
const MOST: usize = 500;

type Waiting<Q, A> = (Q, oneshot::Sender<Result<A, Status>>);

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

impl<Q: Send + 'static, A: Send + 'static> Together<Q, A> {
    /// Starts the task that asks: `ask` gives an answer to each of the questions, in their order.
    pub fn start<Asked>(ask: impl Fn(Vec<Q>) -> Asked + Send + 'static) -> Self
    where
        Asked: Future<Output = Result<Vec<A>, StoreError>> + Send + 'static,
    {
        let (asked_tx, mut asked_rx) = mpsc::channel::<Waiting<Q, A>>(MOST);
        tokio::spawn(async move {
            let mut together = Vec::new();
            while asked_rx.recv_many(&mut together, MOST).await > 0 {
                // Whoever has gone away needs no answer.
                together.retain(|(_, answered)| !answered.is_closed());
                let (questions, waiting): (Vec<Q>, Vec<_>) = together.drain(..).unzip();
                if questions.is_empty() {
                    continue;
                }
                // A task of its own: one that panics has no answer, and those after it are asked.
                let answers = match tokio::spawn(ask(questions)).await {
                    Ok(answers) => answers.map_err(from_store),
                    Err(_) => Err(gone()),
                };
                match answers {
                    Ok(answers) => {
                        for (answered, answer) in waiting.into_iter().zip(answers) {
                            let _ = answered.send(Ok(answer));
                        }
                    }
                    Err(status) => {
                        for answered in waiting {
                            let _ = answered.send(Err(status.clone()));
                        }
                    }
                }
            }
        });
        Self { asked_tx }
    }

    /// Asks with those that ask now.
    pub async fn ask(&self, question: Q) -> Result<A, Status> {
        let (answer_tx, answer_rx) = oneshot::channel();
        let asked = self.asked_tx.send((question, answer_tx)).await;
        asked.map_err(|_| gone())?;
        answer_rx.await.map_err(|_| gone())?
    }
}

fn gone() -> Status {
    Status::unavailable("the question has no answer now")
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

    #[tokio::test]
    async fn a_statement_that_fails_fails_for_those_who_asked_it_and_for_nobody_after() {
        let together = Together::start(|questions: Vec<u32>| async move {
            assert!(!questions.contains(&14), "as a fault of the driver");
            match questions.contains(&13) {
                true => Err(StoreError::Superseded),
                false => Ok(questions),
            }
        });
        together.ask(13).await.expect_err("it failed");
        together.ask(14).await.expect_err("it panicked");
        assert_eq!(together.ask(1).await.expect("answered"), 1);
    }
}
