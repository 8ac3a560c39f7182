// SPDX-License-Identifier: Apache-2.0
//! A connection that gives up on a peer who does not read.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long a connection waits for its peer to read; may be changed while it is in use.
#[derive(Clone, Debug)]
pub(super) struct Patience(Arc<AtomicU64>);

impl Patience {
    /// That long.
    pub(super) fn new(time: Duration) -> Self {
        Self(Arc::new(AtomicU64::new(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))))
    }

    /// That long from the next wait on.
    pub(super) fn set(&self, time: Duration) {
        self.0.store(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn time(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// Wraps a connection; a write that cannot go on for as long as its patience fails.
pub(super) struct Patient<T> {
    inner: T,
    patience: Patience,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<T> Patient<T> {
    /// Gives `inner` that much patience.
    pub(super) fn new(inner: T, patience: Patience) -> Self {
        Self { inner, patience, waiting: None }
    }

    fn watch<R>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if result.is_ready() {
            self.waiting = None;
            return result;
        }
        let patience = self.patience.time();
        let timer = self.waiting.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Patient<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Patient<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.watch(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.watch(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(cx);
        self.watch(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.watch(cx, result)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_stops_reading_is_given_up() {
        let (ours, mut theirs) = duplex(8);
        let mut patient = Patient::new(ours, Patience::new(Duration::from_secs(60)));
        patient.write_all(&[1; 8]).await.unwrap();
        theirs.read_exact(&mut [0; 8]).await.unwrap();
        patient.write_all(&[2; 8]).await.unwrap();
        let error = patient.write_all(&[3; 8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_borne_with_for_longer() {
        let (ours, mut theirs) = duplex(8);
        let patience = Patience::new(Duration::from_secs(60));
        let mut patient = Patient::new(ours, patience.clone());
        patience.set(Duration::from_secs(3600));
        patient.write_all(&[1; 8]).await.unwrap();
        let reading = async {
            sleep(Duration::from_secs(600)).await;
            theirs.read_exact(&mut [0; 8]).await.unwrap();
        };
        let (written, ()) = tokio::join!(patient.write_all(&[2; 8]), reading);
        written.unwrap();
    }
}
