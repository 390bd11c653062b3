//! `lookup`: objects of the cluster.

use super::{Function, reading, text};
use crate::helm::eval::Interp;
use crate::helm::exec_error::ExecError;
use crate::helm::value::{Entries, Val};

pub(super) const FUNCTIONS: &[Function] = &[reading("lookup", "ssss", lookup)];

fn lookup(interp: &mut Interp<'_>, args: &[Val]) -> Result<Val, Box<ExecError>> {
    interp.reads.cluster = true;
    let Some(cluster) = &interp.context.cluster else {
        return Ok(Val::map(Entries::new()));
    };
    let found = cluster.lookup(text(args, 0), text(args, 1), text(args, 2), text(args, 3));
    found.map(|value| Val::from(&value)).map_err(ExecError::plain)
}
