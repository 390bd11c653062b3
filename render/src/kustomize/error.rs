//! Why a build fails, and where.

use std::borrow::Cow;
use std::fmt;
use std::rc::Rc;

use flotilla_core::text::address::shown_address;

use super::files::PathError;
use super::load::LoadError;
use super::paths::Paths;
use super::resource::Resource;
use super::unknown::UnknownField;
use crate::yaml::node::{ParseError, ResolveError};

/// Why a directory does not build.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BuildError {
    /// The source is wrong; nothing helps until it changes.
    #[error("{place}{message}")]
    Invalid {
        /// Where in the source.
        place: Place,
        /// What is wrong.
        message: String,
    },
    /// The source names something that only a network could bring.
    #[error(
        "{place}{}'{}' is remote and is not fetched; put a copy of it into the source, or declare it as a source of the app, and refer to it by path",
        at_line(*.line),
        url
    )]
    Remote {
        /// Where in the source.
        place: Place,
        /// The line of the file, from 1, where it is known.
        line: Option<usize>,
        /// What the source names, without userinfo and query.
        url: String,
    },
    /// The source uses something this engine does not offer.
    #[error("{place}{message}")]
    Unsupported {
        /// Where in the source.
        place: Place,
        /// What is not offered, and what to do instead.
        message: String,
    },
    /// A bound was reached; a smaller source or a larger budget helps.
    #[error("{place}{message}")]
    TooLarge {
        /// Where in the source.
        place: Place,
        /// Which bound.
        message: String,
    },
    /// The caller asked to stop.
    #[error("the build was cancelled")]
    Cancelled,
}

fn at_line(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!("line {line}: "))
}

impl BuildError {
    /// Names the file as paths are shown.
    fn shown(mut self, paths: Paths<'_>) -> BuildError {
        let place = match &mut self {
            BuildError::Invalid { place, .. }
            | BuildError::Remote { place, .. }
            | BuildError::Unsupported { place, .. }
            | BuildError::TooLarge { place, .. } => place,
            BuildError::Cancelled => return self,
        };
        if !place.file.is_empty() {
            place.file = paths.shown(&place.file);
        }
        self
    }
}

/// A place in a source: the file, and what of it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The file, relative to the root of the source.
    pub file: String,
    /// The field of the kustomization, or empty.
    pub field: String,
    /// The object concerned, or empty.
    pub object: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.file, &self.field, &self.object] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        Ok(())
    }
}

/// A failure inside the engine, before it is known where in the source it arose.
#[derive(Debug)]
pub(crate) struct Error {
    class: Class,
    place: Place,
    message: String,
    /// The fields that lead to what is at fault in an object, as far as it is known.
    path: String,
    /// The files of two objects that may not both be there.
    both: Option<Both>,
    /// The field that is not known.
    unknown: Option<UnknownField>,
}

/// The paths of two files.
type Both = (Rc<str>, Rc<str>);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Class {
    Invalid,
    Remote(Option<usize>),
    Unsupported,
    TooLarge,
    Cancelled,
}

impl Error {
    /// Tells whether nothing but a stop helps: a bound was reached, or the caller asked for it.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self.class, Class::TooLarge | Class::Cancelled)
    }

    /// Puts a field, or an item in brackets, before the path that leads to what is at fault.
    pub(crate) fn below(mut self: Box<Self>, part: impl FnOnce() -> String) -> Box<Self> {
        let part = part();
        let joint = match self.path.chars().next() {
            None | Some('[') => "",
            Some(_) => ".",
        };
        self.path = format!("{part}{joint}{}", self.path);
        self
    }

    /// Says the path in the message.
    pub(crate) fn with_path(mut self: Box<Self>) -> Box<Self> {
        if !self.path.is_empty() && !self.is_final() {
            let path = std::mem::take(&mut self.path);
            self.prefix(&format!("{}: ", shortened(&path)));
        }
        self
    }

    /// Tells a field that is not known as one of a kustomization, whose file is given.
    pub(crate) fn in_kustomization(mut self: Box<Self>, file: &[u8]) -> Box<Self> {
        if let Some(field) = self.unknown.take() {
            self.message = field.told_of_kustomization(file);
        }
        self
    }

    /// Names the files that two objects were read from.
    pub(crate) fn in_both(mut self: Box<Self>, first: Option<Rc<str>>, second: Option<Rc<str>>) -> Box<Self> {
        self.both = first.zip(second);
        self
    }

    /// Returns the failure as the caller of a build has it, with paths as they are shown.
    pub(crate) fn shown(mut self, paths: Paths<'_>) -> BuildError {
        if let Some((first, second)) = self.both.take() {
            let [one, other] = [&first, &second].map(|path| paths.shown(path));
            let (one, other) = (shortened(&one), shortened(&other));
            self.message.push_str(&match first == second {
                true => format!(": it is in {one} twice"),
                false => format!(": it is in {one} and in {other}"),
            });
        }
        BuildError::from(self).shown(paths)
    }

    /// Puts words before the message.
    fn prefix(&mut self, words: &str) {
        self.message.insert_str(0, words);
    }
}

/// How many bytes of a path, a name or an expression an error shows.
const SHOWN_BYTES: usize = 200;

