//! Flow collections that end on their line, and quoted scalars.

use super::scalar::is_word;
use super::{Lines, MAX_KEY, Tree};

impl<'a, T: Tree<'a>> Lines<'a, T> {
    /// Reads the flow collection or scalar that starts there; returns the place behind it.
    pub(super) fn flow(
        &mut self,
        from: usize,
        end: usize,
        depth: usize,
        keep: bool,
    ) -> Option<(T::Node, usize)> {
        self.enter(depth)?;
        match self.byte(from).filter(|_| from < end)? {
            b'[' => self.flow_list(from, end, depth, keep),
            b'{' => self.flow_map(from, end, depth, keep),
            quote @ (b'"' | b'\'') => {
                let (text, written, after) = self.quoted(quote, from, end)?;
                Some((self.tree.text(text, written, keep), after))
            }
            _ => {
                let text = self.word(from, end)?;
                Some((self.tree.plain(text, keep)?, from + text.len()))
            }
        }
    }

    /// Returns the plain scalar within a flow collection that starts there and is made of letters, digits and what
    /// never ends one.
    fn word(&self, from: usize, end: usize) -> Option<&'a str> {
        let bytes = &self.text.as_bytes()[from..end];
        let length = bytes.iter().take_while(|byte| is_word(**byte)).count();
        let first = bytes.first().copied()?;
        (length > 0 && first != b'-').then_some(&self.text[from..from + length])
    }

    fn flow_list(&mut self, from: usize, end: usize, depth: usize, keep: bool) -> Option<(T::Node, usize)> {
        let first = self.items.len();
        let mut at = self.skip_spaces(from + 1);
        if self.byte(at) != Some(b']') {
            loop {
                let (item, after) = self.flow(at, end, depth + 1, keep)?;
                if keep {
                    self.items.push(item);
                }
                at = self.skip_spaces(after);
                match self.byte(at)? {
                    b']' => break,
                    b',' => at = self.skip_spaces(at + 1),
                    _ => return None,
                }
            }
        }
        Some((self.tree.list(self.items.drain(first..), true), at + 1))
    }

    fn flow_map(&mut self, from: usize, end: usize, depth: usize, keep: bool) -> Option<(T::Node, usize)> {
        let first = self.fields.len();
        let mut at = self.skip_spaces(from + 1);
        if self.byte(at) != Some(b'}') {
            self.enter_map(keep)?;
            loop {
                self.enter(depth + 1)?;
                let (key, after) = self.flow_key(at, end)?;
                let (value, after) = self.flow(self.skip_spaces(after), end, depth + 1, keep)?;
                if keep {
                    self.fields.push((key, value));
                }
                at = self.skip_spaces(after);
                match self.byte(at)? {
                    b'}' => break,
                    b',' => at = self.skip_spaces(at + 1),
                    _ => return None,
                }
            }
        }
        Some((self.tree.map(self.fields.drain(first..), true)?, at + 1))
    }

    /// Reads a key of a flow map with its colon; returns the place behind it.
    fn flow_key(&self, from: usize, end: usize) -> Option<(T::Key, usize)> {
        let (key, after) = match self.byte(from).filter(|_| from < end)? {
            quote @ (b'"' | b'\'') => {
                let (text, written, after) = self.quoted(quote, from, end)?;
                // Behind a quoted key the colon needs no space.
                (self.tree.text_key(text, written), after)
            }
            _ => {
                let text = self.word(from, end)?;
                let after = from + text.len();
                if self.byte(after + 1) != Some(b' ') {
                    return None;
                }
                (self.tree.plain_key(text)?, after)
            }
        };
        (self.byte(after) == Some(b':') && after - from <= MAX_KEY).then_some((key, after + 1))
    }
}
