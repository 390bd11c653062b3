//! What a rendering is given besides its values, and what it records of having looked at it.

use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt::Debug;

use crate::yaml::Value;

/// Looks objects up in the cluster, for `lookup`.
pub trait Lookup: Debug {
    /// Returns the object; a list when `name` is empty; an empty map when there is none.
    ///
    /// # Errors
    ///
    /// The text that the template's error quotes.
    fn lookup(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Result<Value, String>;
}

/// How much a rendering may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Steps: nodes, calls and rounds of a loop, and the work of functions. They bound the time too: a million
    /// take well under a second.
    pub steps: u64,
    /// Bytes of output, of all values that functions make, and of what `tpl` parses; and so many again of what the
    /// templates of the chart are parsed to.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            steps: 20_000_000,
            bytes: 256 << 20,
        }
    }
}

/// What a rendering is given besides its values.
#[derive(Debug, Default)]
pub struct Context {
    /// Bounds; what exceeds them is an error.
    pub limits: Limits,
    /// The cluster, when there is one; `lookup` finds nothing without.
    pub cluster: Option<Box<dyn Lookup>>,
    /// What `now` returns, in nanoseconds since 1970.
    pub now: i64,
    /// What random functions draw from.
    pub seed: [u8; 32],
    /// Asked between steps; the rendering fails when it returns true, such as past a deadline.
    pub stop: Option<Stop>,
}

impl Context {
    /// Fails when the caller wants the rendering to stop.
    pub(super) fn go_on(&self) -> Result<(), String> {
        match &self.stop {
            Some(stop) if stop.is_wanted() => Err("the rendering was stopped".to_owned()),
            _ => Ok(()),
        }
    }

    /// Says that all steps are taken.
    pub(super) fn no_more_steps(&self) -> String {
        format!("more than {} steps", self.limits.steps)
    }

    /// Fails where the parsed templates of a chart take so many bytes that there is no room for them.
    pub(super) fn room_for_templates(&self, bytes: usize) -> Result<(), String> {
        match bytes > self.limits.bytes {
            true => Err(format!(
                "more than {} bytes of parsed templates",
                self.limits.bytes
            )),
            false => Ok(()),
        }
    }

    /// Says that there is no room for more.
    pub(super) fn no_more_bytes(&self) -> String {
        format!("more than {} bytes of output and values", self.limits.bytes)
    }

    /// Says the same where templates that `tpl` parsed take some of it.
    pub(super) fn no_more_bytes_with_trees(&self) -> String {
        format!("{}, parsed templates of tpl included", self.no_more_bytes())
    }
}

/// Tells whether to stop.
pub struct Stop(Box<dyn Fn() -> bool>);

impl Stop {
    /// Asks this each time.
    pub fn new(stop: impl Fn() -> bool + 'static) -> Stop {
        Stop(Box::new(stop))
    }

    /// Asks.
    pub fn is_wanted(&self) -> bool {
        (self.0)()
    }
}

impl Debug for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stop")
    }
}

/// What a rendering looked at that the same chart and values do not decide.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reads {
    /// `lookup` was called.
    pub cluster: bool,
    /// `.Capabilities` was read.
    pub capabilities: bool,
    /// `.Release.Revision`, `.Release.IsInstall` or `.Release.IsUpgrade` was read.
    pub revision: bool,
    /// The time was asked for.
    pub clock: bool,
    /// Something random was made.
    pub random: bool,
}

impl Reads {
    /// Returns whether the output is the same wherever and whenever the chart is rendered.
    pub fn is_reproducible(&self) -> bool {
        *self == Reads::default()
    }

    /// Notes what the other noted too.
    pub(super) fn add(&mut self, other: &Reads) {
        self.cluster |= other.cluster;
        self.capabilities |= other.capabilities;
        self.revision |= other.revision;
        self.clock |= other.clock;
        self.random |= other.random;
    }

    /// Notes that a key of that name was read from some map: more is noted than may be meant, never less.
    pub(super) fn key(&mut self, name: &str) {
        match name {
            "Capabilities" => self.capabilities = true,
            "Revision" | "IsInstall" | "IsUpgrade" => self.revision = true,
            _ => {}
        }
    }
}

/// A stream of random bytes for what draws as many as it needs.
#[derive(Debug)]
pub(super) struct Stream(blake3::OutputReader);

impl rand_core::TryRng for Stream {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(bytes);
        Ok(())
    }
}

impl rand_core::TryCryptoRng for Stream {}

/// Random bytes that a seed decides, so that a rendering can be repeated.
#[derive(Debug, Default)]
pub(super) struct Random(RefCell<u64>);

impl Random {
    /// Fills `bytes` with the next ones.
    pub(super) fn fill(&self, seed: &[u8; 32], bytes: &mut [u8]) {
        self.stream(seed).0.fill(bytes);
    }

    /// Returns the next stream; every call returns another.
    pub(super) fn stream(&self, seed: &[u8; 32]) -> Stream {
        let mut drawn = self.0.borrow_mut();
        *drawn += 1;
        let hasher = blake3::Hasher::new_keyed(seed)
            .update(&drawn.to_le_bytes())
            .finalize_xof();
        Stream(hasher)
    }
}
