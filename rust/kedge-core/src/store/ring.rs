// SPDX-License-Identifier: Apache-2.0
//! The latest changes in memory, for watchers that keep up.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::bridge::Bell;
use crate::store::Event;

struct Held {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// The revision before the first event held.
    floor: u64,
}

/// A bounded run of the latest changes, and a signal for each new one.
pub(crate) struct Ring {
    held: RwLock<Held>,
    max_events: usize,
    max_bytes: usize,
    newest: watch::Sender<u64>,
    bells: Mutex<Vec<Weak<Bell>>>,
}

impl Ring {
    pub(crate) fn new(revision: u64, max_events: usize, max_bytes: usize) -> Self {
        let held = Held { events: VecDeque::new(), bytes: 0, floor: revision };
        Self {
            held: RwLock::new(held),
            max_events,
            max_bytes,
            newest: watch::Sender::new(revision),
            bells: Mutex::default(),
        }
    }

    /// Adds changes that are durable, and tells the watchers.
    pub(crate) fn extend(&self, events: Vec<Arc<Event>>) {
        let Some(last) = events.last().map(|event| event.revision) else {
            return;
        };
        let mut held = self.held.write();
        for event in events {
            held.bytes += event.weight();
            held.events.push_back(event);
        }
        while held.events.len() > self.max_events || held.bytes > self.max_bytes {
            let Some(oldest) = held.events.pop_front() else { break };
            held.bytes -= oldest.weight();
            held.floor = oldest.revision;
        }
        drop(held);
        self.newest.send_replace(last);
        self.ring_bells();
    }

    /// Up to `limit` changes after `revision`, or none when the ring does not reach back that far.
    pub(crate) fn after(&self, revision: u64, limit: usize) -> Option<Vec<Arc<Event>>> {
        let held = self.held.read();
        if revision < held.floor {
            return None;
        }
        let start = held.events.partition_point(|event| event.revision <= revision);
        Some(held.events.range(start..).take(limit).cloned().collect())
    }

    /// A receiver that changes with the newest revision.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Forgets the changes and wakes all watchers, which then see that the store is closed.
    pub(crate) fn close(&self) {
        self.held.write().events.clear();
        self.newest.send_modify(|_| {});
        self.ring_bells();
    }

    /// Rings `bell` at each change, for as long as somebody else holds it.
    pub(crate) fn attach(&self, bell: &Arc<Bell>) {
        self.bells.lock().push(Arc::downgrade(bell));
    }

    fn ring_bells(&self) {
        self.bells.lock().retain(|bell| bell.upgrade().inspect(|bell| bell.ring()).is_some());
    }

    /// The revision of the last durable change.
    pub(crate) fn newest(&self) -> u64 {
        *self.newest.borrow()
    }
}
