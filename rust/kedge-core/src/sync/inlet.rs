// SPDX-License-Identifier: Apache-2.0
//! What arrived on one lane: duplicates left out, acknowledged only once it is durable here.

use std::collections::BTreeSet;

use crate::sync::Item;
use crate::wire::WireError;
use crate::wire::envelope::Ack;

/// More unsettled objects than a sender that keeps its window can have under way.
const MAX_UNSETTLED: u64 = 4096;

/// The receiving half of one lane.
#[derive(Debug, Default)]
pub struct Inlet {
    /// The last number taken in.
    received: u64,
    /// Everything up to here is settled.
    upto: u64,
    /// Settled, but beyond a gap.
    beyond: BTreeSet<u64>,
    /// Settled since the last acknowledgement, beyond a gap.
    news: Vec<u64>,
    acked: u64,
    waits_for_full: bool,
}

impl Inlet {
    /// Takes in numbered items; gives those that are new, with their numbers.
    pub fn receive(&mut self, first: u64, items: Vec<Item>) -> Result<Vec<(u64, Item)>, WireError> {
        if first == 0 || first.checked_add(items.len() as u64).is_none() {
            return Err(WireError::Malformed("sequence number"));
        }
        if first > self.received + 1 {
            // After a missing base everything comes again from there; what overtook that is dropped.
            return if self.waits_for_full {
                Ok(Vec::new())
            } else {
                Err(WireError::Unexpected("gap in the sequence"))
            };
        }
        let fresh: Vec<_> = (first..).zip(items).filter(|(seq, _)| *seq > self.received).collect();
        if let Some((last, _)) = fresh.last() {
            if last - self.upto > MAX_UNSETTLED {
                return Err(WireError::Unexpected("more under way than the window"));
            }
            self.received = *last;
            self.waits_for_full = false;
        }
        Ok(fresh)
    }

    /// A base of the batch that starts at `first` is not here. Gives the number to send again from,
    /// or none when that was asked already.
    pub fn missing_base(&mut self, first: u64) -> Option<u64> {
        if self.waits_for_full && first != self.received + 1 {
            return None;
        }
        self.waits_for_full = true;
        Some(self.received + 1)
    }

    /// The item numbered `seq` is durable (or refused): it may be acknowledged.
    pub fn settle(&mut self, seq: u64) {
        if seq <= self.upto || seq > self.received || !self.beyond.insert(seq) {
            return;
        }
        self.news.push(seq);
        while self.beyond.remove(&(self.upto + 1)) {
            self.upto += 1;
        }
    }

    /// Everything up to here is settled.
    pub fn settled_upto(&self) -> u64 {
        self.upto
    }

    /// How many items are taken in and not settled.
    pub fn unsettled(&self) -> u64 {
        self.received - self.upto - self.beyond.len() as u64
    }

    /// The acknowledgement that is due, if any.
    pub fn take_ack(&mut self, stream: u32) -> Option<Ack> {
        let upto = self.upto;
        let also: Vec<u64> = self.news.drain(..).filter(|seq| *seq > upto).collect();
        if upto == self.acked && also.is_empty() {
            return None;
        }
        self.acked = upto;
        Some(Ack { stream, upto, also })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Key;

    fn items(count: usize) -> Vec<Item> {
        let item = |n: usize| Item {
            key: Key::of("", "pods", "", &n.to_string()),
            value: None,
            revision: 0,
        };
        (0..count).map(item).collect()
    }

    fn seqs(received: &[(u64, Item)]) -> Vec<u64> {
        received.iter().map(|(seq, _)| *seq).collect()
    }

    #[test]
    fn an_item_is_taken_in_once() {
        let mut inlet = Inlet::default();
        assert_eq!(seqs(&inlet.receive(1, items(2)).unwrap()), [1, 2]);
        assert_eq!(seqs(&inlet.receive(2, items(2)).unwrap()), [3]);
        assert!(inlet.receive(1, items(3)).unwrap().is_empty());
    }

    #[test]
    fn a_gap_breaks_the_protocol_unless_a_full_copy_was_asked_for() {
        let mut inlet = Inlet::default();
        assert!(inlet.receive(2, items(1)).is_err());
        assert_eq!(inlet.missing_base(1), Some(1));
        assert!(inlet.receive(2, items(1)).unwrap().is_empty());
        assert_eq!(inlet.missing_base(2), None);
        assert_eq!(seqs(&inlet.receive(1, items(2)).unwrap()), [1, 2]);
        assert!(inlet.receive(4, items(1)).is_err());
    }

    #[test]
    fn an_acknowledgement_is_due_only_for_what_is_settled() {
        let mut inlet = Inlet::default();
        inlet.receive(1, items(4)).unwrap();
        assert_eq!(inlet.take_ack(1), None);
        inlet.settle(1);
        inlet.settle(3);
        assert_eq!(inlet.take_ack(1), Some(Ack { stream: 1, upto: 1, also: vec![3] }));
        assert_eq!(inlet.take_ack(1), None);
        inlet.settle(2);
        assert_eq!(inlet.take_ack(1), Some(Ack { stream: 1, upto: 3, also: vec![] }));
        inlet.settle(9);
        assert_eq!((inlet.take_ack(1), inlet.unsettled()), (None, 1));
    }

    #[test]
    fn a_sender_that_ignores_the_window_is_refused() {
        let mut inlet = Inlet::default();
        assert!(inlet.receive(1, items(usize::try_from(MAX_UNSETTLED).unwrap() + 1)).is_err());
        assert!(inlet.receive(u64::MAX, items(1)).is_err());
        assert!(inlet.receive(0, items(1)).is_err());
    }
}
