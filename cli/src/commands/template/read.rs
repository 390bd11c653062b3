//! Reads files, and standard input, within bounds.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::mem;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use flotilla_core::text::address::shown_address;
use flotilla_render::helm::context::Stop;

use super::error::{Over, TemplateError};
use crate::Host;

/// The most bytes of a values file, or of one that `--set-file` names.
pub(super) const MAX_FILE_BYTES: u64 = 5 << 20;
/// How often the caller is asked whether to stop while a pipe gives nothing.
const ASKED_EVERY: Duration = Duration::from_millis(50);

pub(super) fn read_file(name: &str, stop: &Stop, host: &mut Host) -> Result<Vec<u8>, TemplateError> {
    if name.trim() == "-" {
        // All of it is read: whoever asks again gets nothing.
        let stdin = mem::replace(&mut host.stdin, Box::new(io::empty()));
        return read_slow(|| Ok(stdin), name, MAX_FILE_BYTES, stop);
    }
    if fs::metadata(name).is_ok_and(|found| !found.is_file()) {
        let path = name.to_owned();
        return read_slow(|| File::open(path), name, MAX_FILE_BYTES, stop);
    }
    let file = File::open(name).map_err(|source| match source.kind() {
        ErrorKind::NotFound if name.contains("://") => TemplateError::NotFetched(shown_address(name)),
        _ => unreadable(name, source),
    })?;
    read_bounded(file, name, MAX_FILE_BYTES, stop)
}

/// Reads what may give nothing for as long as it likes, such as a pipe. A thread waits for it, and is left behind once the
/// caller wants to stop.
fn read_slow<R: Read>(
    open: impl FnOnce() -> io::Result<R> + Send + 'static,
    name: &str,
    limit: u64,
    stop: &Stop,
) -> Result<Vec<u8>, TemplateError> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = open().and_then(|from| from.take(limit + 1).read_to_end(&mut bytes));
        // Nobody waits any longer when the time is over.
        _ = sender.send(read.map(|_| bytes));
    });
    loop {
        if stop.is_wanted() {
            return Err(TemplateError::Stopped(name.to_owned()));
        }
        let read = match receiver.recv_timeout(ASKED_EVERY) {
            Ok(read) => read,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => Err(ErrorKind::UnexpectedEof.into()),
        };
        let bytes = read.map_err(|source| unreadable(name, source))?;
        check_length(&bytes, name, (Over::File(limit), limit))?;
        return Ok(bytes);
    }
}

pub(super) fn read_bounded(
    from: impl Read,
    name: &str,
    limit: u64,
    stop: &Stop,
) -> Result<Vec<u8>, TemplateError> {
    let mut bytes = Vec::new();
    read_into(&mut bytes, from, name, (Over::File(limit), limit), stop)?;
    Ok(bytes)
}

/// Puts what can be read in place of what the buffer holds.
pub(super) fn read_into(
    bytes: &mut Vec<u8>,
    from: impl Read,
    name: &str,
    (over, limit): (Over, u64),
    stop: &Stop,
) -> Result<(), TemplateError> {
    bytes.clear();
    let stopped = Cell::new(false);
    let from = Stopping {
        from,
        stop,
        stopped: &stopped,
    };
    let read = from.take(limit + 1).read_to_end(bytes);
    if stopped.get() {
        return Err(TemplateError::Stopped(name.to_owned()));
    }
    read.map_err(|source| unreadable(name, source))?;
    check_length(bytes, name, (over, limit))
}

fn check_length(bytes: &[u8], name: &str, (over, limit): (Over, u64)) -> Result<(), TemplateError> {
    let path = || name.to_owned();
    match bytes.len() as u64 > limit {
        true => Err(TemplateError::TooLarge { path: path(), over }),
        false => Ok(()),
    }
}

/// What is read, of which no more comes once the caller wants to stop. One read that lasts is not interrupted.
struct Stopping<'s, R> {
    from: R,
    stop: &'s Stop,
    stopped: &'s Cell<bool>,
}

impl<R: Read> Read for Stopping<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.is_wanted() {
            self.stopped.set(true);
            return Err(ErrorKind::Other.into());
        }
        self.from.read(buffer)
    }
}

pub(super) fn unreadable(path: &str, source: std::io::Error) -> TemplateError {
    TemplateError::Read {
        path: path.to_owned(),
        source,
    }
}
