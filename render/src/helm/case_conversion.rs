//! Words within identifiers, for `snakecase`, `kebabcase` and `camelcase`: split where the kind of character
//! changes, with numbers kept to the word they belong to.
//!
//! The texts are bytes: what is no UTF-8 belongs to the word before it.

use flotilla_core::text::runes::{
    decode, is_letter, is_number, is_punct, is_space, is_upper, lower, push, upper,
};

#[derive(Clone, Copy, PartialEq)]
enum Word {
    /// Nothing, or no character at all.
    None,
    Number,
    Upper,
    Letters,
    Connector,
    Punctuation,
    Other,
}

fn is_connector(c: char) -> bool {
    c == '-' || c == '_' || is_space(c)
}

/// Returns whether a character is of an alphabet, which the characters of Chinese are not.
fn is_alphabet(c: char) -> bool {
    is_letter(c)
        && !matches!(c, '\u{4e00}'..='\u{9fcc}' | '\u{3400}'..='\u{4d85}' | '\u{20000}'..='\u{2b81d}')
}

/// Returns the next character and how many bytes it takes with what is no UTF-8 before it; without one, `last` and
/// the bytes that are left.
fn next_valid(text: &[u8], last: char) -> (char, usize) {
    let mut at = 0;
    while at < text.len() {
        let (c, width) = decode(&text[at..]);
        at += width;
        if c != char::REPLACEMENT_CHARACTER {
            return (c, at);
        }
    }
    (last, at)
}

/// Splits the first word off.
fn next(text: &[u8]) -> (Word, &[u8], &[u8]) {
    let (first, after) = next_valid(text, char::REPLACEMENT_CHARACTER);
    // What follows the characters of a kind, of which the one before `from` is the last.
    let run = |mut from: usize, mut last: char, within: &dyn Fn(char) -> bool| {
        while from < text.len() {
            let (c, width) = next_valid(&text[from..], last);
            if !within(c) {
                break;
            }
            from += width;
            last = c;
        }
        from
    };
    let small = |c: char| is_alphabet(c) && !is_upper(c);
    let (word, end) = if first == char::REPLACEMENT_CHARACTER {
        (Word::None, after)
    } else if is_connector(first) {
        (Word::Connector, run(after, first, &is_connector))
    } else if is_punct(first) {
        (Word::Punctuation, run(after, first, &is_punct))
    } else if is_upper(first) {
        (Word::Upper, end_of_capitals(text, first, after))
    } else if is_alphabet(first) {
        (Word::Letters, run(after, first, &small))
    } else if is_number(first) {
        (Word::Number, run(after, first, &is_number))
    } else {
        let other = |c: char| !(is_connector(c) || is_alphabet(c) || is_number(c) || is_punct(c));
        (Word::Other, run(after, first, &other))
    };
    (word, &text[..end], &text[end..])
}

/// Returns where a word ends that begins with a capital, `first`, which ends at `after`.
fn end_of_capitals(text: &[u8], first: char, after: usize) -> usize {
    let (mut end, mut width, mut last) = (after, 0, first);
    let mut is_run = false;
    while end < text.len() {
        let (c, next) = next_valid(&text[end..], last);
        last = c;
        if !is_upper(c) {
            break;
        }
        is_run = true;
        end += next;
        width = next;
    }
    if is_run {
        // The last capital of "HTTPStatus" starts the next word.
        return if end < text.len() && is_alphabet(last) {
            end - width
        } else {
            end
        };
    }
    while end < text.len() {
        let (c, next) = next_valid(&text[end..], last);
        if !is_alphabet(c) || is_upper(c) {
            break;
        }
        end += next;
        last = c;
    }
    end
}

/// Returns the words in lower case with `connector` between them.
pub(super) fn separated(text: &[u8], connector: char) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 4);
    let (mut kind, mut word, mut rest) = next(text);
    while !rest.is_empty() {
        if kind != Word::Connector {
            write(&mut out, kind, word, connector);
        }
        let (before, last) = (kind, word);
        (kind, word, rest) = next(rest);
        match before {
            Word::Number => {
                (kind, word, rest) = run_of_words(&mut out, (kind, word, rest), connector);
                separate(&mut out, kind, connector);
            }
            Word::Connector => write(&mut out, before, last, connector),
            Word::Punctuation => {}
            _ if kind != Word::Number => {
                if !matches!(kind, Word::Connector | Word::Punctuation) {
                    push(&mut out, connector);
                }
            }
            _ if rest.is_empty() => {}
            _ => {
                let number = word;
                (kind, word, rest) = next(rest);
                if kind == Word::Letters {
                    push(&mut out, connector);
                    write(&mut out, Word::Number, number, connector);
                    (kind, word, rest) = run_of_words(&mut out, (kind, word, rest), connector);
                    separate(&mut out, kind, connector);
                } else {
                    write(&mut out, Word::Number, number, connector);
                    if !matches!(kind, Word::Connector | Word::Punctuation) {
                        push(&mut out, connector);
                    }
                }
            }
        }
    }
    write(&mut out, kind, word, connector);
    out
}

type Split<'t> = (Word, &'t [u8], &'t [u8]);

fn run_of_words<'t>(out: &mut Vec<u8>, mut split: Split<'t>, connector: char) -> Split<'t> {
    while matches!(split.0, Word::Letters | Word::Number) {
        write(out, split.0, split.1, connector);
        split = next(split.2);
    }
    split
}

fn separate(out: &mut Vec<u8>, kind: Word, connector: char) {
    if !matches!(kind, Word::None | Word::Punctuation | Word::Connector) {
        push(out, connector);
    }
}

fn write(out: &mut Vec<u8>, kind: Word, mut word: &[u8], connector: char) {
    if !matches!(kind, Word::Upper | Word::Connector) {
        return out.extend_from_slice(word);
    }
    while !word.is_empty() {
        let (c, width) = decode(word);
        word = &word[width..];
        let c = match c {
            _ if is_connector(c) => connector,
            // Titles are no capitals.
            _ if is_upper(c) => lower(c),
            c => c,
        };
        push(out, c);
    }
}

/// Returns the words joined, each with a capital; connectors at the edges and all but one of a run stay. Of a text
/// of connectors alone the last stands twice.
pub(super) fn pascal(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let Some(first) = chars.iter().position(|c| !is_connector(*c)) else {
        return chars.iter().chain(chars.last()).collect();
    };
    let mut out: String = chars[..first].iter().collect();
    if first + 1 == chars.len() {
        out.push(upper(chars[first]));
        return out;
    }
    let mut capitals = is_upper(chars[first]);
    let mut current = upper(chars[first]);
    for c in &chars[first + 1..] {
        let before = current;
        current = *c;
        if is_connector(current) && is_connector(before) {
            out.push(before);
            continue;
        }
        if is_connector(before) {
            capitals = is_upper(current);
            current = upper(current);
            continue;
        }
        if capitals {
            if is_upper(current) {
                current = lower(current);
            } else {
                capitals = false;
            }
        }
        out.push(before);
    }
    out.push(current);
    out
}
