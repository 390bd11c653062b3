//! AWS KMS, with keys from the Secret, and as another role where the document names one.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use flotilla_core::text::base64;
use http::header;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    AskError, Fields, Request, Transport,
    form::post_form,
    signature::{Credentials, Scope},
    transport::Answer,
};
use crate::keys::DataKey;

pub(super) const FILE: &str = "sops.aws-kms";

/// A role's keys that end sooner are asked for again.
const RENEWED: Duration = Duration::from_secs(60);
/// Roles whose keys are kept.
const ROLES: usize = 256;

/// Keys, and those of roles that they were changed for.
pub(super) struct Access {
    own: Credentials,
    roles: Mutex<HashMap<(String, String), (Credentials, SystemTime)>>,
}

/// A key's ARN, taken apart.
struct Arn<'a> {
    region: &'a str,
    /// What names of AWS' servers end with in its partition.
    suffix: &'static str,
}

impl<'a> Arn<'a> {
    fn of(arn: &'a str) -> Option<Self> {
        let mut parts = arn.splitn(6, ':');
        let mut next = || parts.next();
        let (scheme, partition, service, region) = (next()?, next()?, next()?, next()?);
        let (account, resource) = (next()?, next()?);
        let is_word = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        let is_key = ["key/", "alias/"]
            .iter()
            .any(|kind| resource.len() > kind.len() && resource.starts_with(kind));
        let is_arn = scheme == "arn"
            && service == "kms"
            && is_word(region)
            && !account.is_empty()
            && account.bytes().all(|byte| byte.is_ascii_digit())
            && is_key;
        let suffix = match partition {
            "aws" | "aws-us-gov" => "amazonaws.com",
            "aws-cn" => "amazonaws.com.cn",
            "aws-eusc" => "amazonaws.eu",
            "aws-iso" => "c2s.ic.gov",
            "aws-iso-b" => "sc2s.sgov.gov",
            _ => return None,
        };
        is_arn.then_some(Self { region, suffix })
    }
}

impl Access {
    pub(super) fn of(content: &[u8]) -> Result<Self, String> {
        let fields = Fields::of(content)?;
        let get = |name: &str| {
            let value = fields.get(name).map(str::trim);
            value
                .map(str::to_owned)
                .ok_or_else(|| format!("it has no '{name}'"))
        };
        let session = fields.get("aws_session_token").map(str::trim);
        Ok(Self {
            own: Credentials {
                access: get("aws_access_key_id")?,
                secret: Zeroizing::new(get("aws_secret_access_key")?),
                session: session.map(|session| Zeroizing::new(session.to_owned())),
            },
            roles: Mutex::default(),
        })
    }

    pub(super) async fn open(
        &self,
        arn: &str,
        role: &str,
        context: &BTreeMap<String, String>,
        encrypted: &str,
        transport: &dyn Transport,
    ) -> Result<DataKey, AskError> {
        let place = Arn::of(arn).ok_or_else(|| AskError::refused("its ARN is none of a key of AWS KMS"))?;
        let credentials = match role {
            "" => self.own.clone(),
            role => self.role(role, &place, transport).await?,
        };
        let mut body = json!({"KeyId": arn, "CiphertextBlob": encrypted});
        if !context.is_empty() {
            body["EncryptionContext"] = context
                .iter()
                .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
                .collect();
        }
        let url = format!("https://kms.{}.{}/", place.region, place.suffix);
        let request = http::Request::post(url)
            .header(header::CONTENT_TYPE, "application/x-amz-json-1.1")
            .header("x-amz-target", "TrentService.Decrypt")
            .body(Zeroizing::new(body.to_string().into_bytes()));
        let request = request.map_err(|_| AskError::refused("its region is no name"))?;
        let answer = signed(&credentials, request, &place, "kms", transport).await?;
        let plaintext = answer.text(&["Plaintext"]).and_then(base64::decode);
        plaintext
            .map(Zeroizing::new)
            .ok_or_else(|| answer.incomplete("a data key"))
    }

