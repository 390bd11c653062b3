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
    let lower = |c: char| is_letter(c) && !c.is_uppercase();
    let (word, end) = if is_connector(first) {
        (Word::Connector, run(after, &is_connector))
    } else if is_punctuation(first) {
        (Word::Punctuation, run(after, &is_punctuation))
    } else if first.is_uppercase() {
        let uppers = run(after, &|c: char| c.is_uppercase());
        let end = if uppers == after {
            run(after, &lower)
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
        (Word::Letters, run(after, &lower))
    } else if first.is_numeric() {
        (Word::Number, run(after, &|c: char| c.is_numeric()))
    } else {
        let other = |c: char| !(is_connector(c) || is_letter(c) || c.is_numeric() || is_punctuation(c));
        (Word::Other, run(after, &other))
    };
    (word, &text[..end], &text[end..])
}

/// Returns the words in lower case with `connector` between them.
pub(super) fn lower(text: &str, connector: char) -> String {
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
        Word::Upper => out.push_str(&word.to_lowercase()),
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
    let upper = |c: char| c.to_uppercase().next().unwrap_or(c);
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
                current = current.to_lowercase().next().unwrap_or(current);
            } else {
                capitals = false;
            }
        }
        out.push(before);
    }
    out.push(current);
    out
}
