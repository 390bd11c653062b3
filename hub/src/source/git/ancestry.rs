//! Whether a commit that was fetched has a former one among its ancestors, or its branch was rewritten. Commits are fetched
//! without their history: where those that are here do not tell, the newer ones are asked for, back to the time of the former,
//! as commits alone where the server can leave the rest out, and thrown away again.

use std::{collections::HashSet, path::Path, sync::Arc, time::Duration};

use git2::{ObjectType, Oid};

use super::{CommitId, Fetcher, GitError, Remote, Resolved, fetch::Job, repository::Repository};

/// How much older than what it follows a commit may say that it is: clocks differ.
const SLACK: i64 = 24 * 3600;
/// Commits that are looked through.
const WALKED: usize = 100_000;
/// Bytes of a commit.
const COMMIT: usize = 1 << 20;
/// What asking for the newer commits may bring, in bytes. A commit has some hundred; a server that cannot leave files out gives
/// all that was pushed since a source was looked at last.
const BROUGHT: u64 = 64 << 20;
/// Has a server give commits without trees and files.
const COMMITS_ALONE: &str = "--filter=tree:0";
/// The ref that a look fetches to.
const LOOK: &str = "refs/flotilla/look";

/// What commits in a repository tell of two of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// The one is an ancestor of the other.
    Follows,
    /// It is none, and all ancestors are here.
    Unrelated,
    /// It is none of those that are here.
    NotHere,
    /// There are more than are looked through, or they cannot be read.
    Unknown,
}

impl Fetcher {
    /// Tells whether `former` is an ancestor of the commit that a probe has `resolved` and that was fetched. `None`: it cannot
    /// be told, since the server has forgotten the former commit, or gives too much.
    pub async fn follows(
        &self,
        remote: &Remote,
        resolved: Resolved,
        timeout: Duration,
        former: &CommitId,
    ) -> Result<Option<bool>, GitError> {
        let held = Arc::new(self.lock(remote).lock_owned().await);
        let job = Job {
            fetcher: self,
            home: remote,
            remote,
            resolved,
            timeout,
        };
        let _running = job.admitted().await?;
        let repository = job.repository(&held).await?;
        job.follows(&repository, former).await
    }
}

impl Job<'_> {
    async fn follows(&self, repository: &Repository, former: &CommitId) -> Result<Option<bool>, GitError> {
        match told(repository, &self.resolved.commit, former).await {
            Told::Follows => return Ok(Some(true)),
            Told::Unrelated => return Ok(Some(false)),
            Told::Unknown => return Ok(None),
            Told::NotHere => {}
        }
        let scratch = repository.scratch().await.map_err(|error| self.io(&error))?;
        let looked = self.look(repository, &scratch, former).await;
        scratch.discard().await.map_err(|error| self.io(&error))?;
        looked
    }

    /// Asks for the commits since the former one.
    async fn look(
        &self,
        repository: &Repository,
        scratch: &Repository,
        former: &CommitId,
    ) -> Result<Option<bool>, GitError> {
        let commit = &self.resolved.commit;
        let mut before = made_at(repository, former).await;
        if before.is_none() {
            // Another hub had fetched it. A server may have it still although no branch does.
            let own = Repository::own_commit_ref(former);
            let spec = format!("+{former}:{own}");
            let fetched = self.run_within(scratch, &[COMMITS_ALONE, "--depth=1"], &spec, BROUGHT);
            match fetched.await {
                Err(GitError::NotFound { .. } | GitError::TooLarge { .. }) => return Ok(None),
                fetched => fetched?,
            }
            before = made_at(scratch, former).await;
        }
        let Some((time, before)) = made_at(repository, commit).await.zip(before) else {
            return Ok(None);
        };
        let from = before.saturating_sub(SLACK);
        if time < from {
            // Nothing that is asked for would be as new.
            return Ok(Some(false));
        }
        let (since, spec) = (
            format!("--shallow-since=@{from} +0000"),
            format!("+{commit}:{LOOK}"),
        );
        match self
            .run_within(scratch, &[COMMITS_ALONE, &since], &spec, BROUGHT)
            .await
        {
            Err(GitError::NotFound { .. } | GitError::TooLarge { .. }) => return Ok(None),
            fetched => fetched?,
        }
        Ok(match told(scratch, commit, former).await {
            Told::Follows => Some(true),
            // What is not here is older than the former commit.
            Told::Unrelated | Told::NotHere => Some(false),
            Told::Unknown => None,
        })
    }
}

async fn told(repository: &Repository, commit: &CommitId, former: &CommitId) -> Told {
    let (commit, former) = (commit.clone(), former.clone());
    let told = repository.blocking(move |this| ancestry(this.directory(), &commit, &former));
    told.await.ok().and_then(Result::ok).unwrap_or(Told::Unknown)
}

