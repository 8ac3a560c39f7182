// SPDX-License-Identifier: Apache-2.0
//! The hub's port: TLS, then either a little HTTP or a link.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::hub::admission::Claim;
use crate::hub::driver;
use crate::hub::http::{self, Request};
use crate::hub::server::{Hub, ServerEvent};
use crate::hub::socket::{Metered, Socket, Tls};
use crate::hub::tls::{self, Identity};
use crate::hub::{
    PATH_CA, PATH_JOIN, PATH_LEAVE, PATH_LINK, PATH_TUNNEL, PROBE, SUBPROTOCOL, TUNNEL_PROTOCOL,
};
use crate::sync::Key;
use crate::{Error, Kind, Result};

/// From the connection to its first byte.
const FIRST_BYTE: Duration = Duration::from_secs(5);
/// From there to the request's head.
const GREETING: Duration = Duration::from_secs(15);
/// For Python to answer a join.
const JOINING: Duration = Duration::from_secs(30);
/// For Python to look a Node up.
const LOOKUP: Duration = Duration::from_secs(5);

/// What new connections are greeted with.
pub(crate) struct Keys {
    acceptor: TlsAcceptor,
    ca: String,
}

impl Keys {
    pub(crate) fn new(identity: &Identity, ca: &str) -> Result<Self> {
        let acceptor = TlsAcceptor::from(tls::server_config(identity, ca)?);
        Ok(Self { acceptor, ca: ca.to_owned() })
    }
}

/// Accepts for ever.
pub(crate) async fn run(hub: Arc<Hub>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                let runtime = hub.runtime.clone();
                runtime.spawn(Box::pin(connection(Arc::clone(&hub), stream, address)));
            }
            // Out of descriptors, most likely: those that end make room.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// A link that was agreed on.
struct Agreed {
    stream: Tls,
    early: Vec<u8>,
    claim: Claim,
}

async fn connection(hub: Arc<Hub>, stream: TcpStream, address: SocketAddr) {
    let Ok(permit) = Arc::clone(&hub.connections).try_acquire_owned() else { return };
    let Ok(Ok(Some(stream))) = timeout(FIRST_BYTE, first_byte(stream)).await else { return };
    let greeted = {
        // Only who has something to say takes part in the limit of handshakes.
        let Ok(_handshake) = hub.handshakes.acquire().await else { return };
        timeout(GREETING, Box::pin(greet(&hub, stream, address))).await
    };
    let Ok(Ok(Some(agreed))) = greeted else { return };
    let Agreed { stream, early, claim } = agreed;
    let who = format!("node {} at {address}", claim.node);
    let Ok(peer) = hub.register(address.to_string(), claim) else { return };
    let socket = Box::new(Socket::server(stream, early, who).await);
    // A task of its own: this one has held every stage of the handshake and is large.
    let runtime = hub.runtime.clone();
    runtime.spawn(driver::serve(hub, peer, socket, permit));
}

/// Waits until a peer speaks; answers a probe.
async fn first_byte(mut stream: TcpStream) -> Result<Option<TcpStream>> {
    stream.set_nodelay(true)?;
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Ok(None);
    }
    if first[0] != PROBE {
        return Ok(Some(stream));
    }
    // Unread bytes would turn the close into a reset.
    stream.read_exact(&mut first).await?;
    stream.write_all(&[PROBE]).await?;
    Ok(None)
}

