//! The hub as a process with its private Postgres, and the command line pointed at it.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, bail};
use flotilla_testkit::{Tool, tool, wait_until};
use flotilla_yaml::Limits;
use serde_json::Value;

use crate::{
    command_line::CommandLine,
    disk::SmallDisk,
    program::{Program, built},
};

/// What a cluster needs to join.
#[derive(Debug, Clone)]
pub struct Join {
    /// Single-use token.
    pub token: String,
    /// `https://host:port`.
    pub endpoint: String,
    /// `sha256:…`
    pub pins: Vec<String>,
    /// Trust domain.
    pub trust_domain: String,
}

/// A running hub.
pub struct HubProcess {
    program: Option<Program>,
    dir: PathBuf,
    kustomize: PathBuf,
    listen: String,
    http_listen: String,
    health_listen: String,
    options: Vec<String>,
    /// Where artifacts are, when that is not where the rest is.
    artifacts: Option<SmallDisk>,
}

impl HubProcess {
    /// Starts a hub whose data is in `dir`.
    pub async fn start(dir: &Path) -> anyhow::Result<Self> {
        Self::start_with(dir, &[]).await
    }

    /// Starts a hub whose data is in `dir`, with further options.
    pub async fn start_with(dir: &Path, options: &[&str]) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let kustomize = tool(Tool::Kustomize).await?;
        let mut hub = Self {
            program: None,
            dir: dir.to_owned(),
            kustomize,
            listen: free_address()?,
            http_listen: free_address()?,
            health_listen: free_address()?,
            options: options.iter().map(|&option| option.to_owned()).collect(),
            artifacts: None,
        };
        hub.resume().await?;
        Ok(hub)
    }

    /// Starts it again with its artifacts on a disk of this size, as `512k`. Needs root.
    pub async fn resume_with_room(&mut self, size: &str) -> anyhow::Result<()> {
        let artifacts = self.dir.join("data/artifacts");
        std::fs::create_dir_all(&artifacts)?;
        self.artifacts = Some(SmallDisk {
            at: artifacts,
            size: size.to_owned(),
        });
        self.resume().await
    }

    /// Starts it again with its artifacts where the rest is.
    pub async fn resume_on_its_own_disk(&mut self) -> anyhow::Result<()> {
        self.artifacts = None;
        self.resume().await
    }

    /// Starts it again where it was.
    pub async fn resume(&mut self) -> anyhow::Result<()> {
        let text = |path: &Path| path.display().to_string();
        let args = [
            "serve",
            "--data-dir",
            &text(&self.dir.join("data")),
            "--listen",
            &self.listen,
            "--http-listen",
            &self.http_listen,
            "--health-listen",
            &self.health_listen,
            "--kustomize",
            &text(&self.kustomize),
        ]
        .map(str::to_owned)
        .into_iter()
        .chain(self.options.clone())
        .collect::<Vec<_>>();
        let env = [("RUST_BACKTRACE".to_owned(), "1".to_owned())];
        let program = built("flotilla-hub")?;
        let (program, args) = match &self.artifacts {
            Some(disk) => disk.command(&program, args),
            None => (program, args),
        };
        let mut program = Program::start("flotilla-hub", &program, &args, &env, &self.log())?;
        let url = format!("http://{}/readyz", self.health_listen);
        let client = http_client()?;
        let ready = wait_until("the hub is ready", Duration::from_secs(180), async || {
            program.check()?;
            let answer = client.get(&url).send().await?;
            anyhow::Ok(answer.status().is_success().then_some(()))
        });
        if let Err(error) = ready.await {
            bail!("{error}\n{}", program.said());
        }
        self.program = Some(program);
        Ok(())
    }

    /// Stops it as an operator would.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let program = self.program.take().context("the hub is stopped already")?;
        let status = program.stop(Duration::from_secs(30))?;
        if !status.success() {
            bail!("the hub ended with {status}");
        }
        Ok(())
    }

    /// Kills it, as a crash would; its private Postgres goes on.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.program.take().context("the hub is stopped already")?.kill()
    }

    /// Address of the port for probes and monitoring.
    pub fn health_address(&self) -> &str {
        &self.health_listen
    }

    /// Address of the gRPC port.
    pub fn grpc_address(&self) -> &str {
        &self.listen
    }

    /// Where the Receiver of this name is called.
    pub fn hook_url(&self, token: &str, name: &str, namespace: &str) -> String {
        let text = format!("{token}{name}{namespace}");
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        format!("http://{}/hook/{}", self.http_listen, hex(digest.as_ref()))
    }

    /// Calls the Receiver `flux-system/push`, whose token is `shared`, as a forge does after a push: the hub has stored
    /// that when this returns.
    pub async fn push(&self, client: &reqwest::Client) -> anyhow::Result<()> {
        let request = client
            .post(self.hook_url("shared", "push", "flux-system"))
            .header("X-Signature", signature("shared", b"{}"))
            .body("{}");
        let status = request.send().await?.status();
        anyhow::ensure!(status.as_u16() == 200, "the webhook was answered with {status}");
        Ok(())
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.program.as_ref().map(Program::pid)
    }

    /// The file that the command line reads.
    pub fn config(&self) -> PathBuf {
        self.dir.join("data/admin.yaml")
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The file that it logs to.
    pub fn log(&self) -> PathBuf {
        self.dir.join("hub.log")
    }

    /// What the hub said lately.
    pub fn said(&self) -> String {
        self.program.as_ref().map_or_else(String::new, Program::said)
    }

    /// How often the log says this, in this run and in those before.
    pub fn logged(&self, text: &str) -> anyhow::Result<usize> {
        let program = self.program.as_ref().context("the hub is stopped")?;
        Ok(program.log()?.matches(text).count())
    }

    /// The private Postgres, when it runs. Its file outlives it, and its number may then be anybody's.
    pub fn postgres(&self) -> Option<rustix::process::Pid> {
        let data = self.dir.join("data/postgres/data");
        let text = std::fs::read_to_string(data.join("postmaster.pid")).ok()?;
        let number = text.lines().next()?.trim().parse().ok()?;
        let command = std::fs::read(format!("/proc/{number}/cmdline")).ok()?;
        let is_ours = String::from_utf8_lossy(&command).contains(&*data.to_string_lossy());
        is_ours.then(|| rustix::process::Pid::from_raw(number)).flatten()
    }

    /// Runs another command of the hub's program on this one's data, as `backup DIR`.
    pub fn administer(&self, args: &[&str]) -> anyhow::Result<()> {
        let output = Command::new(built("flotilla-hub")?)
            .args(args)
            .arg("--data-dir")
            .arg(self.dir.join("data"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(
            output.status.success(),
            "flotilla-hub {}: {}",
            args.join(" "),
            said.trim()
        );
        Ok(())
    }

    /// The command line, pointed at this hub.
    pub fn command_line(&self) -> CommandLine {
        CommandLine::of(&self.config())
    }

    /// Runs the command line; its standard output.
    pub fn cli(&self, args: &[&str]) -> anyhow::Result<String> {
        self.command_line().run(args)
    }

    /// Applies manifests.
    pub fn apply(&self, manifests: &str) -> anyhow::Result<String> {
        self.command_line().apply(manifests)
    }

    /// Makes a join token.
    pub fn token(&self, cluster: &str) -> anyhow::Result<Join> {
        let token = self.cli(&["cluster", "token", cluster])?.trim().to_owned();
        let config = flotilla_yaml::read(&std::fs::read_to_string(self.config())?, &Limits::default())?;
        let config = Value::from(config);
        let field = |name: &str| config[name].as_str().unwrap_or_default().to_owned();
        let pins = config["pins"].as_array().into_iter().flatten();
        Ok(Join {
            token,
            endpoint: field("endpoint"),
            pins: pins.filter_map(Value::as_str).map(str::to_owned).collect(),
            trust_domain: field("trustDomain"),
        })
    }
}

impl Drop for HubProcess {
    /// Stops in order, so that the private Postgres ends too; that of a hub that was killed is told to end.
    fn drop(&mut self) {
        if let Some(program) = self.program.take() {
            let _ = program.stop(Duration::from_secs(20));
        }
        if let Some(pid) = self.postgres() {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        }
    }
}

/// The signature of a webhook's body, as the header `X-Signature` wants it.
pub fn signature(token: &str, body: &[u8]) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, token.as_bytes());
    format!("sha256={}", hex(ring::hmac::sign(&key, body).as_ref()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The present, for comparing with the times that traces carry.
#[expect(clippy::disallowed_methods, reason = "what is measured is this very clock")]
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// A client for plain HTTP on loopback.
pub fn http_client() -> anyhow::Result<reqwest::Client> {
    flotilla_testkit::install_tls_provider();
    Ok(reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .no_proxy()
        .build()?)
}

/// An address nobody listens on. Another process may take it before we do; then the start fails and says so.
fn free_address() -> anyhow::Result<String> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .to_string())
}
