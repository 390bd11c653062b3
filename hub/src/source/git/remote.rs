//! A remote as a source names it: URL, credential, CA. The URL is printed without userinfo and query, since both
//! carry secrets; a credential is never printed at all.

use std::{fmt, str::FromStr, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flotilla_core::digest::{Digest, InvalidDigest};
use reqwest::{Url, header::HeaderValue};
use zeroize::Zeroizing;

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
}

/// Why a remote is refused before anything is sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRemote {
    /// Not a URL.
    #[error("invalid url: {0}")]
    Url(String),
    /// Only `http` and `https` are fetched.
    #[error("the scheme '{0}' is not supported, expected http or https")]
    Scheme(String),
    /// A credential that cannot stand in a header.
    #[error("the credential holds characters that no header can carry")]
    Credential,
}

/// Where to fetch from and as whom.
#[derive(Clone)]
pub struct Remote {
    url: Url,
    credential: Option<Credential>,
    ca: Option<Arc<[u8]>>,
}

/// Names a remote without showing it: a keyed digest over URL, credential and CA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemoteKey(Digest);

impl Remote {
    /// Takes a source's URL and what its Secret holds; `ca` is PEM, trusted besides the system's certificates.
    /// Userinfo in the URL is dropped: the API refuses it.
    pub fn new(
        url: &str,
        credential: Option<Credential>,
        ca: Option<Vec<u8>>,
    ) -> Result<Self, InvalidRemote> {
        let mut url = Url::parse(url).map_err(|error| InvalidRemote::Url(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(InvalidRemote::Scheme(url.scheme().to_owned()));
        }
        if credential
            .as_ref()
            .is_some_and(|credential| credential.header().is_none())
        {
            return Err(InvalidRemote::Credential);
        }
        // Both setters fail only for URLs without a host, which http and https do not have.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_fragment(None);
        Ok(Self {
            url,
            credential,
            ca: ca.map(Arc::from),
        })
    }

    /// The URL, without userinfo; the query stays, and is for the wire only.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The URL as people may see it: no userinfo, no query.
    pub fn shown(&self) -> String {
        shown(&self.url)
    }

    /// PEM of the source's own CA.
    pub fn ca(&self) -> Option<&Arc<[u8]>> {
        self.ca.as_ref()
    }

    /// The `Authorization` header, marked sensitive.
    pub fn authorization(&self) -> Option<HeaderValue> {
        self.credential.as_ref()?.header()
    }

    /// Texts that must not leave this process: the credential in the forms in which a program may echo it.
    pub fn secrets(&self) -> Vec<Zeroizing<String>> {
        let mut secrets = match &self.credential {
            None => Vec::new(),
            Some(Credential::Bearer(token)) => vec![token.clone()],
            Some(Credential::Basic { username, password }) => {
                vec![password.clone(), basic(username, password)]
            }
        };
        secrets.extend(self.url.query().map(|query| Zeroizing::new(query.to_owned())));
        secrets.retain(|secret| !secret.is_empty());
        secrets
    }

    /// The key under which probes and repositories are shared. `key` belongs to this hub, so that a directory
    /// name confirms no guess of a password.
    pub fn key(&self, key: &[u8; 32]) -> RemoteKey {
        let (kind, user, secret) = match &self.credential {
            None => ("none", "", ""),
            Some(Credential::Basic { username, password }) => ("basic", username.as_str(), password.as_str()),
            Some(Credential::Bearer(token)) => ("bearer", "", token.as_str()),
        };
        let mut bytes = Zeroizing::new(Vec::new());
        let ca = self.ca.as_deref().unwrap_or_default();
        for part in [
            self.url.as_str().as_bytes(),
            kind.as_bytes(),
            user.as_bytes(),
            secret.as_bytes(),
            ca,
        ] {
            bytes.extend_from_slice(&part.len().to_le_bytes());
            bytes.extend_from_slice(part);
        }
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
        };
        let mut header = HeaderValue::from_str(&Zeroizing::new(text)).ok()?;
        header.set_sensitive(true);
        Some(header)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic(…)",
            Self::Bearer(_) => "Bearer(…)",
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

    #[test]
    fn only_http_urls_and_credentials_fit_for_a_header_are_remotes() {
        for url in [
            "-upload-pack=x",
            "ssh://git@h/r",
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
