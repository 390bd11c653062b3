//! Reads TOML as BurntSushi's library does: which keys may follow which, and what becomes of those that stand twice.
//!
//! Texts and scalars are those of the specification. What differs from it is how tables are made: the library counts a
//! table that a dotted key makes as implicit, and the next that says anything of an implicit table makes it explicit.

use std::collections::BTreeMap;
use std::rc::Rc;

use ::toml::value::{Date, Datetime, Offset, Time as TimeOfDay};
use toml_parser::parser::{Event, EventKind, RecursionGuard, ValidateWhitespace, parse_document};
use toml_parser::{ParseError, Source};

use super::{LOCAL, LOCAL_DATE, LOCAL_TIME};
use crate::helm::object::Object;
use crate::helm::time::Time;
use crate::helm::value::{Entries, Val};

/// How deep arrays and tables may nest, and how many parts a key may have.
const MAX_DEPTH: u32 = 80;

/// Said of what goes beyond it, which is no fault of the text.
const TOO_DEEP: &str = "arrays, tables or keys deeper than 80 levels";
/// The most words, marks and blanks of a text: more than half a million values take, each by a key of its own.
const MAX_TOKENS: usize = 4_000_000;
const TOO_MANY: &str = "more than 4000000 words, marks and blanks";

/// Tells whether a text was not read for a bound of this reader.
pub(in crate::helm) fn is_bound(reason: &str) -> bool {
    reason.ends_with(TOO_DEEP) || reason.ends_with(TOO_MANY)
}

/// Returns the map that a TOML text holds; integers are Go's `int64`.
pub(in crate::helm) fn read(text: &str) -> Result<Val, String> {
    document(text)
        .map(Table::into_val)
        .map_err(|reason| format!("toml: {reason}"))
}

fn document(text: &str) -> Result<Table, String> {
    let source = Source::new(text);
    let tokens: Vec<_> = source.lex().take(MAX_TOKENS + 1).collect();
    if tokens.len() > MAX_TOKENS {
        return Err(TOO_MANY.to_owned());
    }
    let mut events = Vec::with_capacity(tokens.len());
    let mut error: Option<ParseError> = None;
    let mut validated = ValidateWhitespace::new(&mut events, source);
    let mut guarded = RecursionGuard::new(&mut validated, MAX_DEPTH);
    parse_document(&tokens, &mut guarded, &mut error);
    if let Some(error) = error {
        let reason = error.description();
        let is_depth = reason.starts_with("cannot recurse further");
        return Err(if is_depth { TOO_DEEP } else { reason }.to_owned());
    }
    let says_something = |event: &Event| {
        !matches!(
            event.kind(),
            EventKind::Whitespace
                | EventKind::Comment
                | EventKind::Newline
                | EventKind::KeySep
                | EventKind::ValueSep
        )
    };
    let events: Vec<Event> = events.into_iter().filter(says_something).collect();
    let mut reader = Reader {
        source,
        events: events.into_iter(),
    };
    reader.document()
}

/// A table, and whether nothing but dotted keys and headers of tables within it made it so far.
#[derive(Default)]
struct Table {
    entries: BTreeMap<String, Item>,
    is_implicit: bool,
}

enum Item {
    Table(Table),
    /// What `[[headers]]` make; never empty.
    Tables(Vec<Table>),
    Array(Vec<Val>),
    Scalar(Val),
}

fn defined<T>(key: &str) -> Result<T, String> {
    Err(format!("Key '{key}' has already been defined."))
}

impl Table {
    fn implicit() -> Table {
        Table {
            is_implicit: true,
            ..Table::default()
        }
    }

    fn into_val(self) -> Val {
        let entries = self.entries.into_iter();
        Val::map(
            entries
                .map(|(key, item)| (Rc::from(key), item.into_val()))
                .collect::<Entries>(),
        )
    }

