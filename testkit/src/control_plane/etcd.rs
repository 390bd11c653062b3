//! Breaking the store below an API server in ways that no signal to its process can.

use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Component, ControlPlane};
use crate::RigError;

/// A copy of what etcd held at one moment. Its folder goes with it.
#[derive(Debug)]
pub struct Snapshot(tempfile::TempDir);

impl ControlPlane {
    /// Raises etcd's alarm that its space is used up, or ends it: while it is raised, every write fails with etcd's
    /// own words, and reads go on.
    ///
    /// # Errors
    /// When etcd does not take it.
    pub async fn set_etcd_full(&self, full: bool) -> Result<(), RigError> {
        let action = if full { "ACTIVATE" } else { "DEACTIVATE" };
        let alarm = format!(r#"{{"action":"{action}","memberID":"0","alarm":"NOSPACE"}}"#);
        self.ask_etcd("maintenance/alarm", &alarm).await.map(drop)
    }

    /// Makes etcd forget all that is not the present: whoever watches from before is told so.
    ///
    /// # Errors
    /// When etcd does not take it.
    pub async fn compact(&self) -> Result<(), RigError> {
        // Any answer carries the present revision.
        let answer = self.ask_etcd("kv/range", r#"{"key":"AA=="}"#).await?;
        let refused = || RigError::Invalid(format!("etcd tells no revision: {answer}"));
        let body = answer.split_once("\r\n\r\n").ok_or_else(refused)?.1;
        let body = body
            .get(body.find('{').unwrap_or(0)..=body.rfind('}').unwrap_or(0))
            .unwrap_or(body);
        let told: serde_json::Value = serde_json::from_str(body).map_err(|_| refused())?;
        let revision = told["header"]["revision"].as_str().ok_or_else(refused)?;
        let compaction = format!(r#"{{"revision":"{revision}","physical":true}}"#);
        self.ask_etcd("kv/compaction", &compaction).await.map(drop)
    }

    /// Copies what etcd holds. It stands still meanwhile.
    ///
    /// # Errors
    /// When the copy cannot be made, or as [`ControlPlane::restart`].
    pub async fn snapshot(&self) -> Result<Snapshot, RigError> {
        let folder = self.dir.path().to_owned();
        let made = tempfile::tempdir_in(&folder).map_err(RigError::io("make a folder in", &folder))?;
        self.stop(Component::Etcd).await?;
        copied(&folder.join("etcd"), &made.path().join("etcd"))?;
        self.restart(Component::Etcd).await?;
        Ok(Snapshot(made))
    }

    /// Puts the cluster back to a snapshot of it, as an operator who restores a backup does.
    ///
    /// # Errors
    /// As [`ControlPlane::snapshot`].
    pub async fn restore(&self, snapshot: &Snapshot) -> Result<(), RigError> {
        let data = self.dir.path().join("etcd");
        self.process(Component::ApiServer)?.kill();
        self.process(Component::Etcd)?.kill();
        std::fs::remove_dir_all(&data).map_err(RigError::io("remove", &data))?;
        copied(&snapshot.0.path().join("etcd"), &data)?;
        self.process(Component::Etcd)?.restart()?;
        self.restart(Component::ApiServer).await
    }

    async fn ask_etcd(&self, method: &str, body: &str) -> Result<String, RigError> {
        let address = self.ports.etcd.address();
        let request = format!(
            "POST /v3/{method} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let failed = || RigError::io("ask etcd at", address.to_string());
        let mut stream = TcpStream::connect(address).await.map_err(failed())?;
        stream.write_all(request.as_bytes()).await.map_err(failed())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map_err(failed())?;
        if answer.starts_with("HTTP/1.1 200") {
            Ok(answer)
        } else {
            Err(RigError::Invalid(format!("etcd refuses it: {answer}")))
        }
    }
}

/// Copies a folder with all in it.
fn copied(from: &Path, to: &Path) -> Result<(), RigError> {
    std::fs::create_dir(to).map_err(RigError::io("make", to))?;
    for entry in std::fs::read_dir(from).map_err(RigError::io("read", from))? {
        let entry = entry.map_err(RigError::io("read", from))?;
        let (source, copy) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copied(&source, &copy)?;
        } else {
            std::fs::copy(&source, &copy).map_err(RigError::io("copy", &source))?;
        }
    }
    Ok(())
}
