//! Expressions of the Common Expression Language, as health checks and dependencies have them: compiled with their faults
//! named, and evaluated over JSON within bounds of length, depth and work. Nothing of an evaluation is kept.

mod cost;
mod shape;
mod value;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use cel::{
    Context, Env, ExecutionError, Value as CelValue, extensions, extractors::This, parser::PrattParser,
};
use serde_json::Value;

pub use self::cost::Work;
use crate::text::re2::Regex;

/// The most bytes of an expression.
pub const MAX_BYTES: usize = 4 << 10;
/// The most parts of an expression, what macros stand for included.
const MAX_PARTS: usize = 1000;
/// How deep parentheses, lists and calls stand in each other.
const MAX_NESTING: u16 = 32;
/// Bytes of a compiled regular expression.
const MAX_REGEX: usize = 256 << 10;
/// Faults of a text that are named.
const FAULTS: u32 = 3;
/// Characters of an error that are told: it may quote what was evaluated.
const TOLD: usize = 200;
/// What evaluation needs of the stack at most, and what it gets where less is left.
const STACK: usize = 4 << 20;

/// Why an expression gives no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CelError {
    /// Somebody has to change it.
    #[error("{0}")]
    Invalid(String),
    /// With these values it has none; with others it may.
    #[error("{0}")]
    Failed(String),
}

/// The variables that an expression may name.
#[derive(Debug, Clone, Copy)]
pub enum Variables<'a> {
    /// The fields of an object, whichever it has.
    Any,
    /// These alone.
    Only(&'a [&'a str]),
}

/// A compiled expression.
#[derive(Debug, Clone)]
pub struct Expression(cel::IdedExpr);

impl Expression {
    /// Compiles an expression that shares its work with others.
    pub fn compile_within(text: &str, variables: Variables<'_>, left: &mut Work) -> Result<Self, CelError> {
        left.read(text.len());
        Self::compile(text, variables)
    }

    /// Compiles an expression. What it evaluates to is known once it is evaluated.
    pub fn compile(text: &str, variables: Variables<'_>) -> Result<Self, CelError> {
        if text.len() > MAX_BYTES {
            let message = format!("an expression of {} bytes is over {MAX_BYTES}", text.len());
            return Err(CelError::Invalid(message));
        }
        let parser = PrattParser::new()
            .max_recursion_depth(MAX_NESTING)
            .max_expression_node_count(MAX_PARTS)
            .error_recovery_limit(FAULTS)
            .error_reporting_limit(FAULTS)
            .enable_optional_syntax(true);
        let parsed = guarded(|| parser.parse(text)).map_err(CelError::Invalid)?;
        let expr = parsed.map_err(|errors| CelError::Invalid(faults(&errors)))?;
        shape::check(&expr, variables, MAX_PARTS).map_err(CelError::Invalid)?;
        Ok(Self(expr))
    }

    /// Evaluates the expression to true or false, over variables by name.
    pub fn holds<'a>(&self, data: impl IntoIterator<Item = (&'a str, &'a Value)>) -> Result<bool, CelError> {
        self.holds_within(data, &mut Work::default())
    }

    /// Whether it names a variable.
    pub fn names(&self, variable: &str) -> bool {
        self.0.references().has_variable(variable)
    }

    /// The same, where it takes no more than is left of what it shares with others.
    pub fn holds_within<'a>(
        &self,
        data: impl IntoIterator<Item = (&'a str, &'a Value)>,
        left: &mut Work,
    ) -> Result<bool, CelError> {
        let named = self.0.references();
        let data: Vec<(&str, &Value)> = data
            .into_iter()
            .filter(|(name, _)| named.has_variable(name))
            .collect();
        cost::check(&self.0, &data, left).map_err(CelError::Failed)?;
        let evaluated = guarded(|| {
            let mut context = Context::with_env(environment()?);
            context
                .add_function("matches", matches)
                .map_err(|error| error.to_string())?;
            for (name, value) in &data {
                context.add_variable_from_value(*name, value::of(value));
            }
            context.resolve(&self.0).map_err(|error| told(&error.to_string()))
        });
        match evaluated.and_then(|evaluated| evaluated) {
            Ok(CelValue::Bool(holds)) => Ok(holds),
            Ok(other) => Err(CelError::Failed(format!(
                "the expression gives a value of type {}, not true or false",
                other.type_of()
            ))),
            Err(message) => Err(CelError::Failed(message)),
        }
    }

    /// Evaluates the expression over the fields of an object.
    pub fn holds_of(&self, object: &Value) -> Result<bool, CelError> {
        let fields = object.as_object().into_iter().flatten();
        self.holds(fields.map(|(name, value)| (name.as_str(), value)))
    }
}

/// The standard functions, and those for texts.
fn environment() -> Result<Arc<Env>, String> {
    let mut env = Env::stdlib();
    env.add_extension(extensions::strings)
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(env))
}

/// Whether a text has a match of a regular expression, in the syntax that Go has.
fn matches(This(text): This<Arc<String>>, pattern: Arc<String>) -> Result<bool, ExecutionError> {
    let regex = Regex::compile(&pattern, MAX_REGEX).map_err(|error| ExecutionError::FunctionError {
        function: "matches".to_owned(),
        message: error.to_string(),
    })?;
    Ok(regex.is_match(&text))
}

/// Runs it with room on the stack. What panics is an error of the expression.
fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(|| stacker::maybe_grow(STACK, 2 * STACK, run)))
        .map_err(|_| "the expression cannot be evaluated".to_owned())
}

