//! Hands a request to `git http-backend` by the rules of CGI and streams both bodies.

use std::path::Path;
use std::process::Stdio;

use axum::body::Body;
use futures::TryStreamExt as _;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio_util::io::{ReaderStream, StreamReader};

use super::serve::plain;

/// A header line of the backend that is longer is none.
const LARGEST_HEADER: usize = 8 << 10;

/// What a request's path names.
#[derive(Debug)]
pub(super) struct Target {
    /// The repository: `app.git`.
    pub(super) repository: String,
    /// What is asked of it: `info/refs`, `git-upload-pack`, `git-receive-pack`, or the path of a file.
    pub(super) service: String,
}

impl Target {
    /// Splits a path after the first part that ends with `.git`.
    pub(super) fn parse(uri: &http::Uri) -> Self {
        let path = uri.path().trim_start_matches('/');
        let (repository, service) = match path.find(".git/") {
            Some(end) => path.split_at(end + ".git".len()),
            None => (path, ""),
        };
        Self {
            repository: repository.to_owned(),
            service: service.trim_start_matches('/').to_owned(),
        }
    }
}

/// Runs the backend for one request.
pub(super) async fn run(
    root: &Path,
    target: &Target,
    parts: &Parts,
    body: Body,
    user: Option<String>,
) -> Response<Body> {
    let mut command = Command::new("git");
    command.arg("http-backend").env_clear().kill_on_drop(true);
    command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", root);
    command
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1");
    command.env("PATH_INFO", format!("/{}/{}", target.repository, target.service));
    command.env("QUERY_STRING", parts.uri.query().unwrap_or_default());
    command
        .env("REQUEST_METHOD", parts.method.as_str())
        .env("REMOTE_ADDR", "127.0.0.1");
    command.envs(user.map(|user| ("REMOTE_USER", user)));
    for (name, variable) in [
        (header::CONTENT_TYPE, "CONTENT_TYPE"),
        (header::CONTENT_LENGTH, "CONTENT_LENGTH"),
        (header::CONTENT_ENCODING, "HTTP_CONTENT_ENCODING"),
        (HeaderName::from_static("git-protocol"), "GIT_PROTOCOL"),
    ] {
        command.envs(
            parts
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(|value| (variable, value)),
        );
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else {
        return plain(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return plain(StatusCode::INTERNAL_SERVER_ERROR);
    };
    tokio::spawn(feed(input, body));
    let mut output = BufReader::new(output);
    let Some(mut response) = read_headers(&mut output).await else {
        return plain(StatusCode::BAD_GATEWAY);
    };
    // The process lives as long as its output is read: a client that hangs up ends it.
    let stream = ReaderStream::new(output);
    let held = futures::TryStreamExt::inspect_ok(stream, move |_| {
        let _ = &child;
    });
    *response.body_mut() = Body::from_stream(held);
    response
}

/// Copies the request's body to the backend, which may stop reading before its end.
async fn feed(mut input: ChildStdin, body: Body) {
    let mut reader = StreamReader::new(body.into_data_stream().map_err(std::io::Error::other));
    let _ = tokio::io::copy(&mut reader, &mut input).await;
    let _ = input.shutdown().await;
}

/// Reads the backend's header lines up to the empty one.
async fn read_headers(output: &mut BufReader<ChildStdout>) -> Option<Response<Body>> {
    let mut response = Response::new(Body::empty());
    let mut line = String::new();
    loop {
        line.clear();
        output
            .read_line(&mut line)
            .await
            .ok()
            .filter(|read| *read > 0 && *read <= LARGEST_HEADER)?;
        let line = line.trim_end();
        if line.is_empty() {
            return Some(response);
        }
        let (name, value) = line.split_once(": ")?;
        if name.eq_ignore_ascii_case("status") {
            *response.status_mut() = value.split(' ').next()?.parse().ok()?;
        } else {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            response
                .headers_mut()
                .append(name, HeaderValue::from_str(value).ok()?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_split_after_its_repository() {
        for (path, repository, service) in [
            (
                "/app.git/info/refs?service=git-upload-pack",
                "app.git",
                "info/refs",
            ),
            ("/team/app.git/git-upload-pack", "team/app.git", "git-upload-pack"),
            ("/app.git", "app.git", ""),
            ("/", "", ""),
        ] {
            let target = Target::parse(&path.parse().expect("a path"));
            assert_eq!(
                (target.repository.as_str(), target.service.as_str()),
                (repository, service),
                "{path}"
            );
        }
    }
}
