//! Base64 as Go's `encoding/base64` reads it with `StdEncoding`, and so Kubernetes, Helm and kustomize.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};

/// The last digit of a text may have bits that no byte is made of. Go asks for zeros there only when told to.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Returns the bytes of a text in the standard alphabet with its padding, in which lines may be broken anywhere; none
/// for another text.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let is_break = |byte: &u8| matches!(byte, b'\n' | b'\r');
    if !text.as_bytes().iter().any(is_break) {
        return LENIENT.decode(text).ok();
    }
    let joined: Vec<u8> = text.bytes().filter(|byte| !is_break(byte)).collect();
    LENIENT.decode(joined).ok()
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn base64_is_read_as_gos_std_encoding_reads_it() {
        for (text, bytes) in [
            ("", Some("")),
            ("YQ==", Some("a")),
            // Bits to spare that are not zero.
            ("YR==", Some("a")),
            ("YWJ=", Some("ab")),
            ("Y\r\nQ=\n=\n", Some("a")),
            ("YQ", None),
            ("YQ=", None),
            ("YQ==YQ==", None),
            ("Y Q==", None),
            ("Y_==", None),
            ("Y===", None),
        ] {
            assert_eq!(decode(text).as_deref(), bytes.map(str::as_bytes), "{text:?}");
        }
    }
}
