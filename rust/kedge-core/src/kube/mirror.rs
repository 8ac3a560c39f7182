// SPDX-License-Identifier: Apache-2.0
//! A replica store kept equal to an API server: list, then watch, a task per resource.
//!
//! A list comes in pages, each one transaction of what differs from the store; after the last page
//! what the server no longer has is deleted. Then events are applied in batches, each a transaction.
//! A watch that ends goes on from the last version seen; one that is too old lists again. Failures
//! wait with full jitter. There is one row per resource: its task owns those keys of the store.

use std::collections::HashSet;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::backoff::{Backoff, fraction};
use super::client::{Ask, Client, whole};
use super::lines::Lines;
use super::listing::{Line, Metadata, Named, Page, Status, is_same, read};
use crate::bridge::Inbox;
use crate::runtime::Runtime;
use crate::store::{Expect, Key, ListQuery, Op, Store, newest_each};
use crate::{Error, Kind, Result};

/// Objects in one page.
const PAGE: usize = 500;
/// Events in one transaction.
const BATCH: usize = 512;
/// Notices that Python has not read yet; more are dropped, as only the newest states matter.
const NOTICES: usize = 4_096;
const LIST_TIMEOUT: Duration = Duration::from_secs(60);
/// A watch is asked to last between one and two times this.
const WATCH_SECONDS: f64 = 300.0;
/// How much longer than asked for a watch may be silent.
const WATCH_GRACE: Duration = Duration::from_secs(30);
/// How soon to look again for a kind that the server does not have.
const ABSENT: Duration = Duration::from_secs(300);

/// A resource to mirror.
#[derive(Clone, Debug)]
pub struct Row {
    /// API group, empty for the core.
    pub group: String,
    /// API version.
    pub version: String,
    /// The plural.
    pub resource: String,
    /// Only objects that match; empty for all.
    pub fields: String,
    /// A server that does not have the kind is not at fault.
    pub optional: bool,
}

/// Something that happened to a resource's mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// `pods`, `deployments.apps`.
    pub resource: String,
    /// `synced` (the first list is in), `relisted`, `failed`.
    pub what: &'static str,
    /// For a person.
    pub detail: String,
}

/// The running tasks; dropping it ends them.
pub struct Mirror {
    notices: Arc<Inbox<Notice>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Mirror {
    /// Begins to mirror `rows` of `client`'s server into `store`.
    pub fn start(
        runtime: &Runtime,
        client: &Client,
        store: &Store,
        rows: Vec<Row>,
    ) -> Result<Self> {
        let notices = Arc::new(Inbox::new(NOTICES)?);
        let task = |row: Row| {
            let (client, store, notices) = (client.clone(), store.clone(), Arc::clone(&notices));
            runtime.spawn(
                Reflector {
                    client,
                    store,
                    notices,
                    row,
                    synced: false,
                    opened: false,
                    failed: false,
                }
                .run(),
            )
        };
        let tasks = rows.into_iter().map(task).collect();
        Ok(Self { notices, tasks })
    }

    /// Readable while there are notices.
    pub fn fileno(&self) -> RawFd {
        self.notices.fileno()
    }

    /// Up to `limit` notices.
    pub fn drain(&self, limit: usize) -> Vec<Notice> {
        self.notices.drain(limit)
    }

    /// Ends the tasks; calling it again does nothing.
    pub fn close(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.close();
    }
}

/// The mirror of one resource.
struct Reflector {
    client: Client,
    store: Store,
    notices: Arc<Inbox<Notice>>,
    row: Row,
    synced: bool,
    /// Whether the watch under way was granted: the server is there.
    opened: bool,
    /// Whether a failure was told of and no success since.
    failed: bool,
}

impl Reflector {
    async fn run(mut self) {
        let mut backoff = Backoff::default();
        // The version to watch from; none means that a list is due.
        let mut version: Option<String> = None;
        loop {
            let before = version.clone();
            let result = self.step(&mut version).await;
            let news = version != before;
            if news || std::mem::take(&mut self.opened) {
                backoff.reset();
            }
            match result {
                Ok(()) if news => continue,
                Ok(()) => {}
                Err(error) if error.kind == Kind::Gone => version = None,
                Err(error) => {
                    self.failed = true;
                    self.notify("failed", error.message);
                }
            }
            sleep(backoff.next()).await;
        }
    }

