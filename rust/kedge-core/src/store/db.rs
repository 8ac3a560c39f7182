// SPDX-License-Identifier: Apache-2.0
//! The LMDB environment: its databases and its growth.

use std::fs::File;
use std::path::{Path, PathBuf};

use heed::types::Bytes as Raw;
use heed::{
    CommitOrAbort, CompactionOption, Database, Env, EnvFlags, EnvOpenOptions, MdbError, RoTxn,
    RwTxn, WithoutTls,
};
use parking_lot::{RwLock, RwLockReadGuard};

use crate::store::record::number;
use crate::{Error, Kind, Result};

const MAX_MAP: usize = 1 << 40;

pub(crate) type Db = Database<'static, Raw, Raw>;

/// The environment; readers share `growth`, a resize takes it alone.
pub(crate) struct Lmdb {
    env: Env<WithoutTls>,
    growth: RwLock<usize>,
    pub(crate) path: PathBuf,
    pub(crate) meta: Db,
    pub(crate) objects: Db,
    pub(crate) history: Db,
    pub(crate) by_node: Db,
    pub(crate) by_owner: Db,
}

/// A read transaction that holds off a resize while it lives.
pub(crate) struct Reading<'a> {
    pub(crate) txn: RoTxn<'a, WithoutTls>,
    _growth: RwLockReadGuard<'a, usize>,
}

impl Lmdb {
    pub(crate) fn open(path: &Path, map_size: usize, durable: bool) -> Result<Self> {
        let page = 4096;
        let present = std::fs::metadata(path.join("data.mdb")).map_or(0, |data| data.len());
        let wanted =
            map_size.max(usize::try_from(present).unwrap_or(MAX_MAP)).div_ceil(page) * page;
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(wanted).max_dbs(8).max_readers(256);
        #[allow(unsafe_code, reason = "the file was checked and is locked by this process alone")]
        let env = unsafe {
            if !durable {
                options.flags(EnvFlags::NO_SYNC | EnvFlags::NO_META_SYNC);
            }
            options.open(path)
        }
        .map_err(|error| from_heed(&error))?;
        let txn = env.write_txn().map_err(|error| from_heed(&error))?;
        let databases = env
            .create_databases_and_commit(txn, |opener, txn| {
                let mut create = |name| opener.create_database::<Raw, Raw>(txn, Some(name));
                let databases = [
                    create("meta")?,
                    create("objects")?,
                    create("history")?,
                    create("by_node")?,
                    create("by_owner")?,
                ];
                Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(databases))
            })
            .map_err(|error| from_heed(&error))?;
        let [meta, objects, history, by_node, by_owner] = databases
            .commit()
            .ok_or_else(|| Error::new(Kind::Internal, "LMDB did not open its databases"))?;
        let growth = RwLock::new(wanted);
        Ok(Self { env, growth, path: path.to_owned(), meta, objects, history, by_node, by_owner })
    }

    pub(crate) fn read(&self) -> Result<Reading<'_>> {
        let growth = self.growth.read();
        let txn = self.env.read_txn().map_err(|error| from_heed(&error))?;
        Ok(Reading { txn, _growth: growth })
    }

    /// A write transaction; the writer thread is the only caller, so a resize cannot meet it.
    pub(crate) fn write(&self) -> Result<RwTxn<'_>> {
        self.env.write_txn().map_err(|error| from_heed(&error))
    }

    /// Doubles the map; waits for readers to end.
    pub(crate) fn grow(&self) -> Result<()> {
        let mut size = self.growth.write();
        let wanted = size.saturating_mul(2).min(MAX_MAP);
        if wanted == *size {
            return Err(Error::new(
                Kind::Full,
                format!("the map cannot grow beyond {MAX_MAP} bytes"),
            ));
        }
        #[allow(
            unsafe_code,
            reason = "no transaction is open: readers hold the lock, we are the writer"
        )]
        unsafe { self.env.resize(wanted) }.map_err(|error| from_heed(&error))?;
        *size = wanted;
        Ok(())
    }

    pub(crate) fn map_bytes(&self) -> usize {
        *self.growth.read()
    }

    /// Writes all of one moment into a file, without the pages that are free. Readers and the writer go
    /// on meanwhile; only a resize waits.
    pub(crate) fn copy_to(&self, file: &mut File) -> Result<()> {
        let _growth = self.growth.read();
        self.env.copy_to_file(file, CompactionOption::Enabled).map_err(|error| from_heed(&error))
    }

    /// Forces what was committed to the disk.
    pub(crate) fn sync(&self) -> Result<()> {
        self.env.force_sync().map_err(|error| from_heed(&error))
    }

    pub(crate) fn number(&self, txn: &RoTxn<'_>, name: &str) -> Result<u64> {
        let found = self.meta.get(txn, name.as_bytes()).map_err(|error| from_heed(&error))?;
        Ok(found.map_or(0, number))
    }

    pub(crate) fn set_number(&self, txn: &mut RwTxn<'_>, name: &str, value: u64) -> Result<()> {
        self.meta.put(txn, name.as_bytes(), &value.to_le_bytes()).map_err(|error| from_heed(&error))
    }
}

pub(crate) fn from_heed(error: &heed::Error) -> Error {
    let kind = match error {
        heed::Error::Mdb(MdbError::MapFull) => Kind::Full,
        heed::Error::Mdb(
            MdbError::Corrupted
            | MdbError::PageNotFound
            | MdbError::Invalid
            | MdbError::Panic
            | MdbError::VersionMismatch,
        ) => Kind::Corrupt,
        heed::Error::Io(io) => {
            let kind = io_kind(io);
            let full = if kind == Kind::Full { "no space on its disk: " } else { "" };
            return Error::new(kind, format!("store: {full}{io}"));
        }
        _ => Kind::Internal,
    };
    Error::new(kind, format!("store: {error}"))
}

fn io_kind(error: &std::io::Error) -> Kind {
    match error.kind() {
        std::io::ErrorKind::StorageFull
        | std::io::ErrorKind::QuotaExceeded
        | std::io::ErrorKind::FileTooLarge => Kind::Full,
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            Kind::Forbidden
        }
        // LMDB reports a short write to a full disk as EIO.
        _ if error.raw_os_error() == Some(5) => Kind::Full,
        _ => Kind::Internal,
    }
}

/// Whether a failed batch may go through after the map has grown.
pub(crate) fn is_map_full(error: &heed::Error) -> bool {
    matches!(error, heed::Error::Mdb(MdbError::MapFull))
}
