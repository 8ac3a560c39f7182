// SPDX-License-Identifier: Apache-2.0
//! A node's reports, followed in its store: what has to go up, and how far the cloud has it.
//!
//! Every report is an object with the store's revision. The cursor says up to which revision all
//! reports have been acknowledged; it is durable, so after a restart only what is newer is sent.
//! Reports of which only the last matters stay; those sent once are removed when acknowledged.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::hub::reports::RESOURCES;
use crate::sync::port::{Changed, Changes, Held, Objects, Write};
use crate::sync::session::Event;
use crate::sync::{Base, Change, Key, Lane};
use crate::wire::pack;
use crate::{Error, Kind, Result};

/// Where the state of the link is kept on the node, for restarts and for `kedge status`.
pub fn link_key() -> Key {
    Key::of("kedge.io", "links", "", "hub")
}

/// The object under [`link_key`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkRecord {
    /// Its name.
    pub metadata: LinkName,
    /// What was last known.
    pub status: LinkStatus,
}

/// The metadata of a link's record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkName {
    /// Always `hub`.
    pub name: String,
}

/// What was last known of the link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LinkStatus {
    /// `connected` or `disconnected`.
    pub state: String,
    /// Milliseconds since 1970 of the last change of `state`.
    pub since_ms: u64,
    /// Why the link last ended or did not come up.
    pub last_error: String,
    /// The hub's address.
    pub server: String,
    /// Reports up to this revision are acknowledged.
    pub reported: u64,
    /// Hash of the cluster's authority that `reported` is about.
    pub cluster: u64,
    /// The cluster's history that `reported` is about; another one after a restore.
    pub history: u64,
}

/// Reads the record of a link.
pub fn read_record(store: &dyn Objects) -> Result<LinkRecord> {
    let Some(held) = store.get(&link_key())? else { return Ok(LinkRecord::default()) };
    serde_json::from_slice(&held.value)
        .map_err(|error| Error::new(Kind::Corrupt, format!("record of the link: {error}")))
}

/// What waits and what is under way.
pub(crate) struct Reports {
    store: Arc<dyn Objects>,
    node: String,
    cursor: u64,
    outstanding: HashMap<Key, u64>,
    /// Everything up to here has been looked at.
    highest: u64,
}

impl Reports {
    pub(crate) fn new(store: Arc<dyn Objects>, node: String, cursor: u64) -> Self {
        Self { store, node, cursor, outstanding: HashMap::new(), highest: cursor }
    }

    /// The cluster may have forgotten what it acknowledged: everything that is still here goes up again.
    pub(crate) fn forget(&mut self) {
        self.cursor = 0;
    }

    /// For a new link: everything that is not acknowledged, and the changes after it.
    pub(crate) fn start(&mut self) -> Result<(Vec<Event>, Box<dyn Changes>)> {
        self.outstanding.clear();
        let after = self.store.revision();
        let mut waiting: Vec<Held> = Vec::new();
        for (resource, _) in RESOURCES {
            let held = self.store.list("", resource)?.0;
            waiting.extend(held.into_iter().filter(|held| held.revision > self.cursor));
        }
        waiting.sort_by_key(|held| held.revision);
        self.highest = after.max(self.cursor);
        let events = waiting
            .into_iter()
            .map(|held| self.offer(held.key, held.value, held.revision))
            .collect();
        let watched: Vec<(&str, &str)> =
            RESOURCES.iter().map(|(resource, _)| ("", *resource)).collect();
        Ok((events, self.store.watch(&watched, after)?))
    }

    /// A report changed.
    pub(crate) fn changed(&mut self, changed: Changed) -> Event {
        self.highest = self.highest.max(changed.revision);
        if let Some(value) = changed.value {
            return self.offer(changed.key, value, changed.revision);
        }
        self.outstanding.remove(&changed.key);
        let lane = lane_of(&changed.key);
        Event::Withdrawn(lane, changed.key)
    }

    /// The cloud has lost its Node object (or has a new one): tell it again.
    pub(crate) fn register_again(&mut self) -> Result<Vec<Event>> {
        if self.store.get(&Key::of("", "nodes", "", &self.node))?.is_some() {
            return Ok(Vec::new());
        }
        let mut events = Vec::new();
        for resource in ["nodes/registration", "nodes/status"] {
            let key = Key::of("", resource, "", &self.node);
            if self.outstanding.contains_key(&key) {
                continue;
            }
            if let Some(held) = self.store.get(&key)? {
                events.push(self.offer(held.key, held.value, held.revision));
            }
        }
        Ok(events)
    }

    /// The cloud has (or will never have) this version: gives what to remove here.
    pub(crate) fn settled(&mut self, key: &Key, revision: u64) -> Option<Write> {
        if self.outstanding.get(key) == Some(&revision) {
            self.outstanding.remove(key);
        }
        let once = RESOURCES.iter().any(|(resource, once)| *once && *resource == key.resource);
        once.then(|| Write::DeleteIf(key.clone(), revision))
    }

    /// The cursor as it should be made durable.
    pub(crate) fn advance(&mut self) -> u64 {
        let oldest = self.outstanding.values().min().copied();
        self.cursor =
            oldest.map_or(self.highest, |oldest| oldest.saturating_sub(1)).max(self.cursor);
        self.cursor
    }

    /// How many reports are not acknowledged.
    pub(crate) fn waiting(&self) -> usize {
        self.outstanding.len()
    }

    fn offer(&mut self, key: Key, value: bytes::Bytes, revision: u64) -> Event {
        self.outstanding.insert(key.clone(), revision);
        let rank = u8::from(key.resource != "nodes/registration");
        let base = self.base(&key, &value);
        Event::Changed(lane_of(&key), Change { key, value: Some(value), base, rank, revision })
    }

    /// The object that a report is about, as the hub sent it.
    fn base(&self, key: &Key, value: &[u8]) -> Option<Base> {
        let about = match key.resource.as_str() {
            "events" => event_pod(value)?,
            "nodes/registration" | "nodes/status" => Key::of("", "nodes", "", &key.name),
            _ => Key::of("", "pods", &key.namespace, &key.name),
        };
        let held = self.store.get(&about).ok().flatten()?;
        Some(Base { key: Some(about), bytes: held.value })
    }
}

fn lane_of(key: &Key) -> Lane {
    if key.resource == "events" { Lane::Bulk } else { Lane::Status }
}

fn event_pod(event: &[u8]) -> Option<Key> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct About {
        involved_object: Involved,
    }
    #[derive(Deserialize)]
    #[serde(default)]
    #[derive(Default)]
    struct Involved {
        kind: String,
        namespace: String,
        name: String,
    }
    let about = serde_json::from_slice::<About>(event).ok()?.involved_object;
    (about.kind == "Pod").then(|| Key::of("", "pods", &about.namespace, &about.name))
}

/// Names a cluster by its authority.
pub(crate) fn cluster_of(ca: &str) -> u64 {
    // JSON readers keep 53 bits of a number.
    pack::hash(ca.trim().as_bytes()) >> 11
}
