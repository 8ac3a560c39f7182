// SPDX-License-Identifier: Apache-2.0
//! Nodes that are deleted or lose their name while they are linked, and what they meet afterwards.

use std::sync::Arc;

use crate::hub::client::{ClientConfig, HubClient};
use crate::hub::server::ServerEvent;
use crate::hub::tests::{World, failure, synced, until};
use crate::hub::tls::Identity;
use crate::sync::Key;
use crate::sync::memory::Memory;

fn node_key(name: &str) -> Key {
    Key::of("", "nodes", "", name)
}

fn client(world: &World, identity: Identity) -> HubClient {
    let config = ClientConfig { identity, ..world.config("n1") };
    HubClient::start(&world.runtime, Arc::new(Memory::default()), config, None).unwrap()
}

/// The number of the link that came up.
fn session(world: &World) -> u64 {
    let mut found = 0;
    until("a link", || {
        for event in world.server.inbox().drain(100) {
            if let ServerEvent::Connected { who, .. } = event {
                assert_eq!(who.uid, "u1");
                found = who.session;
            }
        }
        found > 0
    });
    found
}

/// Answers the next lookup as the API would.
fn answer_lookup(world: &World, status: u16, body: &str) {
    until("a lookup", || {
        world.server.inbox().drain(100).into_iter().any(|event| {
            let ServerEvent::Lookup { id, node, .. } = event else { return false };
            assert_eq!(node, "n1");
            world.server.respond_join(id, status, body.to_owned().into());
            true
        })
    });
}

#[test]
fn a_deleted_node_loses_its_link_and_gets_nothing_more() {
    let world = World::new();
    let store = Memory::default();
    let client = world.client("n1", &store);
    synced(&client);
    world.mirror.delete(&node_key("n1"));
    world.pod("late", "n1", "x");
    let reason = failure(&client);
    assert!(reason.contains("n1 was deleted from the cluster: join it again"), "{reason}");
    answer_lookup(&world, 404, "");
    let reason = failure(&client);
    assert!(reason.contains("403: node n1 was deleted from the cluster"), "{reason}");
    assert!(store.names("pods").is_empty());
}

#[test]
fn a_certificate_of_an_earlier_node_stays_refused_when_its_key_joins_again() {
    let world = World::new();
    let old = world.config("n1").identity;
    world.put_node("n1", "u2", &old);
    let refused = client(&world, old);
    answer_lookup(&world, 200, &world.mirror.text(&node_key("n1")).unwrap());
    let reason = failure(&refused);
    assert!(reason.contains("for an earlier Node n1, which was deleted"), "{reason}");
    refused.close();
    let new = world.certificate_for("n1", "u2");
    world.put_node("n1", "u2", &new);
    synced(&client(&world, new));
}

#[test]
fn a_name_that_another_key_takes_over_costs_the_old_key_its_link() {
    let world = World::new();
    let old = world.client("n1", &Memory::default());
    synced(&old);
    let taker = world.certificate_for("n1", "u1");
    world.put_node("n1", "u1", &taker);
    assert!(failure(&old).contains("belongs to another key"));
    old.close();
    synced(&client(&world, taker));
}

#[test]
fn a_refused_certificate_does_not_end_the_link_of_who_holds_the_name() {
    let world = World::new();
    let holder = world.client("n1", &Memory::default());
    synced(&holder);
    let refused = client(&world, world.certificate_for("n1", "u1"));
    answer_lookup(&world, 200, &world.mirror.text(&node_key("n1")).unwrap());
    assert!(failure(&refused).contains("belongs to another key"));
    assert!(holder.status().connected);
}

#[test]
fn a_mirror_that_is_behind_the_api_refuses_nobody_for_good() {
    let world = World::new();
    let identity = world.config("n1").identity;
    let node = world.mirror.text(&node_key("n1")).unwrap();
    world.mirror.delete(&node_key("n1"));
    let early = client(&world, identity);
    answer_lookup(&world, 200, &node);
    assert!(failure(&early).contains("503: node n1 cannot be let in now"));
    world.mirror.put(&node_key("n1"), &node);
    synced(&early);
}

#[test]
fn an_api_that_is_away_is_no_verdict_on_a_certificate() {
    let world = World::new();
    let identity = world.config("n1").identity;
    world.mirror.delete(&node_key("n1"));
    let client = client(&world, identity);
    answer_lookup(&world, 503, "the Kubernetes API is away");
    let reason = failure(&client);
    assert!(reason.contains("now: the Kubernetes API is away"), "{reason}");
}

#[test]
fn a_key_that_a_renewal_brings_does_not_end_the_link_that_it_came_by() {
    let world = World::new();
    let store = Memory::default();
    let client = world.client("n1", &store);
    synced(&client);
    let next = world.certificate_for("n1", "u1");
    let session = session(&world);
    world.server.allow_key(session, &crate::pki::ca_hash(&next.certificate).unwrap());
    world.put_node("n1", "u1", &next);
    world.pod("a", "n1", "x");
    until("the pod", || store.names("pods") == ["a"]);
    assert!(client.status().connected);
}
