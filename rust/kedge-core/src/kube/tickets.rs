// SPDX-License-Identifier: Apache-2.0
//! Requests by ticket, for a caller that polls: sent in the background, answers in an inbox.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use super::client::{Answer, Ask, Client};
use crate::Result;
use crate::bridge::Inbox;
use crate::runtime::Runtime;

/// A client whose answers are drained.
pub struct Tickets {
    runtime: Runtime,
    client: Client,
    answers: Arc<Inbox<(u64, Result<Answer>)>>,
}

impl Tickets {
    /// Sends with `client` on `runtime`.
    pub fn new(runtime: &Runtime, client: Client) -> Result<Self> {
        // One answer for each request of the caller: bounded by what the caller has under way.
        let answers = Arc::new(Inbox::new(1)?);
        Ok(Self { runtime: runtime.clone(), client, answers })
    }

    /// The client that sends.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Sends `ask`; its answer will come under `ticket`.
    pub fn request(&self, ticket: u64, ask: Ask, allowed: Duration) {
        let (client, answers) = (self.client.clone(), Arc::clone(&self.answers));
        self.runtime.spawn(async move {
            answers.push_unbounded((ticket, client.request(ask, allowed).await));
        });
    }

    /// Readable while there are answers.
    pub fn fileno(&self) -> RawFd {
        self.answers.fileno()
    }

    /// Up to `limit` answers.
    pub fn drain(&self, limit: usize) -> Vec<(u64, Result<Answer>)> {
        self.answers.drain(limit)
    }
}
