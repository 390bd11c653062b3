//! Label selectors against Kubernetes' own code: the string form and the fields, tabled and random.

#[path = "common/oracle.rs"]
mod oracle;

use std::collections::BTreeMap;

use flotilla_core::fleet::selector::{Expression, Selector};
use oracle::{Oracle, Random};
use serde_json::{Value, json};

const TEXTS: &[&str] = &[
    "",
    " ",
    ",",
    "a",
    "!a",
    "! a",
    "a,b",
    "a,",
    ",a",
    "a,,b",
    "a=1",
    "a = 1",
    "a==1",
    "a==",
    "a=",
    "a!=1",
    "a!=",
    "a != 1",
    "a===1",
    "a=1=2",
    "a in (1)",
    "a in (1,2)",
    "a in ( 1 , 2 )",
    "a in(1)",
    "a in ()",
    "a in (,)",
    "a in (1,)",
    "a in (,1)",
    "a notin (1)",
    "a notin(1,3)",
    "a notin ()",
    "a in (1),b=2",
    "a in (1",
    "a in 1",
    "a in 1)",
    "a in",
    "in",
    "notin",
    "in in (in)",
    "a=in",
    "a=notin",
    "a in (in)",
    "!a=1",
    "!a in (1)",
    "!",
    "!!a",
    "a b",
    "a=b c",
    "a (1)",
    "(a)",
    "a)",
    "a=(1)",
    "a=1,!b,c notin (x,y)",
    "example.com/a=1",
    "example.com/a",
    "example.com/",
    "/a",
    "a/b/c",
    "Example.com/a",
    "-a",
    "a-",
    "a.b",
    "a_b",
    "a=-1",
    "a=1-",
    "a=é",
    "é",
    "a=\"1\"",
    "a='1'",
    "a\t=\t1",
    "a\n",
    "a=1 , b=2",
    "a-.com/x",
    ".com/x",
    "a..b/x",
    "x.y-z/w=1",
    "a=A.B_c-d",
    "a,a",
    "a,!a",
    "a=1,a=2",
    "a=1,a in (1,2)",
];

#[test]
fn tabled_texts_agree_with_kubernetes() {
    let mut oracle = Oracle::start("selector");
    for text in TEXTS.iter().copied().chain([
        &*"a".repeat(63),
        &*"a".repeat(64),
        &*format!("a={}", "x".repeat(64)),
    ]) {
        assert_text(&mut oracle, text);
    }
}

#[test]
fn random_texts_agree_with_kubernetes() {
    let pieces = [
        "a",
        "b",
        "example.com/a",
        "1",
        "2",
        "=",
        "==",
        "!=",
        "!",
        " in ",
        " notin ",
        "(",
        ")",
        ",",
        " ",
        "(1,2)",
        "in",
        "a=1",
        "b!=2",
        "a in (1,2)",
        "-",
        "",
    ];
    let mut oracle = Oracle::start("selector");
    let mut random = Random::seeded();
    for _ in 0..5_000 {
        let text: String = (0..random.below(7)).map(|_| random.pick(&pieces)).collect();
        assert_text(&mut oracle, &text);
    }
}

#[test]
fn random_fields_agree_with_kubernetes() {
    let mut oracle = Oracle::start("selector");
    let mut random = Random::seeded();
    for _ in 0..2_000 {
        let key = |random: &mut Random| random.pick(&["a", "b", "example.com/a", "a/b/c", "", "-a"]);
        let value = |random: &mut Random| random.pick(&["1", "2", "", "x y", "-"]);
        let labels: BTreeMap<String, String> = (0..random.below(3))
            .map(|_| (key(&mut random).to_owned(), value(&mut random).to_owned()))
            .collect();
        let expressions: Vec<Value> = (0..random.below(3))
            .map(|_| {
                let operator = random.pick(&["In", "NotIn", "Exists", "DoesNotExist"]);
                let values: Vec<&str> = (0..random.below(3)).map(|_| value(&mut random)).collect();
                json!({"key": key(&mut random), "operator": operator, "values": values})
            })
            .collect();
        let read: Vec<Expression> = serde_json::from_value(json!(expressions)).expect("expressions");
        let ours = Selector::from_parts(&labels, &read);
        let question = json!({"matchLabels": labels, "matchExpressions": expressions});
        assert_same(&mut oracle, json!({"fields": question}), ours.ok());
    }
}

fn assert_text(oracle: &mut Oracle, text: &str) {
    assert_same(oracle, json!({"text": text}), Selector::parse(text).ok());
}

fn assert_same(oracle: &mut Oracle, mut question: Value, ours: Option<Selector>) {
    let sets = sets();
    question["labels"] = json!(sets);
    let answer = oracle.ask(&question);
    let theirs = (answer["error"] == "").then(|| answer["matches"].clone());
    let ours = ours.map(|selector| json!(sets.iter().map(|set| selector.matches(set)).collect::<Vec<_>>()));
    assert_eq!(ours, theirs, "{question}: {answer}");
}

fn sets() -> Vec<BTreeMap<String, String>> {
    let set = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    };
    vec![
        set(&[]),
        set(&[("a", "1")]),
        set(&[("a", "2"), ("b", "2")]),
        set(&[("a", ""), ("example.com/a", "1"), ("c", "x")]),
        set(&[("in", "in"), ("b", "1")]),
    ]
}
