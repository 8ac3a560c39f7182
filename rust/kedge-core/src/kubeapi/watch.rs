// SPDX-License-Identifier: Apache-2.0
//! WATCH: a stream of lines that is made as the client reads it.
//!
//! Nothing is queued for a slow client: the store's watcher holds a cursor, and a client that falls
//! behind the history gets an ERROR of 410 and has to list again. An object that begins to match
//! the selectors is ADDED, one that ceases to is DELETED.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until};

use super::accept::Shape;
use super::config::Resource;
use super::path::Target;
use super::query::ListOptions;
use super::read::{self, View};
use super::status::Failure;
use super::table;
use crate::store::{Event, Listed, Selector, Store, WatchQuery, Watcher};
use crate::{Kind, Result};

/// Bytes of lines that are put together at a time.
const FRAME: usize = 64 * 1024;
/// What marks the end of the initial events.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// How long things last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) bookmark: Duration,
    pub(super) whole: Duration,
}

/// A watch under way.
pub(super) struct Watch {
    store: Store,
    watcher: Watcher,
    selector: Selector,
    resource: Resource,
    view: View,
    initial: VecDeque<Listed>,
    /// The revision of a bookmark due after the initial events.
    initial_end: Option<u64>,
    ready: VecDeque<Bytes>,
    bookmarks: Option<Duration>,
    next_bookmark: Instant,
    deadline: Instant,
    columns_sent: bool,
    ended: bool,
    closing: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

/// What the server lends a watch.
pub(super) struct Lease {
    pub(super) closing: watch::Receiver<bool>,
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) times: Times,
}

impl Watch {
    /// Begins a watch: what it needs of the present state is read here.
    pub(super) fn begin(
        store: &Store,
        resource: &Resource,
        target: &Target,
        options: &ListOptions,
        view: View,
        lease: Lease,
    ) -> Result<Self, Failure> {
        let selector = Selector::parse(&options.labels, &options.fields)?;
        let wants_state = options.initial_events.unwrap_or(options.start.is_none());
        let (initial, from) = match (wants_state, options.start) {
            (false, Some(start)) => (VecDeque::new(), start),
            (false, None) => (VecDeque::new(), store.revision()),
            (true, _) => {
                let page = read::page(store, target, options, view.face)?;
                (page.items.into(), page.revision)
            }
        };
        let end = options.initial_events == Some(true) && options.bookmarks;
        let now = Instant::now();
        let mut query = WatchQuery {
            resources: view.face.watched(&target.group, &target.resource),
            namespace: target.namespace.clone(),
            ..WatchQuery::default()
        };
        if !view.face.selects(&target.group, &target.resource) {
            query.labels.clone_from(&options.labels);
            query.fields.clone_from(&options.fields);
        }
        Ok(Self {
            watcher: start(store, &query, from)?,
            store: store.clone(),
            selector,
            resource: resource.clone(),
            view,
            initial,
            initial_end: end.then_some(from),
            ready: VecDeque::new(),
            bookmarks: options.bookmarks.then_some(lease.times.bookmark),
            next_bookmark: now + lease.times.bookmark,
            deadline: now + lease.times.whole,
            columns_sent: false,
            ended: false,
            closing: lease.closing,
            _permit: lease.permit,
        })
    }

