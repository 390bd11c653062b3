//! Services that have keys are asked over TLS as their APIs want it: the server here verifies each request before it answers.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use ::base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use flotilla_agent::key_services::KeyServices;
use flotilla_sops::{AskError, Error, Keys, object};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use ring::{digest, hmac, signature};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use crate::decryption::{DATA_KEY, encrypted_for};

const SECRET: &str = "canary/secret+of=aws";
const ROLE_SECRET: &str = "canary/secret+of=the-role";
const ARN: &str = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd";
const RESOURCE: &str = "projects/p/locations/global/keyRings/r/cryptoKeys/k";
const HOSTS: [&str; 7] = [
    "kms.eu-west-1.amazonaws.com",
    "sts.eu-west-1.amazonaws.com",
    "oauth2.googleapis.com",
    "cloudkms.googleapis.com",
    "login.microsoftonline.com",
    "team.vault.azure.net",
    "vault.example.org",
];

#[expect(
    clippy::disallowed_methods,
    reason = "what is tested asks the same clock: signatures and tokens are of now"
)]
fn clock() -> SystemTime {
    SystemTime::now()
}

/// A request as the server got it.
struct Asked {
    host: String,
    method: String,
    target: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Asked {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn form(&self) -> BTreeMap<String, String> {
        assert_eq!(self.headers["content-type"], "application/x-www-form-urlencoded");
        let text = String::from_utf8(self.body.clone()).unwrap();
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap();
            (name.to_owned(), unescaped(value))
        };
        text.split('&').map(pair).collect()
    }

