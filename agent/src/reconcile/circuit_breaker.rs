//! Stops calls that are known to be in vain: the server does not answer, a namespace is being deleted, or nothing can be asked
//! as the app's account. What one object of a job has met is not met again for each of the others.

use std::{
    collections::BTreeMap,
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use flotilla_core::object::ObjectKey;
use serde_json::Value;

use super::{acting::Denied, context::UnitContext, message::truncate};
use crate::cluster::ClusterError;

/// How long the server has to answer a question about something else.
const OTHER: Duration = Duration::from_secs(10);
/// Longest account of what holds a namespace.
const ACCOUNT_MAX: usize = 512;

/// Why an object was not written, or not read.
#[derive(Debug, Clone)]
pub enum Stopped {
    /// The server's answer, or that there is none.
    Cluster(ClusterError),
    /// Its namespace is being deleted; what is known of why that takes time.
    Terminating(String),
    /// Nothing can be asked as the account of its app.
    Denied(Denied),
}

impl From<ClusterError> for Stopped {
    fn from(error: ClusterError) -> Self {
        Self::Cluster(error)
    }
}

/// What the objects of a job have met.
pub struct CircuitBreaker<'a> {
    unit: &'a UnitContext,
    silent: OnceLock<ClusterError>,
    /// Held while the server is asked about something else, so that one asks for all.
    asking: tokio::sync::Mutex<()>,
    terminating: Mutex<BTreeMap<String, String>>,
}

impl<'a> CircuitBreaker<'a> {
    /// Nothing was met yet.
    pub fn new(unit: &'a UnitContext) -> Self {
        Self {
            unit,
            silent: OnceLock::new(),
            asking: tokio::sync::Mutex::default(),
            terminating: Mutex::default(),
        }
    }

    /// Makes a call about an object, unless it is known to be in vain.
    pub async fn call<T>(
        &self,
        key: &ObjectKey,
        call: impl Future<Output = Result<T, ClusterError>>,
    ) -> Result<T, Stopped> {
        if let Some(error) = self.silent.get() {
            return Err(error.clone().into());
        }
        if let Some(denied) = self.unit.acting.denied() {
            return Err(Stopped::Denied(denied.clone()));
        }
        if let Some(why) = self.lock().get(&key.namespace) {
            return Err(Stopped::Terminating(why.clone()));
        }
        let error = match call.await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        match &error {
            // One object may be slow by itself, behind a webhook say.
            ClusterError::Unavailable(_) => self.unanswered().await,
            ClusterError::Rejected {
                code: 403, message, ..
            } if is_terminating(message) => {
                let why = self.account(&key.namespace).await;
                self.lock().insert(key.namespace.clone(), why.clone());
                return Err(Stopped::Terminating(why));
            }
            _ => self.unit.acting.refused(&self.unit.context, &error).await,
        }
        match self.unit.acting.denied() {
            Some(denied) => Err(Stopped::Denied(denied.clone())),
            None => Err(error.into()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.terminating.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds out whether it is the server that is silent.
    async fn unanswered(&self) {
        let _asking = self.asking.lock().await;
        if self.silent.get().is_some() {
            return;
        }
        let asked = tokio::time::timeout(OTHER, self.unit.cluster.uid()).await;
        // Any answer of its own is an answer. What it met with the object is not told of others: it may quote that one's
        // values.
        let silence = match asked {
            Err(_) => ClusterError::Unavailable(format!("no answer within {} s", OTHER.as_secs())),
            Ok(Err(error @ ClusterError::Unavailable(_))) => error,
            Ok(_) => return,
        };
        let _ = self.silent.set(silence);
    }

    async fn account(&self, namespace: &str) -> String {
        let discovery = self.unit.context.discovery();
        let Some(resource) = discovery.preferred("", "Namespace") else {
            return String::new();
        };
        let live = self.unit.cluster.get(resource, "", namespace).await;
        live.ok().flatten().map(|live| held_by(&live)).unwrap_or_default()
    }
}

/// The API server refuses new objects in such a namespace by these words alone.
fn is_terminating(message: &str) -> bool {
    message.contains("because it is being terminated")
}

/// Tells in the namespace controller's words what a namespace that is being deleted still waits for.
pub fn held_by(namespace: &Value) -> String {
    let conditions = namespace["status"]["conditions"].as_array();
    let told = conditions.into_iter().flatten().filter(|condition| {
        condition["status"] == "True" && condition["message"].as_str().is_some_and(|text| !text.is_empty())
    });
    let mut text = told
        .filter_map(|condition| condition["message"].as_str())
        .collect::<Vec<_>>()
        .join("; ");
    truncate(&mut text, ACCOUNT_MAX);
    text
}
