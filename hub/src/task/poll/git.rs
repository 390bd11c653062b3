//! What a GitRepository uses of other objects: Secrets, artifacts of other repositories, tokens of its provider. All of it is
//! of its own namespace, and of its own scope or the fleet's.

use std::collections::BTreeSet;

use flotilla_api::kinds::git_repository::{GitProvider, GitRepositorySpec};
use flotilla_core::source::{Failure, Remedy};
use reqwest::Url;

use crate::{
    artifact::ArtifactDigest,
    source::{
        git::{
            Credential, Include, REFUSE_REWRITES, Uses,
            signature::{Keys, Verification},
        },
        secret::SourceSecret,
        token::{Identity, TokenError},
    },
    store::{
        reference::Reference,
        resource::{FLEET, ResourceRow},
    },
    task::{Context, gather::values},
};

/// Repositories that are looked through for one that includes itself.
const MAX_INCLUDED: usize = 64;

/// What a spec names, read.
#[derive(Default)]
pub(super) struct Used {
    secret: Option<SourceSecret>,
    proxy: Option<SourceSecret>,
    verification: Option<Verification>,
    included: Vec<Include>,
    credential: Option<Credential>,
    refuses_rewrites: bool,
}

impl Used {
    pub(super) fn uses(&mut self) -> Uses<'_> {
        Uses {
            secret: self.secret.as_ref(),
            proxy: self.proxy.as_ref(),
            verification: self.verification.take(),
            included: std::mem::take(&mut self.included),
            credential: self.credential.take(),
            refuses_rewrites: self.refuses_rewrites,
        }
    }
}

/// Reads what a spec names; a failure where something of it is not there or cannot be used.
pub(super) async fn used(
    context: &Context,
    object: &ResourceRow,
    spec: &GitRepositorySpec,
) -> anyhow::Result<Result<Used, Failure>> {
    let mut used = Used {
        refuses_rewrites: object.annotations[REFUSE_REWRITES].as_str() == Some("enabled"),
        ..Used::default()
    };
    for (place, reference) in [
        (&mut used.secret, &spec.secret_ref),
        (&mut used.proxy, &spec.proxy_secret_ref),
    ] {
        if let Some(reference) = reference {
            match secret(context, object, reference.name.as_str(), "AuthenticationFailed").await? {
                Ok(secret) => *place = Some(secret),
                Err(failure) => return Ok(Err(failure)),
            }
        }
    }
    if let Some(verify) = &spec.verify {
        let secret = match secret(
            context,
            object,
            verify.secret_ref.name.as_str(),
            "VerificationError",
        )
        .await?
        {
            Ok(secret) => secret,
            Err(failure) => return Ok(Err(failure.of_signature())),
        };
        match Keys::read(&secret.values) {
            Ok(keys) => used.verification = Some(Verification::new(verify.mode, keys)),
            Err(error) => {
                let message = format!("secret '{}': {error}", secret.name);
                let failure = Failure::new("VerificationError", message, Remedy::Ask);
                return Ok(Err(failure.of_signature()));
            }
        }
    }
    match include(context, object, spec).await? {
        Ok(included) => used.included = included,
        Err(failure) => return Ok(Err(failure)),
    }
    match credential(context, spec, used.secret.as_ref()).await {
        Ok(credential) => used.credential = credential,
        Err(failure) => return Ok(Err(failure)),
    }
    Ok(Ok(used))
}

/// A token of the provider, where the spec names one.
async fn credential(
    context: &Context,
    spec: &GitRepositorySpec,
    secret: Option<&SourceSecret>,
) -> Result<Option<Credential>, Failure> {
    let invalid = |message: String| Failure::new("InvalidProviderConfiguration", message, Remedy::Ask);
    let identity = match spec.provider {
        GitProvider::Generic => return Ok(None),
        GitProvider::Github => {
            let secret = secret.ok_or_else(|| invalid("provider github needs a secretRef".into()))?;
            Identity::github(&secret.values)
                .map_err(|why| invalid(format!("secret '{}': {why}", secret.name)))?
        }
        GitProvider::Azure => Identity::azure_devops(),
        GitProvider::Aws => Identity::code_commit(),
    };
    let is_own = matches!(spec.provider, GitProvider::Azure | GitProvider::Aws);
    if is_own && spec.proxy_secret_ref.is_some() && secret.is_some_and(|secret| secret.ca().is_some()) {
        return Err(invalid(
            "a source with a proxy and a CA of its own is not shown the hub's own identity: drop proxySecretRef, or \
             the CA of secretRef"
                .into(),
        ));
    }
    let url = Url::parse(spec.url.as_str()).map_err(|error| invalid(error.to_string()))?;
    let credential = context.sources.tokens.credential(&identity, &url).await;
    credential.map(Some).map_err(|error| {
        if matches!(error, TokenError::Elsewhere { .. }) {
            return invalid(error.to_string());
        }
        let remedy = if error.is_passing() {
            Remedy::Retry
        } else {
            Remedy::Ask
        };
        Failure::new("AuthenticationFailed", error.to_string(), remedy)
    })
}

