//! Classes of characters: those in brackets, those with a name, and characters written as escapes.
//!
//! A class is written as ranges and `\p{…}`, without another class inside it: whoever reads the result in another
//! dialect, such as the one of JSON schemas, reads these alike.

use super::{NOTHING, SyntaxError, fault, push_char};

/// What every text matches.
const ANYTHING: &str = "\\u0000-\u{10ffff}";

/// Names of Unicode's categories and scripts that Go knows, in small letters and without what may stand between
/// their words.
const NAMES: &str = "adlam ahom anatolianhieroglyphs arabic armenian avestan balinese bamum bassavah batak bengali \
     bhaiksuki bopomofo brahmi braille buginese buhid c canadianaboriginal carian casedletter \
     caucasianalbanian cc cf chakma cham cherokee chorasmian closepunctuation cn cntrl co combiningmark \
     common connectorpunctuation control coptic cs cuneiform currencysymbol cypriot cyprominoan cyrillic \
     dashpunctuation decimalnumber deseret devanagari digit divesakuru dogra duployan \
     egyptianhieroglyphs elbasan elymaic enclosingmark ethiopic finalpunctuation format georgian \
     glagolitic gothic grantha greek gujarati gunjalagondi gurmukhi han hangul hanifirohingya hanunoo \
     hatran hebrew hiragana imperialaramaic inherited initialpunctuation inscriptionalpahlavi \
     inscriptionalparthian javanese kaithi kannada katakana kawi kayahli kharoshthi khitansmallscript \
     khmer khojki khudawadi l lao latin lc lepcha letter letternumber limbu lineara linearb \
     lineseparator lisu ll lm lo lowercaseletter lt lu lycian lydian m mahajani makasar malayalam \
     mandaic manichaean marchen mark masaramgondi mathsymbol mc me medefaidrin meeteimayek mendekikakui \
     meroiticcursive meroitichieroglyphs miao mn modi modifierletter modifiersymbol mongolian mro \
     multani myanmar n nabataean nagmundari nandinagari nd newa newtailue nko nl no nonspacingmark \
     number nushu nyiakengpuachuehmong ogham olchiki oldhungarian olditalic oldnortharabian oldpermic \
     oldpersian oldsogdian oldsoutharabian oldturkic olduyghur openpunctuation oriya osage osmanya other \
     otherletter othernumber otherpunctuation othersymbol p pahawhhmong palmyrene paragraphseparator \
     paucinhau pc pd pe pf phagspa phoenician pi po privateuse ps psalterpahlavi punct punctuation \
     rejang runic s samaritan saurashtra sc separator sharada shavian siddham signwriting sinhala sk sm \
     so sogdian sorasompeng soyombo spaceseparator spacingmark sundanese surrogate sylotinagri symbol \
     syriac tagalog tagbanwa taile taitham taiviet takri tamil tangsa tangut telugu thaana thai tibetan \
     tifinagh tirhuta titlecaseletter toto ugaritic unassigned uppercaseletter vai vithkuqi wancho \
     warangciti yezidi yi z zanabazarsquare zl zp zs";

/// Classes between `[:` and `:]`, each as pairs of the first and the last of a range.
const POSIX: [(&str, &str); 14] = [
    ("alnum", "09AZaz"),
    ("alpha", "AZaz"),
    ("ascii", "\0\x7f"),
    ("blank", "\t\t  "),
    ("cntrl", "\0\x1f\x7f\x7f"),
    ("digit", "09"),
    ("graph", "!~"),
    ("lower", "az"),
    ("print", " ~"),
    ("punct", "!/:@[`{~"),
    ("space", "\t\r  "),
    ("upper", "AZ"),
    ("word", "09AZaz__"),
    ("xdigit", "09AFaf"),
];

