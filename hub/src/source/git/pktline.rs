//! Git's pkt-line framing: four hexadecimal digits of length, then that many bytes less four. Decoded as bytes
//! arrive, so that an answer of any length needs the memory of one line.

use bytes::{Buf as _, BytesMut};

/// The largest line git sends.
const MAX_LINE: usize = 65520;

/// One packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// `0000`: the end of a message.
    Flush,
    /// `0001`: the end of a section.
    Delimiter,
    /// `0002`: the end of a stateless response.
    ResponseEnd,
    /// A line, the newline at its end removed.
    Line(Vec<u8>),
}

/// Bytes that are no pkt-lines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The four digits are none, or name an impossible length.
    #[error("invalid pkt-line length {0:?}")]
    Length(String),
    /// The bytes end within a line.
    #[error("the answer ends within a pkt-line")]
    Truncated,
}

/// Splits bytes into packets, in whatever pieces they come.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// Takes bytes in.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next whole packet, `None` until more bytes come.
    pub fn next_packet(&mut self) -> Result<Option<Packet>, Malformed> {
        let Some(prefix) = self.buffer.get(..4) else {
            return Ok(None);
        };
        let length = length_of(prefix)?;
        let special = match length {
            0 => Some(Packet::Flush),
            1 => Some(Packet::Delimiter),
            2 => Some(Packet::ResponseEnd),
            _ => None,
        };
        if let Some(packet) = special {
            self.buffer.advance(4);
            return Ok(Some(packet));
        }
        if self.buffer.len() < length {
            return Ok(None);
        }
        let mut line = self.buffer.split_to(length).split_off(4).to_vec();
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        Ok(Some(Packet::Line(line)))
    }

    /// Tells that no more bytes come.
    pub fn finish(&self) -> Result<(), Malformed> {
        if self.buffer.is_empty() {
            Ok(())
        } else {
            Err(Malformed::Truncated)
        }
    }
}

fn length_of(prefix: &[u8]) -> Result<usize, Malformed> {
    let malformed = || Malformed::Length(String::from_utf8_lossy(prefix).into_owned());
    let digits = std::str::from_utf8(prefix)
        .ok()
        .filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
    let length = digits
        .and_then(|digits| usize::from_str_radix(digits, 16).ok())
        .ok_or_else(malformed)?;
    if length == 3 || length > MAX_LINE {
        Err(malformed())
    } else {
        Ok(length)
    }
}

/// Appends a line, with the newline that git's own client sends.
pub fn write_line(line: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{:04x}{line}\n", line.len() + 5).as_bytes());
}

/// Appends a delimiter.
pub fn write_delimiter(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0001");
}

/// Appends a flush.
pub fn write_flush(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0000");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(pieces: &[&[u8]]) -> Result<Vec<Packet>, Malformed> {
        let mut decoder = Decoder::default();
        let mut packets = Vec::new();
        for piece in pieces {
            decoder.push(piece);
            while let Some(packet) = decoder.next_packet()? {
                packets.push(packet);
            }
        }
        decoder.finish()?;
        Ok(packets)
    }

    #[test]
    fn packets_come_out_the_same_however_the_bytes_are_cut() {
        let bytes = b"000eversion 2\n0001000bls-refs00000004";
        let whole = decode(&[bytes]).expect("well-formed");
        assert_eq!(
            whole,
            [
                Packet::Line(b"version 2".to_vec()),
                Packet::Delimiter,
                Packet::Line(b"ls-refs".to_vec()),
                Packet::Flush,
                Packet::Line(Vec::new()),
            ]
        );
        for cut in 0..bytes.len() {
            assert_eq!(
                decode(&[&bytes[..cut], &bytes[cut..]]).as_ref(),
                Ok(&whole),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn impossible_lengths_and_a_cut_line_are_refused() {
        for bytes in [
            &b"0003"[..],
            b"fff1",
            b"zzzz",
            b"+00a",
            b"<htm",
            b"\xff\xff\xff\xff",
        ] {
            assert!(matches!(decode(&[bytes]), Err(Malformed::Length(_))), "{bytes:?}");
        }
        assert_eq!(decode(&[b"000eversi"]), Err(Malformed::Truncated));
        assert_eq!(decode(&[b"00"]), Err(Malformed::Truncated));
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut out = Vec::new();
        write_line("command=ls-refs", &mut out);
        write_delimiter(&mut out);
        write_flush(&mut out);
        assert_eq!(out, b"0014command=ls-refs\n00010000");
    }
}
