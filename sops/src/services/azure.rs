//! Azure Key Vault and Managed HSM, as a service principal with a secret or a certificate from the Secret.

use std::time::{Duration, SystemTime};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use http::{Method, Uri};
use ring::rsa::KeyPair;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{
    AskError, Fields, Request, Transport,
    assertion::{self, Algorithm},
    form::{address, escaped, post_form, send_json},
    token::Tokens,
    transport::Answer,
};
use crate::keys::DataKey;

pub(super) const FILE: &str = "sops.azure-kv";

const AUTHORITY: &str = "https://login.microsoftonline.com/";
const API: &str = "7.4";
/// How long a statement counts.
const STATED: Duration = Duration::from_secs(600);
const REMEDY: &str = "look at the credentials in 'sops.azure-kv': they are wrong, or have ended";

/// What hosts of vaults end with, and what a token for them is asked for. A token is shown to no other host, whatever a
/// document says.
const VAULTS: [(&str, &str); 7] = [
    (".vault.azure.net", "https://vault.azure.net/.default"),
    (".vault.azure.cn", "https://vault.azure.cn/.default"),
    (
        ".vault.usgovcloudapi.net",
        "https://vault.usgovcloudapi.net/.default",
    ),
    (
        ".vault.microsoftazure.de",
        "https://vault.microsoftazure.de/.default",
    ),
    (".managedhsm.azure.net", "https://managedhsm.azure.net/.default"),
    (".managedhsm.azure.cn", "https://managedhsm.azure.cn/.default"),
    (
        ".managedhsm.usgovcloudapi.net",
        "https://managedhsm.usgovcloudapi.net/.default",
    ),
];

/// A service principal, and the tokens that it was given.
pub(super) struct Access {
    token_url: String,
    client: String,
    proof: Proof,
    tokens: Tokens,
}

enum Proof {
    Secret(Zeroizing<String>),
    Certificate {
        key: Box<KeyPair>,
        /// The certificate's thumbprint.
        thumbprint: String,
        /// The certificate and those above it, where they are to be sent.
        chain: Option<Vec<String>>,
    },
}

impl Access {
    pub(super) fn of(content: &[u8]) -> Result<Self, String> {
        let text = decoded(content).ok_or("it is not text")?;
        let fields = Fields::of(text.as_bytes())?;
        let get = |name: &str| fields.get(name).map(|text| text.trim().to_owned());
        let secret = |name: &str| get(name).map(|text| Proof::Secret(Zeroizing::new(text)));
        let own = || {
            let proof = secret("clientSecret").map(Ok);
            let proof = proof.or_else(|| Some(certificate(&fields, fields.get("clientCertificate")?)))?;
            Some((get("tenantId")?, get("clientId")?, proof))
        };
        let of_az = || Some((get("tenant")?, get("appId")?, Ok(secret("password")?)));
        let (tenant, client, proof) = own().or_else(of_az).ok_or(
            "it needs 'tenantId', 'clientId', and 'clientSecret' or 'clientCertificate', or else 'tenant', 'appId' and \
             'password'; managed identities are not supported",
        )?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
        if !tenant.bytes().all(is_name) {
            return Err("'tenantId' is no name of a tenant".to_owned());
        }
        let authority = get("authorityHost").unwrap_or_else(|| AUTHORITY.to_owned());
        let authority = address(&authority, &["https"]).ok_or("'authorityHost' is no https address")?;
        let host = authority.authority().map(http::uri::Authority::as_str);
        Ok(Self {
            token_url: format!("https://{}/{tenant}/oauth2/v2.0/token", host.unwrap_or_default()),
            client,
            proof: proof?,
            tokens: Tokens::default(),
        })
    }

    pub(super) async fn open(
        &self,
        vault: &str,
        name: &str,
        version: &str,
        encrypted: &str,
        transport: &dyn Transport,
    ) -> Result<DataKey, AskError> {
        let (server, scope) = vault_of(vault)
            .ok_or_else(|| AskError::refused("its vault_url is no https address of an Azure Key Vault"))?;
        let is_name = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-'))
        };
        if name.is_empty() || !is_name(name) || !is_name(version) {
            return Err(AskError::refused("its name or version is none of a key"));
        }
        let token = match self.tokens.get(scope, transport) {
            Some(token) => token,
            None => {
                let request = self.token_request(scope, transport.now())?;
                self.tokens.ask(scope, request, REMEDY, transport).await?
            }
        };
        let host = server
            .authority()
            .map(http::uri::Authority::as_str)
            .unwrap_or_default();
        let version = match version {
            "" => String::new(),
            version => format!("/{version}"),
        };
        let url = format!(
            "https://{host}/keys/{}{version}/decrypt?api-version={API}",
            *escaped(name)
        );
        let bearer = Zeroizing::new(format!("Bearer {}", *token));
        let body = json!({"alg": "RSA-OAEP-256", "value": encrypted});
        let request = send_json(Method::POST, &url, ("authorization", &bearer), &body)?;
        let answer = Answer::of(transport, request).await?;
        if !answer.is_success() {
            let word = answer.word(&["error", "code"]);
            return Err(match answer.status().as_u16() {
                401 => {
                    self.tokens.forget(scope);
                    answer.refused(word, REMEDY)
                }
                403 => answer.refused(
                    word,
                    "let whose credentials are in 'sops.azure-kv' decrypt with it (keys/decrypt/action), and let the \
                     cluster through the vault's firewall",
                ),
                404 => answer.refused(word, "there is no such key or version in the vault"),
                _ => answer.refused(
                    word,
                    "the data key was encrypted with another key: run `sops updatekeys`",
                ),
            });
        }
        let plaintext = answer.text(&["value"]);
        let plaintext = plaintext.and_then(|text| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok());
        plaintext
            .map(Zeroizing::new)
            .ok_or_else(|| answer.incomplete("a data key"))
    }

    fn token_request(&self, scope: &str, now: SystemTime) -> Result<Request, AskError> {
        let common = [
            ("client_id", self.client.as_str()),
            ("scope", scope),
            ("grant_type", "client_credentials"),
        ];
        let statement;
        let proof: &[(&str, &str)] = match &self.proof {
            Proof::Secret(secret) => &[("client_secret", secret)],
            Proof::Certificate {
                key,
                thumbprint,
                chain,
            } => {
                let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                let id = format!("{}-{}", since.as_nanos(), self.client);
                let claims = json!({"aud": self.token_url, "iss": self.client, "sub": self.client, "jti": id,
                    "nbf": since.as_secs(), "iat": since.as_secs(), "exp": (since + STATED).as_secs()});
                let mut header: Value = json!({"x5t#S256": thumbprint});
                if let Some(chain) = chain {
                    header["x5c"] = json!(chain);
                }
                let signed = assertion::signed(key, Algorithm::Ps256, header, &claims);
                statement =
                    signed.ok_or_else(|| AskError::refused("the key in 'sops.azure-kv' cannot sign"))?;
                &[
                    (
                        "client_assertion_type",
                        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                    ),
                    ("client_assertion", &statement),
                ]
            }
        };
        post_form(&self.token_url, &[&common[..], proof].concat())
    }
}

