// SPDX-License-Identifier: Apache-2.0
//! One link of a node, from the open socket to its end.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::hub::client::{ClientEvent, End, Questions, Shared, unix_ms};
use crate::hub::follow::Reports;
use crate::hub::socket::Socket;
use crate::hub::tunnels::{MAX_TUNNELS, Tunnels};
use crate::sync::endpoint::Endpoint;
use crate::sync::heartbeat::{Beat, Heartbeat};
use crate::sync::port::{Changes, Write};
use crate::sync::recent::KEEP_MS;
use crate::sync::session::{Command, Event, Role};
use crate::sync::version::{self, Digest};
use crate::sync::view::RESOURCES;
use crate::sync::{Item, Key, Lane};
use crate::wire::WireError;
use crate::wire::envelope::{Entry, Goaway, GoawayCode, Hello, Request};
use crate::wire::pack;
use crate::{Error, Kind, Result};

/// The cursor is made durable this long after an acknowledgement, with others.
const CURSOR_MS: u64 = 1_000;
/// The hub must have welcomed the node by then.
const WELCOME_MS: u64 = 10_000;

/// The items of a transaction, once it is durable.
type Commit = Result<(Lane, Vec<u64>)>;

/// Transactions that have ended, told by the store's own thread.
#[derive(Default)]
struct Commits {
    done: Mutex<Vec<Commit>>,
    wake: Notify,
}

/// A link that is up or coming up.
pub(crate) struct Link<'a> {
    shared: &'a Arc<Shared>,
    reports: &'a mut Reports,
    socket: Box<Socket>,
    endpoint: Endpoint,
    beat: Heartbeat,
    commits: Arc<Commits>,
    changes: Option<Box<dyn Changes>>,
    questions: Questions,
    tunnels: Arc<Tunnels>,
    opened: u64,
    welcomed: Option<u64>,
    cursor_due: Option<u64>,
    left: Option<Goaway>,
}

impl<'a> Link<'a> {
    pub(crate) fn new(
        shared: &'a Arc<Shared>,
        reports: &'a mut Reports,
        socket: Box<Socket>,
    ) -> Self {
        let now = shared.clock.now();
        Self {
            shared,
            reports,
            socket,
            endpoint: Endpoint::new(Role::Node),
            beat: Heartbeat::new(true, now),
            commits: Arc::default(),
            changes: None,
            questions: Questions::default(),
            tunnels: Arc::new(Tunnels::of_node()),
            opened: now,
            welcomed: None,
            cursor_due: None,
            left: None,
        }
    }

    /// Drives it to its end.
    pub(crate) async fn run(mut self) -> End {
        let error = match self.drive().await {
            Ok(()) => Error::new(Kind::Disconnected, "the link ended"),
            Err(error) => error,
        };
        *self.shared.tunnels.lock() = None;
        self.tunnels.close("the link was lost");
        let Self { socket, endpoint, .. } = &mut self;
        if !matches!(error.kind, Kind::Disconnected | Kind::Timeout) {
            socket.close(|| endpoint.next_frame()).await;
        }
        self.save_cursor(Vec::new());
        self.shared.fail_questions(self.questions.unanswered(), "the link was lost");
        let now = self.shared.clock.now();
        let goaway = self.left.as_ref();
        End {
            held_ms: self.welcomed.map(|since| now - since),
            retry_after_ms: goaway
                .filter(|left| left.retry_after_ms > 0)
                .map(|left| u64::from(left.retry_after_ms)),
            unreachable: goaway.is_none()
                && matches!(error.kind, Kind::Disconnected | Kind::Timeout),
            error,
        }
    }

    async fn drive(&mut self) -> Result<()> {
        let hello = self.hello()?;
        let commands = self.endpoint.step(Event::Open(hello), self.opened)?;
        self.handle_all(commands)?;
        loop {
            let deadline = self.prepare()?;
            let Self { socket, endpoint, commits, changes, shared, beat, tunnels, .. } = self;
            let clock = shared.clock;
            let mut frame = None;
            let mut changed = None;
            tokio::select! {
                biased;
                () = commits.wake.notified() => {}
                received = socket.turn(|| {
                    tunnels.fill(endpoint);
                    let frame = endpoint.next_frame()?;
                    if frame.len() > 1 {
                        beat.said(clock.now());
                    }
                    Some(frame)
                }) => frame = Some(received?),
                () = shared.asked.notified() => {}
                () = tunnels.wake.notified() => {}
                batch = next(changes) => changed = Some(batch),
                () = tokio::time::sleep_until(clock.at(deadline)) => {}
            }
            if let Some(frame) = frame {
                self.receive(&frame)?;
            }
            match changed {
                Some(Ok(batch)) => {
                    let now = self.shared.clock.now();
                    for change in batch {
                        let event = self.reports.changed(change);
                        self.endpoint.step(event, now)?;
                    }
                    self.count_waiting();
                }
                Some(Err(error)) if error.kind == Kind::Gone => self.follow()?,
                Some(Err(error)) => return Err(error),
                None => {}
            }
        }
    }

