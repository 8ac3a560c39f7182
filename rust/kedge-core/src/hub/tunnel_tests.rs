// SPDX-License-Identifier: Apache-2.0
//! Tunnels through a real link over loopback.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::hub::client::HubClient;
use crate::hub::reach::{Reached, Reacher};
use crate::hub::server::ServerEvent;
use crate::hub::tests::{World, status, synced, until};
use crate::hub::tunnels::{Services, TunnelIo, Tunnels, WINDOW};
use crate::runtime::Runtime;
use crate::sync::memory::Memory;
use crate::wire::WireError;
use crate::wire::envelope::{Passage, Tunnel};
use crate::{Kind, Result};

/// `echo` gives back what it gets; `flood` writes for ever once asked; anything else is dropped.
struct Test(Runtime);

impl Services for Test {
    fn serve(&self, service: &str, mut connection: TunnelIo) {
        match service {
            "echo" => {
                self.0.spawn(async move {
                    let (mut from, mut to) = tokio::io::split(&mut connection);
                    tokio::io::copy(&mut from, &mut to).await.unwrap();
                    to.shutdown().await.unwrap();
                });
            }
            "flood" => {
                self.0.spawn(async move {
                    connection.read_u8().await.unwrap();
                    while connection.write_all(&[b'x'; 5000]).await.is_ok() {}
                });
            }
            _ => {}
        }
    }
}

fn linked(world: &World, node: &str, store: &Memory) -> HubClient {
    let services = Arc::new(Test(world.runtime.clone()));
    let config = world.config(node);
    let store = Arc::new(store.clone());
    let client = HubClient::start(&world.runtime, store, config, Some(services)).unwrap();
    synced(&client);
    client
}

fn reach(world: &World, group: &str, node: &str, service: &str) -> Result<Reached> {
    let identity = world.identity("apiserver", group);
    let reacher = Reacher::new(&identity, world.authority(), "localhost").unwrap();
    let address = format!("127.0.0.1:{}", world.server.port());
    world.runtime.block_on(reacher.reach(&address, node, service)).unwrap()
}

const GROUP: &str = "kedge:api-servers";

#[test]
fn bytes_pass_both_ways_and_the_end_of_one_way_leaves_the_other() {
    let world = World::new();
    let _client = linked(&world, "n1", &Memory::default());
    let through = reach(&world, GROUP, "n1", "echo").unwrap();
    let sent: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    let received = world.runtime.block_on(async {
        let (mut from, mut to) = tokio::io::split(through);
        let mut received = Vec::new();
        let write = async {
            to.write_all(&sent).await.unwrap();
            to.shutdown().await.unwrap();
        };
        tokio::join!(write, async { from.read_to_end(&mut received).await.unwrap() });
        received
    });
    assert!(received.unwrap() == sent);
}

#[test]
fn one_that_does_not_read_delays_neither_reports_nor_other_tunnels() {
    let world = World::new();
    world.pod("a", "n1", "x");
    let store = Memory::default();
    let _client = linked(&world, "n1", &store);
    let mut asleep = reach(&world, GROUP, "n1", "flood").unwrap();
    world.runtime.block_on(asleep.write_u8(1)).unwrap().unwrap();
    let mut other = reach(&world, GROUP, "n1", "echo").unwrap();
    status(&store, "a", "Running");
    until("the report", || {
        let drained = world.server.inbox().drain(100);
        drained.iter().any(|event| matches!(event, ServerEvent::Report { .. }))
    });
    let answer = world.runtime.block_on(async {
        other.write_all(b"hello").await.unwrap();
        let mut answer = [0; 5];
        other.read_exact(&mut answer).await.unwrap();
        answer
    });
    assert_eq!(&answer.unwrap(), b"hello");
}

#[test]
fn a_tunnel_ends_with_its_link() {
    let world = World::new();
    let client = linked(&world, "n1", &Memory::default());
    let mut through = reach(&world, GROUP, "n1", "echo").unwrap();
    client.close();
    let rest = world.runtime.block_on(async {
        let mut rest = Vec::new();
        through.read_to_end(&mut rest).await.map(|_| rest)
    });
    assert!(rest.unwrap().unwrap_or_default().is_empty());
}

#[test]
fn only_an_api_server_reaches_a_node_and_only_one_that_is_linked() {
    let world = World::new();
    let _client = linked(&world, "n1", &Memory::default());
    let refused = |group: &str, node: &str| reach(&world, group, node, "echo").unwrap_err();
    let error = refused("system:nodes", "n1");
    assert_eq!(error.kind, Kind::Forbidden, "{error}");
    assert!(error.message.starts_with("not an API server's certificate"), "{error}");
    let error = refused(GROUP, "n2");
    assert_eq!(
        (error.kind, error.message.as_str()),
        (Kind::NotFound, "node n2 is not linked to this hub")
    );
    assert_eq!(refused(GROUP, "n1/echo HTTP/1.1\r\nx: y").kind, Kind::Invalid);
    let plain = world.client("n3", &Memory::default());
    synced(&plain);
    assert_eq!(refused(GROUP, "n3").message, "node n3 offers no services over its link");
}

#[test]
fn a_service_that_a_node_has_not_ends_the_tunnel_at_once() {
    let world = World::new();
    let _client = linked(&world, "n1", &Memory::default());
    let mut through = reach(&world, GROUP, "n1", "nothing").unwrap();
    let read = world.runtime.block_on(async { through.read(&mut [0; 10]).await });
    assert_eq!(read.unwrap().unwrap_or(0), 0);
}

fn piece(id: u64, passage: Passage) -> Tunnel {
    Tunnel { id, passage: Some(passage) }
}

