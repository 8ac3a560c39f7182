// SPDX-License-Identifier: Apache-2.0
//! Full-jitter exponential backoff, as `kedge.aio.Backoff` has it.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The first and the largest ceiling.
const BASE: Duration = Duration::from_millis(500);
/// Few clouds mirror one API server, and nodes wait for what they miss meanwhile.
const CAP: Duration = Duration::from_secs(2);

/// Waits that grow until `reset`.
#[derive(Default)]
pub(super) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// Starts again from the first ceiling.
    pub(super) fn reset(&mut self) {
        self.attempts = 0;
    }

    /// The next wait: anything between zero and the present ceiling.
    pub(super) fn next(&mut self) -> Duration {
        let ceiling = self.ceiling();
        self.attempts = self.attempts.saturating_add(1);
        ceiling.mul_f64(fraction())
    }

    fn ceiling(&self) -> Duration {
        BASE.saturating_mul(1 << self.attempts.min(16)).min(CAP)
    }
}

/// A random number from zero up to one.
pub(super) fn fraction() -> f64 {
    // Seeded by the system for each hasher; jitter needs no more.
    let random = RandomState::new().hash_one(0_u8);
    f64::from(u32::try_from(random >> 32).unwrap_or(0)) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_start_again() {
        let mut backoff = Backoff::default();
        let ceilings: Vec<_> = (0..9)
            .map(|_| {
                let ceiling = backoff.ceiling();
                assert!(backoff.next() <= ceiling);
                ceiling.as_millis()
            })
            .collect();
        assert_eq!(ceilings, [500, 1000, 2000, 2000, 2000, 2000, 2000, 2000, 2000]);
        backoff.reset();
        assert_eq!(backoff.ceiling(), BASE);
    }

    #[test]
    fn a_fraction_is_at_least_zero_and_below_one() {
        assert!((0..1_000).map(|_| fraction()).all(|found| (0.0..1.0).contains(&found)));
    }
}
