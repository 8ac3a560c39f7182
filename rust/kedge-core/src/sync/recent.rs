// SPDX-License-Identifier: Apache-2.0
//! A small memory of what lately went over a link, to compress the next version against.
//!
//! The sender keeps what it sent, the receiver what it received; a deleted object stays for its
//! time, as it may come again. They need not agree: what the receiver has forgotten costs a copy in
//! full, so the sender uses only what is fresh.

use std::collections::HashMap;

use bytes::Bytes;

use crate::sync::Key;

const MAX_BYTES: usize = 32 * 1024;
/// How long a version is kept. A link that is idle holds nothing.
pub const KEEP_MS: u64 = 60_000;
/// How long the sender takes it that the receiver keeps it too.
const FRESH_MS: u64 = 45_000;

#[derive(Debug)]
struct Version {
    value: Bytes,
    at: u64,
    order: u64,
}

/// Versions by key, bounded in bytes and time.
#[derive(Debug, Default)]
pub struct Recent {
    versions: HashMap<Key, Version>,
    bytes: usize,
    order: u64,
}

impl Recent {
    /// Remembers a version.
    pub fn put(&mut self, key: &Key, value: &Bytes, now: u64) {
        self.remove(key);
        if value.len() > MAX_BYTES / 4 {
            return;
        }
        while self.bytes + value.len() > MAX_BYTES {
            let oldest = self.versions.iter().min_by_key(|(_, version)| version.order);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { break };
            self.remove(&oldest);
        }
        self.bytes += value.len();
        self.order += 1;
        let version = Version { value: value.clone(), at: now, order: self.order };
        self.versions.insert(key.clone(), version);
    }

    /// The version remembered.
    pub fn get(&self, key: &Key) -> Option<&Bytes> {
        self.versions.get(key).map(|version| &version.value)
    }

    /// The version remembered, if the other end should still remember it.
    pub fn fresh(&self, key: &Key, now: u64) -> Option<&Bytes> {
        let version = self.versions.get(key)?;
        version.is_fresh(now).then_some(&version.value)
    }

    /// The latest object of the same kind, if the other end should still remember it.
    pub fn similar(&self, key: &Key, now: u64) -> Option<(&Key, &Bytes)> {
        let alike = |other: &&Key| other.resource == key.resource && other.group == key.group;
        let found =
            self.versions.iter().filter(|(other, version)| alike(other) && version.is_fresh(now));
        let (other, version) = found.max_by_key(|(_, version)| version.order)?;
        Some((other, &version.value))
    }

    /// Forgets what is old; gives the memory back when nothing is left.
    pub fn expire(&mut self, now: u64) {
        self.versions.retain(|_, version| version.at + KEEP_MS > now);
        self.bytes = self.versions.values().map(|version| version.value.len()).sum();
        if self.versions.is_empty() {
            *self = Self::default();
        }
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.versions.is_empty()
    }

    fn remove(&mut self, key: &Key) {
        if let Some(old) = self.versions.remove(key) {
            self.bytes -= old.value.len();
        }
    }
}

impl Version {
    fn is_fresh(&self, now: u64) -> bool {
        now < self.at + FRESH_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_in_bytes_and_time() {
        let mut recent = Recent::default();
        for n in 0..100_u64 {
            let key = Key::of("", "pods", "", &n.to_string());
            recent.put(&key, &Bytes::from(vec![0; 1000]), n);
        }
        assert!(recent.bytes <= MAX_BYTES);
        assert!(recent.get(&Key::of("", "pods", "", "99")).is_some());
        assert!(recent.get(&Key::of("", "pods", "", "0")).is_none());
        assert!(recent.fresh(&Key::of("", "pods", "", "99"), 99 + FRESH_MS).is_none());
        recent.expire(KEEP_MS + 100);
        assert!(recent.is_empty());
    }

    #[test]
    fn the_latest_of_the_same_kind_is_similar() {
        let mut recent = Recent::default();
        for (resource, name) in [("pods", "a"), ("pods", "b"), ("events", "c")] {
            let key = Key::of("", resource, "", name);
            recent.put(&key, &Bytes::copy_from_slice(name.as_bytes()), 7);
        }
        let similar = |resource: &str, now| {
            recent.similar(&Key::of("", resource, "", "new"), now).map(|(key, _)| key.name.clone())
        };
        assert_eq!(similar("pods", 8).as_deref(), Some("b"));
        assert_eq!(similar("secrets", 8), None);
        assert_eq!(similar("pods", 7 + FRESH_MS), None);
    }
}
