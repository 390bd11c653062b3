//! The transit engine of HashiCorp Vault and OpenBao, with a token from the Secret.

use flotilla_core::text::base64;
use http::{Method, StatusCode};
use serde_json::json;
use zeroize::Zeroizing;

use super::{
    AskError, Transport,
    form::{address, escaped, send_json},
    transport::Answer,
};
use crate::keys::DataKey;

pub(super) const FILE: &str = "sops.vault-token";

/// Bytes of a token.
const TOKEN: usize = 16 << 10;

/// A token.
pub(super) struct Access(Zeroizing<String>);

impl Access {
    pub(super) fn of(content: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(content).map_err(|_| "it is not text".to_owned())?;
        let token = text.trim();
        match token.is_empty() || token.len() > TOKEN || token.contains(char::is_whitespace) {
            true => Err("it is no token".to_owned()),
            false => Ok(Self(Zeroizing::new(token.to_owned()))),
        }
    }

    pub(super) async fn open(
        &self,
        server: &str,
        engine: &str,
        name: &str,
        encrypted: &str,
        transport: &dyn Transport,
    ) -> Result<DataKey, AskError> {
        let url = url(server, engine, name)?;
        let body = json!({"ciphertext": encrypted});
        let request = send_json(Method::PUT, &url, ("x-vault-token", &self.0), &body)?;
        let answer = Answer::of(transport, request).await?;
        if !answer.is_success() {
            return Err(match answer.status() {
                StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => answer.refused(
                    "permission denied",
                    &format!(
                        "put a valid token into 'sops.vault-token', whose policy allows update on \
                         {engine}/decrypt/{name}"
                    ),
                ),
                StatusCode::NOT_FOUND => {
                    answer.refused("", "there is no transit engine at this path, or no such key")
                }
                _ => answer.refused("", "the key does not decrypt the data key: run `sops updatekeys`"),
            });
        }
        let plaintext = answer.text(&["data", "plaintext"]).and_then(base64::decode);
        plaintext
            .map(Zeroizing::new)
            .ok_or_else(|| answer.incomplete("a data key"))
    }
}

/// Where a key of an engine decrypts. The path is no way to anything else that the token may do.
fn url(server: &str, engine: &str, name: &str) -> Result<String, AskError> {
    let uri = address(server, &["http", "https"]);
    let uri = uri.ok_or_else(|| AskError::refused("its vault_address is no http or https address"))?;
    let (scheme, authority) = (uri.scheme_str().unwrap_or_default(), uri.authority());
    let authority = authority.map(http::uri::Authority::as_str).unwrap_or_default();
    let mut url = format!("{scheme}://{authority}{}/v1", uri.path().trim_end_matches('/'));
    let engine = engine.trim_matches('/');
    for segment in engine.split('/').chain(["decrypt", name]) {
        if segment.is_empty() || segment.bytes().all(|byte| byte == b'.') || segment.contains('/') {
            return Err(AskError::refused(
                "its engine_path or key_name is no path in Vault",
            ));
        }
        url.push('/');
        url.push_str(&escaped(segment));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_an_engine_leads_nowhere_else() {
        let good = url("http://vault:8200/", "/secrets/sops/", "my key").expect("a URL");
        assert_eq!(good, "http://vault:8200/v1/secrets/sops/decrypt/my%20key");
        let below = url("https://vault.example.org/base", "sops", "k?x").expect("a URL");
        assert_eq!(below, "https://vault.example.org/base/v1/sops/decrypt/k%3Fx");
        for (server, engine, name) in [
            ("http://vault", "../auth", "k"),
            ("http://vault", "a/./b", "k"),
            ("http://vault", "", "k"),
            ("http://vault", "sops", ""),
            ("http://vault", "sops", "../../sys/seal"),
            ("http://u:p@vault", "sops", "k"),
            ("file:///etc", "sops", "k"),
        ] {
            assert!(url(server, engine, name).is_err(), "{server} {engine} {name}");
        }
    }

    #[test]
    fn a_token_is_one_word() {
        assert!(Access::of(b"hvs.token\n").is_ok());
        for bad in ["", " \n", "two words", "two\nlines"] {
            assert!(Access::of(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
