//! Objects that a unit lets go of for good: they stay as they are, and what says that they are ours is taken off. One request
//! beside the look, and none where there is nothing to take off.

use serde_json::{Value, json};

use super::{Release, UNIT_LABEL};
use crate::apply::{MANAGER, fields, inventory::Record};

/// What is to be done with an object that its unit lets go of.
#[derive(Debug, Clone, PartialEq)]
pub enum Parting {
    /// It is not there any more.
    Gone,
    /// Nothing: it is not the unit's.
    Release(Release),
    /// Its metadata is patched, of just the version that was read.
    Unmark(Vec<Value>),
}

/// Judges an object by a look just taken at its `metadata`; `None`: it is not there. `unit` as its mark names it.
pub fn at_parting(record: &Record, unit: &str, metadata: Option<&Value>) -> Parting {
    let Some(metadata) = metadata else {
        return Parting::Gone;
    };
    let uid = metadata["uid"].as_str().unwrap_or_default();
    if record.uid.as_ref().is_some_and(|known| !known.is(uid)) {
        return Parting::Release(Release::Replaced);
    }
    match metadata["labels"][UNIT_LABEL].as_str() {
        None => return Parting::Release(Release::Unmarked),
        Some(mark) if mark != unit => return Parting::Release(Release::Marked(mark.to_owned())),
        Some(_) => {}
    }
    // What is on its way out is nobody's.
    if metadata["deletionTimestamp"].is_string() {
        return Parting::Release(Release::LetGo);
    }
    let label = UNIT_LABEL.replace('/', "~1");
    let mut patch = vec![json!({"op": "remove", "path": format!("/metadata/labels/{label}")})];
    let entries = fields::entries(metadata);
    let mut others: Vec<&Value> = entries
        .iter()
        .filter(|entry| entry["manager"] != MANAGER)
        .collect();
    if others.len() < entries.len() {
        // An empty list would be taken for one that was not given.
        let nobody = json!({});
        if others.is_empty() {
            others.push(&nobody);
        }
        patch.push(json!({"op": "replace", "path": "/metadata/managedFields", "value": others}));
    }
    let version = &metadata["resourceVersion"];
    patch.push(json!({"op": "replace", "path": "/metadata/resourceVersion", "value": version}));
    Parting::Unmark(patch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::policy::Policy;

    const UID: &str = "00000000-0000-4000-8000-000000000001";

    fn record() -> Record {
        let mut record = Record::intent("v1", false, Policy::default());
        record.uid = Some(UID.into());
        record
    }

    fn live(mark: &str) -> Value {
        json!({
            "uid": UID, "resourceVersion": "7", "labels": {UNIT_LABEL: mark, "app": "web"},
            "managedFields": [{"manager": "them"}, {"manager": MANAGER, "operation": "Apply"}],
        })
    }

    #[test]
    fn of_what_is_let_go_of_mark_and_managed_fields_go_and_all_else_stays() {
        let Parting::Unmark(patch) = at_parting(&record(), "u", Some(&live("u"))) else {
            panic!("it is ours");
        };
        let label = format!("/metadata/labels/{}", UNIT_LABEL.replace('/', "~1"));
        assert_eq!(
            patch,
            [
                json!({"op": "remove", "path": label}),
                json!({"op": "replace", "path": "/metadata/managedFields", "value": [{"manager": "them"}]}),
                json!({"op": "replace", "path": "/metadata/resourceVersion", "value": "7"}),
            ]
        );
        let mut alone = live("u");
        alone["managedFields"] = json!([{"manager": MANAGER}]);
        let Parting::Unmark(patch) = at_parting(&record(), "u", Some(&alone)) else {
            panic!("it is ours");
        };
        assert_eq!(patch[1]["value"], json!([{}]));
    }

    #[test]
    fn what_is_anothers_or_gone_is_not_touched() {
        let parting = |metadata: Value| at_parting(&record(), "u", Some(&metadata));
        assert_eq!(at_parting(&record(), "u", None), Parting::Gone);
        assert_eq!(
            parting(live("other")),
            Parting::Release(Release::Marked("other".to_owned()))
        );
        let mut unmarked = live("u");
        unmarked["labels"] = json!({});
        assert_eq!(parting(unmarked), Parting::Release(Release::Unmarked));
        let mut replaced = live("u");
        replaced["uid"] = json!("00000000-0000-4000-8000-000000000002");
        assert_eq!(parting(replaced), Parting::Release(Release::Replaced));
        let mut leaving = live("u");
        leaving["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(parting(leaving), Parting::Release(Release::LetGo));
    }
}
