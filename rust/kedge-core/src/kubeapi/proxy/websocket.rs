// SPDX-License-Identifier: Apache-2.0
//! WebSocket clients of exec, attach and port-forward, and the SPDY that the node's runtime speaks.
//!
//! Exec and attach (`v4.channel.k8s.io`, `v5.channel.k8s.io`): the first byte of a message names a
//! channel (0 stdin, 1 stdout, 2 stderr, 3 error, 4 resize); version 5 adds 255, which closes
//! the channel that follows it (KEP-4006). Port-forward (`SPDY/3.1+portforward.k8s.io`): messages
//! carry the bytes of a SPDY connection; the channel protocols of port-forward are in `ports`.

use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use http::header::{CONNECTION, HeaderName, HeaderValue, UPGRADE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message, Utf8Bytes};

use super::options::{Streams, Wish};
use super::ports::{self, PINGS};
use super::spdy::{self, Encoder, Frame};
use super::{Answer, empty, kubelet, refused};
use crate::kubeapi::body::nothing;
use crate::kubeapi::status::Failure;
use crate::{Error, Result};

const V5: &str = "v5.channel.k8s.io";
const V4: &str = "v4.channel.k8s.io";
const PORTS: &str = "SPDY/3.1+portforward.k8s.io";
const STREAM_VERSION: &str = "x-stream-protocol-version";
const SUBPROTOCOL: &str = "sec-websocket-protocol";
const MAX_MESSAGE: usize = 1 << 20;
pub(super) const BLOCK: usize = 16 * 1024;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Closes the channel that follows it.
pub(super) const CLOSE: u8 = 255;

/// Answers the upgrade, and carries what follows in a task.
pub(super) async fn serve(
    stream: kubelet::Stream,
    wish: &Wish,
    mut request: Request<Incoming>,
    ports: Option<Vec<u16>>,
    permit: OwnedSemaphorePermit,
) -> Answer {
    let offered = header(request.headers(), SUBPROTOCOL);
    let known: &[&str] = if ports.is_some() { &[PORTS, V4, V5] } else { &[V5, V4] };
    let chosen = known.iter().find(|one| offered.split(',').any(|word| word.trim() == **one));
    let Some(&chosen) = chosen else {
        let message =
            format!("no common subprotocol: wanted one of {}, got: {offered}", known.join(", "));
        return Err(Failure::new(400, "BadRequest", message));
    };
    let key = header(request.headers(), "sec-websocket-key");
    if key.is_empty() || header(request.headers(), "sec-websocket-version") != "13" {
        return Err(Failure::new(400, "BadRequest", "wanted a WebSocket upgrade, version 13"));
    }
    let mut headers = HeaderMap::new();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    let version = if ports.is_some() { "portforward.k8s.io" } else { V4 };
    headers.insert(HeaderName::from_static(STREAM_VERSION), HeaderValue::from_static(version));
    let asked = kubelet::request(&Method::POST, &wish.path, &headers, empty())?;
    let answer = refused(kubelet::exchange(stream, asked).await?).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(Failure::new(502, "InternalError", "the node did not switch protocols"));
    }
    let theirs = hyper::upgrade::on(answer);
    let ours = hyper::upgrade::on(&mut request);
    let streams = wish.streams;
    tokio::spawn(async move {
        let Ok((ours, theirs)) = tokio::try_join!(ours, theirs) else { return };
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let client =
            WebSocketStream::from_raw_socket(TokioIo::new(ours), Role::Server, Some(config)).await;
        let theirs = TokioIo::new(theirs);
        // Either end may go at any point; the other then sees its stream end.
        let ended = match ports {
            Some(_) if chosen == PORTS => Box::pin(tunnel(client, theirs)).await,
            Some(ports) => Box::pin(ports::forward(client, theirs, &ports, chosen == V5)).await,
            None => Box::pin(translate(client, theirs, streams)).await,
        };
        if let Err(error) = ended {
            log::debug!("a stream to a node ended: {error}");
        }
        drop(permit);
    });
    let mut response = Response::new(nothing());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let found = response.headers_mut();
    found.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    found.insert(UPGRADE, HeaderValue::from_static("websocket"));
    found.insert(SUBPROTOCOL, HeaderValue::from_static(chosen));
    if let Ok(value) = derive_accept_key(key.as_bytes()).parse() {
        found.insert("sec-websocket-accept", value);
    }
    Ok(response)
}

fn header(headers: &HeaderMap, name: &str) -> String {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.collect::<Vec<_>>().join(",")
}

#[allow(clippy::needless_pass_by_value, reason = "it is what map_err hands on")]
pub(super) fn lost(error: WsError) -> Error {
    Error::new(crate::Kind::Disconnected, format!("client: {error}"))
}

