use super::{CaptureRegex, Regex, translate};

const LIMIT: usize = 2 << 20;

fn matches(pattern: &str, text: &str) -> bool {
    Regex::compile(pattern, LIMIT).expect(pattern).is_match(text)
}

#[test]
fn what_go_reads_and_rust_does_not_is_read_as_go_means_it() {
    let cases = [
        (r"^[\w-\.]+$", "my.master-1", true),
        (r"[\w-a]", "-", true),
        (r"\141", "a", true),
        (r"\Qa.b\E", "a.b", true),
        (r"\Qa.b\E", "axb", false),
        (r"\Qa.b", "a.b", true),
        (r"[a[b]", "[", true),
        (r"[a&&b]", "&", true),
        (r"[]a]", "]", true),
        (r"[^]a]", "]", false),
        (r"[a-]", "-", true),
        (r"x{,2}", "x{,2}", true),
        (r"x{01}", "x{01}", true),
        (r"{", "{", true),
        (r"(?P<1a>..)", "ab", true),
        (r"(?<n>a)", "a", true),
        (r"(?P<n>a)(?P<n>b)", "ab", true),
        (r"\p{^Greek}", "α", false),
        (r"\p{Greek}", "α", true),
        (r"\pN", "7", true),
        (r"\p{Lowercase_Letter}", "a", true),
        (r"[[:^digit:]]", "7", false),
        (r"a(?i)*b", "aaB", true),
        (r"\s", "\u{a0}", false),
        (r"\d", "٣", false),
        (r"\bé", "é", false),
        (r"(?i)straße", "STRAßE", true),
        (r"(?i:k)", "\u{212a}", true),
        (r"(?i)[^k]", "\u{212a}", false),
        (r"(?s)a.b(?-s).", "a\nb\n", false),
        (r"a$", "a\n", false),
        (r"(?m)a$", "a\nb", true),
        (r"\x{d800}", "a", false),
        (r"[\x{d800}-\x{e000}]", "\u{e000}", true),
        (r"^*a", "a", true),
        (r"a||b", "c", true),
        (r"()", "", true),
        (r"\_", "_", true),
        (r"\<a", "<a", true),
        (r"#&~-", "#&~-", true),
        (r"[#&~ ]", "~", true),
        (r"[[:^alpha:]1]", "a", false),
        (r"[^[:punct:]]", "~", false),
        (r"[[:print:]]", "\n", false),
        (r"[\D]", "é", true),
        (r"[^\W_]", "_", false),
        (r"(?i)[\W]", "\u{17f}", false),
        (r"(?i)[[:^lower:]]", "K", false),
        (r"[^\p{Cs}]", "a", true),
        (r"[\p{Cs}]", "a", false),
        (r"\P{Cs}", "a", true),
    ];
    for (pattern, text, want) in cases {
        assert_eq!(matches(pattern, text), want, "{pattern} against {text:?}");
    }
}

