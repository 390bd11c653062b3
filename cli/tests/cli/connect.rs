//! Which hub is asked, whether it is the right one, and what is said when it is not.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use flotilla_api::access::Context;
use insta::assert_snapshot;
use tonic::Code;

use crate::hub::{Answers, Hub, command};

#[tokio::test]
async fn a_hub_under_another_root_or_of_another_domain_is_refused() {
    let hub = Hub::start(Answers::default()).await;
    let right = hub.context.clone();
    let other = format!("sha256:{}", "0".repeat(64));
    hub.configure(Context {
        pins: vec![other],
        ..right.clone()
    });
    assert_snapshot!(hub.run(&["version"]).await, @"
    exit 3
    -- out
    -- err
    ✗ the hub at ENDPOINT cannot be reached: its root certificate is none of the pinned ones
      hint: it is named by FOLDER/admin.yaml
    ");
    hub.configure(Context {
        trust_domain: "other.example".to_owned(),
        ..right
    });
    assert_snapshot!(hub.run(&["version"]).await, @"
    exit 3
    -- out
    -- err
    ✗ the hub at ENDPOINT cannot be reached: its certificate is not that of a hub of this trust domain
      hint: it is named by FOLDER/admin.yaml
    ");
    assert_eq!(hub.seen(), [""; 0], "no credential was sent");
}

#[tokio::test]
async fn a_wrong_credential_has_its_own_exit_code() {
    let hub = Hub::start(Answers::default()).await;
    hub.configure(Context {
        token: "wrong".to_owned(),
        ..hub.context.clone()
    });
    assert_snapshot!(hub.run(&["version"]).await, @"
    exit 4
    -- out
    -- err
    ✗ the credential is not known
    ");
}

#[tokio::test]
async fn a_hub_that_is_not_there_has_its_own_exit_code() {
    let hub = Hub::start(Answers::default()).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let free = listener.local_addr().expect("an address");
    drop(listener);
    hub.configure(Context {
        endpoint: format!("https://{free}"),
        ..hub.context.clone()
    });
    let ran = hub.run(&["version"]).await;
    assert_eq!(ran.code, 3);
    assert!(
        ran.err.contains("cannot be reached") && ran.err.contains("admin.yaml"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn a_hub_that_takes_a_connection_and_says_nothing_ends_a_command_at_its_time() {
    let hub = Hub::start(Answers::default()).await;
    // The kernel takes connections for it; nobody shakes hands.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    hub.configure(Context {
        endpoint: format!("https://{address}"),
        ..hub.context.clone()
    });
    let command = hub.run(&["version", "--timeout", "1s"]);
    let ran = tokio::time::timeout(Duration::from_secs(20), command)
        .await
        .expect("it ends");
    assert_eq!(ran.code, 3);
    assert!(ran.err.contains("no TLS connection within 1s"), "{}", ran.err);
}

#[tokio::test]
async fn a_hubs_failures_are_told() {
    for (code, message, exit) in [
        (Code::Unavailable, "the store is starting", 3),
        (Code::PermissionDenied, "this needs the admin role", 4),
        (Code::Unimplemented, "", 1),
        (Code::InvalidArgument, "label selector: unknown operator", 1),
    ] {
        let hub = Hub::start(Answers {
            failure: Some((code, message)),
            ..Answers::default()
        })
        .await;
        let ran = hub.run(&["get", "ks"]).await;
        assert_eq!(ran.code, exit, "{code:?}");
        assert!(ran.err.contains(message), "{}", ran.err);
    }
}

#[tokio::test]
async fn the_hub_is_found_by_variable_folder_and_data_directory() {
    let hub = Hub::start(Answers::default()).await;
    let folder = hub.folder.path();
    let text = fs::read_to_string(folder.join("admin.yaml")).expect("a file");
    for below in ["config/flotilla", "data"] {
        fs::create_dir_all(folder.join(below)).expect("a folder");
        fs::write(folder.join(below).join("admin.yaml"), &text).expect("a file");
    }
    let path = |below: &str| folder.join(below).display().to_string();
    for (name, value) in [
        ("FLOTILLA_CONFIG", path("admin.yaml")),
        ("XDG_CONFIG_HOME", path("config")),
        ("FLOTILLA_DATA_DIR", path("data")),
    ] {
        let variables = BTreeMap::from([(name.to_owned(), value)]);
        let ran = command(&["version"], &variables, "").await;
        assert_eq!(ran.code, 0, "{name}: {}", ran.err);
    }
}

#[tokio::test]
async fn without_any_configuration_the_way_to_one_is_told() {
    let nowhere = BTreeMap::from([("FLOTILLA_DATA_DIR".to_owned(), "/nowhere".to_owned())]);
    assert_snapshot!(command(&["get", "ks"], &nowhere, "").await, @"
    exit 2
    -- out
    -- err
    ✗ no hub is configured
      hint: start one on this machine with flotilla-hub
      hint: or name a file with --config or FLOTILLA_CONFIG
    ");
    assert_snapshot!(command(&["get", "ks", "--config", "/nowhere/x"], &BTreeMap::new(), "").await, @"
    exit 2
    -- out
    -- err
    ✗ cannot read /nowhere/x: No such file or directory (os error 2)
    ");
    let hub = Hub::start(Answers::default()).await;
    assert_snapshot!(hub.run(&["get", "ks", "--context", "tst"]).await, @r#"
    exit 2
    -- out
    -- err
    ✗ FOLDER/admin.yaml cannot be used: it has no context "tst"; did you mean "test"?
    "#);
}