/// When a commit was made, in seconds, as it says itself.
pub(super) async fn made_at(repository: &Repository, commit: &CommitId) -> Option<i64> {
    let commit = commit.clone();
    let read = repository.blocking(move |this| {
        let (odb, id) = (
            objects(this.directory()).ok()?,
            Oid::from_str(commit.as_str()).ok()?,
        );
        let object = read(&odb, id)?;
        // `committer Name <address> SECONDS ZONE`.
        let mut words = header(&object)
            .find_map(|line| line.strip_prefix("committer "))?
            .rsplit(' ');
        words.nth(1)?.parse().ok()
    });
    read.await.ok().flatten()
}

/// The objects of a repository. The library opens no repository that is marked as one that lacks some.
fn objects(directory: &Path) -> Result<git2::Odb<'static>, git2::Error> {
    let objects = git2::Odb::new()?;
    objects.add_disk_alternate(&directory.join("objects").to_string_lossy())?;
    Ok(objects)
}

/// Looks for a commit among the ancestors of another, the nearest first.
fn ancestry(directory: &Path, commit: &CommitId, former: &CommitId) -> Result<Told, git2::Error> {
    let odb = objects(directory)?;
    let (commit, former) = (Oid::from_str(commit.as_str())?, Oid::from_str(former.as_str())?);
    let (mut seen, mut nearest) = (HashSet::from([commit]), vec![commit]);
    let mut is_whole = true;
    while !nearest.is_empty() {
        let mut further = Vec::new();
        for id in nearest {
            if id == former {
                return Ok(Told::Follows);
            }
            let Some(parents) = parents(&odb, id) else {
                is_whole = false;
                continue;
            };
            further.extend(parents.into_iter().filter(|parent| seen.insert(*parent)));
            if seen.len() > WALKED {
                return Ok(Told::Unknown);
            }
        }
        nearest = further;
    }
    Ok(match is_whole {
        true => Told::Unrelated,
        false => Told::NotHere,
    })
}

/// The parents that a commit names; `None`: it is not here. Read by hand: of a commit that was fetched without its history
/// the library says that it has none.
fn parents(odb: &git2::Odb<'_>, id: Oid) -> Option<Vec<Oid>> {
    let object = read(odb, id)?;
    let parents = header(&object).filter_map(|line| Oid::from_str(line.strip_prefix("parent ")?).ok());
    Some(parents.collect())
}

/// A commit, unless it is larger than any honest one.
fn read<'o>(odb: &'o git2::Odb<'_>, id: Oid) -> Option<git2::OdbObject<'o>> {
    let (size, kind) = odb.read_header(id).ok()?;
    match kind == ObjectType::Commit && size <= COMMIT {
        true => odb.read(id).ok(),
        false => None,
    }
}

/// The lines above a commit's message.
fn header<'o>(object: &'o git2::OdbObject<'_>) -> impl Iterator<Item = &'o str> {
    let lines = object.data().split(|byte| *byte == b'\n');
    let lines = lines.take_while(|line| !line.is_empty());
    lines.filter_map(|line| std::str::from_utf8(line).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commits of a new repository, each with the parents at these places.
    fn commits(repository: &git2::Repository, parents: &[&[usize]]) -> Vec<CommitId> {
        let tree = repository.treebuilder(None).and_then(|tree| tree.write());
        let tree = repository.find_tree(tree.expect("written")).expect("a tree");
        let mut ids: Vec<Oid> = Vec::new();
        for (number, parents) in parents.iter().enumerate() {
            let time = git2::Time::new(1_700_000_000, 0);
            let author = git2::Signature::new("a", "a@example.com", &time).expect("a signature");
            let found = parents
                .iter()
                .map(|at| repository.find_commit(ids[*at]).expect("made"));
            let found: Vec<git2::Commit<'_>> = found.collect();
            let found: Vec<&git2::Commit<'_>> = found.iter().collect();
            let made = repository.commit(None, &author, &author, &number.to_string(), &tree, &found);
            ids.push(made.expect("committed"));
        }
        let ids = ids
            .iter()
            .map(|id| CommitId::parse(&id.to_string()).expect("an id"));
        ids.collect()
    }

    #[test]
    fn ancestors_are_found_through_merges_and_what_is_missing_is_told_from_what_is_unrelated() {
        let place = tempfile::tempdir().expect("a directory");
        let repository = git2::Repository::init_bare(place.path()).expect("made");
        // 3 merges 1 and 2, which both follow 0; 4 has no parent; 5 follows 4.
        let ids = commits(&repository, &[&[], &[0], &[0], &[1, 2], &[], &[4]]);
        let told = |commit: usize, former: usize| ancestry(place.path(), &ids[commit], &ids[former]);
        for (commit, former, expected) in [
            (3, 0, Told::Follows),
            (3, 2, Told::Follows),
            (3, 3, Told::Follows),
            (2, 1, Told::Unrelated),
            (0, 3, Told::Unrelated),
            (5, 3, Told::Unrelated),
        ] {
            assert_eq!(told(commit, former), Ok(expected), "{commit} after {former}");
        }
        // Without its history nothing is said of what came before.
        let id = ids[4].as_str();
        std::fs::remove_file(place.path().join("objects").join(&id[..2]).join(&id[2..])).expect("removed");
        assert_eq!(told(5, 3), Ok(Told::NotHere));
        assert_eq!(told(5, 4), Ok(Told::Follows), "its id is known");
    }
}
