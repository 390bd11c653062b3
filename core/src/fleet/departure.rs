//! Clusters that are to leave the fleet, or to be emptied: no app is placed there any more.

/// How a cluster departs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// What apps have applied there is removed, as their deletion policies say. The cluster stays in the fleet.
    Drain,
    /// What apps have applied there stays and is let go of; then the cluster leaves the fleet.
    Retire,
}

impl Departure {
    /// A word for the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "Drain",
            Self::Retire => "Retire",
        }
    }

    /// Reads a word of the store. One of a newer hub is read as what deletes nothing.
    pub fn parse(word: &str) -> Self {
        match word {
            "Drain" => Self::Drain,
            _ => Self::Retire,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_deletes_nothing() {
        for one in [Departure::Drain, Departure::Retire] {
            assert_eq!(Departure::parse(one.as_str()), one);
        }
        assert_eq!(Departure::parse("Shred"), Departure::Retire);
    }
}
