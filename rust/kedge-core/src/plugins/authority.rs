// SPDX-License-Identifier: Apache-2.0
//! Requests whose `:authority` is a path: what Go's gRPC sends on a Unix socket, and hyper refuses.
//!
//! Such a client (most device plugins and monitoring agents) names the server by the socket's path,
//! plain or percent-encoded. RFC 9113 has no place for that and the h2 crate resets the stream; the
//! kubelet's server, which is Go's, takes it. So the value of a literal `:authority` field is replaced
//! by `localhost` on its way in. The field keeps its place and its effect on HPACK's table, of which the
//! decoder then keeps entries longer than the encoder counts on, never shorter; everything else passes
//! as it came. A head that is spread over several frames passes too, unchanged.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const PREFACE: usize = 24;
const FRAME_HEAD: usize = 9;
const HEADERS: u8 = 1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// Larger heads are passed on as they are; the server refuses them by its own limits.
const MAX_HEAD: usize = 16 << 10;
const READ: usize = 4 << 10;
/// `:authority` in HPACK's static table.
const AUTHORITY: u64 = 1;
/// The same spelled out, plain and in HPACK's Huffman code.
const SPELLED: [&[u8]; 2] = [b":authority", &[0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f]];
const REPLACEMENT: &[u8] = b"localhost";

/// A connection whose requests have an authority that hyper takes.
pub(super) struct PlainAuthority<C> {
    inner: C,
    /// Read and not yet looked at.
    raw: Vec<u8>,
    /// To be passed on.
    ready: Vec<u8>,
    taken: usize,
    /// Bytes that pass unchanged before the next frame's head.
    passing: usize,
}

impl<C> PlainAuthority<C> {
    pub(super) fn new(inner: C) -> Self {
        Self { inner, raw: Vec::new(), ready: Vec::new(), taken: 0, passing: PREFACE }
    }

    /// Moves what can be decided from `raw` to `ready`.
    fn advance(&mut self) {
        let mut at = 0;
        loop {
            let rest = &self.raw[at..];
            if self.passing > 0 {
                let count = self.passing.min(rest.len());
                self.ready.extend_from_slice(&rest[..count]);
                self.passing -= count;
                at += count;
                if self.passing > 0 {
                    break;
                }
                continue;
            }
            if rest.len() < FRAME_HEAD {
                break;
            }
            let length =
                usize::from(rest[0]) << 16 | usize::from(rest[1]) << 8 | usize::from(rest[2]);
            let (kind, flags) = (rest[3], rest[4]);
            if kind != HEADERS || flags & END_HEADERS == 0 || length > MAX_HEAD {
                self.passing = FRAME_HEAD + length;
                continue;
            }
            if rest.len() < FRAME_HEAD + length {
                break;
            }
            let (head, payload) = rest[..FRAME_HEAD + length].split_at(FRAME_HEAD);
            push_headers(&mut self.ready, head, payload, flags);
            at += FRAME_HEAD + length;
        }
        self.raw.drain(..at);
    }
}

/// Writes a HEADERS frame with a plain authority.
fn push_headers(out: &mut Vec<u8>, head: &[u8], payload: &[u8], flags: u8) {
    let padding =
        if flags & PADDED == 0 { 0 } else { payload.first().map_or(0, |&pad| pad.into()) };
    let before = usize::from(flags & PADDED != 0) + if flags & PRIORITY == 0 { 0 } else { 5 };
    let block =
        (payload.len() >= before + padding).then(|| &payload[before..payload.len() - padding]);
    let Some(rewritten) = block.and_then(rewrite) else {
        out.extend_from_slice(head);
        out.extend_from_slice(payload);
        return;
    };
    let length = before + rewritten.len() + padding;
    let bytes = u32::try_from(length).unwrap_or(0).to_be_bytes();
    out.extend_from_slice(&bytes[1..]);
    out.extend_from_slice(&head[3..]);
    out.extend_from_slice(&payload[..before]);
    out.extend_from_slice(&rewritten);
    out.extend_from_slice(&payload[payload.len() - padding..]);
}

