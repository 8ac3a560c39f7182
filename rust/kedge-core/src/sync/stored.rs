// SPDX-License-Identifier: Apache-2.0
//! The object store as replication uses it.

use std::future::Future;
use std::pin::Pin;

use crate::store::{
    self, EventKind, Expect, ListQuery, Op, Store, WatchQuery, Watcher, newest_each,
};
use crate::sync::Key;
use crate::sync::port::{Changed, Changes, Done, Held, Objects, Write};
use crate::{Error, Kind, Result};

impl From<&Key> for store::Key {
    fn from(key: &Key) -> Self {
        Self::new(&key.group, &key.resource, &key.namespace, &key.name)
    }
}

impl From<&store::Key> for Key {
    fn from(key: &store::Key) -> Self {
        Self::of(&key.group, &key.resource, &key.namespace, &key.name)
    }
}

impl Objects for Store {
    fn id(&self) -> u64 {
        self.store_id()
    }

    fn get(&self, key: &Key) -> Result<Option<Held>> {
        let found = Self::get(self, &key.into())?;
        Ok(found.map(|object| Held {
            key: key.clone(),
            value: object.value,
            revision: object.revision,
        }))
    }

    fn list(&self, group: &str, resource: &str) -> Result<(Vec<Held>, u64)> {
        let query =
            ListQuery { group: group.into(), resource: resource.into(), ..ListQuery::default() };
        let page = Self::list(self, &query)?;
        let held = page.items.into_iter().map(|listed| Held {
            key: (&listed.key).into(),
            value: listed.value,
            revision: listed.revision,
        });
        Ok((held.collect(), page.revision))
    }

    fn revision(&self) -> u64 {
        Self::revision(self)
    }

    fn watch(&self, resources: &[(&str, &str)], after: u64) -> Result<Box<dyn Changes>> {
        let resources = resources.iter().map(|(g, r)| ((*g).into(), (*r).into())).collect();
        let query = WatchQuery { resources, ..WatchQuery::default() };
        Ok(Box::new(Self::watch(self, &query, after)?))
    }

    fn submit(&self, writes: Vec<Write>, done: Done) {
        let mut ops = Vec::with_capacity(writes.len());
        for write in writes {
            match write {
                Write::Put(key, value) => {
                    ops.push(Op::Put { key: (&key).into(), value, expect: Expect::Any });
                }
                Write::Delete(key) => {
                    ops.push(Op::Delete { key: (&key).into(), expect: Expect::Any });
                }
                // On its own: when somebody was faster, only this does not happen.
                Write::DeleteIf(key, revision) => {
                    let expect = Expect::Revision(revision);
                    let delete = Op::Delete { key: (&key).into(), expect };
                    Self::submit(self, vec![delete], |_| {});
                }
            }
        }
        if ops.is_empty() {
            done(Ok(()));
        } else {
            Self::submit(self, newest_each(ops), |result| done(result.map(|_| ())));
        }
    }
}

impl Changes for Watcher {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Result<Vec<Changed>>> + Send + '_>> {
        Box::pin(async move {
            let events = Self::next(self).await?;
            if events.is_empty() {
                return Err(Error::new(Kind::Closed, "the store is closed"));
            }
            let changed = |event: &std::sync::Arc<store::Event>| Changed {
                key: (&event.key).into(),
                value: (event.kind == EventKind::Put).then(|| event.value.clone()),
                previous: event.previous.clone(),
                revision: event.revision,
            };
            Ok(events.iter().map(changed).collect())
        })
    }
}
