//! What a person reads when the API server refuses an object.

use super::policy::Policy;

/// The longest text; the server's words are cut, never the advice.
pub const MAX: usize = 1024;
/// The longest value that is quoted from a refusal.
const VALUE_MAX: usize = 120;

/// What API servers, admission webhooks and CEL rules say of a field that cannot be changed after creation.
const IMMUTABLE: &[&str] = &[
    "is immutable",
    "immutable field",
    "may not change once set",
    "updates to statefulset spec for fields other than",
    "updates to parameters are forbidden",
    "updates to provisioner are forbidden",
    "updates to reclaimpolicy are forbidden",
    "updates to volumebindingmode is forbidden",
    "pod updates may not change fields other than",
    "cannot change roleref",
];

/// What stands in the answer where admission has refused, and not the rules of the kind: a webhook or a policy, which may have
/// any reason, and may refuse what is made anew as well. They answer by any status.
const BY_ADMISSION: &[&str] = &["admission webhook", "denied the request", "denied request"];

/// A refusal as the API server words it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// HTTP status.
    pub code: u16,
    /// The reason of the Status object, e.g. `Invalid`.
    pub reason: &'a str,
    /// The server's words. They may quote values.
    pub message: &'a str,
}

/// Tells from an API error's message whether it refuses to change an immutable field. Such an object stays as
/// it is until the field is put back or the object is made anew.
pub fn is_immutable(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    IMMUTABLE.iter().any(|pattern| message.contains(pattern))
}

/// Tells whether the kind's own rules refuse a change that they take of no object that exists: one that is made anew may be
/// as it is to be. What admission refuses may be refused then, too.
pub fn is_unchangeable(refusal: Refusal<'_>) -> bool {
    let message = refusal.message.to_ascii_lowercase();
    (refusal.code, refusal.reason) == (422, "Invalid")
        && is_immutable(&message)
        && !BY_ADMISSION.iter().any(|words| message.contains(words))
}

/// Says why an object is refused and, where something helps, what to do. `secret`: a value of a Secret stands in
/// the object, so the server's words are withheld. `policy` holds the object's switches.
pub fn explain(refusal: Refusal<'_>, secret: bool, policy: Policy) -> String {
    let is_forceable = !policy.force && is_unchangeable(refusal);
    let advice = match (is_immutable(refusal.message), is_forceable) {
        (false, _) => "",
        (true, true) => {
            "; a field cannot be changed once the object exists: put it back in Git, or delete the object, \
             and it is created again as desired; with `force` that is done by itself"
        }
        (true, false) => {
            "; a field cannot be changed once the object exists: put it back in Git, or delete the object, \
             and it is created again as desired"
        }
    };
    let mut text = if secret {
        let Refusal { code, reason, .. } = refusal;
        format!("the API server refuses it: {code} {reason} (its words are withheld, they may quote values)")
    } else {
        shorten_values(refusal.message)
    };
    cut(&mut text, MAX - advice.len());
    text + advice
}

/// Drops long values that the server quotes: a pod template of some kilobytes hides what is wrong with it.
fn shorten_values(message: &str) -> String {
    const QUOTES: &str = "Invalid value: ";
    let mut out = String::with_capacity(message.len().min(MAX));
    let mut rest = message;
    while let Some(at) = rest.find(QUOTES) {
        let (before, value) = rest.split_at(at + QUOTES.len());
        out.push_str(before);
        let end = value_end(value).filter(|&end| end > VALUE_MAX);
        out.push_str(if end.is_some() { "…" } else { "" });
        rest = &value[end.unwrap_or(0)..];
    }
    out + rest
}

/// Where a value ends as Go or JSON writes it: at a colon and a space outside of brackets and quotes.
fn value_end(text: &str) -> Option<usize> {
    let (mut depth, mut quote, mut escaped) = (0_usize, None, false);
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().copied().enumerate() {
        match (quote, byte) {
            (Some(_), _) if escaped => escaped = false,
            (Some(b'"'), b'\\') => escaped = true,
            (Some(open), byte) if open == byte => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'`') => quote = Some(byte),
            (None, b'(' | b'[' | b'{') => depth += 1,
            (None, b')' | b']' | b'}') => depth = depth.checked_sub(1)?,
            (None, b':') if depth == 0 && bytes.get(at + 1) == Some(&b' ') => return Some(at),
            (None, _) => {}
        }
    }
    None
}

