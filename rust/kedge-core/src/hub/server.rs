// SPDX-License-Identifier: Apache-2.0
//! The hub: what Python holds of it, and what its tasks share.
//!
//! Events for Python go through one bounded inbox. Answers come back by session number; those for
//! a session that has ended change nothing on the link, and are remembered only so that a report
//! whose acknowledgement was lost is not handed to Python again by the same hub.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::net::TcpSocket;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

use crate::bridge::Inbox;
use crate::hub::admission::Claim;
use crate::hub::listener::{self, Keys};
use crate::hub::peer::Peer;
pub use crate::hub::peer::Who;
use crate::hub::tls::Identity;
use crate::hub::tunnels::Services;
use crate::hub::views::Engine;
use crate::hub::{Clock, Meter, random_id};
use crate::runtime::Runtime;
use crate::sync::port::Objects;
use crate::sync::{Item, Key};
use crate::wire::envelope::GoawayCode;
use crate::{Error, Kind, Result};

/// How a hub is set up.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Where to listen, as `0.0.0.0:10000`; port 0 takes any.
    pub listen: String,
    /// Its own certificate and key.
    #[serde(flatten)]
    pub identity: Identity,
    /// The authority of nodes, in PEM.
    pub ca: String,
    /// Its software version, for people.
    #[serde(default)]
    pub name: String,
    /// Connections at most; further ones are told to come back.
    #[serde(default = "default_connections")]
    pub max_connections: usize,
    /// Handshakes at a time.
    #[serde(default = "default_handshakes")]
    pub max_handshakes: usize,
    /// Events that wait for Python at most.
    #[serde(default = "default_inbox")]
    pub inbox: usize,
}

fn default_connections() -> usize {
    120_000
}

fn default_handshakes() -> usize {
    256
}

fn default_inbox() -> usize {
    8192
}

/// What Python is told.
#[derive(Debug)]
#[allow(missing_docs, reason = "the fields are what their names say")]
pub enum ServerEvent {
    /// A node is linked.
    Connected { who: Who, agent: String },
    /// It is not any more.
    Disconnected { who: Who, reason: String },
    /// A node's own object, to be written to the API and then acknowledged.
    Report { who: Who, seq: u64, key: Key, value: Bytes },
    /// A node asks.
    Request { who: Who, id: u64, method: String, body: Bytes },
    /// A machine without a certificate asks.
    Join { id: u64, path: String, body: Vec<u8>, address: String },
    /// A node, by its certificate, goes for good: its Node is to be deleted.
    Leave { id: u64, node: String, uid: String, key_hash: String, address: String },
    /// A certificate does not fit what the mirror says of its Node: what does the API say?
    Lookup { id: u64, node: String, address: String },
    /// A node was refused something; `count` since the last time it was told.
    Refused { who: Who, what: String, reason: String, count: u64 },
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServerStats {
    /// Linked nodes.
    pub connections: u64,
    /// Links made.
    pub accepted: u64,
    /// TLS handshakes that failed.
    pub failed_handshakes: u64,
    /// Refusals of what nodes sent.
    pub refused: u64,
    /// Bytes read, TLS included.
    pub bytes_in: u64,
    /// Bytes written, TLS included.
    pub bytes_out: u64,
    /// Objects received.
    pub items_in: u64,
    /// Objects sent.
    pub items_out: u64,
    /// Pods in the view index.
    pub pods: u64,
    /// Events that wait for Python.
    pub waiting: u64,
}

impl ServerStats {
    /// All counts with their names.
    pub fn fields(&self) -> [(&'static str, u64); 10] {
        [
            ("connections", self.connections),
            ("accepted", self.accepted),
            ("failed_handshakes", self.failed_handshakes),
            ("refused", self.refused),
            ("bytes_in", self.bytes_in),
            ("bytes_out", self.bytes_out),
            ("items_in", self.items_in),
            ("items_out", self.items_out),
            ("pods", self.pods),
            ("waiting", self.waiting),
        ]
    }
}

/// Reads a configuration.
pub fn read_config(json: &str) -> Result<ServerConfig> {
    // serde's message names a field, never its value: the key stays out of it.
    serde_json::from_str(json)
        .map_err(|error| Error::new(Kind::Invalid, format!("configuration of the hub: {error}")))
}

/// What the tasks of a hub share.
pub(crate) struct Hub {
    pub(crate) clock: Clock,
    pub(crate) name: String,
    pub(crate) engine: Engine,
    pub(crate) inbox: Inbox<ServerEvent>,
    pub(crate) keys: Mutex<Arc<Keys>>,
    pub(crate) meter: Meter,
    pub(crate) handshakes: Semaphore,
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) runtime: Runtime,
    pub(crate) failed_handshakes: AtomicU64,
    pub(crate) is_open: AtomicBool,
    /// Takes the tunnels that nodes open; none means that they may not.
    pub(crate) services: OnceLock<Arc<dyn Services>>,
    sessions: Mutex<HashMap<u64, Arc<Peer>>>,
    /// Sessions that have ended while Python still had reports of them.
    ended: Mutex<VecDeque<u64>>,
    joins: Mutex<HashMap<u64, oneshot::Sender<(u16, Bytes)>>>,
    done: Mutex<Done>,
    accepted: AtomicU64,
    refused: AtomicU64,
    items: [AtomicU64; 2],
}

/// Reports done lately: (node, key) to (store, revision), in two generations.
#[derive(Default)]
struct Done {
    new: HashMap<(Arc<str>, Key), (u64, u64)>,
    old: HashMap<(Arc<str>, Key), (u64, u64)>,
    /// The cluster's history that they went into.
    history: u64,
}

const GENERATION: usize = 32_768;
/// Ended sessions whose late acknowledgements are still taken.
const MAX_ENDED: usize = 1024;

impl Hub {
    pub(crate) fn push(&self, event: ServerEvent) {
        self.inbox.push_unbounded(event);
    }

