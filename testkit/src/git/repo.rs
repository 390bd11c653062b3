//! Writing to a bare repository: commits, branches and tags, without a clone.
//!
//! Times are counted, not read: the same calls in the same order make the same commits.

use std::path::{Component, Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::RigError;

const AUTHOR: &str = "Testkit <testkit@example.com>";
/// When the first commit of a repository is made, in seconds since 1970; each later one a second after.
const FIRST_COMMIT: u64 = 1_700_000_000;

/// A bare repository of a [`super::GitServer`].
#[derive(Debug)]
pub struct GitRepo {
    name: String,
    path: PathBuf,
    home: PathBuf,
    commits: AtomicU64,
}

/// A commit in the making.
#[derive(Debug)]
pub struct Change<'a> {
    repo: &'a GitRepo,
    branch: String,
    rewrite: bool,
    stream: Vec<u8>,
}

impl GitRepo {
    pub(super) async fn create(root: &Path, home: &Path, name: &str) -> Result<Self, RigError> {
        let inside = Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        if !inside || !name.ends_with(".git") {
            return Err(RigError::Invalid(format!(
                "{name} is no name of a repository, such as app.git"
            )));
        }
        let path = root.join(name);
        std::fs::create_dir_all(&path).map_err(RigError::io("make", &path))?;
        let repo = Self {
            name: name.to_owned(),
            path,
            home: home.to_owned(),
            commits: AtomicU64::new(0),
        };
        repo.git(&["init", "--quiet", "--bare", "--initial-branch=main"], &[])
            .await?;
        // A server serves any commit by its id, and parts of history, as the large hosts do.
        repo.git(&["config", "uploadpack.allowAnySHA1InWant", "true"], &[])
            .await?;
        repo.git(&["config", "uploadpack.allowFilter", "true"], &[])
            .await?;
        Ok(repo)
    }

    /// Its name, as URLs have it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The bare repository's folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes files on top of a branch, making it if need be, and returns the commit's id.
    ///
    /// # Errors
    /// [`RigError::Command`] when Git refuses it.
    pub async fn commit<P: AsRef<str>, C: AsRef<[u8]>>(
        &self,
        branch: &str,
        files: &[(P, C)],
        message: &str,
    ) -> Result<String, RigError> {
        let change = files.iter().fold(self.change(branch), |change, (path, content)| {
            change.write(path.as_ref(), content.as_ref())
        });
        change.commit(message).await
    }