    /// Computes AWS' signature anew, with the secret that the access key has.
    fn verify_signature(&self, service: &str, secret_of: impl Fn(&str) -> &'static str) {
        let shown = &self.headers["authorization"];
        let part = |name: &str| {
            let (_, rest) = shown.split_once(name).unwrap();
            rest.split(", ").next().unwrap().to_owned()
        };
        let (credential, names, found) = (part("Credential="), part("SignedHeaders="), part("Signature="));
        let (access, scope) = credential.split_once('/').unwrap();
        let date = &self.headers["x-amz-date"];
        let day = &date[..8];
        assert_eq!(scope, format!("{day}/eu-west-1/{service}/aws4_request"));
        let must = ["host", "x-amz-date"];
        assert!(
            must.iter()
                .all(|name| names.split(';').any(|other| other == *name)),
            "{names}"
        );
        if self.headers.contains_key("x-amz-security-token") {
            assert!(names.contains("x-amz-security-token"), "{names}");
        }
        let headers: String = names
            .split(';')
            .map(|name| format!("{name}:{}\n", self.headers[name]))
            .collect();
        let hash = |bytes: &[u8]| hex(digest::digest(&digest::SHA256, bytes).as_ref());
        let (method, target) = (&self.method, &self.target);
        let request = format!("{method}\n{target}\n\n{headers}\n{names}\n{}", hash(&self.body));
        let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hash(request.as_bytes()));
        let mut key = format!("AWS4{}", secret_of(access)).into_bytes();
        for part in [day, "eu-west-1", service, "aws4_request", &text] {
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), part.as_bytes());
            key = tag.as_ref().to_vec();
        }
        assert_eq!(found, hex(&key), "the signature is another");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unescaped(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        match first {
            b'%' => {
                let code = std::str::from_utf8(&after[..2]).unwrap();
                bytes.push(u8::from_str_radix(code, 16).unwrap());
                rest = &after[2..];
            }
            byte => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}

type Answers = Arc<dyn Fn(&Asked) -> (u16, Value) + Send + Sync>;

/// A server that is all services, and what it was asked.
struct Server {
    services: KeyServices,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(answers: impl Fn(&Asked) -> (u16, Value) + Send + Sync + 'static) -> Self {
        flotilla_testkit::install_tls_provider();
        let authority = flotilla_testkit::Authority::new("services").unwrap();
        let own = authority.server(&HOSTS).unwrap();
        let acceptor = acceptor(&own.cert_pem, &own.key_pem);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let (answers, asked): (Answers, _) = (Arc::new(answers), Arc::new(Mutex::new(Vec::new())));
        let told = asked.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answers, told) = (acceptor.clone(), answers.clone(), told.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = service_fn(move |request| answer(request, answers.clone(), told.clone()));
                    let http = hyper::server::conn::http1::Builder::new();
                    _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self {
            services: KeyServices::at(address, authority.ca_pem()),
            asked,
        }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Decrypts a document, asking for the keys that this takes.
    async fn decrypt(&self, keys: &Keys, document: &Value) -> Result<Value, AskError> {
        loop {
            let mut object = document.clone();
            match object::decrypt(&mut object, keys) {
                Ok(_) => return Ok(object),
                Err(error) => match error.error {
                    Error::Unasked(unasked) => keys.ask(&unasked, &self.services).await?,
                    other => panic!("{other}"),
                },
            }
        }
    }

    async fn opens(&self, keys: &Keys, document: &Value) {
        let object = self.decrypt(keys, document).await.unwrap();
        assert_eq!(object["stringData"]["password"], "s3cr3t-canary");
    }
}

fn acceptor(certificate: &str, key: &str) -> TlsAcceptor {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(Result::unwrap);
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    TlsAcceptor::from(Arc::new(config.with_single_cert(chain.collect(), key).unwrap()))
}

async fn answer(
    request: Request<Incoming>,
    answers: Answers,
    told: Arc<Mutex<Vec<String>>>,
) -> Result<Response<Full<bytes::Bytes>>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let headers = parts.headers.iter();
    let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    let headers: BTreeMap<String, String> = headers.collect();
    let asked = Asked {
        host: headers["host"].clone(),
        method: parts.method.to_string(),
        target: parts.uri.to_string(),
        headers,
        body: body.collect().await?.to_bytes().to_vec(),
    };
    told.lock().unwrap().push(asked.host.clone());
    let (status, value) = answers(&asked);
    let body = Full::new(bytes::Bytes::from(value.to_string()));
    Ok(Response::builder().status(status).body(body).unwrap())
}

fn keys(file: &str, content: &str) -> Keys {
    Keys::import([(file, content.as_bytes())]).unwrap()
}

fn aws_keys() -> Keys {
    keys(
        "sops.aws-kms",
        &format!("aws_access_key_id: AKIDOWN\naws_secret_access_key: {SECRET}\n"),
    )
}

fn for_aws(role: Option<&str>) -> Value {
    let mut key = json!({"arn": ARN, "created_at": "2026-01-01T00:00:00Z", "enc": STANDARD.encode("wrapped"),
        "aws_profile": "", "context": {"team": "apps"}});
    if let Some(role) = role {
        key["role"] = role.into();
    }
    encrypted_for(json!({"kms": [key]}))
}

/// Decrypts as AWS KMS does, for whoever has the secret that is expected.
fn kms(asked: &Asked, secret_of: impl Fn(&str) -> &'static str) -> (u16, Value) {
    asked.verify_signature("kms", secret_of);
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("POST", "/"));
    assert_eq!(asked.headers["x-amz-target"], "TrentService.Decrypt");
    assert_eq!(asked.headers["content-type"], "application/x-amz-json-1.1");
    let wanted = json!({"KeyId": ARN, "CiphertextBlob": STANDARD.encode("wrapped"),
        "EncryptionContext": {"team": "apps"}});
    assert_eq!(asked.json(), wanted);
    (
        200,
        json!({"KeyId": ARN, "Plaintext": DATA_KEY, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}),
    )
}

fn own_secret(access: &str) -> &'static str {
    assert_eq!(access, "AKIDOWN");
    SECRET
}

#[tokio::test]
async fn aws_kms_is_asked_once_with_a_signature_and_the_documents_context() {
    let server = Server::start(|asked| kms(asked, own_secret)).await;
    let keys = aws_keys();
    server.opens(&keys, &for_aws(None)).await;
    server.opens(&keys, &for_aws(None)).await;
    assert_eq!(server.asked(), ["kms.eu-west-1.amazonaws.com"]);
}

