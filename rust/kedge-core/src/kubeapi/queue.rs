// SPDX-License-Identifier: Apache-2.0
//! Requests that Python decides, and its answers.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::path::Target;
use super::policy::Identity;
use super::status::Failure;
use crate::Result;
use crate::desk::{Desk, Unanswered};

/// A request that waits for Python.
#[derive(Clone, Debug)]
pub struct Question {
    /// Names the request in `respond`.
    pub id: u64,
    /// The HTTP method.
    pub method: String,
    /// The path as it came.
    pub path: String,
    /// The part after `?`, as it came.
    pub query: String,
    /// API group, version, resource, namespace, name and subresource; empty where there is none.
    pub target: [String; 6],
    /// Who asks.
    pub user: String,
    /// The groups of who asks.
    pub groups: Vec<String>,
    /// The `Content-Type` header.
    pub content_type: String,
    /// The `Accept` header.
    pub accept: String,
    /// The `User-Agent` header.
    pub agent: String,
    /// The whole body.
    pub body: Bytes,
}

/// Python's answer.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The `Content-Type` header.
    pub content_type: String,
    /// The whole body.
    pub body: Bytes,
    /// Further headers.
    pub headers: Vec<(String, String)>,
}

/// The requests that wait for Python, and who waits for which answer.
pub(super) struct Questions(Desk<Question, Reply>);

impl Questions {
    /// A queue for `capacity` requests, each waited for until `deadline`.
    pub(super) fn new(capacity: usize, deadline: Duration) -> Result<Arc<Self>> {
        Desk::new(capacity, deadline).map(Self).map(Arc::new)
    }

    /// Queues `question` and waits for its answer.
    pub(super) async fn ask(&self, question: Question) -> Result<Reply, Failure> {
        self.0.ask(question).await.map_err(|why| match why {
            Unanswered::Busy => Failure::busy("too many requests wait to be decided, try again", 1),
            Unanswered::Closing => Failure::new(503, "ServiceUnavailable", "the server is closing"),
            Unanswered::Late => Failure::new(504, "Timeout", "the request was not decided in time"),
        })
    }

    /// Gives the answer of request `id`; whether somebody still waited for it.
    pub(super) fn answer(&self, id: u64, reply: Reply) -> bool {
        self.0.answer(id, reply)
    }

    /// Up to `limit` requests for Python; those whose client has gone are left out.
    pub(super) fn drain(&self, limit: usize) -> Vec<Question> {
        let asked = self.0.drain(limit).into_iter();
        asked.map(|(id, question)| Question { id, ..question }).collect()
    }

    /// Readable while there is something to drain.
    pub(super) fn fileno(&self) -> RawFd {
        self.0.fileno()
    }

    /// Refuses what comes and gives up what waits.
    pub(super) fn close(&self) {
        self.0.close();
    }
}

impl Question {
    /// A question about `target`; its number comes with the queueing.
    pub(super) fn new(target: Target, who: Identity) -> Self {
        let Target { group, version, resource, namespace, name, subresource, .. } = target;
        Self {
            id: 0,
            method: String::new(),
            path: String::new(),
            query: String::new(),
            target: [group, version, resource, namespace, name, subresource],
            user: who.user,
            groups: who.groups,
            content_type: String::new(),
            accept: String::new(),
            agent: String::new(),
            body: Bytes::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_not_answered_says_so_in_http() {
        let question = || Question::new(Target::default(), Identity::default());
        let questions = Questions::new(1, Duration::from_secs(60)).unwrap();
        let refused = tokio::select! {
            biased;
            _ = questions.ask(question()) => None,
            refused = questions.ask(question()) => refused.err(),
        };
        let refused = refused.unwrap();
        assert_eq!((refused.code, refused.retry_after), (429, Some(1)));
        questions.drain(1);
        assert_eq!(questions.ask(question()).await.unwrap_err().code, 504);
        questions.drain(1);
        let (reply, ()) = tokio::join!(questions.ask(question()), async { questions.close() });
        assert_eq!(reply.unwrap_err().code, 503);
    }
}
