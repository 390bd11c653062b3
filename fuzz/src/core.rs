//! What decisions read of sources: substitution expressions, ignore patterns, version ranges, CEL.

use flotilla_core::cel::{Expression, Variables as Named};
use flotilla_core::source::ignore::{Rules, Steps};
use flotilla_core::substitute::{Variables, substitute};
use flotilla_core::version::{Version, VersionRange};

use crate::parts;

/// The second part is the object that the expression is evaluated over.
pub(crate) fn cel(input: &[u8]) {
    let [expression, object] = parts(input);
    let _ = Expression::compile(&expression, Named::Only(&["dep", "self"]));
    let Ok(expression) = Expression::compile(&expression, Named::Any) else {
        return;
    };
    if let Ok(object) = serde_json::from_str(&object) {
        let _ = expression.holds_of(&object);
    }
}

/// The second part holds a variable a line, `name=value`.
pub(crate) fn substitution(input: &[u8]) {
    let [text, variables] = parts(input);
    let layer = variables.lines().filter_map(|line| line.split_once('='));
    let Ok(variables) = Variables::from_layers([layer]) else {
        return;
    };
    let _ = substitute(&text, &variables, false);
    let _ = substitute(&text, &variables, true);
}

/// The second part holds a path a line.
pub(crate) fn source_ignore(input: &[u8]) {
    let [patterns, paths, spec] = parts(input);
    let rules = Rules::new(
        [
            (&b""[..], patterns.as_bytes()),
            (&b"a/b"[..], patterns.as_bytes()),
        ],
        Some(spec.as_bytes()),
    );
    let Ok(rules) = rules else { return };
    let mut steps = Steps::default();
    for path in paths.lines().take(100) {
        let _ = rules.excludes(path.as_bytes(), false, &mut steps);
        let _ = rules.excludes(path.as_bytes(), true, &mut steps);
    }
}

/// A version that is read, is read as the same from what it writes.
pub(crate) fn version_range(input: &[u8]) {
    let [range, version] = parts(input);
    let _ = VersionRange::matches(&range, &version);
    if let Ok(version) = Version::parse(&version) {
        let again = Version::parse(&version.to_string()).expect("what a version writes is a version");
        assert!(version.precedence(&again).is_eq(), "{version} and {again}");
    }
}

/// `.gitmodules`: what is found is part of what was written, and no more than that.
pub(crate) fn gitmodules(input: &[u8]) {
    let [text] = parts(input);
    let found = flotilla_core::source::gitmodules::urls(&text);
    let bytes: usize = found.iter().map(|(path, url)| path.len() + url.len()).sum();
    assert!(bytes <= text.len(), "{found:?}");
}
