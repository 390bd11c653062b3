//! Recognises refusals that no retry cures.

/// What API servers, admission webhooks and CEL rules say of a field that cannot be changed after creation.
const IMMUTABLE: &[&str] = &[
    "is immutable",
    "immutable field",
    "may not change once set",
    "updates to statefulset spec for fields other than",
    "updates to parameters are forbidden",
];

/// Tells from an API error's message whether it refuses to change an immutable field. Such an object stays as
/// it is until the field is put back or the object is made anew.
pub fn is_immutable(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    IMMUTABLE.iter().any(|pattern| message.contains(pattern))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn immutable_fields_are_recognised_by_the_message() {
        for message in [
            r#"Job.batch "x" is invalid: spec.template: Invalid value: core.PodTemplateSpec{}: field is immutable"#,
            r#"Service "x" is invalid: spec.clusterIPs[0]: Invalid value: ["10.0.0.9"]: may not change once set"#,
            r#"StatefulSet.apps "x" is invalid: spec: Forbidden: updates to statefulset spec for fields other than 'replicas'"#,
            "admission webhook \"w\" denied the request: region is immutable",
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
}
