//! Git over SSH: what a Secret says of it, and the OpenSSH client that the git program starts. The client reads no
//! configuration and asks no agent; the server must be one of `known_hosts`; key and hosts lie in files of one run, in a
//! directory that only the hub's user may enter and that is removed after it.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Url;
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::{GitError, Remote};

/// Directories of runs begin so; one that is there although nothing runs was left by a crash.
pub(super) const PRIVATE: &str = "flotilla-run-";
/// The user where the URL names none, as in Flux.
const USER: &str = "git";
/// What prints the passphrase, where `ssh` asks for it.
const ASKPASS: &str = "#!/bin/sh\nexec cat \"${0%/*}/passphrase\"\n";

/// What a Secret says of SSH.
#[derive(Clone, PartialEq, Eq)]
pub struct SshIdentity {
    /// The private key, in any form that OpenSSH reads.
    pub key: Zeroizing<String>,
    /// What the key is encrypted with.
    pub passphrase: Option<Zeroizing<String>>,
    /// The keys that servers must have.
    pub known_hosts: String,
}

/// Files of one run of a program: gone when this is.
pub(super) struct Private {
    directory: TempDir,
}

impl Private {
    /// Makes a directory below `parent` that only this user may enter.
    pub(super) fn below(parent: &Path) -> io::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix(PRIVATE)
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(parent)?;
        Ok(Self { directory })
    }

    /// Writes a file that only this user may read, and tells where.
    pub(super) fn write(&self, name: &str, bytes: &[u8], mode: u32) -> io::Result<String> {
        let path = self.directory.path().join(name);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)?;
        file.write_all(bytes)?;
        let text = path.into_os_string().into_string();
        text.map_err(|_| io::Error::other("the data directory's path is not UTF-8"))
    }
}

/// How the git program is to start the client.
pub(super) struct SshCommand {
    /// The client with its options, for a shell.
    pub(super) command: String,
    /// What is to stand in its environment.
    pub(super) environment: Vec<(&'static str, String)>,
}

impl SshIdentity {
    /// Writes the files and makes the command for a server at `url`, which has this address.
    pub(super) fn command(
        &self,
        private: &Private,
        url: &Url,
        address: Option<std::net::IpAddr>,
        timeout: Duration,
    ) -> io::Result<SshCommand> {
        let key = Zeroizing::new(format!("{}\n", self.key.replace("\r\n", "\n").trim_end()));
        let key = private.write("identity", key.as_bytes(), 0o600)?;
        let hosts = private.write(
            "known_hosts",
            format!("{}\n", self.known_hosts.trim_end()).as_bytes(),
            0o600,
        )?;
        let mut environment = Vec::new();
        if let Some(passphrase) = &self.passphrase {
            private.write("passphrase", passphrase.as_bytes(), 0o600)?;
            let askpass = private.write("askpass", ASKPASS.as_bytes(), 0o700)?;
            environment.push(("SSH_ASKPASS", askpass));
            environment.push(("SSH_ASKPASS_REQUIRE", "force".to_owned()));
        }
        let seconds = timeout.as_secs().clamp(1, 30);
        let mut options = vec![
            format!("IdentityFile={}", spaced(&key)),
            format!("UserKnownHostsFile={}", spaced(&hosts)),
            format!("ConnectTimeout={seconds}"),
            // A passphrase is asked for, and nothing else ever.
            format!(
                "BatchMode={}",
                if self.passphrase.is_some() { "no" } else { "yes" }
            ),
        ];
        options.extend(
            [
                "GlobalKnownHostsFile=/dev/null",
                "StrictHostKeyChecking=yes",
                "UpdateHostKeys=no",
                "CheckHostIP=no",
                "IdentitiesOnly=yes",
                "IdentityAgent=none",
                "AddKeysToAgent=no",
                "PreferredAuthentications=publickey",
                "PasswordAuthentication=no",
                "KbdInteractiveAuthentication=no",
                "NumberOfPasswordPrompts=1",
                "ForwardAgent=no",
                "ClearAllForwardings=yes",
                "PermitLocalCommand=no",
                "ControlMaster=no",
                "ControlPath=none",
                "ProxyCommand=none",
                "CanonicalizeHostname=no",
                "ServerAliveInterval=10",
                "ServerAliveCountMax=3",
                "LogLevel=ERROR",
            ]
            .map(str::to_owned),
        );
        if let Some(address) = address {
            options.push(format!("HostName={address}"));
            options.push(format!("HostKeyAlias={}", known_as(url)));
        }
        let options = options.iter().map(|option| format!(" -o {}", quoted(option)));
        Ok(SshCommand {
            command: format!("ssh -F /dev/null{}", options.collect::<String>()),
            environment,
        })
    }
}

/// The name under which `known_hosts` has a server.
fn known_as(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match url.port() {
        None | Some(22) => host.to_owned(),
        Some(port) => format!("[{host}]:{port}"),
    }
}

/// A path in an option that takes several.
fn spaced(path: &str) -> String {
    format!("\"{path}\"")
}

/// A word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Why a URL is none for SSH. Neither its user nor its host may be read as something else by a shell or a program.
pub(super) fn refused(url: &Url) -> Option<&'static str> {
    let is_plain = |text: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'+');
        !text.starts_with('-') && text.bytes().all(fits)
    };
    let host = url.host_str().unwrap_or_default();
    let is_v6 = host.starts_with('[') && host.ends_with(']') && super::super::egress::literal(url).is_some();
    match () {
        () if host.is_empty() || !(is_v6 || is_plain(host)) => Some("its host is none"),
        () if !is_plain(url.username()) => Some("its user name is none"),
        () if url.password().is_some() => Some("a password has no place in it"),
        () if url.query().is_some() || url.fragment().is_some() => Some("it has a query or a fragment"),
        () if url.path().len() < 2 => Some("it names no repository"),
        () => None,
    }
}

