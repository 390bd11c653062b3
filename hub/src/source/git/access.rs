//! How a run of the git program reaches its remote: URL and credential, the addresses that it may connect to, CA, client
//! certificate, proxy, and over SSH the client's command. What has to be a file is one of this run alone.

use std::{io, net::IpAddr, path::Path, time::Duration};

use reqwest::Url;
use zeroize::Zeroizing;

use super::{
    GitError, Remote,
    discovery::{forbidden, unreachable},
    ssh::Private,
};
use crate::source::egress::{Egress, EgressError, literal};

/// What one of several addresses may take to answer.
const CONNECTS: Duration = Duration::from_secs(3);

/// Where a run goes, and what bounds it.
pub(super) struct Route<'a> {
    /// Whose credentials.
    pub(super) remote: &'a Remote,
    /// The repository's URL after redirects.
    pub(super) url: &'a Url,
    /// What may be reached.
    pub(super) egress: &'a Egress,
    /// A directory of the hub's own, for files of the run.
    pub(super) directory: &'a Path,
    /// Whether the hub's environment names proxies, which resolve names themselves.
    pub(super) has_proxies: bool,
    /// The source's timeout.
    pub(super) timeout: Duration,
}

/// What a run is given. Its files are removed with it.
pub(super) struct Access {
    /// Configuration of git, secrets among it.
    pub(super) config: Vec<(String, Zeroizing<String>)>,
    /// Environment besides.
    pub(super) environment: Vec<(&'static str, String)>,
    /// The proxies of the hub's environment are not for this run.
    pub(super) own_proxy: bool,
    _private: Private,
}

impl Access {
    /// Opens the way to a remote.
    pub(super) async fn open(route: Route<'_>) -> Result<Self, GitError> {
        let addresses = route.addresses().await?;
        let (remote, url) = (route.remote.clone(), route.url.clone());
        let (directory, timeout) = (route.directory.to_owned(), route.timeout);
        let written =
            tokio::task::spawn_blocking(move || Self::write(&remote, &url, &addresses, &directory, timeout));
        let written = written
            .await
            .map_err(io::Error::other)
            .and_then(|written| written);
        written.map_err(|error| GitError::Local {
            url: route.remote.shown(),
            detail: error.to_string(),
        })
    }

    fn write(
        remote: &Remote,
        url: &Url,
        addresses: &[IpAddr],
        directory: &Path,
        timeout: Duration,
    ) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let private = Private::below(directory)?;
        let mut config: Vec<(String, Zeroizing<String>)> = Vec::new();
        let mut set =
            |key: &str, value: &str| config.push((key.to_owned(), Zeroizing::new(value.to_owned())));
        set("remote.source.url", url.as_str());
        let mut environment = Vec::new();
        if let Some(identity) = remote.ssh() {
            let ssh = identity.command(&private, url, addresses.first().copied(), timeout)?;
            set("ssh.variant", "ssh");
            set("core.sshCommand", &ssh.command);
            environment = ssh.environment;
            // It counts before what is configured.
            environment.push(("GIT_ALLOW_PROTOCOL", "ssh".to_owned()));
        } else if !addresses.is_empty() {
            set("http.curloptResolve", &pinned(url, addresses));
        }
        if let Some(authorization) = remote.authorization() {
            let value = authorization
                .to_str()
                .map_err(|_| io::Error::other("the credential is not text"))?;
            set(
                "http.extraHeader",
                &Zeroizing::new(format!("Authorization: {value}")),
            );
        }
        let connection = remote.connection();
        if let Some(pem) = connection.ca() {
            set("http.sslCAInfo", &private.write("ca.pem", pem, 0o600)?);
        }
        if let Some(pair) = connection.certificate() {
            set(
                "http.sslCert",
                &private.write("tls.crt", &pair.certificate, 0o600)?,
            );
            set("http.sslKey", &private.write("tls.key", &pair.key, 0o600)?);
        }
        if let Some(proxy) = connection.proxy() {
            set("http.proxy", &proxy.full());
        }
        Ok(Self {
            config,
            environment,
            own_proxy: connection.proxy().is_some(),
            _private: private,
        })
    }
}

