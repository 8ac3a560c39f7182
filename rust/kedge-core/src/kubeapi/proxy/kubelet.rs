// SPDX-License-Identifier: Apache-2.0
//! The way to a node's kubelet server, and one HTTP exchange with it.

use std::pin::Pin;
use std::sync::Arc;

use http::header::HOST;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite, duplex};

use super::Sent;
use super::spares::Spares;
use crate::hub::Identity;
use crate::hub::reach::{Reached, Reacher};
use crate::kubeapi::status::Failure;
use crate::kubelet::KubeletServer;
use crate::store::{Key, Store};
use crate::{Error, Kind};

/// Where the hub of a node is: an annotation on its Lease, written by the cloud.
const HUB: &str = "kedge.io/hub";
const LEASES: &str = "kube-node-lease";
/// The service that is asked for.
const SERVICE: &str = "kubelet";

/// Bytes on their way between this server and the kubelet server of its own node.
const PIPE: usize = 64 * 1024;

/// Both directions of a connection.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Duplex for T {}

/// A connection to a kubelet server.
pub(super) type Stream = Pin<Box<dyn Duplex>>;

/// How nodes are reached; nobody is until there is a certificate.
#[derive(Default)]
pub(in crate::kubeapi) struct Nodes {
    reacher: Mutex<Option<Reacher>>,
    /// On a node: its own, the only one that its store can lead to.
    own: Option<KubeletServer>,
    spares: Arc<Spares<Reached>>,
}

#[derive(Deserialize)]
struct Lease {
    metadata: LeaseMetadata,
}

#[derive(Deserialize)]
struct LeaseMetadata {
    #[serde(default)]
    annotations: std::collections::HashMap<String, String>,
}

impl Nodes {
    /// Of a node with this kubelet server.
    pub(in crate::kubeapi) fn of(own: Option<KubeletServer>) -> Self {
        Self { own, ..Self::default() }
    }

    /// Whether this is a node, which has its pods beside it.
    pub(in crate::kubeapi) fn is_node(&self) -> bool {
        self.own.is_some()
    }

    /// From now on with this certificate.
    pub(in crate::kubeapi) fn set(
        &self,
        identity: &Identity,
        ca: &str,
        server_name: &str,
    ) -> crate::Result<()> {
        *self.reacher.lock() = Some(Reacher::new(identity, ca, server_name)?);
        self.spares.clear();
        Ok(())
    }

    /// Makes a connection to `node` in the background, for the next who asks.
    pub(super) fn prepare(&self, store: &Store, node: &str) {
        let Some(reacher) = self.reacher.lock().clone() else { return };
        let Ok(Some(hub)) = hub_of(store, node) else { return };
        let spares = Arc::clone(&self.spares);
        let node = node.to_owned();
        tokio::spawn(async move {
            let (to, through) = (node.clone(), hub.clone());
            // Who asks next is told what is wrong with it.
            let connecting = async { reacher.reach(&through, &to, SERVICE).await.ok() };
            spares.make(node, hub, Box::pin(connecting)).await;
        });
    }

    /// A connection to the kubelet server of `node`.
    pub(super) async fn reach(&self, store: &Store, node: &str) -> Result<Stream, Failure> {
        if let Some(own) = &self.own {
            let (ours, theirs) = duplex(PIPE);
            own.serve_on(theirs);
            return Ok(Box::pin(ours));
        }
        let away = |why: &str| {
            let message = format!("node {node} cannot be reached: {why}");
            Failure::new(503, "ServiceUnavailable", message)
        };
        let Some(reacher) = self.reacher.lock().clone() else {
            return Err(away("no cloud has been set up yet"));
        };
        let mut tried = String::new();
        let mut last = Error::new(Kind::NotFound, "it has not been connected to the cloud");
        // The node may have moved to another replica of the cloud meanwhile.
        for _ in 0..2 {
            let Some(hub) = hub_of(store, node)? else { break };
            if hub == tried {
                break;
            }
            if let Some(spare) = self.spares.take(node, &hub) {
                return Ok(Box::pin(spare));
            }
            match reacher.reach(&hub, node, SERVICE).await {
                Ok(stream) => return Ok(Box::pin(stream)),
                Err(error) => last = error,
            }
            tried = hub;
        }
        Err(away(&last.message))
    }
}

fn hub_of(store: &Store, node: &str) -> Result<Option<String>, Failure> {
    let key = Key::new("coordination.k8s.io", "leases", LEASES, node);
    let Some(found) = store.get(&key)? else { return Ok(None) };
    let lease: Lease = serde_json::from_slice(&found.value)
        .map_err(|error| Error::new(Kind::Internal, format!("lease of {node}: {error}")))?;
    Ok(lease.metadata.annotations.get(HUB).cloned())
}

/// A request to a kubelet server.
pub(super) fn request(
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    body: Sent,
) -> Result<Request<Sent>, Failure> {
    let built = Request::builder().method(method).uri(path).body(body);
    let mut request = built.map_err(|error| {
        Failure::new(400, "BadRequest", format!("not a path: {path:?}: {error}"))
    })?;
    request.headers_mut().clone_from(headers);
    request.headers_mut().insert(HOST, HeaderValue::from_static("kubelet"));
    Ok(request)
}

/// Sends `request` and gives the head of the answer; its body and what it is upgraded to follow.
pub(super) async fn exchange(
    stream: Stream,
    request: Request<Sent>,
) -> Result<Response<Incoming>, Failure> {
    let broken = |error: hyper::Error| {
        Failure::new(502, "InternalError", format!("the connection to the node broke off: {error}"))
    };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // It ends with the answer, or with what it is upgraded to.
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await.map_err(broken)
}
