// SPDX-License-Identifier: Apache-2.0
//! Connections: accepting, the TLS handshake, HTTP/1.1 or HTTP/2, and an orderly end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::audit::Remote;
use super::body::nothing;
use super::config::seconds;
use super::handler::Handler;
use super::patient::{Patience, Patient};
use super::policy::Identity;
use super::tls;

/// After an accept that failed, most likely for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Between two pings on a quiet HTTP/2 connection, and the wait for the answer.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Requests at a time on one HTTP/2 connection.
const STREAMS: u32 = 250;
const MAX_HEADERS: usize = 100;

/// Accepts until the server closes.
pub(super) async fn accept(listener: TcpListener, acceptor: TlsAcceptor, handler: Arc<Handler>) {
    let connections = Arc::new(Semaphore::new(handler.limits.connections));
    let mut closing = handler.closing.subscribe();
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
        let (stream, remote) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    log::warn!("a connection could not be accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            _ = closing.changed() => return,
        };
        let (acceptor, handler) = (acceptor.clone(), Arc::clone(&handler));
        tokio::spawn(async move {
            if let Some((stream, patience)) = handshake(stream, acceptor, &handler).await {
                serve(stream, remote, patience, handler).await;
            }
            drop(permit);
        });
    }
}

async fn handshake(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    handler: &Handler,
) -> Option<(Box<TlsStream<Patient<TcpStream>>>, Patience)> {
    // Small answers must not wait for more; a failure only costs time.
    let _ = stream.set_nodelay(true);
    let patience = Patience::new(seconds(handler.limits.write_seconds));
    let patient = Patient::new(stream, patience.clone());
    let allowed = seconds(handler.limits.handshake_seconds);
    match timeout(allowed, acceptor.accept(patient)).await {
        Ok(Ok(stream)) => Some((Box::new(stream), patience)),
        Ok(Err(error)) => {
            log::debug!("TLS handshake failed: {error}");
            None
        }
        Err(_) => None,
    }
}

async fn serve(
    stream: Box<TlsStream<Patient<TcpStream>>>,
    remote: SocketAddr,
    patience: Patience,
    handler: Arc<Handler>,
) {
    let (_, session) = stream.get_ref();
    let http2 = session.alpn_protocol() == Some(b"h2");
    let peer = peer(session.peer_certificates().and_then(|chain| chain.first())).map(Arc::new);
    let limits = handler.limits;
    let mut closing = handler.closing.subscribe();
    let service = service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
        let (handler, peer) = (Arc::clone(&handler), peer.clone());
        request.extensions_mut().insert(patience.clone());
        if handler.audit.is_some() {
            request.extensions_mut().insert(Remote(remote));
        }
        // Over HTTP/1.1 hyper leaves the body away itself.
        let is_bodiless = http2 && request.method() == http::Method::HEAD;
        async move {
            let response = handler.handle(request, peer.as_deref()).await;
            Ok::<_, Infallible>(if is_bodiless {
                response.map(|_left| nothing())
            } else {
                response
            })
        }
    });
    let io = TokioIo::new(stream);
    let ended = if http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
            .max_send_buf_size(64 * 1024)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT);
        let mut connection = std::pin::pin!(builder.serve_connection(io, service));
        tokio::select! {
            ended = connection.as_mut() => ended,
            _ = closing.changed() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    } else {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(seconds(limits.head_seconds))
            .max_buf_size(limits.head_bytes.max(8 * 1024))
            .max_headers(MAX_HEADERS);
        let mut connection = std::pin::pin!(builder.serve_connection(io, service).with_upgrades());
        tokio::select! {
            ended = connection.as_mut() => ended,
            _ = closing.changed() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    if let Err(error) = ended {
        log::debug!("a connection ended: {error}");
    }
}

fn peer(certificate: Option<&rustls::pki_types::CertificateDer<'_>>) -> Option<Identity> {
    match tls::identity(certificate?) {
        Ok(identity) => Some(identity),
        Err(error) => {
            log::debug!("client certificate names nobody: {error}");
            None
        }
    }
}
