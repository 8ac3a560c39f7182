// SPDX-License-Identifier: Apache-2.0
//! Opening and closing a store, and what its parts share.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rustix::fs::{FlockOperation, flock};

use crate::store::db::Lmdb;
use crate::store::ring::Ring;
use crate::store::seal::Seal;
use crate::store::writer::{Request, Writer, parse_ops};
use crate::store::{
    Key, ListQuery, Listed, Object, Op, Options, Page, Stats, WatchQuery, Watcher, check, migrate,
};
use crate::{Error, Kind, Result};

const RING_EVENTS: usize = 4096;
/// How often pages are given back while a copy is made.
const TRIM_EVERY: Duration = Duration::from_millis(20);

/// What readers, watchers and the writer share.
pub(crate) struct Shared {
    pub(crate) lmdb: Lmdb,
    pub(crate) options: Options,
    pub(crate) ring: Arc<Ring>,
    seal: Option<Seal>,
}

impl Shared {
    pub(crate) fn seal(&self) -> Option<&Seal> {
        self.seal.as_ref()
    }

    /// The key that this object is sealed with, if it is.
    pub(crate) fn seal_for(&self, key: &Key) -> Option<&Seal> {
        let sealed = self
            .options
            .sealed
            .iter()
            .any(|(group, resource)| *group == key.group && *resource == key.resource);
        self.seal.as_ref().filter(|_| sealed)
    }
}

struct Inner {
    /// None once closed: the last reader or writer that still has it lets the environment go.
    shared: RwLock<Option<Arc<Shared>>>,
    ring: Arc<Ring>,
    queue: Mutex<Option<SyncSender<Request>>>,
    writer: Mutex<Option<Writer>>,
    id: u64,
    lock: Mutex<Option<File>>,
}

impl Inner {
    fn close(&self) -> Result<()> {
        self.queue.lock().take();
        let Some(writer) = self.writer.lock().take() else {
            return Ok(());
        };
        writer.finish();
        let shared = self.shared.write().take();
        let synced = shared.map_or(Ok(()), |shared| shared.lmdb.sync());
        self.ring.close();
        self.lock.lock().take();
        synced
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            log::error!(target: "kedge.store", "closing: {error}");
        }
    }
}

/// The object store of a process; clones share it. One process opens a store at a time.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

impl Store {
    /// Opens the store in the directory `path`, making it when it is absent.
    ///
    /// # Errors
    /// `Corrupt` when its file was cut or scribbled on, `Rejected` when another process has it open,
    /// `Invalid` when a newer kedge wrote it.
    pub fn open(path: &Path, options: Options) -> Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let lock = lock(path)?;
        check::check(&path.join("data.mdb"))?;
        let lmdb = Lmdb::open(path, options.map_size, options.durable)?;
        let seal = options.seal.as_ref().map(Seal::new).transpose()?;
        migrate::migrate(&lmdb, seal.as_ref())?;
        let reading = lmdb.read()?;
        let revision = lmdb.number(&reading.txn, "revision")?;
        let mut id = lmdb.number(&reading.txn, "id")?;
        drop(reading);
        if id == 0 {
            id = fresh_id()?;
            let mut txn = lmdb.write()?;
            lmdb.set_number(&mut txn, "id", id)?;
            txn.commit().map_err(|error| crate::store::db::from_heed(&error))?;
        }
        let events = RING_EVENTS.min(options.history.max(16));
        let ring = Arc::new(Ring::new(revision, events, options.history_bytes / 4));
        let shared = Arc::new(Shared { lmdb, options, ring: Arc::clone(&ring), seal });
        let writer = Writer::start(Arc::clone(&shared))?;
        let queue = Mutex::new(Some(writer.sender()));
        let (shared, lock) = (RwLock::new(Some(shared)), Mutex::new(Some(lock)));
        let inner = Inner { shared, ring, queue, writer: Mutex::new(Some(writer)), id, lock };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Result<Option<Object>> {
        self.open_shared()?.get(key)
    }

    /// A list, or a page of it.
    pub fn list(&self, query: &ListQuery) -> Result<Page> {
        let page = self.open_shared()?.list(query)?;
        if page.items.len() > 1000 || page.remaining > Some(1000) {
            self.trim();
        }
        Ok(page)
    }

    /// Objects that name `uid` as an owner.
    pub fn owned(&self, uid: &str) -> Result<Vec<Listed>> {
        self.open_shared()?.owned(uid)
    }

