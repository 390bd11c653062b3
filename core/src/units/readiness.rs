//! Whether a dependency is ready by the expression of whoever needs it.

use serde_json::{Value, json};

use super::Wait;
use crate::{
    cel::{Expression, Variables, Work},
    unit::{Needed, ReadyExpr},
};

/// Why `readyExpr` does not hold; `None`: it does. `is_reached`: the dependency stands where its app was when this was
/// decided, or later. `dep` and `own` give what is said of the two; nothing is made of one that the expression does not name.
/// `left` is what all expressions of the unit may take together.
pub(super) fn unmet(
    name: &str,
    ready: &ReadyExpr,
    needed: &Needed,
    is_reached: bool,
    [dep, own]: [&dyn Fn() -> Value; 2],
    left: &mut Work,
) -> Option<Wait> {
    let expr = Expression::compile_within(&ready.expr, Variables::Only(&["dep", "self"]), left);
    let holds = expr.and_then(|expr| {
        let none = Value::Null;
        let dep = match expr.names("dep") {
            true => object(needed.app.as_deref().unwrap_or(&none), &dep(), is_reached),
            false => Value::Null,
        };
        let own = match expr.names("self") {
            true => object(&ready.app, &own(), true),
            false => Value::Null,
        };
        expr.holds_within([("dep", &dep), ("self", &own)], left)
    });
    match holds {
        Ok(true) => None,
        Ok(false) => Some(Wait::passing(format!(
            "dependency '{name}' is not ready according to readyExpr eval"
        ))),
        Err(error) => Some(Wait::passing(format!("dependency '{name}': readyExpr: {error}"))),
    }
}

/// An app with its status, as Flux would show it. What is under way is not observed yet.
fn object(app: &Value, status: &Value, is_reached: bool) -> Value {
    let (mut app, mut status) = (app.clone(), status.clone());
    let generation = app["metadata"]["generation"].as_i64().unwrap_or(1);
    let is_settled = status["conditions"][0]["status"] != "Unknown";
    if let Some(status) = status.as_object_mut() {
        status.retain(|_, value| !value.is_null());
        let observed = generation - i64::from(!(is_reached && is_settled));
        status.insert("observedGeneration".to_owned(), json!(observed));
    }
    match app.as_object_mut() {
        Some(fields) => drop(fields.insert("status".to_owned(), status)),
        None => app = json!({ "status": status }),
    }
    app
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(generation: i64, version: &str) -> Value {
        json!({ "metadata": { "generation": generation, "labels": { "app/version": version } } })
    }

    fn status(ready: &str) -> Value {
        json!({ "conditions": [{ "type": "Ready", "status": ready }], "lastAppliedRevision": "main@sha1:1" })
    }

    fn wait(expr: &str, is_reached: bool, ready: &str, own: &str) -> Option<String> {
        let needed = Needed {
            unit: crate::id::UnitId(uuid::Uuid::from_u128(1)),
            version: 0,
            app: Some(Box::new(app(3, "v2"))),
        };
        let ready_expr = ReadyExpr {
            expr: expr.to_owned(),
            app: app(1, own),
        };
        let dep = status(ready);
        let wait = unmet(
            "infra/db",
            &ready_expr,
            &needed,
            is_reached,
            [&|| dep.clone(), &|| status("False")],
            &mut Work::default(),
        );
        wait.map(|wait| wait.message)
    }

    #[test]
    fn the_example_of_flux_holds_once_labels_are_equal_and_the_dependency_is_ready_as_it_is_now() {
        let expr = "dep.metadata.labels['app/version'] == self.metadata.labels['app/version'] &&
            dep.status.conditions.filter(e, e.type == 'Ready').all(e, e.status == 'True') &&
            dep.metadata.generation == dep.status.observedGeneration";
        assert_eq!(wait(expr, true, "True", "v2"), None);
        for (is_reached, ready, own) in [(false, "True", "v2"), (true, "False", "v2"), (true, "True", "v1")] {
            assert_eq!(
                wait(expr, is_reached, ready, own).as_deref(),
                Some("dependency 'infra/db' is not ready according to readyExpr eval")
            );
        }
    }

    #[test]
    fn an_expression_that_cannot_be_evaluated_waits_with_its_error() {
        let message = wait("dep.status.nothing == 1", true, "True", "v1").expect("waits");
        assert!(
            message.starts_with("dependency 'infra/db': readyExpr: ") && message.contains("nothing"),
            "{message}"
        );
        assert_eq!(
            wait(
                "dep.status.lastAppliedRevision.startsWith('main@')",
                true,
                "True",
                "v1"
            ),
            None
        );
    }
}
