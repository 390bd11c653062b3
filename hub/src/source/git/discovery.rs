//! The first request to a smart HTTP remote: `info/refs`. It settles where the repository really is (redirects of
//! the same origin only), whether the credentials hold, and which protocol the server speaks. Old servers list all
//! their refs in this very answer; it is read as it arrives and only what was asked for is kept.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, LOCATION},
};

use super::{
    GitError, Remote,
    listing::{Listing, Wanted},
    pktline::{Decoder, Packet},
    remote::shown,
};
use crate::source::{
    egress::refusal,
    transport::{Clients, chain},
};
use flotilla_core::egress::Refusal;

/// How much of an answer is read: about 600,000 refs.
pub const MAX_ANSWER: usize = 64 << 20;
const MAX_REDIRECTS: usize = 5;
const SUFFIX: &str = "/info/refs?service=git-upload-pack";

/// What a server says of itself.
#[derive(Debug)]
pub enum Advertisement {
    /// Protocol 2: refs are asked for by name.
    V2 {
        /// `sha1` or `sha256`.
        object_format: String,
    },
    /// Protocol 0 or 1: all refs are listed at once, and what was asked for is kept.
    Refs(Listing),
}

/// A remote that answered.
#[derive(Debug)]
pub struct Discovered {
    /// The repository's URL after redirects.
    pub base: Url,
    /// What the server speaks.
    pub advertisement: Advertisement,
}

/// Asks a remote what it is; `wanted` is kept of an old server's list.
pub async fn discover(clients: &Clients, remote: &Remote, wanted: Wanted) -> Result<Discovered, GitError> {
    let client = client_of(clients, remote)?;
    let (base, response) = follow(clients, &client, remote).await?;
    let mut packets = Packets::new(remote, response);
    let advertisement = read_advertisement(&mut packets, wanted).await?;
    Ok(Discovered { base, advertisement })
}

/// Returns the client that a remote is asked with.
pub fn client_of(clients: &Clients, remote: &Remote) -> Result<Client, GitError> {
    clients.get(remote.connection()).map_err(|error| GitError::Local {
        url: remote.shown(),
        detail: error.to_string(),
    })
}

/// Judges where a request would go, as far as its URL says it; names are judged when they are resolved.
pub fn allowed(clients: &Clients, remote: &Remote, url: &Url) -> Result<(), GitError> {
    clients
        .egress()
        .judge(url)
        .map_err(|refusal| forbidden(remote, &refusal))
}

/// The hub's own configuration keeps it from the server.
pub fn forbidden(remote: &Remote, refusal: &Refusal) -> GitError {
    GitError::Forbidden {
        url: remote.shown(),
        refusal: refusal.to_string(),
    }
}

async fn follow(clients: &Clients, client: &Client, remote: &Remote) -> Result<(Url, Response), GitError> {
    let mut base = remote.url().clone();
    for _ in 0..=MAX_REDIRECTS {
        allowed(clients, remote, &base)?;
        let response = get(client, remote, &base).await?;
        if !response.status().is_redirection() {
            check(remote, &response, "application/x-git-upload-pack-advertisement")?;
            return Ok((base, response));
        }
        base = redirected(remote, &base, &response)?;
    }
    Err(unreachable(remote, "too many redirects"))
}

async fn get(client: &Client, remote: &Remote, base: &Url) -> Result<Response, GitError> {
    let request = client.get(endpoint(base, "/info/refs", "service=git-upload-pack"));
    send(remote, request).await
}

/// Sends a request as the remote's owner and for protocol 2.
pub async fn send(remote: &Remote, request: reqwest::RequestBuilder) -> Result<Response, GitError> {
    let mut request = request.header("Git-Protocol", "version=2");
    if let Some(authorization) = remote.authorization() {
        request = request.header(AUTHORIZATION, authorization);
    }
    request.send().await.map_err(|error| match refusal(&error) {
        Some(refusal) => forbidden(remote, refusal),
        // The URL in the error may hold a query; what failed is said without it.
        None => unreachable(remote, &chain(&error.without_url())),
    })
}

/// Joins as git does: textually, also behind a query.
pub fn endpoint(base: &Url, path: &str, query: &str) -> String {
    let base = base.as_str().trim_end_matches('/');
    let separator = if base.contains('?') { '&' } else { '?' };
    if query.is_empty() {
        format!("{base}{path}")
    } else {
        format!("{base}{path}{separator}{query}")
    }
}

fn redirected(remote: &Remote, base: &Url, response: &Response) -> Result<Url, GitError> {
    let location = response
        .headers()
        .get(LOCATION)
        .and_then(|value| value.to_str().ok());
    let Some(to) = location.and_then(|location| response.url().join(location).ok()) else {
        return Err(unreachable(remote, "a redirect without a location"));
    };
    let refused = || GitError::Redirected {
        url: remote.shown(),
        to: shown(&to),
    };
    let target = to
        .as_str()
        .strip_suffix(SUFFIX)
        .and_then(|base| Url::parse(base).ok());
    match target {
        Some(target) if target.origin() == base.origin() && to.username().is_empty() => Ok(target),
        _ => Err(refused()),
    }
}

