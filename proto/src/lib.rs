//! The wire between hub, agent and clients: generated bindings, committed so that a build needs no `protoc`.
//!
//! Rules of change: add, reserve, never reuse; a new field says in its comment what an older peer does
//! without it; unknown enum values are handled, not refused.

#![allow(
    missing_docs,
    unreachable_pub,
    reason = "generated code; the comments stand in the protocol files"
)]

/// The hub's identifier in a trust domain, as its certificate carries it.
pub fn hub_uri(trust_domain: &str) -> String {
    format!("spiffe://{trust_domain}/hub")
}

/// `flotilla.agent.v1`: desired state to a cluster, reports from it.
pub mod agent {
    /// First version.
    pub mod v1 {
        #![allow(
            clippy::all,
            clippy::allow_attributes_without_reason,
            reason = "generated code"
        )]
        include!("gen/flotilla.agent.v1.rs");

        impl Attained {
            /// Tells whether this is `target` at `version`: both count.
            pub fn is(&self, version: u64, target: &[u8]) -> bool {
                self.version == version && self.target[..] == *target
            }
        }
    }
}

/// `flotilla.enroll.v1`: identity of a cluster.
pub mod enroll {
    /// First version.
    pub mod v1 {
        #![allow(
            clippy::all,
            clippy::allow_attributes_without_reason,
            reason = "generated code"
        )]
        include!("gen/flotilla.enroll.v1.rs");
    }
}

/// `flotilla.fleet.v1`: what CLI and page use.
pub mod fleet {
    /// First version.
    pub mod v1 {
        #![allow(
            clippy::all,
            clippy::allow_attributes_without_reason,
            reason = "generated code"
        )]
        include!("gen/flotilla.fleet.v1.rs");
    }
}

#[deny(missing_docs)]
pub mod codec;
#[deny(missing_docs)]
pub mod limits;
#[cfg(feature = "tls")]
#[deny(missing_docs)]
pub mod tls;

/// Encoded `FileDescriptorSet` of all packages, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("gen/descriptors.bin");