#[tokio::test]
async fn aws_kms_is_asked_as_the_role_that_the_document_names() {
    const ROLE: &str = "arn:aws:iam::111122223333:role/sops";
    let server = Server::start(|asked| match asked.host.split('.').next() {
        Some("sts") => {
            asked.verify_signature("sts", own_secret);
            let form = asked.form();
            assert_eq!(form["Action"], "AssumeRole");
            assert_eq!(form["RoleArn"], ROLE);
            let ends = clock() + Duration::from_secs(3600);
            let ends = ends.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
            let given = json!({"AccessKeyId": "AKIDROLE", "SecretAccessKey": ROLE_SECRET,
                "SessionToken": "canary-session", "Expiration": ends});
            (
                200,
                json!({"AssumeRoleResponse": {"AssumeRoleResult": {"Credentials": given}}}),
            )
        }
        _ => {
            assert_eq!(asked.headers["x-amz-security-token"], "canary-session");
            kms(asked, |access| {
                assert_eq!(access, "AKIDROLE");
                ROLE_SECRET
            })
        }
    })
    .await;
    let keys = aws_keys();
    server.opens(&keys, &for_aws(Some(ROLE))).await;
    // Another document of the same role: its keys are good still.
    let mut other = for_aws(Some(ROLE));
    other["sops"]["kms"][0]["created_at"] = "2026-02-02T00:00:00Z".into();
    other["sops"]["kms"][0]["enc"] = format!("{}\n", STANDARD.encode("wrapped")).into();
    server.opens(&keys, &other).await;
    let hosts = ["sts", "kms", "kms"].map(|service| format!("{service}.eu-west-1.amazonaws.com"));
    assert_eq!(server.asked(), hosts);
}

/// A key made for this test alone, PKCS #8 in PEM, and its public half.
fn rsa() -> (String, Vec<u8>) {
    use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("key");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "rsa", "-b", "2048", "-m", "PKCS8", "-N", "", "-f"])
        .arg(&file)
        .status();
    assert!(
        made.is_ok_and(|status| status.success()),
        "ssh-keygen of Debian's openssh-client is needed"
    );
    let pem = std::fs::read_to_string(file).unwrap();
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    let pair = ring::rsa::KeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
    (pem, pair.public().as_ref().to_vec())
}

/// The header and the claims of a statement, whose signature is verified.
fn stated(statement: &str, public: &[u8], by: &'static signature::RsaParameters) -> (Value, Value) {
    let (signed, signature) = statement.rsplit_once('.').unwrap();
    let decoded = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    let key = signature::UnparsedPublicKey::new(by, public);
    key.verify(signed.as_bytes(), &decoded(signature))
        .expect("the statement is signed by another");
    let (header, claims) = signed.split_once('.').unwrap();
    let json = |text: &str| serde_json::from_slice(&decoded(text)).unwrap();
    (json(header), json(claims))
}

/// Seconds since 1970.
fn now() -> u64 {
    let since = clock().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap().as_secs()
}

#[tokio::test]
async fn gcp_kms_is_asked_with_a_token_bought_with_a_signed_statement() {
    let (pem, public) = rsa();
    let server = Server::start(move |asked| {
        if asked.host == "oauth2.googleapis.com" {
            let form = asked.form();
            assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
            let by = &signature::RSA_PKCS1_2048_8192_SHA256;
            let (header, claims) = stated(&form["assertion"], &public, by);
            assert_eq!(header, json!({"alg": "RS256", "typ": "JWT", "kid": "k1"}));
            assert_eq!(claims["iss"], "sops@p.iam.gserviceaccount.com");
            assert_eq!(claims["aud"], "https://oauth2.googleapis.com/token");
            assert_eq!(claims["scope"], "https://www.googleapis.com/auth/cloudkms");
            assert!(claims["iat"].as_u64().unwrap().abs_diff(now()) < 60);
            return (
                200,
                json!({"access_token": "canary-token", "expires_in": 3599, "token_type": "Bearer"}),
            );
        }
        assert_eq!(asked.headers["authorization"], "Bearer canary-token");
        assert_eq!(
            (asked.method.as_str(), &asked.target),
            ("POST", &format!("/v1/{RESOURCE}:decrypt"))
        );
        assert_eq!(asked.json()["ciphertext"], STANDARD.encode("wrapped"));
        (200, json!({"plaintext": DATA_KEY, "plaintextCrc32c": "1"}))
    })
    .await;
    let account = json!({"type": "service_account", "project_id": "p", "private_key_id": "k1", "private_key": pem,
        "client_email": "sops@p.iam.gserviceaccount.com", "token_uri": "https://oauth2.googleapis.com/token"});
    let keys = keys("sops.gcp-kms", &account.to_string());
    let document = |enc: &str| encrypted_for(json!({"gcp_kms": [{"resource_id": RESOURCE, "enc": enc}]}));
    server.opens(&keys, &document(&STANDARD.encode("wrapped"))).await;
    server
        .opens(&keys, &document(&format!("{}\n", STANDARD.encode("wrapped"))))
        .await;
    // The token is bought once.
    let hosts = [
        "oauth2.googleapis.com",
        "cloudkms.googleapis.com",
        "cloudkms.googleapis.com",
    ];
    assert_eq!(server.asked(), hosts);
}

