//! Substitution against Flux's own code: tabled cases and random expressions, values and errors alike.

#[path = "common/oracle.rs"]
mod oracle;

use flotilla_core::substitute::{MAX_BYTES, SubstituteError, Variables, is_disabled, runs, substitute};
use oracle::{Oracle, Random};
use serde_json::json;

const VARIABLES: &[(&str, &[u8])] = &[
    ("a", b"hello"),
    ("A", b"HELLO World"),
    ("empty", b""),
    ("path", b"/usr/local/bin/tool.tar.gz"),
    ("word", b"banana"),
    ("n", b"2"),
    ("neg", b"-3"),
    ("dollar", b"${a}"),
    ("uni", "Straße Ünïcödé €".as_bytes()),
    ("turkish", "İstanbul ᾳ".as_bytes()),
    ("binary", b"\xff\xfeab\xe2\x82"),
    ("slash", b"a/b//c\\d"),
    ("brackets", b"x[y]z*w?"),
    ("_x1", b"under"),
];

const NAMES: &[&str] = &[
    "a", "A", "empty", "path", "word", "n", "neg", "dollar", "uni", "turkish", "slash", "brackets", "_x1",
    "missing",
];

#[test]
fn tabled_expressions_agree_with_flux() {
    let mut oracle = Oracle::start("envsubst");
    let cases = tabled();
    assert!(cases.len() >= 150, "{} cases", cases.len());
    for text in &cases {
        for strict in [false, true] {
            assert_agreement(&mut oracle, text, strict);
        }
    }
}

#[test]
fn random_expressions_agree_with_flux() {
    let mut oracle = Oracle::start("envsubst");
    let mut random = Random::seeded();
    for _ in 0..5_000 {
        let text = random_text(&mut random);
        let strict = random.one_in(2);
        assert_agreement(&mut oracle, &text, strict);
    }
}

fn assert_agreement(oracle: &mut Oracle, text: &str, strict: bool) {
    let variables = Variables::from_layers([VARIABLES.iter().copied()]).expect("valid names");
    let encoded: serde_json::Map<_, _> = VARIABLES
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(hex::encode(value))))
        .collect();
    let answer = oracle.ask(&json!({"text": text, "variables": encoded, "strict": strict}));
    let error = answer["error"].as_str().expect("an error text");
    let value = hex::decode(answer["value"].as_str().expect("a value")).expect("hexadecimal digits");
    match substitute(text, &variables, strict) {
        Ok(ours) => {
            assert_eq!(error, "", "{text:?} strict={strict}: we gave {ours:?}");
            assert_eq!(ours.as_bytes(), value, "{text:?} strict={strict}");
        }
        // Flux passes such bytes on to the YAML parser, which refuses them.
        Err(SubstituteError::NotUtf8) => assert!(std::str::from_utf8(&value).is_err(), "{text:?}"),
        Err(ours) => assert_eq!(ours.to_string(), error, "{text:?} strict={strict}"),
    }
}

/// Every function over every kind of value, and the grammar's corners.
fn tabled() -> Vec<String> {
    let functions = [
        "",
        "^",
        "^^",
        ",",
        ",,",
        ",^",
        ":1",
        ":1:2",
        ": -2",
        ":-2",
        ":0:-1",
        ":2:-4",
        ":99",
        ":0:99",
        "#h",
        "##*/",
        "#*/",
        "%.*",
        "%%.*",
        "%%/*",
        "#[a-h]",
        "##[^a-g]*",
        "=d",
        ":=d",
        ":-d",
        ":?d",
        ":+d",
        ":=",
        "=",
        "/a/A",
        "//a/A",
        "/#h/J",
        "/%o/O",
        "//a",
        "/a/",
        "//a/",
        "/#h/",
        "//\\//-",
        "//l/$$",
        "//l/\\\\",
        "/%z",
    ];
    let mut cases: Vec<String> = NAMES
        .iter()
        .flat_map(|name| functions.iter().map(move |f| format!("${{{name}{f}}}")))
        .collect();
    cases.extend(NAMES.iter().map(|name| format!("${{#{name}}}")));
    cases.extend(CORNERS.iter().map(|&text| text.to_owned()));
    cases
}

