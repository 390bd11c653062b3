//! Compares `--set` and its kin with Helm's own parser, on fixed lines and on random ones.

use flotilla_render::helm::strvals::{self, Syntax};
use flotilla_render::yaml::{Map, Value};
use serde_json::json;

use flotilla_render_tests::{Oracle, Random, cases, describe, seed};

const KINDS: [&str; 5] = ["set", "string", "literal", "json", "file"];

const LINES: &[&str] = &[
    "",
    "a",
    "a=",
    "a=1",
    "a=01",
    "a=0",
    "a=-5",
    "a=+5",
    "a=1.5",
    "a=true",
    "a=TRUE",
    "a=null",
    "a=nulls",
    "a=a b",
    "a=b,c=d",
    "a=b,",
    "a=b,,c=d",
    ",",
    "=",
    "=1",
    ".=1",
    ".a=1",
    "a.=1",
    "a..b=1",
    "a.b=1",
    "a.b.c=1,a.b.d=2",
    "a.b",
    "a.b.c",
    "a,b=1",
    "a={}",
    "a={1}",
    "a={1,b,true,null}",
    "a={1,2},b=3",
    "a={1,2",
    "a={1,{2}}",
    "a={x}y=1",
    "a[0]=1",
    "a[1]=1",
    "a[2]=x,a[0]=y",
    "a[0].b=1",
    "a[0].b.c=1,a[0].b.d=2",
    "a[0][1]=1",
    "a[1][0].b=x",
    "a[0]=",
    "a[0].b=",
    "a[0][0].b=1,a[0][0].c=",
    "a[0][0][0].b=1,a[0][0][0].c=",
    "a[0][0].b=1,a[0][0].b[",
    "a[0].",
    "a[0]",
    "a[",
    "a[0",
    "a[x]=1",
    "a[-1]=1",
    "a[+1]=1",
    "a[ 1]=1",
    "a[0]b=1",
    "a[65536]=1",
    "a[65537]=1",
    "a[99999999999999999999]=1",
    "a[0]={1,2}",
    r"a=b\,c",
    r"a\.b=1",
    r"a\=b=1",
    r"a=\{1\}",
    r"a\[0]=1",
    r"a=b\",
    r"a\",
    r"a={a\,b,c\}d}",
    "name=1,name.x=2",
    "name.x=1",
    "list[0]=z",
    "list[1].k=z",
    "list.k=1",
    "map[0]=1",
    "map=x",
    "map.k=x",
    "map.k.deep=x",
    "none.x=1",
    "none[0]=1",
    "name[0]=1",
    "list[0].a[1].b=2",
    "list[0][0]=1",
    "9223372036854775807=9223372036854775807",
    "a=9223372036854775808",
    "ünï=cödé",
    "a=b=c",
    "a=[1]",
    "a=:",
    "a=  x",
    r#"a={"b":1}"#,
    r#"a={"b":[1,2.5,null]},c="x""#,
    r#"a=1 ,b=2"#,
    r#"a="x" b"#,
    "a=nope",
    r#"a=1b=2"#,
    "a= ,b=1",
    r#"a[1]={"k":true}"#,
    r#"a.b="x,y""#,
    r#"a=1e2"#,
    r#"a="\ud800""#,
    r#"a={"b":"\udc00x\ud83d\ude00"},c=1"#,
    r#"a=["\ud83dx", "\ud83d\ud83d\ude00"],b=2"#,
    "a=-0.0",
    "a=-0,b=-0.0e1",
    r#"{"a":{"b":1}}"#,
    "a=[1,2",
    "a=011,b=1",
    "a=-01",
    "[0]=011e6[0]",
    "a[0].b[2]=q,a[0].b[0]=r",
    "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t.u.v.w.x.y.z.a.b.c.d.e=1",
    "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t.u.v.w.x.y.z.a.b.c.d.e.f=1",
];

const BASE: &str = "name: base\nlist: [a, {k: v}]\nmap: {k: v, deep: {x: 1}}\nnone: null\n";

#[test]
fn lines_set_what_helm_sets() {
    let mut oracle = Oracle::start();
    for kind in KINDS {
        for line in LINES {
            compare(&mut oracle, kind, line);
        }
    }
}

