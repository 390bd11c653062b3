//! Words within identifiers, for `snakecase`, `kebabcase` and `camelcase`: split where the kind of character
//! changes, with numbers kept to the word they belong to.

#[derive(Clone, Copy, PartialEq)]
enum Word {
    None,
    Number,
    Upper,
    Letters,
    Connector,
    Punctuation,
    Other,
}

fn is_connector(c: char) -> bool {
    c == '-' || c == '_' || c.is_whitespace()
}

fn is_letter(c: char) -> bool {
    c.is_alphabetic()
}

fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() && !matches!(c, '$' | '+' | '<' | '=' | '>' | '^' | '`' | '|' | '~')
}

/// Splits the first word off.
fn next(text: &str) -> (Word, &str, &str) {
    let Some(first) = text.chars().next() else {
        return (Word::None, "", "");
    };
    let run = |from: usize, within: &dyn Fn(char) -> bool| {
        text[from..]
            .find(|c| !within(c))
            .map_or(text.len(), |at| from + at)
    };
    let after = first.len_utf8();
    let small = |c: char| is_letter(c) && !c.is_uppercase();
    let (word, end) = if is_connector(first) {
        (Word::Connector, run(after, &is_connector))
    } else if is_punctuation(first) {
        (Word::Punctuation, run(after, &is_punctuation))
    } else if first.is_uppercase() {
        let uppers = run(after, &|c: char| c.is_uppercase());
        let end = if uppers == after {
            run(after, &small)
        } else if text[uppers..].starts_with(is_letter) {
            // The last capital of "HTTPStatus" starts the next word.
            text[..uppers]
                .char_indices()
                .next_back()
                .map_or(uppers, |(at, _)| at)
        } else {
            uppers
        };
        (Word::Upper, end)
    } else if is_letter(first) {
        (Word::Letters, run(after, &small))
    } else if first.is_numeric() {
        (Word::Number, run(after, &|c: char| c.is_numeric()))
    } else {
        let other = |c: char| !(is_connector(c) || is_letter(c) || c.is_numeric() || is_punctuation(c));
        (Word::Other, run(after, &other))
    };
    (word, &text[..end], &text[end..])
}

/// Returns the capital of a character as Go has it: one character for one, which stays where it has none.
pub(super) fn upper(c: char) -> char {
    single(c, c.to_uppercase())
}

/// Returns the small letter of a character, as [`upper`] returns the capital.
pub(super) fn lower(c: char) -> char {
    match c {
        // Unicode's full mapping adds a dot above.
        'İ' => 'i',
        c => single(c, c.to_lowercase()),
    }
}

/// Returns the form of a character at the start of a word.
pub(super) fn title(c: char) -> char {
    match c {
        'Ǆ'..='ǆ' => 'ǅ',
        'Ǉ'..='ǉ' => 'ǈ',
        'Ǌ'..='ǌ' => 'ǋ',
        'Ǳ'..='ǳ' => 'ǲ',
        // Georgian has capitals for whole words only.
        'ა'..='ჺ' | 'ჽ'..='ჿ' => c,
        c => upper(c),
    }
}

fn single(c: char, mut mapped: impl Iterator<Item = char>) -> char {
    match (mapped.next(), mapped.next()) {
        (Some(one), None) => one,
        _ => full_mapping_only(c),
    }
}

/// Returns what Unicode maps a character to when it has a simple mapping beside a full one to several: the
/// Greek letters with a mark below have one of each.
fn full_mapping_only(c: char) -> char {
    match u32::from(c) {
        code @ (0x1f80..=0x1f87 | 0x1f90..=0x1f97 | 0x1fa0..=0x1fa7) => char::from_u32(code + 8).unwrap_or(c),
        0x1fb3 | 0x1fc3 | 0x1ff3 => char::from_u32(u32::from(c) + 9).unwrap_or(c),
        _ => c,
    }
}

/// Returns the words in lower case with `connector` between them.
pub(super) fn separated(text: &str, connector: char) -> String {
    let mut out = String::with_capacity(text.len() + 4);
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
                    out.push(connector);
                }
            }
            _ if rest.is_empty() => {}
            _ => {
                let number = word;
                (kind, word, rest) = next(rest);
                if kind == Word::Letters {
                    out.push(connector);
                    write(&mut out, Word::Number, number, connector);
                    (kind, word, rest) = run_of_words(&mut out, (kind, word, rest), connector);
                    separate(&mut out, kind, connector);
                } else {
                    write(&mut out, Word::Number, number, connector);
                    if !matches!(kind, Word::Connector | Word::Punctuation) {
                        out.push(connector);
                    }
                }
            }
        }
    }
    write(&mut out, kind, word, connector);
    out
}

type Split<'t> = (Word, &'t str, &'t str);

fn run_of_words<'t>(out: &mut String, mut split: Split<'t>, connector: char) -> Split<'t> {
    while matches!(split.0, Word::Letters | Word::Number) {
        write(out, split.0, split.1, connector);
        split = next(split.2);
    }
    split
}

fn separate(out: &mut String, kind: Word, connector: char) {
    if !matches!(kind, Word::None | Word::Punctuation | Word::Connector) {
        out.push(connector);
    }
}

fn write(out: &mut String, kind: Word, word: &str, connector: char) {
    match kind {
        Word::Upper => out.extend(word.chars().map(lower)),
        Word::Connector => out.extend(word.chars().map(|c| if is_connector(c) { connector } else { c })),
        _ => out.push_str(word),
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
    let mut capitals = chars[first].is_uppercase();
    let mut current = upper(chars[first]);
    for c in &chars[first + 1..] {
        let before = current;
        current = *c;
        if is_connector(current) && is_connector(before) {
            out.push(before);
            continue;
        }
        if is_connector(before) {
            capitals = current.is_uppercase();
            current = upper(current);
            continue;
        }
        if capitals {
            if current.is_uppercase() {
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
