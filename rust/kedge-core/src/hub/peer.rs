// SPDX-License-Identifier: Apache-2.0
//! One linked node, as the hub sees it: its endpoint, and what waits for Python.
//!
//! Others (the view index, Python's answers) put events into the endpoint and wake the task that drives
//! it (`driver`); only the task touches the socket. When Python is slow its inbox is full: reports then
//! wait here, the endpoint grants no more credit, and the node keeps the rest.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::hub::admission::Claim;
use crate::hub::server::{Hub, ServerEvent};
use crate::hub::tunnels::{TunnelIo, Tunnels};
use crate::sync::endpoint::{Endpoint, Traffic};
use crate::sync::recent::KEEP_MS;
use crate::sync::session::{Event, Role};
use crate::sync::{Change, Item, Key, Lane};
use crate::wire::envelope::{Goaway, GoawayCode, Response};
use crate::{Error, Kind, Result};

/// How long a node may take to say hello.
pub(super) const HELLO_MS: u64 = 10_000;
/// How soon a full inbox is tried again.
const RETRY_MS: u64 = 20;

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
    pub(super) wake: Arc<Notify>,
}

/// What its mutex guards.
pub(super) struct Inner {
    pub(super) endpoint: Endpoint,
    pub(super) claim: Claim,
    /// For Python, when its inbox was full.
    pending: VecDeque<ServerEvent>,
    /// Handed to Python and not answered.
    in_hand: HashMap<u64, (Key, u64)>,
    pub(super) store: u64,
    pub(super) requests: usize,
    /// From the first on.
    pub(super) tunnels: Option<Arc<Tunnels>>,
    /// Whether the node has services.
    pub(super) bears_tunnels: bool,
    pub(super) attached: bool,
    pub(super) leaving: Option<String>,
    pub(super) refused: u64,
    pub(super) told: Option<u64>,
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

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
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

    pub(super) fn close_tunnels(&self, reason: &str) {
        if let Some(tunnels) = self.inner.lock().tunnels.take() {
            tunnels.close(reason);
        }
    }

    pub(super) fn next_frame(&self) -> Option<Vec<u8>> {
        let mut inner = self.inner.lock();
        let Inner { endpoint, tunnels, .. } = &mut *inner;
        if let Some(tunnels) = tunnels {
            tunnels.fill(endpoint);
        }
        endpoint.next_frame()
    }
}

impl Inner {
    pub(super) fn tunnels(&mut self, wake: &Arc<Notify>) -> Arc<Tunnels> {
        let tunnels = self.tunnels.get_or_insert_with(|| Arc::new(Tunnels::new(Arc::clone(wake))));
        Arc::clone(tunnels)
    }

    pub(super) fn load(&mut self, changes: Vec<Change>, now: u64) -> Result<()> {
        for change in changes {
            self.endpoint.step(Event::Changed(Lane::Status, change), now)?;
        }
        self.endpoint.step(Event::Loaded, now)?;
        Ok(())
    }

    pub(super) fn hand_on(&mut self, hub: &Hub, who: &Who, seq: u64, item: Item) {
        self.in_hand.insert(seq, (item.key.clone(), item.revision));
        let value = item.value.unwrap_or_default();
        self.push(hub, ServerEvent::Report { who: who.clone(), seq, key: item.key, value });
    }

    pub(super) fn push(&mut self, hub: &Hub, event: ServerEvent) {
        self.pending.push_back(event);
        self.push_pending(hub);
    }

    pub(super) fn push_pending(&mut self, hub: &Hub) {
        while let Some(event) = self.pending.pop_front() {
            if let Err(event) = hub.inbox.try_push(event) {
                self.pending.push_front(event);
                return;
            }
        }
    }

    pub(super) fn deadline(&self, now: u64, beat: u64, start: u64) -> u64 {
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