    /// Begins a commit on top of a branch.
    #[must_use]
    pub fn change(&self, branch: &str) -> Change<'_> {
        Change {
            repo: self,
            branch: branch.to_owned(),
            rewrite: false,
            stream: Vec::new(),
        }
    }

    /// Begins a commit without a parent that takes a branch's place, as a force-push does.
    #[must_use]
    pub fn rewrite(&self, branch: &str) -> Change<'_> {
        Change {
            rewrite: true,
            ..self.change(branch)
        }
    }

    /// The id a branch, tag or other name stands for; `None` when there is none.
    ///
    /// # Errors
    /// When Git cannot be run.
    pub async fn resolve(&self, name: &str) -> Result<Option<String>, RigError> {
        match self.git(&["rev-parse", "--quiet", "--verify", name], &[]).await {
            Ok(id) => Ok(Some(id)),
            Err(RigError::Command { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a branch point at a commit, or moves it there.
    ///
    /// # Errors
    /// [`RigError::Command`] when there is no such commit.
    pub async fn set_branch(&self, branch: &str, commit: &str) -> Result<(), RigError> {
        self.git(&["update-ref", &format!("refs/heads/{branch}"), commit], &[])
            .await
            .map(drop)
    }

    /// Removes a branch.
    ///
    /// # Errors
    /// [`RigError::Command`] when Git refuses it.
    pub async fn delete_branch(&self, branch: &str) -> Result<(), RigError> {
        self.git(&["update-ref", "-d", &format!("refs/heads/{branch}")], &[])
            .await
            .map(drop)
    }

    /// Tags a commit, annotated when there is a message, moving the tag when it exists.
    ///
    /// # Errors
    /// [`RigError::Command`] when there is no such commit.
    pub async fn tag(&self, name: &str, target: &str, message: Option<&str>) -> Result<(), RigError> {
        let mut args = vec!["tag", "--force"];
        args.extend(
            message
                .into_iter()
                .flat_map(|message| ["--annotate", "--message", message]),
        );
        args.extend([name, target]);
        self.git(&args, &[]).await.map(drop)
    }

    /// Removes a tag.
    ///
    /// # Errors
    /// [`RigError::Command`] when there is none.
    pub async fn delete_tag(&self, name: &str) -> Result<(), RigError> {
        self.git(&["tag", "--delete", name], &[]).await.map(drop)
    }

    /// Runs Git in the repository and returns what it printed.
    async fn git(&self, args: &[&str], input: &[u8]) -> Result<String, RigError> {
        let missing = || RigError::MissingProgram {
            program: "git".to_owned(),
            install: "install Debian's package git".to_owned(),
        };
        let time = format!("{} +0000", FIRST_COMMIT + self.commits.load(Ordering::Relaxed));
        let mut child = Command::new("git")
            .args(args)
            .current_dir(&self.path)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("HOME", &self.home)
            .env("GIT_DIR", &self.path)
            .env("GIT_COMMITTER_NAME", "Testkit")
            .env("GIT_COMMITTER_EMAIL", "testkit@example.com")
            .env("GIT_COMMITTER_DATE", time)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|_| missing())?;
        if let Some(mut pipe) = child.stdin.take() {
            // When Git stops reading, its exit status says why.
            let _ = pipe.write_all(input).await;
        }
        let output = child
            .wait_with_output()
            .await
            .map_err(RigError::io("run git in", &self.path))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        let command = format!("git {}", args.first().copied().unwrap_or_default());
        Err(RigError::Command {
            command,
            output: text(&output.stderr),
        })
    }
}

impl Change<'_> {
    /// Writes a file.
    #[must_use]
    pub fn write(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.put("100644", path, content.as_ref())
    }

    /// Writes a file that may be run.
    #[must_use]
    pub fn executable(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.put("100755", path, content.as_ref())
    }

    /// Makes a symbolic link.
    #[must_use]
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.put("120000", path, target.as_bytes())
    }

    /// Removes a file, or a folder with all in it.
    #[must_use]
    pub fn delete(mut self, path: &str) -> Self {
        self.stream.extend(format!("D {}\n", quote(path)).bytes());
        self
    }

    /// Commits and returns the commit's id.
    ///
    /// # Errors
    /// [`RigError::Command`] when Git refuses it.
    pub async fn commit(self, message: &str) -> Result<String, RigError> {
        let reference = format!("refs/heads/{}", self.branch);
        let parent = if self.rewrite {
            None
        } else {
            self.repo.resolve(&reference).await?
        };
        let time = FIRST_COMMIT + self.repo.commits.fetch_add(1, Ordering::Relaxed);
        let mut stream =
            format!("commit {reference}\nmark :1\ncommitter {AUTHOR} {time} +0000\n").into_bytes();
        stream.extend(data(message.as_bytes()));
        stream.extend(
            parent
                .into_iter()
                .flat_map(|parent| format!("from {parent}\n").into_bytes()),
        );
        stream.extend(&self.stream);
        stream.extend(b"\nget-mark :1\ndone\n");
        self.repo
            .git(&["fast-import", "--quiet", "--force", "--done"], &stream)
            .await
    }

    fn put(mut self, mode: &str, path: &str, content: &[u8]) -> Self {
        self.stream
            .extend(format!("M {mode} inline {}\n", quote(path)).bytes());
        self.stream.extend(data(content));
        self
    }
}

fn data(content: &[u8]) -> Vec<u8> {
    let mut block = format!("data {}\n", content.len()).into_bytes();
    block.extend(content);
    block.push(b'\n');
    block
}

/// A path as the stream's grammar wants it where it holds more than plain characters.
fn quote(path: &str) -> String {
    let escaped = path
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    format!("\"{escaped}\"")
}
