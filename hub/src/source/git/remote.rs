//! A remote as a source names it: URL, credential, and how it is connected to. The URL is printed without userinfo and
//! query, since both carry secrets; a credential is never printed at all.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flotilla_core::digest::{Digest, InvalidDigest};
use reqwest::{Url, header::HeaderValue};
use zeroize::Zeroizing;

use super::ssh::{self, SshIdentity};
use crate::source::transport::Connection;

/// How the hub shows who it is to a remote.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// HTTP basic authentication.
    Basic {
        /// User name; many hosts ignore it for tokens.
        username: String,
        /// Password or token.
        password: Zeroizing<String>,
    },
    /// `Authorization: Bearer`.
    Bearer(Zeroizing<String>),
    /// A token that is renewed before it ends.
    Token {
        /// Whose it is, which does not change with the token: what one fetched serves the next.
        of: Digest,
        /// How it is shown now.
        now: Box<Credential>,
    },
    /// A key, over SSH.
    Ssh(SshIdentity),
}

/// Why a remote is refused before anything is sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRemote {
    /// Not a URL.
    #[error("invalid url: {0}")]
    Url(String),
    /// Only `http`, `https` and `ssh` are fetched.
    #[error("the scheme '{0}' is not supported, expected http, https or ssh")]
    Scheme(String),
    /// A URL for SSH that could be read as something else.
    #[error("invalid ssh url: {0}")]
    Ssh(&'static str),
    /// A credential of another kind than the URL takes.
    #[error("{0}")]
    Unfit(&'static str),
    /// A credential that cannot stand in a header.
    #[error("the credential holds characters that no header can carry")]
    Credential,
}

/// Where to fetch from and as whom.
#[derive(Clone)]
pub struct Remote {
    url: Url,
    credential: Option<Credential>,
    connection: Connection,
}

/// Names a remote without showing it: a keyed digest over URL, credential and way of connecting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemoteKey(Digest);

impl Remote {
    /// Takes a source's URL and what its Secret holds; `ca` is PEM, trusted besides the system's certificates.
    pub fn new(
        url: &str,
        credential: Option<Credential>,
        ca: Option<Vec<u8>>,
    ) -> Result<Self, InvalidRemote> {
        Self::connected(url, credential, Connection::default().trusting(ca))
    }

    /// Takes a source's URL, what its Secret holds, and how it is connected to. Userinfo in a URL for HTTP is dropped: the
    /// API refuses it. SSH needs a key and the hosts that are known.
    pub fn connected(
        url: &str,
        credential: Option<Credential>,
        connection: Connection,
    ) -> Result<Self, InvalidRemote> {
        let mut url = Url::parse(url).map_err(|error| InvalidRemote::Url(error.to_string()))?;
        match url.scheme() {
            "http" | "https" => {}
            "ssh" => return Self::over_ssh(url, credential, connection),
            scheme => return Err(InvalidRemote::Scheme(scheme.to_owned())),
        }
        match &credential {
            Some(Credential::Ssh(_)) => {
                return Err(InvalidRemote::Unfit("an ssh key is given for a url of http"));
            }
            Some(credential) if credential.header().is_none() => return Err(InvalidRemote::Credential),
            _ => {}
        }
        // Both setters fail only for URLs without a host, which http and https do not have.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_fragment(None);
        Ok(Self {
            url,
            credential,
            connection,
        })
    }

    fn over_ssh(
        url: Url,
        credential: Option<Credential>,
        connection: Connection,
    ) -> Result<Self, InvalidRemote> {
        if let Some(why) = ssh::refused(&url) {
            return Err(InvalidRemote::Ssh(why));
        }
        if connection.proxy().is_some() {
            return Err(InvalidRemote::Unfit(
                "ssh goes through no proxy: use https, or drop proxySecretRef",
            ));
        }
        match credential {
            Some(Credential::Ssh(_)) => Ok(Self {
                url: ssh::with_user(url),
                credential,
                connection,
            }),
            _ => Err(InvalidRemote::Unfit(
                "ssh needs a secretRef whose secret has 'identity' and 'known_hosts'",
            )),
        }
    }

    /// The URL, without userinfo; the query stays, and is for the wire only.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The URL as people may see it: no userinfo, no query.
    pub fn shown(&self) -> String {
        shown(&self.url)
    }

    /// How it is connected to.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// What it shows over SSH; `None`: it is reached over HTTP.
    pub fn ssh(&self) -> Option<&SshIdentity> {
        match &self.credential {
            Some(Credential::Ssh(identity)) => Some(identity),
            _ => None,
        }
    }

    /// The same, of another repository on the same server: the same scheme, host and port, and for SSH the same user.
    /// `None`: it is on another one, where these credentials must not go.
    pub fn sibling(&self, url: Url) -> Option<Self> {
        let place = |url: &Url| {
            let user = if url.scheme() == "ssh" {
                url.username().to_owned()
            } else {
                String::new()
            };
            let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
            let port = url
                .port_or_known_default()
                .or((url.scheme() == "ssh").then_some(22));
            (url.scheme().to_owned(), user, host, port)
        };
        let url = if url.scheme() == "ssh" {
            ssh::with_user(url)
        } else {
            url
        };
        if place(&url) != place(&self.url) {
            return None;
        }
        Self::connected(url.as_str(), self.credential.clone(), self.connection.clone()).ok()
    }

    /// The `Authorization` header, marked sensitive.
    pub fn authorization(&self) -> Option<HeaderValue> {
        self.credential.as_ref()?.header()
    }

    /// Texts that must not leave this process: the credential in the forms in which a program may echo it.
    pub fn secrets(&self) -> Vec<Zeroizing<String>> {
        let mut secrets = self
            .credential
            .as_ref()
            .map_or_else(Vec::new, Credential::secrets);
        secrets.extend(
            self.connection
                .proxy()
                .and_then(|proxy| proxy.password().cloned()),
        );
        secrets.extend(self.url.query().map(|query| Zeroizing::new(query.to_owned())));
        secrets.retain(|secret| !secret.is_empty());
        secrets
    }

    /// The key under which probes and repositories are shared. `key` belongs to this hub, so that a directory
    /// name confirms no guess of a password.
    pub fn key(&self, key: &[u8; 32]) -> RemoteKey {
        let connection = match self.connection == Connection::default() {
            true => None,
            false => Some(self.connection.digest()),
        };
        let mut bytes = Zeroizing::new(Vec::new());
        let mut add = |part: &[u8]| {
            bytes.extend_from_slice(&part.len().to_le_bytes());
            bytes.extend_from_slice(part);
        };
        add(self.url.as_str().as_bytes());
        match &self.credential {
            None => add(b"none"),
            Some(credential) => credential.add_to(&mut add),
        }
        add(connection
            .as_ref()
            .map(Digest::as_bytes)
            .map_or(&[][..], |bytes| &bytes[..]));
        RemoteKey(Digest::keyed(key, "git-remote", &bytes))
    }
}

fn basic(username: &str, password: &str) -> Zeroizing<String> {
    Zeroizing::new(STANDARD.encode(Zeroizing::new(format!("{username}:{password}")).as_bytes()))
}

/// A URL as people may see it.
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

impl Credential {
    fn header(&self) -> Option<HeaderValue> {
        let text = match self {
            Self::Basic { username, password } => format!("Basic {}", *basic(username, password)),
            Self::Bearer(token) => format!("Bearer {}", **token),
            Self::Token { now, .. } => return now.header(),
            Self::Ssh(_) => return None,
        };
        let mut header = HeaderValue::from_str(&Zeroizing::new(text)).ok()?;
        header.set_sensitive(true);
        Some(header)
    }

    fn secrets(&self) -> Vec<Zeroizing<String>> {
        match self {
            Self::Bearer(token) => vec![token.clone()],
            Self::Basic { username, password } => vec![password.clone(), basic(username, password)],
            Self::Token { now, .. } => now.secrets(),
            Self::Ssh(identity) => identity
                .passphrase
                .iter()
                .chain([&identity.key])
                .cloned()
                .collect(),
        }
    }

    /// Adds what tells it from others.
    fn add_to(&self, add: &mut impl FnMut(&[u8])) {
        match self {
            Self::Basic { username, password } => {
                add(b"basic");
                add(username.as_bytes());
                add(password.as_bytes());
            }
            Self::Bearer(token) => {
                add(b"bearer");
                add(token.as_bytes());
            }
            Self::Token { of, .. } => {
                add(b"token");
                add(of.as_bytes());
            }
            Self::Ssh(identity) => {
                add(b"ssh");
                add(identity.key.as_bytes());
                add(identity
                    .passphrase
                    .as_ref()
                    .map_or(&[][..], |text| text.as_bytes()));
                add(identity.known_hosts.as_bytes());
            }
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic(…)",
            Self::Bearer(_) => "Bearer(…)",
            Self::Token { .. } => "Token(…)",
            Self::Ssh(_) => "Ssh(…)",
        })
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remote({}, {:?})", self.shown(), self.credential)
    }
}

