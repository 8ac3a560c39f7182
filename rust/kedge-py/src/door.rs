// SPDX-License-Identifier: Apache-2.0
//! The one door for calls that may take longer than a microsecond: release the GIL, map the error.

use pyo3::prelude::*;

use crate::error::into_py;

/// `py.enter(|| …)` runs a core function without the GIL and turns its error into Python's.
pub(crate) trait Enter {
    fn enter<T: Send, F>(self, call: F) -> PyResult<T>
    where
        F: Send + FnOnce() -> kedge_core::Result<T>;
}

impl Enter for Python<'_> {
    fn enter<T: Send, F>(self, call: F) -> PyResult<T>
    where
        F: Send + FnOnce() -> kedge_core::Result<T>,
    {
        self.detach(call).map_err(into_py)
    }
}
