// SPDX-License-Identifier: Apache-2.0
//! Python's `KubeletServer`: a thin wrapper over `kedge_core::kubelet`.

use std::path::Path;
use std::sync::Arc;

use kedge_core::hub::tunnels::Services;
use kedge_core::kubelet::{self, LogRequest};
use kedge_core::stats::World;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::door::Enter;
use crate::runtime::Runtime;

/// The node's kubelet server; requests are drained and answered by number.
#[pyclass(frozen, module = "kedge._core")]
pub(crate) struct KubeletServer {
    inner: kubelet::KubeletServer,
}

impl KubeletServer {
    /// For the API server of the same node.
    pub(crate) fn handle(&self) -> kubelet::KubeletServer {
        self.inner.clone()
    }

    /// As what the link passes its tunnels to.
    pub(crate) fn services(&self) -> Arc<dyn Services> {
        Arc::new(self.inner.clone())
    }
}

/// Request number, method, path, query, whether it wants an upgrade, body.
type Row<'py> = (u64, String, String, String, bool, Bound<'py, PyBytes>);

#[pymethods]
impl KubeletServer {
    #[new]
    fn new(py: Python<'_>, runtime: &Runtime) -> PyResult<Self> {
        let inner = py.enter(|| kubelet::KubeletServer::new(&runtime.inner))?;
        Ok(Self { inner })
    }

    fn fileno(&self) -> i32 {
        self.inner.fileno()
    }

    fn drain<'py>(&self, py: Python<'py>, limit: usize) -> Vec<Row<'py>> {
        let asked = self.inner.drain(limit).into_iter();
        asked
            .map(|(id, one)| {
                let body = PyBytes::new(py, &one.body);
                (id, one.method, one.path, one.query, one.is_upgrade, body)
            })
            .collect()
    }

    fn answer(&self, id: u64, status: u16, content_type: String, body: Vec<u8>) {
        self.inner.answer(id, status, content_type, body.into());
    }

    fn answer_log(&self, py: Python<'_>, id: u64, request: &str) -> PyResult<()> {
        py.enter(|| LogRequest::parse(request).map(|request| self.inner.answer_log(id, request)))
    }

    fn answer_stream(&self, id: u64, url: String) {
        self.inner.answer_stream(id, url);
    }

    fn answer_stats(&self, py: Python<'_>, id: u64, world: &str) -> PyResult<()> {
        py.enter(|| World::parse(world).map(|world| self.inner.answer_stats(id, world)))
    }

    fn log_ended(&self, container: &str) {
        self.inner.log_ended(container);
    }

    fn listen(&self, py: Python<'_>, path: &str) -> PyResult<()> {
        py.enter(|| self.inner.listen(Path::new(path)))
    }

    fn close(&self) {
        self.inner.close();
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<KubeletServer>()
}
