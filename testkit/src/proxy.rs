//! A TCP proxy that breaks what passes through it: latency, stalls, cuts, resets, refusals, duplicates.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::RigError;
use crate::background::Background;

const CHUNK: usize = 16 << 10;

/// A proxy in front of one server. Dropping it cuts all its connections.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    _background: Background,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    latency: Duration,
    stalled: bool,
    refusing: bool,
    duplicating: bool,
    /// Connections of an older generation are over.
    generation: u64,
    resetting: bool,
}

impl FaultProxy {
    /// Starts a proxy to `target` on a free port of 127.0.0.1; everything passes until something is asked for.
    ///
    /// # Errors
    /// When no port can be bound.
    pub fn start(target: SocketAddr) -> Result<Self, RigError> {
        let unbound = || RigError::io("listen on", "127.0.0.1");
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(unbound())?;
        let address = listener.local_addr().map_err(unbound())?;
        listener.set_nonblocking(true).map_err(unbound())?;
        let background = Background::new("fault-proxy")?;
        let (state, states) = watch::channel(State::default());
        background.spawn(async move {
            if let Ok(listener) = TcpListener::from_std(listener) {
                accept(listener, target, states).await;
            }
        });
        Ok(Self {
            address,
            state,
            _background: background,
        })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Delays every piece in each direction; zero ends it.
    pub fn set_latency(&self, latency: Duration) {
        self.state.send_modify(|state| state.latency = latency);
    }

    /// Holds back every byte while connections stay open, as a network does that drops packets silently.
    pub fn stall(&self) {
        self.state.send_modify(|state| state.stalled = true);
    }

    /// Lets held bytes go on.
    pub fn resume(&self) {
        self.state.send_modify(|state| state.stalled = false);
    }

    /// Closes the connections there are; new ones pass.
    pub fn cut(&self) {
        self.state.send_modify(|state| {
            state.resetting = false;
            state.generation += 1;
        });
    }

    /// Resets the connections there are, so that peers see an error and not an end; new ones pass.
    pub fn reset(&self) {
        self.state.send_modify(|state| {
            state.resetting = true;
            state.generation += 1;
        });
    }

    /// Has all that clients of new connections send reach the server twice: a second time on a connection of its own, whose answers
    /// nobody hears. As of somebody on the way who repeats what has passed.
    pub fn duplicate(&self, duplicate: bool) {
        self.state.send_modify(|state| state.duplicating = duplicate);
    }

    /// Closes each new connection at once, or lets new ones pass again.
    pub fn refuse(&self, refuse: bool) {
        self.state.send_modify(|state| state.refusing = refuse);
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, states: watch::Receiver<State>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        if !states.borrow().refusing {
            tokio::spawn(carry(client, target, states.clone()));
        }
    }
}

async fn carry(mut client: TcpStream, target: SocketAddr, mut states: watch::Receiver<State>) {
    let generation = states.borrow().generation;
    let Ok(mut server) = TcpStream::connect(target).await else {
        return;
    };
    let duplicating = states.borrow().duplicating;
    let twin = match duplicating {
        true => TcpStream::connect(target).await.ok(),
        false => None,
    };
    {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let there = copy(from_client, to_server, twin, states.clone());
        let back = copy(from_server, to_client, None, states.clone());
        let both = async { tokio::join!(there, back) };
        tokio::select! {
            _ = both => return,
            _ = states.wait_for(|state| state.generation != generation) => {}
        }
    }
    if states.borrow().resetting {
        // Without lingering, closing sends a reset instead of an end.
        let _ = client.set_zero_linger();
        let _ = server.set_zero_linger();
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut twin: Option<TcpStream>,
    mut states: watch::Receiver<State>,
) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if states.wait_for(|state| !state.stalled).await.is_err() {
            return;
        }
        let latency = states.borrow().latency;
        tokio::time::sleep(latency).await;
        let chunk = buffer.get(..read).unwrap_or_default();
        if to.write_all(chunk).await.is_err() {
            break;
        }
        // Whatever becomes of it, and as much of it as goes at once.
        if let Some(other) = &twin
            && other.try_write(chunk).is_err()
        {
            twin = None;
        }
    }
    let _ = to.shutdown().await;
}