    pub(crate) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// A new session for an authenticated node.
    pub(crate) fn register(&self, address: String, claim: Claim) -> Result<Arc<Peer>> {
        let peer = Arc::new(Peer::new(random_id()?, address, claim));
        self.sessions.lock().insert(peer.who.session, Arc::clone(&peer));
        self.accepted.fetch_add(1, Ordering::Relaxed);
        Ok(peer)
    }

    /// Its connection has ended.
    pub(crate) fn detach(&self, peer: &Arc<Peer>, reason: &str) {
        let mut state = self.engine.lock();
        if state.peers.get(&peer.who.node).is_some_and(|current| Arc::ptr_eq(current, peer)) {
            state.peers.remove(&peer.who.node);
            state.views.detach(&peer.who.node);
            self.push(peer.disconnected(reason));
        }
        drop(state);
        let traffic = peer.traffic();
        self.items[0].fetch_add(traffic.items_in, Ordering::Relaxed);
        self.items[1].fetch_add(traffic.items_out, Ordering::Relaxed);
        let mut sessions = self.sessions.lock();
        if !peer.has_in_hand() {
            sessions.remove(&peer.who.session);
            return;
        }
        let mut ended = self.ended.lock();
        ended.push_back(peer.who.session);
        if ended.len() > MAX_ENDED
            && let Some(oldest) = ended.pop_front()
        {
            sessions.remove(&oldest);
        }
    }

    /// Whether this hub has handed this version of a report on and had it acknowledged.
    pub(crate) fn was_done(&self, node: &Arc<str>, store: u64, item: &Item) -> bool {
        let done = self.done.lock();
        let key = (Arc::clone(node), item.key.clone());
        let known = done.new.get(&key).or_else(|| done.old.get(&key));
        known.is_some_and(|(of, revision)| {
            *of == store && *revision >= item.revision && item.revision > 0
        })
    }

    /// A cluster that was restored may not know what was done before.
    pub(crate) fn follow_history(&self, history: u64) {
        let mut done = self.done.lock();
        if done.history != history {
            *done = Done { history, ..Done::default() };
        }
    }