/// Cuts a text at a character boundary.
fn cut(text: &mut String, max: usize) {
    if text.len() > max {
        const MARK: &str = "…";
        let end = (0..=max - MARK.len())
            .rev()
            .find(|&end| text.is_char_boundary(end));
        text.truncate(end.unwrap_or(0));
        text.push_str(MARK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Policy = Policy {
        write: super::super::policy::Write::Override,
        paused: false,
        keep: false,
        force: false,
    };

    fn invalid(message: &str) -> Refusal<'_> {
        Refusal {
            code: 422,
            reason: "Invalid",
            message,
        }
    }

    #[test]
    fn immutable_fields_are_recognised_by_the_message() {
        for message in [
            r#"Job.batch "x" is invalid: spec.template: Invalid value: core.PodTemplateSpec{}: field is immutable"#,
            r#"Service "x" is invalid: spec.clusterIPs[0]: Invalid value: ["10.0.0.9"]: may not change once set"#,
            r#"StatefulSet.apps "x" is invalid: spec: Forbidden: updates to statefulset spec for fields other than 'replicas'"#,
            "admission webhook \"w\" denied the request: region is immutable",
            r#"RoleBinding.rbac.authorization.k8s.io "x" is invalid: roleRef: Invalid value: rbac.RoleRef{}: cannot change roleRef"#,
            r#"PersistentVolumeClaim "x" is invalid: spec: Forbidden: spec is immutable after creation except resources.requests"#,
        ] {
            assert!(is_immutable(message), "{message}");
        }
        for message in [
            r#"Deployment.apps "x" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"#,
            "the object has been modified; please apply your changes to the latest version",
            "",
        ] {
            assert!(!is_immutable(message), "{message}");
        }
    }

    #[test]
    fn what_admission_refuses_is_never_made_anew_whatever_its_words() {
        let immutable =
            "Service \"x\" is invalid: spec.clusterIPs[0]: Invalid value: []: may not change once set";
        assert!(is_unchangeable(invalid(immutable)));
        for message in [
            "admission webhook \"w\" denied the request: replicas is immutable during the freeze",
            "deployments.apps \"x\" is forbidden: ValidatingAdmissionPolicy 'freeze' with binding 'all' denied request: \
             replicas is immutable",
            "replicas cannot be changed during the freeze",
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        ] {
            assert!(!is_unchangeable(invalid(message)), "{message}");
        }
        for (code, reason) in [
            (403, "Forbidden"),
            (400, "BadRequest"),
            (422, ""),
            (500, "InternalError"),
        ] {
            let refusal = Refusal {
                code,
                reason,
                message: immutable,
            };
            assert!(!is_unchangeable(refusal), "{code} {reason}");
        }
        let webhook = invalid("admission webhook \"w\" denied the request: region is immutable");
        assert!(!explain(webhook, false, PLAIN).contains("`force`"));
    }

    #[test]
    fn a_long_value_does_not_hide_the_cause() {
        let template = format!(
            r#"core.PodTemplateSpec{{Name:"a}}: \" b", Containers:[]core.Container{{{}}}, Node:`x": y`}}"#,
            r#"core.Container{Name:"x", Env:[]core.EnvVar(nil)}, "#.repeat(60)
        );
        let message = format!(
            r#"Job.batch "x" is invalid: spec.template: Invalid value: {template}: field is immutable"#
        );
        let text = explain(invalid(&message), false, PLAIN);
        assert!(
            text.starts_with(
                r#"Job.batch "x" is invalid: spec.template: Invalid value: …: field is immutable; "#
            ),
            "{text}"
        );
        assert!(text.contains("delete the object"), "{text}");
    }

    #[test]
    fn short_values_and_what_cannot_be_read_stay() {
        for message in [
            r#"spec.replicas: Invalid value: -1: must be greater than or equal to 0"#,
            r#"[a: Invalid value: "x: y": no, b: Invalid value: 3: no]"#,
            "Invalid value: ",
            "Invalid value: }}}: field",
        ] {
            assert_eq!(explain(invalid(message), false, PLAIN), message);
        }
        let endless = format!("Invalid value: {}", "{\"é".repeat(2000));
        assert!(explain(invalid(&endless), false, PLAIN).len() <= MAX);
    }

    #[test]
    fn a_refusal_of_an_object_with_a_secret_quotes_nothing_and_still_advises() {
        let message = r#"spec.host: Invalid value: "hunter2": field is immutable"#;
        let text = explain(invalid(message), true, PLAIN);
        assert!(!text.contains("hunter2"), "{text}");
        assert!(
            text.starts_with("the API server refuses it: 422 Invalid"),
            "{text}"
        );
        assert!(text.contains("delete the object"), "{text}");
    }

    #[test]
    fn force_is_advised_where_it_was_not_asked_for() {
        let forced = Policy { force: true, ..PLAIN };
        let text = |policy| explain(invalid("field is immutable"), false, policy);
        assert!(text(PLAIN).contains("with `force`"), "{}", text(PLAIN));
        assert!(!text(forced).contains("`force`"), "{}", text(forced));
        assert_eq!(explain(invalid("no"), false, forced), "no");
    }

    #[test]
    fn the_advice_survives_a_long_message() {
        let message = format!("{} is immutable", "é".repeat(3000));
        let text = explain(invalid(&message), false, PLAIN);
        assert!(text.len() <= MAX && text.ends_with("by itself"), "{text}");
    }
}
