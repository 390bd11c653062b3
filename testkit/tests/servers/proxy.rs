//! The fault proxy, between a client and an echo.

use std::time::{Duration, Instant};

use flotilla_testkit::FaultProxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Failure = Box<dyn std::error::Error>;

async fn proxied_echo() -> std::io::Result<FaultProxy> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    FaultProxy::start(address).map_err(std::io::Error::other)
}

async fn echo(stream: &mut TcpStream) -> std::io::Result<[u8; 4]> {
    stream.write_all(b"ping").await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn latency_is_added_in_each_direction() -> Result<(), Failure> {
    let proxy = proxied_echo().await?;
    let mut stream = TcpStream::connect(proxy.address()).await?;
    assert_eq!(&echo(&mut stream).await?, b"ping");
    proxy.set_latency(Duration::from_millis(50));
    let start = Instant::now();
    echo(&mut stream).await?;
    assert!(
        start.elapsed() >= Duration::from_millis(100),
        "{:?}",
        start.elapsed()
    );
    Ok(())
}

#[tokio::test]
async fn a_stall_holds_bytes_and_loses_none() -> Result<(), Failure> {
    let proxy = proxied_echo().await?;
    let mut stream = TcpStream::connect(proxy.address()).await?;
    echo(&mut stream).await?;
    proxy.stall();
    stream.write_all(b"held").await?;
    let mut answer = [0; 4];
    let short = Duration::from_millis(200);
    assert!(
        tokio::time::timeout(short, stream.read_exact(&mut answer))
            .await
            .is_err()
    );
    proxy.resume();
    stream.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"held");
    Ok(())
}

#[tokio::test]
async fn a_cut_ends_a_connection_and_a_reset_breaks_it() -> Result<(), Failure> {
    let proxy = proxied_echo().await?;
    let mut byte = [0; 1];
    let mut stream = TcpStream::connect(proxy.address()).await?;
    echo(&mut stream).await?;
    proxy.cut();
    assert_eq!(stream.read(&mut byte).await?, 0);
    let mut stream = TcpStream::connect(proxy.address()).await?;
    echo(&mut stream).await?;
    proxy.reset();
    let error = stream.read(&mut byte).await.err().ok_or("it ended in order")?;
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    proxy.refuse(true);
    let mut stream = TcpStream::connect(proxy.address()).await?;
    assert!(echo(&mut stream).await.is_err());
    proxy.refuse(false);
    let mut stream = TcpStream::connect(proxy.address()).await?;
    echo(&mut stream).await?;
    Ok(())
}

#[tokio::test]
async fn what_is_duplicated_reaches_the_server_twice_and_is_answered_once() -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let proxy = FaultProxy::start(listener.local_addr()?)?;
    proxy.duplicate(true);
    let mut stream = TcpStream::connect(proxy.address()).await?;
    stream.write_all(b"ping").await?;
    for answer in [b"one.", b"two."] {
        let (mut one, _) = listener.accept().await?;
        let mut asked = [0; 4];
        one.read_exact(&mut asked).await?;
        assert_eq!(&asked, b"ping");
        one.write_all(answer).await?;
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    assert_eq!(answer, b"one.");
    Ok(())
}
