// SPDX-License-Identifier: Apache-2.0
//! Python's `Store` and `Watch`: thin wrappers over `kedge_core::store`.

#![expect(clippy::needless_pass_by_value, reason = "PyO3 hands lists and paths over by value")]

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kedge_core::bridge::{Bell, Inbox};
use kedge_core::store::{
    EventKind, Expect, Key, ListQuery, Listed, Mode, Op, Options, Store as CoreStore, WatchQuery,
    Watcher,
};
use kedge_core::{Error, Kind};
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::door::Enter;
use crate::error::into_py;

type KeyTuple = (String, String, String, String);
/// kind (0 put, 1 delete, 2 check), key, expectation (-1 any, -2 present, 0 absent, else a revision), value.
type OpTuple = (u8, KeyTuple, i64, Vec<u8>);
type ListedTuple = (KeyTuple, Py<PyBytes>, u64);
type EventTuple = (&'static str, KeyTuple, u64, Py<PyBytes>, Option<Py<PyBytes>>, bool);
type Committed = (u64, kedge_core::Result<Vec<u64>>);

/// An object store, opened once per process.
#[pyclass(frozen, module = "kedge._core")]
pub(crate) struct Store {
    inner: CoreStore,
    answers: Arc<Inbox<Committed>>,
}

#[pymethods]
impl Store {
    #[new]
    #[pyo3(signature = (path, primary, history, history_bytes, history_seconds, map_size, durable, seal, sealed))]
    #[allow(clippy::too_many_arguments, reason = "the face passes each option by name")]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        primary: bool,
        history: usize,
        history_bytes: usize,
        history_seconds: f64,
        map_size: usize,
        durable: bool,
        seal: Option<[u8; 32]>,
        sealed: Vec<(String, String)>,
    ) -> PyResult<Self> {
        let mode = if primary { Mode::Primary } else { Mode::Replica };
        let history_age = (history_seconds > 0.0)
            .then(|| Duration::try_from_secs_f64(history_seconds).unwrap_or(Duration::MAX));
        let options =
            Options { mode, history, history_bytes, history_age, map_size, durable, seal, sealed };
        let inner = py.enter(|| CoreStore::open(&path, options))?;
        let answers = Arc::new(Inbox::new(usize::MAX).map_err(into_py)?);
        Ok(Self { inner, answers })
    }

    fn get(&self, py: Python<'_>, key: KeyTuple) -> PyResult<Option<(Py<PyBytes>, u64)>> {
        let found = self.inner.get(&core_key(key)).map_err(into_py)?;
        Ok(found.map(|object| (bytes(py, &object.value), object.revision)))
    }

    #[pyo3(signature = (group, resource, namespace, labels, fields, limit, continue_token, at_revision))]
    #[allow(clippy::too_many_arguments, reason = "the face passes each option by name")]
    fn list(
        &self,
        py: Python<'_>,
        group: String,
        resource: String,
        namespace: String,
        labels: String,
        fields: String,
        limit: usize,
        continue_token: String,
        at_revision: u64,
    ) -> PyResult<(Vec<ListedTuple>, u64, String)> {
        let query = ListQuery {
            group,
            resource,
            namespace,
            labels,
            fields,
            limit,
            continue_token,
            at_revision,
        };
        let page = py.enter(|| self.inner.list(&query))?;
        Ok((listed(py, page.items), page.revision, page.continue_token))
    }

    fn owned(&self, py: Python<'_>, uid: &str) -> PyResult<Vec<ListedTuple>> {
        let found = py.enter(|| self.inner.owned(uid))?;
        Ok(listed(py, found))
    }

    fn submit(&self, py: Python<'_>, ticket: u64, ops: Vec<OpTuple>) -> PyResult<()> {
        let ops = core_ops(ops)?;
        let answers = Arc::clone(&self.answers);
        py.detach(|| {
            self.inner.submit(ops, move |result| answers.push_unbounded((ticket, result)));
        });
        Ok(())
    }

    fn commit_now(&self, py: Python<'_>, ops: Vec<OpTuple>) -> PyResult<Vec<u64>> {
        let ops = core_ops(ops)?;
        py.enter(|| self.inner.commit(ops))
    }

    fn fileno(&self) -> i32 {
        self.answers.fileno()
    }

    fn drain(&self, limit: usize) -> Vec<(u64, Vec<u64>, Option<PyErr>)> {
        let answer = |(ticket, result): Committed| match result {
            Ok(revisions) => (ticket, revisions, None),
            Err(error) => (ticket, Vec::new(), Some(into_py(error))),
        };
        self.answers.drain(limit).into_iter().map(answer).collect()
    }

    #[pyo3(signature = (resources, from_revision, namespace, labels, fields))]
    fn watch(
        &self,
        resources: Vec<(String, String)>,
        from_revision: Option<u64>,
        namespace: String,
        labels: String,
        fields: String,
    ) -> PyResult<Watch> {
        let query = WatchQuery { resources, namespace, labels, fields };
        let from = from_revision.unwrap_or_else(|| self.inner.revision());
        let watcher = self.inner.watch(&query, from).map_err(into_py)?;
        let bell = Arc::new(Bell::new().map_err(into_py)?);
        watcher.attach(&bell);
        Ok(Watch { watcher: Mutex::new(Some(watcher)), bell })
    }

    #[getter]
    fn revision(&self) -> u64 {
        self.inner.revision()
    }

    #[getter]
    fn store_id(&self) -> u64 {
        self.inner.store_id()
    }

    fn stats(&self, py: Python<'_>) -> PyResult<Vec<(&'static str, u64)>> {
        let stats = py.enter(|| self.inner.stats())?;
        Ok(vec![
            ("revision", stats.revision),
            ("oldest", stats.oldest),
            ("objects", stats.objects),
            ("history", stats.history),
            ("file_bytes", stats.file_bytes),
            ("map_bytes", stats.map_bytes),
        ])
    }

    fn copy_to(&self, py: Python<'_>, descriptor: i32) -> PyResult<()> {
        #[allow(unsafe_code, reason = "Python holds the descriptor open during the call")]
        let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
        let owned = borrowed.try_clone_to_owned()?;
        py.enter(|| self.inner.copy_to(&mut File::from(owned)))
    }

    fn trim(&self, py: Python<'_>) {
        py.detach(|| self.inner.trim());
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        py.enter(|| self.inner.close())
    }
}

