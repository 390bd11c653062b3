//! A small runtime of its own for servers that run inside this process: they serve while the test's runtime is busy,
//! and outlive it where they are shared.

use tokio::runtime::{Builder, Runtime};

use crate::RigError;

/// A runtime whose tasks end when this is dropped, from async code too.
#[derive(Debug)]
pub(crate) struct Background(Option<Runtime>);

impl Background {
    pub(crate) fn new(name: &str) -> Result<Self, RigError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(name)
            .enable_all()
            .build()
            .map_err(RigError::io("start threads for", name))?;
        Ok(Self(Some(runtime)))
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.0 {
            runtime.spawn(task);
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