    /// Queues a transaction; `done` is told the revision of each operation after the fsync, from the
    /// writer's thread, which it must not block. Transactions commit in the order of submission.
    pub fn submit(&self, ops: Vec<Op>, done: impl FnOnce(Result<Vec<u64>>) + Send + 'static) {
        let queue = self.inner.queue.lock().clone();
        let Some(queue) = queue else {
            return done(Err(closed()));
        };
        let parsed = match parse_ops(&ops) {
            Ok(parsed) => parsed,
            Err(error) => return done(Err(error)),
        };
        if let Err(refused) = queue.send(Request { ops, parsed, done: Box::new(done) }) {
            (refused.0.done)(Err(closed()));
        }
    }

    /// The same, waiting for the answer.
    pub fn commit(&self, ops: Vec<Op>) -> Result<Vec<u64>> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.submit(ops, move |result| {
            // The receiver waits below; it cannot be gone.
            let _ = sender.send(result);
        });
        receiver.recv().map_err(|_error| closed())?
    }

    /// Changes after `from_revision`.
    pub fn watch(&self, query: &WatchQuery, from_revision: u64) -> Result<Watcher> {
        Watcher::new(&self.open_shared()?, query, from_revision)
    }

    /// The revision of the last durable change.
    pub fn revision(&self) -> u64 {
        self.inner.ring.newest()
    }

    /// A random number made with the store.
    pub fn store_id(&self) -> u64 {
        self.inner.id
    }

    /// How large it is.
    pub fn stats(&self) -> Result<Stats> {
        let shared = self.open_shared()?;
        let lmdb = &shared.lmdb;
        let reading = lmdb.read()?;
        let count =
            lmdb.objects.len(&reading.txn).map_err(|error| crate::store::db::from_heed(&error))?;
        Ok(Stats {
            revision: lmdb.number(&reading.txn, "revision")?,
            oldest: lmdb.number(&reading.txn, "oldest")?,
            objects: count,
            history: lmdb.number(&reading.txn, "history_entries")?,
            file_bytes: std::fs::metadata(lmdb.path.join("data.mdb"))?.len(),
            map_bytes: lmdb.map_bytes() as u64,
        })
    }

    /// Writes a copy of this moment into an empty file, for a backup; reads and writes go on.
    ///
    /// # Errors
    /// `Full` when its disk is.
    pub fn copy_to(&self, file: &mut File) -> Result<()> {
        let shared = self.open_shared()?;
        std::thread::scope(|scope| {
            // Pages that were copied count as this process's memory until they are given back.
            let (copying, ended) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || {
                while ended.recv_timeout(TRIM_EVERY) == Err(RecvTimeoutError::Timeout) {
                    self.trim();
                }
            });
            let copied = shared.lmdb.copy_to(file);
            drop(copying);
            copied
        })?;
        self.trim();
        file.sync_all()?;
        Ok(())
    }

    /// Gives the map's pages back to the kernel's cache, so that they do not count as this process's.
    pub fn trim(&self) {
        if let Ok(shared) = self.open_shared() {
            crate::pages::release_file(&shared.lmdb.path.join("data.mdb"));
        }
    }

    /// Finishes what was submitted, syncs, and refuses everything after; again does nothing.
    pub fn close(&self) -> Result<()> {
        self.inner.close()
    }

    fn open_shared(&self) -> Result<Arc<Shared>> {
        self.inner.shared.read().clone().ok_or_else(closed)
    }
}

/// Renames a damaged store out of the way, so that a new one can be filled; where it is now.
pub fn set_aside(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for number in 1_u32.. {
        let target = path.with_file_name(format!("{name}.damaged-{number}"));
        if !target.exists() {
            std::fs::rename(path, &target)?;
            return Ok(target);
        }
    }
    Err(Error::new(Kind::Internal, "no free name beside the store"))
}

pub(crate) fn lock(path: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .open(path.join("kedge.lock"))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_error| {
        Error::new(
            Kind::Rejected,
            format!("another process has the store open: {}", path.display()),
        )
    })?;
    Ok(file)
}

pub(crate) fn fresh_id() -> Result<u64> {
    use ring::rand::{SecureRandom, SystemRandom};
    let mut bytes = [0; 8];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_error| Error::new(Kind::Internal, "no random numbers from the system"))?;
    Ok(u64::from_le_bytes(bytes).max(1))
}

pub(crate) fn closed() -> Error {
    Error::new(Kind::Closed, "the store is closed")
}
