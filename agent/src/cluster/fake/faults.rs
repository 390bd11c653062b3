//! What may go wrong in a cluster in memory.

use std::time::Duration;

use flotilla_core::object::ObjectKey;

use super::{Change, Fake, Snapshot};
use crate::cluster::{Account, ClusterError};

/// Refuses calls: a verb and an object's key to an error. Keys of lists and watches have no name.
pub type Fault = Box<dyn Fn(&str, &ObjectKey) -> Option<ClusterError> + Send>;

/// How long the server takes for a verb and an object's key.
pub type Latency = Box<dyn Fn(&str, &ObjectKey) -> Duration + Send>;

/// What an account may do: a verb with an object's key.
pub type Rights = Box<dyn Fn(&Account, &str, &ObjectKey) -> bool + Send>;

impl Fake {
    /// Sets what makes calls fail.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.lock().fault = fault;
    }

    /// Stores this many applies to come, and lets their answers be lost on the way.
    pub fn lose_answers(&self, count: u32) {
        self.lock().unanswered = count;
    }

    /// Sets how long calls take; with tests of paused time that costs nothing.
    pub fn set_latency(&self, latency: Option<Latency>) {
        self.lock().latency = latency;
    }

    /// Sets how long the answer to a list that a watch begins with is on its way.
    pub fn delay_lists_of_watches(&self, delay: Duration) {
        self.lock().list_delay = delay;
    }

    /// Sets what accounts may do; without, each may do everything.
    pub fn set_rights(&self, rights: Option<Rights>) {
        self.lock().rights = rights;
    }

    /// Lets no field of a kind be changed to which a JSON pointer leads, once its object exists.
    pub fn freeze(&self, kind: &str, pointer: &str) {
        self.lock().frozen.push((kind.to_owned(), pointer.to_owned()));
    }

    /// Lets the discovery of a group fail, as when its aggregated API server is down, or succeed again.
    pub fn fail_discovery(&self, group: &str, fails: bool) {
        let undiscovered = &mut self.lock().undiscovered;
        if fails {
            undiscovered.insert(group.to_owned());
        } else {
            undiscovered.remove(group);
        }
    }

    /// Copies all objects.
    pub fn snapshot(&self) -> Snapshot {
        let inner = self.lock();
        Snapshot {
            resources: inner.resources.clone(),
            objects: inner.objects.clone(),
            version: inner.version,
        }
    }

    /// Puts the store back to what it was, versions too, as the restore of a backup does. Watches that stay open are
    /// silent until the store has passed what they have seen; those that break find it out.
    pub fn restore(&self, snapshot: &Snapshot) {
        let mut inner = self.lock();
        inner.resources.clone_from(&snapshot.resources);
        inner.objects.clone_from(&snapshot.objects);
        inner.version = snapshot.version;
    }

    /// Breaks all watches: each lists again.
    pub fn break_watches(&self) {
        let _locked = self.lock();
        self.tell(Change::Broken);
    }
}

/// Everything about a kind is forbidden.
pub fn forbidden(kind: &'static str) -> Fault {
    Box::new(move |verb, key| {
        (key.kind == kind).then(|| ClusterError::Rejected {
            code: 403,
            reason: "Forbidden".to_owned(),
            message: format!("{key} is forbidden: User \"system:serviceaccount:flotilla-system:flotilla-agent\" cannot {verb} it"),
        })
    })
}

/// The conversion webhook of a kind does not answer: each request about it fails, and takes what
/// [`slow`] with the same kind says.
pub fn conversion_fails(kind: &'static str) -> Fault {
    Box::new(move |_, key| {
        (key.kind == kind).then(|| ClusterError::Rejected {
            code: 500,
            reason: "InternalError".to_owned(),
            message: format!(
                "conversion webhook for {kind} failed: Post \"https://webhook.test/convert\": context deadline exceeded"
            ),
        })
    })
}

/// Requests about a kind take so long.
pub fn slow(kind: &'static str, wait: Duration) -> Latency {
    Box::new(move |_, key| if key.kind == kind { wait } else { Duration::ZERO })
}