/// Writes a set of ASCII characters, given as pairs, or all others, as it stands within brackets.
fn push_set(pairs: &str, negated: bool, fold: bool, out: &mut String) {
    let bounds: Vec<u32> = pairs.chars().map(u32::from).collect();
    let mut ranges: Vec<(u32, u32)> = bounds.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    if !negated {
        ranges.iter().for_each(|(low, high)| push_range(*low, *high, out));
        return;
    }
    // What differs in case only is no other character either.
    if fold {
        let has = |letter: u8| {
            ranges
                .iter()
                .any(|(low, high)| (*low..=*high).contains(&u32::from(letter)))
        };
        let letters = (b'a'..=b'z').filter(|lower| has(*lower) || has(lower.to_ascii_uppercase()));
        let cases: Vec<u32> = letters
            .flat_map(|lower| match lower {
                b'k' => vec!['k', 'K', '\u{212a}'],
                b's' => vec!['s', 'S', '\u{17f}'],
                other => vec![char::from(other), char::from(other.to_ascii_uppercase())],
            })
            .map(u32::from)
            .collect();
        ranges.extend(cases.into_iter().map(|letter| (letter, letter)));
    }
    ranges.sort_unstable();
    let mut next = 0;
    for (low, high) in ranges {
        if low > next {
            push_range(next, low - 1, out);
        }
        next = next.max(high + 1);
    }
    push_range(next, u32::from(char::MAX), out);
}

/// Reads a class in brackets, which the text begins with; returns it and what follows it.
pub(super) fn class(text: &str, fold: bool) -> Result<(String, &str), SyntaxError> {
    let mut out = String::new();
    let mut rest = &text[1..];
    let negated = rest.starts_with('^');
    rest = rest.strip_prefix('^').unwrap_or(rest);
    let mut first = true;
    while first || !rest.starts_with(']') {
        first = false;
        if let Some(after) = posix(rest, fold, &mut out)? {
            rest = after;
            continue;
        }
        if let Some(after) = group(rest, fold, &mut out)? {
            rest = after;
            continue;
        }
        let range = rest;
        let (low, after) = character(rest, text)?;
        let (mut high, mut after) = (low, after);
        if let Some(end) = after.strip_prefix('-')
            && !end.is_empty()
            && !end.starts_with(']')
        {
            (high, after) = character(end, text)?;
            if high < low {
                return fault(
                    "invalid character class range",
                    &range[..range.len() - after.len()],
                );
            }
        }
        push_range(low, high, &mut out);
        rest = after;
    }
    Ok((bracketed(&out, negated, fold), &rest[1..]))
}

/// Puts the content of a class in brackets; without any, it holds only characters that no text has.
pub(super) fn bracketed(content: &str, negated: bool, fold: bool) -> String {
    match (content, negated, fold) {
        ("", false, _) => NOTHING.to_owned(),
        ("", true, _) => format!("[{ANYTHING}]"),
        (content, false, false) => format!("[{content}]"),
        (content, true, false) => format!("[^{content}]"),
        (content, false, true) => format!("(?i:[{content}])"),
        (content, true, true) => format!("(?i:[^{content}])"),
    }
}

/// Writes a range without what lies between the two halves of the first plane, where no text has characters.
fn push_range(low: u32, high: u32, out: &mut String) {
    const SURROGATES: std::ops::RangeInclusive<u32> = 0xd800..=0xdfff;
    let low = if SURROGATES.contains(&low) { 0xe000 } else { low };
    let high = if SURROGATES.contains(&high) { 0xd7ff } else { high };
    if low <= high {
        push_char(low, out);
        out.push('-');
        push_char(high, out);
    }
}

fn character<'t>(text: &'t str, class: &str) -> Result<(u32, &'t str), SyntaxError> {
    match text.chars().next() {
        None => fault("missing closing ]", class),
        Some('\\') => escaped(text),
        Some(c) => Ok((u32::from(c), &text[c.len_utf8()..])),
    }
}

/// Reads `[:name:]`.
fn posix<'t>(text: &'t str, fold: bool, out: &mut String) -> Result<Option<&'t str>, SyntaxError> {
    let Some((inner, after)) = text.strip_prefix("[:").and_then(|inner| inner.split_once(":]")) else {
        return Ok(None);
    };
    let whole = &text[..text.len() - after.len()];
    let (negated, name) = match inner.strip_prefix('^') {
        Some(name) => (true, name),
        None => (false, inner),
    };
    match POSIX.iter().find(|(known, _)| *known == name) {
        Some((_, pairs)) => push_set(pairs, negated, fold, out),
        None => return fault("invalid character class range", whole),
    }
    Ok(Some(after))
}

