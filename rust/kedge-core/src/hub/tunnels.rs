// SPDX-License-Identifier: Apache-2.0
//! Connections that pass through the link, each with a window of its own.
//!
//! Either end opens them, to a named service of the other; both then have a [`TunnelIo`], a stream of
//! bytes as a socket is. The hub's have odd numbers, the node's even ones. A [`Tunnels`] is the state of all of one link: what came and was not read
//! (at most a window each), what was written and not sent. Tunnels take turns, and the link takes a
//! piece only when it has nothing more urgent, so neither a large answer nor a reader that has gone
//! to sleep delays a pod's status, or another tunnel for longer than a piece.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use crate::sync::endpoint::Endpoint;
use crate::wire::WireError;
use crate::wire::envelope::{Passage, Tunnel};

/// What may be on its way in each direction of a tunnel.
pub(crate) const WINDOW: u32 = 256 * 1024;
/// The most bytes in one piece.
const PIECE: usize = 16 * 1024;
/// The tunnels that each end may open at a time.
pub(crate) const MAX_TUNNELS: u32 = 128;

/// Takes the tunnels that the other end opens.
pub trait Services: Send + Sync {
    /// Serves a connection to `service`; drops it when there is no such service.
    fn serve(&self, service: &str, connection: TunnelIo);
}

/// The tunnels of one link.
#[derive(Debug, Default)]
pub(crate) struct Tunnels {
    table: Mutex<Table>,
    /// There is something to send.
    pub(crate) wake: Arc<Notify>,
    /// This is the node's end.
    is_node: bool,
}

#[derive(Debug, Default)]
struct Table {
    halves: HashMap<u64, Half>,
    /// Pieces that are no data: they go first.
    notices: VecDeque<Tunnel>,
    /// Whose turn it is to send data.
    turns: VecDeque<u64>,
    next: u64,
    closed: bool,
}

/// This end of one tunnel.
#[derive(Debug)]
struct Half {
    arrived: VecDeque<Bytes>,
    /// Bytes that arrived and are not granted again.
    outstanding: u32,
    /// Bytes read since the last grant.
    read: u32,
    /// The other end sends no more.
    ended: bool,
    waiting: VecDeque<Bytes>,
    credit: u32,
    writing: Writing,
    /// Nobody holds this end any more.
    abandoned: bool,
    broken: Option<String>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Whether this end still writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    Open,
    /// No more than what waits.
    Finishing,
    /// The other end has been told so.
    Finished,
}

impl Default for Half {
    fn default() -> Self {
        Self {
            arrived: VecDeque::new(),
            outstanding: 0,
            read: 0,
            ended: false,
            waiting: VecDeque::new(),
            credit: WINDOW,
            writing: Writing::Open,
            abandoned: false,
            broken: None,
            reader: None,
            writer: None,
        }
    }
}

impl Half {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    fn check(&self) -> io::Result<()> {
        match &self.broken {
            Some(reason) => Err(io::Error::new(io::ErrorKind::ConnectionReset, reason.clone())),
            None => Ok(()),
        }
    }
}

impl Tunnels {
    /// The hub's end, without any yet; `wake` tells the link that there is something to send.
    pub(crate) fn new(wake: Arc<Notify>) -> Self {
        Self { wake, ..Self::default() }
    }

    /// The node's end.
    pub(crate) fn of_node() -> Self {
        Self { is_node: true, ..Self::default() }
    }

    /// A new tunnel to a service of the other end; `None` when there are too many.
    pub(crate) fn open(self: &Arc<Self>, service: &str) -> Option<TunnelIo> {
        let mut table = self.table.lock();
        if table.closed || table.opened_by(self.is_node) >= MAX_TUNNELS as usize {
            return None;
        }
        table.next += 2;
        let id = table.next - u64::from(!self.is_node);
        table.halves.insert(id, Half::default());
        table.notice(id, Passage::Open(service.to_owned()));
        drop(table);
        self.wake.notify_one();
        Some(TunnelIo { tunnels: Arc::clone(self), id })
    }

