// SPDX-License-Identifier: Apache-2.0
//! The way from Rust threads to a Python loop: a bounded queue and an eventfd.
//!
//! Rust pushes and, when the queue was empty, writes the eventfd once; the loop that watches the
//! descriptor drains a batch. The descriptor stays readable until the queue is empty, so a drain
//! with a limit is simply called again. A full queue makes the pusher wait (or refuses it), which
//! is how a slow loop slows the sockets down. Nothing here touches Python.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use parking_lot::{Condvar, Mutex};
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::Notify;

use crate::{Error, Kind, Result};

/// A descriptor that becomes readable when it is rung, for a loop that then asks for what is new.
pub struct Bell {
    event: OwnedFd,
}

impl Bell {
    /// A bell that has not rung.
    pub fn new() -> Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| Error::from(std::io::Error::from(errno)))?;
        Ok(Self { event })
    }

    /// The descriptor to watch.
    pub fn fileno(&self) -> RawFd {
        self.event.as_fd().as_raw_fd()
    }

    /// Makes it readable.
    pub fn ring(&self) {
        // An eventfd counter cannot overflow from our single increments.
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }

    /// Makes it unreadable until the next ring.
    pub fn clear(&self) {
        let mut counter = [0_u8; 8];
        // Nonblocking: that it had not rung is fine.
        let _ = rustix::io::read(&self.event, &mut counter);
    }
}

struct State<T> {
    items: VecDeque<T>,
    armed: bool,
    closed: bool,
}

/// A bounded queue that a loop waits for by descriptor.
pub struct Inbox<T> {
    state: Mutex<State<T>>,
    capacity: usize,
    room: Notify,
    room_blocking: Condvar,
    bell: Bell,
}

impl<T: Send> Inbox<T> {
    /// An empty queue for at most `capacity` items.
    pub fn new(capacity: usize) -> Result<Self> {
        let bell = Bell::new()?;
        let state = State { items: VecDeque::new(), armed: false, closed: false };
        Ok(Self {
            state: Mutex::new(state),
            capacity,
            room: Notify::new(),
            room_blocking: Condvar::new(),
            bell,
        })
    }

    /// The descriptor that is readable while there is something to drain.
    pub fn fileno(&self) -> RawFd {
        self.bell.fileno()
    }

    /// Adds `item`, or gives it back when the queue is full or closed.
    pub fn try_push(&self, item: T) -> std::result::Result<(), T> {
        let mut state = self.state.lock();
        if state.closed || state.items.len() >= self.capacity {
            return Err(item);
        }
        self.enqueue(&mut state, item);
        Ok(())
    }

    /// Adds `item` however full the queue is: for what is bounded elsewhere (one answer per request).
    pub fn push_unbounded(&self, item: T) {
        let mut state = self.state.lock();
        if !state.closed {
            self.enqueue(&mut state, item);
        }
    }

    /// Adds `item`, waiting for room; fails once the queue is closed.
    pub async fn push(&self, item: T) -> Result<()> {
        let mut item = item;
        loop {
            let room = self.room.notified();
            match self.try_push(item) {
                Ok(()) => return Ok(()),
                Err(_) if self.is_closed() => return Err(closed()),
                Err(back) => item = back,
            }
            room.await;
        }
    }

    /// Adds `item` from a plain thread, waiting for room; fails once the queue is closed.
    pub fn push_blocking(&self, item: T) -> Result<()> {
        let mut state = self.state.lock();
        while !state.closed && state.items.len() >= self.capacity {
            self.room_blocking.wait(&mut state);
        }
        if state.closed {
            return Err(closed());
        }
        self.enqueue(&mut state, item);
        Ok(())
    }

    /// Takes up to `limit` items in order.
    pub fn drain(&self, limit: usize) -> Vec<T> {
        let mut state = self.state.lock();
        let count = limit.min(state.items.len());
        let batch: Vec<T> = state.items.drain(..count).collect();
        if state.items.is_empty() && state.armed {
            state.armed = false;
            self.bell.clear();
        }
        drop(state);
        if !batch.is_empty() {
            self.room.notify_waiters();
            self.room_blocking.notify_all();
        }
        batch
    }

    /// How many items wait.
    pub fn len(&self) -> usize {
        self.state.lock().items.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether `close` was called.
    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Refuses further items and wakes everyone; what is queued can still be drained.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.room.notify_waiters();
        self.room_blocking.notify_all();
        self.bell.ring();
    }

    fn enqueue(&self, state: &mut State<T>, item: T) {
        state.items.push_back(item);
        if !state.armed {
            state.armed = true;
            self.bell.ring();
        }
    }
}

fn closed() -> Error {
    Error::new(Kind::Closed, "the queue to the loop is closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_comes_out_in_order_and_no_larger_than_asked() {
        let inbox = Inbox::new(8).unwrap();
        (0..5).for_each(|n| inbox.try_push(n).unwrap());
        assert_eq!(inbox.drain(3), vec![0, 1, 2]);
        assert_eq!(inbox.drain(3), vec![3, 4]);
        assert!(inbox.drain(3).is_empty());
    }

    #[test]
    fn a_full_queue_gives_the_item_back() {
        let inbox = Inbox::new(1).unwrap();
        inbox.try_push(1).unwrap();
        assert_eq!(inbox.try_push(2), Err(2));
    }

    #[tokio::test]
    async fn a_waiting_push_goes_on_after_a_drain() {
        let inbox = std::sync::Arc::new(Inbox::new(1).unwrap());
        inbox.push(1).await.unwrap();
        let other = std::sync::Arc::clone(&inbox);
        let (pushed, ()) = tokio::join!(other.push(2), async {
            tokio::task::yield_now().await;
            assert_eq!(inbox.drain(1), vec![1]);
        });
        pushed.unwrap();
        assert_eq!(inbox.drain(9), vec![2]);
    }
}
