// SPDX-License-Identifier: Apache-2.0
//! What goes into a store and comes out.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;

use crate::store::Key;

/// Whose revisions the objects carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// This store's: `metadata.resourceVersion` is written at commit.
    Primary,
    /// An upstream's: the JSON is left as it came.
    Replica,
}

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Primary or replica.
    pub mode: Mode,
    /// The most entries of history.
    pub history: usize,
    /// The most bytes of history, about.
    pub history_bytes: usize,
    /// How long history is kept at least, and at most twice that; none for as long as it fits.
    pub history_age: Option<Duration>,
    /// The map's first size in bytes; it grows by itself.
    pub map_size: usize,
    /// Whether a commit waits for the disk. A mirror that can be refilled need not.
    pub durable: bool,
    /// The key that seals `sealed` resources at rest.
    pub seal: Option<[u8; 32]>,
    /// Which (group, resource) pairs are sealed.
    pub sealed: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: Mode::Replica,
            history: 10_000,
            history_bytes: 64 << 20,
            history_age: None,
            map_size: 64 << 20,
            durable: true,
            seal: None,
            sealed: Vec::new(),
        }
    }
}

/// What an operation wants to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Anything or nothing.
    Any,
    /// Nothing.
    Absent,
    /// Something.
    Present,
    /// The object last changed at this revision.
    Revision(u64),
}

/// One operation of a transaction.
#[derive(Clone, Debug)]
pub enum Op {
    /// Set an object.
    Put {
        /// Which.
        key: Key,
        /// Its JSON.
        value: Bytes,
        /// What must be there before.
        expect: Expect,
    },
    /// Remove an object.
    Delete {
        /// Which.
        key: Key,
        /// What must be there before; with `Any`, removing nothing is no error.
        expect: Expect,
    },
    /// Change nothing, but fail unless this holds.
    Check {
        /// Which.
        key: Key,
        /// What must be there.
        expect: Expect,
    },
}

impl Op {
    /// The object that it is about.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key, .. } | Self::Check { key, .. } => key,
        }
    }

    /// What must be there before.
    pub fn expect(&self) -> Expect {
        match self {
            Self::Put { expect, .. } | Self::Delete { expect, .. } | Self::Check { expect, .. } => {
                *expect
            }
        }
    }
}

/// The last operation on each object, in order: a transaction names an object once, and what replicates
/// may bring several changes of one in a batch.
pub fn newest_each(ops: Vec<Op>) -> Vec<Op> {
    let mut seen = HashSet::with_capacity(ops.len());
    let mut newest: Vec<_> =
        ops.into_iter().rev().filter(|op| seen.insert(op.key().clone())).collect();
    newest.reverse();
    newest
}

/// An object and the revision of its last change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its JSON.
    pub value: Bytes,
    /// The store's revision of its last change.
    pub revision: u64,
}

/// An object of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Which.
    pub key: Key,
    /// Its JSON.
    pub value: Bytes,
    /// The store's revision of its last change.
    pub revision: u64,
}

/// What a list asks for.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// API group, empty for core.
    pub group: String,
    /// The plural.
    pub resource: String,
    /// One namespace, or empty for all.
    pub namespace: String,
    /// A label selector, or empty.
    pub labels: String,
    /// A field selector, or empty.
    pub fields: String,
    /// The most objects of a page, or 0 for all.
    pub limit: usize,
    /// Where an earlier page ended.
    pub continue_token: String,
    /// The objects as they were at this revision, or 0 for now.
    pub at_revision: u64,
}

/// One page of a list, all of it at one revision.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// In key order.
    pub items: Vec<Listed>,
    /// The revision that the list is from.
    pub revision: u64,
    /// Where the next page starts, or empty at the end.
    pub continue_token: String,
    /// How many are left, where that is known (no selectors).
    pub remaining: Option<u64>,
}

/// What a watch asks for.
#[derive(Clone, Debug, Default)]
pub struct WatchQuery {
    /// (group, resource) pairs, or empty for all.
    pub resources: Vec<(String, String)>,
    /// One namespace, or empty for all.
    pub namespace: String,
    /// A label selector: an event passes when the object matches now or did before.
    pub labels: String,
    /// A field selector, likewise.
    pub fields: String,
}

/// Whether an object was set or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Set.
    Put,
    /// Removed; `value` is empty.
    Delete,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Set or removed.
    pub kind: EventKind,
    /// Which.
    pub key: Key,
    /// The store's revision of this change.
    pub revision: u64,
    /// The JSON after it.
    pub value: Bytes,
    /// The JSON before it.
    pub previous: Option<Bytes>,
    /// Whether the object was not there before.
    pub created: bool,
}

impl Event {
    /// About how much memory it holds.
    pub(crate) fn weight(&self) -> usize {
        self.value.len() + self.previous.as_ref().map_or(0, Bytes::len) + 128
    }
}

/// How large a store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The last revision.
    pub revision: u64,
    /// The oldest revision that a watch can start from.
    pub oldest: u64,
    /// Objects stored.
    pub objects: u64,
    /// Entries of history.
    pub history: u64,
    /// Bytes of the data file.
    pub file_bytes: u64,
    /// Bytes of the map.
    pub map_bytes: u64,
}
