//! Typed identifiers: a cluster's id is never passed where an app's is meant.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
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
