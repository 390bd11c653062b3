//! Base64 of `!!binary`, as Go's `encoding/base64` reads it with `StdEncoding`.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};

/// The last digit of a text may have bits that no byte is made of. Go asks for zeros there only when told to.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Returns the bytes of a text, in which lines may be broken anywhere; none for one that is no base64.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let joined: Vec<u8> = text
        .bytes()
        .filter(|byte| !matches!(byte, b'\n' | b'\r'))
        .collect();
    LENIENT.decode(joined).ok()
}