async fn greet(hub: &Arc<Hub>, stream: TcpStream, address: SocketAddr) -> Result<Option<Agreed>> {
    let keys = Arc::clone(&hub.keys.lock());
    let metered = Metered::new(stream, hub.meter.clone());
    let accepted = keys.acceptor.accept(metered).await.inspect_err(|_| {
        hub.failed_handshakes.fetch_add(1, Ordering::Relaxed);
    })?;
    let mut stream = Tls::from(accepted);
    let request = match http::read_request(&mut stream).await {
        Ok(request) => request,
        Err(error) => {
            refuse(&mut stream, &error).await?;
            return Ok(None);
        }
    };
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", PATH_LINK) if !hub.is_open.load(Ordering::Relaxed) => {
            let body = b"the hub does not know the cluster's objects yet\n";
            http::answer(&mut stream, 503, "text/plain", body).await?;
            Ok(None)
        }
        ("GET", PATH_LINK) => upgrade(hub, stream, &request, address).await,
        ("GET", PATH_CA) => {
            http::answer(&mut stream, 200, "application/x-pem-file", keys.ca.as_bytes()).await?;
            Ok(None)
        }
        ("POST", PATH_JOIN) => {
            // Python may take its time, without holding up handshakes.
            let runtime = hub.runtime.clone();
            runtime.spawn(Box::pin(join(Arc::clone(hub), stream, request, address)));
            Ok(None)
        }
        ("POST", PATH_LEAVE) => {
            let runtime = hub.runtime.clone();
            runtime.spawn(Box::pin(leave(Arc::clone(hub), stream, address)));
            Ok(None)
        }
        ("GET", path) if path.starts_with(PATH_TUNNEL) => {
            let hub = Arc::clone(hub);
            tunnel(&hub, stream, &request).await.map(|()| None)
        }
        (_, PATH_LINK | PATH_CA | PATH_JOIN | PATH_LEAVE) => {
            http::answer(&mut stream, 405, "text/plain", b"method not allowed\n").await?;
            Ok(None)
        }
        _ => {
            http::answer(&mut stream, 404, "text/plain", b"not found\n").await?;
            Ok(None)
        }
    }
}

/// An API server connects to a service of a node that is linked here.
async fn tunnel(hub: &Arc<Hub>, mut stream: Tls, request: &Request) -> Result<()> {
    let found = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let allowed = match found {
        Some(certificate) => tls::is_api_server(certificate, unix_seconds()),
        None => Err(Error::new(Kind::Certificate, "a tunnel needs an API server's certificate")),
    };
    let opened = allowed.and_then(|()| {
        let (node, service) = request.path[PATH_TUNNEL.len()..]
            .split_once('/')
            .filter(|_| request.header_has("upgrade", TUNNEL_PROTOCOL))
            .ok_or_else(|| {
                let wanted =
                    format!("wanted an upgrade of {PATH_TUNNEL}NODE/SERVICE to {TUNNEL_PROTOCOL}");
                Error::new(Kind::Invalid, wanted)
            })?;
        let peer = hub.engine.lock().peers.get(node).cloned();
        let peer = peer.ok_or_else(|| {
            Error::new(Kind::NotFound, format!("node {node} is not linked to this hub"))
        })?;
        peer.open_tunnel(service)
    });
    let mut through = match opened {
        Ok(through) => through,
        Err(error) => return refuse(&mut stream, &error).await,
    };
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: {TUNNEL_PROTOCOL}\r\nconnection: Upgrade\r\n\r\n"
    );
    stream.write_all(response.as_bytes()).await?;
    stream.flush().await?;
    let early = request.rest.clone();
    let runtime = hub.runtime.clone();
    runtime.spawn(async move {
        if through.write_all(&early).await.is_ok() {
            // Either end may go at any point; the other then sees its connection end.
            let _ =
                copy_bidirectional_with_sizes(&mut stream, &mut through, 16 << 10, 16 << 10).await;
        }
    });
    Ok(())
}

fn unix_seconds() -> i64 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

async fn upgrade(
    hub: &Hub,
    mut stream: Tls,
    request: &Request,
    address: SocketAddr,
) -> Result<Option<Agreed>> {
    let claim = match claimed(&stream, "a link needs a node's certificate (join first)") {
        Ok(claim) => claim,
        Err(error) => {
            refuse(&mut stream, &error).await?;
            return Ok(None);
        }
    };
    let key = request.header("sec-websocket-key");
    let websocket = request.header_has("upgrade", "websocket")
        && request.header_has("connection", "upgrade")
        && request.header("sec-websocket-version") == "13"
        && !key.is_empty();
    if !websocket {
        http::answer(&mut stream, 400, "text/plain", b"wanted a WebSocket upgrade, version 13\n")
            .await?;
        return Ok(None);
    }
    if !request.header_has("sec-websocket-protocol", SUBPROTOCOL) {
        let body = format!(
            "no common version of the link: the hub speaks {SUBPROTOCOL}, the node: {}\n",
            request.header("sec-websocket-protocol")
        );
        http::answer(&mut stream, 426, "text/plain", body.as_bytes()).await?;
        return Ok(None);
    }
    if let Err(error) = admit(hub, &claim, address).await {
        hub.count_refused();
        refuse(&mut stream, &error).await?;
        return Ok(None);
    }
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-accept: {}\r\nsec-websocket-protocol: {SUBPROTOCOL}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    stream.write_all(response.as_bytes()).await?;
    stream.flush().await?;
    Ok(Some(Agreed { stream, early: request.rest.clone(), claim }))
}

