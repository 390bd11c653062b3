//! A proxy in front of Postgres that loses answers to COMMIT: the transaction is done, and whoever asked for it cannot
//! know.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use crate::background::Background;
use crate::{RigError, TestDb, TestPostgres};

/// The end of the message by which a client asks for it.
const COMMIT: &[u8] = b"COMMIT\0";
const CHUNK: usize = 16 << 10;

/// A proxy in front of a [`TestPostgres`].
#[derive(Debug)]
pub struct CommitProxy {
    address: SocketAddr,
    counts: Arc<Counts>,
    _background: Background,
}

#[derive(Debug, Default)]
struct Counts {
    /// Of so many answers one is lost; 0: none.
    each: AtomicUsize,
    asked: AtomicUsize,
    lost: AtomicUsize,
}

impl Counts {
    /// Whether the answer to the COMMIT that comes now is to be lost.
    fn next_is_lost(&self) -> bool {
        let each = self.each.load(Ordering::Relaxed);
        let is_lost = each > 0 && self.asked.fetch_add(1, Ordering::Relaxed) % each == each - 1;
        if is_lost {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        is_lost
    }
}

impl CommitProxy {
    /// Starts one that loses nothing yet.
    ///
    /// # Errors
    /// When no port can be bound.
    pub fn start(postgres: &TestPostgres) -> Result<Self, RigError> {
        let unbound = || RigError::io("listen on", "127.0.0.1");
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(unbound())?;
        let address = listener.local_addr().map_err(unbound())?;
        listener.set_nonblocking(true).map_err(unbound())?;
        let background = Background::new("commit-proxy")?;
        let counts = Arc::<Counts>::default();
        let (target, shared) = (postgres.socket_file(), counts.clone());
        background.spawn(async move {
            if let Ok(listener) = TcpListener::from_std(listener) {
                accept(listener, target, shared).await;
            }
        });
        Ok(Self {
            address,
            counts,
            _background: background,
        })
    }

    /// The URL of a database through this proxy.
    #[must_use]
    pub fn url(&self, db: &TestDb) -> String {
        let direct = db.url().split_once('?').map_or(db.url(), |(before, _)| before);
        let through = direct.replace("@localhost/", &format!("@{}/", self.address));
        format!("{through}?sslmode=disable")
    }

    /// Loses one answer of each so many from now on; none for 0.
    pub fn lose_one_of(&self, each: usize) {
        self.counts.each.store(each, Ordering::Relaxed);
    }

    /// How many were lost.
    #[must_use]
    pub fn lost(&self) -> usize {
        self.counts.lost.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, target: PathBuf, counts: Arc<Counts>) {
    loop {
        if let Ok((client, _)) = listener.accept().await {
            let (target, counts) = (target.clone(), counts.clone());
            tokio::spawn(async move { carry(client, &target, &counts).await });
        }
    }
}

/// Carries a connection until either side ends it, or an answer is lost with it.
async fn carry(mut client: TcpStream, target: &Path, counts: &Counts) -> std::io::Result<()> {
    let mut server = UnixStream::connect(target).await?;
    let (mut asked, mut answered) = (vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let chunk = asked.get(..read?).unwrap_or_default();
                if chunk.is_empty() {
                    return Ok(());
                }
                server.write_all(chunk).await?;
                if chunk.windows(COMMIT.len()).any(|part| part == COMMIT) && counts.next_is_lost() {
                    return server.read(&mut answered).await.map(drop);
                }
            }
            read = server.read(&mut answered) => {
                let chunk = answered.get(..read?).unwrap_or_default();
                if chunk.is_empty() {
                    return Ok(());
                }
                client.write_all(chunk).await?;
            }
        }
    }
}
