// SPDX-License-Identifier: Apache-2.0
//! One link as a pure state machine: `step(event, now) -> commands`.
//!
//! Both ends run it, with the same two lanes each way. The node opens with `Hello`; the hub attaches
//! it to its view, answers `Welcome`, and when the node's copy differs compares the inventory. From
//! then on each end offers changes, sends what the window allows at `Flush`, and acknowledges what
//! its driver has settled (made durable, or had answered by the API). A session is one connection:
//! what an old connection still delivers ends in an old session and goes nowhere.

use crate::sync::inlet::Inlet;
use crate::sync::outbox::{Outbox, Outgoing};
use crate::sync::{Change, Item, Key, Lane};
use crate::wire::envelope::{
    Ack, Body, Entry, Goaway, Hello, Nack, NeedFull, Request, Response, Resume, Synced, Welcome,
};
use crate::wire::{Stream, WireError};

/// Which end this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// In the cloud; serves many nodes.
    Hub,
    /// On the edge.
    Node,
}

/// A message as the endpoint has decoded it.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// Items of a lane, or none when a base was missing.
    Batch {
        /// The lane it came by.
        lane: Lane,
        /// The number of the first item.
        first: u64,
        /// The items.
        items: Option<Vec<Item>>,
    },
    /// What the node holds.
    Inventory(Vec<Entry>),
    /// Everything else.
    Plain(Body),
}

/// What happens to a session.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Node: the transport is open.
    Open(Hello),
    /// A message came.
    Received(Incoming),
    /// Hub: the node is attached to its view, which compares with its copy like this.
    Attached(Welcome),
    /// Node: what the hub asked for.
    Inventory(crate::wire::envelope::Inventory),
    /// Hub: all differences have been offered.
    Loaded,
    /// An object must become the same at the other end.
    Changed(Lane, Change),
    /// It need not any more, if it still waits.
    Withdrawn(Lane, Key),
    /// What came as these numbers is durable.
    Settled(Lane, Vec<u64>),
    /// What came as this number is refused for good.
    Refused(Lane, u64, String),
    /// Ask the other end.
    Ask(Request),
    /// Answer it.
    Answer(Response),
    /// Hub: end the link.
    Leave(Goaway),
    /// Send what may be sent.
    Flush,
}

/// What a driver has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Send a message.
    Send(Stream, Body),
    /// Send changes; against bases, or in full.
    SendBatch(Lane, Outgoing, Bases),
    /// Hub: check the node, attach it to its view, answer with `Attached`.
    Attach(Hello),
    /// Hub: compare with the view, offer the differences, then `Loaded`.
    Compare(Vec<Entry>),
    /// Node: answer with `Inventory`.
    TakeInventory,
    /// Make these durable (or hand them on), then `Settled`.
    Deliver(Lane, Vec<(u64, Item)>),
    /// The other end has these: key and revision.
    Acked(Vec<(Key, u64)>),
    /// The other end will not have this: key, revision, reason.
    Rejected(Key, u64, String),
    /// Node: the link is up.
    Welcomed(Welcome),
    /// Node: the view is complete and durable.
    Synced,
    /// The other end asks.
    Asked(Request),
    /// The other end answers.
    Answered(Response),
    /// The hub ends the link.
    Left(Goaway),
    /// A piece of a tunnel came.
    Tunnelled(crate::wire::envelope::Tunnel),
}

/// Whether a batch may be compressed against versions that the other end holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bases {
    /// It may.
    Allowed,
    /// It must not: the other end did not have one.
    Forbidden,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Node: before `Open`. Hub: before `Hello`.
    New,
    /// Node: before `Welcome`. Hub: before `Attached`.
    Greeting,
    /// Hub: before the inventory, and until the differences are offered.
    Comparing,
    Open,
    Left,
}

/// Events may wait for company this long.
pub const LINGER_MS: u64 = 1_000;
/// Unless so many wait.
const LINGER_ITEMS: usize = 64;

/// The state machine of one end of a link.
#[derive(Debug)]
pub struct Session {
    role: Role,
    state: State,
    out: [Outbox; 2],
    inlets: [Inlet; 2],
    /// Hub: `Synced` is due when the outbox is drained.
    announce: bool,
    /// Node: the number after which the view is complete.
    complete_at: Option<u64>,
}

type Commands = Vec<Command>;

