//! `vars`: values of fields, put into texts that name them as `$(NAME)`.

use std::collections::HashMap;

use serde_json::Value;

use super::paths::{Step, lookup};
use crate::kustomize::depth;
use crate::kustomize::error::{At, Result, invalid, shortened};
use crate::kustomize::fieldspec::{self, FieldSpec, Fitting, split_smart};
use crate::kustomize::resmap::ResMap;
use crate::kustomize::resource::Resource;
use crate::kustomize::steps::Steps;
use crate::yaml::node::{Content, Kind, Node, Schema, Style, Tag};

/// Values by name, for `$(NAME)` in texts.
#[derive(Debug, Default)]
pub(crate) struct Variables {
    values: HashMap<String, Value>,
}

impl Variables {
    /// Reads the value a variable refers to in the object that it was found in.
    pub(crate) fn add(
        &mut self,
        name: &str,
        path: &str,
        resource: &Resource,
        steps: &Steps<'_>,
    ) -> Result<()> {
        let value = field_value(&resource.node, path, steps).in_object(|| resource.id().to_string())?;
        let value = value.ok_or_else(|| {
            invalid(format!(
                "field specified in var '{name}' not found in corresponding resource"
            ))
        })?;
        self.values.insert(name.to_string(), value);
        Ok(())
    }

    /// Replaces the variables in every field that may hold some.
    pub(crate) fn apply(&self, map: &mut ResMap, fields: &[FieldSpec], steps: &Steps<'_>) -> Result<()> {
        if self.values.is_empty() {
            return Ok(());
        }
        let mut fitting = Fitting::new(fields);
        for resource in map.list_mut() {
            for field in fitting.of(resource.gvk(), steps)? {
                let set = &mut |node: &mut Node| self.set(node, steps);
                fieldspec::apply_fitting(&mut resource.node, field, None, steps, set)?;
            }
        }
        Ok(())
    }

    fn set(&self, node: &mut Node, steps: &Steps<'_>) -> Result<()> {
        match &mut node.content {
            _ if node.tag == Tag::Null => Ok(()),
            Content::Scalar(_) => self.expand(node, steps),
            Content::Map(fields) => fields.iter_mut().try_for_each(|(key, value)| {
                if !key.is_string() {
                    return Err(invalid(format!("invalid map key: value='{}'", key.text())));
                }
                self.expand(value, steps)
            }),
            Content::Seq(items) => items.iter_mut().try_for_each(|item| {
                if !item.is_string() {
                    return Err(invalid("invalid value type expect a string"));
                }
                self.expand(item, steps)
            }),
        }
    }

    fn expand(&self, node: &mut Node, steps: &Steps<'_>) -> Result<()> {
        if !node.is_string() {
            return Ok(());
        }
        let text = node.text().to_string();
        steps.spend_bytes(text.len())?;
        let whole = text
            .strip_prefix("$(")
            .and_then(|t| t.strip_suffix(')'))
            .and_then(|name| self.values.get(name));
        let value = match whole {
            Some(value @ (Value::String(_) | Value::Bool(_) | Value::Number(_))) => {
                steps.spend_bytes(value.as_str().map_or(0, str::len))?;
                value.clone()
            }
            _ => Value::String(self.expanded(&text, steps)?),
        };
        let (tag, text) = match value {
            Value::Bool(flag) => (Tag::Bool, flag.to_string()),
            Value::Number(number) if number.is_f64() => (Tag::Float, number.to_string()),
            Value::Number(number) => (Tag::Int, number.to_string()),
            Value::String(text) => (Tag::Str, text),
            _ => return Ok(()),
        };
        *node = Node {
            style: Style::Plain,
            ..Node::tagged(tag, text)
        };
        Ok(())
    }

    /// Returns a text with the values in it, each of which is counted before it is put there.
    fn expanded(&self, text: &str, steps: &Steps<'_>) -> Result<String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        // Behind the last bracket no name ends: it is looked for once, and not once for each that is opened.
        let last = text.rfind(')').map_or(0, |at| text.len() - at);
        while let Some(at) = rest.find('$') {
            steps.spend(1)?;
            out.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            let opened = after.strip_prefix('(').filter(|t| t.len() >= last && last > 0);
            if let Some(tail) = after.strip_prefix('$') {
                out.push('$');
                rest = tail;
            } else if let Some((name, tail)) = opened.and_then(|t| t.split_once(')')) {
                match self.values.get(name) {
                    Some(Value::String(value)) => {
                        steps.spend_bytes(value.len())?;
                        out.push_str(value);
                    }
                    Some(value @ (Value::Bool(_) | Value::Number(_))) => {
                        let value = value.to_string();
                        steps.spend_bytes(value.len())?;
                        out.push_str(&value);
                    }
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
        Ok(out)
    }
}

/// Reads the field at a dotted path, whose parts may carry an index: `spec.containers[0].name`.
fn field_value(node: &Node, path: &str, steps: &Steps<'_>) -> Result<Option<Value>> {
    let written = split_smart(path);
    depth::check_path(written.len(), path)?;
    let mut parts = Vec::new();
    for part in written {
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
    let Some(found) = lookup(node, &parts, steps)? else {
        return Ok(None);
    };
    steps.spend_copy(found.count(), found.text_bytes())?;
    if found.kind() != Kind::Scalar {
        steps.hold(found.json_map_bytes())?;
        return Ok(Some(found.to_json(Schema::New)?));
    }
    let text = found.text();
    let bad = || {
        invalid(format!(
            "the value at '{}' is not the number that its tag says",
            shortened(path)
        ))
    };
    Ok(Some(match found.tag {
        Tag::Int => Value::from(text.parse::<i64>().map_err(|_| bad())?),
        Tag::Float => Value::from(text.parse::<f64>().map_err(|_| bad())?),
        Tag::Bool => Value::from(text.eq_ignore_ascii_case("true")),
        _ => Value::from(text),
    }))
}
