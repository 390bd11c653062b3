//! Transformers that write given values: labels, annotations, replica counts, single values, variables.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use smol_str::SmolStr;

use super::paths::{Step, lookup};
use crate::kustomize::error::{Error, Result, invalid};
use crate::kustomize::fieldspec::{self, Create, FieldSpec, Fitting, split_smart};
use crate::kustomize::id::Gvk;
use crate::kustomize::kustomization::{Replica, Selector};
use crate::kustomize::resmap::ResMap;
use crate::kustomize::resource::Resource;
use crate::kustomize::selector::Matcher;
use crate::kustomize::steps::Steps;
use crate::yaml::node::{Content, Kind, Node, Schema, Style, Tag};

/// How many fields of a map are looked through for all texts together before it is worth an index.
const MAX_SEARCHED: usize = 1024;

/// Labels or annotations and the fields they go into.
#[derive(Debug)]
pub(crate) struct MetadataMap {
    pub(crate) texts: BTreeMap<String, String>,
    pub(crate) fields: Vec<FieldSpec>,
}

impl MetadataMap {
    /// Writes the texts into an object.
    pub(crate) fn change(
        &self,
        resource: &mut Resource,
        fitting: &mut Fitting<'_>,
        steps: &Steps<'_>,
    ) -> Result<()> {
        if self.texts.is_empty() {
            return Ok(());
        }
        let create = Create {
            kind: Kind::Map,
            tag: Tag::Map,
        };
        let first = resource.ties + 1;
        let length: usize = self
            .texts
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        for field in fitting.of(resource.gvk()) {
            steps.spend_bytes(length)?;
            steps.spend(self.texts.len())?;
            let set = &mut |node: &mut Node| self.set(node, first);
            resource.dirty |= fieldspec::apply_fitting(&mut resource.node, field, Some(&create), set)?;
        }
        let written = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        resource.ties = resource.ties.saturating_add(written);
        Ok(())
    }

    /// Writes the texts into a map; entries that are new to it are tied across the fields of the object.
    fn set(&self, node: &mut Node, first: u32) -> Result<()> {
        if node.is_null() {
            return Ok(());
        }
        if node.kind() != Kind::Map {
            return Err(invalid(format!(
                "wrong node kind: expected a map but got {}",
                node.kind()
            )));
        }
        let texts = (first..).zip(&self.texts);
        let texts = texts.map(|(tie, (key, value))| (key, Node::string(value.as_str()).tied(tie)));
        if node.fields().len().saturating_mul(self.texts.len()) <= MAX_SEARCHED {
            texts.for_each(|(key, value)| _ = node.set(key, value));
            return Ok(());
        }
        let mut places: HashMap<SmolStr, usize> = HashMap::with_capacity(node.fields().len());
        for (at, (key, _)) in node.fields().iter().enumerate() {
            places.entry(key.text().into()).or_insert(at);
        }
        for (key, value) in texts {
            match (places.get(key.as_str()), &mut node.content) {
                (Some(at), Content::Map(fields)) => fields[*at].1.overwrite(value),
                _ => node.append(key.as_str(), value),
            }
        }
        Ok(())
    }
}

/// The replica count of the objects of a name.
#[derive(Debug)]
pub(crate) struct Replicas {
    pub(crate) replica: Replica,
    pub(crate) fields: Vec<FieldSpec>,
}

impl Replicas {
    /// Sets the count in an object; returns whether it is of the name.
    pub(crate) fn change(&self, resource: &mut Resource) -> Result<bool> {
        let create = Create {
            kind: Kind::Scalar,
            tag: Tag::Int,
        };
        let wanted =
            |gvk: Gvk<'_>, name: &str, field: &FieldSpec| name == self.replica.name && field.gvk.selects(gvk);
        let mut found = false;
        for field in &self.fields {
            let gvk = resource.gvk();
            let fits = wanted(gvk, resource.name(), field)
                || resource
                    .previous
                    .iter()
                    .any(|p| wanted(Gvk { kind: &p.kind, ..gvk }, &p.name, field));
            if !fits {
                continue;
            }
            found = true;
            resource.dirty |= fieldspec::apply(&mut resource.node, field, Some(&create), &mut |node| {
                if node.kind() != Kind::Scalar {
                    return Err(invalid("wrong node kind: expected a scalar"));
                }
                node.overwrite(Node::tagged(Tag::Int, self.replica.count.to_string()));
                Ok(())
            })?;
        }
        Ok(found)
    }

