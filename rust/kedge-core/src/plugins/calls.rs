// SPDX-License-Identifier: Apache-2.0
//! Calls to plugins by ticket, streams and watched directories; all of it comes out of one inbox.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tonic::{Code, Status};

use super::methods::{self, LIST_AND_WATCH};
use super::proto::devices;
use crate::bridge::Inbox;
use crate::directory::DirectoryWatch;
use crate::grpc::methods::write;
use crate::grpc::{Client, Failure};
use crate::runtime::Runtime;
use crate::{Error, Kind, Result};

const MAX_CALLS: usize = 256;
const MAX_STREAMS: usize = 256;
const MAX_WAITING: usize = 1024;
/// The code of a row that is not an answer: a message of a stream, or a directory that changed.
const NEWS: i32 = -1;
/// A burst of changes in a directory is told once.
const SETTLE: Duration = Duration::from_millis(50);

/// Ticket, code, body: 0 and JSON; a gRPC code and its message; -1 and the JSON of a stream's message,
/// or -1 and nothing for a directory.
pub type Row = (u64, i32, Vec<u8>);

/// Calls to the plugins of a node.
pub struct Calls {
    runtime: Runtime,
    inbox: Arc<Inbox<Row>>,
    slots: Arc<Semaphore>,
    clients: Mutex<HashMap<String, Client>>,
    lasting: Mutex<HashMap<u64, AbortHandle>>,
}

impl Calls {
    /// No connections yet.
    pub fn new(runtime: Runtime) -> Result<Self> {
        Ok(Self {
            runtime,
            inbox: Arc::new(Inbox::new(MAX_WAITING)?),
            slots: Arc::new(Semaphore::new(MAX_CALLS)),
            clients: Mutex::default(),
            lasting: Mutex::default(),
        })
    }

    /// Where answers and news come out.
    pub fn inbox(&self) -> &Inbox<Row> {
        &self.inbox
    }

    /// Starts a call; its row comes under `ticket`. Fails when closed, or when too many are under way.
    pub fn call(
        &self,
        ticket: u64,
        endpoint: &str,
        method: String,
        request: Vec<u8>,
        timeout: Duration,
    ) -> Result<()> {
        let client = self.client(endpoint)?;
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            let message = format!("{method}: {MAX_CALLS} calls to plugins are under way already");
            return Err(Error::new(Kind::Runtime, message));
        };
        let inbox = Arc::clone(&self.inbox);
        self.runtime.spawn(async move {
            let answer = methods::call(&client, &method, &request, timeout).await;
            inbox.push_unbounded(match answer {
                Ok(body) => (ticket, 0, body),
                Err(failure) => failed(ticket, failure),
            });
            drop(slot);
        });
        Ok(())
    }

    /// Follows a device plugin's `ListAndWatch`: each message is news under `ticket`, then how it ended.
    pub fn list_and_watch(&self, ticket: u64, endpoint: &str) -> Result<()> {
        let client = self.client(endpoint)?;
        let inbox = Arc::clone(&self.inbox);
        self.keep(ticket, async move {
            let ended = follow(&client, ticket, &inbox).await;
            let status = ended.err().unwrap_or_else(|| Status::unavailable("the stream ended"));
            inbox.push_unbounded(failed(ticket, Failure::from(status)));
        })
    }

    /// Tells under `ticket` when something comes into a directory or goes, until stopped.
    pub fn watch(&self, ticket: u64, directory: PathBuf) -> Result<()> {
        let inbox = Arc::clone(&self.inbox);
        self.keep(ticket, async move {
            let watch = DirectoryWatch::of_names(&directory);
            loop {
                watch.changed().await;
                tokio::time::sleep(SETTLE).await;
                if inbox.push((ticket, NEWS, Vec::new())).await.is_err() {
                    return;
                }
            }
        })
    }

    /// Ends a stream or a watch; no row of it follows.
    pub fn stop(&self, ticket: u64) {
        if let Some(task) = self.lasting.lock().remove(&ticket) {
            task.abort();
        }
    }

    /// Lets go of the connection to a plugin that is gone.
    pub fn forget(&self, endpoint: &str) {
        self.clients.lock().remove(endpoint);
    }

    /// Ends all streams and watches and refuses calls; the ones under way end unheard.
    pub fn close(&self) {
        self.inbox.close();
        self.clients.lock().clear();
        self.lasting.lock().drain().for_each(|(_, task)| task.abort());
    }

    fn client(&self, endpoint: &str) -> Result<Client> {
        if self.inbox.is_closed() || self.runtime.is_closed() {
            return Err(Error::new(Kind::Closed, "the plugin client is closed"));
        }
        let mut clients = self.clients.lock();
        if let Some(client) = clients.get(endpoint) {
            return Ok(client.clone());
        }
        let client = self.runtime.block_on(async { Client::new(endpoint) })??;
        clients.insert(endpoint.to_owned(), client.clone());
        Ok(client)
    }

    fn keep(&self, ticket: u64, work: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        let mut lasting = self.lasting.lock();
        lasting.retain(|_, task| !task.is_finished());
        if lasting.len() >= MAX_STREAMS {
            let message = format!("{MAX_STREAMS} streams of plugins are followed already");
            return Err(Error::new(Kind::Runtime, message));
        }
        lasting.insert(ticket, self.runtime.spawn(work).abort_handle());
        Ok(())
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        self.close();
    }
}

async fn follow(client: &Client, ticket: u64, inbox: &Inbox<Row>) -> Result<(), Status> {
    let request = devices::Empty {};
    let mut stream =
        client.stream::<_, devices::ListAndWatchResponse>(LIST_AND_WATCH, request).await?;
    while let Some(message) = stream.message().await? {
        let body = write(LIST_AND_WATCH, &message)?;
        if inbox.push((ticket, NEWS, body)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn failed(ticket: u64, failure: Failure) -> Row {
    let code = if failure.code == 0 { Code::Unknown as i32 } else { failure.code };
    (ticket, code, failure.message.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(calls: &Calls) -> Row {
        loop {
            if let Some(row) = calls.inbox().drain(1).pop() {
                return row;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_directory_tells_when_something_comes_and_goes() {
        let directory = tempfile::tempdir().unwrap();
        let runtime = Runtime::new(1).unwrap();
        let calls = Calls::new(runtime.clone()).unwrap();
        calls.watch(3, directory.path().to_owned()).unwrap();
        // The watch may begin a moment later than it was asked for.
        let path = directory.path().join("driver.sock");
        let row = loop {
            std::fs::write(&path, b"").unwrap();
            std::fs::remove_file(&path).unwrap();
            if let Some(row) = calls.inbox().drain(1).pop() {
                break row;
            }
        };
        assert_eq!(row, (3, NEWS, Vec::new()));
        calls.close();
        runtime.close();
    }

    #[test]
    fn a_plugin_that_is_away_ends_its_stream_with_the_reason() {
        let runtime = Runtime::new(1).unwrap();
        let calls = Calls::new(runtime.clone()).unwrap();
        calls.list_and_watch(5, "/nonexistent/kedge-test.sock").unwrap();
        let (ticket, code, body) = next(&calls);
        assert_eq!((ticket, code), (5, Code::Unavailable as i32));
        assert!(String::from_utf8(body).unwrap().contains("No such file"));
        calls.close();
        let refused =
            calls.call(6, "/x.sock", "GetInfo".into(), b"{}".to_vec(), Duration::from_secs(1));
        assert_eq!(refused.unwrap_err().kind, Kind::Closed);
        runtime.close();
    }
}