    /// Lists, or watches until the watch ends.
    async fn step(&mut self, version: &mut Option<String>) -> Result<()> {
        if let Some(version) = version {
            return self.watch(version).await;
        }
        match self.list().await {
            Ok(listed) => *version = Some(listed),
            Err(error) if error.kind == Kind::NotFound && self.row.optional => {
                return self.absent(error).await;
            }
            Err(error) => return Err(error),
        }
        let what = if self.synced { "relisted" } else { "synced" };
        self.synced = true;
        self.notify(what, String::new());
        Ok(())
    }

    /// The server does not have the kind: as good as an empty list until it has.
    async fn absent(&mut self, error: Error) -> Result<()> {
        let deletes = self.vanished(&HashSet::new())?;
        self.commit(deletes).await?;
        if !std::mem::replace(&mut self.synced, true) {
            self.notify("synced", error.message);
        }
        sleep(ABSENT).await;
        Ok(())
    }

    /// Makes the store equal to a list; its version.
    async fn list(&self) -> Result<String> {
        let mut seen = HashSet::new();
        let mut token = String::new();
        loop {
            let mut query = format!("limit={PAGE}");
            if !token.is_empty() {
                query = format!("{query}&continue={}", encode(&token));
            }
            let answer = self.client.request(Ask::get(self.path(&query)), LIST_TIMEOUT).await?;
            check(answer.status, &answer.body)?;
            let page: Page<'_> = read(&answer.body, "list")?;
            let mut changed = Vec::new();
            for (metadata, value) in page.objects()? {
                let key = self.key(metadata.namespace.clone(), metadata.name.clone());
                let stored = self.store.get(&key)?;
                if !stored.is_some_and(|stored| is_same(&stored.value, &metadata)) {
                    changed.push(Op::Put { key, value, expect: Expect::Any });
                }
                seen.insert((metadata.namespace, metadata.name));
            }
            token = page.metadata.continue_token;
            if !token.is_empty() {
                self.commit(changed).await?;
                continue;
            }
            changed.extend(self.vanished(&seen)?);
            self.commit(changed).await?;
            return Ok(page.metadata.resource_version);
        }
    }

    /// Deletes of what the store has and the server has not.
    fn vanished(&self, seen: &HashSet<(String, String)>) -> Result<Vec<Op>> {
        let mut deletes = Vec::new();
        let mut query = ListQuery {
            group: self.row.group.clone(),
            resource: self.row.resource.clone(),
            limit: PAGE,
            ..ListQuery::default()
        };
        loop {
            let page = self.store.list(&query)?;
            for item in page.items {
                let name = (item.key.namespace.clone(), item.key.name.clone());
                if !seen.contains(&name) {
                    deletes.push(Op::Delete { key: item.key, expect: Expect::Any });
                }
            }
            if page.continue_token.is_empty() {
                return Ok(deletes);
            }
            query.continue_token = page.continue_token;
        }
    }

    /// Applies events from `version` on, which follows them, until the watch ends.
    async fn watch(&mut self, version: &mut String) -> Result<()> {
        let lasting = Duration::from_secs_f64(WATCH_SECONDS * (1.0 + fraction()));
        let query = format!(
            "watch=1&allowWatchBookmarks=true&timeoutSeconds={}&resourceVersion={}",
            lasting.as_secs(),
            encode(version)
        );
        let open = self.client.open(Ask::get(self.path(&query)));
        let response = timeout(LIST_TIMEOUT, open).await.map_err(silent)??;
        if !response.status().is_success() {
            let status = response.status().as_u16();
            let reading = whole(response.into_body(), 1 << 20);
            let body = timeout(LIST_TIMEOUT, reading).await.map_err(silent)??;
            return check(status, &body);
        }
        self.opened = true;
        if std::mem::take(&mut self.failed) {
            self.notify("resumed", String::new());
        }
        let mut lines = Lines::new(response.into_body());
        loop {
            let batch = lines.batch(BATCH);
            let batch = timeout(lasting + WATCH_GRACE, batch).await.map_err(silent)??;
            if batch.is_empty() {
                return Ok(());
            }
            self.apply(&batch, version).await?;
        }
    }