    fn remember_done(&self, node: &Arc<str>, reports: Vec<(u64, Key, u64)>) {
        let mut done = self.done.lock();
        for (store, key, revision) in reports {
            done.new.insert((Arc::clone(node), key), (store, revision));
        }
        if done.new.len() > GENERATION {
            done.old = std::mem::take(&mut done.new);
        }
    }

    /// Asks Python, by an event with the number that it is given; the answer comes by the channel.
    pub(crate) fn ask(&self, event: impl FnOnce(u64) -> ServerEvent) -> Result<Answer<'_>> {
        let id = random_id()?;
        let (sender, receiver) = oneshot::channel();
        self.joins.lock().insert(id, sender);
        let answer = Answer { hub: self, id, receiver };
        if self.inbox.try_push(event(id)).is_err() {
            return Err(Error::new(Kind::Timeout, "the hub is busy"));
        }
        Ok(answer)
    }

    fn forget_join(&self, id: u64) {
        self.joins.lock().remove(&id);
    }

    fn session(&self, session: u64) -> Option<Arc<Peer>> {
        self.sessions.lock().get(&session).cloned()
    }

    fn settle(&self, peer: &Arc<Peer>) {
        let gone = {
            let state = self.engine.lock();
            !state.peers.get(&peer.who.node).is_some_and(|current| Arc::ptr_eq(current, peer))
        };
        if gone && !peer.has_in_hand() {
            self.sessions.lock().remove(&peer.who.session);
        }
    }
}

/// An answer that Python owes; one that is given up leaves nothing behind.
pub(crate) struct Answer<'a> {
    hub: &'a Hub,
    id: u64,
    receiver: oneshot::Receiver<(u16, Bytes)>,
}

impl Answer<'_> {
    /// The status and the body; none when the hub stops.
    pub(crate) async fn get(mut self) -> Option<(u16, Bytes)> {
        (&mut self.receiver).await.ok()
    }
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        self.hub.forget_join(self.id);
    }
}

