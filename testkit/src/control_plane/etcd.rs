//! Breaking the store below an API server in ways that no signal to its process can.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::ControlPlane;
use crate::RigError;

impl ControlPlane {
    /// Raises etcd's alarm that its space is used up, or ends it: while it is raised, every write fails with etcd's
    /// own words, and reads go on.
    ///
    /// # Errors
    /// When etcd does not take it.
    pub async fn set_etcd_full(&self, full: bool) -> Result<(), RigError> {
        let action = if full { "ACTIVATE" } else { "DEACTIVATE" };
        let body = format!(r#"{{"action":"{action}","memberID":"0","alarm":"NOSPACE"}}"#);
        let address = self.ports.etcd.address();
        let request = format!(
            "POST /v3/maintenance/alarm HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let failed = || RigError::io("ask etcd at", address.to_string());
        let mut stream = TcpStream::connect(address).await.map_err(failed())?;
        stream.write_all(request.as_bytes()).await.map_err(failed())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map_err(failed())?;
        if answer.starts_with("HTTP/1.1 200") {
            Ok(())
        } else {
            Err(RigError::Invalid(format!("etcd refuses the alarm: {answer}")))
        }
    }
}
