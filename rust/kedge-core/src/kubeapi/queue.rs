// SPDX-License-Identifier: Apache-2.0
//! Requests that Python decides: queued, answered by number, given up after a deadline.

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::path::Target;
use super::policy::Identity;
use super::status::Failure;
use crate::Result;
use crate::bridge::Inbox;

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

/// The queue, and who waits for which answer.
pub(super) struct Questions {
    inbox: Inbox<Question>,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Reply>>>,
    next: AtomicU64,
    deadline: Duration,
}

/// Forgets a request whose client has gone, or whose time is up.
struct Forget<'a> {
    questions: &'a Questions,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.questions.waiting.lock().remove(&self.id);
    }
}

impl Questions {
    /// A queue for `capacity` requests, each waited for until `deadline`.
    pub(super) fn new(capacity: usize, deadline: Duration) -> Result<Arc<Self>> {
        Ok(Arc::new(Self {
            inbox: Inbox::new(capacity)?,
            waiting: Mutex::default(),
            next: AtomicU64::new(1),
            deadline,
        }))
    }

    /// Queues `question` and waits for its answer.
    pub(super) async fn ask(&self, mut question: Question) -> Result<Reply, Failure> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        question.id = id;
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().insert(id, sender);
        let _forget = Forget { questions: self, id };
        if self.inbox.try_push(question).is_err() {
            return Err(Failure::busy("too many requests wait to be decided, try again", 1));
        }
        match tokio::time::timeout(self.deadline, receiver).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) => Err(Failure::new(503, "ServiceUnavailable", "the server is closing")),
            Err(_) => Err(Failure::new(504, "Timeout", "the request was not decided in time")),
        }
    }

    /// Gives the answer of request `id`; whether somebody still waited for it.
    pub(super) fn answer(&self, id: u64, reply: Reply) -> bool {
        let waiting = self.waiting.lock().remove(&id);
        waiting.is_some_and(|sender| sender.send(reply).is_ok())
    }

    /// Up to `limit` requests for Python; those whose client has gone are left out.
    pub(super) fn drain(&self, limit: usize) -> Vec<Question> {
        let mut batch = self.inbox.drain(limit);
        let waiting = self.waiting.lock();
        batch.retain(|question| waiting.contains_key(&question.id));
        batch
    }

    /// Readable while there is something to drain.
    pub(super) fn fileno(&self) -> RawFd {
        self.inbox.fileno()
    }

    /// Refuses what comes and gives up what waits.
    pub(super) fn close(&self) {
        self.inbox.close();
        self.waiting.lock().clear();
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
            body: Bytes::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Question {
        Question::new(Target::default(), Identity::default())
    }

    fn questions(capacity: usize) -> Arc<Questions> {
        Questions::new(capacity, Duration::from_secs(60)).unwrap()
    }

    #[tokio::test]
    async fn an_answer_reaches_the_one_who_asked() {
        let questions = questions(4);
        let (reply, ()) = tokio::join!(questions.ask(question()), async {
            let asked = questions.drain(9);
            let reply = Reply { status: 201, ..Reply::default() };
            assert!(questions.answer(asked[0].id, reply));
        });
        assert_eq!(reply.unwrap().status, 201);
        assert!(!questions.answer(1, Reply::default()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_nobody_decides_times_out() {
        let questions = questions(4);
        assert_eq!(questions.ask(question()).await.unwrap_err().code, 504);
        assert!(questions.drain(9).is_empty(), "nobody waits for it any more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_refuses_with_a_time_to_come_back() {
        let questions = questions(1);
        let refused = tokio::select! {
            biased;
            _ = questions.ask(question()) => None,
            refused = questions.ask(question()) => refused.err(),
        };
        let refused = refused.unwrap();
        assert_eq!((refused.code, refused.retry_after), (429, Some(1)));
    }

    #[tokio::test]
    async fn closing_gives_up_what_waits() {
        let questions = questions(4);
        let (reply, ()) = tokio::join!(questions.ask(question()), async { questions.close() });
        assert_eq!(reply.unwrap_err().code, 503);
    }
}