/// Sets the user, where the URL names none.
pub(super) fn with_user(mut url: Url) -> Url {
    if url.username().is_empty() {
        // Fails only for URLs without a host.
        let _ = url.set_username(USER);
    }
    url
}

/// Judges what the client says (in the C locale); `None`: it is git that failed.
pub(super) fn judged(remote: &Remote, said: &str) -> Option<GitError> {
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let url = remote.shown();
    let local = |detail: &str| GitError::Local {
        url: remote.shown(),
        detail: detail.to_owned(),
    };
    Some(if says(&["Host key verification failed"]) {
        GitError::HostKey { url }
    } else if says(&["incorrect passphrase"]) {
        GitError::Identity {
            url,
            detail: "'password' does not decrypt it",
        }
    } else if says(&["Load key"]) {
        GitError::Identity {
            url,
            detail: "OpenSSH cannot read it",
        }
    } else if says(&["Permission denied (", "Too many authentication failures"]) {
        let is_encrypted = remote.ssh().is_some_and(|identity| identity.passphrase.is_some());
        GitError::Auth {
            url,
            // The client does not tell the one from the other.
            detail: match is_encrypted {
                true => "the server refused the ssh key, or 'password' does not decrypt it",
                false => "the server refused the ssh key",
            },
        }
    } else if says(&[
        "Repository not found",
        "does not appear to be a git repository",
        "could not be found",
        "repository does not exist",
    ]) {
        GitError::RepositoryNotFound { url }
    } else if says(&["No user exists for uid"]) {
        local("ssh needs the hub's user to have an entry in /etc/passwd")
    } else if says(&["ssh: not found", "cannot run ssh", "ssh: command not found"]) {
        local("the ssh program is missing: install openssh-client")
    } else {
        return None;
    })
}

