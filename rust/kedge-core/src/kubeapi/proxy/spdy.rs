// SPDX-License-Identifier: Apache-2.0
//! As much of SPDY/3.1 as the streams of exec, attach and port-forward need, as a client.
//!
//! Header blocks are sent in a zlib stream without SPDY's dictionary, which decoders accept, and
//! never read: an answer's headers say nothing that matters here. There is no flow control, as in the
//! servers' library (moby/spdystream). Specification: SPDY Protocol, draft 3.1.

use flate2::{Compress, Compression, FlushCompress};

use crate::{Error, Kind, Result};

const VERSION: u16 = 3;
const SYN_STREAM: u16 = 1;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const FIN: u8 = 1;
const HEAD: usize = 8;
/// The most bytes in one frame that is taken.
const MAX_FRAME: usize = 1 << 20;

/// What a server sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// Bytes of a stream, and whether they are its last.
    Data { stream: u32, data: Vec<u8>, is_last: bool },
    /// A stream was refused.
    Reset { stream: u32 },
    /// To be sent back as it is.
    Ping { frame: Vec<u8> },
    /// No more streams.
    Goaway,
    /// Nothing that matters.
    Other,
}

/// Writes frames.
pub(super) struct Encoder {
    compress: Compress,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { compress: Compress::new(Compression::fast(), true) }
    }
}

impl Encoder {
    /// A frame that opens `stream` (odd, growing) with one header.
    pub(super) fn open(&mut self, stream: u32, name: &str, value: &str) -> Result<Vec<u8>> {
        self.open_with(stream, &[(name, value)])
    }

    /// A frame that opens `stream` with these headers, whose names are in lower case.
    pub(super) fn open_with(&mut self, stream: u32, headers: &[(&str, &str)]) -> Result<Vec<u8>> {
        let mut block = Vec::new();
        // A few of them.
        block.extend_from_slice(&u32::try_from(headers.len()).unwrap_or(0).to_be_bytes());
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            // A few letters each.
            block.extend_from_slice(&u32::try_from(text.len()).unwrap_or(0).to_be_bytes());
            block.extend_from_slice(text.as_bytes());
        }
        let mut packed = Vec::with_capacity(block.len() + 64);
        self.compress
            .compress_vec(&block, &mut packed, FlushCompress::Sync)
            .map_err(|error| Error::new(Kind::Internal, format!("zlib: {error}")))?;
        let mut body = Vec::with_capacity(10 + packed.len());
        body.extend_from_slice(&stream.to_be_bytes());
        body.extend_from_slice(&[0; 6]);
        body.extend_from_slice(&packed);
        Ok(control(SYN_STREAM, 0, &body))
    }
}

/// A frame of `data`.
pub(super) fn data(stream: u32, data: &[u8], is_last: bool) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEAD + data.len());
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.push(if is_last { FIN } else { 0 });
    // At most the length of a WebSocket message.
    frame.extend_from_slice(&u32::try_from(data.len()).unwrap_or(0).to_be_bytes()[1..]);
    frame.extend_from_slice(data);
    frame
}

fn control(kind: u16, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEAD + body.len());
    frame.extend_from_slice(&(0x8000 | VERSION).to_be_bytes());
    frame.extend_from_slice(&kind.to_be_bytes());
    frame.push(flags);
    frame.extend_from_slice(&u32::try_from(body.len()).unwrap_or(0).to_be_bytes()[1..]);
    frame.extend_from_slice(body);
    frame
}

/// Takes the first frame out of `buffer` once it is whole.
pub(super) fn take(buffer: &mut Vec<u8>) -> Result<Option<Frame>> {
    let Some(head) = buffer.first_chunk::<HEAD>() else { return Ok(None) };
    let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
    if length > MAX_FRAME {
        return Err(Error::new(Kind::TooLarge, format!("SPDY frame: {length} bytes")));
    }
    if buffer.len() < HEAD + length {
        return Ok(None);
    }
    let frame: Vec<u8> = buffer.drain(..HEAD + length).collect();
    let first = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]);
    let body = &frame[HEAD..];
    let stream_of =
        || body.first_chunk::<4>().map_or(0, |id| u32::from_be_bytes(*id) & 0x7fff_ffff);
    if first >> 31 == 0 {
        let is_last = frame[4] & FIN != 0;
        return Ok(Some(Frame::Data { stream: first, data: body.to_vec(), is_last }));
    }
    Ok(Some(match u16::from_be_bytes([frame[2], frame[3]]) {
        RST_STREAM => Frame::Reset { stream: stream_of() },
        // A client's own pings are odd; there are none here.
        PING => Frame::Ping { frame },
        GOAWAY => Frame::Goaway,
        _ => Frame::Other,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whole_and_in_order_however_they_are_cut() {
        let sent = [
            data(5, b"hello", false),
            control(PING, 0, &2_u32.to_be_bytes()),
            control(2, 0, &[0; 9]),
            control(RST_STREAM, 0, &[0, 0, 0, 7, 0, 0, 0, 1]),
            data(5, b"", true),
            control(GOAWAY, 0, &[0; 8]),
        ];
        let bytes = sent.concat();
        let (mut buffer, mut found) = (Vec::new(), Vec::new());
        for byte in bytes {
            buffer.push(byte);
            found.extend(take(&mut buffer).unwrap());
        }
        assert_eq!(
            found,
            [
                Frame::Data { stream: 5, data: b"hello".to_vec(), is_last: false },
                Frame::Ping { frame: sent[1].clone() },
                Frame::Other,
                Frame::Reset { stream: 7 },
                Frame::Data { stream: 5, data: Vec::new(), is_last: true },
                Frame::Goaway,
            ]
        );
    }

    #[test]
    fn a_frame_over_its_limit_is_refused_before_it_is_taken() {
        let mut buffer = vec![0, 0, 0, 1, 0, 0xff, 0xff, 0xff];
        assert_eq!(take(&mut buffer).unwrap_err().kind, Kind::TooLarge);
    }

    #[test]
    fn headers_of_all_streams_are_one_zlib_stream() {
        let mut encoder = Encoder::default();
        let packed: Vec<u8> = [(1, "error"), (3, "stdin")]
            .iter()
            .flat_map(|(stream, kind)| {
                let frame = encoder.open(*stream, "streamtype", kind).unwrap();
                assert_eq!(frame[..4], [0x80, 3, 0, 1]);
                assert_eq!(frame[8..12], stream.to_be_bytes());
                frame[18..].to_vec()
            })
            .collect();
        let mut plain = Vec::with_capacity(1000);
        let mut inflate = flate2::Decompress::new(true);
        inflate.decompress_vec(&packed, &mut plain, flate2::FlushDecompress::Sync).unwrap();
        let text = String::from_utf8_lossy(&plain).into_owned();
        assert!(text.contains("streamtype\0\0\0\u{5}error"), "{text:?}");
        assert!(text.ends_with("streamtype\0\0\0\u{5}stdin"), "{text:?}");
    }
}
