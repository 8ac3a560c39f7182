// SPDX-License-Identifier: Apache-2.0
//! The Kubernetes API server's HTTP side: reads and watches answered here, the rest by Python.
//!
//! A request passes `connection` (TLS, HTTP/1.1 and HTTP/2, limits) and `handler` (who answers it): `path` and `query` say what
//! it is about, `rights` whether its sender may, by `auth` (certificate or token), `policy` and `rbac`. Then `stored`, with
//! `read` and `watch`, answers from the store's bytes, `proxy` from nodes, `documents` from what Python has put there, and everything
//! else goes through `queue` to Python and back by number. On a node (`replica`) what is not in its store, and every write, goes
//! through `pass` to the cloud instead (`written` and `versions`: what becomes of resource versions). `audit` writes down what is asked, if wanted. `face` shows what a store
//! holds, `table` computes what `kubectl get` prints.
//! Not here: admission, defaults, validation, patches, discovery documents; those are Python's.

mod accept;
mod audit;
mod auth;
mod body;
mod config;
mod connection;
mod documents;
mod face;
mod gzip;
mod handler;
mod impersonate;
mod named;
mod object;
mod pass;
mod path;
mod patient;
mod policy;
mod protobuf;
mod proxy;
mod query;
mod queue;
mod rbac;
mod read;
mod replica;
#[cfg(test)]
mod replica_tests;
#[cfg(test)]
mod review_tests;
mod reviews;
mod rights;
mod status;
mod stored;
mod table;
#[cfg(test)]
mod tests;
pub(crate) mod tls;
mod trust;
mod usage;
mod versions;
mod watch;
mod written;

use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::hub::Identity;
use crate::hub::client::Outlet;
use crate::kubelet::KubeletServer;
use crate::runtime::Runtime;
use crate::store::Store;
use crate::{Error, Result};

pub use queue::{Question, Reply};

/// A resource as an access is decided: `subresource`, `namespace` and `name` may be empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct About<'a> {
    /// API group, empty for the core.
    pub group: &'a str,
    /// The plural.
    pub resource: &'a str,
    /// Below it.
    pub subresource: &'a str,
    /// Where; empty is the whole cluster.
    pub namespace: &'a str,
    /// Which; empty is all.
    pub name: &'a str,
}

/// A running server; `close` ends it.
pub struct ApiServer {
    handler: Arc<handler::Handler>,
    address: SocketAddr,
}

impl ApiServer {
    /// Listens and serves `store` as `config` (JSON) says.
    ///
    /// A replica's server (`config` says so) passes what is not of its store on through `outlet`, and has
    /// its own node's `kubelet` answer what is for that.
    pub fn start(
        runtime: &Runtime,
        store: Store,
        config: &str,
        outlet: Option<Outlet>,
        kubelet: Option<KubeletServer>,
    ) -> Result<Self> {
        let config = config::Config::parse(config)?;
        let acceptor = TlsAcceptor::from(tls::server_config(&config)?);
        let mut listeners = Vec::with_capacity(1 + config.also_listen.len());
        for listen in std::iter::once(&config.listen).chain(&config.also_listen) {
            let bound = runtime.block_on(TcpListener::bind(listen))?.map_err(|error| {
                let Error { kind, message } = error.into();
                Error::new(kind, format!("cannot listen on: {listen}: {message}"))
            })?;
            listeners.push(bound);
        }
        let address = listeners[0].local_addr()?;
        let handler = Arc::new(handler::Handler::new(store, config, outlet, kubelet)?);
        for listener in listeners {
            runtime.spawn(connection::accept(listener, acceptor.clone(), Arc::clone(&handler)));
        }
        Ok(Self { handler, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Readable while requests wait for Python.
    pub fn fileno(&self) -> RawFd {
        self.handler.questions.fileno()
    }

    /// Up to `limit` requests for Python.
    pub fn drain(&self, limit: usize) -> Vec<Question> {
        self.handler.questions.drain(limit)
    }

    /// Answers request `id`; whether its client still waited. A status that is none becomes 500.
    pub fn respond(&self, id: u64, reply: Reply) -> bool {
        self.handler.questions.answer(id, reply)
    }

    /// Sets what GET of `path` answers to clients that accept `media_type`.
    pub fn set_document(&self, path: &str, media_type: &str, body: Bytes, etag: &str) {
        self.handler.documents.set(path, media_type, body, etag);
    }

    /// Says that `path` will have a document: until then the answer is to come back in a second.
    pub fn expect_document(&self, path: &str) {
        self.handler.documents.expect(path);
    }

    /// Reaches nodes with this certificate from now on; their hubs have one of `ca`.
    pub fn set_nodes(&self, identity: &Identity, ca: &str, server_name: &str) -> Result<()> {
        self.handler.nodes.set(identity, ca, server_name)
    }

    /// Whether somebody may do `verb` on a resource (`pods/log`), as the server itself decides.
    pub fn allows(&self, who: (&str, Vec<String>), verb: &str, what: About<'_>) -> bool {
        let who = policy::Identity { user: who.0.to_owned(), groups: who.1 };
        self.handler.may(&who, verb, &what)
    }

    /// Whether somebody may do `verb` (`get`) on a path that is no resource.
    pub fn allows_url(&self, who: (&str, Vec<String>), verb: &str, path: &str) -> bool {
        let who = policy::Identity { user: who.0.to_owned(), groups: who.1 };
        self.handler.may_url(&who, verb, path)
    }

    /// What of `rules` (JSON, as in a role) somebody does not have, so may not give to others.
    pub fn lacks(
        &self,
        who: (&str, Vec<String>),
        namespace: &str,
        rules: &str,
    ) -> Result<Vec<String>> {
        let who = policy::Identity { user: who.0.to_owned(), groups: who.1 };
        self.handler.lacks(&who, namespace, rules)
    }

    /// What somebody may do in a namespace: the JSON of a `SelfSubjectRulesReview`'s status.
    pub fn rules(&self, who: (&str, Vec<String>), namespace: &str) -> String {
        let who = policy::Identity { user: who.0.to_owned(), groups: who.1 };
        self.handler.rules(&who, namespace).to_string()
    }

    /// What `/readyz` says from now on.
    pub fn set_ready(&self, ready: bool) {
        self.handler.ready.store(ready, Ordering::Relaxed);
    }

    /// Stops accepting, ends watches, lets answers under way finish; calling it again does nothing.
    pub fn close(&self) {
        self.handler.closing.send_replace(true);
        self.handler.questions.close();
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.close();
    }
}
