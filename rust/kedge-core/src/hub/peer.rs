// SPDX-License-Identifier: Apache-2.0
//! One linked node, as the hub sees it: its endpoint, and the task that drives it.
//!
//! Others (the view index, Python's answers) put events into the endpoint and wake the task; only
//! the task touches the socket. When Python is slow its inbox is full: reports then wait here, the
//! endpoint grants no more credit, and the node keeps the rest.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::hub::admission::Claim;
use crate::hub::reports::{self, Verdict};
use crate::hub::server::{Hub, ServerEvent};
use crate::hub::socket::Socket;
use crate::hub::tunnels::{TunnelIo, Tunnels};
use crate::sync::endpoint::{Endpoint, Traffic};
use crate::sync::heartbeat::{Beat, Heartbeat};
use crate::sync::recent::KEEP_MS;
use crate::sync::references::pod_needs;
use crate::sync::session::{Command, Event, Role};
use crate::sync::version;
use crate::sync::{Change, Item, Key, Lane};
use crate::wire::WireError;
use crate::wire::envelope::{
    Entry, Goaway, GoawayCode, Hello, Passage, Request, Response, Resume, Welcome,
};
use crate::wire::pack;
use crate::{Error, Kind, Result};

/// How long a node may take to say hello.
const HELLO_MS: u64 = 10_000;
/// How soon a full inbox is tried again.
const RETRY_MS: u64 = 20;
/// Requests of one node that wait for an answer.
const MAX_REQUESTS: usize = 8;
/// The fastest that refusals of one node are told.
const REFUSAL_MS: u64 = 10_000;

/// Who is connected.
#[derive(Clone, Debug)]
pub struct Who {
    /// The node's name, as its certificate has it.
    pub node: Arc<str>,
    /// The number of its connection.
    pub session: u64,
    /// Where it comes from.
    pub address: String,
    /// The hash of its certificate's public key.
    pub key_hash: String,
    /// The UID of the Node that its certificate is for.
    pub uid: String,
}

/// A linked node.
pub(crate) struct Peer {
    pub(crate) who: Who,
    inner: Mutex<Inner>,
    wake: Arc<Notify>,
}

struct Inner {
    endpoint: Endpoint,
    claim: Claim,
    /// For Python, when its inbox was full.
    pending: VecDeque<ServerEvent>,
    /// Handed to Python and not answered.
    in_hand: HashMap<u64, (Key, u64)>,
    store: u64,
    requests: usize,
    /// From the first on.
    tunnels: Option<Arc<Tunnels>>,
    /// Whether the node has services.
    bears_tunnels: bool,
    attached: bool,
    leaving: Option<String>,
    refused: u64,
    told: Option<u64>,
}

/// A lane and a sequence number as one number for Python.
pub(crate) fn ticket(lane: Lane, seq: u64) -> u64 {
    seq << 1 | lane as u64
}

fn unticket(ticket: u64) -> (Lane, u64) {
    (if ticket & 1 == 0 { Lane::Status } else { Lane::Bulk }, ticket >> 1)
}

impl Peer {
    pub(crate) fn new(session: u64, address: String, claim: Claim) -> Self {
        let who = Who {
            node: claim.node.as_str().into(),
            session,
            address,
            key_hash: claim.key_hash.clone(),
            uid: claim.uid.clone(),
        };
        let inner = Inner {
            endpoint: Endpoint::new(Role::Hub),
            claim,
            pending: VecDeque::new(),
            in_hand: HashMap::new(),
            store: 0,
            requests: 0,
            tunnels: None,
            bears_tunnels: false,
            attached: false,
            leaving: None,
            refused: 0,
            told: None,
        };
        Self { who, inner: Mutex::new(inner), wake: Arc::default() }
    }

