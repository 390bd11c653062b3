//! Calls functions with random values, in this engine and in Helm: what they return is compared to the byte, and
//! each refuses what the other refuses.

use flotilla_render_tests::{Oracle, Random, cases, rendered, seed};

/// How many calls a run compares unless FLOTILLA_CASES says otherwise.
const CASES: usize = 400;

/// Functions and what each parameter may be: a letter for each, as [`Caller::argument`] reads them.
const FUNCTIONS: &[(&str, &str)] = &[
    ("abbrev", "is"),
    ("add", "nnn"),
    ("add1", "n"),
    ("addf", "nn"),
    ("all", "aa"),
    ("any", "aa"),
    ("append", "la"),
    ("atoi", "s"),
    ("b32enc", "s"),
    ("b64dec", "s"),
    ("b64enc", "s"),
    ("base", "s"),
    ("camelcase", "s"),
    ("cat", "aa"),
    ("ceil", "n"),
    ("chunk", "pl"),
    ("clean", "s"),
    ("coalesce", "aaa"),
    ("compact", "l"),
    ("concat", "ll"),
    ("contains", "ss"),
    ("dateInZone", "dtz"),
    ("deepEqual", "aa"),
    ("default", "aa"),
    ("dict", "sa"),
    ("dig", "sam"),
    ("dir", "s"),
    ("div", "nn"),
    ("divf", "nn"),
    ("duration", "n"),
    ("durationRound", "n"),
    ("durationSeconds", "a"),
    ("empty", "a"),
    ("ext", "s"),
    ("first", "l"),
    ("float64", "a"),
    ("floor", "n"),
    ("fromJson", "s"),
    ("fromYaml", "s"),
    ("fromYamlArray", "s"),
    ("has", "al"),
    ("hasKey", "ms"),
    ("hasPrefix", "ss"),
    ("hasSuffix", "ss"),
    ("indent", "is"),
    ("initial", "l"),
    ("initials", "s"),
    ("int", "a"),
    ("int64", "a"),
    ("join", "sa"),
    ("kebabcase", "s"),
    ("kindOf", "a"),
    ("last", "l"),
    ("len", "a"),
    ("list", "aaa"),
    ("lower", "s"),
    ("max", "nn"),
    ("maxf", "nn"),
    ("merge", "mm"),
    ("mergeOverwrite", "mm"),
    ("min", "nn"),
    ("mod", "nn"),
    ("mul", "nn"),
    ("mustToJson", "a"),
    ("nindent", "is"),
    ("nospace", "s"),
    ("omit", "ms"),
    ("pick", "ms"),
    ("plural", "ssi"),
    ("prepend", "la"),
    ("print", "aa"),
    ("printf", "vaaa"),
    ("println", "aa"),
    ("quote", "aa"),
    ("regexFind", "rs"),
    ("regexFindAll", "rsi"),
    ("regexMatch", "rs"),
    ("regexQuoteMeta", "s"),
    ("regexReplaceAll", "rss"),
    ("regexSplit", "rsi"),
    ("repeat", "is"),
    ("replace", "sss"),
    ("rest", "l"),
    ("reverse", "l"),
    ("round", "ni"),
    ("semverCompare", "ss"),
    ("seq", "ii"),
    ("sha256sum", "s"),
    ("slice", "li"),
    ("snakecase", "s"),
    ("sortAlpha", "l"),
    ("split", "ss"),
    ("splitList", "ss"),
    ("splitn", "sis"),
    ("squote", "aa"),
    ("sub", "nn"),
    ("subf", "nn"),
    ("substr", "iis"),
    ("swapcase", "s"),
    ("ternary", "aab"),
    ("title", "s"),
    ("toJson", "a"),
    ("toPrettyJson", "a"),
    ("toRawJson", "a"),
    ("toString", "a"),
    ("toStrings", "a"),
    ("toToml", "m"),
    ("toYaml", "a"),
    ("toYamlPretty", "a"),
    ("trim", "s"),
    ("trimAll", "ss"),
    ("trimPrefix", "ss"),
    ("trimSuffix", "ss"),
    ("trunc", "is"),
    ("typeOf", "a"),
    ("uniq", "l"),
    ("untilStep", "iip"),
    ("untitle", "s"),
    ("upper", "s"),
    ("urlJoin", "u"),
    ("urlParse", "h"),
    ("without", "la"),
    ("wrap", "ps"),
    ("wrapWith", "pss"),
];

