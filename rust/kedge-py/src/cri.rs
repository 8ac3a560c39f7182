// SPDX-License-Identifier: Apache-2.0
//! Python's `CriClient`: a thin wrapper over `kedge_core::cri`.

use std::time::Duration;

use kedge_core::cri::Calls;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::door::Enter;
use crate::runtime::Runtime;

/// Calls to a container runtime by ticket; answers and changes come out of `drain`.
#[pyclass(frozen, module = "kedge._core")]
pub(crate) struct CriClient {
    calls: Calls,
}

#[pymethods]
impl CriClient {
    #[new]
    fn new(py: Python<'_>, runtime: &Runtime, endpoint: &str) -> PyResult<Self> {
        let runtime = runtime.inner.clone();
        let calls = py.enter(|| Calls::new(runtime, endpoint))?;
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
        method: String,
        request: Vec<u8>,
        timeout_ms: u64,
    ) -> PyResult<()> {
        let timeout = Duration::from_millis(timeout_ms);
        py.enter(|| self.calls.call(ticket, method, request, timeout))
    }

    fn watch(&self, py: Python<'_>, ticket: u64) -> PyResult<()> {
        py.enter(|| self.calls.watch(ticket))
    }

    fn look(&self) {
        self.calls.look();
    }

    fn close(&self) {
        self.calls.close();
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<CriClient>()
}