    async fn apply(&self, batch: &[Bytes], version: &mut String) -> Result<()> {
        let mut ops = Vec::with_capacity(batch.len());
        let mut newest = None;
        let mut failure = None;
        for line in batch {
            match self.event(line) {
                Ok((op, seen)) => {
                    ops.extend(op);
                    newest = Some(seen);
                }
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        self.commit(newest_each(ops)).await?;
        if let Some(newest) = newest.filter(|newest| !newest.is_empty()) {
            *version = newest;
        }
        failure.map_or(Ok(()), Err)
    }

    /// What a line changes, and the version it stands for.
    fn event(&self, line: &[u8]) -> Result<(Option<Op>, String)> {
        let line: Line<'_> = read(line, "watch event")?;
        let object = line.object.get().as_bytes();
        if line.kind == "ERROR" {
            let status: Status = read(object, "watch error")?;
            check(status.code.max(400), object)?;
        }
        let Named { metadata } = read(object, "watch event")?;
        let Metadata { name, namespace, resource_version, .. } = metadata;
        let key = self.key(namespace, name);
        let op = match line.kind.as_str() {
            "ADDED" | "MODIFIED" => {
                let value = Bytes::copy_from_slice(object);
                Some(Op::Put { key, value, expect: Expect::Any })
            }
            "DELETED" => Some(Op::Delete { key, expect: Expect::Any }),
            _ => None,
        };
        Ok((op, resource_version))
    }

    async fn commit(&self, ops: Vec<Op>) -> Result<()> {
        if ops.is_empty() {
            return Ok(());
        }
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.store.submit(ops, move |result| {
            // Nobody listens any more only when the mirror was closed.
            let _ = sender.send(result);
        });
        let closed = |_error| Error::new(Kind::Closed, "the store is closed");
        receiver.await.map_err(closed)?.map(|_revisions| ())
    }

    fn key(&self, namespace: String, name: String) -> Key {
        Key { group: self.row.group.clone(), resource: self.row.resource.clone(), namespace, name }
    }

    fn path(&self, query: &str) -> String {
        let Row { group, version, resource, fields, .. } = &self.row;
        let root = if group.is_empty() { "/api".to_owned() } else { format!("/apis/{group}") };
        let selector = if fields.is_empty() {
            String::new()
        } else {
            format!("&fieldSelector={}", encode(fields))
        };
        format!("{root}/{version}/{resource}?{query}{selector}")
    }

    fn notify(&self, what: &'static str, detail: String) {
        let Row { group, resource, .. } = &self.row;
        let resource =
            if group.is_empty() { resource.clone() } else { format!("{resource}.{group}") };
        // Full means that nobody reads; the state itself is in the store.
        let _ = self.notices.try_push(Notice { resource, what, detail });
    }
}

/// An answer that is no success, as an error; expired is `Kind::Gone`.
fn check(status: u16, body: &[u8]) -> Result<()> {
    if (200..300).contains(&status) {
        return Ok(());
    }
    let said: Status = serde_json::from_slice(body).unwrap_or_default();
    let kind = match status {
        401 => Kind::Unauthorized,
        403 => Kind::Forbidden,
        404 => Kind::NotFound,
        410 => Kind::Gone,
        _ => Kind::Disconnected,
    };
    Err(Error::new(kind, format!("the API server answers {status}: {}", said.message)))
}

fn silent(_elapsed: tokio::time::error::Elapsed) -> Error {
    Error::new(Kind::Disconnected, "the API server is silent")
}

/// Percent encoding of all but unreserved characters.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let hex = |digit: u8| char::from(b"0123456789ABCDEF"[usize::from(digit)]);
            out.extend(['%', hex(byte >> 4), hex(byte & 15)]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_values_are_encoded() {
        assert_eq!(encode("spec.nodeName!=,a=b/+"), "spec.nodeName%21%3D%2Ca%3Db%2F%2B");
    }

    #[test]
    fn only_an_expired_version_asks_for_a_new_list() {
        assert_eq!(check(410, b"{}").unwrap_err().kind, Kind::Gone);
        assert_eq!(check(500, b"{}").unwrap_err().kind, Kind::Disconnected);
        assert!(check(200, b"").is_ok());
    }
}
