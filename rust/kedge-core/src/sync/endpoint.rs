// SPDX-License-Identifier: Apache-2.0
//! A session with its bytes: frames in, frames out, still without sockets or a clock.
//!
//! The driver hands in what it read and what happened, carries out the commands that come back,
//! and writes frames for as long as there are some. Messages to send never leave as commands.

use bytes::Bytes;
use prost::Message as _;

use crate::sync::outbox::Outgoing;
use crate::sync::recent::Recent;
use crate::sync::session::{Bases, Command, Event, Incoming, Role, Session};
use crate::sync::{Change, Item, Key, Lane};
use crate::wire::envelope::{
    self, Base, Batch, Body, Entries, Entry, Inventory, ItemHead, ItemHeads, Packed, Tunnel,
};
use crate::wire::frame::Frame;
use crate::wire::mux::{Received, Receiver, Sender};
use crate::wire::pack::{self, Packer};
use crate::wire::{Limits, Stream, WireError};

const MAX_BASES: usize = 64;
const MAX_BASE_BYTES: usize = 256 * 1024;
/// Beyond this many received and not settled items no credit is granted.
const HOLD_ITEMS: u64 = 1024;

/// Finds what this end holds under a key, for bases.
pub type Lookup<'a> = &'a dyn Fn(&Key) -> Option<Bytes>;

/// Messages and bytes so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Objects sent.
    pub items_out: u64,
    /// Objects received.
    pub items_in: u64,
    /// Frame bytes sent, without WebSocket and TLS.
    pub bytes_out: u64,
    /// Frame bytes received.
    pub bytes_in: u64,
}

/// One end of a link.
#[derive(Debug)]
pub struct Endpoint {
    session: Session,
    packer: Packer,
    limits: Limits,
    sender: Sender,
    receiver: Receiver,
    sent: Recent,
    received: Recent,
    /// What was counted.
    pub traffic: Traffic,
}

impl Endpoint {
    /// An end before its first event.
    pub fn new(role: Role) -> Self {
        let limits = match role {
            Role::Hub => Limits::HUB,
            Role::Node => Limits::NODE,
        };
        Self {
            session: Session::new(role),
            packer: Packer::default(),
            limits,
            sender: Sender::default(),
            receiver: Receiver::new(limits),
            sent: Recent::default(),
            received: Recent::default(),
            traffic: Traffic::default(),
        }
    }

    /// The state machine, to look at.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Bytes of messages that wait for credit or the socket.
    pub fn queued(&self) -> usize {
        self.sender.queued()
    }

    /// Takes an event; gives what the driver has to do.
    pub fn step(&mut self, event: Event, now: u64) -> Result<Vec<Command>, WireError> {
        if let Event::Attached(welcome) = &event {
            // The node learns the hub's dictionary from the same message.
            self.share_dictionary(welcome.dictionary, true);
        }
        let commands = self.session.step(event, now)?;
        let rest = self.carry_out(commands, now);
        self.receiver.hold(self.session.unsettled() > HOLD_ITEMS);
        self.grant();
        Ok(rest)
    }

    /// The hub knows what the node has from its `Hello`.
    pub fn share_dictionary(&mut self, theirs: u64, agreed: bool) {
        self.packer.shared_dictionary = agreed && theirs == pack::dictionary_hash();
    }

    /// An inventory as an event.
    pub fn inventory(&self, entries: Vec<Entry>) -> Event {
        let entries = Entries { entries }.encode_to_vec();
        Event::Inventory(Inventory { entries: Some(self.packer.pack(&entries, &[])) })
    }

    /// Takes in one frame; gives what the driver has to do.
    pub fn receive(
        &mut self,
        frame: &[u8],
        now: u64,
        held: Lookup<'_>,
    ) -> Result<Vec<Command>, WireError> {
        self.traffic.bytes_in += frame.len() as u64;
        match self.receiver.receive(frame)? {
            Received::Message(stream, message) => {
                let Some(body) = envelope::decode(message)? else { return Ok(Vec::new()) };
                if let Body::Tunnel(piece) = body {
                    return self.tunnelled(stream, piece);
                }
                let incoming = self.decode(stream, body, now, held)?;
                self.step(Event::Received(incoming), now)
            }
            Received::Credit(stream, bytes) => {
                self.sender.granted(stream, bytes).map(|()| Vec::new())
            }
            Received::Ping => {
                self.sender.push_frame(Frame::Pong);
                Ok(Vec::new())
            }
            Received::Nothing => {
                self.grant();
                Ok(Vec::new())
            }
            Received::Pong => Ok(Vec::new()),
        }
    }

    /// Sends a piece of a tunnel, once there is nothing more urgent.
    pub fn send_tunnel(&mut self, piece: Tunnel) {
        self.sender.push(Stream::Tunnel, envelope::encode(Body::Tunnel(piece)));
    }

