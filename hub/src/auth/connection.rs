//! A connection that is served: what it may send, and for how long it may say nothing.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::{Connected, TcpConnectInfo, TlsConnectInfo};
use tracing::debug;

use super::{frames::Frames, limit::Place};

/// A connection that has not begun to speak HTTP/2 by then is closed.
const FIRST_FRAME: Duration = Duration::from_secs(10);
/// An agent asks every 30 s whether its hub is there, so one that says nothing for so long is gone. The hub does not ask as
/// well: with ten thousand agents that was most of what it did while nothing changed.
const SILENCE: Duration = Duration::from_secs(75);

/// A connection that is served. One without a certificate holds a place.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    frames: Frames,
    silence: Silence,
    /// Its way was full: once there is room again, it has taken something.
    is_full: bool,
    _open: Place,
    place: Option<Place>,
}

impl Connection {
    /// `place`: of one without a certificate.
    pub(super) fn new(stream: TlsStream<TcpStream>, open: Place, place: Option<Place>) -> Self {
        let is_agent = place.is_none();
        Self {
            stream,
            frames: Frames::default(),
            silence: Silence::new(is_agent.then_some(SILENCE)),
            is_full: false,
            _open: open,
            place,
        }
    }

    /// Whether it is an agent's, by its certificate.
    pub(super) fn is_agent(&self) -> bool {
        self.place.is_none()
    }

    /// What is written: one that takes what it could not take before is there, be it that it has nothing to say.
    fn unless_stuck<T>(&mut self, polled: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        match &polled {
            Poll::Pending => self.is_full = true,
            Poll::Ready(Ok(_)) if std::mem::take(&mut self.is_full) => self.silence.heard(),
            Poll::Ready(_) => {}
        }
        self.unless_silent(polled, cx)
    }

    /// Whatever is waited for: where the way to an agent is full, nothing is read from it.
    fn unless_silent<T>(&mut self, polled: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        match polled {
            Poll::Pending => self.silence.poll(cx).map(|()| {
                debug!("connection closed: nothing was heard of it for too long");
                Err(io::ErrorKind::TimedOut.into())
            }),
            polled => polled,
        }
    }
}

/// The time since something was heard. The timer is set anew only when it has ended: something is heard far more often.
struct Silence {
    /// The longest, once there was a first word; `None`: it is not bounded here.
    longest: Option<Duration>,
    heard: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Silence {
    fn new(longest: Option<Duration>) -> Self {
        Self {
            longest,
            heard: None,
            timer: Some(Box::pin(sleep(FIRST_FRAME))),
        }
    }

    fn heard(&mut self) {
        self.heard = Some(Instant::now());
        if self.longest.is_none() {
            self.timer = None;
        }
    }

    /// Ends once it was too long.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(timer) = &mut self.timer else {
            return Poll::Pending;
        };
        loop {
            ready!(timer.as_mut().poll(cx));
            let ends = self
                .heard
                .zip(self.longest)
                .map(|(heard, longest)| heard + longest);
            match ends.filter(|ends| *ends > Instant::now()) {
                Some(ends) => timer.as_mut().reset(ends),
                None => return Poll::Ready(()),
            }
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = TlsConnectInfo<TcpConnectInfo>;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if !self
            .frames
            .take(&buffer.filled()[before..], std::time::Instant::now())
        {
            debug!("connection closed: too many frames without content");
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if read.is_ready() {
            self.silence.heard();
        }
        self.unless_silent(read, cx)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.unless_stuck(written, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.unless_stuck(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.unless_silent(shut, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.unless_stuck(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::timeout;

    use super::*;

    /// After how long a connection that speaks at these seconds is closed, if it is within an hour.
    async fn ends(longest: Option<Duration>, speaks: impl IntoIterator<Item = u64>) -> Option<u64> {
        let begun = Instant::now();
        let mut silence = Silence::new(longest);
        let at = |second| begun + Duration::from_secs(second);
        for second in speaks {
            let waited = tokio::time::timeout_at(at(second), poll_fn(|cx| silence.poll(cx)));
            if waited.await.is_ok() {
                return Some(begun.elapsed().as_secs());
            }
            silence.heard();
        }
        let ended = timeout(Duration::from_secs(3600), poll_fn(|cx| silence.poll(cx))).await;
        ended.ok().map(|()| begun.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_says_nothing_is_gone_within_80_s_and_one_that_asks_every_30_s_is_there() {
        assert_eq!(ends(Some(SILENCE), [1]).await, Some(1 + 75));
        let asks = (0..100).map(|n| 1 + n * 30);
        assert_eq!(ends(Some(SILENCE), asks).await, Some(1 + 99 * 30 + 75));
        // One that comes late is heard, whatever the timer had been set for.
        assert_eq!(ends(Some(SILENCE), [1, 74, 148, 222]).await, Some(222 + 75));
        assert_eq!(ends(Some(SILENCE), [1, 77]).await, Some(1 + 75));
        assert!(
            SILENCE < Duration::from_secs(80),
            "noticed before the cluster counts as away"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_begin_is_closed_and_a_stranger_who_has_begun_is_asked_by_the_server() {
        assert_eq!(ends(Some(SILENCE), []).await, Some(10));
        assert_eq!(ends(None, []).await, Some(10));
        assert_eq!(ends(None, [9]).await, None);
    }
}
