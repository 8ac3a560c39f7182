// SPDX-License-Identifier: Apache-2.0
//! A watch: a cursor over the ring, or over history while it is behind.

use std::ops::Bound;
use std::sync::{Arc, Weak};

use tokio::sync::watch;

use crate::bridge::Bell;
use crate::store::db::from_heed;
use crate::store::history::{self, revision_key, revision_of};
use crate::store::open::{Shared, closed};
use crate::store::read::gone;
use crate::store::{Event, EventKind, Selector, WatchQuery};
use crate::{Error, Kind, Result};

/// The most events of one batch.
const BATCH: usize = 512;

/// Changes after a revision, in order, each once.
pub struct Watcher {
    shared: Weak<Shared>,
    newest: watch::Receiver<u64>,
    cursor: u64,
    resources: Vec<(String, String)>,
    namespace: String,
    selector: Selector,
}

impl Watcher {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        query: &WatchQuery,
        from_revision: u64,
    ) -> Result<Self> {
        let selector = Selector::parse(&query.labels, &query.fields)?;
        let newest = shared.ring.subscribe();
        let watcher = Self {
            newest,
            cursor: from_revision,
            resources: query.resources.clone(),
            namespace: query.namespace.clone(),
            selector,
            shared: Arc::downgrade(shared),
        };
        // A list may have read what was committed a moment ago and reaches the ring in the next.
        let now = shared.ring.newest().max(shared.committed()?);
        if from_revision > now {
            let message = format!("revision {from_revision} is ahead of the newest, {now}");
            return Err(Error::new(Kind::Invalid, message));
        }
        if shared.ring.after(from_revision, 1).is_none() {
            let reading = shared.lmdb.read()?;
            let oldest = shared.lmdb.number(&reading.txn, "oldest")?;
            if from_revision < oldest {
                return Err(gone(from_revision, oldest));
            }
        }
        Ok(watcher)
    }

    /// The next changes; waits for some. `Gone` when history no longer reaches to the cursor.
    pub async fn next(&mut self) -> Result<Vec<Arc<Event>>> {
        loop {
            if let Some(batch) = self.try_next()? {
                return Ok(batch);
            }
            self.newest.changed().await.map_err(|_error| closed())?;
        }
    }

    /// The next changes, if there are some now.
    pub fn try_next(&mut self) -> Result<Option<Vec<Arc<Event>>>> {
        loop {
            self.newest.borrow_and_update();
            let shared = self.shared.upgrade().ok_or_else(closed)?;
            let events = match shared.ring.after(self.cursor, BATCH) {
                Some(events) => events,
                None => self.read_history(&shared)?,
            };
            let Some(last) = events.last() else { return Ok(None) };
            self.cursor = last.revision;
            let passed: Vec<_> = events.into_iter().filter(|event| self.passes(event)).collect();
            if !passed.is_empty() {
                return Ok(Some(passed));
            }
        }
    }

    /// Rings `bell` whenever `try_next` may have something, now as well.
    pub fn attach(&self, bell: &Arc<Bell>) {
        if let Some(shared) = self.shared.upgrade() {
            shared.ring.attach(bell);
        }
        bell.ring();
    }

    /// The revision that everything up to has been seen.
    pub fn revision(&self) -> u64 {
        self.cursor
    }

    fn passes(&self, event: &Event) -> bool {
        let key = &event.key;
        let wanted = self.resources.is_empty()
            || self
                .resources
                .iter()
                .any(|(group, resource)| *group == key.group && *resource == key.resource);
        if !wanted || (!self.namespace.is_empty() && self.namespace != key.namespace) {
            return false;
        }
        self.selector.is_empty()
            || (event.kind == EventKind::Put && self.selector.matches(key, &event.value))
            || event.previous.as_ref().is_some_and(|previous| self.selector.matches(key, previous))
    }

    fn read_history(&self, shared: &Shared) -> Result<Vec<Arc<Event>>> {
        let lmdb = &shared.lmdb;
        let reading = lmdb.read()?;
        let oldest = lmdb.number(&reading.txn, "oldest")?;
        if self.cursor < oldest {
            return Err(gone(self.cursor, oldest));
        }
        let start = revision_key(self.cursor);
        let range = (Bound::Excluded(start.as_slice()), Bound::Unbounded);
        let entries =
            lmdb.history.range(&reading.txn, &range).map_err(|error| from_heed(&error))?;
        let mut events = Vec::new();
        for entry in entries.take(BATCH) {
            let (key, bytes) = entry.map_err(|error| from_heed(&error))?;
            events.push(Arc::new(history::decode(revision_of(key), bytes, shared.seal())?));
        }
        Ok(events)
    }
}
