//! Finds the known word a user most likely meant.

/// The longest word that is compared, in bytes: what comparing takes grows with the length of both.
const LONGEST: usize = 64;

/// Returns the candidate closest to `word`, if one is close enough to be a mistake: another case, an
/// abbreviation or extension, or up to one edit per three characters.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > LONGEST {
        return None;
    }
    let lower = word.to_lowercase();
    let limit = (word.chars().count() / 3).min(3);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST)
        .filter_map(|candidate| {
            let known = candidate.to_lowercase();
            let shortens = lower.len() >= 4 && known.starts_with(&lower);
            let extends = known.len() >= 4 && lower.starts_with(&known);
            let distance = strsim::damerau_levenshtein(&lower, &known);
            let close =
                known == lower || shortens || extends || (distance <= limit && distance < known.len());
            close.then_some((distance, candidate))
        })
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn a_typing_mistake_finds_its_word_and_a_stranger_finds_none() {
        let known = ["interval", "path", "prune", "sourceRef", "timeout"];
        for (word, meant) in [
            ("intervall", Some("interval")),
            ("inteval", Some("interval")),
            ("sourceref", Some("sourceRef")),
            ("SourceReff", Some("sourceRef")),
            ("pahts", None),
            ("paht", Some("path")),
            ("source", Some("sourceRef")),
            ("is", None),
            ("banana", None),
            ("", None),
        ] {
            assert_eq!(closest(word, known), meant, "{word}");
        }
    }

    #[test]
    fn words_too_long_to_be_compared_are_no_mistakes() {
        let long = "x".repeat(1 << 22);
        assert_eq!(closest(&long, [long.as_str()]), None);
        assert_eq!(closest(&long, ["interval"]), None);
        assert_eq!(closest("interval", [long.as_str()]), None);
    }
}
