//! What Secrets say of how a source is reached: who asks, what is trusted, what goes between. The keys are Flux's; messages
//! name keys and never values.

use std::collections::BTreeMap;

use flotilla_core::source::{Failure, Remedy};
use zeroize::Zeroizing;

use super::{
    git::{Credential, SshIdentity, ssh::is_encrypted},
    transport::{ClientCertificate, Proxy},
};

/// The Secret that a source names, opened.
pub struct SourceSecret {
    /// `namespace/name`.
    pub name: String,
    /// Its values.
    pub values: BTreeMap<String, String>,
}

impl SourceSecret {
    fn get(&self, key: &str) -> Option<&String> {
        self.values.get(key).filter(|value| !value.is_empty())
    }

    fn failure(&self, what: &str) -> Failure {
        let message = format!("secret '{}': {what}", self.name);
        Failure::new("AuthenticationFailed", message, Remedy::Ask)
    }

    /// Who asks a Git server.
    pub fn credential(&self, is_ssh: bool) -> Result<Option<Credential>, Failure> {
        if is_ssh {
            return self.ssh().map(|identity| Some(Credential::Ssh(identity)));
        }
        if let Some(token) = self.get("bearerToken") {
            return Ok(Some(Credential::Bearer(Zeroizing::new(token.clone()))));
        }
        let basic = self.basic()?;
        Ok(basic.map(|(username, password)| Credential::Basic { username, password }))
    }

    fn basic(&self) -> Result<Option<(String, Zeroizing<String>)>, Failure> {
        match (self.get("username"), self.get("password")) {
            (Some(username), Some(password)) => {
                Ok(Some((username.clone(), Zeroizing::new(password.clone()))))
            }
            (None, None) => Ok(None),
            _ => Err(self.failure("'username' and 'password' are needed together")),
        }
    }

    fn ssh(&self) -> Result<SshIdentity, Failure> {
        let (Some(key), Some(known_hosts)) = (self.get("identity"), self.get("known_hosts")) else {
            return Err(self.failure("ssh needs 'identity' and 'known_hosts'"));
        };
        let passphrase = self.get("password");
        if is_encrypted(key) && passphrase.is_none() {
            let message = format!(
                "SSH identity key is encrypted but no 'password' field was provided in the secret '{}'",
                self.name
            );
            return Err(Failure::new("AuthenticationFailed", message, Remedy::Ask));
        }
        Ok(SshIdentity {
            key: Zeroizing::new(key.clone()),
            passphrase: passphrase
                .filter(|_| is_encrypted(key))
                .map(|text| Zeroizing::new(text.clone())),
            known_hosts: known_hosts.clone(),
        })
    }

    /// PEM of the CA that is trusted besides the system's.
    pub fn ca(&self) -> Option<Vec<u8>> {
        let pem = self.get("ca.crt").or_else(|| self.get("caFile"));
        pem.map(|pem| pem.clone().into_bytes())
    }

    /// The certificate that is shown to the server.
    pub fn certificate(&self) -> Result<Option<ClientCertificate>, Failure> {
        let certificate = self.get("tls.crt").or_else(|| self.get("certFile"));
        let key = self.get("tls.key").or_else(|| self.get("keyFile"));
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some(ClientCertificate {
                certificate: certificate.clone().into_bytes(),
                key: Zeroizing::new(key.clone().into_bytes()),
            })),
            (None, None) => Ok(None),
            _ => Err(self.failure("'tls.crt' and 'tls.key' are needed together")),
        }
    }

    /// The proxy that the Secret of a `proxySecretRef` names.
    pub fn proxy(&self) -> Result<Proxy, Failure> {
        let Some(address) = self.get("address") else {
            return Err(self.failure("a proxy needs 'address'"));
        };
        // A name alone is enough for a proxy.
        let credential = self.get("username").map(|username| {
            let password = self.get("password").cloned().unwrap_or_default();
            (username.clone(), Zeroizing::new(password))
        });
        Proxy::new(address, credential).map_err(|error| self.failure(&error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(values: &[(&str, &str)]) -> SourceSecret {
        let values = values
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        SourceSecret {
            name: "apps/repo".into(),
            values: values.collect(),
        }
    }

    #[test]
    fn each_kind_of_credential_is_read_by_its_keys_and_halves_are_refused() {
        let http = |values: &[(&str, &str)]| secret(values).credential(false);
        assert!(matches!(
            http(&[("bearerToken", "t"), ("username", "u")]),
            Ok(Some(Credential::Bearer(_)))
        ));
        assert!(matches!(
            http(&[("username", "u"), ("password", "p")]),
            Ok(Some(Credential::Basic { .. }))
        ));
        assert!(matches!(http(&[("ca.crt", "pem"), ("username", "")]), Ok(None)));
        let half = http(&[("username", "canary")]).expect_err("half");
        assert_eq!(
            half.message,
            "secret 'apps/repo': 'username' and 'password' are needed together"
        );
        assert!(secret(&[("tls.crt", "c")]).certificate().is_err());
        assert!(matches!(
            secret(&[("certFile", "c"), ("keyFile", "k")]).certificate(),
            Ok(Some(_))
        ));
    }

    #[test]
    fn ssh_without_known_hosts_or_with_an_encrypted_key_and_no_password_is_refused() {
        let ssh = |values: &[(&str, &str)]| {
            secret(values)
                .credential(true)
                .err()
                .map(|failure| failure.message)
        };
        let key = "-----BEGIN ENCRYPTED PRIVATE KEY-----\ncanary";
        assert_eq!(ssh(&[("identity", "k"), ("known_hosts", "h")]), None);
        let needs = "secret 'apps/repo': ssh needs 'identity' and 'known_hosts'";
        assert_eq!(ssh(&[("identity", "k")]).as_deref(), Some(needs));
        assert_eq!(
            ssh(&[("identity", key), ("known_hosts", "h")]).as_deref(),
            Some(
                "SSH identity key is encrypted but no 'password' field was provided in the secret 'apps/repo'"
            )
        );
        assert_eq!(
            ssh(&[("identity", key), ("known_hosts", "h"), ("password", "p")]),
            None
        );
    }

    #[test]
    fn a_proxy_needs_an_address_without_credentials_in_it() {
        let proxy = |address: &str| {
            secret(&[("address", address), ("username", "u"), ("password", "canary")]).proxy()
        };
        assert!(proxy("socks5://proxy:1080").is_ok() && proxy("http://proxy:3128").is_ok());
        let refused = proxy("http://u:canary@proxy").err().expect("refused");
        assert!(!refused.message.contains("canary"), "{}", refused.message);
        assert!(secret(&[]).proxy().is_err());
    }
}
