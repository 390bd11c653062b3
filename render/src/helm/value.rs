//! The values a template works on, with Go's semantics: maps are shared and change in place, lists never do,
//! and each number keeps the kind Go would give it, because printing and comparing depend on it.
//!
//! [`crate::yaml::Value`] is what files hold; [`Val::from`] turns one into a template's value.

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::collections::BTreeMap;
use std::ops::Deref;
use std::rc::Rc;

use super::bytes;
use super::object::Object;
use crate::yaml::Value;

/// A map's entries, walked in the order of their keys as Go's templates do.
pub type Entries = BTreeMap<Rc<str>, Val>;

/// A value of a template.
#[derive(Clone, Debug, Default)]
pub enum Val {
    /// No value at all: what a pipeline makes of nil, printed as `<no value>`; its fields are no value either.
    #[default]
    Invalid,
    /// Nil in an interface: an absent key, a null in a list. To take a field of it is an error.
    Nil,
    /// A boolean.
    Bool(bool),
    /// Go's `int`: literals, indexes, lengths.
    Int(i64),
    /// Go's `int64`: what arithmetic returns and `--set` reads.
    Int64(i64),
    /// Go's `uint64`.
    UInt(u64),
    /// Go's `uint8`: a byte of a string.
    Byte(u8),
    /// Go's `float64`: every number read from YAML or JSON.
    Float(f64),
    /// Text; what is no UTF-8 stands in it as `bytes` says.
    Str(Rc<str>),
    /// A list; functions that change one return a new one.
    List(List),
    /// A map, shared by everything that holds it.
    Map(MapVal),
    /// A value with methods.
    Object(Rc<Object>),
}

/// A list and the type Go gives its items.
#[derive(Clone, Debug)]
pub struct List {
    /// The items.
    pub items: Rc<Nodes>,
    /// What Go's type says of the items.
    pub of: Items,
    /// Whether Go has no list here: it is empty, and null in JSON.
    pub nil: bool,
}

/// The Go types of lists that templates meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Items {
    /// `[]interface {}`.
    Any,
    /// `[]string`.
    Texts,
    /// `[]int`.
    Ints,
    /// `[][]interface {}`.
    Lists,
}

/// A map and the type Go gives it.
#[derive(Clone, Debug)]
pub struct MapVal {
    /// The entries, shared.
    pub entries: Rc<Shared>,
    /// The type, which error messages and `typeOf` name.
    pub kind: MapKind,
    /// Whether Go has no map here: it is empty, and null in JSON.
    pub nil: bool,
}

/// The Go types of maps that templates meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// `map[string]interface {}`.
    Any,
    /// `map[string]string`: an absent key is the empty text.
    Strings,
    /// `common.Values`.
    Values,
}

/// The items of a list. They are freed however deep they hold each other.
#[derive(Debug, Default)]
pub struct Nodes(Vec<Val>);

/// The entries of a map, which its holders share. Copies of a map have the same entries until one of them is changed.
/// They are freed however deep they hold each other.
#[derive(Debug, Default)]
pub struct Shared(RefCell<Rc<Entries>>);

impl Shared {
    /// Returns the entries.
    pub fn borrow(&self) -> Ref<'_, Entries> {
        Ref::map(self.0.borrow(), |entries| &**entries)
    }

    /// Returns the entries for a change, which no copy of the map sees: where there is one, they are copied now.
    fn borrow_mut(&self) -> RefMut<'_, Entries> {
        RefMut::map(self.0.borrow_mut(), Rc::make_mut)
    }

    /// Returns how many entries a change copies: none where no copy of the map has the same.
    pub(super) fn copied_by_change(&self) -> usize {
        let entries = self.0.borrow();
        match Rc::strong_count(&entries) {
            1 => 0,
            _ => entries.len(),
        }
    }

    /// Takes the entries out, whoever else has the same.
    pub(super) fn take(&self) -> Rc<Entries> {
        std::mem::take(&mut *self.0.borrow_mut())
    }
}

impl From<Vec<Val>> for Nodes {
    fn from(items: Vec<Val>) -> Self {
        Nodes(items)
    }
}

impl Deref for Nodes {
    type Target = Vec<Val>;

