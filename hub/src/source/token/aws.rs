//! The hub's own role in AWS, for CodeCommit: keys that STS gives for a token of its cluster, or those of the environment,
//! sign what Git shows as a password.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use flotilla_core::digest::Digest;
use futures::{FutureExt as _, future::BoxFuture};
use reqwest::{Url, header};
use ring::{digest::SHA256, hmac};
use serde_json::json;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{Ask, Credential, Environment, Token, TokenError, TokenSource, form};

const PROVIDER: &str = "AWS";
const SERVICE: &str = "codecommit";
/// Domains of AWS' partitions.
const DOMAINS: [&str; 3] = ["amazonaws.com", "amazonaws.com.cn", "amazonaws.eu"];

const ELSEWHERE: TokenError = TokenError::Elsewhere {
    provider: PROVIDER,
    servers: "git-codecommit.REGION.amazonaws.com",
};

/// Reads the environment of the process.
pub(super) fn environment(name: &str) -> Option<String> {
    super::azure::environment(name)
}

/// A role, as the environment describes it.
pub(super) struct Role {
    environment: Environment,
}

impl Role {
    /// The role of this environment.
    pub(super) fn of(environment: Environment) -> Self {
        Self { environment }
    }

    fn get(&self, name: &str) -> Option<String> {
        (self.environment)(name)
    }

    fn configuration(detail: &str) -> TokenError {
        TokenError::Configuration {
            provider: PROVIDER,
            detail: detail.to_owned(),
        }
    }

    async fn ask(&self, ask: &Ask<'_>) -> Result<Token, TokenError> {
        let ask = Ask {
            clients: ask.clients,
            provider: PROVIDER,
            now: ask.now,
        };
        let (Some(role), Some(file)) = (self.get("AWS_ROLE_ARN"), self.get("AWS_WEB_IDENTITY_TOKEN_FILE"))
        else {
            return self.own_keys(ask.now);
        };
        let url = match (self.get("AWS_ENDPOINT_URL_STS"), self.get("AWS_REGION")) {
            (Some(url), _) => url,
            (None, Some(region)) => format!("https://sts.{region}.amazonaws.com/"),
            (None, None) => "https://sts.amazonaws.com/".to_owned(),
        };
        let url = Url::parse(&url).map_err(|_| Self::configuration("the address of STS is no URL"))?;
        let identity = tokio::fs::read_to_string(&file).await.map(Zeroizing::new);
        let identity =
            identity.map_err(|_| Self::configuration("AWS_WEB_IDENTITY_TOKEN_FILE cannot be read"))?;
        let body = form(&[
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", &role),
            ("RoleSessionName", "flotilla"),
            ("WebIdentityToken", identity.trim()),
        ]);
        let answer = ask.json(&url, |client| {
            client
                .post(url.clone())
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .header(header::ACCEPT, "application/json")
                .body(body)
        });
        let answer = answer.await?;
        let found =
            &answer["AssumeRoleWithWebIdentityResponse"]["AssumeRoleWithWebIdentityResult"]["Credentials"];
        let mut parts = BTreeMap::new();
        for (name, key) in [
            ("access", "AccessKeyId"),
            ("secret", "SecretAccessKey"),
            ("session", "SessionToken"),
        ] {
            let part = found[key].as_str().ok_or_else(|| ask.incomplete(&url))?;
            parts.insert(name, Zeroizing::new(part.to_owned()));
        }
        let lasts = match found["Expiration"].as_f64() {
            Some(at) if at > 0.0 => SystemTime::UNIX_EPOCH + Duration::from_secs_f64(at.min(1e11)),
            _ => ask.now + Duration::from_secs(900),
        };
        Ok(Token { parts, ends: lasts })
    }

    /// The keys of the environment, which nobody renews.
    fn own_keys(&self, now: SystemTime) -> Result<Token, TokenError> {
        let (Some(access), Some(secret)) = (self.get("AWS_ACCESS_KEY_ID"), self.get("AWS_SECRET_ACCESS_KEY"))
        else {
            return Err(Self::configuration(
                "the hub has no role: neither AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE nor AWS_ACCESS_KEY_ID and \
                 AWS_SECRET_ACCESS_KEY are set in its environment",
            ));
        };
        let mut parts = BTreeMap::from([
            ("access", Zeroizing::new(access)),
            ("secret", Zeroizing::new(secret)),
        ]);
        parts.extend(
            self.get("AWS_SESSION_TOKEN")
                .map(|session| ("session", Zeroizing::new(session))),
        );
        Ok(Token {
            parts,
            ends: now + Duration::from_secs(3600),
        })
    }
}

