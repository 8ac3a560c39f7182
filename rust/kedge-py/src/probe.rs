// SPDX-License-Identifier: Apache-2.0
//! Python's `Prober`: a thin wrapper over `kedge_core::probe`.

use std::time::Duration;

use kedge_core::probe::{Probes, Row};
use pyo3::prelude::*;

use crate::door::Enter;
use crate::runtime::Runtime;

/// Network probes by ticket; results come out of `drain`.
#[pyclass(frozen, module = "kedge._core")]
pub(crate) struct Prober {
    inner: Probes,
}

#[pymethods]
impl Prober {
    #[new]
    fn new(py: Python<'_>, runtime: &Runtime) -> PyResult<Self> {
        let inner = py.enter(|| Probes::new(&runtime.inner))?;
        Ok(Self { inner })
    }

    fn fileno(&self) -> i32 {
        self.inner.inbox().fileno()
    }

    fn drain(&self, limit: usize) -> Vec<Row> {
        self.inner.inbox().drain(limit)
    }

    fn start(&self, py: Python<'_>, ticket: u64, probe: &str, timeout_ms: u64) -> PyResult<()> {
        py.enter(|| self.inner.start(ticket, probe, Duration::from_millis(timeout_ms)))
    }

    fn close(&self) {
        self.inner.close();
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Prober>()
}
