//! Google Cloud KMS, with a service account's key or a user's refresh token from the Secret.

use std::time::{Duration, SystemTime};

use flotilla_core::text::base64;
use http::Method;
use ring::rsa::KeyPair;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    AskError, Fields, Request, Transport,
    assertion::{self, Algorithm},
    form::{address, post_form, send_json},
    token::Tokens,
    transport::Answer,
};
use crate::keys::DataKey;

pub(super) const FILE: &str = "sops.gcp-kms";

const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
const SCOPE: &str = "https://www.googleapis.com/auth/cloudkms";
/// How long a statement counts.
const STATED: Duration = Duration::from_secs(600);
const REMEDY: &str =
    "look at the credentials in 'sops.gcp-kms': they were taken back, or this clock is wrong";

/// Credentials, and the token that they were changed for.
pub(super) struct Access {
    who: Identity,
    token_uri: String,
    tokens: Tokens,
}

enum Identity {
    ServiceAccount {
        email: String,
        key_id: String,
        key: Box<KeyPair>,
    },
    User {
        id: String,
        secret: Zeroizing<String>,
        refresh: Zeroizing<String>,
    },
}

impl Access {
    pub(super) fn of(content: &[u8]) -> Result<Self, String> {
        let fields = Fields::of(content)?;
        let get = |name: &str| {
            let value = fields.get(name).map(str::to_owned);
            value.ok_or_else(|| format!("it has no '{name}'"))
        };
        let who = match get("type")?.as_str() {
            "service_account" => {
                let pem = Zeroizing::new(get("private_key")?);
                let key = assertion::rsa(pem.as_bytes());
                let key = key.ok_or("'private_key' is no RSA key in PEM")?;
                Identity::ServiceAccount {
                    email: get("client_email")?,
                    key_id: get("private_key_id").unwrap_or_default(),
                    key: Box::new(key),
                }
            }
            "authorized_user" => Identity::User {
                id: get("client_id")?,
                secret: Zeroizing::new(get("client_secret")?),
                refresh: Zeroizing::new(get("refresh_token")?),
            },
            _ => return Err("its 'type' is neither service_account nor authorized_user".to_owned()),
        };
        let token_uri = fields.get("token_uri").unwrap_or(TOKEN_URI);
        if address(token_uri, &["https"]).is_none() {
            return Err("'token_uri' is no https address".to_owned());
        }
        Ok(Self {
            who,
            token_uri: token_uri.to_owned(),
            tokens: Tokens::default(),
        })
    }

    pub(super) async fn open(
        &self,
        resource: &str,
        encrypted: &str,
        transport: &dyn Transport,
    ) -> Result<DataKey, AskError> {
        if !is_key(resource) {
            return Err(AskError::refused("its resource_id is none of a key of Cloud KMS"));
        }
        let token = match self.tokens.get(SCOPE, transport) {
            Some(token) => token,
            None => {
                let request = self.token_request(transport.now())?;
                self.tokens.ask(SCOPE, request, REMEDY, transport).await?
            }
        };
        let url = format!("https://cloudkms.googleapis.com/v1/{resource}:decrypt");
        let bearer = Zeroizing::new(format!("Bearer {}", *token));
        let body = json!({"ciphertext": encrypted});
        let request = send_json(Method::POST, &url, ("authorization", &bearer), &body)?;
        let answer = Answer::of(transport, request).await?;
        if !answer.is_success() {
            let word = answer.word(&["error", "status"]);
            return Err(match word {
                "UNAUTHENTICATED" => {
                    self.tokens.forget(SCOPE);
                    answer.refused(word, REMEDY)
                }
                "PERMISSION_DENIED" => answer.refused(
                    word,
                    "give roles/cloudkms.cryptoKeyDecrypter on it to whose credentials are in 'sops.gcp-kms'",
                ),
                "RESOURCE_EXHAUSTED" | "ABORTED" | "UNAVAILABLE" => answer.busy(word),
                "INVALID_ARGUMENT" => answer.refused(
                    word,
                    "the data key was encrypted with another key: run `sops updatekeys`",
                ),
                _ => answer.refused(word, "the key is not there, or disabled"),
            });
        }
        let plaintext = answer.text(&["plaintext"]).and_then(base64::decode);
        plaintext
            .map(Zeroizing::new)
            .ok_or_else(|| answer.incomplete("a data key"))
    }

    fn token_request(&self, now: SystemTime) -> Result<Request, AskError> {
        match &self.who {
            Identity::ServiceAccount { email, key_id, key } => {
                let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                let claims = json!({"iss": email, "scope": SCOPE, "aud": self.token_uri,
                    "iat": now.as_secs(), "exp": (now + STATED).as_secs()});
                let mut header: Value = json!({});
                if !key_id.is_empty() {
                    header["kid"] = json!(key_id);
                }
                let statement = assertion::signed(key, Algorithm::Rs256, header, &claims);
                let statement =
                    statement.ok_or_else(|| AskError::refused("the key in 'sops.gcp-kms' cannot sign"))?;
                let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
                post_form(
                    &self.token_uri,
                    &[("grant_type", grant), ("assertion", &statement)],
                )
            }
            Identity::User { id, secret, refresh } => post_form(
                &self.token_uri,
                &[
                    ("grant_type", "refresh_token"),
                    ("client_id", id),
                    ("client_secret", secret),
                    ("refresh_token", refresh),
                ],
            ),
        }
    }
}

/// Tells whether a text is the name of a key, and no other path.
fn is_key(resource: &str) -> bool {
    let segments: Vec<&str> = resource.split('/').collect();
    let is_segment = |text: &&str| {
        !text.is_empty()
            && !text.bytes().all(|byte| byte == b'.')
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':'))
    };
    let names = ["projects", "locations", "keyRings", "cryptoKeys"];
    segments.len() == names.len() * 2
        && segments.iter().step_by(2).eq(names.iter())
        && segments.iter().all(is_segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_of_a_key_is_asked_for() {
        assert!(is_key(
            "projects/example.com:p-1/locations/global/keyRings/r/cryptoKeys/k_1"
        ));
        for bad in [
            "projects/p/locations/global/keyRings/r/cryptoKeys/",
            "projects/p/locations/global/keyRings/r/cryptoKeys/..",
            "projects/p/locations/global/keyRings/r/cryptoKeys/k?x=y",
            "projects/p/locations/global/keyRings/r",
            "folders/p/locations/global/keyRings/r/cryptoKeys/k",
        ] {
            assert!(!is_key(bad), "{bad}");
        }
    }

    #[test]
    fn credentials_of_google_that_cannot_be_used_say_why_and_quote_nothing() {
        for (text, why) in [
            ("canary", "it is no map"),
            (r#"{"type":"canary"}"#, "its 'type' is neither"),
            (r#"{"type":"external_account"}"#, "its 'type' is neither"),
            (r#"{"type":"service_account"}"#, "it has no 'private_key'"),
            (
                r#"{"type":"service_account","private_key":"canary","client_email":"a"}"#,
                "'private_key' is no RSA key in PEM",
            ),
            (
                r#"{"type":"authorized_user","client_id":"a","client_secret":"canary","refresh_token":"canary",
                    "token_uri":"http://canary"}"#,
                "'token_uri' is no https address",
            ),
        ] {
            let error = Access::of(text.as_bytes()).err().expect("refused");
            assert!(error.starts_with(why) && !error.contains("canary"), "{error}");
        }
    }
}