/// Removes the files of runs that a crash has left; before anything runs.
pub(super) fn remove_left(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PRIVATE) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Whether a private key can be read only with a passphrase.
pub fn is_encrypted(key: &str) -> bool {
    if key.contains("BEGIN ENCRYPTED PRIVATE KEY") || key.contains("Proc-Type: 4,ENCRYPTED") {
        return true;
    }
    let lines = key
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("-----"));
    let Ok(bytes) = STANDARD.decode(lines.collect::<String>()) else {
        return false;
    };
    // After the mark comes the name of the cipher, with its length before it.
    let cipher = bytes.strip_prefix(b"openssh-key-v1\0");
    cipher.is_some_and(|rest| !rest.starts_with(b"\0\0\0\x04none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(passphrase: Option<&str>) -> SshIdentity {
        SshIdentity {
            key: Zeroizing::new("canary-key\r\n".into()),
            passphrase: passphrase.map(|text| Zeroizing::new(text.to_owned())),
            known_hosts: "h ssh-ed25519 AAAA".into(),
        }
    }

    #[test]
    fn ssh_files_are_private_to_the_run_and_gone_after_it() {
        let place = tempfile::tempdir().expect("a directory");
        let private = Private::below(place.path()).expect("made");
        let url = Url::parse("ssh://git@h:2222/r.git").expect("a URL");
        let identity = identity(Some("canary"));
        let command = identity.command(&private, &url, "10.0.0.1".parse().ok(), Duration::from_secs(5));
        let command = command.expect("written");
        let directory = private.directory.path().to_owned();
        for (name, mode) in [
            ("identity", 0o600),
            ("known_hosts", 0o600),
            ("passphrase", 0o600),
            ("askpass", 0o700),
        ] {
            let metadata = fs::metadata(directory.join(name)).expect("written");
            assert_eq!(metadata.permissions().mode() & 0o777, mode, "{name}");
        }
        let mode = fs::metadata(&directory)
            .expect("a directory")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
        assert_eq!(
            fs::read(directory.join("identity")).expect("read"),
            b"canary-key\n"
        );
        for option in [
            "'HostName=10.0.0.1'",
            "'HostKeyAlias=[h]:2222'",
            "'BatchMode=no'",
            "-F /dev/null",
        ] {
            assert!(command.command.contains(option), "{}", command.command);
        }
        assert!(!command.command.contains("canary"));
        drop(private);
        assert!(!directory.exists());
    }

    #[test]
    fn what_ssh_says_is_judged_by_what_helps() {
        let url = "ssh://git@h/r.git";
        let remote =
            Remote::new(url, Some(super::super::Credential::Ssh(identity(None))), None).expect("a remote");
        for (said, expected) in [
            (
                "No ED25519 host key is known for h and you have requested strict checking.\nHost key verification failed.",
                "'known_hosts'",
            ),
            (
                "Load key \"x\": incorrect passphrase supplied to decrypt private key\ngit@h: Permission denied (publickey).",
                "'password' does not",
            ),
            (
                "Load key \"x\": error in libcrypto\ngit@h: Permission denied (publickey).",
                "OpenSSH cannot read it",
            ),
            (
                "git@h: Permission denied (publickey,password).",
                "refused the ssh key",
            ),
            (
                "ERROR: Repository not found.\nfatal: Could not read from remote repository.",
                "repository not found",
            ),
            (
                "fatal: '/x' does not appear to be a git repository",
                "repository not found",
            ),
            ("ssh: not found", "openssh-client"),
        ] {
            let error = judged(&remote, said).map(|error| error.to_string());
            assert!(
                error.as_ref().is_some_and(|error| error.contains(expected)),
                "{said}: {error:?}"
            );
        }
        assert!(judged(&remote, "ssh: connect to host h port 22: Connection refused").is_none());
    }

    #[test]
    fn what_a_crash_has_left_is_removed() {
        let place = tempfile::tempdir().expect("a directory");
        let left = place.path().join(format!("{PRIVATE}x"));
        fs::create_dir(&left).expect("made");
        fs::write(left.join("identity"), "canary").expect("written");
        fs::create_dir(place.path().join("r.git")).expect("made");
        remove_left(place.path());
        let names = fs::read_dir(place.path())
            .expect("read")
            .flatten()
            .map(|entry| entry.file_name());
        assert_eq!(names.collect::<Vec<_>>(), ["r.git"]);
    }

    #[test]
    fn no_part_of_an_ssh_url_is_read_as_something_else() {
        let refused = |url: &str| Url::parse(url).map_or(Some("no URL"), |url| refused(&url));
        for url in [
            "ssh://git@git.example.org/a/b.git",
            "ssh://h:22/r",
            "ssh://git@[::1]:22/r",
            "ssh://a_b@10.0.0.1/r",
        ] {
            assert_eq!(refused(url), None, "{url}");
        }
        for url in [
            "ssh://-oProxyCommand=x/r",
            "ssh://git@-h/r",
            "ssh://-l@h/r",
            "ssh://git:p@h/r",
            "ssh://h/r?x=1",
            "ssh://h",
            "ssh:///r",
            "ssh://a%24(b)@h/r",
        ] {
            assert!(refused(url).is_some(), "{url} was taken");
        }
    }

    #[test]
    fn an_encrypted_key_is_known_in_each_form() {
        let openssh = |cipher: &str| {
            let mut bytes = b"openssh-key-v1\0\0\0\0".to_vec();
            bytes.push(u8::try_from(cipher.len()).expect("short"));
            bytes.extend_from_slice(cipher.as_bytes());
            format!(
                "-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----\n",
                STANDARD.encode(bytes)
            )
        };
        assert!(is_encrypted(&openssh("aes256-ctr")) && !is_encrypted(&openssh("none")));
        assert!(is_encrypted("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA"));
        assert!(is_encrypted(
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"
        ));
        assert!(!is_encrypted("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n") && !is_encrypted(""));
    }
}
