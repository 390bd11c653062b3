//! Waiting for a state: asks again until it is there, and tells what it saw last when it never comes.

use std::time::{Duration, Instant};

use crate::RigError;

/// How long one look and the next are apart. Short, since what is waited for takes whole seconds at most.
const PAUSE: Duration = Duration::from_millis(50);

/// Waits until `look` answers `Ok(Some(value))`.
///
/// `Ok(None)` means not yet, as does `Err(why)`, whose text is kept for the error. Each look is cut off at the
/// deadline, so that a frozen server cannot hold it.
///
/// # Errors
/// [`RigError::Timeout`] naming `state` when the time is over.
pub async fn wait_until<T, F, W>(state: &str, timeout: Duration, mut look: F) -> Result<T, RigError>
where
    F: AsyncFnMut() -> Result<Option<T>, W>,
    W: std::fmt::Display,
{
    let start = Instant::now();
    let mut last = "not there".to_owned();
    loop {
        let left = timeout.saturating_sub(start.elapsed());
        match tokio::time::timeout(left, look()).await {
            Ok(Ok(Some(value))) => return Ok(value),
            Ok(Ok(None)) => "not there".clone_into(&mut last),
            Ok(Err(why)) => last = why.to_string(),
            Err(_) => last.push_str(" (the last look was still under way)"),
        }
        if start.elapsed() >= timeout {
            return Err(RigError::Timeout {
                state: state.to_owned(),
                waited: timeout,
                last,
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}
