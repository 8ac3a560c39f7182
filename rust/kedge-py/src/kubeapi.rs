// SPDX-License-Identifier: Apache-2.0
//! Python's `ApiServer`: a thin wrapper over `kedge_core::kubeapi`.

use kedge_core::hub::Identity;
use kedge_core::kubeapi::{self, About, Question, Reply};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use crate::door::Enter;
use crate::hub::HubClient;
use crate::kubelet::KubeletServer;
use crate::runtime::Runtime;
use crate::store::Store;

/// The API server's HTTP side; requests that Python decides are drained and answered by number.
#[pyclass(frozen, module = "kedge._core")]
pub(crate) struct ApiServer {
    inner: kubeapi::ApiServer,
}

/// Request number, status, content type, body, headers.
type Answered = (u64, u16, String, Vec<u8>, Vec<(String, String)>);

#[pymethods]
impl ApiServer {
    #[new]
    #[pyo3(signature = (runtime, store, config, link = None, kubelet = None))]
    fn new(
        py: Python<'_>,
        runtime: &Runtime,
        store: &Store,
        config: &str,
        link: Option<&HubClient>,
        kubelet: Option<&KubeletServer>,
    ) -> PyResult<Self> {
        let store = store.handle()?;
        let outlet = link.map(HubClient::outlet);
        let kubelet = kubelet.map(KubeletServer::handle);
        let start = || kubeapi::ApiServer::start(&runtime.inner, store, config, outlet, kubelet);
        let inner = py.enter(start)?;
        Ok(Self { inner })
    }

    #[getter]
    fn port(&self) -> u16 {
        self.inner.address().port()
    }

    fn fileno(&self) -> i32 {
        self.inner.fileno()
    }

    fn drain<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Bound<'py, PyList>> {
        let batch = self.inner.drain(limit);
        let rows = batch.into_iter().map(|question| row(py, question));
        PyList::new(py, rows.collect::<PyResult<Vec<_>>>()?)
    }

    fn respond(&self, py: Python<'_>, answers: Vec<Answered>) -> usize {
        let waited = |(id, status, content_type, body, headers): Answered| {
            let reply = Reply { status, content_type, body: body.into(), headers };
            self.inner.respond(id, reply)
        };
        py.detach(|| answers.into_iter().filter_map(|one| waited(one).then_some(())).count())
    }

    fn set_document(&self, path: &str, media_type: &str, body: &[u8], etag: &str) {
        self.inner.set_document(path, media_type, body.to_vec().into(), etag);
    }

    fn expect_document(&self, path: &str) {
        self.inner.expect_document(path);
    }

    fn set_nodes(
        &self,
        py: Python<'_>,
        certificate: String,
        key: String,
        ca: &str,
        server_name: &str,
    ) -> PyResult<()> {
        let identity = Identity { certificate, key };
        py.enter(|| self.inner.set_nodes(&identity, ca, server_name))
    }

    /// `resource` is group, plural, subresource, namespace and name, each of which may be empty.
    fn allows(
        &self,
        py: Python<'_>,
        user: &str,
        groups: Vec<String>,
        verb: &str,
        resource: (String, String, String, String, String),
    ) -> bool {
        let (group, resource, subresource, namespace, name) = resource;
        let about = About {
            group: &group,
            resource: &resource,
            subresource: &subresource,
            namespace: &namespace,
            name: &name,
        };
        py.detach(|| self.inner.allows((user, groups), verb, about))
    }

    fn allows_url(
        &self,
        py: Python<'_>,
        user: &str,
        groups: Vec<String>,
        verb: &str,
        path: &str,
    ) -> bool {
        py.detach(|| self.inner.allows_url((user, groups), verb, path))
    }

    fn lacks(
        &self,
        py: Python<'_>,
        user: &str,
        groups: Vec<String>,
        namespace: &str,
        rules: &str,
    ) -> PyResult<Vec<String>> {
        py.enter(|| self.inner.lacks((user, groups), namespace, rules))
    }

    fn rules(&self, py: Python<'_>, user: &str, groups: Vec<String>, namespace: &str) -> String {
        py.detach(|| self.inner.rules((user, groups), namespace))
    }

    fn set_ready(&self, ready: bool) {
        self.inner.set_ready(ready);
    }

    fn close(&self) {
        self.inner.close();
    }
}

fn row(py: Python<'_>, question: Question) -> PyResult<Bound<'_, PyTuple>> {
    let [group, version, resource, namespace, name, subresource] = question.target;
    PyTuple::new(
        py,
        [
            question.id.into_pyobject(py)?.into_any(),
            question.method.into_pyobject(py)?.into_any(),
            question.path.into_pyobject(py)?.into_any(),
            group.into_pyobject(py)?.into_any(),
            version.into_pyobject(py)?.into_any(),
            resource.into_pyobject(py)?.into_any(),
            namespace.into_pyobject(py)?.into_any(),
            name.into_pyobject(py)?.into_any(),
            subresource.into_pyobject(py)?.into_any(),
            question.query.into_pyobject(py)?.into_any(),
            question.user.into_pyobject(py)?.into_any(),
            question.groups.into_pyobject(py)?.into_any(),
            question.content_type.into_pyobject(py)?.into_any(),
            question.accept.into_pyobject(py)?.into_any(),
            PyBytes::new(py, &question.body).into_any(),
            question.agent.into_pyobject(py)?.into_any(),
        ],
    )
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<ApiServer>()
}
