// SPDX-License-Identifier: Apache-2.0
//! Messages into frames and back: priorities, credit, limits.
//!
//! [`Sender`] keeps a queue per stream and gives the most urgent frame that credit allows, so a
//! large message on one stream is interleaved with, never in front of, an urgent one. [`Receiver`]
//! joins frames; it grants credit as bytes arrive, unless told that nobody takes its messages.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::wire::frame::Frame;
use crate::wire::{CHUNK, Limits, Stream, WINDOW, WireError};

/// The sending half.
#[derive(Debug)]
pub struct Sender {
    queues: [VecDeque<Bytes>; Stream::COUNT],
    /// How much of the first message of each queue has gone.
    sent: [usize; Stream::COUNT],
    credit: [u32; Stream::COUNT],
    urgent: VecDeque<Vec<u8>>,
    queued: usize,
}

impl Default for Sender {
    fn default() -> Self {
        Self {
            queues: Default::default(),
            sent: [0; Stream::COUNT],
            credit: [WINDOW; Stream::COUNT],
            urgent: VecDeque::new(),
            queued: 0,
        }
    }
}

impl Sender {
    /// Queues a message.
    pub fn push(&mut self, stream: Stream, message: Bytes) {
        self.queued += message.len();
        self.queues[stream as usize].push_back(message);
    }

    /// Queues a frame that is neither data nor subject to credit.
    pub fn push_frame(&mut self, frame: Frame<'_>) {
        self.urgent.push_back(frame.encode());
    }

    /// The receiver granted `bytes` more.
    pub fn granted(&mut self, stream: Stream, bytes: u32) -> Result<(), WireError> {
        let credit = &mut self.credit[stream as usize];
        *credit = credit
            .checked_add(bytes)
            .filter(|sum| *sum <= WINDOW)
            .ok_or(WireError::Malformed("credit beyond the window"))?;
        Ok(())
    }

    /// Bytes of messages that wait.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Whether a stream has nothing to send.
    pub fn is_idle(&self, stream: Stream) -> bool {
        self.queues[stream as usize].is_empty()
    }

    /// The next frame to write, if credit allows one.
    pub fn next_frame(&mut self) -> Option<Vec<u8>> {
        if let Some(frame) = self.urgent.pop_front() {
            return Some(frame);
        }
        Stream::ALL.into_iter().find_map(|stream| self.next_of(stream))
    }

    fn next_of(&mut self, stream: Stream) -> Option<Vec<u8>> {
        let index = stream as usize;
        let message = self.queues[index].front()?;
        let start = self.sent[index];
        let allowed =
            if stream == Stream::Control { CHUNK } else { CHUNK.min(self.credit[index] as usize) };
        let end = message.len().min(start + allowed);
        if end == start && start < message.len() {
            return None;
        }
        let data = &message[start..end];
        let frame = if start == 0 {
            let total = u32::try_from(message.len()).expect("messages are limited far below 4 GiB");
            Frame::First { stream, total, data }.encode()
        } else {
            Frame::More { stream, data }.encode()
        };
        if stream != Stream::Control {
            // A chunk is at most 4096 bytes.
            self.credit[index] -= u32::try_from(end - start).unwrap_or(u32::MAX);
        }
        self.queued -= end - start;
        self.sent[index] = end;
        if end == message.len() {
            self.queues[index].pop_front();
            self.sent[index] = 0;
        }
        Some(frame)
    }
}

/// What a received frame amounts to.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// A message is complete.
    Message(Stream, Bytes),
    /// The other end may be sent this much more on a stream: hand it to [`Sender::granted`].
    Credit(Stream, u32),
    /// Answer with a pong.
    Ping,
    /// The other end is there.
    Pong,
    /// Part of a message.
    Nothing,
}

#[derive(Debug, Default)]
struct Partial {
    total: usize,
    data: Vec<u8>,
    under_way: bool,
    /// Received and not granted again.
    outstanding: u32,
}

/// The receiving half.
#[derive(Debug)]
pub struct Receiver {
    limits: Limits,
    streams: [Partial; Stream::COUNT],
    held: bool,
}

