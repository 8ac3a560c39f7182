// SPDX-License-Identifier: Apache-2.0
//! Port-forward for clients of the channel protocols (`v4.channel.k8s.io`, `v5.channel.k8s.io`), such
//! as the official Python client's, over the SPDY that the node's runtime speaks.
//!
//! Each port of the query has two channels: data (twice its place) and error (the one after it).
//! Both begin with the port's number, low byte first. Version 5 adds channel 255, which closes the
//! channel that follows it, in either direction; version 4, which is taken where a client offers both,
//! has no half-closed ports.

use futures_util::{Sink, SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::spdy::{self, Encoder, Frame};
use super::websocket::{BLOCK, CLOSE, goodbye, lost, up};
use crate::kubeapi::query::Query;
use crate::kubeapi::status::Failure;
use crate::{Error, Result};

/// As many as channels have room for, and more than anybody wants.
const MAX_PORTS: usize = 64;
/// Pings that wait to be answered.
pub(super) const PINGS: usize = 4;

/// The ports that a query names.
pub(super) fn wanted(query: &Query) -> Result<Vec<u16>, Failure> {
    let bad = |message: String| Failure::new(400, "BadRequest", message);
    let words = query.all("ports").flat_map(|ports| ports.split(','));
    let mut ports = Vec::new();
    for word in words {
        let port = word.parse::<u16>().ok().filter(|port| *port > 0);
        let port = port.ok_or_else(|| {
            let shown: String = word.chars().take(20).collect();
            bad(format!("ports: wanted 1 to 65535, got: {shown:?}"))
        })?;
        ports.push(port);
    }
    if ports.is_empty() || ports.len() > MAX_PORTS {
        return Err(bad(format!("ports: wanted 1 to {MAX_PORTS} of them, got: {}", ports.len())));
    }
    Ok(ports)
}

/// Which SPDY streams a port has: error first, as servers want it.
fn streams(place: usize) -> (u32, u32) {
    // At most MAX_PORTS.
    let first = u32::try_from(place).unwrap_or(0) * 4 + 1;
    (first, first + 2)
}

fn channel_of(stream: u32) -> Option<u8> {
    let (place, is_data) = ((stream.checked_sub(1)?) / 4, (stream - 1) % 4 == 2);
    u8::try_from(place * 2 + u32::from(!is_data)).ok()
}

/// Carries bytes between a client's channels and a node's streams.
pub(super) async fn forward<C, N>(
    client: WebSocketStream<C>,
    node: N,
    ports: &[u16],
    has_close: bool,
) -> Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
    N: AsyncRead + AsyncWrite,
{
    let (mut to_client, from_client) = client.split();
    let (from_node, mut to_node) = tokio::io::split(node);
    let mut encoder = Encoder::default();
    for (place, port) in ports.iter().enumerate() {
        let (error, data) = streams(place);
        let (number, request) = (port.to_string(), place.to_string());
        for (stream, kind) in [(error, "error"), (data, "data")] {
            let headers = [("streamtype", kind), ("port", &number), ("requestid", &request)];
            to_node.write_all(&encoder.open_with(stream, &headers)?).await?;
        }
        // Nobody writes errors to a server.
        to_node.write_all(&spdy::data(error, b"", true)).await?;
        for stream in [data, error] {
            let channel = channel_of(stream).unwrap_or_default();
            let [low, high] = port.to_le_bytes();
            to_client.send(Message::Binary(vec![channel, low, high].into())).await.map_err(lost)?;
        }
    }
    to_node.flush().await?;
    let to_frame = |channel: u8, rest: &[u8]| input(ports.len(), has_close, channel, rest);
    let (pings, answers) = mpsc::channel(PINGS);
    tokio::select! {
        ended = up(from_client, to_node, answers, to_frame) => ended,
        ended = down(from_node, to_client, pings, ports.len(), has_close) => ended,
    }
}

/// What a client's message is to the node: data of one of `ports` ports, or its end.
fn input(ports: usize, has_close: bool, channel: u8, rest: &[u8]) -> Option<Vec<u8>> {
    let stream_of = |channel: u8| {
        let place = usize::from(channel / 2);
        (channel.is_multiple_of(2) && place < ports).then(|| streams(place).1)
    };
    match (channel, rest) {
        (CLOSE, [channel]) if has_close => {
            stream_of(*channel).map(|stream| spdy::data(stream, b"", true))
        }
        (channel, rest) if !rest.is_empty() => {
            stream_of(channel).map(|stream| spdy::data(stream, rest, false))
        }
        _ => None,
    }
}

async fn down(
    mut node: impl AsyncRead + Unpin,
    mut client: impl Sink<Message, Error = WsError> + Unpin,
    pings: mpsc::Sender<Vec<u8>>,
    ports: usize,
    has_close: bool,
) -> Result<()> {
    // A port is over when its data is: its error, if any, comes before.
    let mut open: Vec<u32> = (0..ports).map(|place| streams(place).1).collect();
    let mut buffer = Vec::with_capacity(BLOCK);
    while !open.is_empty() {
        while let Some(frame) = spdy::take(&mut buffer)? {
            let (stream, data, is_last) = match frame {
                Frame::Data { stream, data, is_last } => (stream, data, is_last),
                Frame::Reset { stream } => (stream, Vec::new(), true),
                Frame::Ping { frame } => {
                    // One that finds no room is not waited for: data must flow.
                    let _ = pings.try_send(frame);
                    continue;
                }
                Frame::Goaway | Frame::Other => continue,
            };
            let Some(channel) = channel_of(stream) else { continue };
            if !data.is_empty() {
                let message = [&[channel], data.as_slice()].concat();
                client.send(Message::Binary(message.into())).await.map_err(lost)?;
            }
            if is_last && open.contains(&stream) {
                open.retain(|one| *one != stream);
                if has_close {
                    let message = Message::Binary(vec![CLOSE, channel].into());
                    client.send(message).await.map_err(lost)?;
                }
            }
        }
        if !open.is_empty() && node.read_buf(&mut buffer).await? == 0 {
            break;
        }
    }
    client.send(goodbye()).await.map_err(lost)?;
    Ok::<_, Error>(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn ports_are_read_from_the_query() {
        let ports = |text: &str| wanted(&Query::parse(text).unwrap());
        assert_eq!(ports("ports=80&ports=443,8080").unwrap(), [80, 443, 8080]);
        for bad in ["", "ports=0", "ports=65536", "ports=80,x"] {
            assert_eq!(ports(bad).unwrap_err().code, 400, "{bad}");
        }
    }

    #[test]
    fn each_port_has_two_streams_and_two_channels() {
        assert_eq!((streams(0), streams(1)), ((1, 3), (5, 7)));
        let channels: Vec<_> = [1, 3, 5, 7].into_iter().filter_map(channel_of).collect();
        assert_eq!(channels, [1, 0, 3, 2], "data is even");
        assert_eq!(channel_of(0), None);
    }

    #[tokio::test]
    async fn what_comes_out_of_ports_is_told_apart_and_their_ends_too() {
        let sent = [
            spdy::data(3, b"one", false),
            spdy::data(5, b"refused", true),
            spdy::data(7, b"", true),
            spdy::data(3, b"", true),
        ];
        let messages = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let to_client = futures_util::sink::unfold(Arc::clone(&messages), |to, message| async {
            to.lock().push(message);
            Ok(to)
        });
        let (pings, _answers) = mpsc::channel(1);
        let bytes = sent.concat();
        down(bytes.as_slice(), Box::pin(to_client), pings, 2, true).await.unwrap();
        let binary = |bytes: &[u8]| Message::Binary(bytes.to_vec().into());
        let wanted = [
            binary(b"\x00one"),
            binary(b"\x03refused"),
            binary(&[CLOSE, 2]),
            binary(&[CLOSE, 0]),
            goodbye(),
        ];
        assert_eq!(*messages.lock(), wanted);
    }

    #[tokio::test]
    async fn a_client_writes_to_data_channels_alone() {
        let messages = [&b"\x00in"[..], b"\x01no", b"\x09no", &[CLOSE, 0]]
            .map(|bytes| Ok(Message::Binary(bytes.to_vec().into())));
        let client = futures_util::stream::iter(messages);
        let mut node = Vec::new();
        let (_pings, answers) = mpsc::channel(1);
        let to_frame = |channel: u8, rest: &[u8]| input(1, true, channel, rest);
        up(client, &mut node, answers, to_frame).await.unwrap();
        assert_eq!(node, [spdy::data(3, b"in", false), spdy::data(3, b"", true)].concat());
    }
}
