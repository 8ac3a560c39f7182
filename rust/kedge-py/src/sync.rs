// SPDX-License-Identifier: Apache-2.0
//! Python's `LinkEnd`: one end of a link without sockets, clock or store, so that tests can hold
//! the real session against a model of it.

use std::collections::HashMap;

use bytes::Bytes;
use kedge_core::sync::endpoint::Endpoint;
use kedge_core::sync::session::{Command, Event, Role};
use kedge_core::sync::version::{self, Digest};
use kedge_core::sync::{Change, Key, Lane};
use kedge_core::wire::WireError;
use kedge_core::wire::envelope::{Entry, Hello, Welcome};
use kedge_core::wire::pack;
use parking_lot::Mutex;
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::into_py;

type KeyTuple = (String, String, String, String);

/// One end of a link: ``hub`` or ``node``.
#[pyclass(frozen, module = "kedge._core")]
pub(crate) struct LinkEnd {
    state: Mutex<State>,
}

struct State {
    endpoint: Endpoint,
    held: HashMap<Key, Bytes>,
}

#[pymethods]
impl LinkEnd {
    #[new]
    fn new(hub: bool) -> Self {
        let role = if hub { Role::Hub } else { Role::Node };
        let state = State { endpoint: Endpoint::new(role), held: HashMap::new() };
        Self { state: Mutex::new(state) }
    }

    /// What this end holds of an object, to find bases in.
    fn hold(&self, key: KeyTuple, value: Option<Vec<u8>>) {
        let held = &mut self.state.lock().held;
        match value {
            Some(value) => held.insert(core_key(key), value.into()),
            None => held.remove(&core_key(key)),
        };
    }

    /// Node: says hello with the digest of what it holds.
    fn greet(&self, node: String, digest: Vec<u8>, count: u32) -> PyResult<()> {
        let dictionary = pack::dictionary_hash();
        let hello = Hello { node, dictionary, digest: digest.into(), count, ..Hello::default() };
        self.step(Event::Open(hello), 0).map(|_| ())
    }

    /// Hub: welcomes the node; 0 its copy is equal, 1 it shall send its inventory, 2 it holds nothing.
    fn welcome(&self, resume: i32) -> PyResult<()> {
        let dictionary = pack::dictionary_hash();
        let welcome = Welcome { session: 1, dictionary, resume, ..Welcome::default() };
        self.step(Event::Attached(welcome), 0).map(|_| ())
    }

    /// Hub: all differences have been offered.
    fn loaded(&self) -> PyResult<()> {
        self.step(Event::Loaded, 0).map(|_| ())
    }

    /// Node: sends the versions of what it holds.
    fn send_inventory(&self, entries: Vec<(KeyTuple, u64)>) -> PyResult<()> {
        let entry = |(key, version): (KeyTuple, u64)| Entry { key: Some(core_key(key)), version };
        let mut state = self.state.lock();
        let event = state.endpoint.inventory(entries.into_iter().map(entry).collect());
        state.endpoint.step(event, 0).map(|_| ()).map_err(wire)
    }

    /// Offers an object on lane 0 or 1.
    #[pyo3(signature = (lane, key, value, revision, now))]
    fn offer(
        &self,
        lane: usize,
        key: KeyTuple,
        value: Option<Vec<u8>>,
        revision: u64,
        now: u64,
    ) -> PyResult<()> {
        let change = Change::new(core_key(key), value.map(Bytes::from), revision);
        self.step(Event::Changed(Lane::ALL[lane & 1], change), now).map(|_| ())
    }

    /// What came as these numbers is durable.
    fn settle(&self, py: Python<'_>, lane: usize, seqs: Vec<u64>) -> PyResult<Vec<Py<PyAny>>> {
        let commands = self.step(Event::Settled(Lane::ALL[lane & 1], seqs), 0)?;
        tuples(py, commands)
    }

