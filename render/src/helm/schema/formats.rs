//! Formats that the reference checks in every dialect, and the checker in the newest ones or in none.

/// Returns whether the text is a regular expression in Go's syntax.
pub(super) fn regex(text: &str) -> bool {
    flotilla_core::text::re2::translate(text).is_ok()
}

/// Returns whether the text is five groups of hexadecimal digits.
pub(super) fn uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.len() == 5
        && groups.iter().zip([8, 4, 4, 4, 12]).all(|(group, length)| {
            group.len() == length && group.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
}

/// Returns whether the text is a duration such as `P1Y2DT3H` or `P4W`.
pub(super) fn duration(text: &str) -> bool {
    let Some(inner) = text.strip_prefix('P').filter(|inner| !inner.is_empty()) else {
        return false;
    };
    if let Some(weeks) = inner.strip_suffix('W') {
        return !weeks.is_empty() && weeks.bytes().all(|byte| byte.is_ascii_digit());
    }
    match inner.split_once('T') {
        Some((_, "")) => false,
        Some((days, time)) => in_order(days, "YMD") && in_order(time, "HMS"),
        None => in_order(inner, "YMD"),
    }
}

/// Returns whether numbers with these units, each at most once, are all that is there.
fn in_order(mut text: &str, mut units: &str) -> bool {
    while !text.is_empty() {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let Some(unit) = text[digits..].chars().next().filter(|_| digits > 0) else {
            return false;
        };
        let Some(at) = units.find(unit) else { return false };
        units = &units[at + 1..];
        text = &text[digits + 1..];
    }
    true
}

/// Returns whether the text is a semantic version, without a `v`.
pub(super) fn semver(text: &str) -> bool {
    let letters = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let number = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_digit())
            && (part == "0" || !part.starts_with('0'))
    };
    let (rest, build) = text
        .split_once('+')
        .map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (core, release) = rest
        .split_once('-')
        .map_or((rest, None), |(core, release)| (core, Some(release)));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    build.is_none_or(|build| build.split('.').all(letters))
        && release.is_none_or(|release| {
            release
                .split('.')
                .all(|part| letters(part) && (!digits(part) || number(part)))
        })
        && core.split('.').count() == 3
        && core.split('.').all(number)
}

#[cfg(test)]
mod tests {
    use super::{duration, semver, uuid};

    #[test]
    fn formats_are_those_of_the_reference() {
        assert!(
            uuid("2EB8AA08-AA98-11EA-B4AA-73B441D16380")
                && !uuid("x")
                && !uuid("2eb8-aa08-aa98-11ea-73b441d1638")
        );
        let good = ["P1Y2M3DT4H5M6S", "P4W", "PT1S", "P1D"];
        let bad = [
            "x",
            "P",
            "PT",
            "P1",
            "P1H",
            "P1D2Y",
            "P1DT",
            "PW",
            "P1DT1HT2H",
            "p1d",
        ];
        assert!(good.iter().all(|text| duration(text)) && !bad.iter().any(|text| duration(text)));
        let good = ["1.2.3", "0.0.0-a.1+b.01", "1.0.0--"];
        let bad = [
            "v1.2.3",
            "1.2",
            "01.2.3",
            "1.2.3-01",
            "1.2.3-",
            "1.2.3+",
            "1.2.3-a..b",
        ];
        assert!(good.iter().all(|text| semver(text)) && !bad.iter().any(|text| semver(text)));
    }
}
