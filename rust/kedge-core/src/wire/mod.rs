// SPDX-License-Identifier: Apache-2.0
//! Frames, envelopes, compression and differences: the bytes of the link, without sockets.
//!
//! From the socket inwards: [`frame`] reads one WebSocket message, [`mux`] joins frames of a stream
//! into messages (and cuts messages into frames, most urgent first, within the credit given),
//! [`envelope`] names what a message holds (and counts its `fields` first), [`pack`] compresses objects
//! against versions that the other end holds. Every decoder checks lengths against [`Limits`] before it takes memory.
//! `docs/reference/link.md` says the same for a second implementation.

pub mod envelope;
pub(crate) mod fields;
pub mod frame;
pub mod mux;
pub mod pack;

use crate::{Error, Kind};

/// The most payload bytes in one frame; a message in the way delays an urgent one by this much.
pub const CHUNK: usize = 4096;
/// The most bytes in one WebSocket message: a chunk and its header.
pub const MAX_FRAME: usize = CHUNK + 16;
/// What a sender may have sent on a stream before the receiver grants more.
pub const WINDOW: u32 = 256 * 1024;

/// What one end accepts from the other.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one message on stream 0.
    pub control: usize,
    /// Bytes of one message on the other streams.
    pub message: usize,
    /// Bytes of one batch once decompressed.
    pub raw: usize,
    /// Objects in one batch, entries in one inventory.
    pub items: usize,
}

impl Limits {
    /// What a hub takes from a node.
    pub const HUB: Self = Self { control: 64 << 10, message: 2 << 20, raw: 4 << 20, items: 50_000 };
    /// What a node takes from its hub.
    pub const NODE: Self =
        Self { control: 64 << 10, message: 4 << 20, raw: 8 << 20, items: 50_000 };
}

/// Bytes that break the protocol. The link ends; nothing was allocated for them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A frame over the limit.
    #[error("frame too large: {got} bytes, limit {limit}")]
    FrameTooLarge {
        /// Its length.
        got: usize,
        /// What is allowed.
        limit: usize,
    },
    /// A message that announces, or grows to, more than is allowed.
    #[error("message too large on stream {stream}: {got}, limit {limit}")]
    MessageTooLarge {
        /// The stream.
        stream: u8,
        /// Its announced size.
        got: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The bytes end inside a field.
    #[error("truncated: {0}")]
    Truncated(&'static str),
    /// The bytes do not mean anything.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// A stream this version does not know.
    #[error("unknown stream: {0}")]
    UnknownStream(u8),
    /// More sent than was granted.
    #[error("credit exceeded on stream {stream}: {got} bytes over")]
    CreditExceeded {
        /// The stream.
        stream: u8,
        /// By how much.
        got: usize,
    },
    /// A message that the state of the session does not allow.
    #[error("out of order: {0}")]
    Unexpected(&'static str),
}

impl From<WireError> for Error {
    fn from(error: WireError) -> Self {
        let kind = match error {
            WireError::FrameTooLarge { .. } | WireError::MessageTooLarge { .. } => Kind::TooLarge,
            _ => Kind::Invalid,
        };
        Self::new(kind, error.to_string())
    }
}

/// A stream of messages. Streams 4 to 15 are reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stream {
    /// Handshake, acknowledgements, requests: always first, never bulky, without credit.
    Control = 0,
    /// Objects down, status up.
    Status = 1,
    /// Events and what can wait.
    Bulk = 2,
    /// Bytes of connections to the node's services (logs, exec): after everything else.
    Tunnel = 3,
}

impl Stream {
    /// How many there are.
    pub const COUNT: usize = 4;
    /// All streams, most urgent first.
    pub const ALL: [Self; Self::COUNT] = [Self::Control, Self::Status, Self::Bulk, Self::Tunnel];

    /// The stream numbered `number`.
    pub fn new(number: u8) -> Result<Self, WireError> {
        Self::ALL.get(usize::from(number)).copied().ok_or(WireError::UnknownStream(number))
    }
}