    /// Everything that may be sent now, as frames.
    fn frames(&self, py: Python<'_>, now: u64) -> PyResult<Vec<Py<PyBytes>>> {
        self.step(Event::Flush, now)?;
        let mut state = self.state.lock();
        let frames = std::iter::from_fn(|| state.endpoint.next_frame());
        Ok(frames.map(|frame| PyBytes::new(py, &frame).unbind()).collect())
    }

    /// Takes in a frame; what is to be done, as tuples.
    fn receive(&self, py: Python<'_>, frame: &[u8], now: u64) -> PyResult<Vec<Py<PyAny>>> {
        let mut state = self.state.lock();
        let State { endpoint, held } = &mut *state;
        let commands = endpoint.receive(frame, now, &|key| held.get(key).cloned()).map_err(wire)?;
        drop(state);
        tuples(py, commands)
    }
}

impl LinkEnd {
    fn step(&self, event: Event, now: u64) -> PyResult<Vec<Command>> {
        self.state.lock().endpoint.step(event, now).map_err(wire)
    }
}

/// The digest of a view and the number of its objects.
#[pyfunction]
fn view_digest(py: Python<'_>, entries: Vec<(KeyTuple, u64)>) -> (Py<PyBytes>, u32) {
    let mut digest = Digest::default();
    for (key, version) in entries {
        digest.add(&core_key(key), version);
    }
    (PyBytes::new(py, &digest.bytes()).unbind(), digest.count)
}

/// The version of an object's bytes.
#[pyfunction]
fn object_version(value: &[u8]) -> u64 {
    version::version(value)
}

/// The bytes of an object that a node gets; none when it is not a JSON object.
#[pyfunction]
fn project_object(py: Python<'_>, key: KeyTuple, value: &[u8]) -> Option<Py<PyBytes>> {
    version::project(&core_key(key), value).map(|bytes| PyBytes::new(py, &bytes).unbind())
}

fn tuples(py: Python<'_>, commands: Vec<Command>) -> PyResult<Vec<Py<PyAny>>> {
    commands.into_iter().filter_map(|command| tuple(py, command).transpose()).collect()
}

fn tuple(py: Python<'_>, command: Command) -> PyResult<Option<Py<PyAny>>> {
    let bytes = |value: &[u8]| PyBytes::new(py, value).unbind();
    let made = match command {
        Command::Attach(hello) => ("attach", bytes(&hello.digest), hello.count).into_py_any(py),
        Command::Compare(entries) => {
            let entry = |e: Entry| (key_tuple(e.key.unwrap_or_default()), e.version);
            ("compare", entries.into_iter().map(entry).collect::<Vec<_>>()).into_py_any(py)
        }
        Command::TakeInventory => ("inventory",).into_py_any(py),
        Command::Deliver(lane, items) => {
            let item = |(seq, item): (u64, kedge_core::sync::Item)| {
                let value = item.value.map(|value| bytes(&value));
                (seq, key_tuple(item.key), value, item.revision)
            };
            let items = items.into_iter().map(item).collect::<Vec<_>>();
            ("deliver", lane as usize, items).into_py_any(py)
        }
        Command::Acked(done) => {
            let done = done.into_iter().map(|(key, revision)| (key_tuple(key), revision));
            ("acked", done.collect::<Vec<_>>()).into_py_any(py)
        }
        Command::Synced => ("synced",).into_py_any(py),
        _ => return Ok(None),
    };
    made.map(Some)
}

fn core_key((group, resource, namespace, name): KeyTuple) -> Key {
    Key { group, resource, namespace, name }
}

fn key_tuple(key: Key) -> KeyTuple {
    (key.group, key.resource, key.namespace, key.name)
}

fn wire(error: WireError) -> PyErr {
    into_py(error.into())
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<LinkEnd>()?;
    module.add_function(wrap_pyfunction!(view_digest, module)?)?;
    module.add_function(wrap_pyfunction!(object_version, module)?)?;
    module.add_function(wrap_pyfunction!(project_object, module)?)
}