    fn deref(&self) -> &Vec<Val> {
        &self.0
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        if self.0.iter().any(Val::holds_others) {
            release(std::mem::take(&mut self.0), std::convert::identity);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(entries) = Rc::into_inner(std::mem::take(self.0.get_mut()))
            && entries.values().any(Val::holds_others)
        {
            release(entries, |entries| entries.into_values().collect());
        }
    }
}

thread_local! {
    /// How many values are being freed inside each other.
    static FREEING: Cell<u32> = const { Cell::new(0) };
}

/// So many levels are freed by a call inside a call, which is faster than to list what is in them.
const MAX_FREEING: u32 = 64;

/// Frees what a list or map holds.
fn release<T>(held: T, values: impl FnOnce(T) -> Vec<Val>) {
    let level = FREEING.get();
    if level >= MAX_FREEING {
        return free(values(held));
    }
    FREEING.set(level + 1);
    drop(held);
    FREEING.set(level);
}

/// Frees values without a call inside a call for each level: a template can nest them millions deep.
fn free(mut waiting: Vec<Val>) {
    while let Some(value) = waiting.pop() {
        match value {
            Val::List(list) => {
                if let Some(mut nodes) = Rc::into_inner(list.items) {
                    waiting.append(&mut nodes.0);
                }
            }
            Val::Map(map) => {
                let shared = Rc::into_inner(map.entries);
                if let Some(entries) = shared.and_then(|shared| Rc::into_inner(shared.take())) {
                    waiting.extend(entries.into_values());
                }
            }
            _ => {}
        }
    }
}

impl MapVal {
    /// Returns a new map of the type that `dict` returns.
    pub fn new(entries: Entries) -> MapVal {
        MapVal {
            entries: Rc::new(Shared(RefCell::new(Rc::new(entries)))),
            kind: MapKind::Any,
            nil: false,
        }
    }

    /// Returns a copy of this map; what it holds stays shared.
    pub(super) fn copy(&self) -> MapVal {
        let entries = self.entries.0.borrow().clone();
        MapVal {
            entries: Rc::new(Shared(RefCell::new(entries))),
            ..*self
        }
    }

    /// Returns the same map under another type.
    pub fn of_kind(&self, kind: MapKind) -> MapVal {
        MapVal {
            entries: self.entries.clone(),
            kind,
            nil: self.nil,
        }
    }

    /// Returns the value under `key`.
    pub fn get(&self, key: &str) -> Option<Val> {
        self.entries.borrow().get(key).cloned()
    }

    /// Sets the value under `key` for every holder of the map.
    pub fn set(&self, key: &str, value: Val) {
        self.entries.borrow_mut().insert(key.into(), value);
    }

    /// Takes out what is under `key`, for every holder of the map.
    pub(super) fn unset(&self, key: &str) {
        if self.entries.borrow().contains_key(key) {
            self.entries.borrow_mut().remove(key);
        }
    }

    /// Returns what an absent key stands for.
    pub fn zero(&self) -> Val {
        match self.kind {
            MapKind::Strings => Val::from(""),
            MapKind::Any | MapKind::Values => Val::Nil,
        }
    }
}

impl Val {
    /// Returns a list of any items.
    pub fn list(items: Vec<Val>) -> Val {
        Val::List(List {
            items: Rc::new(Nodes(items)),
            of: Items::Any,
            nil: false,
        })
    }

    /// Returns a list of Go's type `[]string`.
    pub fn strings<T: Into<Rc<str>>>(items: impl IntoIterator<Item = T>) -> Val {
        let items = items.into_iter().map(|item| Val::Str(item.into())).collect();
        Val::List(List {
            items: Rc::new(Nodes(items)),
            of: Items::Texts,
            nil: false,
        })
    }

    /// Returns the list that Go has where nothing was put into one.
    pub fn nil_list(of: Items) -> Val {
        Val::List(List {
            items: Rc::default(),
            of,
            nil: true,
        })
    }

    /// Returns a list of Go's type `[]int`.
    pub fn ints(items: impl Iterator<Item = i64>) -> Val {
        Val::List(List {
            items: Rc::new(Nodes(items.map(Val::Int).collect())),
            of: Items::Ints,
            nil: false,
        })
    }

    /// Returns a new map.
    pub fn map(entries: Entries) -> Val {
        Val::Map(MapVal::new(entries))
    }

    /// Returns whether this is a list or a map.
    pub fn holds_others(&self) -> bool {
        matches!(self, Val::List(_) | Val::Map(_))
    }

    /// Returns whether this is nil in either form.
    pub fn is_nil(&self) -> bool {
        matches!(self, Val::Invalid | Val::Nil)
    }

    /// Returns the text of bytes, which need be no UTF-8.
    pub(super) fn of_bytes(bytes: &[u8]) -> Val {
        Val::Str(bytes::text(bytes).into())
    }

