// SPDX-License-Identifier: Apache-2.0
//! Both ends of the link over loopback, with stores in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::hub::admission::PIN;
use crate::hub::client::{ClientConfig, ClientEvent, HubClient};
use crate::hub::follow::link_key;
use crate::hub::server::{HubServer, ServerConfig, ServerEvent};
use crate::hub::tls::Identity;
use crate::pki;
use crate::runtime::Runtime;
use crate::sync::Key;
use crate::sync::memory::Memory;

pub(super) struct World {
    ca: (String, String),
    pub(super) runtime: Runtime,
    pub(super) mirror: Memory,
    pub(super) server: HubServer,
    nodes: Mutex<HashMap<String, Identity>>,
}

fn identity((certificate, key): (String, String)) -> Identity {
    Identity { certificate, key }
}

impl World {
    pub(super) fn new() -> Self {
        Self::with_inbox(1000)
    }

    pub(super) fn with_inbox(inbox: usize) -> Self {
        let ca = pki::create_ca("test", 10).unwrap();
        let runtime = Runtime::new(2).unwrap();
        let mirror = Memory::default();
        let server = Self::serve(&ca, &runtime, &mirror, "127.0.0.1:0", inbox);
        Self { ca, runtime, mirror, server, nodes: Mutex::default() }
    }

    fn serve(
        ca: &(String, String),
        runtime: &Runtime,
        mirror: &Memory,
        listen: &str,
        inbox: usize,
    ) -> HubServer {
        let issued = pki::issue(
            &ca.0,
            &ca.1,
            &pki::Issue {
                common_name: "hub",
                dns_names: &["localhost".into()],
                ip_addresses: &["127.0.0.1".into()],
                days: 5,
                server: true,
                ..pki::Issue::default()
            },
        )
        .unwrap();
        let config = ServerConfig {
            listen: listen.into(),
            identity: identity(issued),
            ca: ca.0.clone(),
            name: "test".into(),
            max_connections: 50,
            max_handshakes: 10,
            inbox,
        };
        let server = HubServer::start(runtime, Arc::new(mirror.clone()), &config).unwrap();
        server.open();
        server
    }

    /// The certificate of a node; the first time, its Node is made.
    fn node_identity(&self, name: &str) -> Identity {
        let mut nodes = self.nodes.lock();
        if let Some(known) = nodes.get(name) {
            return known.clone();
        }
        let made = self.certificate_for(name, "u1");
        self.put_node(name, "u1", &made);
        nodes.insert(name.to_owned(), made.clone());
        made
    }

    /// A certificate with a key of its own for the Node of that UID.
    pub(super) fn certificate_for(&self, name: &str, uid: &str) -> Identity {
        let uris = [format!("urn:uuid:{uid}")];
        self.issue(&format!("system:node:{name}"), "system:nodes", &uris)
    }

    pub(super) fn put_node(&self, name: &str, uid: &str, holder: &Identity) {
        let pin = pki::ca_hash(&holder.certificate).unwrap();
        let json = format!(
            r#"{{"metadata":{{"name":"{name}","uid":"{uid}","annotations":{{"{PIN}":"{pin}"}}}}}}"#
        );
        self.mirror.put(&Key::of("", "nodes", "", name), &json);
    }

    pub(super) fn authority(&self) -> &str {
        &self.ca.0
    }

    pub(super) fn identity(&self, common_name: &str, group: &str) -> Identity {
        self.issue(common_name, group, &[])
    }

    fn issue(&self, common_name: &str, group: &str, uris: &[String]) -> Identity {
        identity(
            pki::issue(
                &self.ca.0,
                &self.ca.1,
                &pki::Issue {
                    common_name,
                    organizations: &[group.into()],
                    uris,
                    days: 5,
                    client: true,
                    ..pki::Issue::default()
                },
            )
            .unwrap(),
        )
    }

    pub(super) fn config(&self, node: &str) -> ClientConfig {
        ClientConfig {
            server: format!("127.0.0.1:{}", self.server.port()),
            server_name: String::new(),
            node: node.into(),
            ca: self.ca.0.clone(),
            identity: self.node_identity(node),
            agent: "test".into(),
        }
    }

    pub(super) fn client(&self, node: &str, store: &Memory) -> HubClient {
        HubClient::start(&self.runtime, Arc::new(store.clone()), self.config(node), None).unwrap()
    }