/// A hub that listens.
pub struct HubServer {
    hub: Arc<Hub>,
    address: SocketAddr,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl HubServer {
    /// Listens at once, for joins; for links after [`Self::open`].
    pub fn start(
        runtime: &Runtime,
        store: Arc<dyn Objects>,
        config: &ServerConfig,
    ) -> Result<Self> {
        let keys = Keys::new(&config.identity, &config.ca)?;
        let wanted: SocketAddr = config.listen.parse().map_err(|_error| {
            Error::new(
                Kind::Invalid,
                format!("listen: wanted ADDRESS:PORT, got: {}", config.listen),
            )
        })?;
        let (engine, changes) = Engine::load(store)?;
        let hub = Arc::new(Hub {
            clock: Clock::new(),
            name: config.name.clone(),
            engine,
            inbox: Inbox::new(config.inbox)?,
            keys: Mutex::new(Arc::new(keys)),
            meter: Meter::default(),
            handshakes: Semaphore::new(config.max_handshakes),
            connections: Arc::new(Semaphore::new(config.max_connections)),
            runtime: runtime.clone(),
            failed_handshakes: AtomicU64::new(0),
            is_open: AtomicBool::new(false),
            services: OnceLock::new(),
            sessions: Mutex::default(),
            ended: Mutex::default(),
            joins: Mutex::default(),
            done: Mutex::default(),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            items: Default::default(),
        });
        let listener = runtime.block_on(async { bind(wanted) })??;
        let address = listener.local_addr()?;
        let follow = {
            let hub = Arc::clone(&hub);
            runtime.spawn(async move {
                if let Err(error) = hub.engine.run(changes).await {
                    hub.stop(&format!("the store of the hub failed: {error}"));
                }
            })
        };
        let accept = runtime.spawn(listener::run(Arc::clone(&hub), listener));
        Ok(Self { hub, address, tasks: Mutex::new(vec![follow, accept]) })
    }

    /// Nodes may open tunnels to these from now on; the first call counts.
    pub fn offer(&self, services: Arc<dyn Services>) {
        let _ = self.hub.services.set(services);
    }

    /// Takes links from now on. The store must be complete: what it lacks is deleted on nodes.
    pub fn open(&self) {
        self.hub.is_open.store(true, Ordering::Relaxed);
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Where events come out.
    pub fn inbox(&self) -> &Inbox<ServerEvent> {
        &self.hub.inbox
    }

    /// These reports are done.
    pub fn ack(&self, session: u64, tickets: &[u64]) {
        if let Some(peer) = self.hub.session(session) {
            let done = peer.ack(tickets);
            self.hub.remember_done(&peer.who.node, done);
            self.hub.settle(&peer);
        }
    }

    /// This report will not be done.
    pub fn nack(&self, session: u64, ticket: u64, reason: &str) {
        if let Some(peer) = self.hub.session(session) {
            peer.nack(ticket, reason.to_owned());
            self.hub.settle(&peer);
        }
    }

    /// The answer to a request.
    pub fn respond(&self, session: u64, id: u64, status: u32, body: Bytes) {
        if let Some(peer) = self.hub.session(session) {
            peer.respond(id, status, body);
        }
    }

    /// The answer to a join or a lookup.
    pub fn respond_join(&self, id: u64, status: u16, body: Bytes) {
        if let Some(waiting) = self.hub.joins.lock().remove(&id) {
            // The one who asked may have gone.
            let _ = waiting.send((status, body));
        }
    }

    /// Ends a node's link; it may not come back before its certificate is accepted again.
    pub fn disconnect(&self, node: &str, reason: &str) {
        let peer = self.hub.engine.lock().peers.get(node).cloned();
        if let Some(peer) = peer {
            peer.leave(GoawayCode::Forbidden, reason, 0);
        }
    }

    /// A renewal is about to pin the Node of this session to another key.
    pub fn allow_key(&self, session: u64, key_hash: &str) {
        if let Some(peer) = self.hub.session(session) {
            peer.allow_key(key_hash);
        }
    }

    /// New connections use these.
    pub fn set_certificates(&self, identity: &Identity, ca: &str) -> Result<()> {
        let keys = Keys::new(identity, ca)?;
        *self.hub.keys.lock() = Arc::new(keys);
        Ok(())
    }

    /// What was counted.
    pub fn stats(&self) -> ServerStats {
        let hub = &self.hub;
        let (bytes_in, bytes_out) = hub.meter.totals();
        let mut items = [0, 1].map(|at| hub.items[at].load(Ordering::Relaxed));
        let state = hub.engine.lock();
        for peer in state.peers.values() {
            let traffic = peer.traffic();
            items[0] += traffic.items_in;
            items[1] += traffic.items_out;
        }
        ServerStats {
            connections: state.peers.len() as u64,
            accepted: hub.accepted.load(Ordering::Relaxed),
            failed_handshakes: hub.failed_handshakes.load(Ordering::Relaxed),
            refused: hub.refused.load(Ordering::Relaxed),
            bytes_in,
            bytes_out,
            items_in: items[0],
            items_out: items[1],
            pods: state.views.len() as u64,
            waiting: hub.inbox.len() as u64,
        }
    }

    /// Tells every node to come back in `retry_after_ms`, and stops.
    pub fn close(&self, retry_after_ms: u32) {
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
        for peer in self.hub.engine.lock().peers.values() {
            peer.leave_unavailable("the hub stops", retry_after_ms);
        }
        self.hub.inbox.close();
    }
}

impl Hub {
    fn stop(&self, reason: &str) {
        for peer in self.engine.lock().peers.values() {
            peer.leave_unavailable(reason, 5000);
        }
        self.inbox.close();
    }
}

fn bind(address: SocketAddr) -> Result<tokio::net::TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address).map_err(|error| {
        let error = Error::from(error);
        Error::new(error.kind, format!("cannot listen on {address}: {}", error.message))
    })?;
    Ok(socket.listen(4096)?)
}
