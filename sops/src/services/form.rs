//! Requests with a form or JSON, and texts in URLs.

use std::fmt::Write as _;

use http::{Method, Uri, header};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{AskError, Request};

/// A text as a part of a URL or of a form: all but unreserved characters are escaped.
pub(super) fn escaped(text: &str) -> Zeroizing<String> {
    let mut escaped = Zeroizing::new(String::with_capacity(text.len() * 3));
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            // Writing to a text does not fail.
            _ => _ = write!(*escaped, "%{byte:02X}"),
        }
    }
    escaped
}

/// The body of a form.
pub(super) fn form(fields: &[(&str, &str)]) -> Zeroizing<Vec<u8>> {
    let mut body = Zeroizing::new(Vec::new());
    for (name, value) in fields {
        if !body.is_empty() {
            body.push(b'&');
        }
        body.extend_from_slice(name.as_bytes());
        body.push(b'=');
        body.extend_from_slice(escaped(value).as_bytes());
    }
    body
}

/// A request that posts a form.
pub(super) fn post_form(url: &str, fields: &[(&str, &str)]) -> Result<Request, AskError> {
    let request = http::Request::post(url)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::ACCEPT, "application/json");
    request.body(form(fields)).map_err(|_| no_url())
}

/// A request that sends JSON, and shows a credential in a header.
pub(super) fn send_json(
    method: Method,
    url: &str,
    (header, credential): (&str, &str),
    body: &Value,
) -> Result<Request, AskError> {
    let mut shown = http::HeaderValue::from_str(credential)
        .map_err(|_| AskError::refused("its credential is not text in one line"))?;
    shown.set_sensitive(true);
    let request = http::Request::builder()
        .method(method)
        .uri(url)
        .header(http::header::CONTENT_TYPE, "application/json")
        .header(header, shown);
    request
        .body(Zeroizing::new(body.to_string().into_bytes()))
        .map_err(|_| no_url())
}

fn no_url() -> AskError {
    AskError::refused("what names its server is no address")
}

/// A server's address, with one of these schemes and without anything behind the port but a path.
pub(super) fn address(text: &str, schemes: &[&str]) -> Option<Uri> {
    let uri: Uri = text.trim().parse().ok()?;
    let authority = uri.authority()?;
    let is_plain = !authority.as_str().contains('@') && uri.query().is_none() && !authority.host().is_empty();
    (is_plain && schemes.contains(&uri.scheme_str()?)).then_some(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_escapes_all_that_would_be_read_as_something_else() {
        let body = form(&[("a", "x y&b=c+d"), ("e", "ä/")]);
        assert_eq!(body.as_slice(), b"a=x%20y%26b%3Dc%2Bd&e=%C3%A4%2F");
    }

    #[test]
    fn an_address_has_a_known_scheme_a_host_and_no_user_or_query() {
        for good in [
            "https://vault:8200",
            "http://[::1]:8200/base",
            " https://v.example.org/ ",
        ] {
            assert!(address(good, &["http", "https"]).is_some(), "{good}");
        }
        for bad in [
            "vault:8200",
            "ftp://vault",
            "https://u:p@vault",
            "https://vault/?x=y",
            "/v1",
            "",
        ] {
            assert!(address(bad, &["http", "https"]).is_none(), "{bad}");
        }
    }
}
