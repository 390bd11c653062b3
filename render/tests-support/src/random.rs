//! Random inputs that can be made again: a generator with a seed, and how many inputs a run takes.

/// A small generator of numbers, enough for choices. The same seed gives the same inputs.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Random {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        // Seeds that lie beside each other begin alike.
        (0..4).for_each(|_| _ = random.next());
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// Returns a number below a limit; 0 when there is none.
    pub fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.next() % limit).expect("below a limit that is one")
    }

    /// Returns true once in so many times.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// Returns one of some texts.
    pub fn pick<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.below(texts.len())]
    }
}

/// Returns how many random inputs a test takes: `FLOTILLA_CASES`, or so many.
pub fn cases(usual: usize) -> usize {
    variable("FLOTILLA_CASES").unwrap_or(usual)
}

/// Returns the seed that a test begins from: `FLOTILLA_SEED`, or this one.
pub fn seed(usual: u64) -> u64 {
    variable("FLOTILLA_SEED").unwrap_or(usual)
}

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}
