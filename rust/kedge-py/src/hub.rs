// SPDX-License-Identifier: Apache-2.0
//! Python's `HubServer` and `HubClient`: both ends of the link, events as flat tuples.

#![expect(clippy::needless_pass_by_value, reason = "PyO3 hands lists and paths over by value")]

use std::sync::Arc;

use kedge_core::bridge::Inbox;
use kedge_core::hub::Identity;
use kedge_core::hub::client::{
    ClientEvent, HubClient as CoreClient, Outlet, read_config as client_config,
};
use kedge_core::hub::server::{HubServer as CoreServer, ServerEvent, read_config as server_config};
use kedge_core::kube;
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::door::Enter;
use crate::error::into_py;
use crate::kubelet::KubeletServer;
use crate::runtime::Runtime;
use crate::store::Store;

/// The hub's end; listens once made, takes links after ``open``.
#[pyclass(frozen, module = "kedge._core")]
pub(crate) struct HubServer {
    inner: CoreServer,
}

#[pymethods]
impl HubServer {
    #[new]
    fn new(py: Python<'_>, runtime: &Runtime, store: &Store, config: &str) -> PyResult<Self> {
        let store = Arc::new(store.handle()?);
        let inner =
            py.enter(|| CoreServer::start(&runtime.inner, store, &server_config(config)?))?;
        Ok(Self { inner })
    }

    #[getter]
    fn port(&self) -> u16 {
        self.inner.port()
    }

    fn fileno(&self) -> i32 {
        self.inner.inbox().fileno()
    }

    fn drain(&self, py: Python<'_>, limit: usize) -> PyResult<Vec<Py<PyAny>>> {
        drain(self.inner.inbox(), limit, |event| server_tuple(py, event))
    }

    fn open(&self) {
        self.inner.open();
    }

    fn offer_api(
        &self,
        runtime: &Runtime,
        server: String,
        ca: String,
        server_name: String,
    ) -> PyResult<()> {
        let options = kube::Options { server, ca, server_name, ..kube::Options::default() };
        let service = kube::ApiService::new(&runtime.inner, &options).map_err(into_py)?;
        self.inner.offer(Arc::new(service));
        Ok(())
    }

    fn ack(&self, py: Python<'_>, session: u64, seqs: Vec<u64>) {
        py.detach(|| self.inner.ack(session, &seqs));
    }

    fn nack(&self, py: Python<'_>, session: u64, seq: u64, reason: &str) {
        py.detach(|| self.inner.nack(session, seq, reason));
    }

    fn respond(&self, session: u64, request: u64, status: u32, body: Vec<u8>) {
        self.inner.respond(session, request, status, body.into());
    }

    fn respond_join(&self, join: u64, status: u16, body: Vec<u8>) {
        self.inner.respond_join(join, status, body.into());
    }

    fn disconnect(&self, node: &str, reason: &str) {
        self.inner.disconnect(node, reason);
    }

    fn allow_key(&self, session: u64, key_hash: &str) {
        self.inner.allow_key(session, key_hash);
    }

    fn set_certificates(&self, certificate: String, key: String, ca: &str) -> PyResult<()> {
        let identity = Identity { certificate, key };
        self.inner.set_certificates(&identity, ca).map_err(crate::error::into_py)
    }

    fn stats(&self, py: Python<'_>) -> Vec<(&'static str, u64)> {
        py.detach(|| self.inner.stats()).fields().to_vec()
    }

    fn close(&self, py: Python<'_>, retry_after_ms: u32) {
        py.detach(|| self.inner.close(retry_after_ms));
    }
}

/// The node's end; connects once made.
#[pyclass(frozen, module = "kedge._core")]
pub(crate) struct HubClient {
    inner: CoreClient,
}

impl HubClient {
    /// The way to the services of the hub.
    pub(crate) fn outlet(&self) -> Outlet {
        self.inner.outlet()
    }
}

