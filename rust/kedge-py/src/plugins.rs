// SPDX-License-Identifier: Apache-2.0
//! Python's `PluginClient` and `PluginServer`: thin wrappers over `kedge_core::plugins`.

#![expect(clippy::needless_pass_by_value, reason = "PyO3 hands paths over by value")]
#![expect(clippy::too_many_arguments, reason = "a call is told all that it needs at once")]

use std::path::PathBuf;
use std::time::Duration;

use kedge_core::plugins::{Calls, Server};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::door::Enter;
use crate::runtime::Runtime;

/// Calls to plugins by ticket, their streams, and watched directories; all comes out of `drain`.
#[pyclass(frozen, module = "kedge._core")]
pub(crate) struct PluginClient {
    calls: Calls,
}

#[pymethods]
impl PluginClient {
    #[new]
    fn new(py: Python<'_>, runtime: &Runtime) -> PyResult<Self> {
        let runtime = runtime.inner.clone();
        let calls = py.enter(|| Calls::new(runtime))?;
        Ok(Self { calls })
    }

    fn fileno(&self) -> i32 {
        self.calls.inbox().fileno()
    }

    fn drain<'py>(&self, py: Python<'py>, limit: usize) -> Vec<(u64, i32, Bound<'py, PyBytes>)> {
        let rows = self.calls.inbox().drain(limit);
        rows.into_iter()
            .map(|(ticket, code, body)| (ticket, code, PyBytes::new(py, &body)))
            .collect()
    }

    fn call(
        &self,
        py: Python<'_>,
        ticket: u64,
        endpoint: &str,
        method: String,
        request: Vec<u8>,
        timeout_ms: u64,
    ) -> PyResult<()> {
        let timeout = Duration::from_millis(timeout_ms);
        py.enter(|| self.calls.call(ticket, endpoint, method, request, timeout))
    }

    fn list_and_watch(&self, py: Python<'_>, ticket: u64, endpoint: &str) -> PyResult<()> {
        py.enter(|| self.calls.list_and_watch(ticket, endpoint))
    }

    fn watch(&self, py: Python<'_>, ticket: u64, directory: PathBuf) -> PyResult<()> {
        py.enter(|| self.calls.watch(ticket, directory))
    }

    fn stop(&self, ticket: u64) {
        self.calls.stop(ticket);
    }

    fn forget(&self, endpoint: &str) {
        self.calls.forget(endpoint);
    }

    fn close(&self) {
        self.calls.close();
    }
}

/// A gRPC server on a Unix socket; questions are drained and answered by number.
#[pyclass(frozen, module = "kedge._core")]
pub(crate) struct PluginServer {
    inner: Server,
}

#[pymethods]
impl PluginServer {
    #[new]
    fn new(py: Python<'_>, runtime: &Runtime, path: PathBuf) -> PyResult<Self> {
        let inner = py.enter(|| Server::listen(&runtime.inner, &path))?;
        Ok(Self { inner })
    }

    fn fileno(&self) -> i32 {
        self.inner.fileno()
    }

    fn drain<'py>(
        &self,
        py: Python<'py>,
        limit: usize,
    ) -> Vec<(u64, &'static str, Bound<'py, PyBytes>)> {
        let asked = self.inner.drain(limit).into_iter();
        asked.map(|(id, one)| (id, one.method, PyBytes::new(py, &one.request))).collect()
    }

    fn answer(&self, id: u64, code: i32, body: Vec<u8>) {
        self.inner.answer(id, code, body);
    }

    fn close(&self) {
        self.inner.close();
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PluginClient>()?;
    module.add_class::<PluginServer>()
}
