// SPDX-License-Identifier: Apache-2.0
//! Views and replication: what a node sees, kept equal at both ends.
//!
//! [`outbox`] and [`inlet`] are the two halves of one direction; [`session`] joins two of each into
//! the state machine of a link; [`endpoint`] adds the bytes; [`heartbeat`] the time. All of them
//! are pure: no sockets, no clock, no store. [`version`] says what bytes a node gets of an object
//! and how two copies are compared, [`references`] which objects a pod needs, `needs` and
//! `collections` what those need in turn, [`view`] which node sees what.

mod attachments;
mod collections;
#[cfg(test)]
mod cut_tests;
mod emit;
pub mod endpoint;
pub mod heartbeat;
pub mod inlet;
#[cfg(test)]
pub(crate) mod memory;
mod needs;
pub mod outbox;
pub mod port;
pub mod recent;
pub mod references;
pub mod session;
mod stored;
pub mod version;
pub mod view;

use bytes::Bytes;

pub use crate::wire::envelope::Key;

impl Key {
    /// The key of an object.
    pub fn of(group: &str, resource: &str, namespace: &str, name: &str) -> Self {
        Self {
            group: group.into(),
            resource: resource.into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

/// A version that the other end is thought to hold, to compress against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Another object's key, or none for an earlier version of the same.
    pub key: Option<Key>,
    /// Its bytes.
    pub bytes: Bytes,
}

/// An object that changed here and must become the same at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub key: Key,
    /// Its bytes, or none when it is gone.
    pub value: Option<Bytes>,
    /// What to compress it against.
    pub base: Option<Base>,
    /// Lower goes first: what a pod needs goes before the pod.
    pub rank: u8,
    /// Grows with this object's versions at the sender; 0 when the sender does not count.
    pub revision: u64,
}

impl Change {
    /// A change without base, in the middle rank.
    pub fn new(key: Key, value: Option<Bytes>, revision: u64) -> Self {
        Self { key, value, base: None, rank: 1, revision }
    }

    fn size(&self) -> usize {
        self.key.name.len() + self.value.as_ref().map_or(0, Bytes::len) + 64
    }
}

/// An object as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Which.
    pub key: Key,
    /// Its bytes, or none when it is gone.
    pub value: Option<Bytes>,
    /// The sender's count of this object's versions; 0 when it does not count.
    pub revision: u64,
}

/// One of the two sequences of changes in a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Objects down, status up.
    Status = 0,
    /// Events.
    Bulk = 1,
}

impl Lane {
    /// Both lanes.
    pub const ALL: [Self; 2] = [Self::Status, Self::Bulk];

    /// The stream that carries it.
    pub fn stream(self) -> crate::wire::Stream {
        match self {
            Self::Status => crate::wire::Stream::Status,
            Self::Bulk => crate::wire::Stream::Bulk,
        }
    }
}
