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

/// What becomes of a request that a cluster depart in some way, or stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// It does so from now on.
    Taken,
    /// It does so already.
    Same,
    /// It is to be drained and retires: what it has is being let go of, and would count as removed.
    Retires,
}

/// Judges a request by what the cluster does now; `None`: it stays.
pub fn request(now: Option<Departure>, asked: Option<Departure>) -> Request {
    match (now, asked) {
        (Some(Departure::Retire), Some(Departure::Drain)) => Request::Retires,
        _ if now == asked => Request::Same,
        _ => Request::Taken,
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

    #[test]
    fn what_retires_is_not_drained_and_all_else_is_taken_once() {
        let (stays, drains, retires) = (None, Some(Departure::Drain), Some(Departure::Retire));
        assert_eq!(request(retires, drains), Request::Retires);
        for one in [stays, drains, retires] {
            assert_eq!(request(one, one), Request::Same);
        }
        for (now, asked) in [
            (stays, drains),
            (stays, retires),
            (drains, stays),
            (drains, retires),
            (retires, stays),
        ] {
            assert_eq!(request(now, asked), Request::Taken, "{now:?} {asked:?}");
        }
    }
}
