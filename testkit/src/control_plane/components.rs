//! The arguments of each process of a control plane, and why they are what they are.

use std::path::Path;

use super::{Component, ControlPlane, Controllers};
use crate::process::ProcessSpec;

/// Every request once it was received and, for watches, answered; without bodies.
pub(super) const AUDIT_POLICY: &str = r#"{
  "apiVersion": "audit.k8s.io/v1",
  "kind": "Policy",
  "omitStages": ["RequestReceived"],
  "rules": [{ "level": "Metadata" }]
}"#;

const SERVICE_RANGE: &str = "10.96.0.0/16";
const POD_RANGE: &str = "10.244.0.0/16";

impl ControlPlane {
    pub(super) fn spec(&self, component: Component, program: &Path) -> ProcessSpec {
        let name = component.tool().name();
        let folder = self.dir.path();
        let log = folder.join(format!("{name}.log"));
        let args = match component {
            Component::Etcd => self.etcd_args(),
            Component::ApiServer => self.api_server_args(),
            Component::ControllerManager => self.controller_manager_args(),
            Component::Scheduler => self.scheduler_args(),
            Component::Kwok => self.kwok_args(),
        };
        // A home of its own: what a user has configured for these programs does not reach the rig.
        ProcessSpec::new(name, program, folder, log)
            .args(args)
            .env("HOME", folder)
            .env("KUBECONFIG", "")
    }

    fn file(&self, flag: &str, name: &str) -> String {
        format!("--{flag}={}", self.dir.path().join(name).display())
    }

    fn etcd_args(&self) -> Vec<String> {
        let client = format!("http://{}", self.ports.etcd.address());
        let peer = format!("http://{}", self.ports.etcd_peer.address());
        vec![
            "--name=default".to_owned(),
            self.file("data-dir", "etcd"),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            // A test's data need not survive a power cut; killing the process loses nothing.
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ]
    }

    fn api_server_args(&self) -> Vec<String> {
        let mut args = vec![
            format!("--etcd-servers=http://{}", self.ports.etcd.address()),
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.ports.api_server.number()),
            // No pod connects to the kubernetes service, and loopback addresses are refused in Endpoints.
            "--endpoint-reconciler-type=none".to_owned(),
            self.file("cert-dir", "cluster"),
            self.file("tls-cert-file", "apiserver.crt"),
            self.file("tls-private-key-file", "apiserver.key"),
            self.file("client-ca-file", "ca.crt"),
            self.file("service-account-key-file", "sa.pub"),
            self.file("service-account-signing-key-file", "sa.key"),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--authorization-mode=Node,RBAC".to_owned(),
            format!("--service-cluster-ip-range={SERVICE_RANGE}"),
            "--allow-privileged=true".to_owned(),
            "--profiling=false".to_owned(),
            self.file("audit-policy-file", "audit-policy.json"),
            self.file("audit-log-path", "audit.log"),
            // One file: counting reads it from its beginning.
            "--audit-log-maxsize=4096".to_owned(),
        ];
        args.extend(self.options.api_server_args.iter().cloned());
        args
    }

    fn controller_manager_args(&self) -> Vec<String> {
        let controllers = match &self.options.controllers {
            Controllers::Default => "*".to_owned(),
            Controllers::Only(names) => names.join(","),
        };
        vec![
            self.file("kubeconfig", "controller-manager.kubeconfig"),
            self.file("service-account-private-key-file", "sa.key"),
            self.file("root-ca-file", "ca.crt"),
            self.file("cluster-signing-cert-file", "ca.crt"),
            self.file("cluster-signing-key-file", "ca.key"),
            format!("--service-cluster-ip-range={SERVICE_RANGE}"),
            format!("--cluster-cidr={POD_RANGE}"),
            format!("--controllers={controllers}"),
            "--use-service-account-credentials=true".to_owned(),
            // One of each, so nobody to agree with; the lease would be renewed every two seconds.
            "--leader-elect=false".to_owned(),
            // Nobody asks these for their health over the network.
            "--secure-port=0".to_owned(),
            "--profiling=false".to_owned(),
            // The defaults (20, 30) make tests wait for the client's own brake.
            "--kube-api-qps=200".to_owned(),
            "--kube-api-burst=400".to_owned(),
        ]
    }

    fn scheduler_args(&self) -> Vec<String> {
        vec![
            self.file("kubeconfig", "scheduler.kubeconfig"),
            "--leader-elect=false".to_owned(),
            "--secure-port=0".to_owned(),
            "--profiling=false".to_owned(),
            "--kube-api-qps=200".to_owned(),
            "--kube-api-burst=400".to_owned(),
        ]
    }

    fn kwok_args(&self) -> Vec<String> {
        vec![
            self.file("kubeconfig", "kwok.kubeconfig"),
            "--manage-all-nodes=true".to_owned(),
            format!("--cidr={POD_RANGE}"),
            // A lease keeps a node Ready with one small request in ten seconds instead of its whole status.
            "--node-lease-duration-seconds=40".to_owned(),
        ]
    }
}