const CORNERS: &[&str] = &[
    "",
    "plain",
    "$",
    "$$",
    "$$$",
    "$$$$",
    "$a",
    "$a}",
    "}",
    "{",
    "${",
    "${}",
    "${a",
    "${a ",
    "${ a}",
    "${a }",
    "$${a}",
    "$$${a}",
    "$$$${a}",
    "x$${a}y${a}z",
    "a$$b",
    "\\${a}",
    "${a}${a}",
    "${a}}",
    "${{a}}",
    "{${a}}",
    "${a-d}",
    "${a+d}",
    "${a?d}",
    "${a!}",
    "${#}",
    "${##}",
    "${#a",
    "${#a:1}",
    "${#a}}",
    "${a#}",
    "${a##}",
    "${a%}",
    "${a%%}",
    "${a###h}",
    "${a%%%o}",
    "${a/}",
    "${a//}",
    "${a///}",
    "${a/x}",
    "${a/x/y",
    "${a//x//y}",
    "${a/h///}",
    "${a/}/x}",
    "${a/#}",
    "${a/%/x}",
    "${a/\\/x/y}",
    "${a/$$/y}",
    "${a:",
    "${a:}",
    "${a::}",
    "${a::1}",
    "${a:1:}",
    "${a:1::2}",
    "${a:1::}",
    "${a:x}",
    "${a:1:x}",
    "${a:+2}",
    "${a: 1}",
    "${a:1 }",
    "${a:é}",
    "${a:€}",
    "${é}",
    "${é:=x}",
    "${a^^^}",
    "${a,,,}",
    "${a^,}",
    "${a:1:2:3}",
    "${missing:=${a}}",
    "${missing:=${a}-x}",
    "${missing:=x-${a}-${A}}",
    "${a:=${missing}}",
    "${missing:=${missing:=${a^^}}}",
    "${missing:=$${a}}",
    "${missing:=$a}",
    "${missing:=$}",
    "${missing:=a:b/c#d%e}",
    "${missing:={\"x\": 1}}",
    "${a:${n}}",
    "${a:${n}:${n}}",
    "${a:${neg}}",
    "${a:1${n}}",
    "${a:${n}1}",
    "${word/${a}/x}",
    "${word//${empty}/x}",
    "${word/${empty}/x}",
    "${word/#${empty}/x}",
    "${word/%${empty}/x}",
    "${word//an/${a}}",
    "${word//an/x${a}}",
    "${uni//${empty}/-}",
    "${word#${empty}}",
    "${a#${missing}}",
    "${path##*/}",
    "${path%.*}",
    "${path%%.*}",
    "${path#*/}",
    "${a#[}",
    "${a##[}",
    "${a%[}",
    "${a#[h-}",
    "${a#[]}",
    "${a#[]h]}",
    "${a#[^]}",
    "${a#\\}",
    "${a#\\h}",
    "${a#h\\}",
    "${a#?}",
    "${a##?}",
    "${a#*}",
    "${a##*}",
    "${a%*}",
    "${a%%*}",
    "${a##*l*}",
    "${a##*l}",
    "${a#*l}",
    "${a%l*}",
    "${a%%l*}",
    "${a##h*o}",
    "${a##h*x}",
    "${brackets#x[[]}",
    "${brackets#x\\[}",
    "${brackets%\\?}",
    "${brackets%?}",
    "${brackets%%\\**}",
    "${uni#Stra?e}",
    "${uni%€}",
    "${uni%%?}",
    "${uni:0:4}",
    "${uni:0:5}",
    "${uni:0:6}",
    "${binary}",
    "${#binary}",
    "${binary^^}",
    "${binary,}",
    "${binary:2:2}",
    "${binary%b*}",
    "${binary#?}",
    "${a:9223372036854775807}",
    "${a:9223372036854775808}",
    "${a:-9223372036854775808}",
    "${a:0:-99}",
    "${a:4:-4}",
    "${dollar}",
    "${dollar:=x}",
    "a: ${a}\nb: \"${A}\"\n",
    "x: ${missing}\ny: ${a\n}",
    "${a\n}",
    "${missing:=\n}",
    "${a=}",
    "${a==}",
    "${missing==x}",
    "${missing:==x}",
    "${missing:-=x}",
    "${missing=}",
    "${a_b:=x}",
    "${1a:=x}",
    "${a.b}",
    "${a[0]}",
    "${a@Q}",
    "${!a}",
    "${a:=${b}",
    "${a:=}}",
    "${${a}}",
    "${a${a}}",
];