    /// What is due before waiting; gives when to stop waiting.
    fn prepare(&mut self) -> Result<u64> {
        let now = self.shared.clock.now();
        let ended: Vec<_> = std::mem::take(&mut *self.commits.done.lock());
        for commit in ended {
            let (lane, seqs) = commit?;
            let commands = self.endpoint.step(Event::Settled(lane, seqs), now)?;
            self.handle_all(commands)?;
        }
        if self.welcomed.is_some() {
            self.ask(now)?;
        } else if now >= self.opened + WELCOME_MS {
            return Err(Error::new(Kind::Timeout, "the hub did not welcome this node within 10 s"));
        }
        if self.cursor_due.is_some_and(|due| now >= due) {
            self.save_cursor(Vec::new());
        }
        self.endpoint.expire(now);
        let commands = self.endpoint.step(Event::Flush, now)?;
        self.handle_all(commands)?;
        let mut deadline = match self.beat.poll(now) {
            Beat::Dead => {
                return Err(Error::new(
                    Kind::Timeout,
                    "the hub no longer answers: a ping was not answered within 5 s",
                ));
            }
            Beat::Ping => {
                self.endpoint.ping();
                now + 1
            }
            Beat::Wait(until) => until,
        };
        let dues = [
            self.cursor_due,
            self.endpoint.session().deadline(),
            self.welcomed.is_none().then_some(self.opened + WELCOME_MS),
            self.endpoint.remembers().then_some(now + KEEP_MS / 2),
        ];
        for due in dues.into_iter().flatten() {
            deadline = deadline.min(due.max(now + 1));
        }
        Ok(deadline)
    }

    fn receive(&mut self, frame: &Bytes) -> Result<()> {
        let now = self.shared.clock.now();
        self.beat.heard(now);
        let store = &self.shared.store;
        let held = |key: &Key| store.get(key).ok().flatten().map(|held| held.value);
        let commands = self.endpoint.receive(frame, now, &held)?;
        self.handle_all(commands)
    }

    fn handle_all(&mut self, commands: Vec<Command>) -> Result<()> {
        commands.into_iter().try_for_each(|command| self.handle(command))
    }

