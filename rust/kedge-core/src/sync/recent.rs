// SPDX-License-Identifier: Apache-2.0
//! A small memory of what lately went over a link, to compress the next version against.
//!
//! Both ends keep one; they need not agree. What one has forgotten costs a copy in full.

use std::collections::HashMap;

use bytes::Bytes;

use crate::sync::Key;

const MAX_BYTES: usize = 32 * 1024;
/// How long a version is kept. A link that is idle holds nothing.
pub const KEEP_MS: u64 = 60_000;

/// Versions by key, bounded in bytes and time.
#[derive(Debug, Default)]
pub struct Recent {
    versions: HashMap<Key, (Bytes, u64)>,
    bytes: usize,
}

impl Recent {
    /// Remembers a version.
    pub fn put(&mut self, key: &Key, value: &Bytes, now: u64) {
        self.remove(key);
        if value.len() > MAX_BYTES / 4 {
            return;
        }
        while self.bytes + value.len() > MAX_BYTES {
            let oldest =
                self.versions.iter().min_by_key(|(_, (_, at))| *at).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { break };
            self.remove(&oldest);
        }
        self.bytes += value.len();
        self.versions.insert(key.clone(), (value.clone(), now));
    }

    /// Forgets a version.
    pub fn remove(&mut self, key: &Key) {
        if let Some((old, _)) = self.versions.remove(key) {
            self.bytes -= old.len();
        }
    }

    /// The version remembered.
    pub fn get(&self, key: &Key) -> Option<&Bytes> {
        self.versions.get(key).map(|(value, _)| value)
    }

    /// Forgets what is old; gives the memory back when nothing is left.
    pub fn expire(&mut self, now: u64) {
        self.versions.retain(|_, (_, at)| *at + KEEP_MS > now);
        self.bytes = self.versions.values().map(|(value, _)| value.len()).sum();
        if self.versions.is_empty() {
            *self = Self::default();
        }
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.versions.is_empty()
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
        recent.expire(KEEP_MS + 100);
        assert!(recent.is_empty());
    }
}
