//! Tokens that providers give out and take back: asked for when they are needed, kept until shortly before they end, asked
//! for once however many sources need one. One trait for all providers; what a token is worth to a server is said by its
//! [`Identity`].

mod aws;
mod azure;
mod github;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use flotilla_core::digest::Digest;
use futures::future::BoxFuture;
use reqwest::{RequestBuilder, StatusCode, Url};
use serde_json::Value;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{
    git::Credential,
    transport::{Clients, Connection, chain},
};

/// Bytes of an answer.
const MAX_ANSWER: usize = 256 << 10;
/// What a provider may take for an answer.
const TIMEOUT: Duration = Duration::from_secs(20);
/// A token that ends sooner is renewed: what it is used for is to be over by then.
const RENEWED: Duration = Duration::from_secs(300);
/// Tokens that are kept; beyond, all are forgotten and asked for again.
const MAX_KEPT: usize = 10_000;

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Something is missing that only a person can give.
    #[error("{provider}: {detail}")]
    Configuration {
        /// The provider.
        provider: &'static str,
        /// What is missing.
        detail: String,
    },
    /// The hub's own identity is asked for by a source that is none of the provider's.
    #[error("{provider}: the hub's own identity is shown to {servers} alone, by https")]
    Elsewhere {
        /// The provider.
        provider: &'static str,
        /// Its servers, in words.
        servers: &'static str,
    },
    /// The provider refuses.
    #[error("{provider} at '{host}' gives no token: it answered {status}")]
    Refused {
        /// The provider.
        provider: &'static str,
        /// Its server.
        host: String,
        /// The status.
        status: u16,
    },
    /// The provider does not answer, or not as it should.
    #[error("{provider} at '{host}' cannot be asked for a token: {detail}")]
    Unreachable {
        /// The provider.
        provider: &'static str,
        /// Its server.
        host: String,
        /// What happened.
        detail: String,
    },
}

impl TokenError {
    /// Whether time may help.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// A token.
#[derive(Clone)]
struct Token {
    /// By name: what it consists of depends on the provider.
    parts: BTreeMap<&'static str, Zeroizing<String>>,
    ends: SystemTime,
}

/// What gives out tokens.
trait TokenSource: Send + Sync {
    /// Names whose tokens these are.
    fn digest(&self) -> Digest;

    /// Whether what it gives may be shown to the server at `url`. What is the hub's own goes to its provider alone: whoever
    /// writes a source names any server.
    fn may_serve(&self, url: &Url) -> Result<(), TokenError>;

    /// Asks for one.
    fn token<'a>(&'a self, ask: &'a Ask<'a>) -> BoxFuture<'a, Result<Token, TokenError>>;

    /// How a token is shown to the server at `url`, at this time.
    fn credential(&self, token: &Token, url: &Url, now: SystemTime) -> Result<Credential, TokenError>;
}

/// Whose tokens a source is fetched with.
pub struct Identity(Arc<dyn TokenSource>);

impl Identity {
    /// A GitHub App, as a Secret describes it. The error says what is missing there.
    pub fn github(values: &BTreeMap<String, String>) -> Result<Self, String> {
        github::App::of(values).map(|app| Self(Arc::new(app)))
    }

    /// The hub's own workload identity in Azure, for Azure DevOps.
    pub fn azure_devops() -> Self {
        Self(Arc::new(azure::Workload::devops(azure::environment)))
    }

    /// The hub's own role in AWS, for CodeCommit.
    pub fn code_commit() -> Self {
        Self(Arc::new(aws::Role::of(aws::environment)))
    }
}

/// The means by which a provider is asked.
struct Ask<'a> {
    clients: &'a Clients,
    provider: &'static str,
    /// When it is asked.
    now: SystemTime,
}

impl Ask<'_> {
    /// Sends a request and reads its answer; a status that is none of success is `Refused`, and one of the server's
    /// `Unreachable`.
    async fn json(
        &self,
        url: &Url,
        request: impl FnOnce(&reqwest::Client) -> RequestBuilder,
    ) -> Result<Value, TokenError> {
        let host = url.host_str().unwrap_or_default().to_owned();
        let unreachable = |detail: String| TokenError::Unreachable {
            provider: self.provider,
            host: host.clone(),
            detail,
        };
        self.clients
            .egress()
            .judge(url)
            .map_err(|refusal| unreachable(refusal.to_string()))?;
        let client = self.clients.get(&Connection::default());
        let client = client.map_err(|error| unreachable(error.to_string()))?;
        let failed = |error: reqwest::Error| unreachable(chain(&error.without_url()));
        let mut response = request(&client).timeout(TIMEOUT).send().await.map_err(failed)?;
        let status = response.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || status.is_redirection() {
            return Err(unreachable(format!("it answered {status}")));
        }
        if !status.is_success() {
            return Err(TokenError::Refused {
                provider: self.provider,
                host: host.clone(),
                status: status.as_u16(),
            });
        }
        let mut body = Zeroizing::new(Vec::new());
        while let Some(bytes) = response.chunk().await.map_err(failed)? {
            body.extend_from_slice(&bytes);
            if body.len() > MAX_ANSWER {
                return Err(unreachable(format!(
                    "its answer is larger than {} KiB",
                    MAX_ANSWER >> 10
                )));
            }
        }
        serde_json::from_slice(&body).map_err(|_| unreachable("its answer is no JSON".into()))
    }

    fn incomplete(&self, url: &Url) -> TokenError {
        TokenError::Unreachable {
            provider: self.provider,
            host: url.host_str().unwrap_or_default().to_owned(),
            detail: "there is no token in its answer".into(),
        }
    }
}

type Kept = Arc<tokio::sync::Mutex<Option<Token>>>;

/// Tokens that are good still. Cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    clients: Clients,
    kept: Arc<Mutex<HashMap<Digest, Kept>>>,
}

impl Tokens {
    /// Asks providers by these clients.
    pub fn new(clients: Clients) -> Self {
        Self {
            clients,
            kept: Arc::default(),
        }
    }

    /// How a source at `url` is fetched as this identity. Whoever asks while a token is asked for waits for it.
    pub async fn credential(&self, identity: &Identity, url: &Url) -> Result<Credential, TokenError> {
        identity.0.may_serve(url)?;
        let (source, of) = (&identity.0, identity.0.digest());
        let kept = {
            let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() >= MAX_KEPT {
                all.clear();
            }
            Arc::clone(all.entry(of).or_default())
        };
        let mut kept = kept.lock().await;
        let now = SystemTime::from(OffsetDateTime::now_utc());
        let token = match kept.as_ref().filter(|token| token.ends > now + RENEWED) {
            Some(token) => token.clone(),
            None => {
                let ask = Ask {
                    clients: &self.clients,
                    provider: "the provider",
                    now,
                };
                let token = source.token(&ask).await?;
                *kept = Some(token.clone());
                token
            }
        };
        Ok(Credential::Token {
            of,
            now: Box::new(source.credential(&token, url, now)?),
        })
    }
}

/// A value of the hub's environment.
type Environment = fn(&str) -> Option<String>;

/// Encodes a form.
fn form(pairs: &[(&str, &str)]) -> String {
    let mut url = Url::parse("form://x").expect("a URL");
    url.query_pairs_mut().extend_pairs(pairs);
    url.query().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