/// The region of a URL of CodeCommit.
fn region(url: &Url) -> Option<&str> {
    let host = url.host_str().filter(|_| url.scheme() == "https")?;
    let rest = host
        .strip_prefix("git-codecommit.")
        .or_else(|| host.strip_prefix("git-codecommit-fips."))?;
    let (region, partition) = rest.split_once('.')?;
    (!region.is_empty() && DOMAINS.contains(&partition)).then_some(region)
}

impl TokenSource for Role {
    fn digest(&self) -> Digest {
        let who = ["AWS_ROLE_ARN", "AWS_ACCESS_KEY_ID"].map(|name| self.get(name));
        Digest::of_json("aws-role", &json!(who))
    }

    fn may_serve(&self, url: &Url) -> Result<(), TokenError> {
        match region(url) {
            Some(_) => Ok(()),
            None => Err(ELSEWHERE),
        }
    }

    fn token<'a>(&'a self, ask: &'a Ask<'a>) -> BoxFuture<'a, Result<Token, TokenError>> {
        self.ask(ask).boxed()
    }

    /// As AWS' own credential helper for Git does.
    fn credential(&self, token: &Token, url: &Url, now: SystemTime) -> Result<Credential, TokenError> {
        let host = url.host_str().unwrap_or_default();
        let region = region(url).ok_or(ELSEWHERE)?;
        let part = |name: &str| token.parts.get(name).cloned().unwrap_or_default();
        let now = OffsetDateTime::from(now);
        let (day, clock) = (now.date(), now.time());
        let time = format!(
            "{:04}{:02}{:02}T{:02}{:02}{:02}",
            day.year(),
            u8::from(day.month()),
            day.day(),
            clock.hour(),
            clock.minute(),
            clock.second()
        );
        let password = signature(&part("secret"), region, host, url.path(), &time);
        let username = match token.parts.get("session") {
            Some(session) => format!("{}%{}", *part("access"), **session),
            None => part("access").to_string(),
        };
        Ok(Credential::Basic {
            username,
            password: Zeroizing::new(format!("{time}Z{password}")),
        })
    }
}

/// Signature version 4 of a request of Git.
fn signature(secret: &str, region: &str, host: &str, path: &str, time: &str) -> String {
    let day = time.get(..8).unwrap_or_default();
    let request = format!("GIT\n{path}\n\nhost:{host}\n\nhost\n");
    let digest = hex::encode(ring::digest::digest(&SHA256, request.as_bytes()));
    let signed = format!("AWS4-HMAC-SHA256\n{time}\n{day}/{region}/{SERVICE}/aws4_request\n{digest}");
    let mut key = Zeroizing::new(format!("AWS4{secret}").into_bytes());
    for part in [day, region, SERVICE, "aws4_request", &signed] {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), part.as_bytes());
        key = Zeroizing::new(tag.as_ref().to_vec());
    }
    hex::encode(&*key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codecommit_is_shown_a_signature_of_the_repository_and_the_time() {
        let role = Role::of(|_| None);
        let token = Token {
            parts: BTreeMap::from([
                ("access", Zeroizing::new("AKIDEXAMPLE".to_owned())),
                ("secret", Zeroizing::new("canary".to_owned())),
                ("session", Zeroizing::new("session".to_owned())),
            ]),
            ends: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_003_600),
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let shown = |url: &str| role.credential(&token, &Url::parse(url).expect("a URL"), now);
        let url = "https://git-codecommit.eu-west-1.amazonaws.com/v1/repos/app";
        let Ok(Credential::Basic { username, password }) = shown(url) else {
            panic!("no credential");
        };
        assert_eq!(username, "AKIDEXAMPLE%session");
        let (time, signature) = password.split_once('Z').expect("a time");
        assert_eq!((time, signature.len()), ("20231114T221320", 64));
        assert!(!password.contains("canary"));
        let Ok(Credential::Basic { password: other, .. }) = shown(&format!("{url}2")) else {
            panic!("no credential");
        };
        assert_ne!(*password, *other);
        for url in [
            "https://git.example.org/app",
            "https://git-codecommit.eu-west-1.evil.example/v1/repos/app",
            "https://git-codecommit.eu-west-1.amazonaws.com.evil.example/v1/repos/app",
            "http://git-codecommit.eu-west-1.amazonaws.com/v1/repos/app",
        ] {
            assert!(shown(url).is_err(), "{url}");
        }
    }
}
