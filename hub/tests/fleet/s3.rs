//! A server that speaks S3, over a directory.

use std::{net::SocketAddr, path::PathBuf};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::{net::TcpListener, task::JoinHandle};

const USER: &str = "AKIAFLOTILLATESTS";
const SECRET: &str = "canary-s3-secret";
const BUCKET: &str = "bucket";

pub(crate) struct S3 {
    dir: tempfile::TempDir,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl S3 {
    /// A server with one bucket.
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join(BUCKET)).expect("a bucket");
        let files = FileSystem::new(dir.path()).expect("a store");
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(USER, SECRET));
        let service = service.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let server = Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self { dir, address, task }
    }

    /// What tells a program of it.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT", format!("http://{}", self.address)),
            ("AWS_ALLOW_HTTP", "true".into()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_ACCESS_KEY_ID", USER.into()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.into()),
        ]
    }

    /// A place in the bucket, as hubs name it, and where that is on the disk.
    pub(crate) fn place(&self, prefix: &str) -> (String, PathBuf) {
        let path = self.dir.path().join(BUCKET).join(prefix);
        (format!("s3://{BUCKET}/{prefix}"), path)
    }

    /// What must be told nowhere.
    pub(crate) fn secret(&self) -> &'static str {
        SECRET
    }
}
