// SPDX-License-Identifier: Apache-2.0
//! Calls by ticket: what a loop that does not wait submits, and the inbox where answers come out.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tonic::Code;

use super::methods;
use super::watch::{self, Bell, Pace};
use crate::bridge::Inbox;
use crate::grpc::{Client, Failure};
use crate::runtime::Runtime;
use crate::{Error, Kind, Result};

const MAX_CALLS: usize = 1024;
const MAX_WAITING: usize = 4096;
/// The code of a row that is not an answer but a batch of changes.
const CHANGES: i32 = -1;
const CHANGING: [&str; 4] = ["StartContainer", "StopContainer", "StopPodSandbox", "RunPodSandbox"];

/// Ticket, code, body: 0 and JSON; a gRPC code and its message; -1 and a JSON list of changes.
pub type Row = (u64, i32, Vec<u8>);

/// Submits calls to one runtime.
pub struct Calls {
    runtime: Runtime,
    client: Client,
    inbox: Arc<Inbox<Row>>,
    slots: Arc<Semaphore>,
    bell: Bell,
    watching: Mutex<Vec<JoinHandle<()>>>,
}

impl Calls {
    /// Calls to `endpoint`, run on `runtime`.
    pub fn new(runtime: Runtime, endpoint: &str) -> Result<Self> {
        let client = runtime.block_on(async { Client::new(endpoint) })??;
        Ok(Self {
            runtime,
            client,
            inbox: Arc::new(Inbox::new(MAX_WAITING)?),
            slots: Arc::new(Semaphore::new(MAX_CALLS)),
            bell: Bell::default(),
            watching: Mutex::new(Vec::new()),
        })
    }

    /// Where answers and changes come out.
    pub fn inbox(&self) -> &Inbox<Row> {
        &self.inbox
    }

    /// Starts a call; its row comes under `ticket`. Fails when closed, or when too many are under way.
    pub fn call(
        &self,
        ticket: u64,
        method: String,
        request: Vec<u8>,
        timeout: Duration,
    ) -> Result<()> {
        if self.inbox.is_closed() || self.runtime.is_closed() {
            return Err(Error::new(Kind::Closed, "the CRI client is closed"));
        }
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            let message = format!("{method}: {MAX_CALLS} CRI calls are under way already");
            return Err(Error::new(Kind::Runtime, message));
        };
        let (client, inbox, bell) =
            (self.client.clone(), Arc::clone(&self.inbox), self.bell.clone());
        self.runtime.spawn(async move {
            let answer = methods::call(&client, &method, &request, timeout).await;
            if CHANGING.contains(&method.as_str()) {
                bell.called();
            }
            inbox.push_unbounded(row(ticket, answer));
            drop(slot);
        });
        Ok(())
    }

    /// Tells what changes in the runtime under `ticket`, first all there is, until closed. Once.
    pub fn watch(&self, ticket: u64) -> Result<()> {
        let mut watching = self.watching.lock();
        if !watching.is_empty() {
            return Err(Error::new(Kind::Invalid, "the runtime is being watched already"));
        }
        let inbox = Arc::clone(&self.inbox);
        let told = move |changes| {
            let inbox = Arc::clone(&inbox);
            async move {
                match serde_json::to_vec(&changes) {
                    Ok(body) => inbox.push((ticket, CHANGES, body)).await.is_ok(),
                    Err(error) => {
                        inbox.push_unbounded((
                            ticket,
                            Code::Internal as i32,
                            error.to_string().into(),
                        ));
                        false
                    }
                }
            }
        };
        let looking = watch::run(self.client.clone(), self.bell.clone(), Pace::default(), told);
        watching.push(self.runtime.spawn(looking));
        let listening = watch::listen(self.client.clone(), self.bell.clone());
        watching.push(self.runtime.spawn(listening));
        Ok(())
    }

    /// Looks at the runtime soon.
    pub fn look(&self) {
        self.bell.ring();
    }

    /// Ends watching and refuses calls; the ones under way end unheard.
    pub fn close(&self) {
        self.inbox.close();
        self.watching.lock().iter().for_each(JoinHandle::abort);
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        self.close();
    }
}

fn row(ticket: u64, answer: Result<Vec<u8>, Failure>) -> Row {
    match answer {
        Ok(body) => (ticket, 0, body),
        Err(Failure { code, message }) => (ticket, code, message.into_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_call_comes_out_under_its_ticket_with_code_and_message() {
        let runtime = Runtime::new(1).unwrap();
        let calls = Calls::new(runtime.clone(), "unix:///nonexistent/kedge-test.sock").unwrap();
        calls.call(7, "Version".into(), b"{}".to_vec(), Duration::from_secs(5)).unwrap();
        let rows = loop {
            let rows = calls.inbox().drain(8);
            if !rows.is_empty() {
                break rows;
            }
            std::thread::yield_now();
        };
        assert_eq!((rows[0].0, rows[0].1), (7, Code::Unavailable as i32));
        calls.close();
        let refused = calls.call(8, "Version".into(), b"{}".to_vec(), Duration::from_secs(5));
        assert_eq!(refused.unwrap_err().kind, Kind::Closed);
        runtime.close();
    }
}
