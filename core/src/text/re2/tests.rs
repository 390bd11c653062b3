use super::{compile, translate};

const LIMIT: usize = 2 << 20;

fn matches(pattern: &str, text: &str) -> bool {
    compile(pattern, LIMIT).expect(pattern).regex.is_match(text)
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
    let compiled = compile(r"(?U)(a+)(?P<1st>b+?)(?:c)(?P<last>.*)", LIMIT).expect("it is an expression");
    assert_eq!(
        compiled.names,
        [None, Some("1st".to_owned()), Some("last".to_owned())]
    );
    let found = compiled.regex.captures("aabbcx").expect("it matches");
    assert_eq!([&found[0], &found[1], &found[2]], ["aabbc", "aa", "bb"]);
}

#[test]
fn what_is_too_large_or_too_deep_is_told() {
    let large = compile(r"(\p{L}{500}){2}", 1 << 16).expect_err("it is too large");
    assert_eq!(large.code, "expression too large");
    let deep = format!("{}a{}", "(".repeat(300), ")".repeat(300));
    assert_eq!(
        compile(&deep, LIMIT).expect_err("it is too deep").code,
        "expression nests too deeply"
    );
    let within = format!("{}a{}", "(".repeat(200), ")".repeat(200));
    assert!(compile(&within, LIMIT).is_ok());
}

#[test]
fn no_class_stands_within_another() {
    for pattern in [
        r"[\W[:^alpha:]\P{Cs}]",
        r"(?i)[^\S\p{Greek}]",
        r"\p{Cs}",
        r"[a&&b[c]",
    ] {
        let translated = translate(pattern).expect(pattern).pattern;
        assert_eq!(
            translated.replace("\\[", "").matches('[').count(),
            1,
            "{pattern}: {translated}"
        );
    }
}
