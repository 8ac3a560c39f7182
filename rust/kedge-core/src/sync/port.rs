// SPDX-License-Identifier: Apache-2.0
//! What replication needs of a store: the real one, or a map in tests.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

use crate::Result;
use crate::sync::Key;

/// An object as a store holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub key: Key,
    /// Its bytes.
    pub value: Bytes,
    /// The store's own revision of its last change.
    pub revision: u64,
}

/// A change that a store made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Which.
    pub key: Key,
    /// Its bytes now, or none when it is gone.
    pub value: Option<Bytes>,
    /// Its bytes before, if any.
    pub previous: Option<Bytes>,
    /// The store's revision of the change.
    pub revision: u64,
}

/// One write of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Set an object.
    Put(Key, Bytes),
    /// Remove an object, if it is there.
    Delete(Key),
    /// Remove an object, if its revision is still this one.
    DeleteIf(Key, u64),
}

/// Called once a transaction is durable, or failed.
pub type Done = Box<dyn FnOnce(Result<()>) + Send>;

/// A store.
pub trait Objects: Send + Sync + 'static {
    /// A random number made with the store.
    fn id(&self) -> u64;
    /// One object.
    fn get(&self, key: &Key) -> Result<Option<Held>>;
    /// All objects of a resource, and the revision that they are from.
    fn list(&self, group: &str, resource: &str) -> Result<(Vec<Held>, u64)>;
    /// The revision of the last change.
    fn revision(&self) -> u64;
    /// Changes of some resources after a revision.
    fn watch(&self, resources: &[(&str, &str)], after: u64) -> Result<Box<dyn Changes>>;
    /// Starts a transaction of all `writes`.
    fn submit(&self, writes: Vec<Write>, done: Done);
}

/// A stream of changes.
pub trait Changes: Send {
    /// The next changes, in order; waits for some. `Gone` when it has fallen too far behind.
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Result<Vec<Changed>>> + Send + '_>>;
}
