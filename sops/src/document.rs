//! Whole documents: a text in one format is decrypted, and written in the same or another.

use std::cell::Cell;

use crate::{
    cipher::{Cipher, Plain},
    error::Error,
    format::{self, Format, Loaded, Source},
    keys::Keys,
    limits,
    stanza::Stanza,
    tree::{Field, Node, Walk, comment_place},
};

/// What is verified besides each value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Integrity {
    /// Nothing: values are authentic and in their places, and some may have been added or left out. As in Flux.
    Values,
    /// The document's MAC, as the `sops` program does: all values are there, in their order.
    Mac,
}

/// Decrypts a text, and writes it in a format.
///
/// # Errors
///
/// It cannot be read, decrypted, verified or written.
pub fn decrypt(
    content: &[u8],
    from: Format,
    to: Format,
    keys: &Keys,
    integrity: Integrity,
) -> Result<Vec<u8>, Error> {
    let Loaded { documents, stanza } = format::load(content, from)?;
    let stanza = Stanza::of(&stanza).map_err(|why| from.unreadable(why))?;
    let cipher = keys.cipher(&stanza)?;
    let before = (from == to && to == Format::Yaml).then(|| documents.clone());
    let mut after = documents;
    let mut walk = Walk::new(&cipher, &stanza.rule, stanza.mac_only_encrypted);
    for fields in &mut after {
        walk.document(fields)?;
    }
    if integrity == Integrity::Mac {
        verify(&stanza, &cipher, walk)?;
    }
    let text = std::str::from_utf8(content).unwrap_or_default();
    // Places where comments may belong are tried: how many in all is bounded.
    let budget = Cell::new(limits::COMMENT_ATTEMPTS);
    let comment = |token: &str| {
        let mut left = budget.get();
        let found = comment(&cipher, before.as_deref().unwrap_or_default(), token, &mut left);
        budget.set(left);
        found
    };
    let source = before.as_deref().map(|before| Source {
        text,
        before,
        comment: &comment,
    });
    format::emit(&after, to, source)
}

fn verify(stanza: &Stanza, cipher: &Cipher, walk: Walk<'_>) -> Result<(), Error> {
    use sha2::Digest as _;
    let stated = cipher.open(&stanza.mac, &stanza.last_modified);
    let Ok(Plain::Text(stated)) = stated else {
        return Err(Error::Mac);
    };
    let digest = walk.hash.finalize();
    let found: String = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    let is_same = stated.len() == found.len()
        && bool::from(subtle::ConstantTimeEq::ct_eq(stated.as_slice(), found.as_bytes()));
    match is_same {
        true => Ok(()),
        false => Err(Error::Mac),
    }
}

/// Finds what an encrypted comment says. It is bound to the map or list that it stands in, of which the reader of YAML
/// says nothing: the one that opens it is its own.
fn comment(cipher: &Cipher, documents: &[Vec<Field>], token: &str, budget: &mut usize) -> Option<Vec<u8>> {
    documents
        .iter()
        .find_map(|fields| within(cipher, fields, &mut String::new(), token, budget))
}

fn within(
    cipher: &Cipher,
    fields: &[Field],
    path: &mut String,
    token: &str,
    budget: &mut usize,
) -> Option<Vec<u8>> {
    *budget = budget.checked_sub(1)?;
    if let Ok(Plain::Comment(text)) = cipher.open(token, comment_place(path)) {
        return Some(text);
    }
    for field in fields {
        let Field::Value(name, value) = field else {
            continue;
        };
        let before = path.len();
        path.push_str(name);
        path.push(':');
        let found = below(cipher, value, path, token, budget);
        path.truncate(before);
        if found.is_some() {
            return found;
        }
    }
    None
}

fn below(
    cipher: &Cipher,
    node: &Node,
    path: &mut String,
    token: &str,
    budget: &mut usize,
) -> Option<Vec<u8>> {
    match node {
        Node::Map(fields) => within(cipher, fields, path, token, budget),
        Node::List(items) => {
            *budget = budget.checked_sub(1)?;
            if let Ok(Plain::Comment(text)) = cipher.open(token, comment_place(path)) {
                return Some(text);
            }
            items
                .iter()
                .filter(|item| matches!(item, Node::Map(_) | Node::List(_)))
                .find_map(|item| below(cipher, item, path, token, budget))
        }
        _ => None,
    }
}