#[test]
fn what_go_refuses_is_refused_in_its_words() {
    let cases = [
        ("a**", "invalid nested repetition operator: `**`"),
        ("a*+", "invalid nested repetition operator: `*+`"),
        ("x{2}??*", "invalid nested repetition operator: `{2}??`"),
        ("*", "missing argument to repetition operator: `*`"),
        ("(?i)*", "missing argument to repetition operator: `*`"),
        ("a|*", "missing argument to repetition operator: `*`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("a{2,1}", "invalid repeat count: `{2,1}`"),
        ("(a{100}){11}", "invalid repeat count: `{11}`"),
        ("((a{10}){10}){11}", "invalid repeat count: `{11}`"),
        ("a{99999999999}", "invalid repeat count: `{99999999999}`"),
        (r"\u0061", "invalid escape sequence: `\\u`"),
        (r"\8", "invalid escape sequence: `\\8`"),
        (r"\1", "invalid escape sequence: `\\1`"),
        (r"\C", "invalid escape sequence: `\\C`"),
        (r"\Z", "invalid escape sequence: `\\Z`"),
        (r"\é", "invalid escape sequence: `\\é`"),
        (r"\x{}", "invalid escape sequence: `\\x{}`"),
        (r"\x{110000}", "invalid escape sequence: `\\x{110000`"),
        (r"[\b]", "invalid escape sequence: `\\b`"),
        (r"\", "trailing backslash at end of expression: ``"),
        ("[a--b]", "invalid character class range: `a--`"),
        ("[b-a]", "invalid character class range: `b-a`"),
        (
            r"\p{Alphabetic}",
            "invalid character class range: `\\p{Alphabetic}`",
        ),
        (r"\p{Greek", "invalid character class range: `\\p{Greek`"),
        ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
        ("[a", "missing closing ]: `[a`"),
        ("[]", "missing closing ]: `[]`"),
        ("(a", "missing closing ): `(a`"),
        ("a)", "unexpected ): `a)`"),
        ("(?x)a a", "invalid or unsupported Perl syntax: `(?x`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?i-)", "invalid or unsupported Perl syntax: `(?i-)`"),
        ("(?P<a", "invalid named capture: `(?P<a`"),
        ("(?P<a-b>x)", "invalid named capture: `(?P<a-b>`"),
    ];
    for (pattern, want) in cases {
        let refused = translate(pattern).expect_err(pattern).to_string();
        assert_eq!(refused, format!("error parsing regexp: {want}"), "{pattern}");
    }
}

#[test]
fn groups_keep_their_names_and_repetitions_their_greed() {
    let pattern = r"(?U)(a+)(?P<1st>b+?)(?:c)(?P<last>.*)";
    let regex = CaptureRegex::compile(pattern, LIMIT).expect("it is an expression");
    assert_eq!(
        regex.names(),
        [None, Some("1st".to_owned()), Some("last".to_owned())]
    );
    let text = "aabbcx";
    let found = regex.captures_iter(text).next().expect("it matches");
    let group = |number| &text[found.get_group(number).expect("it matches too").range()];
    assert_eq!([group(0), group(1), group(2)], ["aabbc", "aa", "bb"]);
}

#[test]
fn what_is_too_large_or_too_deep_is_told() {
    let large = Regex::compile(r"(\p{L}{500}){2}", 1 << 16).expect_err("it is too large");
    assert_eq!(large.code, "expression too large");
    let long = translate(&"()".repeat(200_000)).expect_err("it is too long");
    assert_eq!(
        long.to_string(),
        format!(
            "error parsing regexp: expression too large: `{}`",
            "()".repeat(20)
        )
    );
    let deep = format!("{}a{}", "(".repeat(300), ")".repeat(300));
    assert_eq!(
        Regex::compile(&deep, LIMIT).expect_err("it is too deep").code,
        "expression nests too deeply"
    );
    let within = format!("{}a{}", "(".repeat(200), ")".repeat(200));
    assert!(Regex::compile(&within, LIMIT).is_ok());
}

#[test]
fn groups_that_nobody_asks_for_have_no_numbers() {
    for (pattern, want) in [
        ("(a)(?P<n>b)(?i:c)", "(?:a)(?:b)(?:(?i:c))"),
        ("()(?:x)", "(?:)(?:x)"),
    ] {
        assert_eq!(translate(pattern).expect(pattern), want, "{pattern}");
    }
}

/// So many groups in front of an expression that is in many states at once.
fn grouped(groups: usize) -> String {
    format!("{}[ab]*a[ab]{{300}}c", "()".repeat(groups))
}

#[test]
fn the_memory_of_a_match_does_not_grow_with_groups_that_are_not_asked_for() {
    // Each letter leads to another state, so that the search ends in the slowest of the ways.
    let text: String = (0..3000_u32)
        .map(|at| {
            if at.wrapping_mul(at).wrapping_mul(2_654_435_761) >> 31 == 0 {
                'a'
            } else {
                'b'
            }
        })
        .collect();
    let taken = |groups| {
        let regex = Regex::compile(&grouped(groups), LIMIT).expect("it is an expression");
        let mut cache = regex.cache();
        assert!(!regex.is_match_with(&mut cache, &text));
        cache.memory_usage()
    };
    assert_eq!(taken(10_000), taken(0));
    assert!(taken(0) < 256 << 10, "{}", taken(0));
}

#[test]
fn groups_whose_places_take_too_many_bytes_are_refused() {
    assert!(CaptureRegex::compile(&grouped(500), LIMIT).is_ok());
    let many = CaptureRegex::compile(&grouped(2000), LIMIT).expect_err("it has too many groups");
    assert_eq!(
        (many.code, many.is_bound),
        ("expression has too many groups", true)
    );
}

#[test]
fn the_states_of_groups_are_counted_with_what_a_match_takes_along() {
    let states = |groups| {
        let regex = CaptureRegex::compile(&grouped(groups), LIMIT).expect("it is an expression");
        regex.states()
    };
    let few = states(0);
    assert!(few >= 300, "{few}");
    // Beside its own two, a group is two places of each state.
    assert_eq!(states(400), (few + 800) * (8 + 800) / 8);
}

#[test]
fn no_class_stands_within_another() {
    for pattern in [
        r"[\W[:^alpha:]\P{Cs}]",
        r"(?i)[^\S\p{Greek}]",
        r"\p{Cs}",
        r"[a&&b[c]",
    ] {
        let translated = translate(pattern).expect(pattern);
        assert_eq!(
            translated.replace("\\[", "").matches('[').count(),
            1,
            "{pattern}: {translated}"
        );
    }
}