impl Session {
    /// A session before its first event.
    pub fn new(role: Role) -> Self {
        Self {
            role,
            state: State::New,
            out: Default::default(),
            inlets: Default::default(),
            announce: false,
            complete_at: None,
        }
    }

    /// Takes an event at `now` (milliseconds) and says what to do. An error ends the link.
    pub fn step(&mut self, event: Event, now: u64) -> Result<Commands, WireError> {
        if self.state == State::Left {
            return Ok(Vec::new());
        }
        match event {
            Event::Open(hello) => self.open(hello),
            Event::Received(incoming) => self.received(incoming),
            Event::Attached(welcome) => Ok(self.attached(welcome)),
            Event::Inventory(inventory) => {
                Ok(vec![Command::Send(Stream::Status, Body::Inventory(inventory))])
            }
            Event::Loaded => {
                self.state = State::Open;
                self.announce = true;
                Ok(Vec::new())
            }
            Event::Changed(lane, change) => {
                self.out[lane as usize].offer(change, now);
                Ok(Vec::new())
            }
            Event::Withdrawn(lane, key) => {
                self.out[lane as usize].withdraw(&key);
                Ok(Vec::new())
            }
            Event::Settled(lane, seqs) => Ok(self.settled(lane, &seqs)),
            Event::Refused(lane, seq, reason) => {
                self.inlets[lane as usize].settle(seq);
                let nack = Nack { stream: lane.stream() as u32, seq, reason };
                Ok(vec![Command::Send(Stream::Control, Body::Nack(nack))])
            }
            Event::Ask(request) => Ok(vec![Command::Send(Stream::Control, Body::Request(request))]),
            Event::Answer(answer) => {
                Ok(vec![Command::Send(Stream::Control, Body::Response(answer))])
            }
            Event::Leave(goaway) => {
                self.state = State::Left;
                Ok(vec![Command::Send(Stream::Control, Body::Goaway(goaway))])
            }
            Event::Flush => Ok(self.flush(now)),
        }
    }

    /// Whether both ends have greeted each other.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// How many changes wait or are under way, in both lanes.
    pub fn pending(&self) -> usize {
        self.out.iter().map(Outbox::len).sum()
    }

    /// How many received items are not settled, in both lanes.
    pub fn unsettled(&self) -> u64 {
        self.inlets.iter().map(Inlet::unsettled).sum()
    }

    /// When `Flush` has something to do that it had not at the last event.
    pub fn deadline(&self) -> Option<u64> {
        let bulk = &self.out[Lane::Bulk as usize];
        let due = bulk.waiting_since().filter(|_| self.is_open() && bulk.has_room())?;
        Some(due + LINGER_MS)
    }

    fn open(&mut self, hello: Hello) -> Result<Commands, WireError> {
        if self.role != Role::Node || self.state != State::New {
            return Err(WireError::Unexpected("open"));
        }
        self.state = State::Greeting;
        Ok(vec![Command::Send(Stream::Control, Body::Hello(hello))])
    }

    fn attached(&mut self, welcome: Welcome) -> Commands {
        let equal = welcome.resume == Resume::Equal as i32;
        self.state = if equal { State::Open } else { State::Comparing };
        vec![Command::Send(Stream::Control, Body::Welcome(welcome))]
    }

    fn received(&mut self, incoming: Incoming) -> Result<Commands, WireError> {
        match (self.role, self.state, incoming) {
            (Role::Hub, State::New, Incoming::Plain(Body::Hello(hello))) => {
                self.state = State::Greeting;
                Ok(vec![Command::Attach(hello)])
            }
            (Role::Node, State::Greeting, Incoming::Plain(Body::Welcome(welcome))) => {
                Ok(self.welcomed(welcome))
            }
            (Role::Hub, State::Comparing, Incoming::Inventory(entries)) => {
                Ok(vec![Command::Compare(entries)])
            }
            (Role::Node, State::Open, Incoming::Plain(Body::Synced(synced))) => {
                self.complete_at = Some(synced.upto);
                Ok(self.check_complete())
            }
            (Role::Node, _, Incoming::Plain(Body::Goaway(goaway))) => {
                self.state = State::Left;
                Ok(vec![Command::Left(goaway)])
            }
            (Role::Hub, State::Comparing, incoming) | (_, State::Open, incoming) => {
                self.received_open(incoming)
            }
            _ => Err(WireError::Unexpected("message in this state")),
        }
    }

