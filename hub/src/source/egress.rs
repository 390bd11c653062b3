//! Resolves names and judges what they stand for by [`flotilla_core::egress`]; what is judged is what is connected to. The
//! clients ask here for every name, and the git and ssh programs are told the addresses.

use std::{net::IpAddr, net::SocketAddr, sync::Arc};

use flotilla_core::egress::{Policy, Refusal};
use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

/// Addresses of one name that are used.
const MAX_ADDRESSES: usize = 16;

/// Why there is no address to connect to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// It may not be reached.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The name stands for nothing here.
    #[error("cannot resolve host '{host}': {detail}")]
    Unresolved {
        /// The name.
        host: String,
        /// Why.
        detail: String,
    },
}

/// What sources may reach. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Egress {
    policy: Arc<Policy>,
}

impl Egress {
    /// Reaches what the policy allows.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy: Arc::new(policy),
        }
    }

    /// Judges what a URL says by itself: an address, or a name where a proxy resolves it.
    pub fn judge(&self, url: &Url) -> Result<(), Refusal> {
        self.policy.judge_host(url.host_str().unwrap_or_default())?;
        match literal(url) {
            Some(address) => self.policy.judge(&address.to_string(), address),
            None => Ok(()),
        }
    }

    /// The addresses of a host that may be connected to; of a name that stands for several those that are refused are left
    /// out.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, EgressError> {
        let plain = host.trim_start_matches('[').trim_end_matches(']');
        let found = tokio::net::lookup_host((plain, port)).await;
        let unresolved = |detail: String| EgressError::Unresolved {
            host: host.to_owned(),
            detail,
        };
        let found = found.map_err(|error| unresolved(error.to_string()))?;
        let mut allowed = Vec::new();
        let mut refused = None;
        for address in found.take(MAX_ADDRESSES) {
            match self.policy.judge(host, address.ip()) {
                Ok(()) => allowed.push(address),
                Err(refusal) => refused = refused.or(Some(refusal)),
            }
        }
        match refused {
            Some(refusal) if allowed.is_empty() => Err(refusal.into()),
            None if allowed.is_empty() => Err(unresolved("it has no address".into())),
            _ => Ok(allowed),
        }
    }
}

/// The address that a URL names instead of a host.
pub fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// What was refused, if that is why a request failed.
pub fn refusal<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Refusal> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(EgressError::Refused(refusal)) = error.downcast_ref() {
            return Some(refusal);
        }
        cause = error.source();
    }
    None
}

impl Resolve for Egress {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        Box::pin(async move {
            // The port of the URL is put in place of this one.
            let addresses = this.resolve(name.as_str(), 0).await?;
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use flotilla_core::egress::Rule;

    use super::*;

    #[tokio::test]
    async fn of_a_name_only_the_addresses_that_may_be_reached_are_connected_to() {
        let deny: Vec<Rule> = ["127.0.0.0/8", "::1"]
            .map(|rule| rule.parse().expect("a rule"))
            .into();
        let egress = Egress::new(Policy::new(Vec::new(), deny));
        let refused = egress.resolve("localhost", 1).await.expect_err("refused");
        assert!(
            matches!(refused, EgressError::Refused(Refusal::Denied { .. })),
            "{refused}"
        );
        let found = Egress::default().resolve("localhost", 1).await.expect("resolved");
        assert!(
            found.iter().all(|address| address.ip().is_loopback()),
            "{found:?}"
        );
    }

    #[test]
    fn addresses_in_urls_are_judged_in_every_spelling() {
        let egress = Egress::default();
        for url in [
            "http://169.254.169.254/latest",
            "http://2852039166/",
            "http://0xa9fea9fe/",
            "http://[::ffff:169.254.169.254]/",
            "http://[fe80::1]:80/",
        ] {
            let url = Url::parse(url).expect("a URL");
            assert!(egress.judge(&url).is_err(), "{url} passed");
        }
        let plain = Url::parse("https://git.example.org/").expect("a URL");
        assert_eq!(egress.judge(&plain), Ok(()));
    }
}
