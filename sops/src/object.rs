//! Kubernetes objects: the whole of one, where its fields are encrypted in place, or single values of a Secret that are
//! documents of their own, as generators put files into it.

use flotilla_core::{
    carried::{Carried, PREFIX},
    text::{base64, runes},
};
use serde_json::{Map, Number, Value};

use crate::{
    cipher::{Cipher, Plain},
    document::{self, Integrity},
    error::{Error, ValueProblem, shown_path},
    format::{self, Format},
    keys::Keys,
    limits,
    rule::Rule,
    stanza::Stanza,
};

/// Annotation that leaves an object as it is when its value is `disabled`, in any case.
pub const DECRYPT_KEY: &str = "kustomize.toolkit.fluxcd.io/decrypt";
/// The field that says that an object is encrypted.
const STANZA: &str = "sops";

/// Why an object cannot be decrypted, in Flux's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to decrypt and format '{object}' {what}: {error}")]
pub struct ObjectError {
    /// `namespace/name`.
    pub object: String,
    /// Its kind and `data`, or the field of a Secret.
    pub what: String,
    /// What is wrong.
    #[source]
    pub error: Error,
}

/// Tells whether something of an object is to be decrypted.
pub fn is_encrypted(object: &Value) -> bool {
    !is_disabled(object)
        && (is_encrypted_whole(object)
            || Env::of(object).is_some()
            || encrypted_values(object).next().is_some()
            || holds_carried(object))
}

/// Tells whether an object's own fields are encrypted.
pub fn is_encrypted_whole(object: &Value) -> bool {
    let mac = object.get(STANZA).and_then(|stanza| stanza.get("mac"));
    mac.is_some_and(|mac| !mac.is_null() && mac != "")
}

fn is_disabled(object: &Value) -> bool {
    let value = object["metadata"]["annotations"][DECRYPT_KEY].as_str();
    value.is_some_and(|value| value.eq_ignore_ascii_case("disabled"))
}

/// Decrypts what is encrypted of an object. Returns whether anything was. The MAC is not looked at, as in Flux:
/// kustomize has put labels and namespaces into the object since it was encrypted. Each value is authentic all the
/// same, and in its place.
///
/// # Errors
///
/// Something of the object cannot be decrypted. It must not be used then.
pub fn decrypt(object: &mut Value, keys: &Keys) -> Result<bool, ObjectError> {
    if is_disabled(object) {
        return Ok(false);
    }
    let metadata = &object["metadata"];
    let part = |field: &str| metadata[field].as_str().unwrap_or_default();
    let name = format!("{}/{}", part("namespace"), part("name"));
    let kind = object["kind"].as_str().unwrap_or_default();
    let what = format!("{kind} data");
    let failed = |what: String| {
        let object = name.clone();
        move |error| ObjectError { object, what, error }
    };
    // What a patch has brought is decrypted first: beside it the object's own rules hold.
    let mut was_encrypted = false;
    if holds_carried(object) {
        let mut opening = Opening::new(keys);
        carried(object, &mut opening, 0).map_err(failed(what.clone()))?;
        was_encrypted = true;
    }
    if is_encrypted_whole(object) {
        whole(object, keys).map_err(failed(what))?;
        return Ok(true);
    }
    if let Some(env) = Env::of(object) {
        let opened = env.open(keys).map_err(failed(what))?;
        object["data"] = opened.into_iter().collect();
        return Ok(true);
    }
    let opened: Vec<(String, String)> = encrypted_values(object)
        .map(|(key, content, format)| {
            let opened = document::decrypt(&content, format, Format::of_name(key), keys, Integrity::Values);
            let opened = opened.map_err(failed(format!("Secret field '{key}'")))?;
            Ok((key.to_owned(), encode(&opened)))
        })
        .collect::<Result<_, ObjectError>>()?;
    was_encrypted |= !opened.is_empty();
    if let Some(data) = object.get_mut("data").and_then(Value::as_object_mut) {
        data.extend(opened.into_iter().map(|(key, value)| (key, Value::String(value))));
    }
    Ok(was_encrypted)
}

/// What a value of a Secret's `data` carries that came from a line of an env file.
fn carried_line(text: &str) -> Option<Carried> {
    let bytes = base64::decode(text).filter(|bytes| bytes.starts_with(PREFIX.as_bytes()))?;
    Carried::of(std::str::from_utf8(&bytes).ok()?)
}

fn is_secret(object: &Value) -> bool {
    object["kind"] == "Secret"
}

/// Tells whether a value of an object carries what decrypts it.
fn holds_carried(object: &Value) -> bool {
    let data = object.get("data").and_then(Value::as_object);
    let mut lines = data.into_iter().flatten().filter(|_| is_secret(object));
    lines.any(|(_, value)| value.as_str().is_some_and(|text| carried_line(text).is_some()))
        || is_carried_within(object, 0)
}