/// A header block with the literal value of `:authority` replaced; None when there is none in it, or
/// when it cannot be read.
fn rewrite(block: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(block.len());
    let mut at = 0;
    let mut found = false;
    while at < block.len() {
        let start = at;
        let first = block[at];
        if first & 0x80 != 0 {
            integer(block, &mut at, 7)?;
        } else if first & 0xe0 == 0x20 {
            integer(block, &mut at, 5)?;
        } else {
            let name = integer(block, &mut at, if first & 0x40 == 0 { 4 } else { 6 })?;
            let spelled = if name == 0 { string(block, &mut at)? } else { &[] };
            let value = at;
            string(block, &mut at)?;
            if name == AUTHORITY || SPELLED.contains(&spelled) {
                out.extend_from_slice(&block[start..value]);
                out.push(u8::try_from(REPLACEMENT.len()).ok()?);
                out.extend_from_slice(REPLACEMENT);
                found = true;
                continue;
            }
        }
        out.extend_from_slice(&block[start..at]);
    }
    found.then_some(out)
}

/// HPACK's integer with a prefix of `bits`.
fn integer(block: &[u8], at: &mut usize, bits: u32) -> Option<u64> {
    let limit = (1_u64 << bits) - 1;
    let mut value = u64::from(*block.get(*at)?) & limit;
    *at += 1;
    if value < limit {
        return Some(value);
    }
    for shift in (0..28).step_by(7) {
        let byte = *block.get(*at)?;
        *at += 1;
        value += u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Steps over HPACK's string; its bytes.
fn string<'a>(block: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let length = usize::try_from(integer(block, at, 7)?).ok()?;
    let start = *at;
    *at = at.checked_add(length).filter(|end| *end <= block.len())?;
    Some(&block[start..*at])
}

impl<C: AsyncRead + Unpin> AsyncRead for PlainAuthority<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.taken == this.ready.len() {
            this.ready.clear();
            this.taken = 0;
            let mut room = [0_u8; READ];
            let mut buffer = ReadBuf::new(&mut room);
            ready!(Pin::new(&mut this.inner).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.raw.extend_from_slice(buffer.filled());
            this.advance();
        }
        let count = out.remaining().min(this.ready.len() - this.taken);
        out.put_slice(&this.ready[this.taken..this.taken + count]);
        this.taken += count;
        Poll::Ready(Ok(()))
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for PlainAuthority<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn literal(value: &[u8]) -> Vec<u8> {
        [&[0x41, u8::try_from(value.len()).unwrap()], value].concat()
    }

    async fn through(bytes: Vec<u8>, step: usize) -> Vec<u8> {
        let (mut near, far) = tokio::io::duplex(step);
        let mut filter = PlainAuthority::new(far);
        let writing = tokio::spawn(async move {
            tokio::io::AsyncWriteExt::write_all(&mut near, &bytes).await.unwrap();
        });
        let mut out = Vec::new();
        filter.read_to_end(&mut out).await.unwrap();
        writing.await.unwrap();
        out
    }

    #[tokio::test]
    async fn a_path_as_authority_becomes_localhost_however_the_bytes_arrive() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let settings = frame(4, 0, b"");
        let head = |authority: &[u8]| {
            [&[0x83, 0x86][..], &literal(authority), &[0x40, 1, b'a', 1, b'b']].concat()
        };
        let data = frame(0, 1, b"HEADERS look like this too");
        let path = head(b"%2Fvar%2Flib%2Fkubelet.sock");
        let padded = [&[3][..], &path, &[0; 3]].concat();
        let sent = [&preface[..], &settings, &frame(1, 4, &path), &data, &frame(1, 0x0c, &padded)]
            .concat();
        let plain = head(b"localhost");
        let plain_padded = [&[3][..], &plain, &[0; 3]].concat();
        let wanted =
            [&preface[..], &settings, &frame(1, 4, &plain), &data, &frame(1, 0x0c, &plain_padded)]
                .concat();
        for step in [1, 7, 4096] {
            assert_eq!(through(sent.clone(), step).await, wanted, "{step} bytes at a time");
        }
    }

    #[test]
    fn a_field_that_is_spelled_out_is_found_too() {
        for spelled in SPELLED {
            let coded = if spelled[0] == b':' { 0 } else { 0x80 };
            let length = u8::try_from(spelled.len()).unwrap() | coded;
            let block = |value: &[u8]| [&[0x40, length], spelled, value, &[0x83]].concat();
            let rewritten = rewrite(&block(b"\x05%2Fab")).unwrap();
            assert_eq!(rewritten, block(b"\x09localhost"));
        }
    }

    #[test]
    fn a_block_without_a_literal_authority_or_that_is_cut_is_left_alone() {
        assert_eq!(rewrite(&[0x82, 0xbe]), None);
        assert_eq!(rewrite(&[0x41, 9, b'x']), None);
        assert_eq!(rewrite(&[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(rewrite(&[]), None);
    }
}