/// Judges an answer by status and content type.
pub fn check(remote: &Remote, response: &Response, content_type: &str) -> Result<(), GitError> {
    let url = remote.shown();
    match response.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED => {
            return Err(GitError::Auth {
                url,
                detail: "authentication required",
            });
        }
        StatusCode::FORBIDDEN => {
            return Err(GitError::Auth {
                url,
                detail: "authorization failed",
            });
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => return Err(GitError::RepositoryNotFound { url }),
        status => return Err(unreachable(remote, &format!("the server answered {status}"))),
    }
    let given = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    if given.is_some_and(|given| given.split(';').next() == Some(content_type)) {
        Ok(())
    } else {
        Err(unreachable(remote, "the answer is not Git's smart HTTP protocol"))
    }
}

/// The packets of an answer, read as they arrive.
pub struct Packets<'a> {
    remote: &'a Remote,
    response: Response,
    decoder: Decoder,
    received: usize,
}

impl<'a> Packets<'a> {
    /// Reads the body of `response`.
    pub fn new(remote: &'a Remote, response: Response) -> Self {
        Self {
            remote,
            response,
            decoder: Decoder::default(),
            received: 0,
        }
    }

    /// Bytes of the body read so far.
    pub fn received(&self) -> usize {
        self.received
    }

    /// Returns the next packet, `None` at the end of the body.
    pub async fn next(&mut self) -> Result<Option<Packet>, GitError> {
        loop {
            if let Some(packet) = self.decoder.next_packet().map_err(|error| self.corrupt(&error))? {
                return Ok(Some(packet));
            }
            let Some(bytes) = self.chunk().await? else {
                return self
                    .decoder
                    .finish()
                    .map(|()| None)
                    .map_err(|error| self.corrupt(&error));
            };
            self.decoder.push(&bytes);
        }
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, GitError> {
        let failed = |error: reqwest::Error| unreachable(self.remote, &chain(&error.without_url()));
        let bytes = self.response.chunk().await.map_err(failed)?;
        self.received += bytes.as_ref().map_or(0, Bytes::len);
        if self.received > MAX_ANSWER {
            let limit = format!("{} MiB", MAX_ANSWER >> 20);
            return Err(GitError::TooLarge {
                url: self.remote.shown(),
                what: "the list of refs",
                limit,
            });
        }
        Ok(bytes)
    }

    fn corrupt(&self, error: &dyn std::error::Error) -> GitError {
        GitError::Corrupt {
            url: self.remote.shown(),
            detail: error.to_string(),
        }
    }
}

async fn read_advertisement(packets: &mut Packets<'_>, wanted: Wanted) -> Result<Advertisement, GitError> {
    let mut object_format = "sha1".to_owned();
    let mut version2 = false;
    let mut listing = Listing::new(wanted);
    let mut refused = None;
    let mut announced = false;
    while let Some(packet) = packets.next().await? {
        let line = match packet {
            Packet::Line(line) => String::from_utf8_lossy(&line).into_owned(),
            // The flush after the service line; the next one ends the advertisement.
            Packet::Flush if announced => {
                announced = false;
                continue;
            }
            _ if version2 => return Ok(Advertisement::V2 { object_format }),
            _ => return Ok(Advertisement::Refs(listing)),
        };
        announced = line.starts_with("# service=");
        if announced || line == "version 1" {
        } else if line == "version 2" {
            version2 = true;
        } else if let (true, Some(format)) = (version2, line.strip_prefix("object-format=")) {
            object_format = format.to_owned();
        } else if let (None, Some(said)) = (&refused, line.strip_prefix("ERR ")) {
            refused = Some(said.chars().take(200).collect::<String>());
        } else if !version2 {
            take_old_ref(&line, &mut listing);
        }
    }
    Err(match refused {
        Some(said) => unreachable(packets.remote, &format!("the server says: {said}")),
        None => GitError::Corrupt {
            url: packets.remote.shown(),
            detail: "the list of refs has no end".into(),
        },
    })
}

/// Takes in one line of an old server's list.
fn take_old_ref(line: &str, listing: &mut Listing) {
    let line = line.split('\0').next().unwrap_or(line);
    let Some((id, name)) = line.split_once(' ') else {
        return;
    };
    // An empty repository lists its capabilities under a name that is no ref.
    if name == "capabilities^{}" || id == "shallow" {
        return;
    }
    match name.strip_suffix("^{}") {
        Some(tag) => listing.peel(tag, id),
        None => listing.take(name, id, None),
    }
}

/// A failure of network or server.
pub fn unreachable(remote: &Remote, detail: &str) -> GitError {
    GitError::Unreachable {
        url: remote.shown(),
        detail: redact(remote, detail),
    }
}

/// Removes a remote's secrets from a text of others.
pub fn redact(remote: &Remote, text: &str) -> String {
    let mut text = text.to_owned();
    for secret in remote.secrets() {
        text = text.replace(secret.as_str(), "***");
    }
    text
}

/// Bounds a whole operation on a remote.
pub async fn within<T>(
    remote: &Remote,
    timeout: Duration,
    operation: impl Future<Output = Result<T, GitError>>,
) -> Result<T, GitError> {
    match tokio::time::timeout(timeout, operation).await {
        Ok(result) => result,
        Err(_) => Err(GitError::Timeout {
            url: remote.shown(),
            after: timeout,
        }),
    }
}
