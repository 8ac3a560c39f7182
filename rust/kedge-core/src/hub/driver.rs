// SPDX-License-Identifier: Apache-2.0
//! The task of one linked node: frames in and out, and what is done about what it says.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use crate::hub::peer::{HELLO_MS, Peer, Who, ticket};
use crate::hub::reports::{self, Verdict};
use crate::hub::server::{Hub, ServerEvent};
use crate::hub::socket::Socket;
use crate::store::Meta;
use crate::sync::heartbeat::{Beat, Heartbeat};
use crate::sync::references::pod_needs;
use crate::sync::session::{Command, Event};
use crate::sync::version;
use crate::sync::{Item, Key, Lane};
use crate::wire::WireError;
use crate::wire::envelope::{
    Entry, GoawayCode, Hello, Passage, Request, Response, Resume, Welcome,
};
use crate::wire::pack;
use crate::{Error, Kind, Result};

/// Requests of one node that wait for an answer.
const MAX_REQUESTS: usize = 8;
/// The fastest that refusals of one node are told.
const REFUSAL_MS: u64 = 10_000;

/// Drives one link until it ends.
pub(crate) async fn serve(
    hub: Arc<Hub>,
    peer: Arc<Peer>,
    mut socket: Box<Socket>,
    _permit: OwnedSemaphorePermit,
) {
    let end = drive(&hub, &peer, &mut socket).await;
    let reason = match &end {
        Ok(()) => peer.inner().leaving.clone().unwrap_or_default(),
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
            let mut inner = peer.inner();
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
                peer.inner().endpoint.expire(hub.clock.now());
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
        let mut inner = peer.inner();
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
                Some(peer.inner().tunnels(&peer.wake))
            } else {
                peer.inner().tunnels.clone()
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

/// What a restore leaves in the cluster (`kedge.cluster.restoring`).
pub(crate) fn restored_key() -> Key {
    Key::of("", "configmaps", "kedge-system", "kedge-restored")
}

/// Names the history that a cluster has had since its last restore; 0 when there was none.
fn history_of(restored: Option<&[u8]>) -> u64 {
    // JSON readers keep 53 bits of a number.
    restored
        .and_then(|value| Meta::of(value).ok())
        .and_then(|meta| meta.metadata.uid.map(|uid| pack::hash(uid.as_bytes()) >> 11))
        .unwrap_or(0)
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
    peer.inner().claim.check(stored.as_ref().map(|(value, _)| value.as_ref()))?;
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
    let history = history_of(hub.engine.read(&restored_key()).map(|(value, _)| value).as_deref());
    hub.follow_history(history);
    let welcome = Welcome {
        session: peer.who.session,
        dictionary: pack::dictionary_hash(),
        resume: resume as i32,
        hub: hub.name.clone(),
        history,
    };
    let mut inner = peer.inner();
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
    peer.inner().load(changes, now)
}

fn deliver(hub: &Arc<Hub>, peer: &Arc<Peer>, lane: Lane, items: Vec<(u64, Item)>, now: u64) {
    let node = &peer.who.node;
    let verdicts: Vec<Verdict> = {
        let state = hub.engine.lock();
        items.iter().map(|(_, item)| reports::check(&state.views, node, item)).collect()
    };
    for ((seq, item), verdict) in items.into_iter().zip(verdicts) {
        let what = format!("{} {}/{}", item.key.resource, item.key.namespace, item.key.name);
        let mut inner = peer.inner();
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
    let mut inner = peer.inner();
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
    let mut inner = peer.inner();
    inner.refused += 1;
    if inner.told.is_none_or(|told| now >= told + REFUSAL_MS) {
        inner.told = Some(now);
        let count = std::mem::take(&mut inner.refused);
        inner.push(hub, ServerEvent::Refused { who: peer.who.clone(), what, reason, count });
    }
}