    /// Goes to the table of a part of a header; one that is missing is made.
    fn enter(&mut self, key: String) -> Result<&mut Table, String> {
        let shown = key.clone();
        let item = self
            .entries
            .entry(key)
            .or_insert_with(|| Item::Table(Table::implicit()));
        match item {
            Item::Table(table) => Ok(table),
            Item::Tables(tables) => match tables.last_mut() {
                Some(table) => Ok(table),
                None => defined(&shown),
            },
            Item::Array(_) | Item::Scalar(_) => Err(format!("Key '{shown}' was already created as a hash.")),
        }
    }

    /// Goes to the table of a part of a dotted key. One that is missing is made; one that is there is explicit from
    /// then on, and takes the place of an array.
    fn enter_dotted(&mut self, key: String) -> Result<&mut Table, String> {
        match self.entries.get_mut(&key) {
            Some(Item::Table(table)) => table.is_implicit = false,
            Some(array @ Item::Array(_)) => *array = Item::Table(Table::default()),
            Some(Item::Scalar(_)) => return defined(&key),
            Some(Item::Tables(_)) | None => {}
        }
        self.enter(key)
    }

    /// Begins the table of a header.
    fn begin(&mut self, key: String) -> Result<&mut Table, String> {
        match self.entries.get_mut(&key) {
            Some(Item::Table(table)) if table.is_implicit => table.is_implicit = false,
            Some(_) => return defined(&key),
            None => {
                self.entries.insert(key.clone(), Item::Table(Table::default()));
            }
        }
        self.enter(key)
    }

    /// Begins another table of an array of tables.
    fn begin_another(&mut self, key: String) -> Result<&mut Table, String> {
        match self
            .entries
            .entry(key.clone())
            .or_insert_with(|| Item::Tables(Vec::new()))
        {
            Item::Tables(tables) => tables.push(Table::default()),
            _ => {
                return Err(format!(
                    "Key '{key}' was already created and cannot be used as an array."
                ));
            }
        }
        self.enter(key)
    }

    /// Sets a value. An implicit table stays, and becomes explicit, but for an array.
    fn set(&mut self, key: String, value: Item) -> Result<(), String> {
        match (self.entries.get_mut(&key), value) {
            (None, value) => {
                self.entries.insert(key, value);
            }
            (Some(Item::Table(table)), value) if table.is_implicit => match value {
                Item::Scalar(_) => table.is_implicit = false,
                Item::Array(_) => {
                    self.entries.insert(key, value);
                }
                Item::Table(_) | Item::Tables(_) => return defined(&key),
            },
            (Some(_), _) => return defined(&key),
        }
        Ok(())
    }
}

impl Item {
    fn into_val(self) -> Val {
        match self {
            Item::Table(table) => table.into_val(),
            Item::Tables(tables) => Val::list(tables.into_iter().map(Table::into_val).collect()),
            Item::Array(items) => Val::list(items),
            Item::Scalar(value) => value,
        }
    }
}

/// The events of a text without an error, which come in the order of the grammar.
struct Reader<'t> {
    source: Source<'t>,
    events: std::vec::IntoIter<Event>,
}