/// Changes of a store; ``fileno`` is readable when ``drain`` may have some.
#[pyclass(frozen, module = "kedge._core")]
pub(crate) struct Watch {
    watcher: Mutex<Option<Watcher>>,
    bell: Arc<Bell>,
}

#[pymethods]
impl Watch {
    fn fileno(&self) -> i32 {
        self.bell.fileno()
    }

    #[pyo3(signature = (limit))]
    fn drain(&self, py: Python<'_>, limit: usize) -> PyResult<Vec<EventTuple>> {
        let _ = limit;
        self.bell.clear();
        let events = py.enter(|| match self.watcher.lock().as_mut() {
            Some(watcher) => watcher.try_next(),
            None => Err(Error::new(Kind::Closed, "the watch is closed")),
        })?;
        let tuple = |event: &Arc<kedge_core::store::Event>| {
            let kind = if event.kind == EventKind::Put { "PUT" } else { "DELETE" };
            let previous = event.previous.as_ref().map(|value| bytes(py, value));
            (
                kind,
                key_tuple(event.key.clone()),
                event.revision,
                bytes(py, &event.value),
                previous,
                event.created,
            )
        };
        Ok(events.unwrap_or_default().iter().map(tuple).collect())
    }

    fn close(&self) {
        self.watcher.lock().take();
    }
}

impl Store {
    /// The core store, for other Rust parts; it shares what it holds with this one.
    #[allow(clippy::unnecessary_wraps, reason = "callers treat every handle alike")]
    pub(crate) fn handle(&self) -> PyResult<CoreStore> {
        Ok(self.inner.clone())
    }
}

/// Renames a damaged store out of the way; where it is now.
#[pyfunction]
fn set_store_aside(py: Python<'_>, path: PathBuf) -> PyResult<PathBuf> {
    py.enter(|| kedge_core::store::set_aside(&path))
}

/// Makes a store of the copy of an older one: the revisions of the copy, and of what it is now.
#[pyfunction]
fn renew_store(py: Python<'_>, path: PathBuf, leap: u64, least: u64) -> PyResult<(u64, u64)> {
    let renewed = py.enter(|| kedge_core::store::renew(&path, leap, least))?;
    Ok((renewed.before, renewed.revision))
}

fn bytes(py: Python<'_>, value: &[u8]) -> Py<PyBytes> {
    PyBytes::new(py, value).unbind()
}

fn core_key((group, resource, namespace, name): KeyTuple) -> Key {
    Key { group, resource, namespace, name }
}

fn key_tuple(key: Key) -> KeyTuple {
    (key.group, key.resource, key.namespace, key.name)
}

fn listed(py: Python<'_>, items: Vec<Listed>) -> Vec<ListedTuple> {
    items
        .into_iter()
        .map(|item| (key_tuple(item.key), bytes(py, &item.value), item.revision))
        .collect()
}

fn core_ops(ops: Vec<OpTuple>) -> PyResult<Vec<Op>> {
    let op = |(kind, key, expect, value): OpTuple| {
        let key = core_key(key);
        let expect = match u64::try_from(expect) {
            Ok(0) => Expect::Absent,
            Ok(revision) => Expect::Revision(revision),
            Err(_) if expect == -1 => Expect::Any,
            Err(_) => Expect::Present,
        };
        match kind {
            0 => Ok(Op::Put { key, value: Bytes::from(value), expect }),
            1 => Ok(Op::Delete { key, expect }),
            2 => Ok(Op::Check { key, expect }),
            _ => Err(into_py(Error::new(
                Kind::Invalid,
                format!("operation of unknown kind: {kind}"),
            ))),
        }
    };
    ops.into_iter().map(op).collect()
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Store>()?;
    module.add_class::<Watch>()?;
    module.add_function(wrap_pyfunction!(set_store_aside, module)?)?;
    module.add_function(wrap_pyfunction!(renew_store, module)?)
}