const TEXTS: &[&str] = &[
    "",
    " ",
    "a",
    "abc",
    "Hello World",
    "one,two",
    "a-b_c d",
    "1.2.3",
    ">=1.2",
    "v1.20.0-rc.1",
    "12",
    "0x1F",
    "010",
    "-5",
    "1.5e3",
    "true",
    "yes",
    "null",
    "~",
    "é",
    "日本 語",
    "a\nb\n",
    "  lead",
    "trail  ",
    "\ttab",
    "k: v",
    "- 1",
    "{\"a\": [1]}",
    "[1, 2]",
    "[a-z]+",
    "(",
    "(b)(c)",
    "$1",
    "/a/../b.tar.gz",
    "http://u@h:1/p?q#f",
    "aGk=",
    "'q'",
    "\"",
    "#c",
    "a: b: c",
    "HTTPServer",
    "fooBar",
    "x\u{1}y",
    "<b>&amp;",
    "1h30m",
    "100000000000000000000",
    "k10",
    "k1b",
    "01-x",
    "01a",
];

const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "7",
    "10",
    "100",
    "-37",
    "1.5",
    "-2.25",
    "0.1",
    "1e6",
    "1e21",
    "123456789",
    "9007199254740993",
    "0.000001",
    "-0.0",
    "1e-7",
    "-5e20",
];

/// Pieces of addresses.
const ADDRESSES: &[&str] = &[
    "http:",
    "https:",
    "postgres:",
    "mailto:",
    "x",
    "//",
    "/",
    "h",
    "u:p",
    "@",
    ":",
    ":80",
    "[::1]",
    "[",
    "]",
    "%41",
    "%25",
    "%zz",
    "%ff",
    "é",
    "?",
    "#",
    "a=b",
    "&",
    " ",
    "..",
    "*",
    "<",
    "\u{7f}",
    "1.2.3.4",
    ",",
    ";",
    "\"",
    "+",
    "|",
];

/// Pieces of formats.
const FORMATS: &[&str] = &[
    "%", "%", "%", "v", "d", "s", "q", "x", "X", "f", "g", "e", "t", "T", "c", "U", "b", "o", "+", "-", "#",
    " ", "0", "5", "12", ".2", ".", "*", "[1]", "[2]", "[9]", "[", "]", "w", "z", "a", "é", "!",
];

/// Texts that are no UTF-8, in base64.
const BINARY: &[&str] = &[
    "/w==", "//4A", "w6k=", "w2E=", "4oKs", "4oI=", "YcMKYg==", "7aCA", "8J+Y",
];

/// Pieces of long lines.
const LONG: &[&str] = &[
    "word word word word word word word word word word word word word word word word word word word ",
    "日本語のとても長い行です日本語のとても長い行です日本語のとても長い行です日本語のとても長い行です",
    "ümläute und ähnliches in einer Zeile, die länger ist als achtzig Zeichen, damit sie gefaltet wird ",
    "a: b #c",
    "\n",
];

/// Pieces of regular expressions, classes among them.
const EXPRESSIONS: &[&str] = &[
    "a",
    "b",
    "é",
    "[a-z]",
    "[^a]",
    "[[:alpha:]]",
    "[[:^digit:]]",
    "[a",
    "[]b]",
    "\\d",
    "\\W",
    "\\pL",
    "\\p{Greek}",
    "(",
    ")",
    "|",
    "*",
    "+",
    "?",
    "*?",
    "{2}",
    "{1,}",
    "{,2}",
    "^",
    "$",
    ".",
    "(?i)",
    "(?:",
    "\\Qa.",
    "\\E",
    "\\x41",
    "\\b",
    "-",
    " ",
];

/// Pieces of patterns of files, classes among them.
const GLOBS: &[&str] = &[
    "*",
    "**",
    "?",
    "[a-z]",
    "[!a]",
    "[ab]",
    "[a-z0-9]",
    "{a,b}",
    "{a,{b,c}}",
    "config/",
    "bin/",
    "a",
    "b",
    ".txt",
    ".yaml",
    "/",
    "\\*",
    "[",
    "{a",
];

/// Pieces of layouts of dates.
const LAYOUTS: &[&str] = &[
    "2006", "06", "01", "1", "Jan", "January", "02", "2", "_2", "002", "15", "03", "3", "04", "4", "05", "5",
    "PM", "pm", "Mon", "Monday", "MST", "-0700", "-07", "Z07:00", "Z0700", "-07:00", ".000", ".999", ",000",
    "T", "-", " ", ":", "_", "x", "th",
];

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("text is JSON")
}

