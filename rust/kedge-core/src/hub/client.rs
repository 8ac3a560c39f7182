// SPDX-License-Identifier: Apache-2.0
//! The node's end: one outbound connection, kept up.
//!
//! `run` connects, drives the link until it ends, and waits. The first attempt after a link that
//! held comes at once; further ones after a full-jitter backoff of at most 30 seconds, or after
//! what the hub asked for. While the hub cannot be reached, a one-byte probe every 0.4 to 0.8 s
//! ends the wait as soon as it can (decision 0051). What arrives is committed to the store and
//! acknowledged after that; reports are followed in the store (`follow`).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::bridge::Inbox;
use crate::hub::dial::{self, Target};
use crate::hub::follow::{self, LinkRecord, Reports};
use crate::hub::link::Link;
use crate::hub::tls::{self, Identity};
use crate::hub::tunnels::{Services, TunnelIo, Tunnels};
use crate::hub::{Clock, Meter, random_id};
use crate::runtime::Runtime;
use crate::sync::port::{Objects, Write};
use crate::{Error, Kind, Result};

/// How a node's link is set up.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    /// The hub, as `host:port`.
    pub server: String,
    /// The name in the hub's certificate; empty for the host.
    #[serde(default = "default_server_name")]
    pub server_name: String,
    /// This node.
    pub node: String,
    /// The cluster's authority, in PEM.
    pub ca: String,
    /// The node's certificate and key.
    #[serde(flatten)]
    pub identity: Identity,
    /// Its software version, for people.
    #[serde(default)]
    pub agent: String,
}

fn default_server_name() -> String {
    "kedge-hub".into()
}

/// Reads a configuration.
pub fn read_config(json: &str) -> Result<ClientConfig> {
    // serde's message names a field, never its value: the key stays out of it.
    serde_json::from_str(json)
        .map_err(|error| Error::new(Kind::Invalid, format!("configuration of the link: {error}")))
}

/// What Python is told.
#[derive(Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are what their names say")]
pub enum ClientEvent {
    /// The link is up.
    Connected { session: u64 },
    /// The view is complete and durable.
    Synced,
    /// The link ended or did not come up; the next attempt comes in this time.
    Disconnected { reason: String, retry_in_ms: u64 },
    /// The answer to a request; status 0 when there was none.
    Response { ticket: u64, status: u32, body: Bytes },
    /// The cloud refused a report for good.
    Rejected { what: String, reason: String },
}

/// The link as it is now.
#[derive(Clone, Debug, Default)]
pub struct ClientStatus {
    /// Whether it is up.
    pub connected: bool,
    /// Whether the view is complete since it came up.
    pub synced: bool,
    /// Milliseconds since 1970 of the last change.
    pub since_ms: u64,
    /// Why it last ended or did not come up.
    pub last_error: String,
    /// Attempts since it was last up.
    pub attempts: u32,
    /// Reports that are not acknowledged.
    pub waiting: usize,
    /// Bytes read, TLS included.
    pub bytes_in: u64,
    /// Bytes written, TLS included.
    pub bytes_out: u64,
}

/// A question that Python asked.
pub(crate) struct Asked {
    pub(crate) ticket: u64,
    pub(crate) method: String,
    pub(crate) body: Bytes,
}

/// What the tasks of a client share.
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    pub(crate) node: String,
    pub(crate) agent: String,
    pub(crate) store: Arc<dyn Objects>,
    pub(crate) inbox: Inbox<ClientEvent>,
    pub(crate) meter: Meter,
    pub(crate) status: Mutex<ClientStatus>,
    pub(crate) questions: Mutex<VecDeque<Asked>>,
    pub(crate) asked: Notify,
    pub(crate) record: Mutex<LinkRecord>,
    /// Takes the tunnels that the hub opens; none means that there are none.
    pub(crate) services: Option<Arc<dyn Services>>,
    /// The tunnels of the link that is up.
    pub(crate) tunnels: Mutex<Option<Arc<Tunnels>>>,
    target: Mutex<Target>,
    ca: String,
    renewed: Notify,
}

const MAX_QUESTIONS: usize = 64;

impl Shared {
    /// Answers questions that cannot be asked.
    pub(crate) fn fail_questions(&self, tickets: impl Iterator<Item = u64>, why: &str) {
        let body = Bytes::copy_from_slice(why.as_bytes());
        for ticket in tickets {
            self.inbox.push_unbounded(ClientEvent::Response {
                ticket,
                status: 0,
                body: body.clone(),
            });
        }
    }

