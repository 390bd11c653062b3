//! Calls functions with random values, in this engine and in Helm: what they return is compared to the byte, and
//! each refuses what the other refuses.

mod oracle;
mod rendered;

use oracle::Oracle;

/// How many calls a run compares unless HELM_CASES says otherwise.
const CASES: usize = 400;

/// Functions and what each parameter may be: a letter for each, as [`Random::argument`] reads them.
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
    ("println", "aa"),
    ("quote", "aa"),
    ("regexFind", "ss"),
    ("regexMatch", "ss"),
    ("regexQuoteMeta", "s"),
    ("regexReplaceAll", "sss"),
    ("regexSplit", "ssi"),
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
    ("urlParse", "s"),
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
];

/// Returns whether that is how the readers of YAML and JSON return that they cannot.
fn is_unreadable(text: &str) -> bool {
    text.starts_with("map[Error:") || text.starts_with("[error ")
}

/// A small generator with a fixed seed, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    fn one<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.below(of.len())]
    }

    fn text(&mut self) -> String {
        serde_json::to_string(self.one(TEXTS)).expect("text is JSON")
    }

    /// Writes a list, a map or a plain value.
    fn any(&mut self, depth: usize) -> String {
        match self.below(if depth == 0 { 5 } else { 8 }) {
            0 => "nil".to_owned(),
            1 => self.one(NUMBERS).to_owned(),
            2 => self.one(&["true", "false"]).to_owned(),
            3 | 4 => self.text(),
            5 => self.list(depth - 1),
            6 => self.map(depth - 1),
            _ => self
                .one(&[
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
        let items: Vec<String> = (0..self.below(4)).map(|_| self.any(depth)).collect();
        format!("(list {})", items.join(" ")).replace(" )", ")")
    }

    fn map(&mut self, depth: usize) -> String {
        let entries: Vec<String> = (0..self.below(4))
            .map(|_| format!("{} {}", self.text(), self.any(depth)))
            .collect();
        format!("(dict {})", entries.join(" "))
            .replace("(dict )", "dict")
            .replace("dict", "(dict)")
            .replace("((dict)", "(dict")
    }

    /// Writes an argument of a kind: text, a small integer, a positive one, a number, a list, a map, anything.
    fn argument(&mut self, kind: char) -> String {
        match kind {
            's' => self.text(),
            'i' => (self.below(14) as i64 - 4).to_string(),
            'p' => (self.below(6) + 1).to_string(),
            'b' => self.one(&["true", "false"]).to_owned(),
            'n' => self.one(NUMBERS).to_owned(),
            'l' => self.list(1),
            'm' => self.map(1),
            _ => self.any(2),
        }
    }

    fn call(&mut self) -> String {
        let (name, parameters) = FUNCTIONS[self.below(FUNCTIONS.len())];
        let arguments: Vec<String> = parameters.chars().map(|kind| self.argument(kind)).collect();
        format!("{{{{ {name} {} }}}}", arguments.join(" "))
    }
}

#[test]
fn random_calls_return_what_they_return_in_helm() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let cases = number("HELM_CASES").map_or(CASES, |cases| cases as usize);
    let mut random = Random(number("FLOTILLA_SEED").unwrap_or(17));
    let mut oracle = Oracle::start();
    let (mut equal, mut refused) = (0, 0);
    let mut differences = Vec::new();
    for _ in 0..cases {
        let call = random.call();
        let (ours, theirs) = (rendered::ours(&call), rendered::theirs(&mut oracle, &call));
        match (&ours, &theirs) {
            (Ok(ours), Ok(theirs)) if ours == theirs => equal += 1,
            (Err(_), Err(_)) => refused += 1,
            // What cannot be read is told in the value, in each reader's own words.
            (Ok(ours), Ok(theirs)) if is_unreadable(ours) && is_unreadable(theirs) => {
                refused += 1;
            }
            _ => differences.push(format!("{call}\n  ours   {ours:?}\n  theirs {theirs:?}")),
        }
    }
    println!("random calls: {equal} equal and {refused} refused by both, of {cases}");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