    /// Whether another piece of a tunnel should be handed in now.
    pub fn wants_tunnel(&self) -> bool {
        self.session.is_open() && self.sender.is_idle(Stream::Tunnel)
    }

    /// Asks whether the other end is there.
    pub fn ping(&mut self) {
        self.sender.push_frame(Frame::Ping);
    }

    /// The next frame to write.
    pub fn next_frame(&mut self) -> Option<Vec<u8>> {
        let frame = self.sender.next_frame()?;
        self.traffic.bytes_out += frame.len() as u64;
        Some(frame)
    }

    /// Forgets old versions; call it now and then.
    pub fn expire(&mut self, now: u64) {
        self.sent.expire(now);
        self.received.expire(now);
    }

    /// Whether `expire` has something to do later.
    pub fn remembers(&self) -> bool {
        !self.sent.is_empty() || !self.received.is_empty()
    }

    fn tunnelled(&mut self, stream: Stream, piece: Tunnel) -> Result<Vec<Command>, WireError> {
        if stream != Stream::Tunnel || !self.session.is_open() {
            return Err(WireError::Unexpected("a piece of a tunnel"));
        }
        self.grant();
        Ok(vec![Command::Tunnelled(piece)])
    }

    fn grant(&mut self) {
        while let Some(credit) = self.receiver.grant() {
            self.sender.push_frame(credit);
        }
    }

    fn carry_out(&mut self, commands: Vec<Command>, now: u64) -> Vec<Command> {
        let mut rest = Vec::new();
        for command in commands {
            match command {
                Command::Send(stream, body) => self.sender.push(stream, envelope::encode(body)),
                Command::SendBatch(lane, outgoing, bases) => {
                    self.send_batch(lane, &outgoing, bases, now);
                }
                other => rest.push(other),
            }
        }
        rest
    }

    fn send_batch(&mut self, lane: Lane, outgoing: &Outgoing, bases: Bases, now: u64) {
        self.traffic.items_out += outgoing.changes.len() as u64;
        let chosen = match bases {
            Bases::Allowed => self.choose_bases(&outgoing.changes, now),
            Bases::Forbidden => Vec::new(),
        };
        let history: Vec<&[u8]> = chosen.iter().map(|(_, bytes)| bytes.as_ref()).collect();
        let values: Vec<u8> = outgoing
            .changes
            .iter()
            .filter_map(|change| change.value.as_deref())
            .flatten()
            .copied()
            .collect();
        let heads =
            ItemHeads { items: outgoing.changes.iter().map(head).collect() }.encode_to_vec();
        let batch = Batch {
            first: outgoing.first,
            heads: Some(self.packer.pack(&heads, &[])),
            values: Some(self.packer.pack(&values, &history)),
            bases: chosen.into_iter().map(|(base, _)| base).collect(),
        };
        for change in &outgoing.changes {
            if let Some(value) = &change.value {
                self.sent.put(&change.key, value, now);
            }
        }
        self.sender.push(lane.stream(), envelope::encode(Body::Batch(batch)));
    }

    fn choose_bases(&self, changes: &[Change], now: u64) -> Vec<(Base, Bytes)> {
        let mut chosen: Vec<(Base, Bytes)> = Vec::new();
        let mut total = 0;
        for (item, change) in
            changes.iter().enumerate().filter(|(_, change)| change.value.is_some())
        {
            let item = u32::try_from(item).expect("a batch is limited");
            for (key, bytes) in self.candidates(change, now) {
                let hash = pack::hash(&bytes);
                let twice = chosen.iter().any(|(base, _)| base.hash == hash);
                if twice || chosen.len() == MAX_BASES || total + bytes.len() > MAX_BASE_BYTES {
                    continue;
                }
                total += bytes.len();
                let item = if key.is_some() { 0 } else { item };
                chosen.push((Base { item, hash, key }, bytes));
            }
        }
        chosen
    }

    /// An earlier version of the object; else what it is about and another one of its kind.
    fn candidates(&self, change: &Change, now: u64) -> Vec<(Option<Key>, Bytes)> {
        if let Some(bytes) = self.sent.fresh(&change.key, now) {
            return vec![(None, bytes.clone())];
        }
        let given = change.base.as_ref().map(|base| (base.key.clone(), base.bytes.clone()));
        if matches!(given, Some((None, _))) {
            return given.into_iter().collect();
        }
        let similar = self.sent.similar(&change.key, now);
        let similar = similar.map(|(key, bytes)| (Some(key.clone()), bytes.clone()));
        given.into_iter().chain(similar).collect()
    }

