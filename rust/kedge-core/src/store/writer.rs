// SPDX-License-Identifier: Apache-2.0
//! The one writing thread: group commit, compare-and-swap, indexes and history in one transaction.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;

use bytes::Bytes;
use heed::RwTxn;

use crate::store::ageing::Ageing;
use crate::store::db::{Lmdb, from_heed, is_map_full};
use crate::store::history::{self, revision_key, revision_of};
use crate::store::meta::Parsed;
use crate::store::open::Shared;
use crate::store::record::{Links, Record};
use crate::store::{Event, EventKind, Expect, Key, Mode, Op};
use crate::{Error, Kind, Result};

/// Transactions that may wait for the writer before submitters block.
const QUEUE: usize = 8192;
/// What one LMDB transaction takes at most.
const BATCH_REQUESTS: usize = 1024;
const BATCH_BYTES: usize = 16 << 20;
/// The most operations of one transaction, and the largest object.
const MAX_OPS: usize = 10_000;
const MAX_VALUE: usize = 8 << 20;

/// Told the revisions of the operations once they are durable, or why nothing was done.
pub(crate) type Done = Box<dyn FnOnce(Result<Vec<u64>>) + Send>;

pub(crate) struct Request {
    pub(crate) ops: Vec<Op>,
    /// What each put's JSON says, none for other operations.
    pub(crate) parsed: Vec<Option<Parsed>>,
    pub(crate) done: Done,
}

/// The queue to the writer, and its thread.
pub(crate) struct Writer {
    queue: SyncSender<Request>,
    thread: JoinHandle<()>,
}

impl Writer {
    pub(crate) fn start(shared: Arc<Shared>) -> Result<Self> {
        let (queue, requests) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name("kedge-store".into()).spawn(move || {
            let ageing = Ageing::new(shared.options.history_age);
            Batcher { shared, changed: Vec::new(), ageing }.run(&requests);
        })?;
        Ok(Self { queue, thread })
    }

    pub(crate) fn sender(&self) -> SyncSender<Request> {
        self.queue.clone()
    }

    /// Waits until everything submitted is done.
    pub(crate) fn finish(self) {
        drop(self.queue);
        // The last handle may be dropped by an answer, on the writer's own thread.
        if self.thread.thread().id() != std::thread::current().id() {
            // A panic in the thread was already reported by it.
            let _ = self.thread.join();
        }
    }
}

/// Refuses what is too large, is not JSON, or names an object twice; reads the rest on the caller's thread.
pub(crate) fn parse_ops(ops: &[Op]) -> Result<Vec<Option<Parsed>>> {
    if ops.len() > MAX_OPS {
        let message =
            format!("transaction of {} operations, at most {MAX_OPS} are allowed", ops.len());
        return Err(Error::new(Kind::TooLarge, message));
    }
    let mut seen = HashSet::with_capacity(ops.len());
    let mut parsed = Vec::with_capacity(ops.len());
    for op in ops {
        if let Op::Put { key, value, .. } = op
            && value.len() > MAX_VALUE
        {
            let message =
                format!("object larger than {MAX_VALUE} bytes: {key}: {} bytes", value.len());
            return Err(Error::new(Kind::TooLarge, message));
        }
        if !seen.insert(op.key()) {
            let message = format!("transaction names an object twice: {}", op.key());
            return Err(Error::new(Kind::Invalid, message));
        }
        parsed.push(if let Op::Put { value, .. } = op { Some(Parsed::of(value)?) } else { None });
    }
    Ok(parsed)
}

struct Batcher {
    shared: Arc<Shared>,
    changed: Vec<Arc<Event>>,
    ageing: Ageing,
}

/// What the store's counters become when the batch commits.
#[derive(Clone, Copy)]
struct Counters {
    revision: u64,
    oldest: u64,
    entries: u64,
    bytes: u64,
}