    fn received_open(&mut self, incoming: Incoming) -> Result<Commands, WireError> {
        match incoming {
            Incoming::Batch { lane, first, items: Some(items) } => {
                let fresh = self.inlets[lane as usize].receive(first, items)?;
                Ok(if fresh.is_empty() { vec![] } else { vec![Command::Deliver(lane, fresh)] })
            }
            Incoming::Batch { lane, first, items: None } => {
                let Some(first) = self.inlets[lane as usize].missing_base(first) else {
                    return Ok(Vec::new());
                };
                let need = NeedFull { stream: lane.stream() as u32, first };
                Ok(vec![Command::Send(Stream::Control, Body::NeedFull(need))])
            }
            Incoming::Plain(Body::Ack(Ack { stream, upto, also })) => {
                Ok(vec![Command::Acked(self.out[lane(stream)? as usize].acked(upto, &also)?)])
            }
            Incoming::Plain(Body::Nack(nack)) => {
                let done = self.out[lane(nack.stream)? as usize].refused(nack.seq)?;
                Ok(done
                    .map(|(key, revision)| Command::Rejected(key, revision, nack.reason))
                    .into_iter()
                    .collect())
            }
            Incoming::Plain(Body::NeedFull(need)) => {
                let lane = lane(need.stream)?;
                let again = self.out[lane as usize].again(need.first)?;
                Ok(again
                    .map(|o| Command::SendBatch(lane, o, Bases::Forbidden))
                    .into_iter()
                    .collect())
            }
            Incoming::Plain(Body::Request(request)) => Ok(vec![Command::Asked(request)]),
            Incoming::Plain(Body::Response(response)) => Ok(vec![Command::Answered(response)]),
            Incoming::Plain(_) | Incoming::Inventory(_) => {
                Err(WireError::Unexpected("message on an open link"))
            }
        }
    }

    fn welcomed(&mut self, welcome: Welcome) -> Commands {
        self.state = State::Open;
        let resume = welcome.resume;
        let mut commands = vec![Command::Welcomed(welcome)];
        if resume == Resume::Equal as i32 {
            commands.push(Command::Synced);
        } else if resume == Resume::Inventory as i32 {
            commands.push(Command::TakeInventory);
        }
        commands
    }

    fn settled(&mut self, lane: Lane, seqs: &[u64]) -> Commands {
        let inlet = &mut self.inlets[lane as usize];
        for seq in seqs {
            inlet.settle(*seq);
        }
        self.check_complete()
    }

    fn check_complete(&mut self) -> Commands {
        let settled = self.inlets[Lane::Status as usize].settled_upto();
        if self.complete_at.is_some_and(|upto| upto <= settled) {
            self.complete_at = None;
            return vec![Command::Synced];
        }
        Vec::new()
    }

    fn flush(&mut self, now: u64) -> Commands {
        let mut commands = Vec::new();
        if !matches!(self.state, State::Open | State::Comparing) {
            return commands;
        }
        for lane in Lane::ALL {
            let ack = self.inlets[lane as usize].take_ack(lane.stream() as u32);
            commands.extend(ack.map(|ack| Command::Send(Stream::Control, Body::Ack(ack))));
        }
        if self.state == State::Comparing {
            return commands;
        }
        for lane in Lane::ALL {
            while self.may_send(lane, now)
                && let Some(outgoing) = self.out[lane as usize].send()
            {
                commands.push(Command::SendBatch(lane, outgoing, Bases::Allowed));
            }
        }
        let objects = &self.out[Lane::Status as usize];
        if self.announce && objects.is_drained() {
            self.announce = false;
            let synced = Synced { upto: objects.next_seq() - 1 };
            commands.push(Command::Send(Stream::Control, Body::Synced(synced)));
        }
        commands
    }

    fn may_send(&self, lane: Lane, now: u64) -> bool {
        let out = &self.out[lane as usize];
        let lingered = out.waiting_since().is_some_and(|since| now >= since + LINGER_MS);
        lane == Lane::Status || lingered || out.waiting() >= LINGER_ITEMS
    }
}

fn lane(stream: u32) -> Result<Lane, WireError> {
    match stream {
        1 => Ok(Lane::Status),
        2 => Ok(Lane::Bulk),
        other => Err(WireError::UnknownStream(u8::try_from(other).unwrap_or(u8::MAX))),
    }
}
