// SPDX-License-Identifier: Apache-2.0
//! The link cut at every byte offset of an exchange, in both directions, in virtual time.
//!
//! Two endpoints exchange real frames over a byte stream that ends after so many bytes; then they
//! meet again with new endpoints, as the drivers do it: the node tells what it holds, and sends what
//! was not acknowledged. In the end nothing is lost, nothing was applied twice, and the versions of
//! each object were applied in order.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;

use crate::sync::endpoint::Endpoint;
use crate::sync::session::{Command, Event, LINGER_MS, Role};
use crate::sync::version::{self, Digest};
use crate::sync::{Base, Change, Key, Lane};
use crate::wire::envelope::{Entry, Hello, Resume, Welcome};
use crate::wire::pack;

type Objects = BTreeMap<Key, Bytes>;

/// Bytes on their way: each frame with its length in front, cut wherever it has to be.
#[derive(Default)]
struct Wire {
    bytes: VecDeque<u8>,
}

impl Wire {
    fn write(&mut self, frame: &[u8], budget: &mut usize) {
        let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
        let all = [&length[..], frame].concat();
        let sent = all.len().min(*budget);
        *budget -= sent;
        self.bytes.extend(&all[..sent]);
    }

    fn read(&mut self) -> Option<Vec<u8>> {
        let head: Vec<u8> = self.bytes.iter().take(4).copied().collect();
        let length = u32::from_be_bytes(head.try_into().ok()?) as usize;
        (self.bytes.len() >= 4 + length).then(|| self.bytes.drain(..4 + length).skip(4).collect())
    }
}

/// The step of a script: what changes at the hub or is reported by the node, in order.
enum Step {
    Hub(&'static str, Option<&'static str>),
    Node(&'static str, Option<&'static str>),
    Pause,
}

fn script() -> Vec<Step> {
    use Step::{Hub, Node, Pause};
    vec![
        Hub("configmaps/c", Some("one")),
        Hub("pods/a", Some("first")),
        Hub("pods/b", Some("first")),
        Pause,
        Node("pods/status/a", Some("pending")),
        Node("pods/status/b", Some("pending")),
        Hub("configmaps/c", Some("two")),
        Pause,
        Hub("pods/b", None),
        Node("events/e1", Some("pulled")),
        Node("pods/status/a", Some("running")),
        Pause,
        Hub("configmaps/c", Some("three")),
        Hub("pods/b", Some("again")),
        Node("pods/deleted/b", Some("gone")),
        Node("events/e2", Some("started")),
        Pause,
    ]
}

fn key(name: &str) -> Key {
    let (resource, name) = name.rsplit_once('/').unwrap();
    Key::of("", resource, "d", name)
}

struct World {
    now: u64,
    budget: usize,
    // The hub: what the node should see, what it was told.
    view: Objects,
    told: Objects,
    told_log: Vec<(Key, Bytes)>,
    done: HashMap<Key, u64>,
    // The node: what it holds, what it reports.
    held: Objects,
    held_log: Vec<(Key, Option<Bytes>)>,
    reports: BTreeMap<Key, (Bytes, u64)>,
    acked: HashMap<Key, u64>,
    revision: u64,
    link: Option<Link>,
    links: usize,
    written: usize,
}

struct Link {
    hub: Endpoint,
    node: Endpoint,
    down: Wire,
    up: Wire,
    attached: bool,
    /// What the node commits next: it is durable, and settled, only a moment later.
    commits: Vec<(Lane, Vec<(u64, crate::sync::Item)>)>,
    answers: Vec<(Lane, u64, crate::sync::Item)>,
}

impl World {
    fn new(budget: usize) -> Self {
        Self {
            now: 0,
            budget,
            view: Objects::new(),
            told: Objects::new(),
            told_log: Vec::new(),
            done: HashMap::new(),
            held: Objects::new(),
            held_log: Vec::new(),
            reports: BTreeMap::new(),
            acked: HashMap::new(),
            revision: 0,
            link: None,
            links: 0,
            written: 0,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Pause => self.run(40),
            Step::Hub(name, text) => {
                let key = key(name);
                let value = text.map(|text| Bytes::from(format!("{{\"{name}\":\"{text}\"}}")));
                let previous = match &value {
                    Some(value) => self.view.insert(key.clone(), value.clone()),
                    None => self.view.remove(&key),
                };
                if let Some(link) = self.link.as_mut().filter(|link| link.attached) {
                    let base = previous.map(|bytes| Base { key: None, bytes });
                    let rank = u8::from(key.resource == "pods");
                    let change = Change { base, rank, ..Change::new(key, value, 0) };
                    link.hub.step(Event::Changed(Lane::Status, change), self.now).unwrap();
                }
            }
            Step::Node(name, text) => {
                let key = key(name);
                self.revision += 1;
                let value = Bytes::from(format!("{{\"{name}\":\"{}\"}}", text.unwrap()));
                self.reports.insert(key.clone(), (value.clone(), self.revision));
                if let Some(link) = self.link.as_mut() {
                    offer_report(&mut link.node, key, value, self.revision, self.now);
                }
            }
        }
    }