    /// Changes the link's record; gives the write when that made a difference.
    pub(crate) fn change_record(&self, change: impl FnOnce(&mut LinkRecord)) -> Option<Write> {
        let mut record = self.record.lock();
        let before = record.clone();
        change(&mut record);
        if *record == before {
            return None;
        }
        let bytes = serde_json::to_vec(&*record).expect("a record of plain fields");
        Some(Write::Put(follow::link_key(), bytes.into()))
    }
}

/// A node's link.
pub struct HubClient {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl HubClient {
    /// Starts to connect.
    pub fn start(
        runtime: &Runtime,
        store: Arc<dyn Objects>,
        config: ClientConfig,
        services: Option<Arc<dyn Services>>,
    ) -> Result<Self> {
        let target = Target::new(&config)?;
        let mut record = follow::read_record(&*store)?;
        let cluster = follow::cluster_of(&config.ca);
        if record.status.cluster != cluster {
            record.status.cluster = cluster;
            record.status.reported = 0;
        }
        record.metadata.name = "hub".into();
        record.status.server.clone_from(&config.server);
        let cursor = record.status.reported;
        let shared = Arc::new(Shared {
            clock: Clock::new(),
            node: config.node.clone(),
            agent: config.agent,
            store: Arc::clone(&store),
            inbox: Inbox::new(1024)?,
            meter: Meter::default(),
            status: Mutex::new(ClientStatus { since_ms: unix_ms(), ..ClientStatus::default() }),
            questions: Mutex::default(),
            asked: Notify::new(),
            record: Mutex::new(record),
            services,
            tunnels: Mutex::default(),
            target: Mutex::new(target),
            ca: config.ca,
            renewed: Notify::new(),
        });
        let reports = Reports::new(store, config.node, cursor);
        let task = runtime.spawn(Box::pin(run(Arc::clone(&shared), reports)));
        Ok(Self { shared, task: Mutex::new(Some(task)) })
    }

    /// Opens connections to the hub's services.
    pub fn outlet(&self) -> Outlet {
        Outlet(Arc::clone(&self.shared))
    }

    /// Where events come out.
    pub fn inbox(&self) -> &Inbox<ClientEvent> {
        &self.shared.inbox
    }

    /// Asks the hub; the answer comes as an event with `ticket`.
    pub fn request(&self, ticket: u64, method: &str, body: Bytes) {
        let mut questions = self.shared.questions.lock();
        let connected = self.shared.status.lock().connected;
        if !connected || questions.len() >= MAX_QUESTIONS {
            drop(questions);
            let why = if connected { "too many requests at once" } else { "the link is down" };
            self.shared.fail_questions(std::iter::once(ticket), why);
            return;
        }
        questions.push_back(Asked { ticket, method: method.to_owned(), body });
        drop(questions);
        self.shared.asked.notify_one();
    }

    /// New connections use these; the one that is up stays.
    pub fn set_certificate(&self, identity: &Identity) -> Result<()> {
        let tls = tls::client_config(identity, &self.shared.ca)?;
        self.shared.target.lock().tls = tls;
        self.shared.renewed.notify_one();
        Ok(())
    }

    /// The link as it is now.
    pub fn status(&self) -> ClientStatus {
        let mut status = self.shared.status.lock().clone();
        (status.bytes_in, status.bytes_out) = self.shared.meter.totals();
        status
    }

