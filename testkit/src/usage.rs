//! What a process has used, from `/proc`.

use std::{fs, io, time::Duration};

/// In a second, on every machine that Linux runs on (`USER_HZ`).
const TICKS: u32 = 100;

/// Processor time of a process so far, with that of its children that have ended.
///
/// # Errors
/// When there is no such process, or its line in `/proc` is none that Linux writes.
pub fn processor_time(pid: u32) -> io::Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may hold blanks and parentheses; the fields follow its last parenthesis.
    let fields = text.rsplit_once(')').map(|(_, fields)| fields);
    let mut fields = fields
        .ok_or(io::ErrorKind::InvalidData)?
        .split_whitespace()
        .skip(11);
    let mut ticks = 0;
    for _ in 0..4 {
        let field = fields.next().and_then(|field| field.parse::<u32>().ok());
        ticks += field.ok_or(io::ErrorKind::InvalidData)?;
    }
    Ok(Duration::from_secs(ticks.into()) / TICKS)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn processor_time_grows_with_work_and_is_of_living_processes_only() {
        let before = processor_time(std::process::id()).expect("this process lives");
        let began = Instant::now();
        let used = || processor_time(std::process::id()).expect("this process lives") - before;
        while used() < Duration::from_millis(50) {
            assert!(began.elapsed() < Duration::from_secs(60), "it stands still");
        }
        assert!(processor_time(u32::MAX).is_err());
    }
}
