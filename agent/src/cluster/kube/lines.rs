//! The events of a watch: one JSON document a line, read as they come.

use std::pin::Pin;

use http_body_util::BodyExt as _;
use kube::{client::Body, core::Status};
use serde::Deserialize;
use serde_json::Value;

use super::{
    answer::{cut, from_status},
    connect::Lease,
};
use crate::cluster::{ClusterError, Resource};

/// Bytes of one event. A stored object has one or two million at most, written out as JSON a few more.
const LINE_MAX: usize = 16 << 20;
/// A buffer that grew beyond this for a large object is given back after it.
const KEPT: usize = 16 << 10;

/// An event as the server sends it.
#[derive(Deserialize)]
pub(in crate::cluster) struct RawEvent {
    /// What happened.
    #[serde(rename = "type")]
    pub what: What,
    /// The object, or a Status for errors.
    pub object: Value,
}

/// What an event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(in crate::cluster) enum What {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
}

/// The events of one open watch.
pub(in crate::cluster) struct Lines {
    body: Pin<Box<Body>>,
    buffer: Vec<u8>,
    /// Where the next line begins in the buffer.
    start: usize,
    /// Up to where the buffer is known to hold no line break.
    searched: usize,
    resource: Resource,
    lease: Lease,
}

impl Lines {
    pub(super) fn new(body: Body, resource: Resource, lease: Lease) -> Self {
        Self {
            body: Box::pin(body),
            buffer: Vec::new(),
            start: 0,
            searched: 0,
            resource,
            lease,
        }
    }

    /// Returns the next event, or `None` when the server ends the watch. An event of type `ERROR` is an error.
    /// Dropped while it waits, it loses nothing.
    pub(in crate::cluster) async fn next(&mut self) -> Result<Option<RawEvent>, ClusterError> {
        loop {
            if let Some(end) = self.end_of_line() {
                let event = self.parse(end);
                self.consume(end + 1);
                if let Some(event) = event? {
                    return Ok(Some(event));
                }
                continue;
            }
            if self.buffer.len() - self.start > LINE_MAX {
                return Err(ClusterError::TooLarge { max: LINE_MAX });
            }
            match self.body.as_mut().frame().await {
                // A line that was cut was not sent whole: the next watch brings it.
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.append(&data);
                    }
                }
                Some(Err(e)) => {
                    self.lease.stands(false);
                    return Err(cut(&e, LINE_MAX));
                }
            }
        }
    }

    fn end_of_line(&mut self) -> Option<usize> {
        let found = self.buffer[self.searched..]
            .iter()
            .position(|byte| *byte == b'\n');
        let end = found.map(|position| self.searched + position);
        self.searched = end.unwrap_or(self.buffer.len());
        end
    }

    fn append(&mut self, data: &[u8]) {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(data);
    }

    /// Goes on at `next`, and gives back what a large object or many small ones took.
    fn consume(&mut self, next: usize) {
        (self.start, self.searched) = (next, next);
        let left = &self.buffer[next..];
        if left.is_empty() || (self.buffer.capacity() > KEPT && left.len() < KEPT) {
            self.buffer = left.to_vec();
            (self.start, self.searched) = (0, 0);
        }
    }

    fn parse(&self, end: usize) -> Result<Option<RawEvent>, ClusterError> {
        let line = &self.buffer[self.start..end];
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let unreadable =
            |what: &str| ClusterError::Unavailable(format!("watch sends {what} that is not readable"));
        let event: RawEvent = serde_json::from_slice(line).map_err(|_| unreadable("an event"))?;
        if event.what == What::Error {
            let status: Status = serde_json::from_value(event.object).map_err(|_| unreadable("a status"))?;
            return Err(from_status(&status, Some(&self.resource)));
        }
        Ok(Some(event))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(body: Vec<u8>) -> Lines {
        let resource = Resource {
            group: String::new(),
            version: "v1".into(),
            kind: "ConfigMap".into(),
            plural: "configmaps".into(),
            namespaced: true,
            watchable: true,
        };
        Lines::new(Body::from(body), resource, Lease::default())
    }

    fn event(name: &str, payload: usize) -> String {
        let object = json!({"metadata": {"name": name}, "data": {"x": "x".repeat(payload)}});
        format!("{}\n", json!({"type": "ADDED", "object": object}))
    }

    #[tokio::test]
    async fn a_buffer_that_grew_for_a_large_object_is_given_back() {
        let mut lines = lines((event("large", 3 << 20) + &event("small", 10)).into_bytes());
        let large = lines.next().await.expect("it is readable").expect("it is there");
        assert_eq!(large.object["metadata"]["name"], "large");
        assert!(lines.buffer.capacity() <= KEPT, "{}", lines.buffer.capacity());
        let small = lines.next().await.expect("it is readable").expect("it is there");
        assert_eq!(
            (small.what, &small.object["metadata"]["name"]),
            (What::Added, &json!("small"))
        );
        assert_eq!(lines.buffer.capacity(), 0, "nothing is kept between events");
        assert!(lines.next().await.expect("it ends").is_none());
    }

    #[tokio::test]
    async fn a_line_beyond_the_limit_is_an_error_that_names_it() {
        let mut lines = lines(vec![b'x'; LINE_MAX + 1]);
        assert_eq!(
            lines.next().await.err(),
            Some(ClusterError::TooLarge { max: LINE_MAX })
        );
    }

    #[tokio::test]
    async fn a_status_in_the_stream_is_its_error_and_a_cut_line_is_none() {
        let gone = json!({"type": "ERROR", "object": {"kind": "Status", "status": "Failure", "code": 410,
            "reason": "Expired", "message": "too old"}});
        let error = lines(format!("{gone}\n").into_bytes()).next().await.err();
        assert!(
            matches!(error, Some(ClusterError::Rejected { code: 410, .. })),
            "{error:?}"
        );
        let cut = lines(b"{\"type\":\"ADDED\",\"obj".to_vec()).next().await;
        assert!(cut.expect("a cut line is no failure").is_none());
    }
}
