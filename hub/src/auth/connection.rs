//! A connection that is served: what it may send, and for how long it may say nothing.

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use tracing::debug;

use super::{
    frames::Frames,
    limit::Place,
    silence::{Silence, Silences},
};

/// An agent asks every 40 s whether its hub is there, so one that says nothing for so long is gone. The hub does not ask as
/// well: with ten thousand agents that was most of what it did while nothing changed.
const SILENCE: Duration = Duration::from_secs(75);

/// A connection that is served. One without a certificate holds a place.
pub struct Connection {
    /// Boxed: whoever serves a connection keeps room for it several times.
    stream: Box<TlsStream<TcpStream>>,
    frames: Frames,
    silence: Silence,
    /// Its way was full: once there is room again, it has taken something.
    is_full: bool,
    _open: Place,
    place: Option<Place>,
}

impl Connection {
    /// `place`: of one without a certificate.
    pub(super) fn new(
        stream: TlsStream<TcpStream>,
        open: Place,
        place: Option<Place>,
        silences: &Silences,
    ) -> Self {
        let is_agent = place.is_none();
        Self {
            stream: Box::new(stream),
            frames: Frames::default(),
            silence: silences.add(is_agent.then_some(SILENCE)),
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

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        let (socket, tls) = self.stream.get_ref();
        let leaf = tls.peer_certificates().and_then(|chain| chain.first());
        Caller {
            address: socket.peer_addr().ok().map(|address| address.ip()),
            leaf: leaf.map(|leaf| Arc::new(leaf.clone())),
        }
    }
}

/// Who has made a connection, for all its calls. Of the chain that was shown the rest is not kept a second time.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Where it comes from.
    pub address: Option<IpAddr>,
    /// The certificate that TLS verified; `None`: it showed none.
    pub leaf: Option<Arc<CertificateDer<'static>>>,
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
    use super::*;

    #[test]
    fn a_connection_is_small_wherever_room_is_kept_for_it() {
        assert!(size_of::<Connection>() <= 192, "{}", size_of::<Connection>());
    }

    #[test]
    fn an_agent_that_is_gone_is_noticed_before_its_cluster_counts_as_away() {
        assert!(SILENCE + Duration::from_secs(5) < Duration::from_secs(90));
        // One question that is lost on its way leaves time for the next byte.
        assert!(SILENCE > flotilla_proto::limits::ASKED_EVERY + Duration::from_secs(30));
    }
}
