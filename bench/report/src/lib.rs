//! Figures of benchmarks, as every program behind `make bench` records them. It merges them by name into
//! `target/bench/results.json` and rewrites `docs/benchmarks.md` from the merged set, so that one program's run
//! leaves the others' figures standing. It measures nothing.
//!
//! ```no_run
//! use flotilla_bench_report::{Figure, Record};
//!
//! let mut record = Record::open(".")?;
//! record.add(Figure::new("kustomize_131_ratio", 24.1, "ratio", "medians of 5 runs").at_least(10.0))?;
//! record.close()?;
//! # Ok::<(), flotilla_bench_report::RecordError>(())
//! ```

mod conditions;
mod figure;
mod page;
mod record;

pub use conditions::Conditions;
pub use figure::{Figure, Gate};
pub use record::{Record, RecordError};
