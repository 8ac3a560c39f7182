// SPDX-License-Identifier: Apache-2.0
//! Python's `Runtime`: the tokio runtime that a role builds once and hands to its components.

use pyo3::prelude::*;

use crate::door::Enter;

/// The process's tokio runtime; pass it to what needs one, close it last.
#[pyclass(frozen, module = "kedge._core")]
pub(crate) struct Runtime {
    pub(crate) inner: kedge_core::runtime::Runtime,
}

#[pymethods]
impl Runtime {
    #[new]
    #[pyo3(signature = (workers=2))]
    fn new(py: Python<'_>, workers: usize) -> PyResult<Self> {
        let inner = py.enter(|| kedge_core::runtime::Runtime::new(workers))?;
        Ok(Self { inner })
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.inner.close());
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Runtime>()
}
