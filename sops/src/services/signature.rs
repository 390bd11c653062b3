//! AWS' signature, version 4, of requests that post to the root of a host.

use std::time::SystemTime;

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderValue, header};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{AskError, Request};

/// Keys of AWS.
#[derive(Clone)]
pub(super) struct Credentials {
    /// Names them, and is no secret.
    pub(super) access: String,
    /// Signs.
    pub(super) secret: Zeroizing<String>,
    /// Shown beside the signature where they were given for a while only.
    pub(super) session: Option<Zeroizing<String>>,
}

/// Where a signature counts.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

impl Credentials {
    /// Signs a request: all of its headers, and its body.
    pub(super) fn sign(
        &self,
        request: &mut Request,
        scope: Scope<'_>,
        now: SystemTime,
    ) -> Result<(), AskError> {
        let broken = || AskError::refused("the AWS credentials are not text in one line");
        let time = stamp(now);
        let host = request.uri().host().unwrap_or_default().to_owned();
        let headers = request.headers_mut();
        let mut set = |name: &'static str, value: &str| -> Result<(), AskError> {
            let mut value = HeaderValue::from_str(value).map_err(|_| broken())?;
            value.set_sensitive(name != "host" && name != "x-amz-date");
            headers.insert(name, value);
            Ok(())
        };
        set("host", &host)?;
        set("x-amz-date", &time)?;
        if let Some(session) = &self.session {
            set("x-amz-security-token", session)?;
        }
        let mut signed: Vec<(&str, &str)> = request
            .headers()
            .iter()
            .map(|(name, value)| Ok((name.as_str(), value.to_str().map_err(|_| broken())?.trim())))
            .collect::<Result<_, AskError>>()?;
        signed.sort_unstable();
        let authorization = self.authorization(&signed, request.body(), scope, &time);
        let mut authorization = HeaderValue::from_str(&authorization).map_err(|_| broken())?;
        authorization.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, authorization);
        Ok(())
    }

    fn authorization(&self, headers: &[(&str, &str)], body: &[u8], scope: Scope<'_>, time: &str) -> String {
        let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let lines: Zeroizing<String> = Zeroizing::new(
            headers
                .iter()
                .map(|(name, value)| format!("{name}:{value}\n"))
                .collect(),
        );
        let request = Zeroizing::new(format!(
            "POST\n/\n\n{}\n{names}\n{}",
            *lines,
            hex(&Sha256::digest(body))
        ));
        let day = time.get(..8).unwrap_or_default();
        let Scope { region, service } = scope;
        let scope = format!("{day}/{region}/{service}/aws4_request");
        let digest = hex(&Sha256::digest(request.as_bytes()));
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}");
        let mut key = Zeroizing::new(format!("AWS4{}", *self.secret).into_bytes());
        for part in [day, region, service, "aws4_request", &text] {
            let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("a key of any length is taken");
            mac.update(part.as_bytes());
            key = Zeroizing::new(mac.finalize().into_bytes().to_vec());
        }
        let (access, signature) = (&self.access, hex(&key));
        format!("AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={names}, Signature={signature}")
    }
}

/// A time as the signature states it.
fn stamp(now: SystemTime) -> String {
    let now = OffsetDateTime::from(now);
    let (day, clock) = (now.date(), now.time());
    format!(
        "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
        day.year(),
        u8::from(day.month()),
        day.day(),
        clock.hour(),
        clock.minute(),
        clock.second()
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// `post-vanilla` and `post-x-www-form-urlencoded` of AWS' own test suite.
    #[test]
    fn a_signature_is_that_of_the_test_suite_of_aws() {
        let credentials = Credentials {
            access: "AKIDEXAMPLE".into(),
            secret: Zeroizing::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into()),
            session: None,
        };
        let scope = Scope {
            region: "us-east-1",
            service: "service",
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160);
        let signed = |headers: &[(&str, &str)], body: &str| {
            let mut request = http::Request::post("https://example.amazonaws.com/");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let mut request = request
                .body(Zeroizing::new(body.as_bytes().to_vec()))
                .expect("a request");
            credentials.sign(&mut request, scope, now).expect("signed");
            let header = |name: &str| request.headers()[name].to_str().expect("text").to_owned();
            (header("authorization"), header("x-amz-date"))
        };
        let (authorization, date) = signed(&[], "");
        assert_eq!(date, "20150830T123600Z");
        assert_eq!(
            authorization,
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=host;x-amz-date, \
             Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
        );
        let form = [("Content-Type", "application/x-www-form-urlencoded")];
        let (authorization, _) = signed(&form, "Param1=value1");
        assert!(
            authorization.ends_with("ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"),
            "{authorization}"
        );
    }
}