    fn handle(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Welcomed(welcome) => self.welcome(welcome.session, welcome.history),
            Command::TakeInventory => {
                let event = self.endpoint.inventory(self.inventory()?);
                let commands = self.endpoint.step(event, self.shared.clock.now())?;
                self.handle_all(commands)
            }
            Command::Deliver(lane, items) => self.commit(lane, items),
            Command::Synced => self.synced(),
            Command::Acked(done) => {
                let removals = done
                    .iter()
                    .filter_map(|(key, revision)| self.reports.settled(key, *revision))
                    .collect();
                self.after_settling(removals);
                Ok(())
            }
            Command::Rejected(key, revision, reason) => {
                let removal = self.reports.settled(&key, revision).into_iter().collect();
                self.after_settling(removal);
                let what = format!("{} {}/{}", key.resource, key.namespace, key.name);
                // A flood of refusals tells nothing more than the first ones.
                let _ = self.shared.inbox.try_push(ClientEvent::Rejected { what, reason });
                Ok(())
            }
            Command::Answered(answer) => {
                if let Some(ticket) = self.questions.answered(answer.id) {
                    let event =
                        ClientEvent::Response { ticket, status: answer.status, body: answer.body };
                    self.shared.inbox.push_unbounded(event);
                }
                Ok(())
            }
            Command::Tunnelled(piece) => {
                let opened = self.tunnels.receive(piece)?;
                if let Some((service, connection)) = opened
                    && let Some(services) = &self.shared.services
                {
                    // One that nobody serves is dropped, which ends it.
                    services.serve(&service, connection);
                }
                Ok(())
            }
            Command::Left(goaway) => {
                let kind = match goaway.code() {
                    GoawayCode::Unavailable => Kind::Disconnected,
                    GoawayCode::Replaced | GoawayCode::Protocol => Kind::Rejected,
                    GoawayCode::Forbidden => Kind::Certificate,
                };
                let error = Error::new(kind, format!("the hub ended the link: {}", goaway.reason));
                self.left = Some(goaway);
                Err(error)
            }
            Command::Asked(request) => {
                let answer = crate::wire::envelope::Response {
                    id: request.id,
                    status: 404,
                    body: Bytes::new(),
                };
                self.endpoint.step(Event::Answer(answer), self.shared.clock.now())?;
                Ok(())
            }
            Command::Send(..)
            | Command::SendBatch(..)
            | Command::Attach(_)
            | Command::Compare(_) => Ok(()),
        }
    }

    fn welcome(&mut self, session: u64, history: u64) -> Result<()> {
        self.welcomed = Some(self.shared.clock.now());
        let now = unix_ms();
        {
            let mut status = self.shared.status.lock();
            status.connected = true;
            status.since_ms = now;
            status.attempts = 0;
        }
        let restored = self.shared.record.lock().status.history != history;
        if restored {
            self.reports.forget();
        }
        let write = self.shared.change_record(|record| {
            record.status.state = "connected".into();
            record.status.since_ms = now;
            if restored {
                record.status.history = history;
                record.status.reported = 0;
            }
        });
        self.submit(write.into_iter().collect());
        *self.shared.tunnels.lock() = Some(Arc::clone(&self.tunnels));
        self.shared.inbox.push_unbounded(ClientEvent::Connected { session });
        self.follow()
    }

    fn follow(&mut self) -> Result<()> {
        let (events, changes) = self.reports.start()?;
        self.changes = Some(changes);
        let now = self.shared.clock.now();
        for event in events {
            self.endpoint.step(event, now)?;
        }
        self.count_waiting();
        Ok(())
    }

    fn synced(&mut self) -> Result<()> {
        self.shared.status.lock().synced = true;
        self.shared.inbox.push_unbounded(ClientEvent::Synced);
        let now = self.shared.clock.now();
        for event in self.reports.register_again()? {
            self.endpoint.step(event, now)?;
        }
        Ok(())
    }

    /// Commits what came, in one transaction; it is settled when that is durable.
    fn commit(&mut self, lane: Lane, items: Vec<(u64, Item)>) -> Result<()> {
        let seqs: Vec<u64> = items.iter().map(|(seq, _)| *seq).collect();
        let mut writes = Vec::with_capacity(items.len());
        for (_, Item { key, value, .. }) in items {
            if !RESOURCES.contains(&(key.group.as_str(), key.resource.as_str())) {
                return Err(WireError::Unexpected("an object that is not of a view").into());
            }
            writes.push(match value {
                Some(value) => Write::Put(key, value),
                None => Write::Delete(key),
            });
        }
        let commits = Arc::clone(&self.commits);
        let done = move |result: Result<()>| {
            commits.done.lock().push(result.map(|()| (lane, seqs)));
            commits.wake.notify_one();
        };
        self.shared.store.submit(writes, Box::new(done));
        Ok(())
    }

    fn after_settling(&mut self, removals: Vec<Write>) {
        self.count_waiting();
        if removals.is_empty() {
            let due = self.shared.clock.now() + CURSOR_MS;
            self.cursor_due.get_or_insert(due);
        } else {
            self.save_cursor(removals);
        }
    }

    fn save_cursor(&mut self, mut writes: Vec<Write>) {
        self.cursor_due = None;
        let cursor = self.reports.advance();
        writes.extend(self.shared.change_record(|record| record.status.reported = cursor));
        self.submit(writes);
    }

    /// Writes that may be lost: the worst is a report sent twice.
    fn submit(&self, writes: Vec<Write>) {
        if !writes.is_empty() {
            self.shared.store.submit(writes, Box::new(|_| {}));
        }
    }

    fn count_waiting(&self) {
        self.shared.status.lock().waiting = self.reports.waiting();
    }

    fn ask(&mut self, now: u64) -> Result<()> {
        let asked: Vec<_> = self.shared.questions.lock().drain(..).collect();
        for question in asked {
            let id = self.questions.number(question.ticket);
            let request = Request { id, method: question.method, body: question.body };
            self.endpoint.step(Event::Ask(request), now)?;
        }
        Ok(())
    }

    fn inventory(&self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for (group, resource) in RESOURCES {
            let held = self.shared.store.list(group, resource)?.0;
            entries.extend(
                held.into_iter().map(|held| Entry {
                    version: version::version(&held.value),
                    key: Some(held.key),
                }),
            );
        }
        Ok(entries)
    }

    fn hello(&self) -> Result<Hello> {
        let mut digest = Digest::default();
        for entry in self.inventory()? {
            digest.add(&entry.key.unwrap_or_default(), entry.version);
        }
        Ok(Hello {
            node: self.shared.node.clone(),
            store: self.shared.store.id(),
            dictionary: pack::dictionary_hash(),
            digest: Bytes::copy_from_slice(&digest.bytes()),
            count: digest.count,
            resources: Vec::new(),
            agent: self.shared.agent.clone(),
            tunnels: self.shared.services.as_ref().map_or(0, |_| MAX_TUNNELS),
        })
    }
}

async fn next(changes: &mut Option<Box<dyn Changes>>) -> Result<Vec<crate::sync::port::Changed>> {
    match changes {
        Some(changes) => changes.next().await,
        None => std::future::pending().await,
    }
}
