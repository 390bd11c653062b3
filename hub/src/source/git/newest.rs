//! Of several tags of one version, such as `1.0.0+b1` and `1.0.0+b2`, the newest: as Flux decides, the one whose commit was
//! made last. Names do not tell; the commits are fetched, once.

use std::{sync::Arc, time::Duration};

use super::{
    Fetcher, GitError, Remote, Resolved, ancestry::made_at, fetch::Job, listing::Target,
    repository::Repository,
};

impl Fetcher {
    /// Decides between the tags that a probe has found. Of two commits of one time the tag with the greater name is taken.
    pub async fn newest(
        &self,
        remote: &Remote,
        mut resolved: Resolved,
        timeout: Duration,
    ) -> Result<Resolved, GitError> {
        if resolved.others.is_empty() {
            return Ok(resolved);
        }
        let mut tags = std::mem::take(&mut resolved.others);
        tags.push(Target {
            reference: resolved.reference.clone(),
            commit: resolved.commit.clone(),
            object: resolved.object.clone(),
        });
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
        let mut newest: Option<((Option<i64>, String), Target)> = None;
        for tag in tags {
            let name = tag.reference.full_name().unwrap_or_default();
            if !repository.has(&tag.commit).await {
                // The tag, not its commit: it is what the server lists, and so what it gives.
                let spec = format!("+{}:{}", tag.object, Repository::own_ref(&name));
                job.run(&repository, &["--depth=1"], &spec).await?;
            }
            let rank = (made_at(&repository, &tag.commit).await, name);
            if newest.as_ref().is_none_or(|(best, _)| *best < rank) {
                newest = Some((rank, tag));
            }
        }
        Ok(match newest {
            Some((_, tag)) => job.resolved.clone().choose(tag),
            None => job.resolved.clone(),
        })
    }
}