fn for_azure() -> Value {
    encrypted_for(
        json!({"azure_kv": [{"vault_url": "https://team.vault.azure.net", "name": "sops",
        "version": "0123abc", "enc": URL_SAFE_NO_PAD.encode("wrapped")}]}),
    )
}

/// Decrypts as Azure Key Vault does.
fn key_vault(asked: &Asked) -> (u16, Value) {
    assert_eq!(asked.headers["authorization"], "Bearer canary-token");
    assert_eq!(asked.method, "POST");
    assert_eq!(asked.target, "/keys/sops/0123abc/decrypt?api-version=7.4");
    let wanted = json!({"alg": "RSA-OAEP-256", "value": URL_SAFE_NO_PAD.encode("wrapped")});
    assert_eq!(asked.json(), wanted);
    let opened = STANDARD.decode(DATA_KEY).unwrap();
    (200, json!({"kid": "k", "value": URL_SAFE_NO_PAD.encode(opened)}))
}

/// The form for a token, as every proof has it.
fn azure_form(asked: &Asked) -> BTreeMap<String, String> {
    assert_eq!(asked.target, "/t-1/oauth2/v2.0/token");
    let form = asked.form();
    assert_eq!(form["client_id"], "c-1");
    assert_eq!(form["grant_type"], "client_credentials");
    assert_eq!(form["scope"], "https://vault.azure.net/.default");
    form
}

#[tokio::test]
async fn azure_key_vault_is_asked_with_a_token_bought_with_a_secret() {
    let server = Server::start(|asked| match asked.host.as_str() {
        "login.microsoftonline.com" => {
            assert_eq!(azure_form(asked)["client_secret"], "canary~secret+of/azure");
            (200, json!({"access_token": "canary-token", "expires_in": 3599}))
        }
        _ => key_vault(asked),
    })
    .await;
    let content = "tenantId: t-1\nclientId: c-1\nclientSecret: canary~secret+of/azure\n";
    server.opens(&keys("sops.azure-kv", content), &for_azure()).await;
    assert_eq!(
        server.asked(),
        ["login.microsoftonline.com", "team.vault.azure.net"]
    );
}

