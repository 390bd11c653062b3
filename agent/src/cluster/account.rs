//! On whose behalf a cluster is asked.

/// The identity that requests are made with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Account {
    /// The agent itself.
    #[default]
    Agent,
    /// A ServiceAccount of the cluster, impersonated: the API server judges each request by its rights.
    ServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl Account {
    /// Returns the user that is impersonated; `None` for the agent itself.
    ///
    /// The API server adds the groups of a ServiceAccount by itself when a request names none, so a right to
    /// impersonate groups is not needed.
    pub fn user(&self) -> Option<String> {
        match self {
            Self::Agent => None,
            Self::ServiceAccount { namespace, name } => {
                Some(format!("system:serviceaccount:{namespace}:{name}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_account_is_impersonated_by_its_user_name() {
        let account = Account::ServiceAccount {
            namespace: "team".into(),
            name: "deployer".into(),
        };
        assert_eq!(
            account.user().as_deref(),
            Some("system:serviceaccount:team:deployer")
        );
        assert_eq!(Account::Agent.user(), None);
    }
}
