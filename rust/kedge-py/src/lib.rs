// SPDX-License-Identifier: Apache-2.0
//! The extension `kedge._core`: one list of what Python gets, one file per domain.

mod cri;
mod door;
mod error;
mod hub;
mod kube;
mod kubeapi;
mod kubelet;
mod pki;
mod plugins;
mod probe;
mod runtime;
mod store;
mod sync;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("VERSION", env!("CARGO_PKG_VERSION"))?;
    runtime::register(module)?;
    store::register(module)?;
    sync::register(module)?;
    pki::register(module)?;
    hub::register(module)?;
    kube::register(module)?;
    kubeapi::register(module)?;
    kubelet::register(module)?;
    cri::register(module)?;
    plugins::register(module)?;
    probe::register(module)
}