    /// Takes in what the other end sent.
    pub(crate) fn receive(self: &Arc<Self>, piece: Tunnel) -> Result<Opened, WireError> {
        let Tunnel { id, passage: Some(passage) } = piece else { return Ok(None) };
        let mut table = self.table.lock();
        if let Passage::Open(service) = passage {
            if is_node(id) == self.is_node {
                return Err(WireError::Unexpected("open"));
            }
            return Ok(self.opened(&mut table, id, service));
        }
        // One that this end has given up may still get what was under way.
        let Some(half) = table.halves.get_mut(&id) else { return Ok(None) };
        match passage {
            Passage::Open(_) => {}
            Passage::Data(data) => half.arrive(data)?,
            Passage::Credit(bytes) => {
                half.credit = half
                    .credit
                    .checked_add(bytes)
                    .filter(|sum| *sum <= WINDOW)
                    .ok_or(WireError::Malformed("credit beyond a tunnel's window"))?;
                let has_more = !half.waiting.is_empty();
                if let Some(waker) = half.writer.take() {
                    waker.wake();
                }
                if has_more {
                    table.take_turn(id);
                }
            }
            Passage::End(_) => {
                half.ended = true;
                if let Some(waker) = half.reader.take() {
                    waker.wake();
                }
            }
            Passage::Reset(reason) => {
                half.broken = Some(reason);
                half.waiting.clear();
                half.wake();
                if half.abandoned {
                    table.halves.remove(&id);
                }
            }
        }
        Ok(None)
    }

    fn opened(self: &Arc<Self>, table: &mut Table, id: u64, service: String) -> Opened {
        if table.closed || table.halves.contains_key(&id) {
            return None;
        }
        if table.opened_by(!self.is_node) >= MAX_TUNNELS as usize {
            table.notice(id, Passage::Reset("too many tunnels on this link".into()));
            self.wake.notify_one();
            return None;
        }
        table.halves.insert(id, Half::default());
        Some((service, TunnelIo { tunnels: Arc::clone(self), id }))
    }

    #[cfg(test)]
    pub(crate) fn next_piece(&self) -> Option<Tunnel> {
        self.table.lock().next_piece()
    }

    /// Hands the next piece to a link that has nothing else to send.
    pub(crate) fn fill(&self, endpoint: &mut Endpoint) {
        while endpoint.wants_tunnel()
            && let Some(piece) = self.table.lock().next_piece()
        {
            endpoint.send_tunnel(piece);
        }
    }

    /// The link is over: every tunnel ends with this reason.
    pub(crate) fn close(&self, reason: &str) {
        let mut table = self.table.lock();
        table.closed = true;
        table.notices.clear();
        for half in table.halves.values_mut() {
            half.broken.get_or_insert_with(|| reason.to_owned());
            half.wake();
        }
        table.halves.retain(|_, half| !half.abandoned);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.table.lock().halves.len()
    }
}

/// A tunnel that the other end opened, and the service that it wants.
pub(crate) type Opened = Option<(String, TunnelIo)>;

impl Half {
    fn arrive(&mut self, data: Bytes) -> Result<(), WireError> {
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let outstanding = self.outstanding.saturating_add(length);
        if outstanding > WINDOW || self.ended {
            let got = (outstanding - WINDOW.min(outstanding)) as usize;
            return Err(WireError::CreditExceeded { stream: 3, got });
        }
        self.outstanding = outstanding;
        if !data.is_empty() && self.broken.is_none() {
            self.arrived.push_back(data);
        }
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
        Ok(())
    }
}

/// Whether the node's end opened it.
fn is_node(id: u64) -> bool {
    id.is_multiple_of(2)
}

impl Table {
    fn opened_by(&self, node: bool) -> usize {
        self.halves.keys().filter(|id| is_node(**id) == node).count()
    }

