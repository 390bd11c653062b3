//! Cuts a long text into parts that are each a text of its own, without holding all of it twice.

use std::ops::Range;

/// So many bytes are not worth giving back what a text took.
const FEW_BYTES: usize = 1 << 20;

/// Cuts a text into the parts at these places, which follow each other, from its end on: the longer piece stays where it
/// is and the shorter is copied, so that never more than half of the text stands twice.
pub(super) fn shared_out(mut text: String, mut places: Vec<(&mut String, Range<usize>)>) {
    while let Some((content, place)) = places.pop() {
        text.truncate(place.end);
        let before = places.last().map_or(0, |(_, place)| place.end);
        if before < place.len() {
            let rest = text[..before].to_owned();
            text.drain(..place.start);
            text.shrink_to_fit();
            *content = std::mem::replace(&mut text, rest);
        } else {
            *content = text[place].to_owned();
            text.truncate(before);
        }
        // Not at each part, as a text may be moved where it shrinks.
        if text.capacity() > text.len() + FEW_BYTES.max(text.len() / 8) {
            text.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::shared_out;

    #[test]
    fn a_text_is_cut_into_its_parts_whatever_their_lengths() {
        for lengths in [&[3][..], &[1, 50], &[50, 1], &[10, 10, 10], &[1, 9, 2, 40, 3]] {
            let text: String = (b'a'..)
                .zip(lengths)
                .map(|(letter, length)| format!("-{}\n", char::from(letter).to_string().repeat(*length)))
                .collect();
            let mut parts = vec![String::new(); lengths.len()];
            let mut at = 0;
            let places = parts.iter_mut().zip(lengths).map(|(part, length)| {
                at += length + 2;
                (part, at - length - 1..at - 1)
            });
            shared_out(text, places.collect());
            for ((letter, part), length) in (b'a'..).zip(&parts).zip(lengths) {
                assert_eq!(
                    *part,
                    char::from(letter).to_string().repeat(*length),
                    "{lengths:?}"
                );
            }
        }
    }
}