    /// The lines, as they come.
    pub(super) fn stream(self) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
        stream::unfold(self, |mut watch| async move {
            let piece = watch.next().await?;
            Some((Ok(piece), watch))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Some(piece);
            }
            if self.ended || *self.closing.borrow() {
                return None;
            }
            if let Err(failure) = self.advance().await {
                self.ended = true;
                return Some(error_line(&failure));
            }
        }
    }

    /// Waits for what comes next and writes its lines into `ready`.
    async fn advance(&mut self) -> Result<(), Failure> {
        if !self.initial.is_empty() {
            return Ok(self.write_initial()?);
        }
        if let Some(revision) = self.initial_end.take() {
            self.write_bookmark(revision, true);
            return Ok(());
        }
        let bookmark_at = if self.bookmarks.is_some() { self.next_bookmark } else { self.deadline };
        tokio::select! {
            biased;
            _ = self.closing.changed() => self.ended = true,
            () = sleep_until(self.deadline) => self.end()?,
            batch = self.watcher.next() => self.write_events(&batch?)?,
            () = sleep_until(bookmark_at) => self.bookmark()?,
        }
        Ok(())
    }

    fn write_initial(&mut self) -> Result<()> {
        let mut lines = Vec::new();
        while lines.len() < FRAME {
            let Some(item) = self.initial.pop_front() else { break };
            self.line(&mut lines, "ADDED", &item.value, item.revision)?;
        }
        if self.initial.is_empty() {
            // A watch lasts; the room that its beginning took must not.
            self.initial = VecDeque::new();
        }
        self.ready.push_back(lines.into());
        Ok(())
    }

    fn write_events(&mut self, batch: &[std::sync::Arc<Event>]) -> Result<()> {
        let mut lines = Vec::new();
        for event in batch {
            self.write_event(&mut lines, event)?;
            if lines.len() >= FRAME {
                self.ready.push_back(std::mem::take(&mut lines).into());
            }
        }
        if !lines.is_empty() {
            self.ready.push_back(lines.into());
        }
        Ok(())
    }

    /// Writes what `event` means to this client, if anything.
    fn write_event(&mut self, lines: &mut Vec<u8>, event: &Event) -> Result<()> {
        let face = self.view.face;
        let (key, before, after) = face.states(&self.store, event)?;
        let matches = |value: &Bytes| self.selector.matches(&key, value);
        let (before, after) = (before.filter(matches), after.filter(matches));
        let (word, value) = match (before, after) {
            (None, Some(value)) => ("ADDED", face.stamp(&value, event.revision)?),
            (Some(_), Some(value)) => ("MODIFIED", face.stamp(&value, event.revision)?),
            (Some(last), None) => ("DELETED", face.stamp_last(&last, event.revision)?),
            (None, None) => return Ok(()),
        };
        self.line(lines, word, &value, event.revision)
    }

    /// Appends one event line.
    fn line(&mut self, out: &mut Vec<u8>, word: &str, value: &Bytes, revision: u64) -> Result<()> {
        out.extend_from_slice(format!("{{\"type\":\"{word}\",\"object\":").as_bytes());
        if self.view.shape == Shape::Table {
            let printer = table::printer(&self.resource.row.group, &self.resource.row.resource);
            let columns = if std::mem::replace(&mut self.columns_sent, true) {
                Value::Null
            } else {
                table::columns(printer)
            };
            let version = self.view.face.version(revision);
            let head = format!(
                "{{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":\
                 {{\"resourceVersion\":\"{version}\"}},\"columnDefinitions\":{columns},\"rows\":["
            );
            out.extend_from_slice(head.as_bytes());
            table::row(out, printer, value, self.view.include, OffsetDateTime::now_utc())?;
            out.extend_from_slice(b"]}");
        } else {
            read::append(out, value, &self.resource, self.view.shape)?;
        }
        out.extend_from_slice(b"}\n");
        Ok(())
    }

    /// A bookmark once everything up to its revision was sent.
    fn bookmark(&mut self) -> Result<()> {
        let revision = self.store.revision();
        while let Some(batch) = self.watcher.try_next()? {
            self.write_events(&batch)?;
        }
        self.write_bookmark(revision, false);
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        if self.bookmarks.is_some() {
            self.bookmark()?;
        }
        self.ended = true;
        Ok(())
    }

    fn write_bookmark(&mut self, revision: u64, initial_end: bool) {
        let version = self.view.face.version(revision);
        let mut metadata =
            json!({"resourceVersion": version.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({INITIAL_EVENTS_END: "true"});
        }
        let object = self.bookmark_object(&metadata);
        let line = json!({"type": "BOOKMARK", "object": object});
        self.ready.push_back(format!("{line}\n").into());
        if let Some(every) = self.bookmarks {
            self.next_bookmark = Instant::now() + every;
        }
    }

    fn bookmark_object(&self, metadata: &Value) -> Value {
        match self.view.shape {
            Shape::Object => json!({
                "kind": self.resource.row.kind,
                "apiVersion": self.resource.api_version,
                "metadata": metadata,
            }),
            Shape::Metadata => json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
            }),
            Shape::Table => json!({
                "kind": "Table",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": {"resourceVersion": metadata["resourceVersion"]},
                "columnDefinitions": null,
                "rows": [{"cells": [], "object": {
                    "kind": "PartialObjectMetadata",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": metadata,
                }}],
            }),
        }
    }
}

/// Starts the store's watcher; a revision that is still to come is of another history.
fn start(store: &Store, query: &WatchQuery, from: u64) -> Result<Watcher, Failure> {
    let current = read::newest(store, from)?;
    if from > current {
        let message = format!("unknown resource version: {from} (newest: {current})");
        return Err(Failure::expired(message));
    }
    store.watch(query, from).map_err(|error| match error.kind {
        Kind::Gone => Failure::expired(format!("too old resource version: {from} ({current})")),
        _ => Failure::from(error),
    })
}

/// The line that ends a watch which cannot go on.
pub(super) fn error_line(failure: &Failure) -> Bytes {
    let mut line = b"{\"type\":\"ERROR\",\"object\":".to_vec();
    line.extend_from_slice(&failure.body());
    line.extend_from_slice(b"}\n");
    line.into()
}