    /// Runs for so many moments of ten milliseconds.
    fn run(&mut self, moments: usize) {
        for _ in 0..moments {
            self.now += 10;
            if self.budget == 0 {
                self.cut();
            }
            if self.link.is_none() {
                self.connect();
            }
            self.turn();
        }
    }

    /// Bytes under way are lost; a transaction that was under way becomes durable all the same.
    fn cut(&mut self) {
        if let Some(link) = self.link.take() {
            for (_, items) in link.commits {
                self.commit(&items);
            }
        }
        self.budget = usize::MAX;
    }

    fn connect(&mut self) {
        self.links += 1;
        let mut node = Endpoint::new(Role::Node);
        let mut digest = Digest::default();
        self.held.iter().for_each(|(key, value)| digest.add(key, version::version(value)));
        let hello = Hello {
            node: "n".into(),
            store: 1,
            dictionary: pack::dictionary_hash(),
            digest: Bytes::copy_from_slice(&digest.bytes()),
            count: digest.count,
            ..Hello::default()
        };
        node.step(Event::Open(hello), self.now).unwrap();
        for (key, (value, revision)) in &self.reports {
            if self.acked.get(key) != Some(revision) {
                offer_report(&mut node, key.clone(), value.clone(), *revision, self.now);
            }
        }
        self.link = Some(Link {
            hub: Endpoint::new(Role::Hub),
            node,
            down: Wire::default(),
            up: Wire::default(),
            attached: false,
            commits: Vec::new(),
            answers: Vec::new(),
        });
    }

    fn turn(&mut self) {
        let Some(mut link) = self.link.take() else { return };
        // What was committed and answered in the last moment is settled now.
        for (lane, items) in std::mem::take(&mut link.commits) {
            self.commit(&items);
            let seqs = items.iter().map(|(seq, _)| *seq).collect();
            let commands = link.node.step(Event::Settled(lane, seqs), self.now).unwrap();
            self.node_commands(&mut link, commands);
        }
        for (lane, seq, item) in std::mem::take(&mut link.answers) {
            self.done.insert(item.key.clone(), item.revision);
            let value = item.value.unwrap();
            self.told.insert(item.key.clone(), value.clone());
            self.told_log.push((item.key, value));
            link.hub.step(Event::Settled(lane, vec![seq]), self.now).unwrap();
        }
        let commands = link.hub.step(Event::Flush, self.now).unwrap();
        assert!(commands.is_empty());
        link.node.step(Event::Flush, self.now).unwrap();
        let before = self.budget;
        while let Some(frame) = link.hub.next_frame() {
            link.down.write(&frame, &mut self.budget);
        }
        while let Some(frame) = link.node.next_frame() {
            link.up.write(&frame, &mut self.budget);
        }
        self.written += before - self.budget;
        while let Some(frame) = link.down.read() {
            let held = self.held.clone();
            let commands =
                link.node.receive(&frame, self.now, &|key| held.get(key).cloned()).unwrap();
            self.node_commands(&mut link, commands);
        }
        while let Some(frame) = link.up.read() {
            let view = self.view.clone();
            let commands =
                link.hub.receive(&frame, self.now, &|key| view.get(key).cloned()).unwrap();
            self.hub_commands(&mut link, commands);
        }
        self.link = Some(link);
    }

    fn commit(&mut self, items: &[(u64, crate::sync::Item)]) {
        for (_, item) in items {
            match &item.value {
                Some(value) => self.held.insert(item.key.clone(), value.clone()),
                None => self.held.remove(&item.key),
            };
            self.held_log.push((item.key.clone(), item.value.clone()));
        }
    }

