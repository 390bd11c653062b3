//! How values merge: the built-in types, or the definitions of an OpenAPI document a kustomization brings.

use std::cell::Cell;
use std::collections::HashMap;

use serde_json::Value;

use super::error::{Result, invalid};
use super::tables::{self, NONE, Type};

/// The types a build knows.
#[derive(Debug, Default)]
pub(crate) struct Schemas {
    custom: Option<Custom>,
    /// Whether the built-in types count beside those of a document.
    beside: bool,
    /// Whether anybody asked for a built-in type.
    used: Cell<bool>,
}

/// Types read from an OpenAPI document; the built-in ones count no more, unless they were used before it was read.
#[derive(Debug, Default)]
struct Custom {
    rows: Vec<CustomType>,
    resources: HashMap<(String, String), usize>,
}

#[derive(Debug, Default)]
struct CustomType {
    fields: HashMap<String, usize>,
    rest: Option<usize>,
    items: Option<usize>,
    merge: bool,
    keys: Vec<String>,
}

/// How one value merges.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape<'s> {
    Builtin(&'static Type),
    Custom(&'s Schemas, usize),
}

impl Schemas {
    /// Notes that the built-in types are in use: kustomize reads them when first asked for any, or for where a type
    /// lives that it does not know, and never forgets them.
    pub(crate) fn note_use(&self) {
        self.used.set(true);
    }

    /// Reads an OpenAPI document that a build comes upon, after these types.
    pub(crate) fn custom(&self, document: &Value) -> Result<Schemas> {
        let definitions = document.get("definitions").and_then(Value::as_object);
        let mut reader = Reader {
            definitions: definitions.ok_or_else(|| invalid("the OpenAPI document has no definitions"))?,
            custom: Custom::default(),
            named: HashMap::new(),
        };
        for (name, definition) in reader.definitions {
            let row = reader.definition(name, 0)?;
            let types = definition
                .get("x-kubernetes-group-version-kind")
                .and_then(Value::as_array);
            for gvk in types.into_iter().flatten() {
                let text = |field: &str| gvk.get(field).and_then(Value::as_str).unwrap_or_default();
                let (group, version, kind) = (text("group"), text("version"), text("kind"));
                let api_version = if group.is_empty() {
                    version.to_string()
                } else {
                    format!("{group}/{version}")
                };
                reader
                    .custom
                    .resources
                    .insert((api_version, kind.to_string()), row);
            }
        }
        Ok(Schemas {
            custom: Some(reader.custom),
            beside: self.used.get(),
            used: Cell::new(true),
        })
    }

    /// Returns how objects of a type merge, if it is known.
    pub(crate) fn resource(&self, api_version: &str, kind: &str) -> Option<Shape<'_>> {
        self.note_use();
        let own = |custom: &Custom| {
            let row = custom.resources.get(&(api_version.to_string(), kind.to_string()));
            row.map(|row| Shape::Custom(self, *row))
        };
        match &self.custom {
            Some(custom) if !self.beside => own(custom),
            custom => {
                let own = custom.as_ref().and_then(own);
                own.or_else(|| tables::resource_type(api_version, kind).and_then(builtin))
            }
        }
    }

    fn row(&self, row: usize) -> Option<&CustomType> {
        self.custom.as_ref()?.rows.get(row)
    }
}

fn builtin(row: u16) -> Option<Shape<'static>> {
    if row == NONE {
        None
    } else {
        tables::type_at(row).map(Shape::Builtin)
    }
}

impl<'s> Shape<'s> {
    /// Returns how a field merges.
    pub(crate) fn field(self, name: &str) -> Option<Shape<'s>> {
        match self {
            Shape::Builtin(shape) => match shape.fields.binary_search_by(|(field, _)| (*field).cmp(name)) {
                Ok(index) => builtin(shape.fields[index].1),
                Err(_) => builtin(shape.rest),
            },
            Shape::Custom(schemas, row) => {
                let shape = schemas.row(row)?;
                let row = shape.fields.get(name).copied().or(shape.rest)?;
                Some(Shape::Custom(schemas, row))
            }
        }
    }

    /// Returns how items merge.
    pub(crate) fn items(self) -> Option<Shape<'s>> {
        match self {
            Shape::Builtin(shape) => builtin(shape.items),
            Shape::Custom(schemas, row) => schemas.row(row)?.items.map(|row| Shape::Custom(schemas, row)),
        }
    }

    /// Returns the keys that tell items apart when a patch merges into the list; none at all for scalars.
    pub(crate) fn merge_keys(self) -> Option<Vec<&'s str>> {
        match self {
            Shape::Builtin(shape) => shape.merge.then(|| shape.keys.to_vec()),
            Shape::Custom(schemas, row) => schemas
                .row(row)
                .filter(|shape| shape.merge)
                .map(|shape| shape.keys.iter().map(String::as_str).collect()),
        }
    }
}

struct Reader<'d> {
    definitions: &'d serde_json::Map<String, Value>,
    custom: Custom,
    named: HashMap<&'d str, usize>,
}

/// Schemas nest less deeply than this in any document that means something.
const DEPTH: usize = 200;
/// The most keys of a list. What tells items apart takes as many values of each; Kubernetes has lists of four.
const KEYS: usize = 16;

impl<'d> Reader<'d> {
    fn definition(&mut self, name: &'d str, depth: usize) -> Result<usize> {
        if let Some(row) = self.named.get(name) {
            return Ok(*row);
        }
        let row = self.custom.rows.len();
        self.custom.rows.push(CustomType::default());
        self.named.insert(name, row);
        if let Some(schema) = self.definitions.get(name) {
            self.custom.rows[row] = self.shape(schema, depth)?;
        }
        Ok(row)
    }

    fn schema(&mut self, schema: &'d Value, depth: usize) -> Result<usize> {
        if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
            return self.definition(name.trim_start_matches("#/definitions/"), depth + 1);
        }
        let shape = self.shape(schema, depth)?;
        self.custom.rows.push(shape);
        Ok(self.custom.rows.len() - 1)
    }

    fn shape(&mut self, schema: &'d Value, depth: usize) -> Result<CustomType> {
        if depth > DEPTH {
            return Err(invalid("the OpenAPI document nests too deeply"));
        }
        let mut shape = CustomType::default();
        for (name, field) in schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let row = self.schema(field, depth + 1)?;
            shape.fields.insert(name.clone(), row);
        }
        if let Some(rest) = schema.get("additionalProperties").filter(|v| v.is_object()) {
            shape.rest = Some(self.schema(rest, depth + 1)?);
        }
        if schema.get("type").and_then(Value::as_str) == Some("array")
            && let Some(items) = schema.get("items").filter(|v| v.is_object())
        {
            shape.items = Some(self.schema(items, depth + 1)?);
        }
        let strategy = schema.get("x-kubernetes-patch-strategy").and_then(Value::as_str);
        shape.merge = strategy.is_some_and(|s| s.split(',').any(|part| part == "merge"));
        let list = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
        let texts = |values: &[Value]| {
            values
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_string)
                .collect()
        };
        shape.keys = match (list, schema.get("x-kubernetes-patch-merge-key")) {
            (Some(list), _) => texts(list),
            (None, Some(key)) => texts(std::slice::from_ref(key)),
            (None, None) => Vec::new(),
        };
        if shape.keys.len() > KEYS {
            return Err(invalid(format!(
                "x-kubernetes-list-map-keys has more than {KEYS} keys"
            )));
        }
        Ok(shape)
    }
}