/// Clients take any other code, or none, for a failure.
pub(super) fn goodbye() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() }))
}

/// The node's streams ended before they said how.
fn broken() -> Message {
    let reason = Utf8Bytes::from_static("the node's stream broke off");
    Message::Close(Some(CloseFrame { code: CloseCode::Error, reason }))
}

// port-forward

async fn tunnel<C, N>(client: WebSocketStream<C>, node: N) -> Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
    N: AsyncRead + AsyncWrite,
{
    let (mut to_client, mut from_client) = client.split();
    let (mut from_node, mut to_node) = tokio::io::split(node);
    let up = async {
        while let Some(message) = from_client.next().await {
            match message.map_err(lost)? {
                Message::Binary(data) => to_node.write_all(&data).await?,
                Message::Close(_) => break,
                _ => {}
            }
        }
        Ok::<_, Error>(())
    };
    let down = async {
        let mut block = vec![0; BLOCK];
        loop {
            let count = from_node.read(&mut block).await?;
            if count == 0 {
                return to_client.send(goodbye()).await.map_err(lost);
            }
            let message = Message::Binary(block[..count].to_vec().into());
            to_client.send(message).await.map_err(lost)?;
        }
    };
    tokio::select! {
        ended = up => ended,
        ended = down => ended,
    }
}

// exec and attach

/// Which SPDY stream is which channel: 1, 3, 5... in this order.
fn channels(streams: Streams) -> Vec<(u32, u8)> {
    let wanted = [
        (ERROR, true),
        (STDIN, streams.stdin),
        (STDOUT, streams.stdout),
        (STDERR, streams.stderr && !streams.tty),
        (RESIZE, streams.tty),
    ];
    let there = wanted.into_iter().filter_map(|(channel, there)| there.then_some(channel));
    (1..).step_by(2).zip(there).collect()
}

fn name(channel: u8) -> &'static str {
    match channel {
        STDIN => "stdin",
        STDOUT => "stdout",
        STDERR => "stderr",
        RESIZE => "resize",
        _ => "error",
    }
}

async fn translate<C, N>(client: WebSocketStream<C>, node: N, streams: Streams) -> Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
    N: AsyncRead + AsyncWrite,
{
    let channels = channels(streams);
    let (to_client, from_client) = client.split();
    let (from_node, mut to_node) = tokio::io::split(node);
    let mut encoder = Encoder::default();
    let mut opening = Vec::new();
    for (stream, channel) in &channels {
        opening.extend(encoder.open(*stream, "streamtype", name(*channel))?);
    }
    // At once: each piece wakes every program on the way.
    to_node.write_all(&opening).await?;
    to_node.flush().await?;
    let to_frame = |channel: u8, rest: &[u8]| input(&channels, channel, rest);
    let (pings, answers) = mpsc::channel(PINGS);
    tokio::select! {
        ended = up(from_client, to_node, answers, to_frame) => ended,
        ended = down(from_node, to_client, pings, &channels) => ended,
    }
}

/// What a client's message is to the node: nothing of other channels than those it may write to.
fn input(channels: &[(u32, u8)], channel: u8, rest: &[u8]) -> Option<Vec<u8>> {
    let stream_of = |wanted: u8| {
        channels.iter().find(|(_, channel)| *channel == wanted).map(|(stream, _)| *stream)
    };
    match (channel, rest) {
        (CLOSE, [STDIN]) => stream_of(STDIN).map(|stream| spdy::data(stream, b"", true)),
        (STDIN | RESIZE, rest) if !rest.is_empty() => {
            stream_of(channel).map(|stream| spdy::data(stream, rest, false))
        }
        _ => None,
    }
}

/// Carries a client's messages to the node, each as the frame that `frame_of` makes of its channel
/// and the rest of it, and answers the node's pings between them.
pub(super) async fn up<W: AsyncWrite + Unpin>(
    mut client: impl Stream<Item = std::result::Result<Message, WsError>> + Unpin,
    mut node: W,
    mut pings: mpsc::Receiver<Vec<u8>>,
    frame_of: impl Fn(u8, &[u8]) -> Option<Vec<u8>>,
) -> Result<()> {
    loop {
        let message = tokio::select! {
            message = client.next() => message,
            Some(ping) = pings.recv() => {
                node.write_all(&ping).await?;
                node.flush().await?;
                continue;
            }
        };
        let Some(message) = message else { return Ok(()) };
        let data = match message.map_err(lost)? {
            Message::Binary(data) => data,
            // The official Python client sends words as text.
            Message::Text(text) => text.into(),
            Message::Close(_) => return Ok(()),
            _ => continue,
        };
        let Some((channel, rest)) = data.split_first() else { continue };
        if let Some(frame) = frame_of(*channel, rest) {
            node.write_all(&frame).await?;
            node.flush().await?;
        }
    }
}