fn random_text(random: &mut Random) -> String {
    let mut text = String::new();
    for _ in 0..=random.below(4) {
        match random.below(4) {
            0 => text.push_str(random.pick(&["x", "$", "$$", " é ", "\n", "}", "{", ":", "\\", "/"])),
            _ => text.push_str(&random_expression(random, 3)),
        }
    }
    // One text in four is damaged at one place.
    if random.one_in(4) && !text.is_empty() {
        let at = random.below(text.len());
        if text.is_char_boundary(at) && text.is_char_boundary(at + 1) {
            text.replace_range(
                at..=at,
                random.pick(&["", "$", "{", "}", "/", ":", "\\", "#", "%"]),
            );
        }
    }
    text
}

fn random_expression(random: &mut Random, depth: usize) -> String {
    let name = random.pick(NAMES);
    let operator = random.pick(&[
        "", "^", "^^", ",", ",,", ":", ":", "#", "##", "%", "%%", "=", ":=", ":-", ":?", ":+", "/", "//",
        "/#", "/%", "-", "?",
    ]);
    let mut text = format!("${{{}{name}{operator}", if random.one_in(12) { "#" } else { "" });
    if operator.len() < 3 && !matches!(operator, "" | "^" | "^^" | "," | ",,") {
        text.push_str(&random_arg(random, depth));
        match operator {
            ":" if random.one_in(2) => text.push_str(&format!(":{}", random_arg(random, depth))),
            "/" | "//" | "/#" | "/%" if !random.one_in(8) => {
                text.push('/');
                text.push_str(&random_arg(random, depth));
            }
            _ => {}
        }
    }
    text.push('}');
    text
}

fn random_arg(random: &mut Random, depth: usize) -> String {
    let mut arg = String::new();
    for _ in 0..random.below(4) {
        if depth > 0 && random.one_in(4) {
            arg.push_str(&random_expression(random, depth - 1));
        } else {
            arg.push_str(random.pick(&[
                "0", "1", "2", "-1", "-2", "+1", "a", "an", "h", "l", "*", "?", "[a-n]", "[^l]", "[", "]",
                "\\", "\\/", "\\\\", "$$", "$", ".", "é", "ß", "x", " ", "/", "-",
            ]));
        }
    }
    arg
}

#[test]
fn a_value_is_not_substituted_again() {
    let variables = Variables::from_layers([[("a", "${b}"), ("b", "x")]]).expect("valid names");
    assert_eq!(substitute("${a}", &variables, true).as_deref(), Ok("${b}"));
}

#[test]
fn strict_mode_names_the_variable() {
    let error = substitute("image: ${tag}", &Variables::default(), true).expect_err("not set");
    assert_eq!(error.to_string(), r#"variable not set (strict mode): "tag""#);
    assert_eq!(
        substitute("image: ${tag}", &Variables::default(), false).as_deref(),
        Ok("image: ")
    );
}

#[test]
fn a_result_that_grows_past_the_limit_is_refused() {
    let variables = Variables::from_layers([[("a", "x".repeat(1 << 20))]]).expect("valid names");
    let limit = SubstituteError::TooLong { limit: MAX_BYTES };
    assert_eq!(
        substitute(&"${a}".repeat(7), &variables, true),
        Err(limit.clone())
    );
    assert_eq!(substitute("${a//x/${a}}", &variables, true), Err(limit.clone()));
    assert_eq!(
        substitute(&"x".repeat(MAX_BYTES + 1), &variables, true),
        Err(limit)
    );
}

#[test]
fn a_pattern_that_would_take_hours_is_refused() {
    let variables = Variables::from_layers([[("a", "a".repeat(1 << 18))]]).expect("valid names");
    let error = substitute("${a##*a*a*a*b}", &variables, true).expect_err("too much work");
    assert!(matches!(error, SubstituteError::TooMuchWork { .. }), "{error}");
}

#[test]
fn an_object_opts_out_by_label_or_annotation() {
    let key = "kustomize.toolkit.fluxcd.io/substitute";
    assert!(is_disabled(&json!({"labels": {key: "disabled"}})));
    assert!(is_disabled(&json!({"annotations": {key: "disabled"}})));
    assert!(!is_disabled(
        &json!({"annotations": {key: "enabled"}, "name": "x"})
    ));
    assert!(!is_disabled(&json!(null)));
}

#[test]
fn without_variables_nothing_runs_unless_asked_to_always() {
    assert!(!runs(&Variables::default(), false));
    assert!(runs(&Variables::default(), true));
    assert!(runs(
        &Variables::from_layers([[("a", "")]]).expect("valid name"),
        false
    ));
}
