//! What is done beside the thread that asks for it.

use std::{future::Future, pin::pin, sync::mpsc, task::Poll};

/// How often it is polled while the other thread is taken: what only gives way goes on by this.
const POLLS: usize = 100;

/// Returns what `work` comes to on a runtime whose only other thread is taken until `work` was begun.
///
/// So nothing of it can be done elsewhere by the time this thread has done what it does of it, however the system shares
/// out its processors.
///
/// # Panics
///
/// When `work` has ended by then: it was done on the thread that asked.
pub fn done_beside<F: Future>(work: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .expect("a runtime starts");
    runtime.block_on(async {
        let (free, taken) = mpsc::channel::<()>();
        // It ends by the message, or by the sender's end when this panics.
        let other = tokio::task::spawn_blocking(move || taken.recv().is_ok());
        let mut work = pin!(work);
        for _ in 0..POLLS {
            let waits =
                std::future::poll_fn(|context| Poll::Ready(work.as_mut().poll(context).is_pending())).await;
            assert!(waits, "all of it was done on the thread that asked");
            // What it has begun as tasks of this thread goes on too.
            tokio::task::yield_now().await;
        }
        drop(free);
        let _ = other.await;
        work.await
    })
}
