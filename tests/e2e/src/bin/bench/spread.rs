//! Percentiles of measured times.

use std::time::Duration;

pub(crate) struct Spread {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

pub(crate) fn spread(times: &[Duration]) -> Spread {
    let mut seconds: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
    seconds.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let index = ((seconds.len() as f64 * share).ceil() as usize).clamp(1, seconds.len()) - 1;
        seconds[index]
    };
    Spread {
        p50: at(0.5),
        p99: at(0.99),
        max: at(1.0),
    }
}