#[test]
fn bytes_beyond_the_window_break_the_protocol() {
    let tunnels = Arc::new(Tunnels::of_node());
    let (service, _io) = tunnels.receive(piece(1, Passage::Open("x".into()))).unwrap().unwrap();
    assert_eq!(service, "x");
    let full = vec![0; WINDOW as usize].into();
    assert!(tunnels.receive(piece(1, Passage::Data(full))).unwrap().is_none());
    let error = tunnels.receive(piece(1, Passage::Data(b"x".to_vec().into()))).unwrap_err();
    assert_eq!(error, WireError::CreditExceeded { stream: 3, got: 1 });
    let error = tunnels.receive(piece(1, Passage::Credit(1))).unwrap_err();
    assert!(matches!(error, WireError::Malformed(_)));
}

#[tokio::test]
async fn what_was_written_goes_out_although_its_writer_has_gone() {
    let tunnels = Arc::new(Tunnels::default());
    let mut io = tunnels.open("x").unwrap();
    io.write_all(b"last words").await.unwrap();
    io.shutdown().await.unwrap();
    drop(io);
    let sent: Vec<_> =
        std::iter::from_fn(|| tunnels.next_piece()).filter_map(|p| p.passage).collect();
    assert_eq!(
        sent,
        [
            Passage::Open("x".into()),
            Passage::Data(b"last words".to_vec().into()),
            Passage::End(true),
            Passage::Reset("closed".into()),
        ]
    );
    assert_eq!(tunnels.len(), 0);
}

#[tokio::test]
async fn one_that_is_dropped_unfinished_is_reset_and_forgotten() {
    let tunnels = Arc::new(Tunnels::default());
    let mut io = tunnels.open("x").unwrap();
    io.write_all(b"never mind").await.unwrap();
    drop(io);
    let sent: Vec<_> =
        std::iter::from_fn(|| tunnels.next_piece()).filter_map(|p| p.passage).collect();
    assert_eq!(sent, [Passage::Open("x".into()), Passage::Reset("closed".into())]);
    assert_eq!(tunnels.len(), 0);
}

/// Hands over what one end has to send; how many pieces that was.
fn carry(from: &Tunnels, to: &Arc<Tunnels>) -> usize {
    let pieces: Vec<_> = std::iter::from_fn(|| from.next_piece()).collect();
    for piece in &pieces {
        assert!(to.receive(piece.clone()).unwrap().is_none(), "no new tunnel");
    }
    pieces.len()
}

#[tokio::test]
async fn one_whose_other_end_has_said_all_is_forgotten_there_too_when_it_is_dropped() {
    for is_finished in [false, true] {
        let hub = Arc::new(Tunnels::default());
        let node = Arc::new(Tunnels::of_node());
        let mut asked = hub.open("x").unwrap();
        let (_, mut served) = node.receive(hub.next_piece().unwrap()).unwrap().unwrap();
        served.write_all(b"answer").await.unwrap();
        served.shutdown().await.unwrap();
        assert_eq!(carry(&node, &hub), 2, "the answer and its end");
        let mut answer = Vec::new();
        asked.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"answer");
        if is_finished {
            asked.shutdown().await.unwrap();
        }
        drop(asked);
        assert_eq!(carry(&hub, &node), 1);
        let rest = served.read(&mut [0; 8]).await;
        assert_eq!(rest.ok(), is_finished.then_some(0), "an end, or a break");
        drop(served);
        assert_eq!((carry(&node, &hub), hub.len(), node.len()), (0, 0, 0));
    }
}

#[tokio::test]
async fn too_many_at_once_are_refused_at_both_ends() {
    let hub = Arc::new(Tunnels::default());
    let open: Vec<_> = (0..200).filter_map(|_| hub.open("x")).collect();
    assert_eq!(open.len(), 128);
    let node = Arc::new(Tunnels::of_node());
    let taken: Vec<_> = (0..200)
        .filter_map(|id| node.receive(piece(2 * id + 1, Passage::Open("x".into()))).unwrap())
        .collect();
    assert_eq!(taken.len(), 128);
    let refusal = node.next_piece().unwrap();
    assert_eq!(refusal, piece(257, Passage::Reset("too many tunnels on this link".into())));
    let own = node.open("y");
    assert!(own.is_some(), "each end has its own");
    let error = node.receive(piece(2, Passage::Open("x".into()))).unwrap_err();
    assert_eq!(error, WireError::Unexpected("open"), "a number of this end");
}

#[test]
fn a_node_reaches_what_the_hub_offers_and_nothing_without_a_link() {
    let world = World::new();
    world.server.offer(Arc::new(Test(world.runtime.clone())));
    let client = linked(&world, "n1", &Memory::default());
    let outlet = client.outlet();
    let answer = world.runtime.block_on(async {
        let mut through = outlet.open("echo").unwrap();
        through.write_all(b"hello").await.unwrap();
        through.shutdown().await.unwrap();
        let mut answer = String::new();
        through.read_to_string(&mut answer).await.unwrap();
        let mut nothing = outlet.open("nothing").unwrap();
        assert!(nothing.read_u8().await.is_err(), "nobody serves it");
        answer
    });
    assert_eq!(answer.unwrap(), "hello");
    world.server.close(60_000);
    until("the link is gone", || outlet.open("echo").is_err());
    assert_eq!(outlet.open("echo").unwrap_err().kind, Kind::Disconnected);
}

#[test]
fn a_node_that_opens_a_tunnel_to_a_hub_without_services_breaks_the_rules() {
    let world = World::new();
    let client = linked(&world, "n1", &Memory::default());
    let _through = client.outlet().open("echo").unwrap();
    until("the link ends", || client.status().last_error.contains("open"));
}
