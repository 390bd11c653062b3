//! Typed identifiers: a cluster's id is never passed where an app's is meant.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Reads the 16 bytes the wire carries.
            pub fn try_from_slice(bytes: &[u8]) -> Option<Self> {
                Uuid::from_slice(bytes).ok().map(Self)
            }

            /// The 16 bytes for the wire.
            pub fn to_vec(self) -> Vec<u8> {
                self.0.as_bytes().to_vec()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A registered cluster, given by the hub at its creation. Names are not identity.
    ClusterId
}
id! {
    /// A configured object of the hub.
    ResourceUid
}
id! {
    /// One app on one target cluster.
    UnitId
}
