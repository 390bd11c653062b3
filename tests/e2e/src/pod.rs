//! What a kubelet would give a pod's container: its files where the pod mounts them, its environment, its user and
//! its read-only root, in a mount namespace of its own. Without the rights for that (not root) the user stays the
//! caller and the root stays writable; all else is the same.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use flotilla_testkit::ControlPlane;
use serde_json::Value;

/// Makes the container's files and starts its program. `$1` is the folder of files, `$2` the program.
const ENTER: &str = r#"
set -e
files=$1 program=$2
shift 2
mount -t tmpfs -o mode=0755 pod-run /run
mount -t tmpfs -o mode=0755 pod-etc /etc
cp -R "$files/run/." /run
cp -R "$files/etc/." /etc
touch /run/program
mount --bind "$program" /run/program
if [ -n "$POD_USER" ]; then
	chown -R "$POD_USER:$POD_USER" /run/secrets /etc
	mount -o remount,bind,ro /
	set -- --reuid "$POD_USER" --regid "$POD_USER" --clear-groups --bounding-set -all --no-new-privs \
		--pdeathsig KILL -- /run/program "$@"
else
	set -- --pdeathsig KILL -- /run/program "$@"
fi
unset POD_USER
exec setpriv "$@"
"#;

/// A container, ready to be started.
pub struct Container {
    args: Vec<String>,
    env: Vec<(String, String)>,
    user: Option<String>,
    files: PathBuf,
}

impl Container {
    /// Reads the first container of a pod, and writes its files below `dir`. `secrets` are the pod's Secrets by
    /// name: their keys and values.
    pub async fn of(
        pod: &Value,
        plane: &ControlPlane,
        namespace: &str,
        secrets: &[(&str, &[(&str, &str)])],
        dir: &Path,
    ) -> anyhow::Result<Self> {
        let container = &pod["containers"][0];
        let files = dir.join("pod");
        for folder in ["etc", "run"] {
            std::fs::create_dir_all(files.join(folder))?;
        }
        for mount in list(&container["volumeMounts"]) {
            let name = mount["name"].as_str().unwrap_or_default();
            let volume = list(&pod["volumes"]).find(|volume| volume["name"] == name);
            let secret = volume.and_then(|volume| volume["secret"]["secretName"].as_str());
            let secret = secret.with_context(|| format!("the volume {name} is no Secret"))?;
            let path = mount["mountPath"].as_str().context("a mount without a path")?;
            ensure!(path.starts_with("/etc/"), "{path} is not below /etc");
            let held = secrets.iter().find(|(name, _)| *name == secret);
            for (key, value) in held.map_or(&[][..], |(_, values)| *values) {
                write(&files, path, key, value)?;
            }
        }
        let account = pod["serviceAccountName"]
            .as_str()
            .context("the pod names no ServiceAccount")?;
        let token = plane.service_account_token(namespace, account).await?;
        const ACCOUNT: &str = "/run/secrets/kubernetes.io/serviceaccount";
        for (name, value) in [
            ("token", &token[..]),
            ("ca.crt", plane.ca_pem()),
            ("namespace", namespace),
        ] {
            write(&files, ACCOUNT, name, value)?;
        }
        let user = &pod["securityContext"]["runAsUser"];
        Ok(Self {
            // All pods of this machine share its ports: a free one serves health.
            args: list(&container["args"])
                .filter_map(Value::as_str)
                .map(|arg| arg.replace("0.0.0.0:8081", "127.0.0.1:0"))
                .collect(),
            env: environment(container, plane, namespace)?,
            user: rustix::process::geteuid().is_root().then(|| user.to_string()),
            files,
        })
    }

    /// The command that runs `program` as this container: program, arguments, environment.
    pub fn command(&self, program: &Path) -> (PathBuf, Vec<String>, Vec<(String, String)>) {
        let mut args: Vec<String> = ["--mount", "--propagation", "private"].map(str::to_owned).into();
        if self.user.is_none() {
            args.extend(["--user", "--map-root-user"].map(str::to_owned));
        }
        args.extend(["--", "sh", "-c", ENTER, "pod"].map(str::to_owned));
        args.extend([&self.files, program].map(|path| path.display().to_string()));
        args.extend(self.args.iter().cloned());
        let mut env = self.env.clone();
        env.push(("POD_USER".to_owned(), self.user.clone().unwrap_or_default()));
        (PathBuf::from("unshare"), args, env)
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn write(files: &Path, folder: &str, name: &str, value: &str) -> anyhow::Result<()> {
    let folder = files.join(folder.trim_start_matches('/'));
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join(name), value)?;
    Ok(())
}

fn environment(
    container: &Value,
    plane: &ControlPlane,
    namespace: &str,
) -> anyhow::Result<Vec<(String, String)>> {
    let server = plane.server();
    let (host, port) = server
        .trim_start_matches("https://")
        .rsplit_once(':')
        .context("the API server's address has no port")?;
    let mut env = vec![
        ("KUBERNETES_SERVICE_HOST".to_owned(), host.to_owned()),
        ("KUBERNETES_SERVICE_PORT".to_owned(), port.to_owned()),
    ];
    for variable in list(&container["env"]) {
        let name = variable["name"].as_str().context("a variable without name")?;
        let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some("metadata.namespace") => namespace.to_owned(),
            Some(other) => bail!("the pod's variable {name} comes from {other}, which is not known here"),
            None => variable["value"].as_str().unwrap_or_default().to_owned(),
        };
        env.push((name.to_owned(), value));
    }
    Ok(env)
}
