// SPDX-License-Identifier: Apache-2.0
//! What waits to be sent and what was sent without an acknowledgement yet.
//!
//! An object waits at most once, with its newest value; it keeps its place in the queue. Sending
//! gives it a sequence number. At most [`WINDOW_ITEMS`] and [`WINDOW_BYTES`] are under way, so many
//! small objects need one round trip together, and a slow receiver is not buried.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::sync::{Change, Key};
use crate::wire::WireError;

/// Objects under way at most.
pub const WINDOW_ITEMS: usize = 512;
/// Bytes under way at most, unless it is a single object.
pub const WINDOW_BYTES: usize = 512 * 1024;
/// Bytes of one batch, unless it is a single object: a batch is one transaction at the receiver.
const BATCH_BYTES: usize = 128 * 1024;

type Place = (u8, u64);

/// Changes numbered from `first` on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The sequence number of the first change.
    pub first: u64,
    /// At least one.
    pub changes: Vec<Change>,
}

#[derive(Debug)]
struct Sent {
    change: Change,
    done: bool,
}

/// The sending half of one lane.
#[derive(Debug)]
pub struct Outbox {
    waiting: BTreeMap<Place, Change>,
    places: HashMap<Key, Place>,
    order: u64,
    waiting_since: u64,
    sent: VecDeque<Sent>,
    /// The sequence number of the first in `sent`.
    first: u64,
    bytes: usize,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            places: HashMap::new(),
            order: 0,
            waiting_since: 0,
            sent: VecDeque::new(),
            first: 1,
            bytes: 0,
        }
    }
}

impl Outbox {
    /// Adds a change, in place of an older one of the same object that still waits.
    pub fn offer(&mut self, mut change: Change, now: u64) {
        if self.waiting.is_empty() {
            self.waiting_since = now;
        }
        let mut order = self.order;
        if let Some(place) = self.places.remove(&change.key)
            && let Some(older) = self.waiting.remove(&place)
        {
            // The receiver holds what the first waiting change was made against.
            change.base = older.base;
            order = place.1;
        } else {
            self.order += 1;
        }
        let place = (change.rank, order);
        self.places.insert(change.key.clone(), place);
        self.waiting.insert(place, change);
    }

    /// Takes back a change that still waits.
    pub fn withdraw(&mut self, key: &Key) {
        if let Some(place) = self.places.remove(key) {
            self.waiting.remove(&place);
        }
    }

    /// Gives numbers to as many waiting changes as fit the window.
    pub fn send(&mut self) -> Option<Outgoing> {
        let first = self.next_seq();
        let mut changes = Vec::new();
        let mut batch = 0;
        while let Some(entry) = self.waiting.first_entry() {
            let size = entry.get().size();
            let full = self.sent.len() >= WINDOW_ITEMS || self.bytes + size > WINDOW_BYTES;
            if (full && !self.sent.is_empty()) || (batch + size > BATCH_BYTES && batch > 0) {
                break;
            }
            let change = entry.remove();
            self.places.remove(&change.key);
            batch += size;
            self.bytes += size;
            changes.push(change.clone());
            self.sent.push_back(Sent { change, done: false });
        }
        (!changes.is_empty()).then_some(Outgoing { first, changes })
    }

    /// What was acknowledged: everything up to `upto`, and `also`. Gives what is newly done.
    pub fn acked(&mut self, upto: u64, also: &[u64]) -> Result<Vec<(Key, u64)>, WireError> {
        let next = self.next_seq();
        if upto >= next || also.iter().any(|seq| *seq >= next) {
            return Err(WireError::Unexpected("acknowledgement of what was not sent"));
        }
        let run = self.first..=upto;
        let done = run.chain(also.iter().copied()).filter_map(|seq| self.finish(seq)).collect();
        self.trim();
        Ok(done)
    }

    /// One change was refused for good.
    pub fn refused(&mut self, seq: u64) -> Result<Option<(Key, u64)>, WireError> {
        if seq >= self.next_seq() {
            return Err(WireError::Unexpected("refusal of what was not sent"));
        }
        let done = self.finish(seq);
        self.trim();
        Ok(done)
    }

    /// What is under way from `first` on, to be sent again with the same numbers.
    pub fn again(&self, first: u64) -> Result<Option<Outgoing>, WireError> {
        if first < self.first || first > self.next_seq() {
            return Err(WireError::Unexpected("request for what is not under way"));
        }
        let skip = usize::try_from(first - self.first).unwrap_or(usize::MAX);
        let changes: Vec<_> = self.sent.iter().skip(skip).map(|sent| sent.change.clone()).collect();
        Ok((!changes.is_empty()).then_some(Outgoing { first, changes }))
    }

    /// Whether nothing waits (something may be under way).
    pub fn is_drained(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many objects wait or are under way.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.sent.iter().filter(|sent| !sent.done).count()
    }

    /// Whether nothing waits and nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many objects wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Since when something waits.
    pub fn waiting_since(&self) -> Option<u64> {
        (!self.waiting.is_empty()).then_some(self.waiting_since)
    }

    /// Whether the window has room.
    pub fn has_room(&self) -> bool {
        self.sent.len() < WINDOW_ITEMS && self.bytes < WINDOW_BYTES
    }

