//! Any bytes, as the field `data` of an envelope.

use super::Format;
use crate::{
    error::Error,
    tree::{Field, Node},
};

/// Takes the bytes out of the envelope.
pub(super) fn write(documents: &[Vec<Field>]) -> Result<Vec<u8>, Error> {
    let format = Format::Binary;
    let [fields] = documents else {
        return Err(format.inexpressible("there must be exactly one document"));
    };
    let data = fields.iter().find_map(|field| match field {
        Field::Value(name, value) if name == "data" => Some(value),
        _ => None,
    });
    match data {
        Some(Node::Text(bytes)) => Ok(bytes.clone()),
        Some(_) => Err(format.inexpressible("'data' is no text")),
        None => Err(format.inexpressible("it holds no field 'data'")),
    }
}