/// What the certificate of a connection claims.
fn claimed(stream: &Tls, without: &str) -> Result<Claim> {
    let chain = stream.get_ref().1.peer_certificates();
    let certificate = chain
        .and_then(|chain| chain.first())
        .ok_or_else(|| Error::new(Kind::Certificate, without))?;
    Claim::of(certificate, unix_seconds())
}

/// Lets a certificate in that fits its Node, or says why not. The mirror can be a moment behind, so a
/// refusal is the API's; what the API would let in comes again when the mirror has caught up.
async fn admit(hub: &Hub, claim: &Claim, address: SocketAddr) -> Result<()> {
    let mirrored = hub.engine.read(&Key::of("", "nodes", "", &claim.node));
    if claim.check(mirrored.as_ref().map(|(value, _)| value.as_ref())).is_ok() {
        return Ok(());
    }
    let (node, address) = (claim.node.clone(), address.to_string());
    let answer = hub.ask(|id| ServerEvent::Lookup { id, node, address })?;
    let later = |why: &str| {
        let message = format!("node {} cannot be let in now: {why}", claim.node);
        Err(Error::new(Kind::Timeout, message))
    };
    match timeout(LOOKUP, answer.get()).await {
        Ok(Some((200, node))) => claim.check(Some(&node))?,
        Ok(Some((404, _))) => claim.check(None)?,
        Ok(Some((_, why))) => return later(&String::from_utf8_lossy(&why)),
        Ok(None) => return later("the hub stops"),
        Err(_) => return later("the Kubernetes API does not answer"),
    }
    later("the hub does not know its Node yet")
}

async fn join(hub: Arc<Hub>, mut stream: Tls, request: Request, address: SocketAddr) {
    // The asker may go at any point; then there is nobody to tell.
    let _ = timeout(JOINING, answer_join(&hub, &mut stream, &request, address)).await;
}

async fn answer_join(
    hub: &Arc<Hub>,
    stream: &mut Tls,
    request: &Request,
    address: SocketAddr,
) -> Result<()> {
    let body = match http::read_body(stream, request).await {
        Ok(body) => body,
        Err(error) => return refuse(stream, &error).await,
    };
    let (path, address) = (request.path.clone(), address.to_string());
    answer_by(hub, stream, |id| ServerEvent::Join { id, path, body, address }).await
}

async fn leave(hub: Arc<Hub>, mut stream: Tls, address: SocketAddr) {
    let claim = claimed(&stream, "a node leaves by its own certificate");
    // As in a join.
    let _ = match claim {
        Ok(Claim { node, uid, key_hash, .. }) => {
            let address = address.to_string();
            let ask = |id| ServerEvent::Leave { id, node, uid, key_hash, address };
            timeout(JOINING, answer_by(&hub, &mut stream, ask)).await
        }
        Err(error) => timeout(JOINING, refuse(&mut stream, &error)).await,
    };
}

/// Answers with what Python says.
async fn answer_by(
    hub: &Hub,
    stream: &mut Tls,
    event: impl FnOnce(u64) -> ServerEvent,
) -> Result<()> {
    let answer = match hub.ask(event) {
        Ok(waiting) => waiting,
        Err(error) => return refuse(stream, &error).await,
    };
    let Some((status, body)) = answer.get().await else {
        return http::answer(stream, 503, "text/plain", b"the hub stops\n").await;
    };
    http::answer(stream, status, "application/json", &body).await
}

async fn refuse(stream: &mut Tls, error: &Error) -> Result<()> {
    let status = match error.kind {
        Kind::TooLarge => 413,
        Kind::Certificate => 403,
        Kind::NotFound => 404,
        Kind::Timeout => 503,
        Kind::Disconnected => return Ok(()),
        _ => 400,
    };
    http::answer(stream, status, "text/plain", format!("{}\n", error.message).as_bytes()).await
}
