//! A GitHub App: a token of one of its installations, bought with a statement that its key has signed.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use flotilla_core::digest::Digest;
use futures::{FutureExt as _, future::BoxFuture};
use reqwest::{Url, header};
use ring::{rand::SystemRandom, rsa::KeyPair, signature::RSA_PKCS1_SHA256};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Ask, Credential, Token, TokenError, TokenSource};

const PROVIDER: &str = "GitHub";
const API: &str = "https://api.github.com";

/// An app and one of its installations.
pub(super) struct App {
    id: String,
    installation: Installation,
    base: Url,
    key: KeyPair,
    digest: Digest,
}

enum Installation {
    Id(String),
    Owner(String),
}

impl App {
    /// Reads the keys that Flux takes. The error says what is missing, and no value.
    pub(super) fn of(values: &BTreeMap<String, String>) -> Result<Self, String> {
        let get = |key: &str| {
            values
                .get(key)
                .map(|value| value.trim())
                .filter(|value| !value.is_empty())
        };
        let is_number = |text: &str| text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_name = |text: &str| {
            text.len() <= 100
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        let id = get("githubAppID").filter(|id| is_number(id));
        let id = id.ok_or("'githubAppID' is missing or no number")?;
        let installation = match (get("githubAppInstallationID"), get("githubAppInstallationOwner")) {
            (Some(id), None) if is_number(id) => Installation::Id(id.to_owned()),
            (None, Some(owner)) if is_name(owner) => Installation::Owner(owner.to_owned()),
            (Some(_), Some(_)) => {
                return Err(
                    "only one of 'githubAppInstallationID' and 'githubAppInstallationOwner' may be given"
                        .into(),
                );
            }
            _ => {
                return Err(
                    "'githubAppInstallationID' or 'githubAppInstallationOwner' is missing or no such".into(),
                );
            }
        };
        let base = get("githubAppBaseURL").unwrap_or(API).trim_end_matches('/');
        let base = Url::parse(base).map_err(|_| "'githubAppBaseURL' is no URL")?;
        if !matches!(base.scheme(), "http" | "https")
            || !base.username().is_empty()
            || base.password().is_some()
        {
            return Err("'githubAppBaseURL' is no plain http or https URL".into());
        }
        let pem = get("githubAppPrivateKey").ok_or("'githubAppPrivateKey' is missing")?;
        let unreadable = "'githubAppPrivateKey' is no RSA key in PEM";
        let key = match PrivateKeyDer::from_pem_slice(pem.as_bytes()) {
            Ok(PrivateKeyDer::Pkcs1(der)) => KeyPair::from_der(der.secret_pkcs1_der()),
            Ok(PrivateKeyDer::Pkcs8(der)) => KeyPair::from_pkcs8(der.secret_pkcs8_der()),
            _ => return Err(unreadable.into()),
        };
        let key = key.map_err(|_| unreadable)?;
        let parts = json!({ "id": id, "key": pem, "base": base.as_str(), "installation": match &installation {
            Installation::Id(id) => json!({ "id": id }),
            Installation::Owner(owner) => json!({ "owner": owner }),
        } });
        Ok(Self {
            id: id.to_owned(),
            installation,
            base,
            key,
            digest: Digest::of_json("github-app", &parts),
        })
    }

    /// What the app says of itself, signed. GitHub takes one of ten minutes at most, and clocks differ.
    fn statement(&self, now: SystemTime) -> Result<Zeroizing<String>, TokenError> {
        let now = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let said = format!(
            "{}.{}",
            part(&json!({ "alg": "RS256", "typ": "JWT" })),
            part(&json!({ "iat": now.saturating_sub(60), "exp": now + 480, "iss": self.id }))
        );
        let mut signature = vec![0; self.key.public().modulus_len()];
        let signed = self.key.sign(
            &RSA_PKCS1_SHA256,
            &SystemRandom::new(),
            said.as_bytes(),
            &mut signature,
        );
        signed.map_err(|_| TokenError::Configuration {
            provider: PROVIDER,
            detail: "the app's key cannot sign".into(),
        })?;
        Ok(Zeroizing::new(format!(
            "{said}.{}",
            URL_SAFE_NO_PAD.encode(signature)
        )))
    }

    async fn ask(&self, ask: &Ask<'_>) -> Result<Token, TokenError> {
        let ask = Ask {
            clients: ask.clients,
            provider: PROVIDER,
            now: ask.now,
        };
        let statement = self.statement(ask.now)?;
        let id = match &self.installation {
            Installation::Id(id) => id.clone(),
            Installation::Owner(owner) => self.installed_by(&ask, &statement, owner).await?,
        };
        let url = self.url(&format!("app/installations/{id}/access_tokens"));
        let answer = ask
            .json(&url, |client| with(client.post(url.clone()), &statement))
            .await?;
        let token = answer["token"].as_str().filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| ask.incomplete(&url))?;
        let ends = answer["expires_at"].as_str().and_then(|text| {
            let format = &time::format_description::well_known::Rfc3339;
            time::OffsetDateTime::parse(text, format).ok()
        });
        Ok(Token {
            parts: BTreeMap::from([("token", Zeroizing::new(token.to_owned()))]),
            // GitHub's are good for an hour.
            ends: ends.map_or_else(|| ask.now + Duration::from_secs(3600), SystemTime::from),
        })
    }

    /// The installation of an organisation, or else of a user.
    async fn installed_by(&self, ask: &Ask<'_>, statement: &str, owner: &str) -> Result<String, TokenError> {
        let mut refused = None;
        for kind in ["orgs", "users"] {
            let url = self.url(&format!("{kind}/{owner}/installation"));
            match ask
                .json(&url, |client| with(client.get(url.clone()), statement))
                .await
            {
                Ok(answer) => {
                    let id = answer["id"].as_u64().map(|id| id.to_string());
                    return id.ok_or_else(|| ask.incomplete(&url));
                }
                Err(error @ TokenError::Refused { status: 404, .. }) => refused = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(refused.unwrap_or_else(|| ask.incomplete(&self.base)))
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        let base = self.base.path().trim_end_matches('/');
        url.set_path(&format!("{base}/{path}"));
        url
    }
}

fn with(request: reqwest::RequestBuilder, statement: &str) -> reqwest::RequestBuilder {
    request
        .bearer_auth(statement)
        .header(header::ACCEPT, "application/vnd.github+json")
        .header("X-GitHub-Api-Version", "2022-11-28")
}

impl TokenSource for App {
    fn digest(&self) -> Digest {
        self.digest
    }

    /// It is bought with a key of the source's own Secret.
    fn may_serve(&self, _: &Url) -> Result<(), TokenError> {
        Ok(())
    }

    fn token<'a>(&'a self, ask: &'a Ask<'a>) -> BoxFuture<'a, Result<Token, TokenError>> {
        self.ask(ask).boxed()
    }

    fn credential(&self, token: &Token, _: &Url, _: SystemTime) -> Result<Credential, TokenError> {
        Ok(Credential::Basic {
            username: "x-access-token".into(),
            password: token.parts.get("token").cloned().unwrap_or_default(),
        })
    }
}
