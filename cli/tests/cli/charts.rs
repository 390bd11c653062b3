//! Renders the charts of the rendering engine's tests with `flotilla template` and the flags that `cases.txt` gives them,
//! and compares each byte with what Helm prints.

use std::collections::BTreeMap;
use std::fs;

use flotilla_render_tests::Oracle;
use flotilla_render_tests::charts::{Expected, difference, read_chart, renderings, theirs};

use crate::hub::command;

#[tokio::test]
async fn charts_render_to_what_helm_prints() {
    let mut oracle = Oracle::start();
    let mut charts: BTreeMap<String, bool> = BTreeMap::new();
    let (mut equal, mut total) = (0, 0);
    let mut differences = String::new();
    for (chart, flags, expected) in renderings() {
        let files = read_chart(&chart);
        let folder = tempfile::tempdir().expect("a folder");
        for (name, data) in &files {
            let path = folder.path().join("c").join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, data).expect("a file");
        }
        let place = folder.path().join("c").display().to_string();
        let own: Vec<String> = flags.iter().map(|flag| flag.replace("{dir}", &place)).collect();
        let mut args = vec!["template", "release-name", &place];
        args.extend(own.iter().map(String::as_str));
        let ran = command(&args, &BTreeMap::new(), "").await;
        let ours = match ran.code {
            0 => Ok(ran.out),
            _ => Err(ran.err),
        };
        let theirs = theirs(&mut oracle, &files, &flags);
        let agrees = match (&ours, &theirs, &expected) {
            (Ok(ours), Ok(theirs), Expected::Builds) => ours == theirs,
            (Err(ours), Err(theirs), Expected::Fails(words)) => {
                theirs.contains(words.as_str()) && ours.contains(words.as_str())
            }
            _ => false,
        };
        total += 1;
        equal += usize::from(agrees);
        *charts.entry(chart.clone()).or_insert(true) &= agrees;
        if !agrees {
            differences += &format!(
                "=== {chart} {} ({expected:?})\n{}\n",
                flags.join(" "),
                difference(&ours, &theirs)
            );
        }
    }
    let whole = charts.values().filter(|agrees| **agrees).count();
    println!(
        "helm agreement: {whole} of {} charts, {equal} of {total} renderings byte for byte",
        charts.len()
    );
    assert!(differences.is_empty(), "{differences}");
    assert!(charts.len() >= 60, "only {} charts", charts.len());
}