fn is_carried_within(value: &Value, depth: usize) -> bool {
    match value {
        _ if depth > limits::DEPTH => false,
        Value::String(text) => text.starts_with(PREFIX) && Carried::of(text).is_some(),
        Value::Array(items) => items.iter().any(|item| is_carried_within(item, depth + 1)),
        Value::Object(fields) => fields.values().any(|value| is_carried_within(value, depth + 1)),
        _ => false,
    }
}

/// Opens carried values; those of one file share a stanza.
struct Opening<'a> {
    keys: &'a Keys,
    ciphers: Vec<(Value, Cipher)>,
}

impl<'a> Opening<'a> {
    fn new(keys: &'a Keys) -> Self {
        let ciphers = Vec::new();
        Self { keys, ciphers }
    }

    fn open(&mut self, carried: &Carried) -> Result<Plain, Error> {
        let Carried {
            value,
            place,
            stanza,
            flat,
        } = carried;
        if !self.ciphers.iter().any(|(known, _)| known == stanza) {
            if self.ciphers.len() >= limits::KEYS {
                return Err(Error::TooMuch {
                    what: "encrypted files in one object",
                    limit: limits::KEYS,
                });
            }
            let unreadable = |why: String| Error::Unreadable {
                format: if *flat { Format::Dotenv } else { Format::Yaml },
                why,
            };
            let nested = match (flat, stanza.as_object()) {
                (true, Some(texts)) => {
                    let texts = texts
                        .iter()
                        .filter_map(|(name, text)| Some((name.clone(), text.as_str()?.into())));
                    let nested = format::unflatten_texts(texts);
                    nested.ok_or_else(|| unreadable("sops metadata is broken".to_owned()))?
                }
                _ => stanza.clone(),
            };
            let nested = Stanza::of(&nested).map_err(unreadable)?;
            let cipher = self.keys.cipher(&nested)?;
            self.ciphers.push((stanza.clone(), cipher));
        }
        let cipher = self.ciphers.iter().find(|(known, _)| known == stanza);
        let opened = cipher.map_or(Err(ValueProblem::Malformed), |(_, cipher)| {
            cipher.open(value, place)
        });
        opened.map_err(|problem| Error::Value {
            path: shown_path(place),
            problem,
        })
    }
}

/// Decrypts the values of an object that carry what it takes.
fn carried(object: &mut Value, opening: &mut Opening<'_>, depth: usize) -> Result<(), Error> {
    if depth == 0
        && is_secret(object)
        && let Some(data) = object.get_mut("data").and_then(Value::as_object_mut)
    {
        for value in data.values_mut() {
            let Some(line) = value.as_str().and_then(carried_line) else {
                continue;
            };
            // As kustomize would have read it from the decrypted line.
            let Plain::Text(text) = opening.open(&line)? else {
                return Err(Error::Value {
                    path: shown_path(&line.place),
                    problem: ValueProblem::Mistyped,
                });
            };
            *value = encode(&format::escaped(&text)).into();
        }
    }
    match object {
        _ if depth > limits::DEPTH => Err(Error::TooMuch {
            what: "levels",
            limit: limits::DEPTH,
        }),
        Value::String(text) => {
            let Some(found) = Carried::of(text) else {
                return Ok(());
            };
            let opened = opening.open(&found)?;
            *object = json(opened).map_err(|problem| Error::Value {
                path: shown_path(&found.place),
                problem,
            })?;
            Ok(())
        }
        Value::Array(items) => items
            .iter_mut()
            .try_for_each(|item| carried(item, opening, depth + 1)),
        Value::Object(fields) => fields
            .values_mut()
            .try_for_each(|value| carried(value, opening, depth + 1)),
        _ => Ok(()),
    }
}

/// Values of a Secret that are encrypted documents, and what they were read as.
fn encrypted_values(object: &Value) -> impl Iterator<Item = (&str, Vec<u8>, Format)> {
    let is_secret = is_secret(object);
    let data = object.get("data").and_then(Value::as_object);
    data.into_iter()
        .flatten()
        .filter(move |_| is_secret)
        .filter_map(|(key, value)| {
            let content = base64::decode(value.as_str()?)?;
            let format = Format::of_content(&content)?;
            Some((key.as_str(), content, format))
        })
}

/// A Secret that a generator made of the lines of an encrypted dotenv file: each line is a value of its own, those of the
/// stanza among them.
struct Env<'a> {
    data: &'a Map<String, Value>,
}

/// Begins the names of the lines of a stanza.
const ENV_STANZA: &str = "sops_";

impl<'a> Env<'a> {
    fn of(object: &'a Value) -> Option<Self> {
        let data = object.get("data").and_then(Value::as_object)?;
        let mac = base64::decode(data.get("sops_mac")?.as_str()?)?;
        let is_encrypted = std::str::from_utf8(&mac).is_ok_and(crate::cipher::is_encrypted);
        (is_secret(object) && is_encrypted).then_some(Self { data })
    }

