//! The certificates of a cluster's agent: which of them are in force, and what a renewal does to them. Two are, from when the
//! next one is issued until it is used for the first time: no reply that is lost locks anybody out. What was in force or
//! issued before is remembered, since only a copy of the identity, or one that was put back, shows it still.

/// Replaced certificates that are remembered: those of more than a week with the usual lifetimes, none of which is valid still.
pub const REMEMBERED: usize = 32;

/// An identity as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// Its agent is served: it was neither revoked nor is it doubted.
    pub is_active: bool,
    /// Number of the newest certificate.
    pub generation: u64,
    /// Serial of the certificate in force.
    pub serial: Vec<u8>,
    /// Serial that was issued and not used yet.
    pub next: Option<Vec<u8>>,
    /// Serials of this identity that are in force no more, the newest last.
    pub replaced: Vec<Vec<u8>>,
    /// The key of the newest certificate.
    pub public_key: Vec<u8>,
    /// It is as a backup had it: what was issued since is not recorded.
    pub of_backup: bool,
}

/// What an admitted certificate is to its identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The one in force.
    Current,
    /// The next one, in use for the first time: it is to be promoted.
    Next,
    /// Of an identity that is as a backup had it: one that this hub has issued since, and does not remember. It is to be
    /// taken for the current one.
    SinceBackup,
}

/// Why a certificate of the hub's own authority gives no access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The cluster has no identity, or one that is not served.
    NotActive,
    /// It was this identity's, and another has come after it: a copy, or an agent whose state was put back.
    Replaced,
    /// It is none of this identity: of one that was ended before.
    Foreign,
}

/// A renewal that is granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed {
    /// Serial of the certificate to issue.
    pub serial: Vec<u8>,
    /// One that was issued, and that this one comes instead of.
    pub instead_of: Option<Vec<u8>>,
}

impl Identity {
    /// Judges a certificate by its serial. `is_newer`: it was issued later than any that is recorded.
    pub fn admit(&self, serial: &[u8], is_newer: bool) -> Result<Standing, Refused> {
        if !self.is_active {
            Err(Refused::NotActive)
        } else if self.serial == serial {
            Ok(Standing::Current)
        } else if self.next.as_deref() == Some(serial) {
            Ok(Standing::Next)
        } else if self.replaced.iter().any(|replaced| replaced == serial) {
            Err(Refused::Replaced)
        } else if self.of_backup && is_newer {
            // Only this hub's authority issues it, and only to whoever held the one before: what was replaced before the
            // backup is older than what the backup has.
            Ok(Standing::SinceBackup)
        } else {
            Err(Refused::Foreign)
        }
    }

    /// Decides a renewal by whoever holds generation `generation`, for `public_key`, where `serial` would be the next one. A
    /// renewal whose reply was lost is repeated with the generation it had: for the same key it gives the serial that was
    /// recorded first, however many repeat it at once. `None`: somebody has renewed it since.
    pub fn renew(&self, generation: u64, public_key: &[u8], serial: &[u8]) -> Option<Renewed> {
        let is_repeated = self.generation == generation.saturating_add(1) && self.next.is_some();
        // Since a backup it may have been renewed any number of times.
        let is_due = self.generation == generation || self.of_backup && self.generation < generation;
        if !self.is_active || !(is_due || is_repeated) {
            return None;
        }
        let same = self
            .next
            .clone()
            .filter(|_| is_repeated && self.public_key == public_key);
        Some(match same {
            Some(serial) => Renewed {
                serial,
                instead_of: None,
            },
            None => Renewed {
                serial: serial.to_vec(),
                instead_of: self.next.clone(),
            },
        })
    }

    /// The identity after a renewal that was granted.
    pub fn renewed(mut self, renewed: Renewed, generation: u64, public_key: &[u8]) -> Self {
        self.replaced.extend(renewed.instead_of);
        self.next = Some(renewed.serial);
        self.generation = generation.saturating_add(1);
        self.public_key = public_key.to_vec();
        self.of_backup = false;
        self.remembering()
    }

    /// The identity after its next certificate was used.
    pub fn promoted(mut self) -> Self {
        if let Some(next) = self.next.take() {
            self.replaced.push(std::mem::replace(&mut self.serial, next));
        }
        self.remembering()
    }

    fn remembering(mut self) -> Self {
        let surplus = self.replaced.len().saturating_sub(REMEMBERED);
        self.replaced.drain(..surplus);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            is_active: true,
            generation: 1,
            serial: vec![1],
            next: Some(vec![2]),
            replaced: vec![vec![0]],
            public_key: vec![7],
            of_backup: false,
        }
    }

    #[test]
    fn the_current_and_the_next_certificate_are_admitted_and_a_replaced_one_is_told_from_a_foreign_one() {
        let identity = identity();
        assert_eq!(identity.admit(&[1], false), Ok(Standing::Current));
        assert_eq!(identity.admit(&[2], false), Ok(Standing::Next));
        assert_eq!(identity.admit(&[0], true), Err(Refused::Replaced));
        assert_eq!(identity.admit(&[3], true), Err(Refused::Foreign));
        let doubted = Identity {
            is_active: false,
            ..identity
        };
        assert_eq!(doubted.admit(&[1], false), Err(Refused::NotActive));
    }

    #[test]
    fn since_a_backup_a_newer_certificate_is_admitted_and_none_that_the_backup_knows_as_replaced() {
        let identity = Identity {
            of_backup: true,
            ..identity()
        };
        assert_eq!(identity.admit(&[3], true), Ok(Standing::SinceBackup));
        assert_eq!(identity.admit(&[3], false), Err(Refused::Foreign));
        assert_eq!(identity.admit(&[0], true), Err(Refused::Replaced));
        assert!(identity.renew(9, &[8], &[4]).is_some());
    }

    #[test]
    fn a_renewal_is_repeated_for_its_key_and_one_for_another_key_comes_instead_of_it() {
        let renewed = identity().renewed(
            Renewed {
                serial: vec![5],
                instead_of: Some(vec![2]),
            },
            1,
            &[8],
        );
        assert_eq!((renewed.generation, &renewed.next), (2, &Some(vec![5])));
        let again = renewed.renew(1, &[8], &[6]).expect("repeated");
        assert_eq!((again.serial, again.instead_of), (vec![5], None));
        let other = renewed.renew(1, &[9], &[6]).expect("another key");
        assert_eq!((other.serial, other.instead_of), (vec![6], Some(vec![5])));
        assert_eq!(renewed.renew(0, &[8], &[6]), None);
        assert_eq!(renewed.admit(&[2], false), Err(Refused::Replaced));
        let used = renewed.promoted();
        assert_eq!(used.renew(1, &[8], &[6]), None, "it was used");
        assert_eq!(used.admit(&[1], false), Err(Refused::Replaced));
    }

    #[test]
    fn what_is_remembered_of_replaced_certificates_is_bounded_and_the_newest() {
        let mut identity = identity();
        for n in 0..100 {
            let renewed = Renewed {
                serial: vec![1, n],
                instead_of: None,
            };
            let generation = identity.generation;
            identity = identity.renewed(renewed, generation, &[n]).promoted();
        }
        assert_eq!(identity.replaced.len(), REMEMBERED);
        assert_eq!(identity.replaced.last(), Some(&vec![1, 98]));
    }
}