    /// The error when no object is of the name.
    pub(crate) fn not_found(&self) -> Box<Error> {
        let kinds: Vec<String> = self.fields.iter().map(|f| f.gvk.as_gvk().to_string()).collect();
        invalid(format!(
            "resource with name {} does not match a config with the following GVK [{}]",
            self.replica.name,
            kinds.join(" ")
        ))
    }
}

/// Where a [`ValueAdd`] writes its value.
#[derive(Debug)]
pub(crate) struct ValueTarget {
    /// The objects; all when there is none.
    pub(crate) selector: Option<Selector>,
    /// The field, with slashes.
    pub(crate) path: String,
    /// Which part of a path the value becomes, from 1; the whole text when it is 0.
    pub(crate) position: i64,
}

/// Writes one value into fields of the objects it selects.
#[derive(Debug)]
pub(crate) struct ValueAdd {
    value: String,
    targets: Vec<(ValueTarget, FieldSpec)>,
}

impl ValueAdd {
    pub(crate) fn new(value: String, targets: Vec<ValueTarget>) -> Result<ValueAdd> {
        if targets.is_empty() {
            return Err(invalid("must specify at least one target"));
        }
        let checked = |target: ValueTarget| {
            if target.path.is_empty() {
                return Err(invalid("fieldPath cannot be empty"));
            }
            if target.position < 0 {
                return Err(invalid(format!(
                    "value of filePathPosition ({}) cannot be negative",
                    target.position
                )));
            }
            let field = FieldSpec::new(Default::default(), target.path.as_str(), true);
            Ok((target, field))
        };
        Ok(ValueAdd {
            targets: targets.into_iter().map(checked).collect::<Result<_>>()?,
            value,
        })
    }