    /// Puts a change into its outbox; `wake` sends it.
    pub(crate) fn offer(&self, change: Change) {
        let mut inner = self.inner.lock();
        if inner.leaving.is_none() {
            // Changes need no time on the lane of objects, and cannot break the protocol.
            let _ = inner.endpoint.step(Event::Changed(Lane::Status, change), 0);
        }
    }

    /// Its Node has changed, or is gone: ends the link unless its certificate still counts.
    pub(crate) fn admit(&self, node: Option<&[u8]>) {
        let checked = self.inner.lock().claim.check(node);
        if let Err(error) = checked {
            self.leave(GoawayCode::Forbidden, &error.message, 0);
        }
    }

    /// A renewal is about to pin its Node to this key; its link goes on.
    pub(crate) fn allow_key(&self, key_hash: &str) {
        key_hash.clone_into(&mut self.inner.lock().claim.next_key);
    }

    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Python has done what these reports say. Gives what was done, for the memory of duplicates.
    pub(crate) fn ack(&self, tickets: &[u64]) -> Vec<(u64, Key, u64)> {
        let mut inner = self.inner.lock();
        let mut done = Vec::new();
        for ticket in tickets {
            let (lane, seq) = unticket(*ticket);
            if let Some((key, revision)) = inner.in_hand.remove(ticket) {
                done.push((inner.store, key, revision));
            }
            let _ = inner.endpoint.step(Event::Settled(lane, vec![seq]), 0);
        }
        drop(inner);
        self.wake();
        done
    }

    /// Python will not do what this report says.
    pub(crate) fn nack(&self, ticket: u64, reason: String) {
        let (lane, seq) = unticket(ticket);
        let mut inner = self.inner.lock();
        inner.in_hand.remove(&ticket);
        let _ = inner.endpoint.step(Event::Refused(lane, seq, reason), 0);
        drop(inner);
        self.wake();
    }

    /// Python answers a request.
    pub(crate) fn respond(&self, id: u64, status: u32, body: Bytes) {
        let mut inner = self.inner.lock();
        inner.requests = inner.requests.saturating_sub(1);
        let _ = inner.endpoint.step(Event::Answer(Response { id, status, body }), 0);
        drop(inner);
        self.wake();
    }

    /// Ends the link with a reason for the node.
    pub(crate) fn leave(&self, code: GoawayCode, reason: &str, retry_after_ms: u32) {
        let mut inner = self.inner.lock();
        if inner.leaving.is_none() {
            inner.leaving = Some(reason.to_owned());
            let goaway = Goaway { code: code as i32, reason: reason.to_owned(), retry_after_ms };
            let _ = inner.endpoint.step(Event::Leave(goaway), 0);
        }
        drop(inner);
        self.wake();
    }

    pub(crate) fn leave_unavailable(&self, reason: &str, retry_after_ms: u32) {
        self.leave(GoawayCode::Unavailable, reason, retry_after_ms);
    }

    /// The event that tells of its end.
    pub(crate) fn disconnected(&self, reason: &str) -> ServerEvent {
        ServerEvent::Disconnected { who: self.who.clone(), reason: reason.to_owned() }
    }

    /// Whether Python still has reports of it.
    pub(crate) fn has_in_hand(&self) -> bool {
        !self.inner.lock().in_hand.is_empty()
    }

    /// What was counted.
    pub(crate) fn traffic(&self) -> Traffic {
        self.inner.lock().endpoint.traffic
    }

    /// A connection to a service of the node.
    pub(crate) fn open_tunnel(&self, service: &str) -> Result<TunnelIo> {
        let mut inner = self.inner.lock();
        if inner.leaving.is_some() || !inner.bears_tunnels {
            let message = format!("node {} offers no services over its link", self.who.node);
            return Err(Error::new(Kind::NotFound, message));
        }
        inner.tunnels(&self.wake).open(service).ok_or_else(|| {
            let message = format!("too many connections to node {} at once", self.who.node);
            Error::new(Kind::Timeout, message)
        })
    }

    fn close_tunnels(&self, reason: &str) {
        if let Some(tunnels) = self.inner.lock().tunnels.take() {
            tunnels.close(reason);
        }
    }

