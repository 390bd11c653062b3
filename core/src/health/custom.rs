//! Kinds that say their health in their own way, judged by expressions of whoever applies them. As with Flux: what speaks of
//! an older generation is under way, then the first of `inProgress`, `failed` and `current` that holds counts.

use serde_json::Value;

use super::{Health, State, assess, judged_first, read::Fields};
use crate::{
    cel::{CelError, Expression, Variables},
    clock::Timestamp,
    object::group_of,
    unit::health::HealthExpr,
};

/// How one app judges kinds.
#[derive(Debug, Clone, Default)]
pub struct Judge(Vec<Rule>);

#[derive(Debug, Clone)]
struct Rule {
    of: HealthExpr,
    /// Each with the health that it stands for, in order; one that was not compiled says so of each object.
    tests: Vec<(State, Result<Expression, CelError>)>,
}

impl Judge {
    /// Compiles expressions. One that cannot be is told of the objects that it is about, and of no others.
    pub fn new(exprs: &[HealthExpr]) -> Self {
        let rules = exprs.iter().map(|of| {
            let tests = [
                (State::InProgress, &of.in_progress),
                (State::Failed, &of.failed),
                (State::Current, &of.current),
            ];
            let tests = tests.into_iter().filter(|(_, text)| !text.is_empty());
            Rule {
                of: of.clone(),
                tests: tests
                    .map(|(state, text)| (state, Expression::compile(text, Variables::Any)))
                    .collect(),
            }
        });
        Self(rules.collect())
    }

    /// Tells whether nothing is judged in a way of its own.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Assesses an object as it stands in the cluster.
    pub fn assess(&self, object: &Value, now: Timestamp) -> Health {
        let fields = Fields(object);
        let (group, kind) = (
            group_of(fields.text(&["apiVersion"], "")),
            fields.text(&["kind"], ""),
        );
        let Some(rule) = self.0.iter().find(|rule| rule.of.is_of(group, kind)) else {
            return assess(object, now);
        };
        if let Some(health) = judged_first(object) {
            return health;
        }
        // What is evaluated may be quoted by an error.
        let is_secret = group.is_empty() && kind == "Secret";
        rule.assess(object, is_secret)
    }
}

impl Rule {
    fn assess(&self, object: &Value, is_secret: bool) -> Health {
        for (state, test) in &self.tests {
            let holds = test.clone().and_then(|test| test.holds_of(object));
            match holds {
                Ok(false) => {}
                Ok(true) => return health(*state),
                Err(error) => {
                    let message = match is_secret {
                        true => "healthCheckExprs: the expression gives no answer".to_owned(),
                        false => format!("healthCheckExprs: {error}"),
                    };
                    return Health::new(State::Unknown, "InvalidCELExpression", message);
                }
            }
        }
        Health::in_progress("InProgress", "no expression holds yet")
    }
}

fn health(state: State) -> Health {
    match state {
        State::Current => Health::current("Resource is current"),
        State::Failed => Health::failed("Failed", "the expression for failed holds"),
        other => Health::new(other, "InProgress", "the expression for inProgress holds"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judge(in_progress: &str, failed: &str, current: &str, kind: &str) -> Judge {
        Judge::new(&[HealthExpr {
            api_version: "example.com/v1".into(),
            kind: kind.into(),
            in_progress: in_progress.into(),
            failed: failed.into(),
            current: current.into(),
        }])
    }

    fn object(phase: &str) -> Value {
        json!({
            "apiVersion": "example.com/v2", "kind": "Database", "metadata": { "generation": 2 },
            "status": { "observedGeneration": 2, "phase": phase },
        })
    }

    fn state(judge: &Judge, object: &Value) -> State {
        judge.assess(object, Timestamp(0)).state
    }

    #[test]
    fn the_first_that_holds_counts_and_without_one_it_is_under_way() {
        let judge = judge(
            "status.phase == 'Creating'",
            "status.phase.startsWith('Fail')",
            "status.phase in ['Up', 'Failing over']",
            "Database",
        );
        for (phase, expected) in [
            ("Creating", State::InProgress),
            ("Failed", State::Failed),
            ("Failing over", State::Failed),
            ("Up", State::Current),
            ("Other", State::InProgress),
        ] {
            assert_eq!(state(&judge, &object(phase)), expected, "{phase}");
        }
    }

    #[test]
    fn what_speaks_of_an_older_generation_is_under_way_whatever_holds() {
        let judge = judge("", "", "true", "");
        let mut old = object("Up");
        assert_eq!(state(&judge, &old), State::Current);
        old["metadata"]["generation"] = json!(3);
        assert_eq!(state(&judge, &old), State::InProgress);
    }

    #[test]
    fn a_rule_is_of_a_group_and_a_kind_or_of_the_whole_group() {
        let mut other = object("Up");
        other["kind"] = json!("Backup");
        let failing = |kind| judge("", "true", "false", kind);
        assert_eq!(
            state(&failing("Database"), &other),
            State::Current,
            "as kstatus has it"
        );
        assert_eq!(state(&failing(""), &other), State::Failed);
        other["apiVersion"] = json!("other.com/v1");
        assert_eq!(state(&failing(""), &other), State::Current);
    }

    #[test]
    fn an_expression_without_an_answer_is_told_and_of_a_secret_without_words_of_it() {
        let broken = judge("", "", "status.nothing == 1", "");
        let health = broken.assess(&object("Up"), Timestamp(0));
        assert_eq!(health.state, State::Unknown);
        assert!(health.message.contains("nothing"), "{health:?}");
        let of_secrets = Judge::new(&[HealthExpr {
            api_version: "v1".into(),
            kind: "Secret".into(),
            in_progress: String::new(),
            failed: String::new(),
            current: "data < 1".into(),
        }]);
        let secret = json!({ "apiVersion": "v1", "kind": "Secret", "data": { "a": "aHVzaA==" } });
        let health = of_secrets.assess(&secret, Timestamp(0));
        assert_eq!(
            &*health.message,
            "healthCheckExprs: the expression gives no answer"
        );
        let unread = judge("", "", "status.phase ==", "").assess(&object("Up"), Timestamp(0));
        assert_eq!(unread.state, State::Unknown);
    }
}