impl fmt::Display for RemoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for RemoteKey {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Digest::parse(text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic_auth(password: &str) -> Option<Credential> {
        Some(Credential::Basic {
            username: "git".into(),
            password: Zeroizing::new(password.into()),
        })
    }

    #[test]
    fn a_remote_is_shown_without_userinfo_query_and_credential() {
        let remote = Remote::new(
            "https://u:canary@git.example/r.git?sig=canary#canary",
            basic_auth("canary"),
            None,
        )
        .expect("a remote");
        assert_eq!(remote.shown(), "https://git.example/r.git");
        assert_eq!(
            format!("{remote:?}"),
            "Remote(https://git.example/r.git, Some(Basic(…)))"
        );
        let header = remote.authorization().expect("a credential");
        // Not the one of the address.
        assert_eq!(header, format!("Basic {}", STANDARD.encode("git:canary")));
        assert!(!format!("{header:?}").contains("Basic"));
    }

    #[test]
    fn url_credential_and_ca_each_make_another_key() {
        let key = |url, credential, ca: Option<&str>| {
            Remote::new(url, credential, ca.map(|ca| ca.as_bytes().to_vec()))
                .expect("a remote")
                .key(&[7; 32])
        };
        let base = key("https://h/r", None, None);
        assert_eq!(base, key("https://h/r", None, None));
        for other in [
            key("https://h/r2", None, None),
            key("https://h/r", basic_auth("a"), None),
            key(
                "https://h/r",
                Some(Credential::Bearer(Zeroizing::new("a".into()))),
                None,
            ),
            key("https://h/r", None, Some("pem")),
        ] {
            assert_ne!(base, other);
        }
        assert_ne!(
            base,
            Remote::new("https://h/r", None, None)
                .expect("a remote")
                .key(&[8; 32])
        );
    }

    fn over_ssh(url: &str) -> Result<Remote, InvalidRemote> {
        let identity = SshIdentity {
            key: Zeroizing::new("canary-key".into()),
            passphrase: None,
            known_hosts: "h ssh-ed25519 AAAA".into(),
        };
        Remote::new(url, Some(Credential::Ssh(identity)), None)
    }

    #[test]
    fn ssh_takes_a_key_and_known_hosts_and_http_takes_none() {
        let remote = over_ssh("ssh://h:2222/r.git").expect("a remote");
        assert_eq!(remote.url().as_str(), "ssh://git@h:2222/r.git");
        assert_eq!(remote.shown(), "ssh://h:2222/r.git");
        assert_eq!(remote.authorization(), None);
        assert!(
            remote
                .secrets()
                .iter()
                .any(|secret| secret.as_str() == "canary-key")
        );
        assert!(over_ssh("https://h/r").is_err() && over_ssh("ssh://-x/r").is_err());
        assert!(Remote::new("ssh://git@h/r", None, None).is_err());
        assert!(Remote::new("ssh://git@h/r", basic_auth("p"), None).is_err());
    }

    #[test]
    fn credentials_go_to_no_other_scheme_host_or_port() {
        let remote = Remote::new("https://h/team/r.git", basic_auth("p"), None).expect("a remote");
        let sibling = |url: &str| {
            remote
                .sibling(Url::parse(url).expect("a URL"))
                .map(|one| one.shown())
        };
        assert_eq!(sibling("https://h:443/x.git").as_deref(), Some("https://h/x.git"));
        for url in [
            "https://h2/x",
            "http://h/x",
            "https://h:8443/x",
            "ssh://git@h/x",
            "https://h.evil/x",
            "file:///x",
        ] {
            assert_eq!(sibling(url), None, "{url}");
        }
        let remote = over_ssh("ssh://git@h/r").expect("a remote");
        let sibling = |url: &str| remote.sibling(Url::parse(url).expect("a URL")).is_some();
        assert!(sibling("ssh://git@h:22/x") && sibling("ssh://h/x"));
        assert!(!sibling("ssh://root@h/x") && !sibling("ssh://git@h:2222/x") && !sibling("https://h/x"));
    }

    #[test]
    fn a_renewed_token_makes_no_other_key() {
        let key = |of: &str, token: &str| {
            let credential = Credential::Token {
                of: Digest::of("test", of.as_bytes()),
                now: Box::new(Credential::Bearer(Zeroizing::new(token.to_owned()))),
            };
            let remote = Remote::new("https://h/r", Some(credential), None).expect("a remote");
            remote.key(&[7; 32])
        };
        assert_eq!(key("app", "t1"), key("app", "t2"));
        assert_ne!(key("app", "t1"), key("other app", "t1"));
    }

    #[test]
    fn only_http_urls_and_credentials_fit_for_a_header_are_remotes() {
        for url in [
            "-upload-pack=x",
            "file:///etc",
            "ext::sh -c x",
            "git@h:r",
            "http://",
            "",
        ] {
            assert!(Remote::new(url, None, None).is_err(), "{url:?} was taken");
        }
        let split = Credential::Bearer(Zeroizing::new("a\r\nHost: b".into()));
        assert_eq!(
            Remote::new("http://h/r", Some(split), None).err(),
            Some(InvalidRemote::Credential)
        );
    }
}