    /// Returns the text when this is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Val::Str(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the value as a list or a map holds it: no value becomes nil.
    pub fn held(self) -> Val {
        match self {
            Val::Invalid => Val::Nil,
            value => value,
        }
    }

    /// Returns the value as a pipeline passes it on: nil loses its interface.
    pub fn unwrapped(self) -> Val {
        match self {
            Val::Nil => Val::Invalid,
            value => value,
        }
    }

    /// Returns whether Go's templates take the value for true.
    pub fn truth(&self) -> bool {
        match self {
            Val::Invalid | Val::Nil => false,
            Val::Bool(flag) => *flag,
            Val::Int(number) | Val::Int64(number) => *number != 0,
            Val::UInt(number) => *number != 0,
            Val::Byte(number) => *number != 0,
            Val::Float(number) => *number != 0.0,
            Val::Str(text) => !text.is_empty(),
            Val::List(list) => !list.items.is_empty(),
            Val::Map(map) => !map.entries.borrow().is_empty(),
            Val::Object(object) => object.truth(),
        }
    }

    /// Returns the name of the Go type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Val::Invalid => "<nil>",
            Val::Nil => "interface {}",
            Val::Bool(_) => "bool",
            Val::Int(_) => "int",
            Val::Int64(_) => "int64",
            Val::UInt(_) => "uint64",
            Val::Byte(_) => "uint8",
            Val::Float(_) => "float64",
            Val::Str(_) => "string",
            Val::List(list) => match list.of {
                Items::Any => "[]interface {}",
                Items::Texts => "[]string",
                Items::Ints => "[]int",
                Items::Lists => "[][]interface {}",
            },
            Val::Map(map) => match map.kind {
                MapKind::Any => "map[string]interface {}",
                MapKind::Strings => "map[string]string",
                MapKind::Values => "common.Values",
            },
            Val::Object(object) => object.type_name(),
        }
    }

    /// Returns the name of the Go kind.
    pub fn kind_name(&self) -> &'static str {
        match self {
            Val::Invalid | Val::Nil => "invalid",
            Val::List(_) => "slice",
            Val::Map(_) => "map",
            Val::Object(object) => object.kind_name(),
            other => other.type_name(),
        }
    }

    /// Returns the integer when the Go kind is one of the signed ones.
    pub fn as_signed(&self) -> Option<i64> {
        match self {
            Val::Int(number) | Val::Int64(number) => Some(*number),
            Val::Object(object) => object.as_signed(),
            _ => None,
        }
    }

    /// Returns the integer when the Go kind is one of the unsigned ones.
    pub fn as_unsigned(&self) -> Option<u64> {
        match self {
            Val::UInt(number) => Some(*number),
            Val::Byte(number) => Some(u64::from(*number)),
            _ => None,
        }
    }
}

impl From<&str> for Val {
    fn from(text: &str) -> Self {
        Val::Str(bytes::joined(text).into())
    }
}

impl From<String> for Val {
    fn from(text: String) -> Self {
        Val::Str(bytes::joined(&text).into())
    }
}

impl From<bool> for Val {
    fn from(flag: bool) -> Self {
        Val::Bool(flag)
    }
}

impl From<&Value> for Val {
    /// Integers become Go's `int64`, as `--set` reads them: numbers that came from a file are floats already.
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => Val::Nil,
            Value::Bool(flag) => Val::Bool(*flag),
            Value::Int(number) => Val::Int64(*number),
            Value::UInt(number) => Val::UInt(*number),
            Value::Float(number) => Val::Float(*number),
            Value::String(text) => Val::from(text.as_str()),
            Value::List(items) => Val::list(items.iter().map(Val::from).collect()),
            Value::Map(map) => Val::map(
                map.iter()
                    .map(|(key, value)| (Rc::from(key.as_str()), Val::from(value)))
                    .collect(),
            ),
        }
    }
}

impl Val {
    /// Returns a value as Go's JSON decoder gives it: every number is a float.
    pub fn from_document(value: &Value) -> Val {
        match value {
            Value::Int(number) => Val::Float(*number as f64),
            Value::UInt(number) => Val::Float(*number as f64),
            Value::List(items) => Val::list(items.iter().map(Val::from_document).collect()),
            Value::Map(map) => Val::map(
                map.iter()
                    .map(|(key, value)| (Rc::from(key.as_str()), Val::from_document(value)))
                    .collect(),
            ),
            other => Val::from(other),
        }
    }
}
