//! Reads the `name=value` lines of `--set` and its kin into values, exactly as Helm's `strvals` does.
//!
//! A line writes into a map that may already hold values: `a.b=1,a.c[2]=x`. What a value's text means depends
//! on the [`Syntax`]. Indices and nesting are bounded, since one line can ask for any amount of memory.

use crate::yaml::{Map, Value};

mod scan;

use scan::Scan;

/// The highest list index that a line may set.
pub const MAX_INDEX: i64 = 65_536;
/// The most dots that the name of a value may have.
pub const MAX_NAME_NESTING: usize = 30;
/// The most indices in a row, as in `a[0][1]`; the reference has no limit here.
const MAX_LIST_NESTING: usize = 64;
/// The most list places that one line may make; the reference has no limit here.
const MAX_PLACES: usize = 1 << 20;

/// What the text behind `=` means.
pub enum Syntax<'a> {
    /// `--set`: booleans, null and integers are recognised, all else is text.
    Typed,
    /// `--set-string`: always text.
    Text,
    /// `--set-literal`: the rest of the line, taken as it is; keys know no escapes.
    Literal,
    /// `--set-json`: one JSON value, whose numbers are floats.
    Json,
    /// `--set-file`: the name of a file whose content becomes the text.
    File(&'a mut ReadFile<'a>),
}

/// Returns the content of the file of that name, or why it cannot be had.
pub type ReadFile<'a> = dyn FnMut(&str) -> Result<Vec<u8>, String> + 'a;

/// Why a line cannot be read. Nothing helps but another line; no variant holds a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StrvalsError {
    /// The line ends within a key.
    #[error("key {0:?} has no value")]
    NoValue(String),
    /// A comma follows a key.
    #[error("key {0:?} has no value (cannot end with ,)")]
    EndsWithComma(String),
    /// Nothing was set below a key that ends with a dot.
    #[error("key map {0:?} has no value")]
    EmptyMap(String),
    /// The name has more dots than [`MAX_NAME_NESTING`].
    #[error("value name nested level is greater than maximum supported nested level of {MAX_NAME_NESTING}")]
    TooNested,
    /// There are too many indices in a row, or list places in the line.
    #[error("list of key {0:?} asks for too many places")]
    TooLarge(String),
    /// What stands between brackets is no number.
    #[error("error parsing index: {0:?} is not a number")]
    Index(String),
    /// An index is below zero.
    #[error("negative {0} index not allowed")]
    NegativeIndex(i64),
    /// An index is above [`MAX_INDEX`].
    #[error("index of {0} is greater than maximum supported index of {MAX_INDEX}")]
    IndexTooLarge(i64),
    /// Something other than `[`, `.` or `=` follows an index.
    #[error("unexpected data at end of array index: {0:?}")]
    AfterIndex(String),
    /// The key holds a value of another kind than the line takes it for.
    #[error("unable to parse key: {key:?} is not a {wanted}")]
    OtherKind {
        /// The key as far as it is known here.
        key: String,
        /// `map` or `list`.
        wanted: &'static str,
    },
    /// A list has no closing brace.
    #[error("list must terminate with '}}'")]
    OpenList,
    /// The value is not JSON; the position is that of the JSON reader.
    #[error("invalid JSON at column {0} of the value")]
    Json(usize),
    /// A file cannot be read.
    #[error("{0}")]
    File(String),
    /// What follows a list is not read; it may be the rest of a value, and so none of it is shown.
    #[error("what follows the brace at column {column} {wrong}")]
    AfterList {
        /// Where the brace stands, in characters from 1.
        column: usize,
        /// What is wrong with it.
        wrong: String,
    },
    /// What follows a comma is not read; it may be the rest of a value, and so none of it is shown.
    #[error(
        "what follows the comma at column {column} {wrong}; write {} for a comma in a value",
        r"\,"
    )]
    AfterComma {
        /// Where the comma stands, in characters from 1.
        column: usize,
        /// What is wrong with it.
        wrong: String,
    },
}

impl StrvalsError {
    /// Returns what is wrong with a part of a line, without any text of it.
    fn wrong(&self) -> String {
        match self {
            Self::NoValue(_) | Self::EndsWithComma(_) | Self::EmptyMap(_) => "is no key=value".to_owned(),
            Self::TooLarge(_) => "asks for too many places in a list".to_owned(),
            Self::Index(_) | Self::AfterIndex(_) => "has an index that is none".to_owned(),
            Self::OtherKind { wanted, .. } => format!("names something that is not a {wanted}"),
            Self::TooNested
            | Self::NegativeIndex(_)
            | Self::IndexTooLarge(_)
            | Self::OpenList
            | Self::Json(_)
            | Self::File(_)
            | Self::AfterList { .. }
            | Self::AfterComma { .. } => format!("is refused: {self}"),
        }
    }
}

/// Why a line cannot be read, and the key that tells where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key:?}: {reason}")]
pub struct LineError {
    /// The key of the value that is wrong, or of the one before the comma behind which something is.
    pub key: String,
    /// Why.
    pub reason: StrvalsError,
}

