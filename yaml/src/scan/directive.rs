//! Scans directives and tags.

use super::{ScanError, Scanner, TokenKind};

impl<'t> Scanner<'t> {
    pub(super) fn scan_directive(&mut self) -> Result<TokenKind<'t>, ScanError> {
        self.text.skip_ascii(1);
        let name = self.text.take_word();
        if name.is_empty() {
            return Err(self.error("could not find expected directive name"));
        }
        if !self.text.is_blank_or_end(0) {
            return Err(self.error("found unexpected non-alphabetical character"));
        }
        let kind = match name {
            "YAML" => self.scan_version()?,
            "TAG" => self.scan_tag_directive()?,
            _ => return Err(self.error("found unknown directive name")),
        };
        if !self.text.skip_line_end() {
            return Err(self.error("did not find expected comment or line break"));
        }
        self.text.skip_break();
        Ok(kind)
    }

    fn scan_version(&mut self) -> Result<TokenKind<'t>, ScanError> {
        self.text.skip_blanks();
        let major = self.scan_version_number()?;
        if self.text.byte(0) != b'.' {
            return Err(self.error("did not find expected digit or '.' character"));
        }
        self.text.skip_ascii(1);
        Ok(TokenKind::Version(major, self.scan_version_number()?))
    }

    fn scan_version_number(&mut self) -> Result<u8, ScanError> {
        let from = self.text.place();
        let mut number = 0;
        while self.text.byte(0).is_ascii_digit() {
            if self.text.place() - from == 2 {
                return Err(self.error("found extremely long version number"));
            }
            number = number * 10 + (self.text.byte(0) - b'0');
            self.text.skip_ascii(1);
        }
        if self.text.place() == from {
            return Err(self.error("did not find expected version number"));
        }
        Ok(number)
    }

    fn scan_tag_directive(&mut self) -> Result<TokenKind<'t>, ScanError> {
        self.text.skip_blanks();
        let handle = self.scan_tag_handle()?;
        if handle != "!" && !handle.ends_with('!') {
            return Err(self.error("did not find expected '!'"));
        }
        if !self.text.is_blank(0) {
            return Err(self.error("did not find expected whitespace"));
        }
        self.text.skip_blanks();
        let prefix = self.scan_tag_uri(None)?;
        if !self.text.is_blank_or_end(0) {
            return Err(self.error("did not find expected whitespace or line break"));
        }
        Ok(TokenKind::TagDirective { handle, prefix })
    }

    pub(super) fn scan_tag(&mut self) -> Result<TokenKind<'t>, ScanError> {
        let kind = if self.text.byte(1) == b'<' {
            self.text.skip_ascii(2);
            let suffix = self.scan_tag_uri(None)?;
            if self.text.byte(0) != b'>' {
                return Err(self.error("did not find the expected '>'"));
            }
            self.text.skip_ascii(1);
            TokenKind::Tag { handle: "", suffix }
        } else {
            let handle = self.scan_tag_handle()?;
            if handle.len() > 1 && handle.ends_with('!') {
                let suffix = self.scan_tag_uri(None)?;
                TokenKind::Tag { handle, suffix }
            } else {
                let suffix = self.scan_tag_uri(Some(&handle[1..]))?;
                match suffix.as_str() {
                    // The mark alone is a tag of its own.
                    "" => TokenKind::Tag {
                        handle: "",
                        suffix: "!".into(),
                    },
                    _ => TokenKind::Tag { handle: "!", suffix },
                }
            }
        };
        if !self.text.is_blank_or_end(0) {
            return Err(self.error("did not find expected whitespace or line break"));
        }
        Ok(kind)
    }

    /// Scans `!`, `!!` or `!name!`; of a tag that has none, what begins it.
    fn scan_tag_handle(&mut self) -> Result<&'t str, ScanError> {
        if self.text.byte(0) != b'!' {
            return Err(self.error("did not find expected '!'"));
        }
        let from = self.text.place();
        self.text.skip_ascii(1);
        self.text.take_word();
        if self.text.byte(0) == b'!' {
            self.text.skip_ascii(1);
        }
        Ok(self.text.since(from))
    }

    /// Scans what is behind a handle; `head` was read with it. Without a head it must not be empty.
    fn scan_tag_uri(&mut self, head: Option<&str>) -> Result<String, ScanError> {
        let mut uri = head.unwrap_or_default().to_owned();
        let mut is_empty = head.is_none();
        loop {
            match self.text.byte(0) {
                b'%' => uri.push(self.scan_uri_escape()?),
                byte if is_uri(byte) => {
                    uri.push(char::from(byte));
                    self.text.skip_ascii(1);
                }
                _ if is_empty => return Err(self.error("did not find expected tag URI")),
                _ => return Ok(uri),
            }
            is_empty = false;
        }
    }

    /// Scans one character of UTF-8 that is written as escaped octets.
    fn scan_uri_escape(&mut self) -> Result<char, ScanError> {
        let mut octets = Vec::new();
        let mut width = 1;
        while octets.len() < width {
            let digit = |at: usize| char::from(self.text.byte(at)).to_digit(16);
            let octet = match (self.text.byte(0), digit(1), digit(2)) {
                (b'%', Some(high), Some(low)) => u8::try_from(high << 4 | low).unwrap_or_default(),
                _ => return Err(self.error("did not find URI escaped octet")),
            };
            if octets.is_empty() {
                width = match octet {
                    0x00..=0x7f => 1,
                    0xc0..=0xdf => 2,
                    0xe0..=0xef => 3,
                    0xf0..=0xf7 => 4,
                    _ => return Err(self.error("found an incorrect leading UTF-8 octet")),
                };
            }
            octets.push(octet);
            self.text.skip_ascii(3);
        }
        let read = std::str::from_utf8(&octets)
            .ok()
            .and_then(|text| text.chars().next());
        read.ok_or_else(|| self.error("found an incorrect trailing UTF-8 octet"))
    }
}

fn is_uri(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-;/?:@&=+$,.!~*'()[]".contains(&byte)
}