impl Reader<'_> {
    fn document(&mut self) -> Result<Table, String> {
        let mut root = Table::default();
        let mut table = &mut root;
        while let Some(event) = self.events.next() {
            match event.kind() {
                EventKind::StdTableOpen | EventKind::ArrayTableOpen => {
                    let mut header = self.key(None)?;
                    let Some(last) = header.pop() else { continue };
                    table = &mut root;
                    for part in header {
                        table = table.enter(part)?;
                    }
                    table = match event.kind() {
                        EventKind::StdTableOpen => table.begin(last)?,
                        _ => table.begin_another(last)?,
                    };
                }
                EventKind::SimpleKey => self.key_value(event, table)?,
                _ => {}
            }
        }
        Ok(root)
    }

    /// Reads the parts of a key, to the sign or bracket behind it.
    fn key(&mut self, first: Option<Event>) -> Result<Vec<String>, String> {
        let mut parts = Vec::new();
        let mut next = first.or_else(|| self.events.next());
        while let Some(event) = next.filter(|event| event.kind() == EventKind::SimpleKey) {
            let mut part = std::borrow::Cow::Borrowed("");
            let mut error: Option<ParseError> = None;
            if let Some(raw) = self.source.get(event) {
                raw.decode_key(&mut part, &mut error);
            }
            if let Some(error) = error {
                return Err(error.description().to_owned());
            }
            parts.push(part.into_owned());
            next = self.events.next();
        }
        if parts.len() > MAX_DEPTH as usize {
            return Err(TOO_DEEP.to_owned());
        }
        Ok(parts)
    }

    fn key_value(&mut self, first: Event, mut table: &mut Table) -> Result<(), String> {
        let mut key = self.key(Some(first))?;
        let Some(last) = key.pop() else { return Ok(()) };
        for part in key {
            table = table.enter_dotted(part)?;
        }
        let value = self.value()?;
        table.set(last, value)
    }

    fn value(&mut self) -> Result<Item, String> {
        match self.events.next() {
            Some(event) => self.value_of(event),
            None => Err("a value is missing".to_owned()),
        }
    }

    fn value_of(&mut self, event: Event) -> Result<Item, String> {
        match event.kind() {
            EventKind::InlineTableOpen => {
                let mut table = Table::default();
                while let Some(event) = self.events.next() {
                    match event.kind() {
                        EventKind::SimpleKey => self.key_value(event, &mut table)?,
                        _ => break,
                    }
                }
                Ok(Item::Table(table))
            }
            EventKind::ArrayOpen => {
                let mut items = Vec::new();
                while let Some(event) = self.events.next() {
                    match event.kind() {
                        EventKind::ArrayClose => break,
                        _ => items.push(self.value_of(event)?.into_val()),
                    }
                }
                Ok(Item::Array(items))
            }
            _ => {
                let raw = self.source.get(event).map_or("", |raw| raw.as_str());
                scalar(raw).map(Item::Scalar)
            }
        }
    }
}

fn scalar(text: &str) -> Result<Val, String> {
    let read: ::toml::Value = text
        .parse()
        .map_err(|cause: ::toml::de::Error| cause.message().to_owned())?;
    Ok(match read {
        ::toml::Value::String(text) => text.into(),
        ::toml::Value::Integer(number) => Val::Int64(number),
        ::toml::Value::Float(number) => Val::Float(number),
        ::toml::Value::Boolean(flag) => Val::Bool(flag),
        ::toml::Value::Datetime(time) => match Time::from_rfc3339(&whole(&time)) {
            Some(read) => Val::Object(Rc::new(Object::Time(read.named(local_name(&time))))),
            None => Val::from(time.to_string()),
        },
        ::toml::Value::Array(_) | ::toml::Value::Table(_) => return Err("no scalar".to_owned()),
    })
}

/// Returns a date and a time with their zone, filling in what a local one lacks as the reference's library does: UTC,
/// midnight, and the first day of the year 0.
fn whole(time: &Datetime) -> String {
    let mut time = *time;
    time.date.get_or_insert(Date {
        year: 0,
        month: 1,
        day: 1,
    });
    time.time.get_or_insert(TimeOfDay {
        hour: 0,
        minute: 0,
        second: Some(0),
        nanosecond: None,
    });
    time.offset.get_or_insert(Offset::Z);
    time.to_string()
}

/// Returns what the reference's library calls the zone of a date or a time that names none.
fn local_name(time: &Datetime) -> &'static str {
    match (time.offset, time.date, time.time) {
        (Some(_), _, _) => "",
        (None, Some(_), Some(_)) => LOCAL,
        (None, Some(_), None) => LOCAL_DATE,
        (None, None, _) => LOCAL_TIME,
    }
}