impl LineError {
    /// Names the place of a failure in what begins at `start`, behind the pair that begins at `before`.
    fn new(line: &str, before: Option<usize>, start: usize, reason: StrvalsError) -> LineError {
        let key = |start: usize| line[start..].split('=').next().unwrap_or_default().to_owned();
        // A value in JSON has an end of its own, and the name of a file is no secret.
        let is_value = matches!(reason, StrvalsError::Json(_) | StrvalsError::File(_));
        match before.filter(|_| !is_value) {
            Some(before) => {
                let (column, wrong) = (line[..start].chars().count(), reason.wrong());
                LineError {
                    key: key(before),
                    reason: match line[..start].ends_with('}') {
                        true => StrvalsError::AfterList { column, wrong },
                        false => StrvalsError::AfterComma { column, wrong },
                    },
                }
            }
            None => LineError {
                key: key(start),
                reason,
            },
        }
    }
}

/// Reads `line` into `into`, whose values it overwrites. After an error `into` may be partly written.
pub fn parse_into(line: &str, into: &mut Map, syntax: Syntax<'_>) -> Result<(), LineError> {
    let mut parser = Parser {
        scan: Scan::new(line, matches!(syntax, Syntax::Literal)),
        syntax,
        places: 0,
    };
    let mut before = None;
    loop {
        let start = line.len() - parser.scan.left();
        match parser.key(into, 0) {
            Ok(()) => before = Some(start),
            Err(Stop::End) => return Ok(()),
            Err(Stop::Error(reason)) => return Err(LineError::new(line, before, start, reason)),
        }
    }
}

/// Why reading stopped: at the end of the line, which is success wherever it is not said otherwise.
enum Stop {
    End,
    Error(StrvalsError),
}

impl From<StrvalsError> for Stop {
    fn from(error: StrvalsError) -> Self {
        Stop::Error(error)
    }
}

struct Parser<'l, 'f> {
    scan: Scan<'l>,
    syntax: Syntax<'f>,
    places: usize,
}

impl Parser<'_, '_> {
    /// Reads one `key=value` into `data`.
    fn key(&mut self, data: &mut Map, depth: usize) -> Result<(), Stop> {
        let stops: &[char] = if self.scan.is_literal() {
            &['=', '[', '.']
        } else {
            &['=', '[', ',', '.']
        };
        let (key, stop) = self.scan.until(stops);
        match stop {
            None if key.is_empty() => Err(Stop::End),
            None => Err(StrvalsError::NoValue(key).into()),
            Some('[') => self.list(data, key, depth),
            Some('=') => self.assign(data, key),
            Some('.') => self.nested(data, key, depth + 1),
            Some(_) => Err(StrvalsError::EndsWithComma(key).into()),
        }
    }

    fn assign(&mut self, data: &mut Map, key: String) -> Result<(), Stop> {
        let (value, rest) = match self.value() {
            Ok(value) => (value, Ok(())),
            // Nothing behind `=`: the key gets the empty text and the line is at its end.
            Err(Stop::End) => (Value::from(""), Err(Stop::End)),
            Err(error) => return Err(error),
        };
        set(data, key, value);
        rest
    }

    fn nested(&mut self, data: &mut Map, key: String, depth: usize) -> Result<(), Stop> {
        if depth > MAX_NAME_NESTING {
            return Err(StrvalsError::TooNested.into());
        }
        let mut fresh = Map::new();
        let existing = match data.get_mut(&key) {
            Some(Value::Map(map)) => Some(map),
            Some(_) => return Err(StrvalsError::OtherKind { key, wanted: "map" }.into()),
            None => None,
        };
        let is_new = existing.is_none();
        let inner = existing.unwrap_or(&mut fresh);
        let result = self.key(inner, depth);
        if result.is_ok() && inner.is_empty() {
            return Err(StrvalsError::EmptyMap(key).into());
        }
        if is_new && !fresh.is_empty() {
            set(data, key, Value::Map(fresh));
        }
        result
    }

    fn list(&mut self, data: &mut Map, key: String, depth: usize) -> Result<(), Stop> {
        let index = self.index()?;
        let mut items = match data.get_mut(&key) {
            Some(Value::List(items)) => std::mem::take(items),
            Some(_) => return Err(StrvalsError::OtherKind { key, wanted: "list" }.into()),
            None => Vec::new(),
        };
        let result = self.item(
            &mut items,
            index,
            Depth {
                names: depth,
                lists: 0,
            },
            &key,
        );
        set(data, key, Value::List(items));
        result
    }