    fn decode(
        &mut self,
        stream: Stream,
        body: Body,
        now: u64,
        held: Lookup<'_>,
    ) -> Result<Incoming, WireError> {
        match body {
            Body::Batch(batch) => self.decode_batch(stream, batch, now, held),
            Body::Inventory(inventory) => {
                let packed = inventory.entries.unwrap_or_default();
                let bytes = self.packer.unpack(&packed, &[], &self.limits)?;
                let entries: Entries =
                    envelope::decode_list(&bytes, self.limits.items, "inventory")?;
                Ok(Incoming::Inventory(entries.entries))
            }
            plain => {
                match &plain {
                    Body::Hello(hello) => self.share_dictionary(hello.dictionary, true),
                    Body::Welcome(welcome) => self.share_dictionary(welcome.dictionary, true),
                    _ => {}
                }
                Ok(Incoming::Plain(plain))
            }
        }
    }

    fn decode_batch(
        &mut self,
        stream: Stream,
        batch: Batch,
        now: u64,
        held: Lookup<'_>,
    ) -> Result<Incoming, WireError> {
        let lane = match stream {
            Stream::Control | Stream::Tunnel => {
                return Err(WireError::Unexpected("batch on a stream without batches"));
            }
            Stream::Status => Lane::Status,
            Stream::Bulk => Lane::Bulk,
        };
        let heads = self.packer.unpack(&batch.heads.unwrap_or_default(), &[], &self.limits)?;
        let heads: ItemHeads = envelope::decode_list(&heads, self.limits.items, "batch")?;
        let Some(bases) = self.find_bases(&batch.bases, &heads.items, held)? else {
            return Ok(Incoming::Batch { lane, first: batch.first, items: None });
        };
        let history: Vec<&[u8]> = bases.iter().map(AsRef::as_ref).collect();
        let values = self.unpack_values(&batch.values.unwrap_or_default(), &history)?;
        let items = split(heads.items, values)?;
        self.traffic.items_in += items.len() as u64;
        for item in &items {
            if let Some(value) = &item.value {
                self.received.put(&item.key, value, now);
            }
        }
        Ok(Incoming::Batch { lane, first: batch.first, items: Some(items) })
    }

    fn unpack_values(&self, packed: &Packed, history: &[&[u8]]) -> Result<Bytes, WireError> {
        self.packer.unpack(packed, history, &self.limits)
    }

    fn find_bases(
        &self,
        bases: &[Base],
        heads: &[ItemHead],
        held: Lookup<'_>,
    ) -> Result<Option<Vec<Bytes>>, WireError> {
        if bases.len() > MAX_BASES {
            return Err(WireError::Malformed("too many bases"));
        }
        let mut found = Vec::with_capacity(bases.len());
        let mut total = 0;
        for base in bases {
            let own = heads.get(base.item as usize).and_then(|head| head.key.as_ref());
            let key =
                base.key.as_ref().or(own).ok_or(WireError::Malformed("base without a key"))?;
            let fits = |bytes: &Bytes| pack::hash(bytes) == base.hash;
            let bytes =
                self.received.get(key).cloned().filter(fits).or_else(|| held(key).filter(fits));
            let Some(bytes) = bytes else { return Ok(None) };
            total += bytes.len();
            if total > MAX_BASE_BYTES {
                return Err(WireError::Malformed("bases too large"));
            }
            found.push(bytes);
        }
        Ok(Some(found))
    }
}

fn head(change: &Change) -> ItemHead {
    let length = change.value.as_ref().map_or(0, Bytes::len);
    ItemHead {
        key: Some(change.key.clone()),
        delete: change.value.is_none(),
        length: u32::try_from(length).expect("messages are limited far below 4 GiB"),
        revision: change.revision,
    }
}

fn split(heads: Vec<ItemHead>, mut values: Bytes) -> Result<Vec<Item>, WireError> {
    let mut items = Vec::with_capacity(heads.len());
    for head in heads {
        let key = head.key.filter(is_name).ok_or(WireError::Malformed("item key"))?;
        let length = head.length as usize;
        if length > values.len() || (head.delete && length > 0) {
            return Err(WireError::Malformed("item length"));
        }
        let value = values.split_to(length);
        items.push(Item { key, value: (!head.delete).then_some(value), revision: head.revision });
    }
    if values.is_empty() { Ok(items) } else { Err(WireError::Malformed("values without items")) }
}

/// Names are limited as Kubernetes limits them, so that a key always fits the store.
fn is_name(key: &Key) -> bool {
    let fits = |text: &str, most: usize| text.len() <= most && !text.contains('\0');
    !key.resource.is_empty()
        && !key.name.is_empty()
        && fits(&key.group, 253)
        && fits(&key.resource, 63)
        && fits(&key.namespace, 63)
        && fits(&key.name, 253)
}
