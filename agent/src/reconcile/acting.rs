//! On whose behalf a unit asks the cluster, and what its refusals mean for people.

use std::{collections::BTreeSet, sync::Arc};

use flotilla_core::{rights, unit::Entry};
use tokio::sync::OnceCell;

use super::context::Context;
use crate::cluster::{Account, ClusterError};

/// Why nothing can be asked as an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// In words, for people.
    pub words: String,
    /// The ServiceAccount does not exist.
    pub is_missing: bool,
}

/// Who asks, for one job. It is never somebody else: what the account may not do is not done.
#[derive(Debug, Clone)]
pub struct Acting {
    account: Account,
    /// Whether and why nothing can be asked as this account: found out at the first refusal, once for all objects.
    denied: Arc<OnceCell<Option<Denied>>>,
    /// The namespaces that the agent works in; empty: all.
    namespaces: Arc<BTreeSet<String>>,
}

impl Acting {
    /// Who acts for an entry: the ServiceAccount that it names in the namespace of its app, else the default one there, else
    /// the agent itself.
    pub(super) fn of(entry: &Entry, default: &str, namespaces: &Arc<BTreeSet<String>>) -> Self {
        let name = match entry.settings.service_account.as_str() {
            "" => default,
            name => name,
        };
        let account = match name {
            "" => Account::Agent,
            name => Account::ServiceAccount {
                namespace: entry.app.namespace.clone(),
                name: name.to_owned(),
            },
        };
        Self {
            account,
            denied: Arc::default(),
            namespaces: namespaces.clone(),
        }
    }

    /// The account.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The ServiceAccount as `namespace/name`; `None`: it is the agent itself.
    pub fn service_account(&self) -> Option<String> {
        match &self.account {
            Account::Agent => None,
            Account::ServiceAccount { namespace, name } => Some(format!("{namespace}/{name}")),
        }
    }

    /// What to do about a refusal, from the server's words; `None`: it is not for want of rights.
    pub fn advice(&self, message: &str) -> Option<String> {
        match self.service_account() {
            Some(account) => rights::account_advice(message, &account),
            None => rights::advice(message, &self.namespaces),
        }
    }

    /// Who may not read something, in words.
    pub fn reader(&self) -> String {
        match self.service_account() {
            Some(account) => format!("ServiceAccount {account}, as which this app acts,"),
            None => "this agent".to_owned(),
        }
    }

    /// Why nothing can be asked as this account, as far as a refusal has shown.
    pub(super) fn denied(&self) -> Option<&Denied> {
        self.denied.get()?.as_ref()
    }

    /// Finds out what a refusal says of the account itself: the agent may not act as it, or it is not there. Where it is not
    /// there and rights are bound to it all the same, nothing is refused.
    pub(super) async fn refused(&self, context: &Context, error: &ClusterError) {
        let (
            Some(account),
            ClusterError::Rejected {
                code: 403, message, ..
            },
        ) = (self.service_account(), error)
        else {
            return;
        };
        if rights::account_advice(message, &account).is_none() {
            return;
        }
        self.denied
            .get_or_init(|| self.why_denied(context, &account, message))
            .await;
    }

    async fn why_denied(&self, context: &Context, account: &str, message: &str) -> Option<Denied> {
        if rights::may_not_impersonate(message) {
            let hint = rights::impersonation_hint(account);
            return Some(Denied {
                words: format!(
                    "this app acts as ServiceAccount {account}, and the agent may not: {message}; {hint}"
                ),
                is_missing: false,
            });
        }
        self.is_missing(context).await.then(|| Denied {
            words: format!(
                "ServiceAccount {account}, as which this app acts, does not exist in this cluster: nothing can be written \
                 or removed for the app"
            ),
            is_missing: true,
        })
    }

    /// Tells whether the ServiceAccount is known not to exist. The agent asks for itself: an account need not be allowed to
    /// read itself.
    async fn is_missing(&self, context: &Context) -> bool {
        let Account::ServiceAccount { namespace, name } = &self.account else {
            return false;
        };
        let discovery = context.discovery();
        let Some(resource) = discovery.preferred("", "ServiceAccount") else {
            return false;
        };
        matches!(
            context.agents_cluster().get(resource, namespace, name).await,
            Ok(None)
        )
    }
}

#[cfg(test)]
mod tests {
    use flotilla_core::{digest::Digest, id::UnitId};
    use uuid::Uuid;

    use super::*;
    use crate::sim;

    fn acting(named: &str, default: &str) -> Option<String> {
        let entry = sim::entry(UnitId(Uuid::from_u128(1)), Digest::of("content", b"x"), |entry| {
            entry.settings.service_account = named.to_owned();
            entry.app.namespace = "shop".to_owned();
        });
        Acting::of(&entry, default, &Arc::default()).service_account()
    }

    #[test]
    fn a_unit_acts_as_the_account_it_names_else_as_the_default_one_of_its_namespace() {
        assert_eq!(acting("", ""), None);
        assert_eq!(acting("", "tenant").as_deref(), Some("shop/tenant"));
        assert_eq!(acting("deployer", "tenant").as_deref(), Some("shop/deployer"));
    }
}