    fn node_commands(&mut self, link: &mut Link, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::TakeInventory => {
                    let entry = |(key, value): (&Key, &Bytes)| Entry {
                        key: Some(key.clone()),
                        version: version::version(value),
                    };
                    let event = link.node.inventory(self.held.iter().map(entry).collect());
                    link.node.step(event, self.now).unwrap();
                }
                Command::Deliver(lane, items) => link.commits.push((lane, items)),
                Command::Acked(done) => self.acked.extend(done),
                Command::Rejected(..) | Command::Left(_) => panic!("{command:?}"),
                _ => {}
            }
        }
    }

    fn hub_commands(&mut self, link: &mut Link, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Attach(hello) => {
                    let mut digest = Digest::default();
                    self.view
                        .iter()
                        .for_each(|(key, value)| digest.add(key, version::version(value)));
                    let equal =
                        digest.count == hello.count && digest.bytes() == hello.digest.as_ref();
                    let resume = match (equal, hello.count) {
                        (true, _) => Resume::Equal,
                        (false, 0) => Resume::Full,
                        (false, _) => Resume::Inventory,
                    };
                    let dictionary = pack::dictionary_hash();
                    let welcome = Welcome {
                        session: 1,
                        dictionary,
                        resume: resume as i32,
                        ..Welcome::default()
                    };
                    link.hub.step(Event::Attached(welcome), self.now).unwrap();
                    link.attached = true;
                    if resume == Resume::Full {
                        self.load(link, &HashMap::new());
                    }
                }
                Command::Compare(entries) => {
                    let held = entries.into_iter().map(|e| (e.key.unwrap(), e.version)).collect();
                    self.load(link, &held);
                }
                Command::Deliver(lane, items) => {
                    for (seq, item) in items {
                        if self.done.get(&item.key) == Some(&item.revision) {
                            link.hub.step(Event::Settled(lane, vec![seq]), self.now).unwrap();
                        } else {
                            link.answers.push((lane, seq, item));
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn load(&self, link: &mut Link, held: &HashMap<Key, u64>) {
        let mut changes = Vec::new();
        for (key, value) in &self.view {
            if held.get(key) != Some(&version::version(value)) {
                let rank = u8::from(key.resource == "pods");
                changes.push(Change { rank, ..Change::new(key.clone(), Some(value.clone()), 0) });
            }
        }
        let extra = held.keys().filter(|key| !self.view.contains_key(key));
        changes.extend(extra.map(|key| Change::new(key.clone(), None, 0)));
        for change in changes {
            link.hub.step(Event::Changed(Lane::Status, change), self.now).unwrap();
        }
        link.hub.step(Event::Loaded, self.now).unwrap();
    }

    fn check(&self, what: &str) {
        assert_eq!(self.held, self.view, "{what}: the node's copy");
        let reported: Objects =
            self.reports.iter().map(|(key, (value, _))| (key.clone(), value.clone())).collect();
        assert_eq!(self.told, reported, "{what}: the reports");
        assert_eq!(self.acked.len(), self.reports.len(), "{what}: acknowledgements");
        for pair in self.held_log.windows(2) {
            assert_ne!(pair[0], pair[1], "{what}: applied twice");
        }
        let deliveries =
            versions(self.held_log.iter().filter_map(|(k, v)| Some((k, v.as_ref()?))), 'H');
        let reports = versions(self.told_log.iter().map(|(key, value)| (key, value)), 'N');
        for (key, log) in deliveries.iter().chain(&reports) {
            let mut once = log.clone();
            once.dedup();
            assert_eq!(&once, log, "{what}: {key:?} applied twice");
            assert!(once.is_sorted(), "{what}: {key:?} out of order: {once:?}");
        }
    }
}

/// The places in the script of the versions that were applied, by object.
fn versions<'a>(
    log: impl Iterator<Item = (&'a Key, &'a Bytes)>,
    side: char,
) -> HashMap<Key, Vec<usize>> {
    let mut order: HashMap<Bytes, usize> = HashMap::new();
    for (place, step) in script().iter().enumerate() {
        let (name, text) = match step {
            Step::Hub(name, Some(text)) if side == 'H' => (name, text),
            Step::Node(name, Some(text)) if side == 'N' => (name, text),
            _ => continue,
        };
        order.insert(Bytes::from(format!("{{\"{name}\":\"{text}\"}}")), place);
    }
    let mut found: HashMap<Key, Vec<usize>> = HashMap::new();
    for (key, value) in log {
        found.entry(key.clone()).or_default().push(order[value]);
    }
    found
}

fn offer_report(node: &mut Endpoint, key: Key, value: Bytes, revision: u64, now: u64) {
    let lane = if key.resource == "events" { Lane::Bulk } else { Lane::Status };
    node.step(Event::Changed(lane, Change::new(key, Some(value), revision)), now).unwrap();
}

fn play(budget: usize) -> World {
    let mut world = World::new(budget);
    world.run(5);
    for step in &script() {
        world.step(step);
    }
    world.run(usize::try_from(LINGER_MS / 10).unwrap() + 60);
    world
}

#[test]
fn a_link_cut_at_every_byte_loses_nothing_applies_nothing_twice_and_keeps_the_order() {
    let whole = play(usize::MAX);
    whole.check("uncut");
    assert_eq!(whole.links, 1);
    let total = whole.written;
    assert!(total > 500, "the exchange is long enough to be worth cutting: {total}");
    for offset in 1..total {
        let world = play(offset);
        world.check(&format!("cut after {offset} of {total} bytes"));
        assert_eq!(world.links, 2, "cut after {offset} of {total} bytes");
    }
}
