//! An API server whose authority is replaced: the agent takes the new one from its file and needs no restart.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use flotilla_agent::cluster::{Cluster as _, kube::KubeCluster};
use flotilla_testkit::wait_until;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// The client library reads the file again once a minute.
const PATIENCE: Duration = Duration::from_secs(90);
const ANSWER: &str = r#"{"gitVersion":"v1.36.3"}"#;

/// An authority's certificate in PEM, and the TLS of a server that it vouches for.
fn authority() -> (String, TlsAcceptor) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &ca).unwrap().der().clone();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    (ca.pem(), TlsAcceptor::from(Arc::new(config)))
}

/// Serves one request a connection, each with the TLS that is in force then.
async fn serve(listener: TcpListener, tls: Arc<Mutex<TlsAcceptor>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = tls.lock().unwrap().clone();
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            while stream.read_line(&mut line).await.is_ok_and(|read| read > 2) {
                line.clear();
            }
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                ANSWER.len()
            );
            let _ = stream.write_all(format!("{head}{ANSWER}").as_bytes()).await;
            let _ = stream.shutdown().await;
        });
    }
}

fn write_kubeconfig(folder: &Path, port: u16) -> std::path::PathBuf {
    let path = folder.join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters: [{{name: k, cluster: {{server: 'https://localhost:{port}', certificate-authority: ca.crt}}}}]\n\
         users: [{{name: u, user: {{token: t}}}}]\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test]
async fn ca_file_that_is_replaced_is_trusted_within_a_minute_and_the_old_one_no_more() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.crt");
    let (old, new) = (authority(), authority());
    std::fs::write(&ca_file, &old.0).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tls = Arc::new(Mutex::new(old.1.clone()));
    tokio::spawn(serve(listener, tls.clone()));
    let kubeconfig = write_kubeconfig(folder.path(), port);
    let cluster = KubeCluster::connect(Some(&kubeconfig)).await.unwrap();
    assert_eq!(cluster.version().await.unwrap(), "v1.36.3");

    std::fs::write(&ca_file, &new.0).unwrap();
    *tls.lock().unwrap() = new.1;
    let answer = wait_until("the new authority", PATIENCE, async || {
        match cluster.version().await {
            Ok(version) => Ok(Some(version)),
            Err(error) => Err(error.to_string()),
        }
    });
    assert_eq!(answer.await.unwrap(), "v1.36.3");

    *tls.lock().unwrap() = old.1;
    let error = cluster.version().await.unwrap_err().to_string();
    assert!(error.contains("not of the authority"), "{error}");
}