    pub(super) fn pod(&self, name: &str, node: &str, text: &str) {
        let json = format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"d","uid":"u-{name}"}},"spec":{{"nodeName":"{node}","x":"{text}","volumes":[{{"configMap":{{"name":"c-{name}"}}}}]}}}}"#
        );
        self.mirror.put(&Key::of("", "pods", "d", name), &json);
    }

    fn config_map(&self, name: &str, data: &str) {
        let json = format!(r#"{{"metadata":{{"name":"{name}"}},"data":{{"k":"{data}"}}}}"#);
        self.mirror.put(&Key::of("", "configmaps", "d", name), &json);
    }
}

pub(super) fn until(what: &str, mut check: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if check() {
            return;
        }
        #[allow(clippy::disallowed_methods, reason = "the test thread waits for others")]
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("never came: {what}");
}

fn wait_for(client: &HubClient, wanted: impl Fn(&ClientEvent) -> bool) -> ClientEvent {
    let mut found = None;
    let mut seen = Vec::new();
    until("client event", || {
        for event in client.inbox().drain(100) {
            seen.push(format!("{event:?}"));
            if wanted(&event) {
                found = Some(event);
                return true;
            }
        }
        false
    });
    found.unwrap_or_else(|| panic!("{seen:?}"))
}

pub(super) fn synced(client: &HubClient) {
    wait_for(client, |event| *event == ClientEvent::Synced);
}

pub(super) fn failure(client: &HubClient) -> String {
    match wait_for(client, |event| matches!(event, ClientEvent::Disconnected { .. })) {
        ClientEvent::Disconnected { reason, .. } => reason,
        _ => unreachable!(),
    }
}

/// The reports handed to Python until now.
fn reports(server: &HubServer) -> Vec<(u64, u64, String)> {
    let drained = server.inbox().drain(1000);
    let report = |event| match event {
        ServerEvent::Report { who, seq, key, .. } => {
            Some((who.session, seq, format!("{} {}", key.resource, key.name)))
        }
        _ => None,
    };
    drained.into_iter().filter_map(report).collect()
}

fn next_report(server: &HubServer) -> (u64, u64, String) {
    let mut found = Vec::new();
    until("a report", || {
        found.extend(reports(server));
        !found.is_empty()
    });
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

pub(super) fn status(store: &Memory, name: &str, text: &str) {
    let json = format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"d","uid":"u-{name}"}},"status":{{"phase":"{text}"}}}}"#
    );
    store.put(&Key::of("", "pods/status", "d", name), &json);
}

#[test]
fn objects_of_a_node_reach_it_and_no_others() {
    let world = World::new();
    world.config_map("c-a", "1");
    world.config_map("c-b", "1");
    world.pod("a", "n1", "x");
    world.pod("b", "n2", "x");
    let store = Memory::default();
    let client = world.client("n1", &store);
    synced(&client);
    assert_eq!(store.names("pods"), ["a"]);
    assert_eq!(store.names("configmaps"), ["c-a"]);
    world.config_map("c-a", "2");
    world.config_map("c-b", "2");
    until("the change", || {
        store
            .text(&Key::of("", "configmaps", "d", "c-a"))
            .is_some_and(|text| text.contains("\"2\""))
    });
    world.mirror.delete(&Key::of("", "pods", "d", "a"));
    until("the deletion", || {
        store.names("pods").is_empty() && store.names("configmaps").is_empty()
    });
    assert_eq!(store.history("configmaps"), ["c-a", "c-a", "-c-a"]);
}

#[test]
fn many_pods_arrive_in_few_transactions() {
    let world = World::new();
    let store = Memory::default();
    let client = world.client("n1", &store);
    synced(&client);
    let before = store.commits();
    for index in 0..50 {
        world.pod(&format!("p{index}"), "n1", "x");
    }
    until("all pods", || store.names("pods").len() == 50);
    assert!(store.commits() - before <= 50);
}

#[test]
fn a_report_is_acknowledged_only_when_python_says_so_and_not_sent_again_then() {
    let world = World::new();
    world.pod("a", "n1", "x");
    let store = Memory::default();
    let client = world.client("n1", &store);
    synced(&client);
    status(&store, "a", "Running");
    let (session, seq, what) = next_report(&world.server);
    assert_eq!(what, "pods/status a");
    assert_eq!(client.status().waiting, 1);
    world.server.ack(session, &[seq]);
    until("the acknowledgement", || client.status().waiting == 0);
    until("the cursor", || {
        store.text(&link_key()).is_some_and(|text| !text.contains("\"reported\":0"))
    });
    drop(client);
    until("the end", || world.server.stats().connections == 0);
    let client = world.client("n1", &store);
    synced(&client);
    status(&store, "a", "Failed");
    assert_eq!(next_report(&world.server).2, "pods/status a");
}

