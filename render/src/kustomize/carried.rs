//! Encrypted files whose values are taken apart: env files of generators, and patches. Flux decrypts them before it builds;
//! here their values are made to carry what decrypts them, and whoever applies the objects does it.

use flotilla_core::carried::Carried;
use memchr::memmem;
use serde_json::{Map, Value};

use super::error::{Result, invalid};
use crate::yaml::node::{Content, Limits, Node, Schema, decode_documents, to_block};

const STANZA: &str = "sops";
/// Begins the names of a stanza's lines in an env file.
const LINES: &str = "sops_";
/// What an encrypted file has, and no other: by this Flux finds them.
const ENV_MARKER: &[u8] = b"sops_mac=ENC[";
const MARKERS: [&str; 2] = ["mac: ENC[", "\"mac\": \"ENC["];
const ENCRYPTED: &str = "ENC[AES256_GCM,";
/// Bytes that the values of a file carry in all: each has the whole stanza.
const CARRIED: usize = 8 << 20;

/// What values may still carry.
struct Room(usize);

impl Room {
    fn text(&mut self, carried: &Carried) -> Result<String> {
        let text = carried.to_text();
        match self.0.checked_sub(text.len()) {
            Some(left) => self.0 = left,
            None => {
                return Err(invalid(format!(
                    "the encrypted file is too large: its values carry more than {} MiB",
                    CARRIED >> 20
                )));
            }
        }
        Ok(text)
    }
}

/// The lines of an encrypted env file without its stanza; `None`: it is not encrypted.
pub(super) fn env_file(content: &[u8]) -> Result<Option<Vec<u8>>> {
    let text = std::str::from_utf8(content).ok();
    let Some(text) = text.filter(|_| memmem::find(content, ENV_MARKER).is_some()) else {
        return Ok(None);
    };
    let lines = || text.lines().filter_map(|line| line.split_once('='));
    let stanza: Map<String, Value> = lines()
        .filter_map(|(name, value)| Some((name.strip_prefix(LINES)?, value)))
        .map(|(name, value)| (name.to_owned(), value.replace("\\n", "\n").into()))
        .collect();
    let carried = |name: &str, value: &str| Carried {
        value: value.to_owned(),
        place: format!("{name}:"),
        stanza: Value::Object(stanza.clone()),
        flat: true,
    };
    let (mut out, mut room) = (String::new(), Room(CARRIED));
    for (name, value) in lines().filter(|(name, _)| !name.starts_with(LINES) && !name.starts_with('#')) {
        let text = match value.starts_with(ENCRYPTED) {
            true => room.text(&carried(name, value))?,
            false => value.to_owned(),
        };
        out.extend([name, "=", &text, "\n"]);
    }
    Ok(Some(out.into_bytes()))
}

/// An encrypted patch without its stanza; `None`: it is not encrypted, or cannot be read.
pub(super) fn patch(text: &str, limits: Limits) -> Result<Option<String>> {
    if !MARKERS.iter().any(|marker| text.contains(marker)) {
        return Ok(None);
    }
    let read = decode_documents(text.as_bytes(), |part| part.read(limits));
    let Ok((_, mut documents)) = read else {
        return Ok(None);
    };
    let mut room = Room(CARRIED);
    for document in &mut documents {
        let stanza = document.remove(STANZA);
        let stanza = stanza.and_then(|stanza| stanza.to_json(Schema::New).ok());
        if let Some(stanza) = stanza {
            carry(document, &stanza, &mut String::new(), &mut room)?;
        }
    }
    let texts: Vec<String> = documents.iter().map(to_block).collect();
    Ok(Some(texts.join("---\n")))
}

/// Makes each encrypted value below a node carry the stanza. How deep nodes nest was bounded when they were read.
fn carry(node: &mut Node, stanza: &Value, place: &mut String, room: &mut Room) -> Result<()> {
    match &mut node.content {
        Content::Map(fields) => {
            for (key, value) in fields {
                let before = place.len();
                place.push_str(key.text());
                place.push(':');
                carry(value, stanza, place, room)?;
                place.truncate(before);
            }
            Ok(())
        }
        // Places in lists are no part of a value's.
        Content::Seq(items) => items
            .iter_mut()
            .try_for_each(|item| carry(item, stanza, place, room)),
        Content::Scalar(text) if text.starts_with(ENCRYPTED) => {
            let carried = Carried {
                value: text.to_string(),
                place: place.clone(),
                stanza: stanza.clone(),
                flat: false,
            };
            *node = Node::string(room.text(&carried)?);
            Ok(())
        }
        Content::Scalar(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use flotilla_core::carried::PREFIX;

    use super::*;

    #[test]
    fn each_value_of_an_encrypted_env_file_carries_its_stanza_and_its_name() {
        let file = "# c\nA=ENC[AES256_GCM,data:x]\nB=plain\nsops_mac=ENC[AES256_GCM,m]\nsops_age__list_0__map_enc=a\\nb\n";
        let lines =
            String::from_utf8(env_file(file.as_bytes()).expect("small").expect("encrypted")).expect("text");
        let (first, second) = lines.split_once('\n').expect("two lines");
        assert_eq!(second, "B=plain\n");
        let carried = Carried::of(first.strip_prefix("A=").expect("A")).expect("carried");
        assert_eq!((carried.place.as_str(), carried.flat), ("A:", true));
        assert_eq!(carried.stanza["age__list_0__map_enc"], "a\nb");
        assert_eq!(env_file(b"A=1\n").expect("small"), None);
    }

    #[test]
    fn each_value_of_an_encrypted_patch_carries_its_stanza_and_its_path() {
        let text = "kind: Secret\ndata:\n  list:\n  - a: ENC[AES256_GCM,data:x]\n  b: plain\nsops:\n  mac: ENC[AES256_GCM,m]\n";
        let patch = patch(text, Limits::default()).expect("small").expect("encrypted");
        assert!(!patch.contains("sops:"), "{patch}");
        let at = patch.find(PREFIX).expect("carried");
        let end = at + patch[at..].find(']').expect("ends") + 1;
        let carried = Carried::of(&patch[at..end]).expect("carried");
        assert_eq!(carried.place, "data:list:a:");
        assert_eq!(carried.stanza["mac"], "ENC[AES256_GCM,m]");
        assert_eq!(
            super::patch("kind: Secret\n", Limits::default()).expect("small"),
            None
        );
    }

    #[test]
    fn what_the_values_of_a_file_carry_is_bounded() {
        let stanza = format!("sops_mac=ENC[AES256_GCM,{}]\n", "m".repeat(64 << 10));
        let lines: String = (0..200)
            .map(|n| format!("A{n}=ENC[AES256_GCM,data:x]\n"))
            .collect();
        let refused = env_file((lines + &stanza).as_bytes()).expect_err("too large");
        assert!(format!("{refused:?}").contains("8 MiB"), "{refused:?}");
    }
}