/// Reads an escape that stands for a set of characters, and writes it as it stands within brackets; returns what
/// follows it.
pub(super) fn group<'t>(text: &'t str, fold: bool, out: &mut String) -> Result<Option<&'t str>, SyntaxError> {
    let Some(name) = text.strip_prefix('\\') else {
        return Ok(None);
    };
    let (pairs, negated) = match name.chars().next() {
        Some('p' | 'P') => return unicode(text, out).map(Some),
        Some('d') => ("09", false),
        Some('D') => ("09", true),
        Some('s') => ("\t\n\x0c\r  ", false),
        Some('S') => ("\t\n\x0c\r  ", true),
        Some('w') => ("09AZaz__", false),
        Some('W') => ("09AZaz__", true),
        _ => return Ok(None),
    };
    push_set(pairs, negated, fold, out);
    Ok(Some(&name[1..]))
}

/// Reads `\pL`, `\p{Greek}` and their opposites.
fn unicode<'t>(text: &'t str, out: &mut String) -> Result<&'t str, SyntaxError> {
    let mut positive = text.starts_with("\\p");
    let inner = &text[2..];
    let (name, rest) = match inner.strip_prefix('{') {
        Some(inner) => match inner.split_once('}') {
            Some(split) => split,
            None => return fault("invalid character class range", text),
        },
        None => inner.split_at(inner.chars().next().map_or(0, char::len_utf8)),
    };
    let part = &text[..text.len() - rest.len()];
    let name = match name.strip_prefix('^') {
        Some(name) => {
            positive = !positive;
            name
        }
        None => name,
    };
    let canonical: String = name
        .chars()
        .filter(|c| !matches!(c, ' ' | '_' | '-'))
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let known = |name: &str| NAMES.split(' ').any(|known| known == name);
    match canonical.as_str() {
        // No text holds half a character.
        "cs" | "surrogate" => out.push_str(if positive { "" } else { ANYTHING }),
        name if matches!(name, "any" | "assigned" | "ascii") || known(name) => {
            out.push_str(if positive { "\\p{" } else { "\\P{" });
            out.push_str(name);
            out.push('}');
        }
        _ => return fault("invalid character class range", part),
    }
    Ok(rest)
}

/// Reads an escape that stands for one character; returns it and what follows it.
pub(super) fn escaped(text: &str) -> Result<(u32, &str), SyntaxError> {
    let mut rest = text[1..].chars();
    let Some(c) = rest.next() else {
        return fault("trailing backslash at end of expression", "");
    };
    let octal = |c: Option<char>| c.and_then(|c| c.to_digit(8));
    let found = match c {
        '1'..='7' if octal(rest.clone().next()).is_none() => None,
        '0'..='7' => {
            let mut code = u32::from(c) - u32::from('0');
            for _ in 0..2 {
                if let Some(digit) = octal(rest.clone().next()) {
                    code = code * 8 + digit;
                    rest.next();
                }
            }
            Some(code)
        }
        'x' => hexadecimal(&mut rest),
        'a' => Some(7),
        'f' => Some(12),
        'n' => Some(10),
        'r' => Some(13),
        't' => Some(9),
        'v' => Some(11),
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(u32::from(c)),
        _ => None,
    };
    let rest = rest.as_str();
    match found {
        Some(code) => Ok((code, rest)),
        None => fault("invalid escape sequence", &text[..text.len() - rest.len()]),
    }
}

fn hexadecimal(rest: &mut std::str::Chars<'_>) -> Option<u32> {
    match rest.next()? {
        '{' => {
            let (mut code, mut digits) = (0u32, 0);
            loop {
                match rest.next()? {
                    '}' if digits > 0 => return Some(code),
                    c => code = code * 16 + c.to_digit(16)?,
                }
                if code > u32::from(char::MAX) {
                    return None;
                }
                digits += 1;
            }
        }
        first => Some(first.to_digit(16)? * 16 + rest.next()?.to_digit(16)?),
    }
}