    fn next_frame(&self) -> Option<Vec<u8>> {
        let mut inner = self.inner.lock();
        let Inner { endpoint, tunnels, .. } = &mut *inner;
        if let Some(tunnels) = tunnels {
            tunnels.fill(endpoint);
        }
        endpoint.next_frame()
    }
}

/// Drives one link until it ends.
pub(crate) async fn serve(
    hub: Arc<Hub>,
    peer: Arc<Peer>,
    mut socket: Box<Socket>,
    _permit: OwnedSemaphorePermit,
) {
    let end = drive(&hub, &peer, &mut socket).await;
    let reason = match &end {
        Ok(()) => peer.inner.lock().leaving.clone().unwrap_or_default(),
        Err(error) => error.message.clone(),
    };
    if let Err(error) = end
        && matches!(error.kind, Kind::Invalid | Kind::TooLarge | Kind::Certificate)
    {
        hub.count_refused();
        let code = if error.kind == Kind::Certificate {
            GoawayCode::Forbidden
        } else {
            GoawayCode::Protocol
        };
        peer.leave(code, &error.message, 0);
    }
    peer.close_tunnels("the node's link was lost");
    socket.close(|| peer.next_frame()).await;
    hub.detach(&peer, &reason);
}

async fn drive(hub: &Arc<Hub>, peer: &Arc<Peer>, socket: &mut Socket) -> Result<()> {
    let start = hub.clock.now();
    let mut beat = Heartbeat::new(false, start);
    loop {
        let now = hub.clock.now();
        let deadline = {
            let mut inner = peer.inner.lock();
            if inner.leaving.is_some() {
                return Ok(());
            }
            let commands = inner.endpoint.step(Event::Flush, now)?;
            debug_assert!(commands.is_empty());
            inner.push_pending(hub);
            match beat.poll(now) {
                Beat::Dead => return Err(dead(&peer.who, "nothing heard from it for 18 seconds")),
                Beat::Wait(_) | Beat::Ping if !inner.attached && now >= start + HELLO_MS => {
                    return Err(dead(&peer.who, "it said no hello"));
                }
                Beat::Wait(end) => inner.deadline(now, end, start),
                Beat::Ping => now,
            }
        };
        tokio::select! {
            biased;
            () = peer.wake.notified() => {}
            frame = socket.turn(|| peer.next_frame()) => {
                let now = hub.clock.now();
                beat.heard(now);
                receive(hub, peer, &frame?, now)?;
            }
            () = tokio::time::sleep_until(hub.clock.at(deadline)) => {
                peer.inner.lock().endpoint.expire(hub.clock.now());
            }
        }
    }
}

fn dead(who: &Who, why: &str) -> Error {
    Error::new(Kind::Disconnected, format!("{} at {}: {why}", who.node, who.address))
}

fn receive(hub: &Arc<Hub>, peer: &Arc<Peer>, frame: &[u8], now: u64) -> Result<()> {
    let held = |key: &Key| own_object(hub, &peer.who.node, key);
    let commands = {
        let mut inner = peer.inner.lock();
        if inner.leaving.is_some() {
            return Ok(());
        }
        inner.endpoint.receive(frame, now, &held)?
    };
    commands.into_iter().try_for_each(|command| handle(hub, peer, command, now))
}

/// An object that a node's reports may be compressed against: itself, and pods bound to it.
///
/// The view index would say the same, but its lock is never taken under a peer's.
fn own_object(hub: &Hub, node: &str, key: &Key) -> Option<Bytes> {
    let named = key.resource == "nodes" && key.name == node;
    let is_pod = key.resource == "pods";
    if !key.group.is_empty() || !(named || is_pod) {
        return None;
    }
    let (value, _) = hub.engine.read(key)?;
    let own = named || pod_needs(&value).is_some_and(|needs| needs.node == node);
    own.then(|| version::project(key, &value)).flatten()
}