    /// Values of other sources of the generator are among them: what does not look encrypted stays as it is.
    fn open(&self, keys: &Keys) -> Result<Vec<(String, Value)>, Error> {
        let unreadable = |why: String| Error::Unreadable {
            format: Format::Dotenv,
            why,
        };
        let texts = self.data.iter().filter_map(|(name, value)| {
            let text = base64::decode(value.as_str()?)?;
            Some((
                name.strip_prefix(ENV_STANZA)?.to_owned(),
                format::unescaped(&text),
            ))
        });
        let stanza =
            format::unflatten_texts(texts).ok_or_else(|| unreadable("sops metadata is broken".to_owned()))?;
        let stanza = Stanza::of(&stanza).map_err(unreadable)?;
        let cipher = keys.cipher(&stanza)?;
        let values = self.data.iter().filter(|(name, _)| !name.starts_with(ENV_STANZA));
        values
            .map(|(name, value)| {
                let text = value.as_str().and_then(base64::decode);
                let text = text.and_then(|text| String::from_utf8(text).ok());
                let Some(text) = text.filter(|text| crate::cipher::is_encrypted(text)) else {
                    return Ok((name.clone(), value.clone()));
                };
                let path = format!("{name}:");
                let plain = cipher.open(&text, &path);
                let plain = plain.and_then(|plain| match plain {
                    Plain::Text(text) => Ok(format::escaped(&text)),
                    _ => Err(ValueProblem::Mistyped),
                });
                let plain = plain.map_err(|problem| Error::Value {
                    path: shown_path(&path),
                    problem,
                })?;
                Ok((name.clone(), Value::String(encode(&plain))))
            })
            .collect()
    }
}

pub(crate) fn encode(content: &[u8]) -> String {
    use ::base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.encode(content)
}

fn whole(object: &mut Value, keys: &Keys) -> Result<(), Error> {
    let unreadable = |why: String| Error::Unreadable {
        format: Format::Json,
        why,
    };
    let fields = object
        .as_object_mut()
        .ok_or_else(|| unreadable("it is no map".to_owned()))?;
    let stanza = fields.remove(STANZA).unwrap_or_default();
    let stanza = Stanza::of(&stanza).map_err(unreadable)?;
    let cipher = keys.cipher(&stanza)?;
    let mut walk = Walk {
        cipher: &cipher,
        rule: &stanza.rule,
        path: String::new(),
        values: 0,
    };
    walk.map(fields, false, 0)
}

struct Walk<'a> {
    cipher: &'a Cipher,
    rule: &'a Rule,
    path: String,
    values: usize,
}

impl Walk<'_> {
    fn map(&mut self, fields: &mut Map<String, Value>, matched: bool, depth: usize) -> Result<(), Error> {
        for (name, value) in fields {
            let before = self.path.len();
            self.path.push_str(name);
            self.path.push(':');
            self.value(value, matched || self.rule.matches(name), depth)?;
            self.path.truncate(before);
        }
        Ok(())
    }

    fn value(&mut self, value: &mut Value, matched: bool, depth: usize) -> Result<(), Error> {
        let too_much = |what, limit| Err(Error::TooMuch { what, limit });
        if depth > limits::DEPTH {
            return too_much("levels", limits::DEPTH);
        }
        self.values += 1;
        if self.values > limits::VALUES {
            return too_much("values", limits::VALUES);
        }
        match value {
            Value::Null => return Ok(()),
            Value::Object(fields) => return self.map(fields, matched, depth + 1),
            // Places in lists are no part of a path.
            Value::Array(items) => {
                return items
                    .iter_mut()
                    .try_for_each(|item| self.value(item, matched, depth + 1));
            }
            _ => {}
        }
        if !self.rule.is_encrypted(matched, value.as_str()) {
            return Ok(());
        }
        let failed = |problem, path: &str| Error::Value {
            path: shown_path(path),
            problem,
        };
        let text = value
            .as_str()
            .ok_or_else(|| failed(ValueProblem::NotEncrypted, &self.path))?;
        let plain = self.cipher.open(text, &self.path);
        let plain = plain.and_then(json);
        *value = plain.map_err(|problem| failed(problem, &self.path))?;
        Ok(())
    }
}

/// A value as Go writes it into JSON.
pub(crate) fn json(plain: Plain) -> Result<Value, ValueProblem> {
    Ok(match plain {
        Plain::Text(text) | Plain::Time(text) => Value::String(text_of(text)),
        Plain::Bytes(bytes) => Value::String(encode(&bytes)),
        Plain::Int(number) => number.into(),
        Plain::Float(number) => match whole_number(number) {
            Some(number) => number.into(),
            None => Number::from_f64(number).ok_or(ValueProblem::Mistyped)?.into(),
        },
        Plain::Bool(flag) => flag.into(),
        Plain::Comment(_) => return Err(ValueProblem::Mistyped),
    })
}

/// Go writes a float without a fraction as an integer, and that is what is read back.
fn whole_number(number: f64) -> Option<i64> {
    let is_whole = number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0;
    is_whole.then(|| format!("{number:.0}").parse().ok()).flatten()
}

/// Text with a replacement for each byte that is none.
pub(crate) fn text_of(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| runes::chars(error.as_bytes()).collect())
}
