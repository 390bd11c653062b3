//! The hub's own workload identity in Azure: a token of its cluster is changed for one of Azure DevOps.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use flotilla_core::digest::Digest;
use futures::{FutureExt as _, future::BoxFuture};
use reqwest::{Url, header};
use serde_json::json;
use zeroize::Zeroizing;

use super::{Ask, Credential, Environment, Token, TokenError, TokenSource, form};

const PROVIDER: &str = "Azure";
const AUTHORITY: &str = "https://login.microsoftonline.com/";
/// Azure DevOps, as Azure knows it.
const DEVOPS: &str = "499b84ac-1321-427f-aa17-267ca6975798/.default";

/// Reads the environment of the process.
pub(super) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A workload, as the environment describes it.
pub(super) struct Workload {
    environment: Environment,
}

impl Workload {
    /// The workload that asks for Azure DevOps.
    pub(super) fn devops(environment: Environment) -> Self {
        Self { environment }
    }

    fn get(&self, name: &str) -> Result<String, TokenError> {
        (self.environment)(name).ok_or_else(|| TokenError::Configuration {
            provider: PROVIDER,
            detail: format!("the hub has no workload identity: {name} is not set in its environment"),
        })
    }

    async fn ask(&self, ask: &Ask<'_>) -> Result<Token, TokenError> {
        let ask = Ask {
            clients: ask.clients,
            provider: PROVIDER,
            now: ask.now,
        };
        let (tenant, client) = (self.get("AZURE_TENANT_ID")?, self.get("AZURE_CLIENT_ID")?);
        let file = self.get("AZURE_FEDERATED_TOKEN_FILE")?;
        let authority = self
            .get("AZURE_AUTHORITY_HOST")
            .unwrap_or_else(|_| AUTHORITY.to_owned());
        let invalid = |detail: &str| TokenError::Configuration {
            provider: PROVIDER,
            detail: detail.to_owned(),
        };
        let mut url = Url::parse(&authority).map_err(|_| invalid("AZURE_AUTHORITY_HOST is no URL"))?;
        if !tenant
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
        {
            return Err(invalid("AZURE_TENANT_ID is no name of a tenant"));
        }
        url.set_path(&format!("{tenant}/oauth2/v2.0/token"));
        // It is renewed where it lies.
        let assertion = tokio::fs::read_to_string(&file).await.map(Zeroizing::new);
        let assertion = assertion.map_err(|_| invalid("AZURE_FEDERATED_TOKEN_FILE cannot be read"))?;
        let body = form(&[
            ("client_id", &client),
            ("scope", DEVOPS),
            ("grant_type", "client_credentials"),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("client_assertion", assertion.trim()),
        ]);
        let answer = ask.json(&url, |client| {
            client
                .post(url.clone())
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(body)
        });
        let answer = answer.await?;
        let token = answer["access_token"].as_str().filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| ask.incomplete(&url))?;
        let lasts = answer["expires_in"].as_u64().unwrap_or(600);
        Ok(Token {
            parts: BTreeMap::from([("token", Zeroizing::new(token.to_owned()))]),
            ends: ask.now + Duration::from_secs(lasts.min(24 * 3600)),
        })
    }
}

/// Whether a URL leads to Azure DevOps Services.
fn is_devops(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let is_organization = |name: &str| !name.is_empty() && !name.contains('.');
    url.scheme() == "https"
        && (host == "dev.azure.com"
            || host
                .strip_suffix(".visualstudio.com")
                .is_some_and(is_organization))
}

impl TokenSource for Workload {
    fn digest(&self) -> Digest {
        let who = ["AZURE_TENANT_ID", "AZURE_CLIENT_ID"].map(|name| (self.environment)(name));
        Digest::of_json("azure-workload", &json!(who))
    }

    fn may_serve(&self, url: &Url) -> Result<(), TokenError> {
        match is_devops(url) {
            true => Ok(()),
            false => Err(TokenError::Elsewhere {
                provider: PROVIDER,
                servers: "dev.azure.com and *.visualstudio.com",
            }),
        }
    }

    fn token<'a>(&'a self, ask: &'a Ask<'a>) -> BoxFuture<'a, Result<Token, TokenError>> {
        self.ask(ask).boxed()
    }

    fn credential(&self, token: &Token, _: &Url, _: SystemTime) -> Result<Credential, TokenError> {
        Ok(Credential::Bearer(
            token.parts.get("token").cloned().unwrap_or_default(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hubs_own_token_is_shown_to_azure_devops_alone() {
        let may = |url: &str| is_devops(&Url::parse(url).expect("a URL"));
        for url in [
            "https://dev.azure.com/team/project/_git/app",
            "https://team@dev.azure.com/team/project/_git/app",
            "https://team.visualstudio.com/project/_git/app",
        ] {
            assert!(may(url), "{url}");
        }
        for url in [
            "http://dev.azure.com/team/project/_git/app",
            "https://evil.example/x",
            "https://dev.azure.com.evil.example/x",
            "https://dev.azure.com@evil.example/x",
            "https://visualstudio.com/x",
            "https://evilvisualstudio.com/x",
            "https://a.b.visualstudio.com/x",
            "ssh://git@ssh.dev.azure.com/v3/team/project/app",
        ] {
            assert!(!may(url), "{url}");
        }
    }
}
