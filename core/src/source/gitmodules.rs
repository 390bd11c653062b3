//! `.gitmodules`: where the repositories of a tree's submodules are, as whoever wrote the tree says.

use std::collections::BTreeMap;

/// The URLs of `.gitmodules` by path. It is read as git reads its configuration, but for continued lines and inclusions.
pub fn urls(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let (mut path, mut url, mut is_module) = (None, None, false);
    let mut end = |path: &mut Option<String>, url: &mut Option<String>| {
        if let (Some(path), Some(url)) = (path.take(), url.take()) {
            found.insert(path, url);
        }
    };
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            end(&mut path, &mut url);
            is_module = section
                .trim_start()
                .to_ascii_lowercase()
                .starts_with("submodule ");
        } else if let (true, Some((key, value))) = (is_module, line.split_once('=')) {
            match key.trim().to_ascii_lowercase().as_str() {
                "path" => path = Some(value_of(value)),
                "url" => url = Some(value_of(value)),
                _ => {}
            }
        }
    }
    end(&mut path, &mut url);
    found
}

/// A value without its quotes, escapes and comment.
fn value_of(text: &str) -> String {
    let (mut value, mut is_quoted) = (String::new(), false);
    let mut characters = text.trim().chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => is_quoted = !is_quoted,
            '\\' => value.extend(characters.next()),
            '#' | ';' if !is_quoted => break,
            c => value.push(c),
        }
    }
    value.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gitmodules_is_read_as_git_reads_it() {
        let text = "[core]\n\turl = no\n[submodule \"a\"]\n\tpath = libs/a\n\turl = ../a.git ; said\n\
                    [Submodule \"b c\"]\n  URL = \"https://h/b # c.git\"\n  path=b\n[submodule \"half\"]\npath = x\n";
        let found = urls(text);
        let expected = [("b", "https://h/b # c.git"), ("libs/a", "../a.git")];
        assert_eq!(
            found
                .iter()
                .map(|(path, url)| (path.as_str(), url.as_str()))
                .collect::<Vec<_>>(),
            expected
        );
        for text in [
            "[submodule",
            "]",
            "[submodule \"",
            "url = \"\\",
            "=",
            "[submodule \"x\"]\npath\nurl",
        ] {
            assert!(urls(text).is_empty(), "{text}");
        }
    }
}
