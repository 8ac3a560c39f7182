// SPDX-License-Identifier: Apache-2.0
//! One frame: a WebSocket binary message.
//!
//! The first byte holds the kind (high four bits) and the stream (low four). `First` begins a
//! message and announces its length (LEB128, at most five bytes), `More` continues it, `Credit`
//! grants bytes (LEB128) to the sender of a stream; `Ping` and `Pong` are a single byte.

use crate::wire::{MAX_FRAME, Stream, WireError};

/// What a frame says; data is borrowed from the bytes it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The start of a message of `total` bytes.
    First {
        /// Where the message belongs.
        stream: Stream,
        /// The length of the whole message.
        total: u32,
        /// Its first bytes.
        data: &'a [u8],
    },
    /// The next bytes of the message under way.
    More {
        /// Where the message belongs.
        stream: Stream,
        /// Its next bytes.
        data: &'a [u8],
    },
    /// The sender of a stream may send this much more.
    Credit {
        /// The stream.
        stream: Stream,
        /// How many bytes.
        bytes: u32,
    },
    /// Is anybody there?
    Ping,
    /// Yes.
    Pong,
}

const FIRST: u8 = 0;
const MORE: u8 = 1;
const CREDIT: u8 = 2;
const PING: u8 = 3;
const PONG: u8 = 4;

impl<'a> Frame<'a> {
    /// Reads a frame.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        if bytes.len() > MAX_FRAME {
            return Err(WireError::FrameTooLarge { got: bytes.len(), limit: MAX_FRAME });
        }
        let (&head, rest) = bytes.split_first().ok_or(WireError::Truncated("frame"))?;
        let number = head & 0x0f;
        match head >> 4 {
            FIRST => {
                let stream = Stream::new(number)?;
                let (total, data) = varint(rest)?;
                if data.len() > total as usize {
                    return Err(WireError::Malformed("frame holds more than its message"));
                }
                Ok(Self::First { stream, total, data })
            }
            MORE if rest.is_empty() => Err(WireError::Truncated("continued frame")),
            MORE => Ok(Self::More { stream: Stream::new(number)?, data: rest }),
            CREDIT => match varint(rest)? {
                (0, _) => Err(WireError::Malformed("credit of nothing")),
                (bytes, []) => Ok(Self::Credit { stream: Stream::new(number)?, bytes }),
                _ => Err(WireError::Malformed("bytes after credit")),
            },
            PING | PONG if !rest.is_empty() || number != 0 => {
                Err(WireError::Malformed("bytes after ping or pong"))
            }
            PING => Ok(Self::Ping),
            PONG => Ok(Self::Pong),
            _ => Err(WireError::Malformed("frame kind")),
        }
    }

    /// The bytes of this frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(6 + self.data().len());
        match *self {
            Self::First { stream, total, .. } => {
                out.push(FIRST << 4 | stream as u8);
                put_varint(&mut out, total);
            }
            Self::More { stream, .. } => out.push(MORE << 4 | stream as u8),
            Self::Credit { stream, bytes } => {
                out.push(CREDIT << 4 | stream as u8);
                put_varint(&mut out, bytes);
            }
            Self::Ping => out.push(PING << 4),
            Self::Pong => out.push(PONG << 4),
        }
        out.extend_from_slice(self.data());
        out
    }

    fn data(&self) -> &'a [u8] {
        match *self {
            Self::First { data, .. } | Self::More { data, .. } => data,
            _ => &[],
        }
    }
}

fn varint(bytes: &[u8]) -> Result<(u32, &[u8]), WireError> {
    let mut value: u64 = 0;
    for (index, &byte) in bytes.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let value = u32::try_from(value).map_err(|_error| WireError::Malformed("length"))?; // five bytes hold 35 bits
            return Ok((value, &bytes[index + 1..]));
        }
    }
    Err(if bytes.len() < 5 {
        WireError::Truncated("length")
    } else {
        WireError::Malformed("length")
    })
}

fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(low_byte(value) | 0x80);
        value >>= 7;
    }
    out.push(low_byte(value));
}

fn low_byte(value: u32) -> u8 {
    value.to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Frame<'static>> {
        vec![
            Frame::First { stream: Stream::Status, total: 300, data: b"abc" },
            Frame::First { stream: Stream::Control, total: 0, data: b"" },
            Frame::More { stream: Stream::Bulk, data: b"x" },
            Frame::Credit { stream: Stream::Status, bytes: u32::MAX },
            Frame::Ping,
            Frame::Pong,
        ]
    }

    #[test]
    fn every_frame_survives_a_round_trip() {
        for frame in samples() {
            assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
        }
    }

    #[test]
    fn a_frame_cut_inside_its_header_is_truncated() {
        let credit = Frame::Credit { stream: Stream::Status, bytes: 1 << 20 }.encode();
        for end in 0..credit.len() {
            assert!(matches!(Frame::decode(&credit[..end]), Err(WireError::Truncated(_))), "{end}");
        }
    }

    #[test]
    fn an_oversized_frame_is_refused() {
        let bytes = vec![0; MAX_FRAME + 1];
        let limit = MAX_FRAME;
        assert_eq!(Frame::decode(&bytes), Err(WireError::FrameTooLarge { got: limit + 1, limit }));
    }

    #[test]
    fn what_means_nothing_is_malformed() {
        for bytes in [&[0xf0][..], &[0x30, 1], &[0x31], &[0x21, 0], &[0x21, 1, 1], &[0, 1, 2, 3]] {
            assert!(matches!(Frame::decode(bytes), Err(WireError::Malformed(_))), "{bytes:?}");
        }
        let long = [0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(Frame::decode(&long), Err(WireError::Malformed("length")));
        assert_eq!(Frame::decode(&[0x0f, 1]), Err(WireError::UnknownStream(15)));
    }

    #[test]
    fn no_two_byte_prefix_panics() {
        for first in 0..=255_u8 {
            for second in 0..=255_u8 {
                let _ = Frame::decode(&[first, second, 0x80, second]);
            }
        }
    }
}
