// SPDX-License-Identifier: Apache-2.0
//! Objects as JSON bytes in LMDB: one revision, list, watch, indexes, group commit.
//!
//! One thread writes (`writer`): it takes what waits, applies it in one LMDB transaction, and
//! answers after the fsync, so that many writers share one. Each operation has a revision of its
//! own; the operations of a transaction have contiguous ones. History is kept in the same
//! transaction, bounded by entries and bytes: watches that fall behind the in-memory ring and pages
//! of an older revision read it, and get `Gone` beyond its end.
//!
//! A copy of one moment can be taken while all of this goes on (`Store::copy_to`); `renew` makes a store
//! of it that goes on under later revisions.
//!
//! `check` reads a store's file page by page before LMDB maps it: a file that was cut or scribbled
//! on is `Corrupt`, never a fault of the process.

mod ageing;
#[cfg(test)]
mod backup_tests;
mod check;
mod db;
mod history;
mod key;
mod meta;
mod migrate;
mod open;
mod read;
mod record;
mod renew;
mod ring;
mod seal;
mod selector;
#[cfg(test)]
mod tests;
mod types;
mod watch;
mod writer;

pub use key::Key;
pub use meta::Meta;
pub use open::{Store, set_aside};
pub(crate) use read::token_for_now;
pub use renew::{Renewed, renew};
pub use selector::Selector;
pub use types::{
    Event, EventKind, Expect, ListQuery, Listed, Mode, Object, Op, Options, Page, Stats,
    WatchQuery, newest_each,
};
pub use watch::Watcher;
