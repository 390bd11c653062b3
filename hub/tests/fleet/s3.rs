//! A server that speaks S3, over a directory.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use http::{Method, Request, Response, StatusCode};
use hyper::{body::Incoming, service::service_fn};
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

/// What the server does not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It does all.
    None,
    /// It never answers what asks for a list.
    HangsOnLists,
    /// It refuses everything, at length.
    Denies,
    /// It writes nothing under a condition.
    TakesNoConditions,
}

impl Fault {
    /// The answer in its place.
    async fn of(self, request: &Request<Incoming>) -> Option<Response<s3s::Body>> {
        let answer = |status: StatusCode, code: &str| {
            let text = format!("<Error><Code>{code}</Code><Message>canary-s3-body</Message></Error>");
            let answer = Response::builder().status(status);
            Some(answer.body(s3s::Body::from(text)).expect("an answer"))
        };
        match self {
            Self::HangsOnLists
                if request
                    .uri()
                    .query()
                    .is_some_and(|asked| asked.contains("list-type")) =>
            {
                std::future::pending().await
            }
            Self::Denies => answer(StatusCode::FORBIDDEN, "AccessDenied"),
            Self::TakesNoConditions
                if request.method() == Method::PUT && request.headers().contains_key("if-none-match") =>
            {
                answer(StatusCode::NOT_IMPLEMENTED, "NotImplemented")
            }
            _ => None,
        }
    }
}

pub(crate) struct S3 {
    dir: tempfile::TempDir,
    fault: Arc<Mutex<Fault>>,
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
        let fault = Arc::new(Mutex::new(Fault::None));
        let now = fault.clone();
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (service, now) = (service.clone(), now.clone());
                let service = service_fn(move |request| {
                    let (service, fault) = (service.clone(), *now.lock().expect("a fault"));
                    async move {
                        match fault.of(&request).await {
                            Some(answer) => Ok(answer),
                            None => service.call(request.map(s3s::Body::from)).await,
                        }
                    }
                });
                tokio::spawn(async move {
                    let server = Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self {
            dir,
            fault,
            address,
            task,
        }
    }

    /// From now on.
    pub(crate) fn has(&self, fault: Fault) {
        *self.fault.lock().expect("a fault") = fault;
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