#[test]
fn a_restored_cluster_is_told_again_what_it_had_acknowledged_and_only_once() {
    let world = World::new();
    world.pod("a", "n1", "x");
    let store = Memory::default();
    let client = world.client("n1", &store);
    synced(&client);
    status(&store, "a", "Running");
    let (session, seq, _) = next_report(&world.server);
    world.server.ack(session, &[seq]);
    until("the cursor", || {
        store.text(&link_key()).is_some_and(|text| !text.contains("\"reported\":0"))
    });
    drop(client);
    until("the end", || world.server.stats().connections == 0);
    let restored = Key::of("", "configmaps", "kedge-system", "kedge-restored");
    world.mirror.put(&restored, r#"{"metadata":{"name":"kedge-restored","uid":"u-1"}}"#);
    let client = world.client("n1", &store);
    synced(&client);
    let (session, seq, what) = next_report(&world.server);
    assert_eq!(what, "pods/status a");
    world.server.ack(session, &[seq]);
    until("the cursor", || {
        store.text(&link_key()).is_some_and(|text| !text.contains("\"reported\":0"))
    });
    drop(client);
    until("the end", || world.server.stats().connections == 0);
    let client = world.client("n1", &store);
    synced(&client);
    status(&store, "a", "Failed");
    assert_eq!(next_report(&world.server).2, "pods/status a");
}

#[test]
fn what_was_not_acknowledged_comes_again_after_a_restart() {
    let world = World::new();
    world.pod("a", "n1", "x");
    let store = Memory::default();
    let client = world.client("n1", &store);
    synced(&client);
    status(&store, "a", "Running");
    next_report(&world.server);
    drop(client);
    let client = world.client("n1", &store);
    let (session, seq, _) = next_report(&world.server);
    world.server.ack(session, &[seq]);
    until("the acknowledgement", || client.status().waiting == 0);
}

#[test]
fn a_report_that_is_sent_once_is_removed_when_acknowledged() {
    let world = World::new();
    world.pod("a", "n1", "x");
    let store = Memory::default();
    let client = world.client("n1", &store);
    synced(&client);
    let key = Key::of("", "pods/deleted", "d", "a");
    store.put(&key, r#"{"metadata":{"name":"a","namespace":"d","uid":"u-a"}}"#);
    let (session, seq, _) = next_report(&world.server);
    assert!(store.text(&key).is_some());
    world.server.ack(session, &[seq]);
    until("the removal", || store.text(&key).is_none());
}

#[test]
fn a_report_on_another_nodes_pod_is_refused_told_and_not_sent_for_ever() {
    let world = World::new();
    world.pod("b", "n2", "x");
    let store = Memory::default();
    let client = world.client("n1", &store);
    synced(&client);
    status(&store, "b", "Running");
    wait_for(
        &client,
        |event| matches!(event, ClientEvent::Rejected { what, .. } if what == "pods/status d/b"),
    );
    until("the refusal", || {
        world.server.inbox().drain(100).iter().any(
            |event| matches!(event, ServerEvent::Refused { what, .. } if what == "pods/status d/b"),
        )
    });
    until("nothing waits", || client.status().waiting == 0);
    assert_eq!(world.server.stats().refused, 1);
}

#[test]
fn a_reconnect_of_an_unchanged_node_costs_little_and_sends_nothing() {
    let world = World::new();
    for index in 0..20 {
        world.config_map(&format!("c-p{index}"), &"data".repeat(50));
        world.pod(&format!("p{index}"), "n1", &"text".repeat(100));
    }
    let store = Memory::default();
    let client = world.client("n1", &store);
    synced(&client);
    drop(client);
    until("the end", || world.server.stats().connections == 0);
    let before = world.server.stats();
    let commits = store.history("pods").len();
    let client = world.client("n1", &store);
    synced(&client);
    let after = world.server.stats();
    let bytes = after.bytes_in + after.bytes_out - before.bytes_in - before.bytes_out;
    assert!(bytes < 6000, "{bytes} bytes for a full handshake and an unchanged view");
    assert_eq!(store.history("pods").len(), commits);
    assert_eq!(after.items_out, before.items_out);
}

#[test]
fn after_a_cut_only_the_differences_are_sent() {
    let world = World::new();
    for name in ["a", "b", "c", "d"] {
        world.config_map(&format!("c-{name}"), "1");
        world.pod(name, "n1", "x");
    }
    let store = Memory::default();
    let client = world.client("n1", &store);
    synced(&client);
    drop(client);
    until("the end", || world.server.stats().connections == 0);
    world.pod("b", "n1", "changed");
    world.mirror.delete(&Key::of("", "pods", "d", "c"));
    let before = store.history("pods").len();
    let client = world.client("n1", &store);
    synced(&client);
    let mut news = store.history("pods")[before..].to_vec();
    news.sort();
    assert_eq!(news, ["-c", "b"]);
    assert_eq!(store.names("configmaps"), ["c-a", "c-b", "c-d"]);
}

#[test]
fn a_second_connection_of_a_node_ends_the_first() {
    let world = World::new();
    let (one, two) = (Memory::default(), Memory::default());
    let first = world.client("n1", &one);
    synced(&first);
    let second = world.client("n1", &two);
    synced(&second);
    assert!(failure(&first).contains("connected again"));
    first.close();
    until("one left", || world.server.stats().connections == 1);
}

#[test]
fn a_hub_that_comes_back_is_found_again() {
    let world = World::new();
    let store = Memory::default();
    let client = world.client("n1", &store);
    synced(&client);
    let address = format!("127.0.0.1:{}", world.server.port());
    world.server.close(0);
    failure(&client);
    until("the port", || std::net::TcpListener::bind(&address).is_ok());
    let again = World::serve(&world.ca, &world.runtime, &world.mirror, &address, 1000);
    synced(&client);
    assert_eq!(again.stats().connections, 1);
}

#[test]
fn wrong_certificates_and_names_give_one_clear_error_each() {
    let world = World::new();
    let other = World::new();
    let cases: Vec<(ClientConfig, &str)> = vec![
        (
            ClientConfig { ca: other.ca.0.clone(), ..world.config("n1") },
            "is not signed by this node's authority",
        ),
        (
            ClientConfig { identity: other.node_identity("n1"), ..world.config("n1") },
            "refused this node's certificate",
        ),
        (
            ClientConfig { server_name: "elsewhere".into(), ..world.config("n1") },
            "is for another name",
        ),
        (
            ClientConfig { identity: world.node_identity("n2"), ..world.config("n1") },
            "hello names n1, the certificate n2",
        ),
        (ClientConfig { server: "127.0.0.1:1".into(), ..world.config("n1") }, "cannot be reached"),
    ];
    for (config, wanted) in cases {
        let client =
            HubClient::start(&world.runtime, Arc::new(Memory::default()), config, None).unwrap();
        let reason = failure(&client);
        assert!(reason.contains(wanted), "wanted {wanted:?}, got: {reason}");
    }
}

#[test]
fn a_request_is_answered_and_one_without_a_link_fails() {
    let world = World::new();
    let client = world.client("n1", &Memory::default());
    client.request(7, "certificate/renew", "csr".into());
    synced(&client);
    client.request(8, "certificate/renew", "csr".into());
    until("the request", || {
        for event in world.server.inbox().drain(100) {
            if let ServerEvent::Request { who, id, method, body } = event {
                assert_eq!((method.as_str(), &body[..]), ("certificate/renew", &b"csr"[..]));
                world.server.respond(who.session, id, 200, "cert".into());
                return true;
            }
        }
        false
    });
    let answer =
        wait_for(&client, |event| matches!(event, ClientEvent::Response { ticket: 8, .. }));
    assert_eq!(answer, ClientEvent::Response { ticket: 8, status: 200, body: "cert".into() });
}

#[test]
fn new_certificates_are_taken_without_dropping_the_link() {
    let world = World::new();
    let client = world.client("n1", &Memory::default());
    synced(&client);
    client.set_certificate(&world.certificate_for("n1", "u1")).unwrap();
    assert!(client.status().connected);
    assert!(
        client.set_certificate(&Identity { certificate: "x".into(), key: "y".into() }).is_err()
    );
}

#[test]
fn a_store_that_cannot_commit_acknowledges_nothing() {
    let world = World::new();
    let store = Memory::default();
    let client = world.client("n1", &store);
    synced(&client);
    store.fail(true);
    world.pod("a", "n1", "x");
    assert!(failure(&client).contains("disk is full"));
    store.fail(false);
    synced(&client);
    assert_eq!(store.names("pods"), ["a"]);
}