fn handle(hub: &Arc<Hub>, peer: &Arc<Peer>, command: Command, now: u64) -> Result<()> {
    match command {
        Command::Attach(hello) => attach(hub, peer, &hello, now),
        Command::Compare(entries) => compare(hub, peer, entries, now),
        Command::Deliver(lane, items) => {
            deliver(hub, peer, lane, items, now);
            Ok(())
        }
        Command::Rejected(key, _, reason) => {
            let what = format!("{} {}/{}", key.resource, key.namespace, key.name);
            tell_refused(hub, peer, what, format!("the node will not have it: {reason}"), now);
            Ok(())
        }
        Command::Asked(request) => ask(hub, peer, request, now),
        Command::Tunnelled(piece) => {
            let is_open = matches!(piece.passage, Some(Passage::Open(_)));
            if is_open && hub.services.get().is_none() {
                return Err(WireError::Unexpected("open").into());
            }
            let tunnels = if is_open {
                Some(peer.inner.lock().tunnels(&peer.wake))
            } else {
                peer.inner.lock().tunnels.clone()
            };
            let Some(tunnels) = tunnels else { return Ok(()) };
            let opened = tunnels.receive(piece)?;
            if let (Some((service, connection)), Some(services)) = (opened, hub.services.get()) {
                // One that nobody serves is dropped, which ends it.
                services.serve(&service, connection);
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn attach(hub: &Arc<Hub>, peer: &Arc<Peer>, hello: &Hello, now: u64) -> Result<()> {
    let node = &peer.who.node;
    if hello.node != **node {
        let message = format!("hello names {}, the certificate {node}", hello.node);
        return Err(Error::new(Kind::Certificate, message));
    }
    let mut state = hub.engine.lock();
    // Its Node may have gone since it was let in. From here on each change of the Node is seen.
    let stored = hub.engine.read(&Key::of("", "nodes", "", node));
    peer.inner.lock().claim.check(stored.as_ref().map(|(value, _)| value.as_ref()))?;
    if let Some(old) = state.peers.insert(Arc::clone(node), Arc::clone(peer)) {
        old.leave(GoawayCode::Replaced, "the same node connected again", 1000);
        hub.push(old.disconnected("the same node connected again"));
    }
    state.views.attach(node);
    let digest = state.views.digest(node);
    let resume = if digest.count == hello.count && digest.bytes() == hello.digest.as_ref() {
        Resume::Equal
    } else if hello.count == 0 {
        Resume::Full
    } else {
        Resume::Inventory
    };
    let welcome = Welcome {
        session: peer.who.session,
        dictionary: pack::dictionary_hash(),
        resume: resume as i32,
        hub: hub.name.clone(),
    };
    let mut inner = peer.inner.lock();
    inner.store = hello.store;
    inner.attached = true;
    inner.bears_tunnels = hello.tunnels > 0;
    inner.endpoint.step(Event::Attached(welcome), now)?;
    hub.push(ServerEvent::Connected { who: peer.who.clone(), agent: hello.agent.clone() });
    if resume == Resume::Full {
        let changes = hub.engine.differences(&state, node, &HashMap::new());
        inner.load(changes, now)?;
    }
    Ok(())
}

fn compare(hub: &Arc<Hub>, peer: &Arc<Peer>, entries: Vec<Entry>, now: u64) -> Result<()> {
    let held: HashMap<Key, u64> =
        entries.into_iter().filter_map(|entry| entry.key.map(|key| (key, entry.version))).collect();
    // Under the index's lock, so that no newer change is offered between reading and offering.
    let state = hub.engine.lock();
    let changes = hub.engine.differences(&state, &peer.who.node, &held);
    peer.inner.lock().load(changes, now)
}

fn deliver(hub: &Arc<Hub>, peer: &Arc<Peer>, lane: Lane, items: Vec<(u64, Item)>, now: u64) {
    let node = &peer.who.node;
    let verdicts: Vec<Verdict> = {
        let state = hub.engine.lock();
        items.iter().map(|(_, item)| reports::check(&state.views, node, item)).collect()
    };
    for ((seq, item), verdict) in items.into_iter().zip(verdicts) {
        let what = format!("{} {}/{}", item.key.resource, item.key.namespace, item.key.name);
        let mut inner = peer.inner.lock();
        match verdict {
            Verdict::Accept if !hub.was_done(node, inner.store, &item) => {
                inner.hand_on(hub, &peer.who, ticket(lane, seq), item);
            }
            Verdict::Accept | Verdict::Ignore => {
                let _ = inner.endpoint.step(Event::Settled(lane, vec![seq]), now);
            }
            Verdict::Refuse(reason) => {
                let _ = inner.endpoint.step(Event::Refused(lane, seq, reason.clone()), now);
                drop(inner);
                tell_refused(hub, peer, what, reason, now);
            }
        }
    }
}

fn ask(hub: &Arc<Hub>, peer: &Arc<Peer>, request: Request, now: u64) -> Result<()> {
    let mut inner = peer.inner.lock();
    let Request { id, method, body } = request;
    if inner.requests >= MAX_REQUESTS {
        let body = Bytes::from_static(b"too many requests at once");
        inner.endpoint.step(Event::Answer(Response { id, status: 429, body }), now)?;
        return Ok(());
    }
    inner.requests += 1;
    inner.push(hub, ServerEvent::Request { who: peer.who.clone(), id, method, body });
    Ok(())
}

/// Tells Python of a refusal, at most once in a while for each node.
fn tell_refused(hub: &Arc<Hub>, peer: &Arc<Peer>, what: String, reason: String, now: u64) {
    hub.count_refused();
    let mut inner = peer.inner.lock();
    inner.refused += 1;
    if inner.told.is_none_or(|told| now >= told + REFUSAL_MS) {
        inner.told = Some(now);
        let count = std::mem::take(&mut inner.refused);
        inner.push(hub, ServerEvent::Refused { who: peer.who.clone(), what, reason, count });
    }
}

impl Inner {
    fn tunnels(&mut self, wake: &Arc<Notify>) -> Arc<Tunnels> {
        let tunnels = self.tunnels.get_or_insert_with(|| Arc::new(Tunnels::new(Arc::clone(wake))));
        Arc::clone(tunnels)
    }

    fn load(&mut self, changes: Vec<Change>, now: u64) -> Result<()> {
        for change in changes {
            self.endpoint.step(Event::Changed(Lane::Status, change), now)?;
        }
        self.endpoint.step(Event::Loaded, now)?;
        Ok(())
    }

    fn hand_on(&mut self, hub: &Hub, who: &Who, seq: u64, item: Item) {
        self.in_hand.insert(seq, (item.key.clone(), item.revision));
        let value = item.value.unwrap_or_default();
        self.push(hub, ServerEvent::Report { who: who.clone(), seq, key: item.key, value });
    }

    fn push(&mut self, hub: &Hub, event: ServerEvent) {
        self.pending.push_back(event);
        self.push_pending(hub);
    }

    fn push_pending(&mut self, hub: &Hub) {
        while let Some(event) = self.pending.pop_front() {
            if let Err(event) = hub.inbox.try_push(event) {
                self.pending.push_front(event);
                return;
            }
        }
    }

    fn deadline(&self, now: u64, beat: u64, start: u64) -> u64 {
        let mut deadline = beat;
        if !self.attached {
            deadline = deadline.min(start + HELLO_MS);
        }
        if !self.pending.is_empty() {
            deadline = deadline.min(now + RETRY_MS);
        }
        if self.endpoint.remembers() {
            deadline = deadline.min(now + KEEP_MS / 2);
        }
        self.endpoint.session().deadline().map_or(deadline, |due| deadline.min(due.max(now + 1)))
    }
}