#[test]
fn random_lines_set_what_helm_sets() {
    let mut oracle = Oracle::start();
    let pieces = [
        "a", "b", "name", "map", "list", "none", "=", "=", "=", ".", ".", "[", "]", "[0]", "[1]", "[2]", ",",
        ",", "{", "}", "\\", " ", "1", "0", "true", "null", "\"x\"", "-", "k", "deep", "é", "日本", "<&>",
        "1e6", "a1", "0x1f", "\t", "%",
    ];
    let mut random = Random::new(seed(7));
    let (cases, mut set) = (cases(6000), 0);
    for _ in 0..cases {
        let line: String = (0..1 + random.below(10)).map(|_| random.pick(&pieces)).collect();
        set += usize::from(compare(&mut oracle, random.pick(&KINDS), &line));
    }
    println!("strvals: {set} of {cases} random lines set something, the others are refused by both");
    assert!(set * 4 > cases, "{set} of {cases}");
}

#[test]
fn a_line_that_asks_for_too_much_memory_is_refused() {
    let many: Vec<String> = (0..64).map(|at| format!("k{at}[65535]=1")).collect();
    let mut values = Map::new();
    assert!(strvals::parse_into(&many.join(","), &mut values, Syntax::Typed).is_err());
    let deep = format!("a{}=1", "[0]".repeat(10_000));
    assert!(strvals::parse_into(&deep, &mut Map::new(), Syntax::Typed).is_err());
}

#[test]
fn what_follows_a_comma_is_named_by_its_place_and_not_shown() {
    for (kind, line, words) in [
        (
            "set",
            "a=1,pw=hunter,2secret",
            r#""pw": what follows the comma at column 14 is no key=value; write \, for a comma in a value"#,
        ),
        (
            "string",
            "pw=é,secret",
            r#""pw": what follows the comma at column 5 is no key=value"#,
        ),
        (
            "set",
            "pw=x,secret,y=1",
            r#""pw": what follows the comma at column 5 is no key=value"#,
        ),
        (
            "set",
            "pw=x,secret[secret]=1",
            r#""pw": what follows the comma at column 5 has an index that is none"#,
        ),
        (
            "set",
            "pw=x,secret[0]secret=1",
            r#""pw": what follows the comma at column 5 has an index that is none"#,
        ),
        (
            "set",
            "pw=x,secret[-7]=1",
            r#""pw": what follows the comma at column 5 is refused: negative -7 index not allowed"#,
        ),
        (
            "set",
            "pw=x,name.secret=1",
            r#""pw": what follows the comma at column 5 names something that is not a map"#,
        ),
        (
            "json",
            "a=1,some.key=[secret",
            r#""some.key": invalid JSON at column "#,
        ),
        (
            "set",
            "a=1,pw={1,secret}secret",
            r#""pw": what follows the brace at column 17 is no key=value"#,
        ),
        ("set", "key", r#""key": key "key" has no value"#),
    ] {
        let error = ours(kind, line).expect_err(line).to_string();
        assert!(
            error.starts_with(&words.replace(r"\\", r"\")) && !error.contains("secret"),
            "{line}: {error}"
        );
    }
}

/// Returns whether the line sets something.
fn compare(oracle: &mut Oracle, kind: &str, line: &str) -> bool {
    let question = json!({ "op": "strvals", "kind": kind, "text": line, "values": BASE });
    let theirs = oracle.ask(&question).map(|answer| answer.text);
    let ours = ours(kind, line);
    match (&ours, &theirs) {
        (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs, "--set kind {kind}: {line:?}"),
        (Err(_), Err(_)) => {}
        _ => panic!("--set kind {kind}: {line:?}: ours {ours:?}, theirs {theirs:?}"),
    }
    ours.is_ok()
}

fn ours(kind: &str, line: &str) -> Result<String, strvals::LineError> {
    let mut values = flotilla_render::helm::values::load(BASE.as_bytes()).expect("the base is YAML");
    let mut read = |name: &str| Ok(format!("<{name}>").into_bytes());
    let syntax = match kind {
        "set" => Syntax::Typed,
        "string" => Syntax::Text,
        "literal" => Syntax::Literal,
        "json" => Syntax::Json,
        _ => Syntax::File(&mut read),
    };
    strvals::parse_into(line, &mut values, syntax)?;
    Ok(describe(&Value::Map(values)))
}