impl Route<'_> {
    /// The addresses to connect to; none where the URL has one itself, or a proxy resolves names.
    async fn addresses(&self) -> Result<Vec<IpAddr>, GitError> {
        let judged = self.egress.judge(self.url);
        judged.map_err(|refusal| forbidden(self.remote, &refusal))?;
        match self.remote.connection().proxy() {
            // Its own address is what is connected to; names it resolves itself.
            Some(proxy) => self.judged(proxy.address()).await.map(|_| Vec::new()),
            None if self.has_proxies && self.remote.ssh().is_none() => Ok(Vec::new()),
            None if self.remote.ssh().is_some() => {
                let addresses = self.judged(self.url).await?;
                Ok(answering(addresses, self.url.port().unwrap_or(22)).await)
            }
            None => self.judged(self.url).await,
        }
    }

    /// The addresses of a URL's host; none where it is one.
    async fn judged(&self, url: &Url) -> Result<Vec<IpAddr>, GitError> {
        let judged = match literal(url) {
            Some(_) => self
                .egress
                .judge(url)
                .map(|()| Vec::new())
                .map_err(EgressError::from),
            None => {
                let port = url.port_or_known_default().unwrap_or(22);
                self.egress
                    .resolve(url.host_str().unwrap_or_default(), port)
                    .await
            }
        };
        let addresses = judged.map_err(|error| match error {
            EgressError::Refused(refusal) => forbidden(self.remote, &refusal),
            EgressError::Unresolved { .. } => unreachable(self.remote, &error.to_string()),
        })?;
        Ok(addresses.iter().map(std::net::SocketAddr::ip).collect())
    }
}

/// The address to which a connection can be made: the client is told one alone, and tries no other.
async fn answering(addresses: Vec<IpAddr>, port: u16) -> Vec<IpAddr> {
    if addresses.len() < 2 {
        return addresses;
    }
    for address in &addresses {
        let connected = tokio::net::TcpStream::connect((*address, port));
        if let Ok(Ok(_)) = tokio::time::timeout(CONNECTS, connected).await {
            return vec![*address];
        }
    }
    addresses
}

/// Tells curl the addresses of a host.
fn pinned(url: &Url, addresses: &[IpAddr]) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(443);
    let addresses: Vec<String> = addresses
        .iter()
        .map(|address| match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        })
        .collect();
    format!("{host}:{port}:{}", addresses.join(","))
}

#[cfg(test)]
mod tests {
    use flotilla_core::egress::{Policy, Rule};

    use super::*;
    use crate::source::transport::{ClientCertificate, Connection, Proxy};

    async fn open(remote: &Remote, egress: &Egress, directory: &Path) -> Result<Access, GitError> {
        Access::open(Route {
            remote,
            url: remote.url(),
            egress,
            directory,
            has_proxies: false,
            timeout: Duration::from_secs(5),
        })
        .await
    }

    fn value<'a>(access: &'a Access, key: &str) -> Option<&'a str> {
        let found = access.config.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_str())
    }

    #[tokio::test]
    async fn git_connects_to_the_addresses_that_were_judged_and_to_no_other() {
        let place = tempfile::tempdir().expect("a directory");
        let remote = Remote::new("http://localhost:8080/r.git", None, None).expect("a remote");
        let access = open(&remote, &Egress::default(), place.path())
            .await
            .expect("opened");
        let pinned = value(&access, "http.curloptResolve").expect("pinned");
        assert!(pinned.starts_with("localhost:8080:"), "{pinned}");
        let denied: Vec<Rule> = ["127.0.0.0/8", "::1"]
            .map(|rule| rule.parse().expect("a rule"))
            .into();
        let denied = Egress::new(Policy::new(Vec::new(), denied));
        for url in [
            "http://localhost:8080/r.git",
            "http://127.0.0.1/r.git",
            "http://2130706433/r.git",
        ] {
            let remote = Remote::new(url, None, None).expect("a remote");
            let refused = open(&remote, &denied, place.path()).await.err().expect("refused");
            assert!(matches!(refused, GitError::Forbidden { .. }), "{refused}");
        }
    }

    #[tokio::test]
    async fn certificates_and_proxies_are_given_to_git_and_gone_after_the_run() {
        let place = tempfile::tempdir().expect("a directory");
        let proxy = Proxy::new(
            "http://127.0.0.1:3128",
            Some(("u".into(), Zeroizing::new("canary".into()))),
        );
        let connection = Connection::default()
            .trusting(Some(b"ca".to_vec()))
            .showing(Some(ClientCertificate {
                certificate: b"cert".to_vec(),
                key: Zeroizing::new(b"key".to_vec()),
            }))
            .through(Some(proxy.expect("a proxy")));
        let remote = Remote::connected("https://git.invalid/r.git", None, connection).expect("a remote");
        let access = open(&remote, &Egress::default(), place.path())
            .await
            .expect("opened");
        assert!(access.own_proxy && value(&access, "http.curloptResolve").is_none());
        assert_eq!(
            value(&access, "http.proxy"),
            Some("http://u:canary@127.0.0.1:3128/")
        );
        for (key, text) in [
            ("http.sslCAInfo", "ca"),
            ("http.sslCert", "cert"),
            ("http.sslKey", "key"),
        ] {
            let file = value(&access, key).expect("a file");
            assert_eq!(std::fs::read_to_string(file).expect("read"), text);
        }
        drop(access);
        assert_eq!(std::fs::read_dir(place.path()).expect("read").count(), 0);
    }
}
