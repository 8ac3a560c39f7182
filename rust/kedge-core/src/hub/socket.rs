// SPDX-License-Identifier: Apache-2.0
//! Frames over WebSocket over TLS over TCP, with small buffers: a hub holds very many of these.

use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use crate::hub::{Meter, tls};
use crate::wire::{MAX_FRAME, WireError};
use crate::{Error, Kind, Result};

/// A TCP stream whose bytes are counted.
#[derive(Debug)]
pub(crate) struct Metered {
    inner: TcpStream,
    meter: Meter,
}

impl Metered {
    pub(crate) fn new(inner: TcpStream, meter: Meter) -> Self {
        Self { inner, meter }
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(cx, buf);
        let count = (buf.filled().len() - before) as u64;
        self.meter.read.fetch_add(count, Ordering::Relaxed);
        result
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = &result {
            self.meter.written.fetch_add(*count as u64, Ordering::Relaxed);
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// The connection under a link.
pub(crate) type Tls = TlsStream<Metered>;

/// How WebSocket is set up at both ends.
pub(crate) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(2048)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * MAX_FRAME)
        .max_message_size(Some(MAX_FRAME))
        .max_frame_size(Some(MAX_FRAME))
}

/// One end's socket.
pub(crate) struct Socket {
    stream: WebSocketStream<Tls>,
    unflushed: bool,
    peer: String,
}

impl Socket {
    /// The server's socket, once it has answered the upgrade; `early` was read beyond the request.
    pub(crate) async fn server(stream: Tls, early: Vec<u8>, peer: String) -> Self {
        let stream =
            WebSocketStream::from_partially_read(stream, early, Role::Server, Some(config())).await;
        Self { stream, unflushed: false, peer }
    }

    /// The node's socket.
    pub(crate) fn client(stream: WebSocketStream<Tls>, peer: String) -> Self {
        Self { stream, unflushed: false, peer }
    }

    /// Writes what `source` gives, and waits for a frame from the other end.
    pub(crate) async fn turn(
        &mut self,
        mut source: impl FnMut() -> Option<Vec<u8>>,
    ) -> Result<Bytes> {
        std::future::poll_fn(|cx| self.poll_turn(cx, &mut source)).await
    }

    /// Writes the rest of what `source` gives and says good-bye.
    pub(crate) async fn close(&mut self, mut source: impl FnMut() -> Option<Vec<u8>>) {
        let rest = async {
            std::future::poll_fn(|cx| self.poll_write(cx, &mut source)).await?;
            self.stream.close(None).await.map_err(|error| explain(error, &self.peer))
        };
        // The link ends either way; a peer that does not read must not hold it open.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(2), rest).await;
    }

    fn poll_turn(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut dyn FnMut() -> Option<Vec<u8>>,
    ) -> Poll<Result<Bytes>> {
        if let Poll::Ready(Err(error)) = self.poll_write(cx, source) {
            return Poll::Ready(Err(error));
        }
        loop {
            match Pin::new(&mut self.stream).poll_next(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(Message::Binary(data)))) => return Poll::Ready(Ok(data)),
                Poll::Ready(Some(Ok(Message::Close(_))) | None) => {
                    return Poll::Ready(Err(lost(&self.peer, "closed the link")));
                }
                Poll::Ready(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => {}
                Poll::Ready(Some(Ok(_))) => {
                    return Poll::Ready(Err(WireError::Malformed("text on the link").into()));
                }
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Err(explain(error, &self.peer)));
                }
            }
        }
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut dyn FnMut() -> Option<Vec<u8>>,
    ) -> Poll<Result<()>> {
        loop {
            match Pin::new(&mut self.stream).poll_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(explain(error, &self.peer))),
                Poll::Ready(Ok(())) => {}
            }
            let Some(frame) = source() else { break };
            self.unflushed = true;
            if let Err(error) = Pin::new(&mut self.stream).start_send(Message::Binary(frame.into()))
            {
                return Poll::Ready(Err(explain(error, &self.peer)));
            }
        }
        if self.unflushed {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(explain(error, &self.peer))),
                Poll::Ready(Ok(())) => self.unflushed = false,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// What a WebSocket error means here.
pub(crate) fn explain(error: WsError, peer: &str) -> Error {
    match error {
        WsError::Io(error) => tls::explain(&error, peer),
        WsError::Capacity(_) => {
            WireError::FrameTooLarge { got: MAX_FRAME + 1, limit: MAX_FRAME }.into()
        }
        WsError::Protocol(tungstenite_error) => lost(peer, &format!("lost ({tungstenite_error})")),
        WsError::ConnectionClosed | WsError::AlreadyClosed => lost(peer, "closed the link"),
        other => Error::new(Kind::Invalid, format!("{peer}: {other}")),
    }
}

fn lost(peer: &str, what: &str) -> Error {
    Error::new(Kind::Disconnected, format!("{peer} {what}"))
}
