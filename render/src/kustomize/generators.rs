//! Makes ConfigMaps and Secrets of literals, files and env files, and names them by a hash of their content.

mod env_file;

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use smol_str::SmolStr;

use crate::yaml::json;
use crate::yaml::node::{Kind, Node, Schema, Style, Tag};

use super::error::{At, Result, invalid, shortened};
use super::id;
use super::kustomization::GeneratorArgs;
use super::resource::Resource;
use super::steps::Steps;
use env_file::{env_lines, is_named};

/// Reads a file that a generator names.
pub(crate) type ReadFile<'a> = &'a dyn Fn(&str) -> Result<Vec<u8>>;

/// Makes the object of one generator. Files of variables may be read otherwise than others.
pub(crate) fn make(
    args: &GeneratorArgs,
    secret: bool,
    read: [ReadFile<'_>; 2],
    steps: &Steps<'_>,
) -> Result<Resource> {
    let kind = if secret { "Secret" } else { "ConfigMap" };
    let mut node = Node::map();
    node.push_field("apiVersion", Node::plain("v1"));
    node.push_field("kind", Node::plain(kind));
    if args.name.is_empty() {
        let what = if secret { "secret" } else { "configmap" };
        return Err(invalid(format!("a {what} must have a name")));
    }
    let mut metadata = Node::map();
    metadata.set("name", Node::string(args.name.as_str()));
    if !args.namespace.is_empty() {
        metadata.set("namespace", Node::string(args.namespace.as_str()));
    }
    node.push_field("metadata", metadata);
    let pairs = pairs(args, read, steps)?;
    if secret {
        let default = if args.secret_type.is_empty() {
            "Opaque"
        } else {
            &args.secret_type
        };
        node.push_field("type", Node::string(default));
        let mut data = Node::map();
        for (key, value) in &pairs {
            steps.spend_bytes(encoded_length(value))?;
            data.append(key.as_str(), data_node(base64_lines(value)));
        }
        node.push_field("data", data);
    } else {
        for (key, value) in pairs {
            let (field, value) = config_value(value, steps)?;
            if let Some(map) = node.get_or_insert(field, Kind::Map) {
                map.append(key, value);
            }
        }
    }
    let mut resource = Resource::new(node);
    if let Some(options) = &args.options {
        steps.spend_bytes(options.text_bytes())?;
        for (field, texts) in [("labels", &options.labels), ("annotations", &options.annotations)] {
            steps.spend_nodes(2 * texts.len())?;
            resource.set_texts(field, texts);
        }
        if options.immutable {
            resource
                .node
                .push_field("immutable", Node::tagged(Tag::Bool, "true"));
        }
    }
    resource.needs_hash = !args.options.as_ref().is_some_and(|o| o.disable_hash);
    resource.behavior = args.behavior;
    resource.mark();
    Ok(resource)
}

/// Returns a value of generated data, in the style it is kept in.
pub(crate) fn data_node(text: impl Into<SmolStr>) -> Node {
    let text: SmolStr = text.into();
    let style = if text.contains('\n') {
        Style::Literal
    } else {
        Style::Plain
    };
    Node {
        style,
        ..Node::string(text)
    }
}

fn config_value(bytes: Vec<u8>, steps: &Steps<'_>) -> Result<(&'static str, Node)> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok(("data", data_node(text))),
        Err(error) => {
            let bytes = error.as_bytes();
            steps.spend_bytes(encoded_length(bytes))?;
            Ok(("binaryData", data_node(base64_lines(bytes))))
        }
    }
}

/// Returns how many bytes [`base64_lines`] makes of some, or a few more.
fn encoded_length(bytes: &[u8]) -> usize {
    let plain = (bytes.len() / 3 + 1) * 4;
    plain + plain / 70 + 1
}

/// Encodes bytes; long text is broken into lines of 70, each with a line break.
fn base64_lines(bytes: &[u8]) -> String {
    let plain = base64::engine::general_purpose::STANDARD.encode(bytes);
    if plain.len() < 70 {
        return plain;
    }
    let mut text = String::with_capacity(plain.len() + plain.len() / 70 + 1);
    for line in plain.as_bytes().chunks(70) {
        text.extend(line.iter().map(|b| char::from(*b)));
        text.push('\n');
    }
    text
}

type Pairs = BTreeMap<String, Vec<u8>>;

/// What a pair takes beside its texts.
const BYTES_PER_PAIR: usize = size_of::<(String, Vec<u8>)>() + 32;

