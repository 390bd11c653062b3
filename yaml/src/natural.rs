//! The order of keys in YAML that is written: numbers within them by value, letters after everything else, but before
//! it where the third version finds them behind a digit.

use std::cmp::Ordering;
use std::sync::LazyLock;

use regex::Regex;

use crate::Version;

/// Sorts by [`natural`], which is no total order (`a001`, `a2`, `a10`): the standard sort may panic on one.
pub(super) fn sorted<V>(mut entries: Vec<(&String, V)>, version: Version) -> Vec<(&String, V)> {
    if entries.len() < 2 {
        return entries;
    }
    let right = sorted(entries.split_off(entries.len() / 2), version);
    let mut left = sorted(entries, version).into_iter().peekable();
    let mut merged = Vec::with_capacity(left.len() + right.len());
    for entry in right {
        while let Some(before) = left.next_if(|(key, _)| natural(key, entry.0, version) != Ordering::Greater)
        {
            merged.push(before);
        }
        merged.push(entry);
    }
    merged.extend(left);
    merged
}

/// Orders keys as the reference does.
fn natural(a: &str, b: &str, version: Version) -> Ordering {
    if a.is_ascii() && b.is_ascii() {
        natural_by(
            a.len(),
            b.len(),
            |at| char::from(a.as_bytes()[at]),
            |at| char::from(b.as_bytes()[at]),
            version,
        )
    } else {
        let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
        natural_by(a.len(), b.len(), |at| a[at], |at| b[at], version)
    }
}

fn natural_by(
    a_len: usize,
    b_len: usize,
    a: impl Fn(usize) -> char,
    b: impl Fn(usize) -> char,
    version: Version,
) -> Ordering {
    for at in 0..a_len.min(b_len) {
        let (x, y) = (a(at), b(at));
        if x == y {
            continue;
        }
        let letters_first = || version == Version::V3 && at > 0 && is_digit(a(at - 1));
        match (is_letter(x), is_letter(y)) {
            (true, true) => return x.cmp(&y),
            (true, false) if letters_first() => return Ordering::Less,
            (true, false) => return Ordering::Greater,
            (false, true) if letters_first() => return Ordering::Greater,
            (false, true) => return Ordering::Less,
            (false, false) => {}
        }
        // After a number's other digits a zero counts: 10 is above 9, though 0 is not above 9.
        let within_number = (x == '0' || y == '0')
            && (0..at)
                .rev()
                .map(&a)
                .take_while(|c| is_digit(*c))
                .any(|c| c != '0');
        let start = i64::from(within_number);
        let (a_number, a_end) = digits(start, at, a_len, &a);
        let (b_number, b_end) = digits(start, at, b_len, &b);
        return a_number.cmp(&b_number).then(a_end.cmp(&b_end)).then(x.cmp(&y));
    }
    a_len.cmp(&b_len)
}

fn digits(start: i64, from: usize, len: usize, text: &impl Fn(usize) -> char) -> (i64, usize) {
    let mut number = start;
    let mut end = from;
    while end < len && is_digit(text(end)) {
        let digit = i64::from(u32::from(text(end))) - i64::from(u32::from('0'));
        number = number.wrapping_mul(10).wrapping_add(digit);
        end += 1;
    }
    (number, end)
}

fn is_digit(c: char) -> bool {
    static DIGIT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[\p{Nd}&&\p{age=15.0}]").ok());
    if c.is_ascii() {
        c.is_ascii_digit()
    } else {
        in_class(&DIGIT, c)
    }
}

fn is_letter(c: char) -> bool {
    // Rust's `is_alphabetic` also takes marks and numbers that look like letters, and a later Unicode's than Go's.
    static LETTER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[\p{L}&&\p{age=15.0}]").ok());
    if c.is_ascii() {
        c.is_ascii_alphabetic()
    } else {
        c.is_alphabetic() && in_class(&LETTER, c)
    }
}

fn in_class(class: &Option<Regex>, c: char) -> bool {
    class
        .as_ref()
        .is_some_and(|class| class.is_match(c.encode_utf8(&mut [0; 4])))
}