/// Returns whether that is how the readers of YAML and JSON return that they cannot.
fn is_unreadable(text: &str) -> bool {
    text.starts_with("map[Error:") || text.starts_with("[error ")
}

/// Writes calls.
struct Caller(Random);

impl Caller {
    fn text(&mut self) -> String {
        match self.0.below(12) {
            // No UTF-8, which stands in no template.
            0 => format!("(b64dec {:?})", self.0.pick(BINARY)),
            1 => quoted(&self.pieces(LONG, 3)),
            _ => quoted(self.0.pick(TEXTS)),
        }
    }

    /// Puts a few of some pieces together.
    fn pieces(&mut self, pieces: &[&str], most: usize) -> String {
        (0..1 + self.0.below(most)).map(|_| self.0.pick(pieces)).collect()
    }

    /// Writes a list, a map or a plain value.
    fn any(&mut self, depth: usize) -> String {
        match self.0.below(if depth == 0 { 5 } else { 8 }) {
            0 => "nil".to_owned(),
            1 => self.0.pick(NUMBERS).to_owned(),
            2 => self.0.pick(&["true", "false"]).to_owned(),
            3 | 4 => self.text(),
            5 => self.list(depth - 1),
            6 => self.map(depth - 1),
            _ => self
                .0
                .pick(&[
                    "(until 3)",
                    "(splitList \",\" \"b,a\")",
                    ".Values.f",
                    ".Values.nope",
                    ".Values.list",
                    ".Values.big",
                    "(int64 5)",
                ])
                .to_owned(),
        }
    }

    fn list(&mut self, depth: usize) -> String {
        let items: Vec<String> = (0..self.0.below(4)).map(|_| self.any(depth)).collect();
        format!("(list {})", items.join(" ")).replace(" )", ")")
    }

    fn map(&mut self, depth: usize) -> String {
        // Keys that are no UTF-8 have an order of their own, which helm-differences.md tells.
        let entries: Vec<String> = (0..self.0.below(4))
            .map(|_| format!("{} {}", quoted(self.0.pick(TEXTS)), self.any(depth)))
            .collect();
        format!("(dict {})", entries.join(" "))
            .replace("(dict )", "dict")
            .replace("dict", "(dict)")
            .replace("((dict)", "(dict")
    }

    /// Writes the parts of an address.
    fn address(&mut self) -> String {
        let parts = [
            "scheme", "host", "path", "query", "opaque", "fragment", "userinfo",
        ];
        let mut given = Vec::new();
        for part in parts {
            if self.0.one_in(3) {
                given.push(format!("{part:?} {}", quoted(&self.pieces(ADDRESSES, 3))));
            }
        }
        format!("(dict {})", given.join(" ")).replace("(dict )", "(dict)")
    }

    /// Writes an argument of a kind: text, a small integer, a positive one, a number, a list, a map, anything.
    fn argument(&mut self, kind: char) -> String {
        match kind {
            's' => self.text(),
            'r' => quoted(&self.pieces(EXPRESSIONS, 5)),
            'd' => quoted(&self.pieces(LAYOUTS, 6)),
            'h' => quoted(&self.pieces(ADDRESSES, 8)),
            'v' => quoted(&self.pieces(FORMATS, 8)),
            'u' => self.address(),
            't' => format!(
                "(int64 {})",
                self.0.pick(&["0", "1700000000", "-1", "951782400", "4102444799"])
            ),
            'i' => (self.0.below(14) as i64 - 4).to_string(),
            'p' => (self.0.below(6) + 1).to_string(),
            'z' => "\"UTC\"".to_owned(),
            'b' => self.0.pick(&["true", "false"]).to_owned(),
            'n' => self.0.pick(NUMBERS).to_owned(),
            'l' => self.list(1),
            'm' if self.0.one_in(10) => "nil".to_owned(),
            'm' => self.map(1),
            _ => self.any(2),
        }
    }