impl Counters {
    fn read(lmdb: &Lmdb, txn: &RwTxn<'_>) -> Result<Self> {
        Ok(Self {
            revision: lmdb.number(txn, "revision")?,
            oldest: lmdb.number(txn, "oldest")?,
            entries: lmdb.number(txn, "history_entries")?,
            bytes: lmdb.number(txn, "history_bytes")?,
        })
    }

    fn write(self, lmdb: &Lmdb, txn: &mut RwTxn<'_>) -> Result<()> {
        lmdb.set_number(txn, "revision", self.revision)?;
        lmdb.set_number(txn, "oldest", self.oldest)?;
        lmdb.set_number(txn, "history_entries", self.entries)?;
        lmdb.set_number(txn, "history_bytes", self.bytes)
    }
}

impl Batcher {
    fn run(mut self, requests: &Receiver<Request>) {
        self.age();
        loop {
            let received = match self.ageing.wait() {
                Some(wait) => requests.recv_timeout(wait),
                None => requests.recv().map_err(|_error| RecvTimeoutError::Disconnected),
            };
            let first = match received {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => {
                    self.age();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut bytes = weight(&first);
            let mut batch = vec![first];
            while batch.len() < BATCH_REQUESTS && bytes < BATCH_BYTES {
                let Ok(next) = requests.try_recv() else { break };
                bytes += weight(&next);
                batch.push(next);
            }
            self.commit(batch);
            self.age();
        }
    }

    /// Forgets the history that is too old, when some may be.
    fn age(&mut self) {
        let newest = self.shared.ring.newest();
        let Some(upto) = self.ageing.step(newest) else { return };
        if let Err(error) = self.forget(upto) {
            log::error!(target: "kedge.store", "old history stays for now: {error}");
        }
    }

    fn forget(&self, upto: u64) -> Result<()> {
        let lmdb = &self.shared.lmdb;
        loop {
            let mut txn = lmdb.write()?;
            let mut counters = Counters::read(lmdb, &txn)?;
            if counters.oldest >= upto {
                return Ok(());
            }
            let done = self.trim(&mut txn, &mut counters, upto).and_then(|()| {
                counters.oldest = counters.oldest.max(upto);
                counters.write(lmdb, &mut txn)?;
                Ok(txn.commit()?)
            });
            match done {
                Ok(()) => return Ok(()),
                Err(Failure::MapFull) => lmdb.grow()?,
                Err(Failure::Other(error)) => return Err(error),
            }
        }
    }

    fn commit(&mut self, batch: Vec<Request>) {
        loop {
            self.changed.clear();
            match self.attempt(&batch) {
                Ok(results) => {
                    self.shared.ring.extend(std::mem::take(&mut self.changed));
                    for (request, result) in batch.into_iter().zip(results) {
                        (request.done)(result);
                    }
                    return;
                }
                Err(Failure::MapFull) => match self.shared.lmdb.grow() {
                    Ok(()) => {}
                    Err(error) => return fail(batch, &error),
                },
                Err(Failure::Other(error)) => return fail(batch, &error),
            }
        }
    }

    /// Applies a batch in one transaction; the outer error means that nothing of it was done.
    fn attempt(&mut self, batch: &[Request]) -> Result<Vec<Result<Vec<u64>>>, Failure> {
        let shared = Arc::clone(&self.shared);
        let lmdb = &shared.lmdb;
        let mut txn = lmdb.write()?;
        let mut counters = Counters::read(lmdb, &txn)?;
        let before = counters.revision;
        let mut results = Vec::with_capacity(batch.len());
        for request in batch {
            results.push(match self.prepare(&txn, request, counters.revision) {
                Ok(prepared) => Ok(self.apply(&mut txn, prepared, &mut counters)?),
                Err(error) if error.kind == Kind::Corrupt => return Err(Failure::Other(error)),
                Err(error) => Err(error),
            });
        }
        if counters.revision == before {
            return Ok(results);
        }
        self.trim(&mut txn, &mut counters, 0)?;
        counters.write(lmdb, &mut txn)?;
        txn.commit()?;
        Ok(results)
    }

    /// Checks every expectation of a request and builds its records, changing nothing.
    fn prepare(&self, txn: &RwTxn<'_>, request: &Request, revision: u64) -> Result<Vec<Prepared>> {
        let mut prepared = Vec::with_capacity(request.ops.len());
        let mut next = revision;
        for (op, parsed) in request.ops.iter().zip(&request.parsed) {
            let raw_key = op.key().encode()?;
            let seal = self.shared.seal_for(op.key());
            let found =
                self.shared.lmdb.objects.get(txn, &raw_key).map_err(|error| from_heed(&error))?;
            let old = found
                .map(|bytes| Record::decode(&raw_key, bytes, self.shared.seal()))
                .transpose()?;
            expect(op.key(), op.expect(), old.as_ref())?;
            let new = match op {
                Op::Check { .. } => None,
                Op::Delete { .. } if old.is_none() => None,
                Op::Delete { .. } => {
                    next += 1;
                    Some(None)
                }
                Op::Put { value, .. } => {
                    next += 1;
                    let (value, links) = match (self.shared.options.mode, parsed) {
                        (Mode::Primary, Some(parsed)) => {
                            (Bytes::from(parsed.stamp(value, next)), parsed.links.clone())
                        }
                        (_, parsed) => (
                            value.clone(),
                            parsed.as_ref().map(|parsed| parsed.links.clone()).unwrap_or_default(),
                        ),
                    };
                    let created = old.as_ref().map_or(next, |record| record.created);
                    let record = Record { created, modified: next, links, value };
                    let bytes = record.encode(&raw_key, seal)?;
                    Some(Some((record, bytes)))
                }
            };
            let held = old.as_ref().map_or(revision, |record| record.modified);
            let change = new.map(|new| Change { old, new, revision: next });
            prepared.push(Prepared { key: op.key().clone(), raw_key, change, held });
        }
        Ok(prepared)
    }

    fn apply(
        &mut self,
        txn: &mut RwTxn<'_>,
        prepared: Vec<Prepared>,
        counters: &mut Counters,
    ) -> Result<Vec<u64>, Failure> {
        let shared = Arc::clone(&self.shared);
        let mut revisions = Vec::with_capacity(prepared.len());
        for item in prepared {
            let Some(change) = item.change else {
                revisions.push(item.held);
                continue;
            };
            let value = change.new.as_ref().map(|(record, _)| record.value.clone());
            let old_links = change.old.as_ref().map(|record| &record.links);
            let new_links = change.new.as_ref().map(|(record, _)| &record.links);
            self.index(txn, &item.raw_key, old_links, new_links)?;
            match &change.new {
                Some((_, bytes)) => shared.lmdb.objects.put(txn, &item.raw_key, bytes)?,
                None => {
                    shared.lmdb.objects.delete(txn, &item.raw_key)?;
                }
            }
            let event = Event {
                kind: if value.is_some() { EventKind::Put } else { EventKind::Delete },
                revision: change.revision,
                created: change.old.is_none(),
                previous: change.old.map(|record| record.value),
                value: value.unwrap_or_default(),
                key: item.key,
            };
            let entry = history::encode(&event, &item.raw_key, shared.seal_for(&event.key))?;
            shared.lmdb.history.put(txn, &revision_key(event.revision), &entry)?;
            counters.entries += 1;
            counters.bytes += entry.len() as u64;
            counters.revision = event.revision;
            revisions.push(event.revision);
            self.changed.push(Arc::new(event));
        }
        Ok(revisions)
    }

    fn index(
        &self,
        txn: &mut RwTxn<'_>,
        raw_key: &[u8],
        old: Option<&Links>,
        new: Option<&Links>,
    ) -> Result<(), Failure> {
        if old == new {
            return Ok(());
        }
        let (old_node, old_owners) = entries(old, raw_key);
        let (new_node, new_owners) = entries(new, raw_key);
        let lmdb = &self.shared.lmdb;
        for (db, old, new) in
            [(lmdb.by_node, old_node, new_node), (lmdb.by_owner, old_owners, new_owners)]
        {
            for entry in old.iter().filter(|entry| !new.contains(entry)) {
                db.delete(txn, entry)?;
            }
            for entry in new.iter().filter(|entry| !old.contains(entry)) {
                db.put(txn, entry, &crc32fast::hash(entry).to_le_bytes())?;
            }
        }
        Ok(())
    }

    /// Forgets the oldest history: all up to a revision, and what is too much.
    fn trim(&self, txn: &mut RwTxn<'_>, counters: &mut Counters, upto: u64) -> Result<(), Failure> {
        let lmdb = &self.shared.lmdb;
        let options = &self.shared.options;
        loop {
            let too_much = counters.entries > options.history as u64
                || counters.bytes > options.history_bytes as u64;
            if !too_much && counters.oldest >= upto {
                break;
            }
            let Some((key, entry)) = lmdb.history.first(txn)? else { break };
            let (revision, size) = (revision_of(key), entry.len() as u64);
            if !too_much && revision > upto {
                break;
            }
            lmdb.history.delete(txn, &revision_key(revision))?;
            counters.entries -= 1;
            counters.bytes = counters.bytes.saturating_sub(size);
            counters.oldest = revision;
        }
        Ok(())
    }
}

struct Prepared {
    key: Key,
    raw_key: Vec<u8>,
    change: Option<Change>,
    held: u64,
}

struct Change {
    old: Option<Record>,
    new: Option<(Record, Vec<u8>)>,
    revision: u64,
}

enum Failure {
    MapFull,
    Other(Error),
}

impl From<heed::Error> for Failure {
    fn from(error: heed::Error) -> Self {
        if is_map_full(&error) { Self::MapFull } else { Self::Other(from_heed(&error)) }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        if error.kind == Kind::Full && error.message.contains("MDB_MAP_FULL") {
            Self::MapFull
        } else {
            Self::Other(error)
        }
    }
}

fn fail(batch: Vec<Request>, error: &Error) {
    log::error!(target: "kedge.store", "a transaction failed, nothing of it was written: {error}");
    for request in batch {
        (request.done)(Err(error.clone()));
    }
}

fn weight(request: &Request) -> usize {
    let value = |op: &Op| if let Op::Put { value, .. } = op { value.len() } else { 0 };
    request.ops.iter().map(value).sum()
}

fn expect(key: &Key, wanted: Expect, found: Option<&Record>) -> Result<()> {
    match (wanted, found) {
        (Expect::Any, _) | (Expect::Absent, None) | (Expect::Present, Some(_)) => Ok(()),
        (Expect::Absent, Some(_)) => {
            Err(Error::new(Kind::AlreadyExists, format!("already exists: {key}")))
        }
        (Expect::Present | Expect::Revision(_), None) => {
            Err(Error::new(Kind::NotFound, format!("not found: {key}")))
        }
        (Expect::Revision(wanted), Some(record)) if record.modified == wanted => Ok(()),
        (Expect::Revision(wanted), Some(record)) => {
            let message = format!(
                "changed meanwhile: {key}: at revision {}, wanted {wanted}",
                record.modified
            );
            Err(Error::new(Kind::Conflict, message))
        }
    }
}

/// Index keys: the value indexed, a zero byte, the object's key.
fn entries(links: Option<&Links>, raw_key: &[u8]) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let Some(links) = links else {
        return (Vec::new(), Vec::new());
    };
    let entry = |text: &str| {
        let mut entry = Vec::with_capacity(text.len() + 1 + raw_key.len());
        entry.extend_from_slice(text.as_bytes());
        entry.push(0);
        entry.extend_from_slice(raw_key);
        (entry.len() <= 511).then_some(entry)
    };
    let node = (!links.node.is_empty()).then(|| entry(&links.node)).flatten();
    (node.into_iter().collect(), links.owners.iter().filter_map(|uid| entry(uid)).collect())
}
