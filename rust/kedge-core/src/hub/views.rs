// SPDX-License-Identifier: Apache-2.0
//! The view index and the nodes linked to it, under one lock, so that no change falls between a
//! comparison and the changes that follow it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use crate::hub::peer::Peer;
use crate::sync::port::{Changed, Changes, Objects};
use crate::sync::view::{RESOURCES, Views};
use crate::sync::{Change, Key};
use crate::{Kind, Result};

/// The index, the linked nodes, the store.
pub(crate) struct Engine {
    state: Mutex<State>,
    store: Arc<dyn Objects>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) views: Views,
    pub(crate) peers: HashMap<Arc<str>, Arc<Peer>>,
}

impl Engine {
    /// An index of what the store holds, and the changes that follow.
    pub(crate) fn load(store: Arc<dyn Objects>) -> Result<(Self, Box<dyn Changes>)> {
        let (views, changes) = index(&*store)?;
        let state = State { views, peers: HashMap::new() };
        Ok((Self { state: Mutex::new(state), store }, changes))
    }

    /// The index and the linked nodes. Taken before any peer's lock, never after.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// What the mirror holds of an object.
    pub(crate) fn read(&self, key: &Key) -> Option<(Bytes, u64)> {
        // A store that cannot be read gives no objects; its own watch ends with the error.
        self.store.get(key).ok().flatten().map(|held| (held.value, held.revision))
    }

    /// The differences between a node's copy and its view.
    pub(crate) fn differences(
        &self,
        state: &State,
        node: &str,
        held: &HashMap<Key, u64>,
    ) -> Vec<Change> {
        state.views.differences(node, held, &|key| self.read(key))
    }

    /// Follows the store for ever; an error is the store's.
    pub(crate) async fn run(&self, mut changes: Box<dyn Changes>) -> Result<()> {
        loop {
            match changes.next().await {
                Ok(batch) => self.apply(&batch),
                Err(error) if error.kind == Kind::Gone => changes = self.reload()?,
                Err(error) => return Err(error),
            }
        }
    }

    fn apply(&self, batch: &[Changed]) {
        let mut state = self.lock();
        let mut woken: Vec<Arc<Peer>> = Vec::new();
        for changed in batch {
            if changed.key.resource == "nodes"
                && let Some(peer) = state.peers.get(changed.key.name.as_str())
            {
                peer.admit(changed.value.as_deref());
            }
            for emit in state.views.apply(changed, &|key| self.read(key)) {
                if let Some(peer) = state.peers.get(&emit.node) {
                    peer.offer(emit.change);
                    if !woken.iter().any(|known| Arc::ptr_eq(known, peer)) {
                        woken.push(Arc::clone(peer));
                    }
                }
            }
        }
        for peer in &woken {
            peer.wake();
        }
    }

    /// The watch fell too far behind: index anew, and let every node compare again.
    fn reload(&self) -> Result<Box<dyn Changes>> {
        let (views, changes) = index(&*self.store)?;
        let mut state = self.lock();
        state.views = views;
        for peer in state.peers.values() {
            peer.leave_unavailable("the hub lost track of its changes", 500);
        }
        Ok(changes)
    }
}

fn index(store: &dyn Objects) -> Result<(Views, Box<dyn Changes>)> {
    let mut views = Views::default();
    let after = store.revision();
    let read = |key: &Key| store.get(key).ok().flatten().map(|held| (held.value, held.revision));
    for (group, resource) in RESOURCES {
        for held in store.list(group, resource)?.0 {
            let changed = Changed {
                key: held.key,
                value: Some(held.value),
                previous: None,
                revision: held.revision,
            };
            views.apply(&changed, &read);
        }
    }
    Ok((views, store.watch(&RESOURCES, after)?))
}