    /// The keys of a role, which STS gives for ours.
    async fn role(
        &self,
        role: &str,
        place: &Arn<'_>,
        transport: &dyn Transport,
    ) -> Result<Credentials, AskError> {
        let name = (role.to_owned(), place.region.to_owned());
        {
            let roles = self.roles.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((credentials, ends)) = roles.get(&name)
                && *ends > transport.now() + RENEWED
            {
                return Ok(credentials.clone());
            }
        }
        let url = format!("https://sts.{}.{}/", place.region, place.suffix);
        let request = post_form(
            &url,
            &[
                ("Action", "AssumeRole"),
                ("Version", "2011-06-15"),
                ("RoleArn", role),
                ("RoleSessionName", "flotilla"),
            ],
        )?;
        let answer = signed(&self.own, request, place, "sts", transport).await?;
        let path = ["AssumeRoleResponse", "AssumeRoleResult", "Credentials"];
        let get = |field: &str| {
            let [response, result, credentials] = path;
            let text = answer.text(&[response, result, credentials, field]);
            text.map(str::to_owned)
                .ok_or_else(|| answer.incomplete("the keys of the role"))
        };
        let credentials = Credentials {
            access: get("AccessKeyId")?,
            secret: Zeroizing::new(get("SecretAccessKey")?),
            session: Some(Zeroizing::new(get("SessionToken")?)),
        };
        let [response, result, of] = path;
        let ends = match answer.number(&[response, result, of, "Expiration"]) {
            Some(at) if at > 0.0 => SystemTime::UNIX_EPOCH + Duration::from_secs_f64(at.min(1e11)),
            _ => transport.now() + Duration::from_secs(900),
        };
        let mut roles = self.roles.lock().unwrap_or_else(PoisonError::into_inner);
        if roles.len() >= ROLES {
            roles.clear();
        }
        roles.insert(name, (credentials.clone(), ends));
        Ok(credentials)
    }
}

/// Sends a signed request, and tells refusals apart.
async fn signed(
    credentials: &Credentials,
    mut request: Request,
    place: &Arn<'_>,
    service: &str,
    transport: &dyn Transport,
) -> Result<Answer, AskError> {
    let region = place.region;
    credentials.sign(&mut request, Scope { region, service }, transport.now())?;
    let answer = Answer::of(transport, request).await?;
    if answer.is_success() {
        return Ok(answer);
    }
    let code = match answer.word(&["__type"]) {
        "" => answer.word(&["Error", "Code"]),
        word => word,
    };
    Err(match code {
        "ThrottlingException" | "Throttling" | "LimitExceededException" | "RequestLimitExceeded" => {
            answer.busy(code)
        }
        "AccessDeniedException" | "AccessDenied" if service == "sts" => {
            answer.refused(code, "let the keys in 'sops.aws-kms' assume the role that the document names")
        }
        "AccessDeniedException" => {
            answer.refused(code, "allow kms:Decrypt on it to the keys in 'sops.aws-kms', or to the role")
        }
        "NotFoundException" | "DisabledException" | "KMSInvalidStateException" => {
            answer.refused(code, "the key is not there, or disabled")
        }
        "InvalidCiphertextException" | "IncorrectKeyException" => answer.refused(
            code,
            "the data key was encrypted with another key, or for another encryption context: run `sops updatekeys`",
        ),
        _ => answer.refused(code, "look at the keys in 'sops.aws-kms': they are wrong, or have ended"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_arns_of_keys_name_a_server() {
        let of = |arn: &'static str| Arn::of(arn).map(|arn| (arn.region, arn.suffix));
        let good = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd";
        assert_eq!(of(good), Some(("eu-west-1", "amazonaws.com")));
        let cn = "arn:aws-cn:kms:cn-north-1:111122223333:alias/sops";
        assert_eq!(of(cn), Some(("cn-north-1", "amazonaws.com.cn")));
        for bad in [
            "arn:aws:kms:evil.example.org/:111122223333:key/1",
            "arn:aws:kms::111122223333:key/1",
            "arn:aws:s3:eu-west-1:111122223333:key/1",
            "arn:evil:kms:eu-west-1:111122223333:key/1",
            "arn:aws:kms:eu-west-1:111122223333:key/",
            "alias/sops",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
