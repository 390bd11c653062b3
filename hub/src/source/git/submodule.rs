//! Submodules: where their repositories are, as `.gitmodules` and the tree say it. They are fetched from the server of the
//! repository itself, with its credentials, and from no other.

use flotilla_core::source::gitmodules::urls;
use reqwest::Url;

use super::{
    CommitId, CommitTree, GitError, Remote, TreeError,
    remote::shown,
    tree::{Gitlink, Kind},
};

/// Where they are described.
const FILE: &str = ".gitmodules";
/// Bytes of that file.
const MAX_FILE: u64 = 256 << 10;
/// Submodules of a repository, those within others included.
pub const MAX_MODULES: usize = 64;
/// Submodules within one another.
pub const MAX_DEPTH: usize = 8;

/// A submodule of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Its place in the tree.
    pub path: String,
    /// The commit that belongs there.
    pub commit: CommitId,
    /// Its repository's URL, as it is written.
    pub url: String,
}

/// Lists the submodules of a tree. A place that `.gitmodules` does not describe is passed over, as an empty one.
pub fn modules(tree: &CommitTree) -> Result<Vec<Module>, TreeError> {
    let (entries, links) = tree.listing()?;
    if links.is_empty() {
        return Ok(Vec::new());
    }
    if links.len() > MAX_MODULES {
        return Err(too_many());
    }
    let file = entries.iter().find_map(|entry| match entry.kind {
        Kind::File { id, .. } if entry.path == FILE => Some(id),
        _ => None,
    });
    let Some(id) = file else {
        return Ok(Vec::new());
    };
    if tree.size(id)? > MAX_FILE {
        return Err(TreeError::TooLarge {
            what: "the size of .gitmodules",
            limit: format!("{} KiB", MAX_FILE >> 10),
        });
    }
    let text = tree.read(id)?;
    let urls = urls(&String::from_utf8_lossy(&text));
    let described = |link: Gitlink| {
        let url = urls.get(&link.path)?.clone();
        Some(Module {
            path: link.path,
            commit: link.commit,
            url,
        })
    };
    Ok(links.into_iter().filter_map(described).collect())
}

/// There are more than are fetched.
pub(super) fn too_many() -> TreeError {
    TreeError::TooLarge {
        what: "the number of submodules",
        limit: MAX_MODULES.to_string(),
    }
}

/// The remote of a submodule; an error where it is on another server.
pub fn remote_of(parent: &Remote, module: &Module) -> Result<Remote, GitError> {
    let refused = |detail: String| GitError::Refused {
        url: parent.shown(),
        detail: format!("the submodule '{}' {detail}", module.path),
    };
    let Some(url) = resolved(parent.url(), &module.url) else {
        return Err(refused("has a url that cannot be read".into()));
    };
    parent.sibling(url.clone()).ok_or_else(|| {
        refused(format!(
            "is at '{}', on another server, where the credentials of this one must not go: include it as a GitRepository \
             of its own with spec.include",
            shown(&url)
        ))
    })
}

/// Resolves a URL of `.gitmodules`: absolute, relative to the repository's, or `user@host:path`.
fn resolved(parent: &Url, url: &str) -> Option<Url> {
    if url.starts_with("./") || url.starts_with("../") {
        let mut base = parent.clone();
        base.set_query(None);
        let mut path: Vec<&str> = parent.path().trim_matches('/').split('/').collect();
        let mut rest = url;
        loop {
            if let Some(after) = rest.strip_prefix("../") {
                // Above the root there is nothing.
                path.pop()?;
                rest = after;
            } else if let Some(after) = rest.strip_prefix("./") {
                rest = after;
            } else {
                break;
            }
        }
        path.push(rest);
        base.set_path(&format!("/{}", path.join("/")));
        return Some(base);
    }
    if url.contains("://") {
        return Url::parse(url).ok();
    }
    let (host, path) = url.split_once(':')?;
    Url::parse(&format!("ssh://{host}/{}", path.trim_start_matches('/'))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_submodules_are_resolved_against_the_repository() {
        let parent = Url::parse("https://h/team/app.git").expect("a URL");
        for (url, expected) in [
            ("../lib.git", Some("https://h/team/lib.git")),
            ("../../other/lib", Some("https://h/other/lib")),
            ("./sub", Some("https://h/team/app.git/sub")),
            ("https://x/y", Some("https://x/y")),
            ("git@h:team/lib.git", Some("ssh://git@h/team/lib.git")),
            ("../../../x", None),
            ("/etc/passwd", None),
        ] {
            assert_eq!(
                resolved(&parent, url).as_ref().map(Url::as_str),
                expected,
                "{url}"
            );
        }
    }

    #[test]
    fn a_submodule_on_another_server_is_refused_with_its_place() {
        let parent = Remote::new("https://h/team/app.git", None, None).expect("a remote");
        let module = |url: &str| Module {
            path: "libs/x".into(),
            commit: CommitId::none(),
            url: url.to_owned(),
        };
        let sibling = remote_of(&parent, &module("../x.git")).map(|remote| remote.shown());
        assert_eq!(sibling.ok().as_deref(), Some("https://h/team/x.git"));
        for url in [
            "https://u:canary@evil/x",
            "git@h:team/x",
            "http://h/x",
            "file:///etc",
        ] {
            let error = remote_of(&parent, &module(url)).expect_err("refused").to_string();
            assert!(error.contains("'libs/x'") && !error.contains("canary"), "{error}");
        }
    }
}