/// The faults of a text in one line.
fn faults(errors: &cel::ParseErrors) -> String {
    let all = errors.errors.iter().map(|error| match error.pos {
        (line, column) if line > 0 => format!("line {line}, column {column}: {}", error.msg),
        _ => error.msg.clone(),
    });
    told(&all.collect::<Vec<_>>().join("; "))
}

fn told(message: &str) -> String {
    match message.char_indices().nth(TOLD) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holds(text: &str, object: &Value) -> Result<bool, String> {
        let compiled = Expression::compile(text, Variables::Any).map_err(|error| error.to_string())?;
        compiled.holds_of(object).map_err(|error| error.to_string())
    }

    fn refused(text: &str) -> String {
        match Expression::compile(text, Variables::Only(&["dep", "self"])) {
            Err(CelError::Invalid(message)) => message,
            other => format!("{other:?}"),
        }
    }

    fn certificate(ready: &str) -> Value {
        json!({
            "kind": "Certificate", "metadata": { "generation": 2, "labels": { "app.io/tier": "web" } },
            "status": { "observedGeneration": 2, "conditions": [
                { "type": "Issuing", "status": "False" }, { "type": "Ready", "status": ready },
            ] },
        })
    }

    #[test]
    fn conditions_are_read_as_flux_documents_it() {
        let ready = "status.conditions.filter(e, e.type == 'Ready').all(e, e.status == 'True')";
        assert_eq!(holds(ready, &certificate("True")), Ok(true));
        assert_eq!(holds(ready, &certificate("False")), Ok(false));
        let object = certificate("True");
        for (text, expected) in [
            ("status.observedGeneration == metadata.generation", true),
            ("has(status.phase) && status.phase == 'x'", false),
            ("metadata.labels['app.io/tier'] in ['web', 'db']", true),
            ("status.conditions.exists(c, c.type.matches('^Is+uing$'))", true),
            (
                "size(status.conditions) == 2 && kind.lowerAscii() == 'certificate'",
                true,
            ),
            ("status.?phase.orValue('none') == 'none'", true),
            ("status.observedGeneration > 1.5 ? true : false", true),
        ] {
            assert_eq!(holds(text, &object), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_there_is_an_error_that_names_it() {
        let missing = holds("status.phase == 'x'", &certificate("True")).expect_err("no phase");
        assert!(missing.contains("phase"), "{missing}");
        let missing = holds("status.phase == 'x'", &json!({ "kind": "X" })).expect_err("no status");
        assert!(missing.contains("status"), "{missing}");
        assert_eq!(
            holds("metadata.generation", &certificate("True")),
            Err("the expression gives a value of type int, not true or false".to_owned())
        );
    }

    #[test]
    fn faults_are_named_with_their_place() {
        assert!(
            refused("dep.status ==").starts_with("line 1, column 14: "),
            "{}",
            refused("dep.status ==")
        );
        assert_eq!(
            refused("deb.status == 1"),
            "there is no variable deb: dep, self are"
        );
        assert_eq!(
            refused("dep.all(x, y == 1)"),
            "there is no variable y: dep, self are"
        );
        assert_eq!(refused("sizes(dep) == 1"), "there is no function sizes");
        assert_eq!(refused("Dep{a: 1} == dep"), "messages cannot be made: Dep");
        assert!(refused("timestamp(dep.x) == 1").contains("timestamp"));
        for nothing in ["", "  ", "// nothing"] {
            assert!(
                refused(nothing).contains("expecting expression"),
                "{}",
                refused(nothing)
            );
        }
    }

    #[test]
    fn an_expression_is_bounded_in_bytes_parts_and_depth() {
        let long = format!("'{}' == dep", "x".repeat(MAX_BYTES));
        assert!(refused(&long).contains("is over 4096"));
        let parts = vec!["1"; MAX_PARTS].join("&&");
        assert!(refused(&parts).contains("1000"), "{}", refused(&parts));
        for deep in [
            vec!["1"; 100].join("+"),
            format!("{}1{}", "[".repeat(100), "]".repeat(100)),
            format!("dep{}", ".a".repeat(100)),
            format!("{}2", "true?1:".repeat(100)),
            format!("{}dep{}", "size(".repeat(100), ")".repeat(100)),
        ] {
            assert!(Expression::compile(&deep, Variables::Any).is_err(), "{deep}");
        }
    }

    #[test]
    fn work_is_bounded_by_what_is_evaluated_over() {
        let list = |items: usize| json!({ "l": vec![json!("abc"); items] });
        let nested = "l.all(a, l.all(b, l.all(c, a + b != c)))";
        assert_eq!(holds(nested, &list(10)), Ok(true));
        let refused = holds(nested, &list(1000)).expect_err("too much");
        assert!(refused.contains("work"), "{refused}");
        let doubled = format!("[l]{} == []", ".map(x, x + x)".repeat(12));
        assert!(holds(&doubled, &list(100)).is_err());
        let replaced = format!("'a'{} == ''", ".replace('a', 'aaaaaaaaaa')".repeat(12));
        assert!(holds(&replaced, &json!({})).is_err());
        // One condition among many objects is no work.
        let many =
            json!({ "status": { "conditions": vec![json!({ "type": "Ready", "status": "True" }); 100] } });
        assert_eq!(
            holds(
                "status.conditions.filter(e, e.type == 'Ready').all(e, e.status == 'True')",
                &many
            ),
            Ok(true)
        );
    }

    #[test]
    fn errors_are_short_whatever_was_evaluated() {
        let secret = json!({ "data": { "key": "x".repeat(5000) }, "other": 1 });
        let message = holds("data < other", &secret).expect_err("no order");
        assert!(message.chars().count() <= TOLD + 1, "{message}");
    }
}
