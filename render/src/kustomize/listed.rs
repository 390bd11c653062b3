//! Where a kustomization lists a patch or a replacement: errors of applying one name it as those of reading it do.

use std::fmt;
use std::rc::Rc;

use super::error::{At, Result};

/// The place of an entry, and of several in one file, which of them.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    place: Rc<str>,
    part: Option<usize>,
}

impl Listed {
    /// The item of a field, or the field where its object stands elsewhere; `file` is shown, and empty for what stands
    /// in place.
    pub(crate) fn new(field: &str, index: Option<usize>, file: &str) -> Listed {
        let item = match index {
            Some(index) => format!("{field}[{index}]"),
            None => field.to_owned(),
        };
        let place = match file {
            "" => item,
            file => format!("{item}: {file}"),
        };
        Listed {
            place: place.into(),
            part: None,
        }
    }

    /// One of several in the file.
    pub(crate) fn part(&self, index: usize) -> Listed {
        Listed {
            part: Some(index),
            ..self.clone()
        }
    }

    /// Names the place in a failure.
    pub(crate) fn named<T>(&self, result: Result<T>) -> Result<T> {
        match self.part {
            Some(part) => result.in_item(&self.place, part),
            None => result.in_field(&self.place),
        }
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)?;
        match self.part {
            Some(part) => write!(f, "[{part}]"),
            None => Ok(()),
        }
    }
}