    pub(crate) fn apply(&self, map: &mut ResMap) -> Result<()> {
        for (target, field) in &self.targets {
            let matcher = target.selector.as_ref().map(Matcher::new).transpose()?;
            for resource in map.list_mut() {
                if let Some(matcher) = &matcher
                    && !matcher.selects(resource)?
                {
                    continue;
                }
                if target.path == "metadata/namespace" {
                    // Set by the rules of namespaces, which leave objects of the cluster alone.
                    super::namespace::set(resource, &self.value)?;
                    continue;
                }
                let create = Create {
                    kind: Kind::Scalar,
                    tag: Tag::Str,
                };
                resource.dirty |= fieldspec::apply(&mut resource.node, field, Some(&create), &mut |node| {
                    if node.kind() != Kind::Scalar {
                        return Err(invalid("wrong node kind: expected a scalar"));
                    }
                    node.overwrite(Node::plain(self.placed(node.text(), target.position)));
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    /// Puts the value in as one element of a path, or instead of the whole text.
    fn placed(&self, old: &str, position: i64) -> String {
        if position <= 0 {
            return self.value.clone();
        }
        // The first part of an absolute path is behind its slash.
        let root = if old.starts_with('/') { "/" } else { "" };
        let mut parts: Vec<&str> = match old.strip_prefix('/').unwrap_or(old) {
            "" => Vec::new(),
            inner => inner.split('/').collect(),
        };
        let at = usize::try_from(position - 1).unwrap_or(0).min(parts.len());
        parts.insert(at, &self.value);
        parts.retain(|part| !matches!(*part, "" | "."));
        format!("{root}{}", parts.join("/"))
    }
}

/// Values by name, for `$(NAME)` in texts.
#[derive(Debug, Default)]
pub(crate) struct Variables {
    values: HashMap<String, Value>,
}

impl Variables {
    /// Reads the value a variable refers to in the object that it was found in.
    pub(crate) fn add(&mut self, name: &str, path: &str, resource: &Resource) -> Result<()> {
        let value = field_value(&resource.node, path)?.ok_or_else(|| {
            invalid(format!(
                "field specified in var '{name}' not found in corresponding resource"
            ))
        })?;
        self.values.insert(name.to_string(), value);
        Ok(())
    }

    /// Replaces the variables in every field that may hold some.
    pub(crate) fn apply(&self, map: &mut ResMap, fields: &[FieldSpec]) -> Result<()> {
        if self.values.is_empty() {
            return Ok(());
        }
        let mut fitting = Fitting::new(fields);
        for resource in map.list_mut() {
            for field in fitting.of(resource.gvk()) {
                let set = &mut |node: &mut Node| self.set(node);
                fieldspec::apply_fitting(&mut resource.node, field, None, set)?;
            }
        }
        Ok(())
    }

    fn set(&self, node: &mut Node) -> Result<()> {
        match &mut node.content {
            _ if node.tag == Tag::Null => Ok(()),
            Content::Scalar(_) => {
                self.expand(node);
                Ok(())
            }
            Content::Map(fields) => fields.iter_mut().try_for_each(|(key, value)| {
                if !key.is_string() {
                    return Err(invalid(format!("invalid map key: value='{}'", key.text())));
                }
                self.expand(value);
                Ok(())
            }),
            Content::Seq(items) => items.iter_mut().try_for_each(|item| {
                if !item.is_string() {
                    return Err(invalid("invalid value type expect a string"));
                }
                self.expand(item);
                Ok(())
            }),
        }
    }

    fn expand(&self, node: &mut Node) {
        if !node.is_string() {
            return;
        }
        let text = node.text().to_string();
        let whole = text
            .strip_prefix("$(")
            .and_then(|t| t.strip_suffix(')'))
            .and_then(|name| self.values.get(name));
        let value = match whole {
            Some(value @ (Value::String(_) | Value::Bool(_) | Value::Number(_))) => value.clone(),
            _ => Value::String(self.expanded(&text)),
        };
        let (tag, text) = match value {
            Value::Bool(flag) => (Tag::Bool, flag.to_string()),
            Value::Number(number) if number.is_f64() => (Tag::Float, number.to_string()),
            Value::Number(number) => (Tag::Int, number.to_string()),
            Value::String(text) => (Tag::Str, text),
            _ => return,
        };
        *node = Node {
            style: Style::Plain,
            ..Node::tagged(tag, text)
        };
    }

    fn expanded(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            if let Some(tail) = after.strip_prefix('$') {
                out.push('$');
                rest = tail;
            } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|t| t.split_once(')')) {
                match self.values.get(name) {
                    Some(Value::String(value)) => out.push_str(value),
                    Some(value @ (Value::Bool(_) | Value::Number(_))) => out.push_str(&value.to_string()),
                    _ => {
                        out.push_str("$(");
                        out.push_str(name);
                        out.push(')');
                    }
                }
                rest = tail;
            } else {
                out.push('$');
                rest = after;
            }
        }
        out.push_str(rest);
        out
    }
}

/// Reads the field at a dotted path, whose parts may carry an index: `spec.containers[0].name`.
fn field_value(node: &Node, path: &str) -> Result<Option<Value>> {
    let mut parts = Vec::new();
    for part in split_smart(path) {
        match part.strip_suffix(']').and_then(|p| p.rsplit_once('[')) {
            Some((name, index)) if !index.is_empty() && index.bytes().all(|b| b.is_ascii_digit()) => {
                if !name.is_empty() {
                    parts.push(Step::parse(name));
                }
                parts.push(Step::parse(index));
            }
            _ => parts.push(Step::parse(&part)),
        }
    }
    let Some(found) = lookup(node, &parts)? else {
        return Ok(None);
    };
    if found.kind() != Kind::Scalar {
        return Ok(Some(found.to_json(Schema::New)?));
    }
    let text = found.text();
    let bad = || invalid(format!("'{text}' does not parse"));
    Ok(Some(match found.tag {
        Tag::Int => Value::from(text.parse::<i64>().map_err(|_| bad())?),
        Tag::Float => Value::from(text.parse::<f64>().map_err(|_| bad())?),
        Tag::Bool => Value::from(text.eq_ignore_ascii_case("true")),
        _ => Value::from(text),
    }))
}