#[pymethods]
impl HubClient {
    #[new]
    #[pyo3(signature = (runtime, store, config, kubelet = None))]
    fn new(
        py: Python<'_>,
        runtime: &Runtime,
        store: &Store,
        config: &str,
        kubelet: Option<&KubeletServer>,
    ) -> PyResult<Self> {
        let store = Arc::new(store.handle()?);
        let services = kubelet.map(KubeletServer::services);
        let inner = py
            .enter(|| CoreClient::start(&runtime.inner, store, client_config(config)?, services))?;
        Ok(Self { inner })
    }

    fn fileno(&self) -> i32 {
        self.inner.inbox().fileno()
    }

    fn drain(&self, py: Python<'_>, limit: usize) -> PyResult<Vec<Py<PyAny>>> {
        drain(self.inner.inbox(), limit, |event| client_tuple(py, event))
    }

    fn request(&self, ticket: u64, method: &str, body: Vec<u8>) {
        self.inner.request(ticket, method, body.into());
    }

    fn set_certificate(&self, certificate: String, key: String) -> PyResult<()> {
        let identity = Identity { certificate, key };
        self.inner.set_certificate(&identity).map_err(crate::error::into_py)
    }

    fn status(&self) -> (bool, bool, u64, String, u32, usize, u64, u64) {
        let s = self.inner.status();
        let (bytes_in, bytes_out) = (s.bytes_in, s.bytes_out);
        (
            s.connected,
            s.synced,
            s.since_ms,
            s.last_error,
            s.attempts,
            s.waiting,
            bytes_in,
            bytes_out,
        )
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.inner.close());
    }
}

fn drain<T: Send>(
    inbox: &Inbox<T>,
    limit: usize,
    tuple: impl Fn(T) -> PyResult<Py<PyAny>>,
) -> PyResult<Vec<Py<PyAny>>> {
    inbox.drain(limit).into_iter().map(tuple).collect()
}

fn server_tuple(py: Python<'_>, event: ServerEvent) -> PyResult<Py<PyAny>> {
    use ServerEvent as E;
    let bytes = |data: &[u8]| PyBytes::new(py, data);
    match event {
        E::Connected { who: w, agent } => {
            ("connected", &*w.node, w.session, w.address, w.key_hash, agent, w.uid).into_py_any(py)
        }
        E::Disconnected { who, reason } => {
            ("disconnected", &*who.node, who.session, reason).into_py_any(py)
        }
        E::Report { who, seq, key: k, value } => {
            let value = bytes(&value);
            let (node, session) = (&*who.node, who.session);
            ("report", node, session, seq, k.group, k.resource, k.namespace, k.name, value)
                .into_py_any(py)
        }
        E::Request { who, id, method, body } => {
            ("request", &*who.node, who.session, id, method, bytes(&body)).into_py_any(py)
        }
        E::Join { id, path, body, address } => {
            ("join", id, path, bytes(&body), address).into_py_any(py)
        }
        E::Leave { id, node, uid, key_hash, address } => {
            ("leave", id, node, uid, key_hash, address).into_py_any(py)
        }
        E::Lookup { id, node, address } => ("lookup", id, node, address).into_py_any(py),
        E::Refused { who, what, reason, count } => {
            ("refused", &*who.node, who.session, what, reason, count).into_py_any(py)
        }
    }
}

fn client_tuple(py: Python<'_>, event: ClientEvent) -> PyResult<Py<PyAny>> {
    use ClientEvent as E;
    match event {
        E::Connected { session } => ("connected", session).into_py_any(py),
        E::Synced => ("synced",).into_py_any(py),
        E::Disconnected { reason, retry_in_ms } => {
            ("disconnected", reason, retry_in_ms).into_py_any(py)
        }
        E::Response { ticket, status, body } => {
            ("response", ticket, status, PyBytes::new(py, &body)).into_py_any(py)
        }
        E::Rejected { what, reason } => ("rejected", what, reason).into_py_any(py),
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<HubServer>()?;
    module.add_class::<HubClient>()
}