/// Returns a text as an error quotes it: what is long is cut, and told by its length.
pub(crate) fn shortened(text: &str) -> Cow<'_, str> {
    if text.len() <= SHOWN_BYTES {
        return Cow::Borrowed(text);
    }
    let shown = &text[..text.floor_char_boundary(SHOWN_BYTES)];
    Cow::Owned(format!("{shown}… ({} bytes)", text.len()))
}

/// The result of a step of a build.
pub(crate) type Result<T, E = Box<Error>> = std::result::Result<T, E>;

/// Returns a failure of the source.
pub(crate) fn invalid(message: impl Into<String>) -> Box<Error> {
    fault(Class::Invalid, message)
}

/// Returns a failure of a field that nobody knows.
pub(crate) fn unknown_field(field: UnknownField) -> Box<Error> {
    let mut error = invalid(field.told());
    error.unknown = Some(field);
    error
}

/// Returns a failure for what the engine does not offer.
pub(crate) fn unsupported(message: impl Into<String>) -> Box<Error> {
    fault(Class::Unsupported, message)
}

/// Returns a failure for a bound that was reached.
pub(crate) fn too_large(message: impl Into<String>) -> Box<Error> {
    fault(Class::TooLarge, message)
}

/// Returns a failure for something that only a network could bring.
pub(crate) fn remote(url: &str, line: Option<usize>) -> Box<Error> {
    fault(Class::Remote(line), shortened(&shown_address(url)))
}

/// Returns the failure of a build that the caller stopped.
pub(crate) fn cancelled() -> Box<Error> {
    fault(Class::Cancelled, "")
}

fn fault(class: Class, message: impl Into<String>) -> Box<Error> {
    Box::new(Error {
        class,
        place: Place::default(),
        message: message.into(),
        path: String::new(),
        both: None,
        unknown: None,
    })
}

/// Adds the place to a failure that does not know it yet.
pub(crate) trait At<T> {
    /// Names the file.
    fn in_file(self, file: &str) -> Result<T>;
    /// Names the file of an object that was read from one.
    fn in_file_of(self, resource: &Resource) -> Result<T>;
    /// Names the field.
    fn in_field(self, field: &str) -> Result<T>;
    /// Names the field and which of its items, counted from 0.
    fn in_item(self, field: &str, index: usize) -> Result<T>;
    /// Puts words before the message: what of a field is at fault, such as a file that it names.
    fn of(self, what: impl FnOnce() -> String) -> Result<T>;
    /// Names the object.
    fn in_object(self, object: impl FnOnce() -> String) -> Result<T>;
}

impl<T> At<T> for Result<T> {
    fn in_file(self, file: &str) -> Result<T> {
        self.map_err(|mut fault| {
            if fault.place.file.is_empty() {
                fault.place.file = file.to_string();
            }
            fault
        })
    }

    fn in_file_of(self, resource: &Resource) -> Result<T> {
        match &resource.file {
            Some(file) => self.in_file(file),
            None => self,
        }
    }

    fn in_field(self, field: &str) -> Result<T> {
        self.map_err(|mut fault| {
            if fault.place.field.is_empty() && fault.place.file.is_empty() {
                fault.place.field = field.to_string();
            }
            fault
        })
    }

    fn in_item(self, field: &str, index: usize) -> Result<T> {
        self.map_err(|mut fault| {
            if fault.place.field.is_empty() && fault.place.file.is_empty() {
                fault.place.field = format!("{field}[{index}]");
            }
            fault
        })
    }

    fn of(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|mut fault| {
            fault.prefix(&format!("{}: ", what()));
            fault
        })
    }

    fn in_object(self, object: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|mut fault| {
            if fault.place.object.is_empty() {
                fault.place.object = object();
            }
            fault
        })
    }
}

impl From<Error> for BuildError {
    fn from(fault: Error) -> BuildError {
        let Error {
            class,
            place,
            message,
            ..
        } = fault;
        match class {
            Class::Invalid => BuildError::Invalid { place, message },
            Class::Remote(line) => BuildError::Remote {
                place,
                line,
                url: message,
            },
            Class::Unsupported => BuildError::Unsupported { place, message },
            Class::TooLarge => BuildError::TooLarge { place, message },
            Class::Cancelled => BuildError::Cancelled,
        }
    }
}

impl From<PathError> for Box<Error> {
    fn from(error: PathError) -> Box<Error> {
        match error {
            PathError::Budget { .. } => too_large(error.to_string()),
            PathError::Stopped => cancelled(),
            _ => invalid(error.to_string()),
        }
    }
}

impl From<ParseError> for Box<Error> {
    fn from(error: ParseError) -> Box<Error> {
        match error {
            ParseError::TooLarge { .. } => too_large(error.to_string()),
            _ => invalid(error.to_string()),
        }
    }
}

impl From<LoadError> for Box<Error> {
    fn from(error: LoadError) -> Box<Error> {
        match error {
            LoadError::TooLarge(message) => too_large(message),
            LoadError::Cancelled => cancelled(),
            _ => invalid(error.to_string()),
        }
    }
}

impl From<Box<Error>> for LoadError {
    fn from(fault: Box<Error>) -> LoadError {
        match fault.class {
            Class::TooLarge => LoadError::TooLarge(fault.message),
            Class::Cancelled => LoadError::Cancelled,
            _ => LoadError::Text(fault.message),
        }
    }
}

impl From<ResolveError> for Box<Error> {
    fn from(error: ResolveError) -> Box<Error> {
        invalid(error.to_string())
    }
}
