// SPDX-License-Identifier: Apache-2.0
//! Questions that Python decides: queued, answered by number, given up after a deadline.

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::Result;
use crate::bridge::Inbox;

/// Why a question got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// Too many wait.
    Busy,
    /// The desk is closed.
    Closing,
    /// The deadline passed.
    Late,
}

/// The queue of questions, and who waits for which answer.
pub(crate) struct Desk<Q, A> {
    inbox: Inbox<(u64, Q)>,
    waiting: Mutex<HashMap<u64, oneshot::Sender<A>>>,
    next: AtomicU64,
    deadline: Duration,
}

/// Forgets a question whose asker has gone, or whose time is up.
struct Forget<'a, Q, A> {
    desk: &'a Desk<Q, A>,
    id: u64,
}

impl<Q, A> Drop for Forget<'_, Q, A> {
    fn drop(&mut self) {
        self.desk.waiting.lock().remove(&self.id);
    }
}

impl<Q: Send, A> Desk<Q, A> {
    /// A desk for `capacity` questions, each waited for until `deadline`.
    pub(crate) fn new(capacity: usize, deadline: Duration) -> Result<Self> {
        Ok(Self {
            inbox: Inbox::new(capacity)?,
            waiting: Mutex::default(),
            next: AtomicU64::new(1),
            deadline,
        })
    }

    /// Queues `question` and waits for its answer.
    pub(crate) async fn ask(&self, question: Q) -> Result<A, Unanswered> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().insert(id, sender);
        let _forget = Forget { desk: self, id };
        if self.inbox.try_push((id, question)).is_err() {
            return Err(Unanswered::Busy);
        }
        match tokio::time::timeout(self.deadline, receiver).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(Unanswered::Closing),
            Err(_) => Err(Unanswered::Late),
        }
    }

    /// Gives the answer to question `id`; whether somebody still waited for it.
    pub(crate) fn answer(&self, id: u64, answer: A) -> bool {
        let waiting = self.waiting.lock().remove(&id);
        waiting.is_some_and(|sender| sender.send(answer).is_ok())
    }

    /// Up to `limit` questions for Python; those whose asker has gone are left out.
    pub(crate) fn drain(&self, limit: usize) -> Vec<(u64, Q)> {
        let mut batch = self.inbox.drain(limit);
        let waiting = self.waiting.lock();
        batch.retain(|(id, _)| waiting.contains_key(id));
        batch
    }

    /// Readable while there is something to drain.
    pub(crate) fn fileno(&self) -> RawFd {
        self.inbox.fileno()
    }

    /// Refuses what comes and gives up what waits.
    pub(crate) fn close(&self) {
        self.inbox.close();
        self.waiting.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desk(capacity: usize) -> Desk<&'static str, u16> {
        Desk::new(capacity, Duration::from_secs(60)).unwrap()
    }

    #[tokio::test]
    async fn an_answer_reaches_the_one_who_asked() {
        let desk = desk(4);
        let (answer, ()) = tokio::join!(desk.ask("what"), async {
            let asked = desk.drain(9);
            assert_eq!(asked[0].1, "what");
            assert!(desk.answer(asked[0].0, 201));
        });
        assert_eq!(answer, Ok(201));
        assert!(!desk.answer(1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_nobody_decides_times_out() {
        let desk = desk(4);
        assert_eq!(desk.ask("what").await, Err(Unanswered::Late));
        assert!(desk.drain(9).is_empty(), "nobody waits for it any more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_desk_refuses() {
        let desk = desk(1);
        let refused = tokio::select! {
            biased;
            _ = desk.ask("first") => None,
            refused = desk.ask("second") => refused.err(),
        };
        assert_eq!(refused, Some(Unanswered::Busy));
    }

    #[tokio::test]
    async fn closing_gives_up_what_waits() {
        let desk = desk(4);
        let (answer, ()) = tokio::join!(desk.ask("what"), async { desk.close() });
        assert_eq!(answer, Err(Unanswered::Closing));
    }
}
