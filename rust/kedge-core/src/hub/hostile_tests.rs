// SPDX-License-Identifier: Apache-2.0
//! A node that holds a good certificate and means ill, or is only slow, against a real hub.

use std::sync::Arc;
use std::time::Duration;

use crate::hub::client::ClientEvent;
use crate::hub::dial::{self, Target};
use crate::hub::server::ServerEvent;
use crate::hub::socket::Socket;
use crate::hub::tests::{World, status, synced, until};
use crate::hub::{Meter, PROBE};
use crate::sync::Key;
use crate::sync::memory::Memory;
use crate::wire::envelope::{self, Body, Goaway, Hello};
use crate::wire::frame::Frame;
use crate::wire::{CHUNK, Stream};

/// Sends frames after a good hello, if any; gives what the hub said in the end.
fn goodbye(world: &World, hello: bool, frames: Vec<Vec<u8>>) -> Option<Goaway> {
    let target = Target::new(&world.config("n1")).unwrap();
    let work = async {
        let mut socket = dial::dial(&target, &Meter::default()).await.unwrap();
        let greeting = Body::Hello(Hello { node: "n1".into(), ..Hello::default() });
        let mut all: Vec<Vec<u8>> = Vec::new();
        if hello {
            all.push(message(Stream::Control, &envelope::encode(greeting)));
        }
        all.extend(frames);
        last_word(&mut socket, all).await
    };
    world
        .runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(10), work).await })
        .unwrap()
        .unwrap()
}

fn message(stream: Stream, data: &[u8]) -> Vec<u8> {
    Frame::First { stream, total: u32::try_from(data.len()).unwrap(), data }.encode()
}

async fn last_word(socket: &mut Socket, frames: Vec<Vec<u8>>) -> Option<Goaway> {
    let mut frames = frames.into_iter();
    let mut goaway = None;
    while let Ok(frame) = socket.turn(|| frames.next()).await {
        if let Ok(Frame::First { data, .. }) = Frame::decode(&frame)
            && let Ok(Some(Body::Goaway(said))) = envelope::decode(data.to_vec().into())
        {
            goaway = Some(said);
        }
    }
    goaway
}

#[test]
fn what_breaks_the_protocol_ends_the_link_with_its_reason() {
    let world = World::new();
    let cases: Vec<(bool, Vec<u8>, &str)> = vec![
        (true, vec![0x10; CHUNK + 17], "frame too large"),
        (true, vec![0xff], "malformed: frame kind"),
        (
            true,
            Frame::First { stream: Stream::Bulk, total: 3 << 20, data: b"x" }.encode(),
            "message too large",
        ),
        (
            true,
            Frame::First { stream: Stream::Control, total: 65 << 10, data: b"x" }.encode(),
            "message too large",
        ),
        (true, message(Stream::Control, b"\xff\xff"), "truncated"),
        (
            true,
            message(
                Stream::Control,
                &envelope::encode(Body::Ack(envelope::Ack { stream: 1, upto: 9, also: vec![] })),
            ),
            "out of order",
        ),
        (
            false,
            message(Stream::Control, &envelope::encode(Body::Ack(envelope::Ack::default()))),
            "out of order",
        ),
        (
            false,
            message(
                Stream::Control,
                &envelope::encode(Body::Hello(Hello { node: "n2".into(), ..Hello::default() })),
            ),
            "hello names n2",
        ),
    ];
    for (hello, frame, wanted) in cases {
        let said = goodbye(&world, hello, vec![frame]);
        // A frame over the limit is refused by WebSocket itself: there is no polite end.
        let reason = said.map_or_else(|| "frame too large".to_owned(), |goaway| goaway.reason);
        assert!(reason.contains(wanted), "wanted {wanted:?}, got: {reason}");
    }
    until("all ended", || world.server.stats().connections == 0);
    assert_eq!(world.server.stats().refused, 8);
}

#[test]
fn a_probe_is_answered_without_tls() {
    use std::io::{Read, Write};
    let world = World::new();
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", world.server.port())).unwrap();
    stream.write_all(&[PROBE]).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, [PROBE]);
}

#[test]
fn while_python_is_slow_reports_wait_and_the_link_lives_on() {
    let world = World::with_inbox(4);
    let store = Memory::default();
    for index in 0..200 {
        world.pod(&format!("p{index}"), "n1", "x");
    }
    let client = world.client("n1", &store);
    synced(&client);
    for index in 0..200 {
        status(&store, &format!("p{index}"), "Running");
    }
    until("a full inbox", || world.server.stats().waiting == 4);
    world.pod("late", "n1", "x");
    until("objects go on", || store.text(&Key::of("", "pods", "d", "late")).is_some());
    let mut seen = 0;
    until("all reports", || {
        for event in world.server.inbox().drain(3) {
            if let ServerEvent::Report { who, seq, .. } = event {
                seen += 1;
                world.server.ack(who.session, &[seq]);
            }
        }
        client.status().waiting == 0
    });
    assert_eq!(seen, 200);
    assert!(
        client.inbox().drain(100).iter().all(|e| !matches!(e, ClientEvent::Disconnected { .. }))
    );
    drop(Arc::new(client));
}
