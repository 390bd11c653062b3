//! Typed identifiers: a cluster's id is never passed where an app's is meant.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::digest::Digest;

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

/// How an app is named, whatever its uid: it has the same units when it is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppName<'a> {
    /// The cluster in whose scope it is, or that of the fleet.
    pub scope: Uuid,
    /// API group.
    pub group: &'a str,
    /// Kind.
    pub kind: &'a str,
    /// Namespace.
    pub namespace: &'a str,
    /// Name.
    pub name: &'a str,
}

impl UnitId {
    /// The unit of an app in a cluster. Those of one app stand together, as they are written together.
    pub fn of(cluster: ClusterId, app: AppName<'_>) -> Self {
        let named = Digest::of_json("unit", &(app.scope, app.group, app.kind, app.namespace, app.name));
        let placed = Digest::of_json("unit", &(named, cluster));
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&named.as_bytes()[..8]);
        bytes[8..].copy_from_slice(&placed.as_bytes()[..8]);
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }
}

/// A UID as the API server gives it: a text that is a UUID, and is kept as one where it is written as one. There are
/// several for each object of an inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uid(UidForm);

#[derive(Debug, Clone, PartialEq, Eq)]
enum UidForm {
    Uuid(Uuid),
    Text(Box<str>),
}

impl Uid {
    /// Tells whether this is the UID of this text.
    pub fn is(&self, text: &str) -> bool {
        *self == Self::from(text)
    }

    /// Returns the UUID that it is written as in full, in lower case; `None`: it is another text.
    pub fn as_uuid(&self) -> Option<Uuid> {
        match &self.0 {
            UidForm::Uuid(uuid) => Some(*uuid),
            UidForm::Text(_) => None,
        }
    }
}

impl From<&str> for Uid {
    fn from(text: &str) -> Self {
        let mut buffer = Uuid::encode_buffer();
        let uuid = Uuid::try_parse(text)
            .ok()
            .filter(|uuid| uuid.hyphenated().encode_lower(&mut buffer) == text);
        Self(uuid.map_or_else(|| UidForm::Text(text.into()), UidForm::Uuid))
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            UidForm::Uuid(uuid) => uuid.hyphenated().fmt(f),
            UidForm::Text(text) => text.fmt(f),
        }
    }
}

impl Serialize for Uid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Uid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self::from(text.as_str()))
    }
}

#[cfg(test)]
mod uid_tests {
    use super::*;

    #[test]
    fn a_uid_reads_back_as_it_was_written_whatever_its_form() {
        for text in [
            "6f9a2d3e-0000-4000-8000-0123456789ab",
            "6F9A2D3E-0000-4000-8000-0123456789AB",
            "6f9a2d3e0000400080000123456789ab",
            "u-1",
            "",
        ] {
            let uid = Uid::from(text);
            assert_eq!(uid.to_string(), text);
            assert!(uid.is(text));
            let json = serde_json::to_string(&uid).expect("JSON");
            assert_eq!(serde_json::from_str::<Uid>(&json).expect("readable"), uid);
        }
        assert!(size_of::<Option<Uid>>() <= 24);
    }
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn an_app_that_is_made_again_has_the_same_units_and_no_other_app_has_them() {
        let app = AppName {
            scope: Uuid::nil(),
            group: "kustomize.toolkit.fluxcd.io",
            kind: "Kustomization",
            namespace: "apps",
            name: "web",
        };
        let of = |cluster, app| UnitId::of(ClusterId(Uuid::from_u128(cluster)), app);
        // Hubs and agents store it: it stays what it is.
        assert_eq!(of(1, app).to_string(), "f246f3b0-4cd1-8b21-81af-58d0a9b01ae7");
        let others = [
            of(2, app),
            of(1, AppName { name: "other", ..app }),
            of(
                1,
                AppName {
                    namespace: "other",
                    ..app
                },
            ),
            of(
                1,
                AppName {
                    kind: "HelmRelease",
                    ..app
                },
            ),
            of(
                1,
                AppName {
                    group: "other",
                    ..app
                },
            ),
            of(
                1,
                AppName {
                    scope: Uuid::from_u128(1),
                    ..app
                },
            ),
        ];
        assert!(others.iter().all(|other| *other != of(1, app)), "{others:?}");
    }
}
