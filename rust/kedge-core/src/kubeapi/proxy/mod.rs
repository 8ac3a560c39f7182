// SPDX-License-Identifier: Apache-2.0
//! What the API server passes on to nodes: logs, exec, attach, port-forward, and the node proxy.
//!
//! A request becomes one to the kubelet server of the pod's node, through the hub that has the
//! node's link (`hub::reach`); the hub's address is an annotation on the node's Lease. Bodies
//! flow as the client reads them. SPDY upgrades pass as bytes; `WebSocket` streams of exec and attach are
//! turned into SPDY here (`websocket`), as kube-apiserver does since 1.31.

mod kubelet;
mod options;
mod ports;
mod spares;
mod spdy;
mod websocket;

use http::header::{
    AUTHORIZATION, CONNECTION, HOST, HeaderName, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;

use super::body::Body;
use super::pass::is_upgrade;
use super::path::Target;
use super::query::Query;
use super::status::Failure;
use crate::store::Store;

pub(super) use kubelet::Nodes;

/// What a node says instead of what was asked for, at most.
const MAX_REFUSAL: usize = 16 * 1024;
/// Hop by hop (RFC 9110, 7.6.1), or not the node's business.
const NOT_PASSED: [HeaderName; 7] =
    [AUTHORIZATION, HOST, CONNECTION, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING];

type Answer = Result<Response<Body>, Failure>;
/// A request's body on its way to a node.
type Sent = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, hyper::Error>;

/// Whether a request is for a node to answer.
pub(super) fn is_for_node(target: &Target) -> bool {
    target.group.is_empty()
        && matches!(
            (target.resource.as_str(), target.subresource.as_str()),
            ("pods", "log" | "exec" | "attach" | "portforward") | ("nodes", "proxy")
        )
}

/// Passes `request` on; `permit` is kept for as long as anything of the answer flows.
pub(super) async fn pass(
    nodes: &Nodes,
    store: &Store,
    target: &Target,
    query: &Query,
    request: Request<Incoming>,
    permit: OwnedSemaphorePermit,
) -> Answer {
    let wish = options::wish(store, target, query, request.uri().query().unwrap_or_default())?;
    let node = wish.node.clone();
    let stream = nodes.reach(store, &node).await?;
    let answer = match target.subresource.as_str() {
        "log" => log(stream, wish, permit).await,
        "proxy" => whatever(stream, wish, request, permit).await,
        _ if wants(request.headers(), "websocket") => {
            let is_ports = target.subresource == "portforward";
            // The tunnel of SPDY names its ports inside.
            let ports = match ports::wanted(query) {
                Ok(ports) if is_ports => Some(ports),
                Err(failure) if is_ports && wants_channels(request.headers()) => {
                    return Err(failure);
                }
                _ => is_ports.then(Vec::new),
            };
            websocket::serve(stream, &wish, request, ports, permit).await
        }
        _ if wants(request.headers(), "spdy/3.1") => whatever(stream, wish, request, permit).await,
        _ => Err(Failure::new(400, "BadRequest", "Upgrade request required")),
    };
    // Those who scrape nodes come back too late for it.
    if answer.is_ok() && target.subresource != "proxy" {
        nodes.prepare(store, &node);
    }
    answer
}

/// Asks a node's kubelet server for `path`; the whole answer, of at most `limit` bytes.
pub(super) async fn ask(
    nodes: &Nodes,
    store: &Store,
    node: &str,
    path: &str,
    limit: usize,
) -> Result<bytes::Bytes, Failure> {
    let stream = nodes.reach(store, node).await?;
    let asked = kubelet::request(&Method::GET, path, &HeaderMap::new(), empty())?;
    let answer = refused(kubelet::exchange(stream, asked).await?).await?;
    let body = Limited::new(answer.into_body(), limit).collect().await;
    let body = body.map_err(|error| {
        Failure::new(502, "InternalError", format!("the answer of node {node}: {error}"))
    })?;
    Ok(body.to_bytes())
}

async fn log(stream: kubelet::Stream, wish: options::Wish, permit: OwnedSemaphorePermit) -> Answer {
    let asked = kubelet::request(&Method::GET, &wish.path, &HeaderMap::new(), empty())?;
    let answer = kubelet::exchange(stream, asked).await?;
    let answer = refused(answer).await?;
    let (mut parts, body) = answer.into_parts();
    parts.headers.retain_type();
    Ok(Response::from_parts(parts, flowing(body, permit)))
}

/// A node's body, with the permit that its flow needs.
fn flowing(body: Incoming, permit: OwnedSemaphorePermit) -> Body {
    let held = body.map_frame(move |frame| {
        let _held = &permit;
        frame
    });
    held.map_err(std::io::Error::other).boxed_unsync()
}

/// Passes everything, upgrades included.
async fn whatever(
    stream: kubelet::Stream,
    wish: options::Wish,
    mut request: Request<Incoming>,
    permit: OwnedSemaphorePermit,
) -> Answer {
    let mut headers = request.headers().clone();
    let is_upgrade = is_upgrade(&request);
    for name in NOT_PASSED {
        headers.remove(name);
    }
    if is_upgrade {
        headers.insert(CONNECTION, http::HeaderValue::from_static("Upgrade"));
    } else {
        headers.remove(UPGRADE);
    }
    let ours = is_upgrade.then(|| hyper::upgrade::on(&mut request));
    let method = request.method().clone();
    let body = request.into_body().boxed_unsync();
    let asked = kubelet::request(&method, &wish.path, &headers, body)?;
    let answer = kubelet::exchange(stream, asked).await?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(ours) = ours
    {
        return Ok(switch(answer, ours, permit));
    }
    let answer = if is_upgrade { refused(answer).await? } else { answer };
    Ok(answer.map(|body| flowing(body, permit)))
}

/// Carries bytes both ways once both ends have switched.
fn switch(
    answer: Response<Incoming>,
    ours: hyper::upgrade::OnUpgrade,
    permit: OwnedSemaphorePermit,
) -> Response<Body> {
    let mut head = Response::new(super::body::nothing());
    *head.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    head.headers_mut().clone_from(answer.headers());
    let theirs = hyper::upgrade::on(answer);
    tokio::spawn(async move {
        let Ok((ours, theirs)) = tokio::try_join!(ours, theirs) else { return };
        let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
        // Either end may go at any point; the other then sees its stream end.
        let _ =
            tokio::io::copy_bidirectional_with_sizes(&mut ours, &mut theirs, 16 << 10, 16 << 10)
                .await;
        drop(permit);
    });
    head
}

/// The answer, or the `Status` of a node's refusal.
async fn refused(answer: Response<Incoming>) -> Result<Response<Incoming>, Failure> {
    let code = answer.status().as_u16();
    if code < 300 || code == 101 {
        return Ok(answer);
    }
    let text = Limited::new(answer.into_body(), MAX_REFUSAL).collect().await;
    let text = text.map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_owned());
    let text = text.unwrap_or_else(|_| "the node's answer could not be read".to_owned());
    let reason = match code {
        400 => "BadRequest",
        404 => "NotFound",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    };
    Err(Failure::new(code, reason, text))
}

/// Whether a port-forward is to be in channels.
fn wants_channels(headers: &HeaderMap) -> bool {
    let offered = headers.get_all("sec-websocket-protocol").iter();
    !offered.filter_map(|value| value.to_str().ok()).any(|value| value.contains("SPDY/3.1"))
}

fn wants(headers: &HeaderMap, protocol: &str) -> bool {
    let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    upgrade.eq_ignore_ascii_case(protocol)
}

fn empty() -> Sent {
    Full::new(bytes::Bytes::new()).map_err(|never| match never {}).boxed_unsync()
}

trait RetainType {
    fn retain_type(&mut self);
}

impl RetainType for HeaderMap {
    /// Of a log's answer only what it is matters to the client.
    fn retain_type(&mut self) {
        let kept = self.remove(http::header::CONTENT_TYPE);
        self.clear();
        if let Some(kept) = kept {
            self.insert(http::header::CONTENT_TYPE, kept);
        }
    }
}