    /// Ends the link.
    pub fn close(&self) {
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
        self.shared.inbox.close();
    }
}

impl Drop for HubClient {
    fn drop(&mut self) {
        self.close();
    }
}

/// The way to the services of whatever hub a node is linked to now.
#[derive(Clone)]
pub struct Outlet(Arc<Shared>);

impl Outlet {
    /// A connection to `service`; `Disconnected` when there is no link.
    pub fn open(&self, service: &str) -> Result<TunnelIo> {
        let tunnels = self.0.tunnels.lock().clone();
        let tunnels = tunnels
            .ok_or_else(|| Error::new(Kind::Disconnected, "this node has no link to its cloud"))?;
        tunnels.open(service).ok_or_else(|| {
            Error::new(Kind::Timeout, "too many connections through this node's link at once")
        })
    }
}

/// How an attempt, or the link that came of it, ended.
pub(crate) struct End {
    pub(crate) error: Error,
    /// How long the link was up.
    pub(crate) held_ms: Option<u64>,
    /// The hub asked to wait this long.
    pub(crate) retry_after_ms: Option<u64>,
    /// Whether trying again may help as soon as the hub can be reached.
    pub(crate) unreachable: bool,
}

async fn run(shared: Arc<Shared>, mut reports: Reports) {
    let mut attempts: u32 = 0;
    // After a probe has ended a wait in vain, the next one must fail first.
    let mut probed = false;
    loop {
        let end = Box::pin(attempt(&shared, &mut reports)).await;
        if end.held_ms.is_some() {
            attempts = 0;
            probed = false;
        }
        attempts += 1;
        let wait = delay(&end, attempts);
        went_down(&shared, &end, attempts, wait);
        probed = pause(&shared, wait, end.unreachable, probed).await;
    }
}

async fn attempt(shared: &Arc<Shared>, reports: &mut Reports) -> End {
    let target = shared.target.lock().clone();
    let socket = match dial::dial(&target, &shared.meter).await {
        Ok(socket) => socket,
        Err(failed) => {
            let unreachable = failed.kind == Kind::Disconnected || failed.kind == Kind::Timeout;
            return End { error: failed, held_ms: None, retry_after_ms: None, unreachable };
        }
    };
    Link::new(shared, reports, socket).run().await
}

const BASE_MS: u64 = 500;
const CAP_MS: u64 = 30_000;
/// A link that held this long is tried again at once.
const HELD_MS: u64 = 5_000;

fn delay(end: &End, attempts: u32) -> u64 {
    if let Some(hint) = end.retry_after_ms {
        // All nodes were told the same.
        return hint + random_below(hint.max(BASE_MS));
    }
    if attempts == 1 && end.held_ms.is_some_and(|held| held >= HELD_MS) {
        return random_below(100);
    }
    random_below(CAP_MS.min(BASE_MS << attempts.min(10)))
}

fn random_below(limit: u64) -> u64 {
    random_id().map_or(limit / 2, |random| random % limit.max(1))
}

fn went_down(shared: &Arc<Shared>, end: &End, attempts: u32, wait: u64) {
    let reason = end.error.message.clone();
    let now = unix_ms();
    let mut status = shared.status.lock();
    if end.held_ms.is_some() {
        status.since_ms = now;
    }
    status.connected = false;
    status.synced = false;
    status.attempts = attempts;
    status.last_error.clone_from(&reason);
    drop(status);
    let waiting: Vec<u64> = shared.questions.lock().drain(..).map(|asked| asked.ticket).collect();
    shared.fail_questions(waiting.into_iter(), "the link is down");
    let write = shared.change_record(|record| {
        if record.status.state != "disconnected" {
            record.status.state = "disconnected".into();
            record.status.since_ms = now;
        }
        record.status.last_error.clone_from(&reason);
    });
    if let Some(write) = write {
        // The record is for people; the link does not depend on it.
        shared.store.submit(vec![write], Box::new(|_| {}));
    }
    // A slow reader loses these first: the next one says more.
    let _ = shared.inbox.try_push(ClientEvent::Disconnected { reason, retry_in_ms: wait });
}

/// Waits, at most `wait`. Gives whether a probe ended it.
async fn pause(shared: &Arc<Shared>, wait: u64, unreachable: bool, probed: bool) -> bool {
    let target = shared.target.lock().clone();
    let probing = async {
        if !unreachable {
            return std::future::pending::<bool>().await;
        }
        let mut must_fail = probed;
        loop {
            tokio::time::sleep(Duration::from_millis(400 + random_below(400))).await;
            match dial::probe(&target).await {
                Ok(()) if !must_fail => return true,
                Ok(()) => {}
                Err(_) => must_fail = false,
            }
        }
    };
    tokio::select! {
        found = probing => found,
        () = tokio::time::sleep(Duration::from_millis(wait)) => false,
        () = shared.renewed.notified() => false,
    }
}

/// Milliseconds since 1970.
pub(crate) fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Questions under way, by the number they went out with.
#[derive(Default)]
pub(crate) struct Questions {
    next: u64,
    tickets: HashMap<u64, u64>,
}

impl Questions {
    /// A number for a question.
    pub(crate) fn number(&mut self, ticket: u64) -> u64 {
        self.next += 1;
        self.tickets.insert(self.next, ticket);
        self.next
    }

    /// Whose answer this is.
    pub(crate) fn answered(&mut self, id: u64) -> Option<u64> {
        self.tickets.remove(&id)
    }

    /// Those that got no answer.
    pub(crate) fn unanswered(self) -> impl Iterator<Item = u64> {
        self.tickets.into_values()
    }
}
