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

/// Drops the resident pages of the process's code; what is used again comes back.
#[pyfunction]
fn release_code() {
    kedge_core::pages::release_code();
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(release_code, module)?)?;
    module.add_class::<Runtime>()
}