async fn down(
    mut node: impl AsyncRead + Unpin,
    mut client: impl Sink<Message, Error = WsError> + Unpin,
    pings: mpsc::Sender<Vec<u8>>,
    channels: &[(u32, u8)],
) -> Result<()> {
    let mut open: Vec<(u32, u8)> = channels
        .iter()
        .copied()
        .filter(|(_, one)| matches!(*one, STDOUT | STDERR | ERROR))
        .collect();
    // An empty message tells the client that the streams are there.
    if let Some((_, first)) = open.iter().find(|(_, one)| *one != ERROR) {
        client.send(Message::Binary(vec![*first].into())).await.map_err(lost)?;
    }
    let mut buffer = Vec::with_capacity(BLOCK);
    // Whether the error channel said how it ended; servers do not close it after that.
    let mut told = false;
    while !open.is_empty() {
        while let Some(frame) = spdy::take(&mut buffer)? {
            match frame {
                Frame::Data { stream, data, is_last } => {
                    let found = channels.iter().find(|(one, _)| *one == stream);
                    if let (Some((_, channel)), false) = (found, data.is_empty()) {
                        told |= *channel == ERROR;
                        let message = [&[*channel], data.as_slice()].concat();
                        client.send(Message::Binary(message.into())).await.map_err(lost)?;
                    }
                    if is_last {
                        open.retain(|(one, _)| *one != stream);
                    }
                }
                Frame::Reset { stream } => open.retain(|(one, _)| *one != stream),
                Frame::Ping { frame } => {
                    // While stdin is blocked its answer waits, but the output must not.
                    let _ = pings.try_send(frame);
                }
                Frame::Goaway | Frame::Other => {}
            }
        }
        if !open.is_empty() && node.read_buf(&mut buffer).await? == 0 {
            break;
        }
    }
    // A client takes an orderly end for success.
    let end = if told { goodbye() } else { broken() };
    client.send(end).await.map_err(lost)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const BOTH: Streams = Streams { stdin: true, stdout: true, stderr: true, tty: false };

    async fn ends(sent: &[Vec<u8>]) -> Vec<Message> {
        let messages = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let to_client = futures_util::sink::unfold(Arc::clone(&messages), |to, message| async {
            to.lock().push(message);
            Ok(to)
        });
        let bytes = sent.concat();
        let (pings, _answers) = mpsc::channel(1);
        down(bytes.as_slice(), Box::pin(to_client), pings, &channels(BOTH)).await.unwrap();
        messages.lock().clone()
    }

    #[tokio::test]
    async fn what_a_node_sends_comes_out_of_its_channel_and_ends_in_order() {
        let messages = ends(&[
            spdy::data(5, b"out", false),
            spdy::data(7, b"err", true),
            spdy::data(5, b"", true),
            spdy::data(1, b"{}", false),
        ])
        .await;
        let binary = |bytes: &[u8]| Message::Binary(bytes.to_vec().into());
        let wanted =
            [binary(&[1]), binary(b"\x01out"), binary(b"\x02err"), binary(b"\x03{}"), goodbye()];
        assert_eq!(messages, wanted);
    }

    #[tokio::test]
    async fn an_end_without_a_verdict_is_no_success() {
        let messages = ends(&[spdy::data(5, b"out", true)]).await;
        assert_eq!(messages.last(), Some(&broken()));
    }

    #[tokio::test]
    async fn output_flows_while_pings_wait_for_a_blocked_stdin() {
        let ping = [&[0x80, 3, 0, 6, 0, 0, 0, 4][..], &2_u32.to_be_bytes()].concat();
        let mut sent = vec![ping; PINGS * 3];
        sent.push(spdy::data(1, b"{}", true));
        let messages = ends(&sent).await;
        assert_eq!(messages.len(), 3, "the first, the verdict and the end: {messages:?}");
    }

    #[tokio::test]
    async fn closing_stdin_closes_its_stream_alone() {
        let messages = [
            Message::Text("\0in".into()),
            Message::Binary(vec![CLOSE, STDIN].into()),
            Message::Binary(b"\x04{}".to_vec().into()),
        ];
        let client = futures_util::stream::iter(messages.map(Ok));
        let mut node = Vec::new();
        let (_pings, answers) = mpsc::channel(1);
        let to_frame = |channel: u8, rest: &[u8]| input(&channels(BOTH), channel, rest);
        up(client, &mut node, answers, to_frame).await.unwrap();
        let wanted = [spdy::data(3, b"in", false), spdy::data(3, b"", true)].concat();
        assert_eq!(node, wanted, "there is no terminal to resize");
    }
}
