//! How many HTTP/2 frames without content a connection may send: windows, priorities, settings, pings, resets, empty
//! data. They cost their sender next to nothing and are answered or looked at each.

use std::time::Instant;

/// Sent before the first frame.
const PREFACE: usize = 24;
const HEADER: usize = 9;
/// Frames without content each second, with a burst. One that receives 16 MiB a second opens its windows a thousand
/// times; the burst is for some 300 MiB at once.
const PER_SECOND: f64 = 1000.0;
const BURST: f64 = 20_000.0;
/// Data frames of fewer bytes count as well; fuller ones pay for themselves.
const DATA: u8 = 0;
const HEADERS: u8 = 1;

/// Reads the frames of one direction of a connection as its bytes come, and counts those without content.
#[derive(Debug)]
pub struct Frames {
    /// Bytes of the preface, then of the frame's payload, that are still to be passed over.
    skip: usize,
    header: [u8; HEADER],
    filled: usize,
    used: f64,
    at: Option<Instant>,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            skip: PREFACE,
            header: [0; HEADER],
            filled: 0,
            used: 0.0,
            at: None,
        }
    }
}

impl Frames {
    /// Takes the bytes that have come. `false` once there were too many frames without content.
    pub fn take(&mut self, mut bytes: &[u8], now: Instant) -> bool {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let passed = self.skip.min(bytes.len());
                self.skip -= passed;
                bytes = &bytes[passed..];
                continue;
            }
            let wanted = (HEADER - self.filled).min(bytes.len());
            self.header[self.filled..self.filled + wanted].copy_from_slice(&bytes[..wanted]);
            self.filled += wanted;
            bytes = &bytes[wanted..];
            if self.filled == HEADER {
                self.filled = 0;
                self.skip = usize::from(self.header[0]) << 16
                    | usize::from(self.header[1]) << 8
                    | usize::from(self.header[2]);
                let free = match self.header[3] {
                    DATA => self.skip > 0,
                    // A call, bounded as such.
                    HEADERS => true,
                    _ => false,
                };
                if !free && !self.count(now) {
                    return false;
                }
            }
        }
        true
    }

    fn count(&mut self, now: Instant) -> bool {
        let passed = self
            .at
            .map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        self.at = Some(now);
        self.used = (self.used - passed * PER_SECOND).max(0.0) + 1.0;
        self.used <= BURST
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PREFACE_TEXT: &[u8; PREFACE] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).expect("short").to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, 0, 0, 0, 0, 0];
        bytes.resize(HEADER + payload, 7);
        bytes
    }

    #[test]
    fn a_flood_of_frames_without_content_is_noticed_however_its_bytes_are_cut() {
        for kind in [2, 3, 4, 6, 8, 9] {
            for cut in [1, 7, 4096] {
                let mut bytes = PREFACE_TEXT.to_vec();
                (0..21_000).for_each(|_| bytes.extend(frame(kind, 4)));
                let mut frames = Frames::default();
                let now = Instant::now();
                assert!(
                    !bytes.chunks(cut).all(|chunk| frames.take(chunk, now)),
                    "{kind} in pieces of {cut}"
                );
            }
        }
    }

    #[test]
    fn calls_and_content_are_free_and_windows_of_a_fast_reader_are_within_bounds() {
        let (mut frames, start) = (Frames::default(), Instant::now());
        assert!(frames.take(PREFACE_TEXT, start));
        for _ in 0..100_000 {
            assert!(frames.take(&frame(0, 100), start) && frames.take(&frame(1, 10), start));
        }
        // 16 MiB a second read for a minute, two windows for each 32 KiB.
        for number in 0..60 * 1000_u32 {
            let now = start + Duration::from_secs(1) * number / 1000;
            assert!(frames.take(&frame(8, 4), now), "{number}");
        }
        let empty = frame(0, 0);
        assert!(!(0..30_000).all(|_| frames.take(&empty, start + Duration::from_secs(61))));
    }
}
