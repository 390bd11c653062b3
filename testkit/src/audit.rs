//! What a control plane was asked: its audit log, read back so that tests can count requests.
//!
//! A request appears once, also a watch that is still open. The API server writes an entry as it answers, so a count
//! taken right after an answer may miss that request; wait for the count, or for a later request to appear.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::PathBuf;

use serde::Deserialize;
use time::OffsetDateTime;

use crate::RigError;

/// The audit log of one control plane.
#[derive(Debug, Clone)]
pub struct AuditLog {
    path: PathBuf,
}

/// A place in an audit log, for counting only what comes after it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuditMark(u64);

/// One request.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// Names the request.
    #[serde(rename = "auditID")]
    pub audit_id: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` and so on.
    pub verb: String,
    /// Path and query.
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    /// Who asked.
    pub user: AuditUser,
    /// As whom they asked, where it was as somebody else.
    #[serde(default)]
    pub impersonated_user: Option<AuditUser>,
    /// The client's program.
    #[serde(default)]
    pub user_agent: String,
    /// What was asked for; none for paths that are not objects.
    #[serde(default)]
    pub object_ref: Option<AuditObject>,
    /// The answer; none before there is one.
    #[serde(default)]
    pub response_status: Option<AuditStatus>,
    /// When the API server received it.
    #[serde(with = "time::serde::rfc3339", rename = "requestReceivedTimestamp")]
    pub received: OffsetDateTime,
}

/// Who sent a request.
#[derive(Debug, Clone, Deserialize)]
pub struct AuditUser {
    /// The user's name, such as `system:serviceaccount:fleet:agent`.
    #[serde(default)]
    pub username: String,
}

/// What a request was about.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuditObject {
    /// Plural of the kind, such as `configmaps`.
    pub resource: String,
    /// Such as `status` or `token`.
    pub subresource: String,
    /// Empty for what belongs to no namespace.
    pub namespace: String,
    /// Empty for lists and watches.
    pub name: String,
    /// Empty for the core group.
    pub api_group: String,
}

/// How a request was answered.
#[derive(Debug, Clone, Deserialize)]
pub struct AuditStatus {
    /// The HTTP status.
    #[serde(default)]
    pub code: u16,
}

/// Which requests to count; whatever is not set matches all.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    after: AuditMark,
    user: Option<String>,
    verbs: Vec<String>,
    resource: Option<String>,
    namespace: Option<String>,
    since: Option<OffsetDateTime>,
    until: Option<OffsetDateTime>,
}

impl AuditFilter {
    /// All requests.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Only what was written after the mark.
    #[must_use]
    pub fn after(mut self, mark: AuditMark) -> Self {
        self.after = mark;
        self
    }

    /// Only requests of this user.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    /// Only requests with this verb; asked more than once, with any of them.
    #[must_use]
    pub fn verb(mut self, verb: &str) -> Self {
        self.verbs.push(verb.to_owned());
        self
    }

    /// Only requests about this resource, such as `configmaps`, or `pods/status` for a subresource of it.
    #[must_use]
    pub fn resource(mut self, resource: &str) -> Self {
        self.resource = Some(resource.to_owned());
        self
    }

    /// Only requests about objects of this namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Only requests received at this time or later.
    #[must_use]
    pub fn since(mut self, time: OffsetDateTime) -> Self {
        self.since = Some(time);
        self
    }

    /// Only requests received before this time.
    #[must_use]
    pub fn until(mut self, time: OffsetDateTime) -> Self {
        self.until = Some(time);
        self
    }

    /// Tells whether a request is one of those asked for.
    #[must_use]
    pub fn matches(&self, entry: &AuditEntry) -> bool {
        let none = AuditObject::default();
        let object = entry.object_ref.as_ref().unwrap_or(&none);
        self.user.as_ref().is_none_or(|user| *user == entry.user.username)
            && (self.verbs.is_empty() || self.verbs.contains(&entry.verb))
            && self
                .resource
                .as_ref()
                .is_none_or(|resource| *resource == object.path())
            && self
                .namespace
                .as_ref()
                .is_none_or(|namespace| *namespace == object.namespace)
            && self.since.is_none_or(|since| entry.received >= since)
            && self.until.is_none_or(|until| entry.received < until)
    }
}

impl AuditObject {
    /// The resource, with its subresource after a slash.
    #[must_use]
    pub fn path(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}

impl AuditLog {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The present end of the log.
    #[must_use]
    pub fn mark(&self) -> AuditMark {
        AuditMark(std::fs::metadata(&self.path).map_or(0, |meta| meta.len()))
    }

    /// The requests that match, in the order they were first written.
    ///
    /// # Errors
    /// When the log cannot be read or a whole line of it is not an audit entry.
    pub fn requests(&self, filter: &AuditFilter) -> Result<Vec<AuditEntry>, RigError> {
        let file = match std::fs::File::open(&self.path) {
            Ok(file) => file,
            // Nothing was asked yet.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(RigError::io("open", &self.path)(error)),
        };
        let mut reader = BufReader::new(file);
        reader
            .seek(SeekFrom::Start(filter.after.0))
            .map_err(RigError::io("read", &self.path))?;
        let entries = self.entries(reader)?;
        Ok(entries
            .into_iter()
            .filter(|entry| filter.matches(entry))
            .collect())
    }

    /// How many requests match.
    ///
    /// # Errors
    /// As [`AuditLog::requests`].
    pub fn count(&self, filter: &AuditFilter) -> Result<usize, RigError> {
        Ok(self.requests(filter)?.len())
    }

    /// How many requests match, by user, verb and resource: what to print when a count is not the expected one.
    ///
    /// # Errors
    /// As [`AuditLog::requests`].
    pub fn summary(&self, filter: &AuditFilter) -> Result<BTreeMap<String, usize>, RigError> {
        let mut counts = BTreeMap::new();
        for entry in self.requests(filter)? {
            let object = entry.object_ref.unwrap_or_default().path();
            *counts
                .entry(format!("{} {} {object}", entry.user.username, entry.verb))
                .or_default() += 1;
        }
        Ok(counts)
    }

    /// Reads whole lines, the latest word on each request in the place of its first.
    fn entries(&self, mut reader: impl BufRead) -> Result<Vec<AuditEntry>, RigError> {
        let mut entries: Vec<AuditEntry> = Vec::new();
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        let mut line = String::new();
        loop {
            line.clear();
            reader
                .read_line(&mut line)
                .map_err(RigError::io("read", &self.path))?;
            if !line.ends_with('\n') {
                // The end, or a line that is still being written.
                return Ok(entries);
            }
            let entry: AuditEntry = serde_json::from_str(&line).map_err(|source| RigError::Json {
                what: "a line of the audit log".to_owned(),
                source,
            })?;
            match places
                .get(&entry.audit_id)
                .and_then(|place| entries.get_mut(*place))
            {
                Some(known) => *known = entry,
                None => {
                    places.insert(entry.audit_id.clone(), entries.len());
                    entries.push(entry);
                }
            }
        }
    }
}
