// SPDX-License-Identifier: Apache-2.0
//! Makes a store of the copy of an older one: the same objects, under another history.
//!
//! What was written after the copy is unknown here, but known to clients by its revisions. None of
//! these may be given out a second time, so the store goes on far above them. Its history is empty,
//! and begins there: who watches or pages from an earlier revision is told that it is gone, and lists.

use std::path::Path;

use crate::store::db::{Lmdb, from_heed};
use crate::store::migrate::SCHEMA;
use crate::store::open::{fresh_id, lock};
use crate::store::{Options, check};
use crate::{Error, Kind, Result};

/// What was renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// The revision of the copy.
    pub before: u64,
    /// The revision that the store goes on from.
    pub revision: u64,
}

/// Renews the store in a directory, which nobody has open: `leap` revisions on, and at least at `least`.
///
/// # Errors
/// `Corrupt` when its file was cut or scribbled on, `Rejected` when it is in use, `Invalid` when it is of
/// another version of kedge or its revisions are used up.
pub fn renew(path: &Path, leap: u64, least: u64) -> Result<Renewed> {
    let _lock = lock(path)?;
    let data = path.join("data.mdb");
    if !data.exists() {
        return Err(Error::new(Kind::NotFound, format!("no store: {}", data.display())));
    }
    check::check(&data)?;
    let lmdb = Lmdb::open(path, Options::default().map_size, true)?;
    loop {
        match attempt(&lmdb, leap, least) {
            Err(error) if error.kind == Kind::Full && error.message.contains("MDB_MAP_FULL") => {
                lmdb.grow()?;
            }
            other => return other,
        }
    }
}

fn attempt(lmdb: &Lmdb, leap: u64, least: u64) -> Result<Renewed> {
    let mut txn = lmdb.write()?;
    let schema = lmdb.number(&txn, "schema")?;
    if schema == 0 || schema > SCHEMA {
        let message = format!("store of schema {schema}, this kedge knows 1 to {SCHEMA}");
        return Err(Error::new(Kind::Invalid, message));
    }
    let before = lmdb.number(&txn, "revision")?;
    let revision = before
        .checked_add(leap)
        .map(|leapt| leapt.max(least))
        .filter(|revision| i64::try_from(*revision).is_ok())
        .ok_or_else(|| Error::new(Kind::Invalid, format!("revision too large: {before}")))?;
    lmdb.history.clear(&mut txn).map_err(|error| from_heed(&error))?;
    let numbers = [
        ("revision", revision),
        ("oldest", revision),
        ("history_entries", 0),
        ("history_bytes", 0),
        ("id", fresh_id()?),
    ];
    for (name, value) in numbers {
        lmdb.set_number(&mut txn, name, value)?;
    }
    txn.commit().map_err(|error| from_heed(&error))?;
    lmdb.sync()?;
    Ok(Renewed { before, revision })
}