    /// The number that the next sent change gets.
    pub fn next_seq(&self) -> u64 {
        self.first + self.sent.len() as u64
    }

    fn finish(&mut self, seq: u64) -> Option<(Key, u64)> {
        let index = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        let sent = self.sent.get_mut(index).filter(|sent| !sent.done)?;
        sent.done = true;
        self.bytes -= sent.change.size();
        Some((sent.change.key.clone(), sent.change.revision))
    }

    fn trim(&mut self) {
        while self.sent.front().is_some_and(|sent| sent.done) {
            self.sent.pop_front();
            self.first += 1;
        }
        // A hub holds very many of these, nearly all of them idle.
        if self.sent.is_empty() {
            self.sent = VecDeque::new();
        }
        if self.places.is_empty() {
            self.places = HashMap::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::sync::Base;

    fn change(name: &str, value: &'static str, rank: u8) -> Change {
        let value = Some(Bytes::from_static(value.as_bytes()));
        Change { rank, ..Change::new(Key::of("", "pods", "default", name), value, 0) }
    }

    fn names(outgoing: &Outgoing) -> Vec<&str> {
        outgoing.changes.iter().map(|change| change.key.name.as_str()).collect()
    }

    #[test]
    fn a_waiting_object_is_replaced_by_its_newest_value_and_keeps_its_place() {
        let mut outbox = Outbox::default();
        for (name, value) in [("a", "1"), ("b", "1"), ("a", "2")] {
            outbox.offer(change(name, value, 1), 0);
        }
        let sent = outbox.send().unwrap();
        assert_eq!(names(&sent), ["a", "b"]);
        assert_eq!(sent.changes[0].value.as_deref(), Some(&b"2"[..]));
        assert_eq!(outbox.send(), None);
    }

    #[test]
    fn a_replaced_change_keeps_the_base_that_the_receiver_holds() {
        let mut outbox = Outbox::default();
        let base = |text: &'static str| {
            Some(Base { key: None, bytes: Bytes::from_static(text.as_bytes()) })
        };
        outbox.offer(Change { base: base("v1"), ..change("a", "v2", 1) }, 0);
        outbox.offer(Change { base: base("v2"), ..change("a", "v3", 1) }, 0);
        assert_eq!(outbox.send().unwrap().changes[0].base, base("v1"));
    }

    #[test]
    fn what_a_pod_needs_goes_before_the_pod() {
        let mut outbox = Outbox::default();
        outbox.offer(change("pod", "", 1), 0);
        outbox.offer(change("config", "", 0), 0);
        outbox.offer(change("gone", "", 2), 0);
        assert_eq!(names(&outbox.send().unwrap()), ["config", "pod", "gone"]);
    }

    #[test]
    fn the_window_stops_sending_until_an_acknowledgement() {
        let mut outbox = Outbox::default();
        for index in 0..WINDOW_ITEMS + 5 {
            outbox.offer(change(&index.to_string(), "", 1), 0);
        }
        let sent = outbox.send().unwrap();
        assert_eq!((sent.first, sent.changes.len()), (1, WINDOW_ITEMS));
        assert_eq!(outbox.send(), None);
        assert_eq!(outbox.acked(3, &[5]).unwrap().len(), 4);
        let more = outbox.send().unwrap();
        assert_eq!((more.first, more.changes.len()), (WINDOW_ITEMS as u64 + 1, 3));
    }

    #[test]
    fn an_object_larger_than_the_window_is_sent_alone() {
        let mut outbox = Outbox::default();
        let big = Some(Bytes::from(vec![0; WINDOW_BYTES * 2]));
        outbox.offer(Change::new(Key::of("", "secrets", "d", "big"), big, 0), 0);
        outbox.offer(change("small", "", 1), 0);
        assert_eq!(names(&outbox.send().unwrap()), ["big"]);
        assert_eq!(outbox.send(), None);
        outbox.acked(1, &[]).unwrap();
        assert_eq!(names(&outbox.send().unwrap()), ["small"]);
    }

    #[test]
    fn an_acknowledgement_counts_once_and_never_for_what_was_not_sent() {
        let mut outbox = Outbox::default();
        outbox.offer(change("a", "", 1), 0);
        outbox.send();
        assert_eq!(outbox.acked(1, &[1]).unwrap().len(), 1);
        assert_eq!(outbox.acked(1, &[]).unwrap().len(), 0);
        assert!(outbox.acked(2, &[]).is_err());
        assert!(outbox.acked(0, &[7]).is_err());
        assert!(outbox.is_empty());
    }

    #[test]
    fn what_is_asked_for_again_has_the_same_numbers() {
        let mut outbox = Outbox::default();
        for name in ["a", "b", "c"] {
            outbox.offer(change(name, "", 1), 0);
        }
        outbox.send();
        outbox.acked(1, &[]).unwrap();
        let again = outbox.again(2).unwrap().unwrap();
        assert_eq!((again.first, names(&again)), (2, vec!["b", "c"]));
        assert!(outbox.again(1).is_err());
        assert!(outbox.again(9).is_err());
    }
}