    fn call(&mut self) -> String {
        if self.0.one_in(25) {
            let pattern = quoted(&self.pieces(GLOBS, 5));
            return format!(
                "{{{{ range $name, $_ := .Files.Glob {pattern} }}}}{{{{ $name }}}};{{{{ end }}}}"
            );
        }
        let (name, parameters) = FUNCTIONS[self.0.below(FUNCTIONS.len())];
        let arguments: Vec<String> = parameters.chars().map(|kind| self.argument(kind)).collect();
        format!("{{{{ {name} {} }}}}", arguments.join(" "))
    }
}

#[test]
fn random_calls_return_what_they_return_in_helm() {
    let cases = cases(CASES);
    let mut random = Caller(Random::new(seed(17)));
    let mut oracle = Oracle::start();
    let (mut equal, mut refused, mut known) = (0, 0, 0);
    let mut differences = Vec::new();
    for _ in 0..cases {
        let call = random.call();
        let (ours, theirs) = (rendered::ours(&call), rendered::theirs(&mut oracle, &call));
        match (&ours, &theirs) {
            (Ok(ours), Ok(theirs)) if ours == theirs => equal += 1,
            (Err(_), Err(_)) => refused += 1,
            // helm-differences.md: what reads it back expects text.
            (Ok(ours), Ok(theirs))
                if call.contains("toYamlPretty")
                    && theirs.contains("!!binary")
                    && ours.contains('\u{fffd}') =>
            {
                known += 1;
            }
            // What cannot be read is told in the value, in each reader's own words.
            (Ok(ours), Ok(theirs)) if is_unreadable(ours) && is_unreadable(theirs) => {
                refused += 1;
            }
            _ => differences.push(format!("{call}\n  ours   {ours:?}\n  theirs {theirs:?}")),
        }
    }
    println!("random calls: {equal} equal and {refused} refused by both, {known} as documented, of {cases}");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(equal * 2 > cases, "{equal} of {cases} say something");
}

/// Functions that look at single characters, and what stands around one.
const OF_CHARACTERS: &[(&str, &str, &str)] = &[
    ("upper", "", ""),
    ("lower", "", ""),
    ("title", "", "b"),
    ("title", "a", "b"),
    ("untitle", "", "B"),
    ("swapcase", "", "b"),
    ("swapcase", "a", "B"),
    ("camelcase", "a_", "B"),
    ("camelcase", "A", "B"),
    ("kebabcase", "", ""),
    ("kebabcase", "aB", "cD"),
    ("snakecase", "AB", "cd"),
    ("snakecase", "1", "a2"),
    ("quote", "", ""),
    ("trim", "", ""),
    ("printf \"%+q%#q\"", "", ""),
];

/// Every character that Unicode has given a meaning, and those behind that are not given one yet; of scripts of many
/// thousand signs that are all alike one in 64, unless a run asks for many cases.
fn characters() -> impl Iterator<Item = char> {
    let is_whole = cases(CASES) > CASES;
    ('\u{80}'..'\u{33500}')
        .chain('\u{e0000}'..'\u{e0200}')
        .chain('\u{10ff00}'..='\u{10ffff}')
        .filter(move |c| {
            let is_of_many = matches!(c,
                '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' | '\u{e000}'..='\u{f8ff}'
                | '\u{12000}'..='\u{1afef}' | '\u{20000}'..='\u{33500}');
            is_whole || !is_of_many || u32::from(*c) % 64 == 0
        })
}

#[test]
fn each_character_has_the_case_and_the_class_that_it_has_in_helm() {
    let mut oracle = Oracle::start();
    let characters: Vec<char> = characters().collect();
    let mut differences = Vec::new();
    for (function, before, after) in OF_CHARACTERS {
        for some in characters.chunks(20_000) {
            let pieces: Vec<String> = some.iter().map(|c| format!("{before}{c}{after}")).collect();
            let call = format!(
                "{{{{ range splitList \"|\" {} }}}}{{{{ {function} . }}}}|{{{{ end }}}}",
                quoted(&pieces.join("|"))
            );
            let ours = rendered::ours(&call).expect("ours");
            let theirs = rendered::theirs(&mut oracle, &call).expect("theirs");
            let both = ours.split('|').zip(theirs.split('|')).zip(some);
            differences.extend(both.filter(|((ours, theirs), _)| ours != theirs).map(
                |((ours, theirs), c)| format!("{function} U+{:04X}: {ours:?}, not {theirs:?}", u32::from(*c)),
            ));
        }
    }
    let some = &differences[..differences.len().min(40)];
    assert!(
        differences.is_empty(),
        "{}: {}",
        differences.len(),
        some.join("\n")
    );
}
