// SPDX-License-Identifier: Apache-2.0
//! Python's `KubeClient` and `Mirror`: thin wrappers over `kedge_core::kube`.

#![expect(
    clippy::too_many_arguments,
    reason = "flat values cross the boundary; the face names them"
)]

use std::time::Duration;

use kedge_core::kube::{self, Ask, Client, Options, Row, Tickets};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::door::Enter;
use crate::error::into_py;
use crate::runtime::Runtime;
use crate::store::Store;

/// A client of an API server; answers are drained by ticket.
#[pyclass(frozen, module = "kedge._core")]
pub(crate) struct KubeClient {
    inner: Tickets,
}

type Answered<'py> = (u64, u16, Bound<'py, PyBytes>);

#[pymethods]
impl KubeClient {
    #[new]
    fn new(
        runtime: &Runtime,
        server: String,
        ca: String,
        certificate: String,
        key: String,
        token: &str,
        server_name: String,
    ) -> PyResult<Self> {
        let options = Options { server, ca, certificate, key, server_name };
        let client = Client::new(&options, token).map_err(into_py)?;
        let inner = Tickets::new(&runtime.inner, client).map_err(into_py)?;
        Ok(Self { inner })
    }

    fn set_token(&self, token: &str) -> PyResult<()> {
        self.inner.client().set_token(token).map_err(into_py)
    }

    fn request(
        &self,
        ticket: u64,
        method: &str,
        path: String,
        content_type: String,
        body: &[u8],
        timeout_ms: u64,
    ) -> PyResult<()> {
        let ask = Ask::new(method, path, content_type, body.to_vec()).map_err(into_py)?;
        self.inner.request(ticket, ask, Duration::from_millis(timeout_ms));
        Ok(())
    }

    fn fileno(&self) -> i32 {
        self.inner.fileno()
    }

    fn drain<'py>(&self, py: Python<'py>, limit: usize) -> Vec<Answered<'py>> {
        let row = |(ticket, result): (u64, kedge_core::Result<kube::Answer>)| match result {
            Ok(answer) => (ticket, answer.status, PyBytes::new(py, &answer.body)),
            Err(error) => (ticket, 0, PyBytes::new(py, error.message.as_bytes())),
        };
        self.inner.drain(limit).into_iter().map(row).collect()
    }
}

/// Keeps a replica store equal to an API server; what happens is drained.
#[pyclass(frozen, module = "kedge._core")]
pub(crate) struct Mirror {
    inner: kube::Mirror,
}

#[pymethods]
impl Mirror {
    #[new]
    fn new(
        py: Python<'_>,
        runtime: &Runtime,
        client: &KubeClient,
        store: &Store,
        rows: Vec<(String, String, String, String, bool)>,
    ) -> PyResult<Self> {
        let row = |(group, version, resource, fields, optional)| Row {
            group,
            version,
            resource,
            fields,
            optional,
        };
        let rows = rows.into_iter().map(row).collect();
        let store = store.handle()?;
        let client = client.inner.client();
        let inner = py.enter(|| kube::Mirror::start(&runtime.inner, client, &store, rows))?;
        Ok(Self { inner })
    }

    fn fileno(&self) -> i32 {
        self.inner.fileno()
    }

    fn drain(&self, limit: usize) -> Vec<(String, &'static str, String)> {
        let row = |notice: kube::Notice| (notice.resource, notice.what, notice.detail);
        self.inner.drain(limit).into_iter().map(row).collect()
    }

    fn close(&self) {
        self.inner.close();
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<KubeClient>()?;
    module.add_class::<Mirror>()
}
