// SPDX-License-Identifier: Apache-2.0
//! A store in memory, for tests of what needs one.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::sync::Key;
use crate::sync::port::{Changed, Changes, Done, Held, Objects, Write};
use crate::{Error, Kind, Result};

#[derive(Default)]
struct State {
    objects: BTreeMap<Key, (Bytes, u64)>,
    log: Vec<Changed>,
    commits: usize,
    failing: bool,
}

/// Objects, and everything that ever happened to them.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    state: Arc<Mutex<State>>,
    news: Arc<Notify>,
}

impl Memory {
    pub(crate) fn put(&self, key: &Key, value: &str) {
        self.write(vec![Write::Put(key.clone(), Bytes::copy_from_slice(value.as_bytes()))])
            .unwrap();
    }

    pub(crate) fn delete(&self, key: &Key) {
        self.write(vec![Write::Delete(key.clone())]).unwrap();
    }

    pub(crate) fn text(&self, key: &Key) -> Option<String> {
        let state = self.state.lock();
        state.objects.get(key).map(|(value, _)| String::from_utf8(value.to_vec()).unwrap())
    }

    /// Names of a resource's objects.
    pub(crate) fn names(&self, resource: &str) -> Vec<String> {
        let state = self.state.lock();
        state
            .objects
            .keys()
            .filter(|key| key.resource == resource)
            .map(|key| key.name.clone())
            .collect()
    }

    /// Everything that was changed, in order, as `name` or `-name`.
    pub(crate) fn history(&self, resource: &str) -> Vec<String> {
        let state = self.state.lock();
        let of = state.log.iter().filter(|changed| changed.key.resource == resource);
        of.map(|c| format!("{}{}", if c.value.is_some() { "" } else { "-" }, c.key.name)).collect()
    }

    pub(crate) fn commits(&self) -> usize {
        self.state.lock().commits
    }

    /// From now on transactions fail, or do not any more.
    pub(crate) fn fail(&self, failing: bool) {
        self.state.lock().failing = failing;
    }

    fn write(&self, writes: Vec<Write>) -> Result<()> {
        let mut state = self.state.lock();
        if state.failing {
            return Err(Error::new(Kind::Full, "the disk is full"));
        }
        state.commits += 1;
        for write in writes {
            let revision = state.log.len() as u64 + 1;
            let (key, value) = match write {
                Write::Put(key, value) => (key, Some(value)),
                Write::Delete(key) => (key, None),
                Write::DeleteIf(key, wanted) => {
                    if state.objects.get(&key).is_none_or(|(_, revision)| *revision != wanted) {
                        continue;
                    }
                    (key, None)
                }
            };
            let previous = match &value {
                Some(value) => state.objects.insert(key.clone(), (value.clone(), revision)),
                None => state.objects.remove(&key),
            };
            if value.is_some() || previous.is_some() {
                let previous = previous.map(|(value, _)| value);
                state.log.push(Changed { key, value, previous, revision });
            }
        }
        drop(state);
        self.news.notify_waiters();
        Ok(())
    }
}

impl Objects for Memory {
    fn id(&self) -> u64 {
        Arc::as_ptr(&self.state) as u64
    }

    fn get(&self, key: &Key) -> Result<Option<Held>> {
        let state = self.state.lock();
        let held = state.objects.get(key);
        Ok(held.map(|(value, revision)| Held {
            key: key.clone(),
            value: value.clone(),
            revision: *revision,
        }))
    }

    fn list(&self, group: &str, resource: &str) -> Result<(Vec<Held>, u64)> {
        let state = self.state.lock();
        let of =
            state.objects.iter().filter(|(key, _)| key.group == group && key.resource == resource);
        let held = |(key, (value, revision)): (&Key, &(Bytes, u64))| Held {
            key: key.clone(),
            value: value.clone(),
            revision: *revision,
        };
        Ok((of.map(held).collect(), state.log.len() as u64))
    }

    fn revision(&self) -> u64 {
        self.state.lock().log.len() as u64
    }

    fn watch(&self, resources: &[(&str, &str)], after: u64) -> Result<Box<dyn Changes>> {
        let resources = resources.iter().map(|(g, r)| ((*g).to_owned(), (*r).to_owned())).collect();
        Ok(Box::new(Watching { memory: self.clone(), resources, at: after }))
    }

    fn submit(&self, writes: Vec<Write>, done: Done) {
        done(self.write(writes));
    }
}

struct Watching {
    memory: Memory,
    resources: Vec<(String, String)>,
    at: u64,
}

impl Changes for Watching {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Result<Vec<Changed>>> + Send + '_>> {
        Box::pin(async move {
            loop {
                let news = Arc::clone(&self.memory.news);
                let news = news.notified();
                tokio::pin!(news);
                news.as_mut().enable();
                let found: Vec<Changed> = {
                    let state = self.memory.state.lock();
                    let new = state.log.iter().skip(usize::try_from(self.at).unwrap());
                    let wanted = |c: &&Changed| {
                        self.resources
                            .iter()
                            .any(|(g, r)| *g == c.key.group && *r == c.key.resource)
                    };
                    let found = new.filter(wanted).cloned().collect();
                    self.at = state.log.len() as u64;
                    found
                };
                if !found.is_empty() {
                    return Ok(found);
                }
                news.await;
            }
        })
    }
}
