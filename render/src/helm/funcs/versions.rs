//! Semantic versions.

use std::rc::Rc;

use flotilla_core::version::{Version, VersionRange};

use super::{Function, pure, text};
use crate::helm::object::Object;
use crate::helm::value::Val;

pub(super) const FUNCTIONS: &[Function] = &[
    pure("semver", "s", |args| {
        let version = Version::parse(text(args, 0)).map_err(|cause| cause.to_string())?;
        Ok(Val::Object(Rc::new(Object::Version(version))))
    }),
    pure("semverCompare", "ss", |args| {
        let range = VersionRange::parse(text(args, 0)).map_err(|cause| cause.to_string())?;
        let version = Version::parse(text(args, 1)).map_err(|cause| cause.to_string())?;
        Ok(range.contains(&version).into())
    }),
];