    fn notice(&mut self, id: u64, passage: Passage) {
        self.notices.push_back(Tunnel { id, passage: Some(passage) });
    }

    fn take_turn(&mut self, id: u64) {
        if !self.turns.contains(&id) {
            self.turns.push_back(id);
        }
    }

    fn next_piece(&mut self) -> Option<Tunnel> {
        if let Some(notice) = self.notices.pop_front() {
            return Some(notice);
        }
        while let Some(id) = self.turns.pop_front() {
            let Some(half) = self.halves.get_mut(&id) else { continue };
            if let Some(data) = half.waiting.pop_front() {
                if !half.waiting.is_empty() || half.writing == Writing::Finishing {
                    self.turns.push_back(id);
                }
                return Some(Tunnel { id, passage: Some(Passage::Data(data)) });
            }
            if half.writing == Writing::Finishing {
                half.writing = Writing::Finished;
                if half.abandoned {
                    self.let_go(id);
                }
                return Some(Tunnel { id, passage: Some(Passage::End(true)) });
            }
        }
        None
    }

    /// Forgets a tunnel that nobody holds; the other end learns so unless it has said and been told
    /// all: it might wait for more, or for somebody who reads.
    fn let_go(&mut self, id: u64) {
        let is_over = |half: &Half| half.ended && half.writing == Writing::Finished;
        if self.halves.remove(&id).is_some_and(|half| half.broken.is_none() && !is_over(&half)) {
            self.notice(id, Passage::Reset("closed".into()));
        }
    }
}

/// One end of a tunnel; dropping it ends what has not ended.
#[derive(Debug)]
pub struct TunnelIo {
    tunnels: Arc<Tunnels>,
    id: u64,
}

impl AsyncRead for TunnelIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut table = self.tunnels.table.lock();
        let Some(half) = table.halves.get_mut(&self.id) else { return Poll::Ready(Ok(())) };
        let before = buf.remaining();
        while buf.remaining() > 0
            && let Some(first) = half.arrived.front_mut()
        {
            let count = first.len().min(buf.remaining());
            buf.put_slice(&first[..count]);
            first.advance(count);
            if first.is_empty() {
                half.arrived.pop_front();
            }
        }
        let count = before - buf.remaining();
        if count == 0 && before > 0 && !half.ended {
            half.check()?;
            half.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        half.read += u32::try_from(count).unwrap_or(u32::MAX);
        if half.read >= WINDOW / 4 && !half.ended {
            let granted = std::mem::take(&mut half.read);
            half.outstanding -= granted;
            table.notice(self.id, Passage::Credit(granted));
            drop(table);
            self.tunnels.wake.notify_one();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TunnelIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut table = self.tunnels.table.lock();
        let Some(half) = table.halves.get_mut(&self.id) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        half.check()?;
        if half.writing != Writing::Open {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = buf.len().min(PIECE).min(half.credit as usize);
        if count == 0 && !buf.is_empty() {
            half.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        half.credit -= u32::try_from(count).unwrap_or(u32::MAX);
        half.waiting.push_back(Bytes::copy_from_slice(&buf[..count]));
        table.take_turn(self.id);
        drop(table);
        self.tunnels.wake.notify_one();
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut table = self.tunnels.table.lock();
        if let Some(half) = table.halves.get_mut(&self.id)
            && half.writing == Writing::Open
        {
            half.writing = Writing::Finishing;
            table.take_turn(self.id);
            drop(table);
            self.tunnels.wake.notify_one();
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for TunnelIo {
    fn drop(&mut self) {
        let mut table = self.tunnels.table.lock();
        let Some(half) = table.halves.get_mut(&self.id) else { return };
        half.abandoned = true;
        half.arrived.clear();
        // What it wrote before it finished still has to go.
        if half.writing != Writing::Finishing || half.broken.is_some() {
            table.let_go(self.id);
        }
        drop(table);
        self.tunnels.wake.notify_one();
    }
}
