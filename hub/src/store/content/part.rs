//! The objects of a content in parts, by the first bits of their digests. A part is named by what it holds and shared by all
//! contents that have it: a content of which one object changes has all but one part of what it was.

use flotilla_core::digest::Digest;

/// Objects of a part, about.
const OBJECTS: usize = 64;
/// Parts of a content, at most.
const PARTS: usize = 256;

/// Some objects of a content.
pub(super) struct Part<'a> {
    pub(super) digest: [u8; 32],
    /// In order, each once.
    pub(super) objects: &'a [[u8; 32]],
}

/// Cuts objects, in order and each once, into parts; none of none.
pub(super) fn parts(objects: &[[u8; 32]]) -> Vec<Part<'_>> {
    let parts = (objects.len() / OBJECTS).next_power_of_two().min(PARTS);
    let place = |digest: &[u8; 32]| usize::from(digest[0]) * parts / 256;
    let cut = objects.chunk_by(|one, next| place(one) == place(next));
    cut.map(|objects| Part {
        digest: *Digest::of("part", objects.as_flattened()).as_bytes(),
        objects,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn objects(numbers: impl Iterator<Item = usize>) -> Vec<[u8; 32]> {
        let digest = |number: usize| *Digest::of("object", &number.to_be_bytes()).as_bytes();
        let ordered: BTreeSet<[u8; 32]> = numbers.map(digest).collect();
        ordered.into_iter().collect()
    }

    fn digests(objects: &[[u8; 32]]) -> BTreeSet<[u8; 32]> {
        parts(objects).iter().map(|part| part.digest).collect()
    }

    #[test]
    fn each_object_is_in_one_part_and_parts_are_few_and_small() {
        assert!(parts(&[]).is_empty());
        for count in [1, 63, 64, 127, 1000, 20_000] {
            let all = objects(0..count);
            let parts = parts(&all);
            let held: Vec<[u8; 32]> = parts.iter().flat_map(|part| part.objects).copied().collect();
            assert_eq!(held, all);
            assert!(
                parts.len() <= (count / OBJECTS).max(1) * 2 && parts.len() <= PARTS,
                "{count}"
            );
            let largest = parts.iter().map(|part| part.objects.len()).max();
            assert!(
                largest.is_some_and(|most| most <= 2 * OBJECTS),
                "{count}: {largest:?}"
            );
        }
    }

    #[test]
    fn one_object_that_changes_is_another_part_or_two_and_all_else_stays() {
        let before = digests(&objects(0..20_000));
        let after = digests(&objects(1..20_001));
        let come = after.difference(&before).count();
        assert!((1..=2).contains(&come), "{come}");
        assert_eq!(before.difference(&after).count(), come);
    }
}
