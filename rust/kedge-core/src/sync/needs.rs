// SPDX-License-Identifier: Apache-2.0
//! What pods need, what that needs in turn, and which nodes therefore see it.
//!
//! A claim leads to its volume, a volume to its driver and Secrets, a `ServiceAccount` to its
//! bindings and those to their roles. An object is counted once for each pod, and once for each
//! needed object, that leads to it on a node; a node sees it while its count is not zero.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::sync::Key;
use crate::sync::collections::{self, Collections};
use crate::sync::emit::{Emit, Node, Read, base, delete, put};
use crate::sync::port::Changed;
use crate::sync::references;
use crate::sync::version;

#[derive(Debug, Default)]
struct Needed {
    /// None while it does not exist.
    version: Option<u64>,
    /// The mirror's revision that `version` is from: an older event is late.
    revision: u64,
    nodes: HashMap<Node, u32>,
    /// What it needs itself.
    onward: Box<[Arc<Key>]>,
}

/// Needed objects by key.
#[derive(Debug, Default)]
pub(super) struct Needs {
    needed: HashMap<Arc<Key>, Needed>,
    collections: Collections,
}

/// Which nodes are linked, how to read an object, and where changes for nodes go.
pub(super) struct Flow<'a> {
    pub(super) attached: &'a HashSet<Node>,
    pub(super) read: Read<'a>,
    pub(super) out: &'a mut Vec<Emit>,
}

impl Flow<'_> {
    fn emit(&mut self, node: &Node, change: crate::sync::Change) {
        if self.attached.contains(node) {
            self.out.push(Emit { node: Node::clone(node), change });
        }
    }
}

impl Needs {
    /// The version of an object that is needed and exists.
    pub(super) fn version(&self, key: &Key) -> Option<u64> {
        self.needed.get(key)?.version
    }

    /// Whether a node needs an object.
    pub(super) fn sees(&self, node: &str, key: &Key) -> bool {
        self.needed.get(key).is_some_and(|needed| needed.nodes.contains_key(node))
    }

    /// Adds `key` and all that it leads to.
    pub(super) fn reach<'a>(&'a self, key: &'a Arc<Key>, seen: &mut HashSet<&'a Arc<Key>>) {
        if seen.insert(key)
            && let Some(needed) = self.needed.get(key)
        {
            needed.onward.iter().for_each(|onward| self.reach(onward, seen));
        }
    }

    /// Counts a need of a node; sends the object when the node did not see it yet.
    pub(super) fn require(&mut self, need: Key, node: &Node, flow: &mut Flow<'_>) -> Arc<Key> {
        let known = self.needed.get_key_value(&need).map(|(key, _)| Arc::clone(key));
        let key = known.unwrap_or_else(|| {
            let needed = self.load(&need, flow.read);
            let key = Arc::new(need);
            self.needed.insert(Arc::clone(&key), needed);
            key
        });
        let needed = self.needed.get_mut(&key).expect("inserted above");
        let count = needed.nodes.entry(Node::clone(node)).or_default();
        *count += 1;
        if *count > 1 {
            return key;
        }
        let onward = needed.onward.clone();
        if needed.version.is_some() && flow.attached.contains(node) {
            let value = (flow.read)(&key).and_then(|(value, _)| version::project(&key, &value));
            if let Some(value) = value {
                flow.emit(node, put(&key, value, None));
            }
        }
        for need in &onward {
            self.require((**need).clone(), node, flow);
        }
        key
    }

    /// Counts one need less; the node loses the object with its last.
    pub(super) fn release(&mut self, need: &Key, node: &Node, flow: &mut Flow<'_>) {
        let Some(needed) = self.needed.get_mut(need) else { return };
        let Some(count) = needed.nodes.get_mut(node) else { return };
        *count -= 1;
        if *count > 0 {
            return;
        }
        needed.nodes.remove(node);
        let onward = needed.onward.clone();
        let existed = needed.version.is_some();
        if needed.nodes.is_empty() {
            self.needed.remove(need);
        }
        if existed {
            flow.emit(node, delete(need));
        }
        for need in &onward {
            self.release(need, node, flow);
        }
    }

    /// Takes in a change of an object that may be needed.
    pub(super) fn changed(&mut self, changed: &Changed, flow: &mut Flow<'_>) {
        let touched = self.collections.update(&changed.key, changed.value.as_deref());
        self.update(changed, flow);
        if touched.is_empty() {
            return;
        }
        let parents: Vec<Arc<Key>> = self
            .needed
            .keys()
            .filter(|key| touched.iter().any(|name| collections::stands_for(key, name)))
            .cloned()
            .collect();
        for parent in parents {
            let onward = self.collections.members_of(&parent);
            self.rewire(&parent, &onward, flow);
        }
    }

    fn update(&mut self, changed: &Changed, flow: &mut Flow<'_>) {
        let key = &changed.key;
        let Some(needed) = self.needed.get_mut(key) else { return };
        if changed.revision <= needed.revision {
            return;
        }
        let value = changed.value.as_ref().and_then(|value| version::project(key, value));
        let now = value.as_ref().map(|value| version::version(value));
        needed.revision = changed.revision;
        if std::mem::replace(&mut needed.version, now) == now {
            return;
        }
        let nodes: Vec<Node> =
            needed.nodes.keys().filter(|node| flow.attached.contains(*node)).cloned().collect();
        let onward = self.onward(key, changed.value.as_deref());
        let change = match value {
            Some(value) if !nodes.is_empty() => put(key, value, base(changed)),
            _ => delete(key),
        };
        for node in &nodes {
            flow.emit(node, change.clone());
        }
        self.rewire(key, &onward, flow);
    }

    /// Puts other needs in the place of an object's own.
    fn rewire(&mut self, key: &Key, onward: &[Arc<Key>], flow: &mut Flow<'_>) {
        let Some(needed) = self.needed.get_mut(key) else { return };
        if *needed.onward == *onward {
            return;
        }
        let before = std::mem::replace(&mut needed.onward, onward.into());
        let nodes: Vec<Node> = needed.nodes.keys().cloned().collect();
        for node in &nodes {
            for need in onward {
                self.require((**need).clone(), node, flow);
            }
            before.iter().for_each(|need| self.release(need, node, flow));
        }
    }

    fn load(&self, key: &Key, read: Read<'_>) -> Needed {
        let held = read(key);
        let value = held.as_ref().map(|(value, _)| value);
        let projected = value.and_then(|value| version::project(key, value));
        Needed {
            version: projected.map(|value| version::version(&value)),
            revision: held.as_ref().map_or(0, |(_, revision)| *revision),
            nodes: HashMap::new(),
            onward: self.onward(key, value.map(AsRef::as_ref)),
        }
    }

    fn onward(&self, key: &Key, value: Option<&[u8]>) -> Box<[Arc<Key>]> {
        let members = self.collections.members_of(key);
        if !members.is_empty() {
            return members.into();
        }
        let named = value.map(|value| references::object_needs(key, value)).unwrap_or_default();
        named.into_iter().map(Arc::new).collect()
    }
}
