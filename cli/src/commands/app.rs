//! An app as arguments name it.

use flotilla_api::Kind;
use flotilla_proto::fleet::v1::ResourceRef;

/// An app as messages name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct App {
    kind: Kind,
    namespace: Option<String>,
    name: String,
}

impl App {
    pub(crate) fn reference(&self, namespace: &str) -> ResourceRef {
        ResourceRef {
            scope: String::new(),
            group: self.kind.group().to_owned(),
            kind: self.kind.name().to_owned(),
            namespace: self.namespace.as_deref().unwrap_or(namespace).to_owned(),
            name: self.name.clone(),
        }
    }
}

/// Reads it.
pub(crate) fn app(text: &str) -> Result<App, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let (kind, namespace, name) = match parts[..] {
        [kind, name] => (kind, None, name),
        [kind, namespace, name] => (kind, Some(namespace.to_owned()), name),
        _ => return Err("it is not of the form KIND/NAME or KIND/NAMESPACE/NAME".to_owned()),
    };
    let kind = Kind::from_word(kind)
        .filter(|kind| kind.is_app())
        .ok_or_else(|| format!("{kind} is no kind of app: Kustomization or HelmRelease"))?;
    if name.is_empty() || namespace.as_deref() == Some("") {
        return Err("a name is empty".to_owned());
    }
    Ok(App {
        kind,
        namespace,
        name: name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_named_as_in_messages_or_in_the_namespace_of_the_command() {
        let whole = app("Kustomization/apps/web")
            .expect("read")
            .reference("flux-system");
        assert_eq!(
            (whole.kind.as_str(), whole.namespace.as_str(), whole.name.as_str()),
            ("Kustomization", "apps", "web")
        );
        let short = app("ks/web").expect("read").reference("flux-system");
        assert_eq!(
            (short.namespace.as_str(), short.name.as_str()),
            ("flux-system", "web")
        );
        for bad in ["web", "ks/", "ks//web", "Placement/a/b", "ks/a/b/c"] {
            assert!(app(bad).is_err(), "{bad}");
        }
    }
}