/// The artifacts that are included, as they are now. None is read: most looks find nothing new.
async fn include(
    context: &Context,
    object: &ResourceRow,
    spec: &GitRepositorySpec,
) -> anyhow::Result<Result<Vec<Include>, Failure>> {
    let mut included = Vec::new();
    if spec.include.is_empty() {
        return Ok(Ok(included));
    }
    if let Some(name) = includes_itself(context, object, spec).await? {
        let message = format!("the include of '{name}' leads back to this repository");
        return Ok(Err(Failure::new("IncludeUnavailable", message, Remedy::Ask)));
    }
    let unavailable = |reason: &str, message: String| Ok(Err(Failure::new(reason, message, Remedy::Retry)));
    for one in &spec.include {
        let name = one.repository.name.as_str();
        let named = |scope| Reference {
            kind: "GitRepository".into(),
            scope,
            namespace: object.namespace.clone(),
            name: name.to_owned(),
        };
        let mut found = context.store.named_source(&named(object.scope)).await?;
        if found.is_none() && has_the_fleets(context, object).await? {
            found = context.store.named_source(&named(FLEET)).await?;
        }
        let Some((_, revision)) = found else {
            let message = format!("could not get resource for include '{name}': it is not on the hub");
            return unavailable("NotFound", message);
        };
        let Some(revision) = revision else {
            return unavailable(
                "NoArtifact",
                format!("no artifact available for include '{name}'"),
            );
        };
        let Ok(digest) = ArtifactDigest::parse(&revision.artifact_digest) else {
            return unavailable(
                "NoArtifact",
                format!("no artifact available for include '{name}'"),
            );
        };
        let path = |path: Option<&flotilla_api::text::InnerPath>| path.map(|path| path.as_str().to_owned());
        included.push(Include {
            repository: name.to_owned(),
            from: path(one.from_path.as_ref()).unwrap_or_default(),
            to: path(one.to_path.as_ref())
                .filter(|path| !path.is_empty())
                .unwrap_or_else(|| name.to_owned()),
            artifact: digest,
        });
    }
    Ok(Ok(included))
}

/// The included repository by which this one includes itself: each new artifact would make another, without end.
async fn includes_itself(
    context: &Context,
    object: &ResourceRow,
    spec: &GitRepositorySpec,
) -> anyhow::Result<Option<String>> {
    let names = |spec: &GitRepositorySpec| {
        let included = spec.include.iter();
        included
            .map(|one| one.repository.name.as_str().to_owned())
            .collect::<Vec<_>>()
    };
    let mut seen = BTreeSet::new();
    let mut waiting: Vec<(String, String)> =
        names(spec).into_iter().map(|name| (name.clone(), name)).collect();
    while let Some((by, name)) = waiting.pop() {
        if name == object.name {
            return Ok(Some(by));
        }
        if seen.len() >= MAX_INCLUDED || !seen.insert(name.clone()) {
            continue;
        }
        let found = context
            .store
            .resource_by_name(object.scope, "GitRepository", &object.namespace, &name)
            .await?;
        let spec = found.and_then(|found| serde_json::from_value::<GitRepositorySpec>(found.spec).ok());
        let further = spec.map(|spec| names(&spec)).unwrap_or_default();
        waiting.extend(further.into_iter().map(|name| (by.clone(), name)));
    }
    Ok(None)
}

/// Whether what an object names may be the fleet's, where there is none of it in its own scope.
async fn has_the_fleets(context: &Context, object: &ResourceRow) -> anyhow::Result<bool> {
    Ok(object.scope != FLEET && context.store.has_the_fleets(object.uid).await?)
}

/// The Secret that a source names.
async fn secret(
    context: &Context,
    object: &ResourceRow,
    name: &str,
    reason: &str,
) -> anyhow::Result<Result<SourceSecret, Failure>> {
    let named = |scope| {
        let store = &context.store;
        store.resource_by_name(scope, "Secret", &object.namespace, name)
    };
    let mut found = named(object.scope).await?;
    if found.is_none() && has_the_fleets(context, object).await? {
        found = named(FLEET).await?;
    }
    let full = format!("{}/{name}", object.namespace);
    let Some(found) = found else {
        let message =
            format!("SecretNotOnHub: secret '{full}' is not on the hub; apply it with `flotilla apply`");
        return Ok(Err(Failure::new(reason, message, Remedy::Retry)));
    };
    Ok(Ok(SourceSecret {
        name: full,
        values: values(context, &found).await?,
    }))
}