impl Receiver {
    /// A receiver that enforces `limits`.
    pub fn new(limits: Limits) -> Self {
        Self { limits, streams: Default::default(), held: false }
    }

    /// Withholds credit (nobody takes the messages) or grants it again.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Takes in one frame.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Received, WireError> {
        match Frame::decode(bytes)? {
            Frame::First { stream, total, data } => self.first(stream, total as usize, data),
            Frame::More { stream, data } => self.more(stream, data),
            Frame::Credit { stream, bytes } => Ok(Received::Credit(stream, bytes)),
            Frame::Ping => Ok(Received::Ping),
            Frame::Pong => Ok(Received::Pong),
        }
    }

    /// The credit to grant now, if enough has gathered to be worth a frame.
    pub fn grant(&mut self) -> Option<Frame<'static>> {
        // Tunnels have windows of their own; objects that nobody takes must not hold them up.
        let held = self.held;
        let (stream, part) =
            Stream::ALL.into_iter().zip(&mut self.streams).find(|(stream, part)| {
                part.outstanding >= WINDOW / 2 && (!held || *stream == Stream::Tunnel)
            })?;
        Some(Frame::Credit { stream, bytes: std::mem::take(&mut part.outstanding) })
    }

    fn first(&mut self, stream: Stream, total: usize, data: &[u8]) -> Result<Received, WireError> {
        let control = stream == Stream::Control;
        let limit = if control { self.limits.control } else { self.limits.message };
        if total > limit {
            return Err(WireError::MessageTooLarge { stream: stream as u8, got: total, limit });
        }
        let part = &mut self.streams[stream as usize];
        if part.under_way {
            return Err(WireError::Malformed("a message begins inside another"));
        }
        part.under_way = true;
        part.total = total;
        self.append(stream, data)
    }

    fn more(&mut self, stream: Stream, data: &[u8]) -> Result<Received, WireError> {
        let part = &self.streams[stream as usize];
        if !part.under_way || part.data.len() + data.len() > part.total {
            return Err(WireError::Malformed("bytes beyond their message"));
        }
        self.append(stream, data)
    }

    fn append(&mut self, stream: Stream, data: &[u8]) -> Result<Received, WireError> {
        let part = &mut self.streams[stream as usize];
        if stream != Stream::Control {
            let outstanding = part.outstanding as usize + data.len();
            if outstanding > WINDOW as usize {
                let got = outstanding - WINDOW as usize;
                return Err(WireError::CreditExceeded { stream: stream as u8, got });
            }
            part.outstanding = u32::try_from(outstanding).unwrap_or(WINDOW);
        }
        part.data.extend_from_slice(data);
        if part.data.len() < part.total {
            return Ok(Received::Nothing);
        }
        part.under_way = false;
        Ok(Received::Message(stream, std::mem::take(&mut part.data).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pump(sender: &mut Sender, receiver: &mut Receiver) -> Vec<(Stream, usize)> {
        let mut messages = Vec::new();
        while let Some(frame) = sender.next_frame() {
            if let Received::Message(stream, data) = receiver.receive(&frame).unwrap() {
                messages.push((stream, data.len()));
            }
            if let Some(Frame::Credit { stream, bytes }) = receiver.grant() {
                sender.granted(stream, bytes).unwrap();
            }
        }
        messages
    }

    #[test]
    fn an_urgent_message_overtakes_a_bulky_one_under_way() {
        let (mut sender, mut receiver) = (Sender::default(), Receiver::new(Limits::HUB));
        sender.push(Stream::Bulk, vec![7; 100_000].into());
        receiver.receive(&sender.next_frame().unwrap()).unwrap();
        sender.push(Stream::Status, vec![1; 5000].into());
        sender.push(Stream::Control, vec![0; 10].into());
        let got = pump(&mut sender, &mut receiver);
        assert_eq!(got, [(Stream::Control, 10), (Stream::Status, 5000), (Stream::Bulk, 100_000)]);
    }

    #[test]
    fn a_message_larger_than_the_window_arrives_as_credit_is_granted() {
        let (mut sender, mut receiver) = (Sender::default(), Receiver::new(Limits::HUB));
        sender.push(Stream::Bulk, vec![7; WINDOW as usize * 3].into());
        sender.push(Stream::Bulk, Bytes::new());
        assert_eq!(
            pump(&mut sender, &mut receiver),
            [(Stream::Bulk, WINDOW as usize * 3), (Stream::Bulk, 0)]
        );
        assert_eq!(sender.queued(), 0);
    }

    #[test]
    fn without_credit_bulk_stops_and_control_goes_on() {
        let (mut sender, mut receiver) = (Sender::default(), Receiver::new(Limits::HUB));
        receiver.hold(true);
        sender.push(Stream::Bulk, vec![7; WINDOW as usize + 1].into());
        assert!(pump(&mut sender, &mut receiver).is_empty());
        sender.push(Stream::Control, Bytes::from_static(b"ack"));
        assert_eq!(pump(&mut sender, &mut receiver), [(Stream::Control, 3)]);
        receiver.hold(false);
        let Some(Frame::Credit { stream, bytes }) = receiver.grant() else { panic!("no credit") };
        sender.granted(stream, bytes).unwrap();
        assert_eq!(pump(&mut sender, &mut receiver), [(Stream::Bulk, WINDOW as usize + 1)]);
    }

    #[test]
    fn a_sender_that_ignores_its_credit_is_refused() {
        let mut receiver = Receiver::new(Limits::HUB);
        let first = Frame::First { stream: Stream::Bulk, total: 1 << 20, data: &[] }.encode();
        receiver.receive(&first).unwrap();
        receiver.hold(true);
        let more = Frame::More { stream: Stream::Bulk, data: &[0; CHUNK] }.encode();
        for _ in 0..WINDOW as usize / CHUNK {
            receiver.receive(&more).unwrap();
        }
        let stream = Stream::Bulk as u8;
        assert_eq!(receiver.receive(&more), Err(WireError::CreditExceeded { stream, got: CHUNK }));
    }

    #[test]
    fn an_announced_length_over_the_limit_is_refused_before_memory_is_taken() {
        for (stream, limit) in [(Stream::Control, 64 << 10), (Stream::Bulk, 2 << 20)] {
            let mut receiver = Receiver::new(Limits::HUB);
            let total = u32::try_from(limit).unwrap() + 1;
            let frame = Frame::First { stream, total, data: b"x" }.encode();
            let expected =
                WireError::MessageTooLarge { stream: stream as u8, got: limit + 1, limit };
            assert_eq!(receiver.receive(&frame), Err(expected));
            assert_eq!(receiver.streams[stream as usize].data.capacity(), 0);
        }
    }

    #[test]
    fn a_length_is_not_memory_until_its_bytes_arrive() {
        let mut receiver = Receiver::new(Limits::HUB);
        let frame = Frame::First { stream: Stream::Bulk, total: 2 << 20, data: b"x" }.encode();
        receiver.receive(&frame).unwrap();
        assert!(receiver.streams[Stream::Bulk as usize].data.capacity() < 64);
    }

    #[test]
    fn frames_out_of_order_are_malformed() {
        let mut receiver = Receiver::new(Limits::HUB);
        let more = Frame::More { stream: Stream::Bulk, data: b"x" }.encode();
        assert!(matches!(receiver.receive(&more), Err(WireError::Malformed(_))));
        let first = Frame::First { stream: Stream::Bulk, total: 2, data: b"x" }.encode();
        receiver.receive(&first).unwrap();
        assert!(matches!(receiver.receive(&first), Err(WireError::Malformed(_))));
        let long = Frame::More { stream: Stream::Bulk, data: b"xy" }.encode();
        assert!(matches!(receiver.receive(&long), Err(WireError::Malformed(_))));
    }

    #[test]
    fn credit_beyond_the_window_is_malformed() {
        assert!(Sender::default().granted(Stream::Bulk, 1).is_err());
    }
}
