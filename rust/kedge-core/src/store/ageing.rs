// SPDX-License-Identifier: Apache-2.0
//! When history is old enough to be forgotten, as an API server's compaction does it.
//!
//! The newest revision is noted, and after the age that was asked for everything up to it goes, while the
//! newest one of then is noted. So a change is kept for the age at least, and for twice that at most.
//! While nothing new is there nothing is due.

use std::time::Duration;

use tokio::time::Instant;

/// Decides what goes; the writer asks after each batch, and when it has waited.
pub(crate) struct Ageing {
    age: Option<Duration>,
    /// A revision, and when it was the newest.
    noted: Option<(u64, Instant)>,
    /// Up to here it has gone.
    forgotten: u64,
}

impl Ageing {
    pub(crate) fn new(age: Option<Duration>) -> Self {
        Self { age, noted: None, forgotten: 0 }
    }

    /// How long to wait for the next step; none while there is nothing to wait for.
    pub(crate) fn wait(&self) -> Option<Duration> {
        let (age, (_, since)) = (self.age?, self.noted?);
        Some(age.saturating_sub(since.elapsed()))
    }

    /// Up to which revision history is to be forgotten now, if so.
    pub(crate) fn step(&mut self, newest: u64) -> Option<u64> {
        self.step_at(newest, Instant::now())
    }

    fn step_at(&mut self, newest: u64, now: Instant) -> Option<u64> {
        let age = self.age?;
        let mut due = None;
        if let Some((revision, since)) = self.noted {
            if now.saturating_duration_since(since) < age {
                return None;
            }
            self.noted = None;
            self.forgotten = revision;
            due = Some(revision);
        }
        if newest > self.forgotten {
            self.noted = Some((newest, now));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: Duration = Duration::from_secs(300);

    #[test]
    fn a_change_goes_between_one_age_and_two_after_it_came() {
        let mut ageing = Ageing::new(Some(AGE));
        let start = Instant::now();
        assert_eq!(ageing.step_at(7, start), None);
        assert_eq!(ageing.step_at(8, start + AGE / 2), None);
        assert_eq!(ageing.step_at(9, start + AGE), Some(7));
        assert_eq!(ageing.step_at(9, start + AGE + AGE / 2), None);
        assert_eq!(ageing.step_at(9, start + 2 * AGE), Some(9));
        assert_eq!(ageing.step_at(9, start + 9 * AGE), None);
        assert!(ageing.wait().is_none(), "nothing is left to wait for");
        assert_eq!(ageing.step_at(10, start + 9 * AGE), None);
        assert_eq!(ageing.step_at(10, start + 10 * AGE), Some(10));
    }

    #[test]
    fn an_empty_store_and_one_without_an_age_wait_for_nothing() {
        for mut ageing in [Ageing::new(Some(AGE)), Ageing::new(None)] {
            assert_eq!(ageing.step_at(0, Instant::now()), None);
            assert!(ageing.wait().is_none());
        }
    }
}
