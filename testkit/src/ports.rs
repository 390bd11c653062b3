//! Ports on 127.0.0.1 that no other part of the rig takes, also not one in another process.
//!
//! A server is told its port before it binds it, so a port that was free a moment ago must stay ours: each is held by a
//! lock on a file for as long as its lease lives. The range lies below what the system gives to outgoing connections.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use crate::RigError;
use crate::toolbox::cache_folder;

const FIRST: u16 = 20_000;
const LAST: u16 = 31_999;
const COUNT: u16 = LAST - FIRST + 1;

static TAKEN: AtomicU16 = AtomicU16::new(0);

/// A port that stays ours until this is dropped, whether a server listens on it or not.
#[derive(Debug)]
pub struct PortLease {
    port: u16,
    _lock: File,
}

impl PortLease {
    /// Leases a free port.
    ///
    /// # Errors
    /// [`RigError::NoPort`] when all are taken, [`RigError::Io`] when the lock files cannot be made.
    pub fn take() -> Result<Self, RigError> {
        let folder = cache_folder()?.join("ports");
        std::fs::create_dir_all(&folder).map_err(RigError::io("make", &folder))?;
        // Processes begin at different places, so that they seldom try the same port.
        let start = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap_or_default();
        for _ in 0..COUNT {
            let step = TAKEN.fetch_add(1, Ordering::Relaxed) % COUNT;
            let port = FIRST + (u32::from(start) + u32::from(step)).rem_euclid(u32::from(COUNT)) as u16;
            let path = folder.join(port.to_string());
            let lock = File::create(&path).map_err(RigError::io("make", &path))?;
            if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Ok(Self { port, _lock: lock });
            }
        }
        Err(RigError::NoPort {
            first: FIRST,
            last: LAST,
        })
    }

    /// The port's number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.port
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }
}