fn pairs(args: &GeneratorArgs, [read, read_env]: [ReadFile<'_>; 2], steps: &Steps<'_>) -> Result<Pairs> {
    let mut pairs = Pairs::new();
    // `named` says whether the key is one, and no line of a file that holds something else.
    let mut add = |key: &str, value: Cow<'_, [u8]>, named: bool| {
        if pairs.contains_key(key) {
            let of = shortened(&args.name);
            return Err(invalid(match named {
                true => format!("configmap {of} illegally repeats the key `{}`", shortened(key)),
                false => format!("configmap {of} illegally repeats a key"),
            }));
        }
        let copied = match &value {
            Cow::Borrowed(value) => value.len(),
            Cow::Owned(_) => 0,
        };
        // As it is held here, and as key and value of the object that is made of it.
        steps.spend_nodes(2)?;
        steps.spend_bytes(key.len() + copied + BYTES_PER_PAIR)?;
        pairs.insert(key.to_string(), value.into_owned());
        Ok(())
    };
    for path in &args.envs {
        let content = read_env(path)?;
        for pair in env_lines(&content) {
            let line = pair.of(|| shortened(path).into_owned())?;
            let added = add(
                line.key,
                line.value.as_bytes().into(),
                is_named(line.key, line.value),
            );
            added.of(|| format!("{}: line {}", shortened(path), line.number))?;
        }
    }
    for (number, literal) in (1..).zip(&args.literals) {
        match literal.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                add(key, unquoted(value).as_bytes().into(), is_named(key, value))?;
            }
            _ => {
                return Err(invalid(format!(
                    "invalid literal source: literal {number} is not key=value"
                )));
            }
        }
    }
    for (number, source) in (1..).zip(&args.files) {
        let (key, path) = file_source(number, source)?;
        add(key, read(path)?.into(), true)?;
    }
    Ok(pairs)
}

fn unquoted(text: &str) -> &str {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(a), Some(b)) if text.len() >= 2 && a == b && matches!(a, b'"' | b'\'') => {
            &text[1..text.len() - 1]
        }
        _ => text,
    }
}

/// Returns key and path of an entry of `files`. Errors name its number: a literal may stand here by mistake.
fn file_source(number: usize, source: &str) -> Result<(&str, &str)> {
    match (source.matches('=').count(), source.split_once('=')) {
        (1, Some(("", _))) => Err(invalid(format!("missing key name in source {number} of files"))),
        (1, Some((_, ""))) => Err(invalid(format!("missing file path in source {number} of files"))),
        (1, Some(pair)) => Ok(pair),
        (0, _) => Ok((
            source.trim_end_matches('/').rsplit('/').next().unwrap_or(source),
            source,
        )),
        _ => Err(invalid(format!(
            "key name or file path of source {number} of files contains '='"
        ))),
    }
}

/// Hashes what a ConfigMap or Secret holds, or the whole of another object, into the ten characters that end its name.
pub(crate) fn hash(resource: &Resource, steps: &Steps<'_>) -> Result<String> {
    let node = &resource.node;
    let secret = id::kind(node) == "Secret";
    if !secret && id::kind(node) != "ConfigMap" {
        return hash_of_all(resource, steps);
    }
    let mut object = Map::new();
    object.insert("kind".into(), Value::from(id::kind(node)));
    // kustomize looks for a field of the name "metadata/name", so the name never enters the hash.
    object.insert("name".into(), part(node, "metadata/name")?);
    object.insert("data".into(), part(node, "data")?);
    let extra = if secret { "stringData" } else { "binaryData" };
    let value = part(node, extra)?;
    if value.is_object() {
        object.insert(extra.into(), value);
    }
    if secret {
        object.insert("type".into(), part(node, "type")?);
    }
    let text = json::write(&Value::Object(object), json::Layout::COMPACT);
    Ok(encoded(&Sha256::digest(text.as_bytes())))
}

/// Hashes an object without what never reaches the output. kustomize hashes its tree with lines, columns and comments,
/// so that a blank line gives another name; here only another content does.
fn hash_of_all(resource: &Resource, steps: &Steps<'_>) -> Result<String> {
    let held = steps.hold_copy(&resource.node)?;
    let mut finished = resource.clone();
    finished.finish(false, false);
    let text = json::write(&finished.node.to_json(Schema::New)?, json::Layout::COMPACT);
    steps.give_back(held);
    Ok(encoded(&Sha256::digest(text.as_bytes())))
}

fn part(node: &Node, field: &str) -> Result<Value> {
    match node.get(field) {
        None => Ok(Value::from("")),
        Some(value) if value.kind() == Kind::Scalar => Ok(Value::from(value.text())),
        Some(value) => Ok(value.to_json(Schema::New)?),
    }
}

/// Turns digits that could spell words into letters that do not.
fn encoded(digest: &[u8]) -> String {
    let hex: String = digest.iter().take(5).map(|b| format!("{b:02x}")).collect();
    hex.chars()
        .map(|c| match c {
            '0' => 'g',
            '1' => 'h',
            '3' => 'k',
            'a' => 'm',
            'e' => 't',
            c => c,
        })
        .collect()
}
