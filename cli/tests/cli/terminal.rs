//! What others write, commits and clusters, reaches the terminal as text and never as a command to it.

use flotilla_proto::fleet::v1::FleetEvent;

use crate::fleet::{cluster, reference, resource, unit};
use crate::hub::{Answers, Hub, Ran};

/// Clears the screen, sets a title, writes the clipboard; an 8-bit sequence; a text that runs backwards.
const EVIL: &str = "evil \u{1b}[2J\u{1b}]0;owned\u{7}\u{1b}]52;c;aGk=\u{7}\u{9b}2J\u{202e}txt";

fn hidden(text: &str) -> Vec<char> {
    let harmful = |c: &char| {
        (c.is_control() && !matches!(c, '\n' | '\t'))
            || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
    };
    text.chars().filter(harmful).collect()
}

fn assert_harmless(what: &str, ran: &Ran) {
    assert!(
        ran.out.contains("evil") || ran.err.contains("evil"),
        "{what}: {ran}"
    );
    assert_eq!(
        hidden(&format!("{}{}", ran.out, ran.err)),
        Vec::<char>::new(),
        "{what}: {ran}"
    );
}

#[tokio::test]
async fn no_text_of_others_moves_the_terminal_in_any_form_of_output() {
    let mut bad_cluster = cluster(EVIL, true);
    bad_cluster.message = EVIL.to_owned();
    let mut bad_unit = unit(EVIL, "False");
    bad_unit.message = EVIL.to_owned();
    let hub = Hub::start(Answers {
        resources: vec![resource("GitRepository", "flux-system", "fleet", "False", EVIL)],
        clusters: vec![bad_cluster],
        units: vec![bad_unit],
        events: vec![FleetEvent {
            id: 1,
            reason: EVIL.to_owned(),
            message: EVIL.to_owned(),
            resource: Some(reference("Kustomization", "flux-system", EVIL)),
            cluster: EVIL.to_owned(),
            object: EVIL.to_owned(),
            ..FleetEvent::default()
        }],
        ..Answers::default()
    })
    .await;
    for form in ["table", "wide", "json", "yaml", "name"] {
        for command in [&["events"][..], &["get", "clusters"], &["get", "units"]] {
            let ran = hub.run(&[command, &["-o", form]].concat()).await;
            assert_harmless(&format!("{command:?} as {form}"), &ran);
            if form == "json" {
                serde_json::from_str::<serde_json::Value>(&ran.out).expect("still JSON");
            }
        }
    }
    assert_harmless("a source", &hub.run(&["get", "sources", "git"]).await);
}

#[tokio::test]
async fn an_error_of_the_hub_does_not_move_the_terminal() {
    let hub = Hub::start(Answers {
        failure: Some((tonic::Code::InvalidArgument, EVIL)),
        ..Answers::default()
    })
    .await;
    assert_harmless("an error", &hub.run(&["get", "clusters"]).await);
}