/// Reads a certificate and its key, both PEM in one text.
fn certificate(fields: &Fields, pem: &str) -> Result<Proof, String> {
    if fields.get("clientCertificatePassword").is_some() {
        return Err("'clientCertificate' has a password, which is not supported".to_owned());
    }
    let certificates: Result<Vec<CertificateDer<'_>>, _> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let certificates = certificates.unwrap_or_default();
    let (Some(first), Some(key)) = (certificates.first(), assertion::rsa(pem.as_bytes())) else {
        return Err("'clientCertificate' is no certificate with its RSA key in PEM".to_owned());
    };
    let is_chain_sent = fields.0.get("clientCertificateSendChain") == Some(&Value::Bool(true));
    let chain = || certificates.iter().map(|one| STANDARD.encode(one)).collect();
    Ok(Proof::Certificate {
        key: Box::new(key),
        thumbprint: URL_SAFE_NO_PAD.encode(Sha256::digest(first)),
        chain: is_chain_sent.then(chain),
    })
}

/// A vault's server, and what a token for it is asked for.
fn vault_of(text: &str) -> Option<(Uri, &'static str)> {
    let uri = address(text, &["https"])?;
    let host = uri.host()?.to_ascii_lowercase();
    let is_vault = |end: &str| host.len() > end.len() && host.ends_with(end);
    let (_, scope) = VAULTS.iter().find(|(end, _)| is_vault(end))?;
    Some((uri, scope))
}

/// The text of a file, which Azure's command writes in UTF-16 on Windows.
fn decoded(content: &[u8]) -> Option<Zeroizing<String>> {
    let units = |of: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = content
            .get(2..)
            .unwrap_or_default()
            .chunks_exact(2)
            .map(|pair| of([pair[0], pair[1]]))
            .collect();
        String::from_utf16(&units).ok().map(Zeroizing::new)
    };
    match content {
        [0xff, 0xfe, ..] => units(u16::from_le_bytes),
        [0xfe, 0xff, ..] => units(u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => Some(Zeroizing::new(std::str::from_utf8(rest).ok()?.to_owned())),
        _ => Some(Zeroizing::new(std::str::from_utf8(content).ok()?.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shown_to_vaults_of_azure_alone() {
        let scope = |url: &str| vault_of(url).map(|(_, scope)| scope);
        assert_eq!(
            scope("https://team.vault.azure.net/"),
            Some("https://vault.azure.net/.default")
        );
        assert_eq!(
            scope("https://TEAM.managedhsm.azure.net"),
            Some("https://managedhsm.azure.net/.default")
        );
        for bad in [
            "http://team.vault.azure.net",
            "https://team.vault.azure.net.evil.org",
            "https://evil.org/team.vault.azure.net",
            "https://.vault.azure.net",
            "https://team.vault.azure.net@evil.org",
        ] {
            assert_eq!(scope(bad), None, "{bad}");
        }
    }

    #[test]
    fn credentials_of_azure_are_read_as_flux_reads_them_and_quoted_nowhere() {
        let own = r#"{"tenantId":"t-1","clientId":"c","clientSecret":"canary"}"#;
        let utf16: Vec<u8> = [0xff, 0xfe]
            .into_iter()
            .chain(own.encode_utf16().flat_map(u16::to_le_bytes))
            .collect();
        for content in [
            own.as_bytes(),
            &utf16,
            b"tenant: t-1\nappId: c\npassword: canary\n",
        ] {
            let access = Access::of(content).expect("credentials");
            assert_eq!(access.client, "c");
            assert_eq!(
                access.token_url,
                "https://login.microsoftonline.com/t-1/oauth2/v2.0/token"
            );
        }
        for (text, why) in [
            ("{}", "it needs 'tenantId'"),
            ("clientId: c", "it needs 'tenantId'"),
            (
                "tenantId: a/b\nclientId: c\nclientSecret: canary",
                "'tenantId' is no",
            ),
            (
                "tenantId: t\nclientId: c\nclientCertificate: canary",
                "'clientCertificate' is no certificate",
            ),
            (
                "tenantId: t\nclientId: c\nclientSecret: canary\nauthorityHost: http://canary",
                "'authorityHost' is no https address",
            ),
        ] {
            let error = Access::of(text.as_bytes()).err().expect("refused");
            assert!(error.starts_with(why) && !error.contains("canary"), "{error}");
        }
    }
}
