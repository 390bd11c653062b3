//! What stopped a template, with the errors it wraps, so that rendering can word it as Helm does.

/// An error of a function or of an execution.
#[derive(Debug)]
pub(super) struct ExecError {
    /// The whole text, that of the cause included.
    pub(super) text: String,
    /// Whether a template's execution says it, not a function.
    pub(super) executing: bool,
    /// The error this one wraps.
    pub(super) cause: Option<Box<ExecError>>,
}

impl ExecError {
    /// Returns the error of a function.
    pub(super) fn plain(text: String) -> Box<ExecError> {
        Box::new(ExecError {
            text,
            executing: false,
            cause: None,
        })
    }
}

impl From<String> for Box<ExecError> {
    fn from(text: String) -> Self {
        ExecError::plain(text)
    }
}

/// What `fail` and `required` put around their message; only what is between is shown.
pub(super) const WARN_START: &str = "HELM_ERR_START";
pub(super) const WARN_END: &str = "HELM_ERR_END";

/// Returns the error of rendering a file as Helm prints it.
pub(super) fn reformat(filename: &str, fault: &ExecError) -> String {
    if !fault.executing {
        return fault.text.clone();
    }
    let mut tokens = fault.text.splitn(3, ": ");
    let (Some(_), Some(location), Some(rest)) = (tokens.next(), tokens.next(), tokens.next()) else {
        return format!("execution error in ({filename}): {}", fault.text);
    };
    if let Some(message) = warned(rest) {
        return format!("execution error at ({location}): {message}");
    }
    let whole = fault.text.clone();
    let mut traces: Vec<String> = Vec::new();
    let mut current = Some(fault);
    while let Some(fault) = current {
        let Some(trace) = trace(&fault.text) else {
            return whole;
        };
        if traces.last() != Some(&trace) {
            traces.push(trace);
        }
        current = fault.cause.as_deref();
    }
    traces.concat().trim().to_owned()
}

fn warned(text: &str) -> Option<&str> {
    let start = text.find(WARN_START)? + WARN_START.len();
    let end = text.rfind(WARN_END)?;
    text.get(start..end)
}

/// Takes an execution's error apart into a location, what was executed, and the message, each on its line.
fn trace(text: &str) -> Option<String> {
    let rest = text.strip_prefix("template: ")?;
    if rest.starts_with("no template ") {
        return Some(format!("{text}\n"));
    }
    let cut = |message: &str| message.split(" template:").next().unwrap_or_default().to_owned();
    if let Some((location, after)) = rest.split_once(": executing \"") {
        let (function, after) = after.split_once('"')?;
        let (at, message) = after.strip_prefix(" at <")?.split_once(">: ")?;
        let message = cut(message);
        let mut trace = format!("{location}\n  executing \"{function}\" at <{at}>:\n    ");
        if !message.is_empty() {
            trace.push_str(&message);
            trace.push('\n');
        }
        return Some(trace);
    }
    let (location, message) = rest.rsplit_once(": ")?;
    Some(format!("{location}\n  {}\n", cut(message)))
}

/// Returns the error of parsing a file as Helm prints it.
pub(super) fn reformat_parse(filename: &str, text: &str) -> String {
    let tokens: Vec<&str> = text.split(": ").collect();
    match tokens[..] {
        [_] => format!("parse error in ({filename}): {text}"),
        [_, location, ..] => format!("parse error at ({location}): {}", tokens[tokens.len() - 1]),
        [] => text.to_owned(),
    }
}
