//! What this thread logs, for tests of what an operator reads there.

use std::{
    io,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use tracing::{Dispatch, Subscriber, subscriber::DefaultGuard};
use tracing_subscriber::fmt::MakeWriter;

/// The lines logged by this thread from now on, while it lives.
#[derive(Debug)]
pub struct Logs {
    text: Text,
    _guard: DefaultGuard,
}

#[derive(Debug, Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl io::Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Text {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn subscriber(text: Text) -> impl Subscriber + Send + Sync {
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .with_max_level(tracing::Level::INFO)
        .with_writer(text)
        .finish()
}

impl Logs {
    /// Begins to collect what is logged at `info` and above.
    pub fn collect() -> Self {
        // While there is one subscriber, tracing asks the thread that first logs at a place whether anybody listens
        // there, and remembers that thread's answer for all. With more it asks all of them.
        static OTHERS: OnceLock<[Dispatch; 2]> = OnceLock::new();
        OTHERS.get_or_init(|| std::array::from_fn(|_| Dispatch::new(subscriber(Text::default()))));
        let text = Text::default();
        Self {
            _guard: tracing::subscriber::set_default(subscriber(text.clone())),
            text,
        }
    }

    /// Returns the lines that hold `part`, each with its level in front.
    pub fn with(&self, part: &str) -> Vec<String> {
        let text = self.text.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = String::from_utf8_lossy(&text);
        let lines = lines.lines().filter(|line| line.contains(part));
        lines.map(|line| line.trim().to_owned()).collect()
    }
}