#[tokio::test]
async fn azure_key_vault_is_asked_with_a_token_bought_with_a_certificate() {
    let (pem, public) = rsa();
    let pair = rcgen::KeyPair::from_pem_and_sign_algo(&pem, &rcgen::PKCS_RSA_SHA256).unwrap();
    let certificate = rcgen::CertificateParams::new(["sops".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&pair).unwrap();
    let thumbprint = digest::digest(&digest::SHA256, certificate.der());
    let thumbprint = URL_SAFE_NO_PAD.encode(thumbprint);
    let server = Server::start(move |asked| match asked.host.as_str() {
        "login.microsoftonline.com" => {
            let form = azure_form(asked);
            let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
            assert_eq!(form["client_assertion_type"], kind);
            let by = &signature::RSA_PSS_2048_8192_SHA256;
            let (header, claims) = stated(&form["client_assertion"], &public, by);
            assert_eq!(
                header,
                json!({"alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint})
            );
            assert_eq!((&claims["iss"], &claims["sub"]), (&json!("c-1"), &json!("c-1")));
            assert_eq!(
                claims["aud"],
                "https://login.microsoftonline.com/t-1/oauth2/v2.0/token"
            );
            assert!(claims["exp"].as_u64().unwrap() > now());
            (200, json!({"access_token": "canary-token", "expires_in": 3599}))
        }
        _ => key_vault(asked),
    })
    .await;
    let both = format!("{pem}{}", certificate.pem());
    let content = json!({"tenantId": "t-1", "clientId": "c-1", "clientCertificate": both});
    let keys = keys("sops.azure-kv", &content.to_string());
    server.opens(&keys, &for_azure()).await;
}

fn for_vault(address: &str) -> Value {
    encrypted_for(
        json!({"hc_vault": [{"vault_address": address, "engine_path": "team/transit", "key_name": "sops",
        "created_at": "2026-01-01T00:00:00Z", "enc": "vault:v1:wrapped"}]}),
    )
}

#[tokio::test]
async fn vault_transit_is_asked_with_the_token() {
    let server = Server::start(|asked| {
        assert_eq!(asked.headers["x-vault-token"], "hvs.canary");
        assert_eq!(
            (asked.method.as_str(), asked.target.as_str()),
            ("PUT", "/v1/team/transit/decrypt/sops")
        );
        assert_eq!(asked.json(), json!({"ciphertext": "vault:v1:wrapped"}));
        (200, json!({"request_id": "1", "data": {"plaintext": DATA_KEY}}))
    })
    .await;
    let keys = keys("sops.vault-token", "hvs.canary\n");
    server.opens(&keys, &for_vault("https://vault.example.org")).await;
}

#[tokio::test]
async fn what_a_service_refuses_is_told_with_its_key_and_a_remedy_and_without_secrets() {
    let sentence = "canary: the token hvs.canary is not allowed";
    let cases: [(Keys, Value, u16, Value, &str, bool); 6] = [
        (
            aws_keys(),
            for_aws(None),
            400,
            json!({"__type": "com.amazonaws.kms#AccessDeniedException", "message": sentence}),
            "AWS KMS arn:aws:kms:eu-west-1:111122223333:key/1234abcd: 'kms.eu-west-1.amazonaws.com' answered 400 \
             AccessDeniedException: allow kms:Decrypt on it",
            false,
        ),
        (
            aws_keys(),
            for_aws(None),
            400,
            json!({"__type": "ThrottlingException", "message": sentence}),
            "ThrottlingException",
            true,
        ),
        (
            keys("sops.vault-token", "hvs.canary"),
            for_vault("https://vault.example.org"),
            403,
            json!({"errors": [sentence]}),
            "Vault https://vault.example.org team/transit/sops: 'vault.example.org' answered 403 permission denied: put a \
             valid token into 'sops.vault-token', whose policy allows update on team/transit/decrypt/sops",
            false,
        ),
        (
            keys("sops.vault-token", "hvs.canary"),
            for_vault("https://vault.example.org"),
            503,
            json!({"errors": [sentence]}),
            "'vault.example.org' answered 503",
            true,
        ),
        (
            keys(
                "sops.azure-kv",
                "tenantId: t-1\nclientId: c-1\nclientSecret: canary",
            ),
            for_azure(),
            401,
            json!({"error": "invalid_client", "error_description": sentence}),
            "'login.microsoftonline.com' answered 401 invalid_client: look at the credentials in 'sops.azure-kv'",
            false,
        ),
        // A redirect would take the credential elsewhere.
        (
            keys("sops.vault-token", "hvs.canary"),
            for_vault("https://vault.example.org"),
            307,
            json!({}),
            "'vault.example.org' answered 307",
            true,
        ),
    ];
    for (keys, document, status, body, words, passes) in cases {
        let server = Server::start(move |_| (status, body.clone())).await;
        let error = server.decrypt(&keys, &document).await.unwrap_err();
        assert!(error.why.contains(words), "{words}: {error}");
        assert!(!error.why.contains("canary"), "{error}");
        assert_eq!(error.passes, passes, "{error}");
    }
}

#[tokio::test]
async fn an_answer_that_is_too_large_or_holds_no_data_key_is_refused() {
    let size = Arc::new(AtomicUsize::new(1 << 20));
    let of = size.clone();
    let server = Server::start(move |_| {
        let plaintext = STANDARD.encode(vec![0; of.load(Ordering::Relaxed)]);
        (200, json!({"data": {"plaintext": plaintext}}))
    })
    .await;
    let keys = keys("sops.vault-token", "hvs.canary");
    let document = for_vault("https://vault.example.org");
    let refused = async || server.decrypt(&keys, &document).await.unwrap_err().why;
    assert!(refused().await.contains("its answer is larger than 256 KiB"));
    size.store(1 << 10, Ordering::Relaxed);
    assert!(refused().await.contains("what it opens is no data key"));
}