    /// Reads what follows `[index]` into that place of `items`.
    fn item(&mut self, items: &mut Vec<Value>, index: i64, depth: Depth, key: &str) -> Result<(), Stop> {
        if index < 0 {
            return Err(StrvalsError::NegativeIndex(index).into());
        }
        let place = usize::try_from(index).unwrap_or(usize::MAX);
        let (data, stop) = self.scan.until(&['[', '.', '=']);
        if !data.is_empty() {
            return Err(StrvalsError::AfterIndex(data).into());
        }
        match stop {
            None => Err(Stop::End),
            Some('=') => {
                let value = match self.value() {
                    Err(Stop::End) => Value::from(""),
                    other => other?,
                };
                self.put(items, index, value, key)
            }
            Some('[') => {
                let next = self.index()?;
                if depth.lists >= MAX_LIST_NESTING {
                    return Err(StrvalsError::TooLarge(key.to_owned()).into());
                }
                let mut inner = match items.get_mut(place) {
                    None | Some(Value::Null) => Vec::new(),
                    // It is put back, and not copied for each line that sets a place of it.
                    Some(Value::List(inner)) => std::mem::take(inner),
                    Some(_) => {
                        return Err(StrvalsError::OtherKind {
                            key: key.to_owned(),
                            wanted: "list",
                        }
                        .into());
                    }
                };
                let below = Depth {
                    lists: depth.lists + 1,
                    ..depth
                };
                match self.item(&mut inner, next, below, key) {
                    Ok(()) => self.put(items, index, Value::List(inner), key),
                    Err(stop) => {
                        if let Some(Value::List(was)) = items.get_mut(place) {
                            *was = inner;
                        }
                        Err(stop)
                    }
                }
            }
            Some(_) => self.item_map(items, index, depth, key),
        }
    }

    /// Reads what follows `[index].` into the map at that place, making one where there is none.
    fn item_map(&mut self, items: &mut Vec<Value>, index: i64, depth: Depth, key: &str) -> Result<(), Stop> {
        let place = usize::try_from(index).unwrap_or(usize::MAX);
        let Some(item) = items.get_mut(place) else {
            let mut fresh = Map::new();
            self.key(&mut fresh, depth.names)?;
            return self.put(items, index, Value::Map(fresh), key);
        };
        if item.as_map().is_none() {
            *item = Value::Map(Map::new());
        }
        item.as_map_mut()
            .map_or(Ok(()), |inner| self.key(inner, depth.names))
    }

    fn put(&mut self, items: &mut Vec<Value>, index: i64, value: Value, key: &str) -> Result<(), Stop> {
        if index > MAX_INDEX {
            return Err(StrvalsError::IndexTooLarge(index).into());
        }
        let place = usize::try_from(index).unwrap_or_default();
        if items.len() <= place {
            self.places += place + 1 - items.len();
            if self.places > MAX_PLACES {
                return Err(StrvalsError::TooLarge(key.to_owned()).into());
            }
            items.resize(place + 1, Value::Null);
        }
        items[place] = value;
        Ok(())
    }

    fn index(&mut self) -> Result<i64, Stop> {
        match self.scan.until(&[']']) {
            (_, None) => Err(Stop::End),
            (text, Some(_)) => text.parse().map_err(|_| StrvalsError::Index(text).into()),
        }
    }

    /// Reads the value behind `=`, and the comma behind it.
    fn value(&mut self) -> Result<Value, Stop> {
        match self.syntax {
            Syntax::Json => self.json(),
            Syntax::Literal => Ok(Value::from(self.scan.rest())),
            _ if self.scan.at_end() => Err(Stop::End),
            _ if self.scan.eat('{') => self.braced(),
            _ => {
                let (text, _) = self.scan.until(&[',']);
                self.scalar(text)
            }
        }
    }

    fn braced(&mut self) -> Result<Value, Stop> {
        let mut items = Vec::new();
        loop {
            let (text, stop) = self.scan.until(&[',', '}']);
            let Some(stop) = stop else {
                return Err(StrvalsError::OpenList.into());
            };
            items.push(self.scalar(text)?);
            if stop == '}' {
                self.scan.eat(',');
                return Ok(Value::List(items));
            }
        }
    }

    fn scalar(&mut self, text: String) -> Result<Value, Stop> {
        match &mut self.syntax {
            Syntax::Typed => Ok(typed(text)),
            Syntax::File(read) => read(&text)
                .map(|bytes| Value::from(super::bytes::text(&bytes).as_ref()))
                .map_err(|why| StrvalsError::File(why).into()),
            Syntax::Text | Syntax::Literal | Syntax::Json => Ok(Value::from(text)),
        }
    }

    fn json(&mut self) -> Result<Value, Stop> {
        if self.scan.blank_value() {
            return Ok(Value::Null);
        }
        let value = self.scan.json().map_err(StrvalsError::Json)?;
        self.scan.blank_value();
        Ok(value)
    }
}

#[derive(Clone, Copy)]
struct Depth {
    names: usize,
    lists: usize,
}

/// Sets a key; the empty key is not set, as in the reference.
fn set(data: &mut Map, key: String, value: Value) {
    if !key.is_empty() {
        data.insert(key, value);
    }
}

fn typed(text: String) -> Value {
    if text.eq_ignore_ascii_case("true") {
        return Value::Bool(true);
    }
    if text.eq_ignore_ascii_case("false") {
        return Value::Bool(false);
    }
    if text.eq_ignore_ascii_case("null") {
        return Value::Null;
    }
    // Text with a leading zero stays text: it may be a postcode or a file mode.
    let number = if text == "0" || !text.starts_with('0') {
        text.parse::<i64>().ok()
    } else {
        None
    };
    number.map_or(Value::String(text), Value::Int)
}
