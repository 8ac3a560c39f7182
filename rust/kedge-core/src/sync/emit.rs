// SPDX-License-Identifier: Apache-2.0
//! Changes as an index of views gives them out: for one node, what goes first and against what.

use std::sync::Arc;

use bytes::Bytes;

use crate::sync::port::Changed;
use crate::sync::version;
use crate::sync::{Base, Change, Key};

/// What a pod needs goes before it.
pub(super) const RANK_NEEDED: u8 = 0;
/// Pods.
pub(super) const RANK_POD: u8 = 1;
/// What nobody needs any more goes after them.
pub(super) const RANK_UNNEEDED: u8 = 2;

/// A node's name.
pub(super) type Node = Arc<str>;

/// Reads an object's present bytes and revision.
pub type Read<'a> = &'a dyn Fn(&Key) -> Option<(Bytes, u64)>;

/// A change for one attached node.
#[derive(Debug, PartialEq, Eq)]
pub struct Emit {
    /// Which node.
    pub node: Node,
    /// What it gets.
    pub change: Change,
}

/// The version before, to compress against.
pub(super) fn base(changed: &Changed) -> Option<Base> {
    let bytes = version::project(&changed.key, changed.previous.as_ref()?)?;
    Some(Base { key: None, bytes })
}

/// An object that a node is to have.
pub(super) fn put(key: &Key, value: Bytes, base: Option<Base>) -> Change {
    let rank = if key.resource == "pods" { RANK_POD } else { RANK_NEEDED };
    Change { base, rank, ..Change::new(key.clone(), Some(value), 0) }
}

/// An object that a node is to lose.
pub(super) fn delete(key: &Key) -> Change {
    let rank = if key.resource == "pods" { RANK_POD } else { RANK_UNNEEDED };
    Change { rank, ..Change::new(key.clone(), None, 0) }
}
