// SPDX-License-Identifier: Apache-2.0
//! Connections to nodes that are made ahead.
//!
//! A way to a node costs a TLS handshake with its hub and four messages. Who has just asked for a
//! stream of a node is likely to ask for another, so while the first one flows, the next connection
//! is made, one for each node, and kept for a while.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, ReadBuf};

/// Below what a node's kubelet server waits for a request on a new connection (30 s).
const KEPT: Duration = Duration::from_secs(20);
/// The stream for which it was called starts a program, which has the machine for itself until then.
const LATER: Duration = Duration::from_millis(100);
/// The nodes that have one.
const MAX_NODES: usize = 64;

/// One spare connection of each of some nodes.
pub(super) struct Spares<S> {
    table: Mutex<Table<S>>,
}

struct Table<S> {
    spares: HashMap<String, Spare<S>>,
    next: u64,
}

struct Spare<S> {
    number: u64,
    hub: String,
    /// None while it is being made.
    stream: Option<S>,
}

impl<S> Default for Spares<S> {
    fn default() -> Self {
        Self { table: Mutex::new(Table { spares: HashMap::new(), next: 0 }) }
    }
}

impl<S: AsyncRead + Unpin> Spares<S> {
    /// The spare connection to `node` through `hub`, if it is there and still open.
    pub(super) fn take(&self, node: &str, hub: &str) -> Option<S> {
        let mut table = self.table.lock();
        table.spares.get(node)?.stream.as_ref()?;
        let spare = table.spares.remove(node)?;
        drop(table);
        let mut stream = spare.stream?;
        (spare.hub == hub && is_open(&mut stream)).then_some(stream)
    }

    /// Makes a spare connection to `node` through `hub`, unless there is one, and lets go of it when
    /// nobody has taken it in time.
    pub(super) async fn make(
        self: Arc<Self>,
        node: String,
        hub: String,
        connecting: impl Future<Output = Option<S>>,
    ) {
        let Some(number) = self.begin(&node, hub) else { return };
        tokio::time::sleep(LATER).await;
        if let Some(made) = connecting.await {
            if let Some(spare) = self.table.lock().find(&node, number) {
                spare.stream = Some(made);
            }
            tokio::time::sleep(KEPT).await;
        }
        let mut table = self.table.lock();
        if table.find(&node, number).is_some() {
            table.spares.remove(&node);
        }
    }

    /// Lets go of all: they were made with a certificate that is not used any more.
    pub(super) fn clear(&self) {
        self.table.lock().spares.clear();
    }

    fn begin(&self, node: &str, hub: String) -> Option<u64> {
        let mut table = self.table.lock();
        if table.spares.len() >= MAX_NODES || table.spares.contains_key(node) {
            return None;
        }
        table.next += 1;
        let number = table.next;
        table.spares.insert(node.to_owned(), Spare { number, hub, stream: None });
        Some(number)
    }
}

impl<S> Table<S> {
    /// That one, and no later one of the same node.
    fn find(&mut self, node: &str, number: u64) -> Option<&mut Spare<S>> {
        self.spares.get_mut(node).filter(|spare| spare.number == number)
    }
}

/// Whether a connection on which nothing has been asked yet is as it was: a node does not speak first,
/// and one that has gone shows as an end.
fn is_open(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    let mut byte = [0];
    let mut context = Context::from_waker(Waker::noop());
    Pin::new(stream).poll_read(&mut context, &mut ReadBuf::new(&mut byte)).is_pending()
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    /// Lets what is made later be made.
    async fn settle() {
        tokio::time::sleep(LATER + Duration::from_millis(1)).await;
    }

    /// Makes one of `node` through hub `h`; the other end of it.
    async fn made(spares: &Arc<Spares<DuplexStream>>, node: &str) -> DuplexStream {
        let (ours, theirs) = duplex(64);
        let making = Arc::clone(spares).make(node.into(), "h".into(), async { Some(ours) });
        tokio::spawn(making);
        settle().await;
        theirs
    }

    #[tokio::test(start_paused = true)]
    async fn a_spare_is_taken_once_and_only_through_its_hub() {
        let spares = Arc::default();
        let _theirs = made(&spares, "n").await;
        assert!(spares.take("other", "h").is_none());
        assert!(spares.take("n", "h").is_some());
        assert!(spares.take("n", "h").is_none());
        let _theirs = made(&spares, "n").await;
        assert!(spares.take("n", "h2").is_none(), "the node has moved");
        assert!(spares.table.lock().spares.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_ended_or_says_something_is_not_given_out() {
        let spares = Arc::default();
        drop(made(&spares, "n").await);
        assert!(spares.take("n", "h").is_none());
        let mut theirs = made(&spares, "n").await;
        tokio::io::AsyncWriteExt::write_all(&mut theirs, b"?").await.unwrap();
        assert!(spares.take("n", "h").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_s_is_let_go_of_in_time_and_a_later_one_has_its_own() {
        let spares = Arc::default();
        let _first = made(&spares, "n").await;
        assert!(spares.take("n", "h").is_some());
        tokio::time::sleep(KEPT / 2).await;
        let mut second = made(&spares, "n").await;
        tokio::time::sleep(KEPT * 3 / 4).await;
        assert!(spares.table.lock().spares.contains_key("n"), "only the first one's time is over");
        tokio::time::sleep(KEPT).await;
        assert!(spares.table.lock().spares.is_empty());
        let read = tokio::io::AsyncReadExt::read(&mut second, &mut [0]).await;
        assert_eq!(read.unwrap(), 0, "it is closed");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_cannot_be_made_or_was_made_with_an_old_certificate_is_forgotten() {
        let spares: Arc<Spares<DuplexStream>> = Arc::default();
        Arc::clone(&spares).make("n".into(), "h".into(), async { None }).await;
        assert!(spares.table.lock().spares.is_empty());
        let (ours, _theirs) = duplex(64);
        let (tell, told) = tokio::sync::oneshot::channel::<()>();
        let connecting = async {
            told.await.unwrap();
            Some(ours)
        };
        let making = tokio::spawn(Arc::clone(&spares).make("n".into(), "h".into(), connecting));
        settle().await;
        assert!(spares.take("n", "h").is_none(), "it is not there yet");
        spares.clear();
        tell.send(()).unwrap();
        settle().await;
        assert!(spares.take("n", "h").is_none());
        making.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_not_too_many() {
        let spares = Arc::default();
        let mut ends = Vec::new();
        for at in 0..=MAX_NODES {
            ends.push(made(&spares, &format!("n{at}")).await);
        }
        assert_eq!(spares.table.lock().spares.len(), MAX_NODES);
    }
}
