//! Providers of our own, on the loopback.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use axum::{Router, extract::Request, routing::any};

use super::*;

/// A provider that answers all with what `answer` makes of the request's path and headers.
async fn provider(answer: impl Fn(&Request) -> (u16, Value) + Clone + Send + Sync + 'static) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    let handler = move |request: Request| {
        let (status, body) = answer(&request);
        let status = axum::http::StatusCode::from_u16(status).expect("a status");
        async move { (status, axum::Json(body)) }
    };
    let router = Router::new().fallback(any(handler));
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

fn app(base: &str, key: &str, more: &[(&str, &str)]) -> Result<Identity, String> {
    let fixed = [
        ("githubAppID", "12"),
        ("githubAppPrivateKey", key),
        ("githubAppBaseURL", base),
    ];
    let values = fixed
        .iter()
        .chain(more)
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Identity::github(&values.collect())
}

/// A key made for this test alone.
fn key() -> String {
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("key");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-f"])
        .arg(&file)
        .status();
    assert!(
        made.is_ok_and(|status| status.success()),
        "ssh-keygen of Debian's openssh-client is needed"
    );
    std::fs::read_to_string(file).expect("a key")
}

fn url() -> Url {
    Url::parse("https://git.example.org/app.git").expect("a URL")
}

fn password(credential: Credential) -> String {
    let Credential::Token { now, .. } = credential else {
        panic!("no token");
    };
    match *now {
        Credential::Basic { password, .. } => password.to_string(),
        _ => panic!("no password"),
    }
}

#[tokio::test]
async fn a_github_app_buys_a_token_once_and_renews_it_before_it_ends() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    static LIVES: AtomicU64 = AtomicU64::new(60);
    let base = provider(|request| {
        let statement = request
            .headers()
            .get("authorization")
            .and_then(|value| value.to_str().ok());
        // Header, claims and signature.
        assert!(statement.is_some_and(|text| text.starts_with("Bearer ") && text.split('.').count() == 3));
        match request.uri().path() {
            "/api/v3/orgs/team/installation" => (404, Value::Null),
            "/api/v3/users/team/installation" => (200, serde_json::json!({ "id": 7 })),
            "/api/v3/app/installations/7/access_tokens" => {
                let asked = ASKED.fetch_add(1, Ordering::SeqCst);
                let ends =
                    time::OffsetDateTime::now_utc() + Duration::from_secs(LIVES.load(Ordering::SeqCst));
                let ends = ends
                    .format(&time::format_description::well_known::Rfc3339)
                    .expect("a time");
                (
                    201,
                    serde_json::json!({ "token": format!("t{asked}"), "expires_at": ends }),
                )
            }
            path => panic!("{path}"),
        }
    })
    .await;
    let tokens = Tokens::new(Clients::new().expect("TLS"));
    let app = app(
        &format!("{base}/api/v3"),
        &key(),
        &[("githubAppInstallationOwner", "team")],
    )
    .expect("an app");
    let get = async || password(tokens.credential(&app, &url()).await.expect("a token"));
    // One that ends in a minute is not used for what takes minutes.
    assert_eq!(get().await, "t0");
    LIVES.store(3600, Ordering::SeqCst);
    assert_eq!(get().await, "t1");
    let (one, other) = tokio::join!(get(), get());
    assert_eq!([one, other], ["t1", "t1"]);
    assert_eq!(ASKED.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_provider_that_refuses_and_one_that_fails_are_told_apart_without_what_was_sent() {
    for (status, is_passing) in [(401, false), (404, false), (500, true), (302, true)] {
        let base = provider(move |_| (status, serde_json::json!({ "message": "canary" }))).await;
        let tokens = Tokens::new(Clients::new().expect("TLS"));
        let app = app(&base, &key(), &[("githubAppInstallationID", "7")]).expect("an app");
        let error = tokens.credential(&app, &url()).await.expect_err("refused");
        assert_eq!(error.is_passing(), is_passing, "{error}");
        let said = error.to_string();
        assert!(
            said.starts_with("GitHub at '127.0.0.1'") && !said.contains("canary"),
            "{said}"
        );
    }
}

#[test]
fn what_a_github_app_lacks_is_named_without_values() {
    for (more, why) in [
        (vec![], "'githubAppInstallationID' or"),
        (
            vec![("githubAppInstallationID", "1/2")],
            "'githubAppInstallationID' or",
        ),
        (
            vec![
                ("githubAppInstallationID", "1"),
                ("githubAppInstallationOwner", "o"),
            ],
            "only one of",
        ),
    ] {
        let error = app("https://api.example.org", &key(), &more)
            .err()
            .expect("refused");
        assert!(error.starts_with(why), "{error}");
    }
    let id = [("githubAppInstallationID", "1")];
    let error = app("https://api.example.org", "canary", &id)
        .err()
        .expect("refused");
    assert_eq!(error, "'githubAppPrivateKey' is no RSA key in PEM");
    assert!(app("ftp://x", &key(), &id).is_err());
}

#[tokio::test]
async fn azure_and_aws_say_which_variable_the_hub_lacks() {
    let tokens = Tokens::new(Clients::new().expect("TLS"));
    let none: Environment = |_| None;
    let azure = Identity(Arc::new(azure::Workload::devops(none)));
    let of = |url: &str| Url::parse(url).expect("a URL");
    let asked = async |identity: &Identity, at: &str| {
        let credential = tokens.credential(identity, &of(at)).await;
        credential.expect_err("refused")
    };
    let error = asked(&azure, "https://dev.azure.com/team/project/_git/app").await;
    assert!(error.to_string().contains("AZURE_TENANT_ID"), "{error}");
    let aws = Identity(Arc::new(aws::Role::of(none)));
    let error = asked(
        &aws,
        "https://git-codecommit.eu-west-1.amazonaws.com/v1/repos/app",
    )
    .await;
    assert!(error.to_string().contains("AWS_ROLE_ARN"), "{error}");
    // What is none of the provider's is refused before the provider is asked.
    for identity in [azure, aws] {
        let error = asked(&identity, "https://git.example.org/app.git").await;
        assert!(matches!(error, TokenError::Elsewhere { .. }), "{error}");
        assert!(!error.is_passing());
    }
}
