// SPDX-License-Identifier: Apache-2.0
//! Python's `hub`: thin wrappers over `kedge_core::hub`.

use pyo3::prelude::*;

pub(crate) fn register(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
