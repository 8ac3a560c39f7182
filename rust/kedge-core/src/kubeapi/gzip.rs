// SPDX-License-Identifier: Apache-2.0
//! Compression of large answers, piece by piece as they are sent.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, HeaderValue, VARY};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame};

use super::accept::ranges;
use super::body::Body;

/// What is compressed at a time, so that one answer does not keep others waiting.
const PIECE: usize = 64 * 1024;

/// Whether a client takes gzip.
pub(super) fn accepted(headers: &HeaderMap) -> bool {
    let header = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    header.is_some_and(|header| ranges(header).iter().any(|range| range.essence == "gzip"))
}

/// Compresses a successful answer of at least `least` bytes, or of a length not known yet.
pub(super) fn compress(response: Response<Body>, least: usize) -> Response<Body> {
    let length = response.body().size_hint().exact();
    let small = length.is_some_and(|length| length < least as u64);
    if small || response.status() != StatusCode::OK {
        return response;
    }
    let (mut head, body) = response.into_parts();
    head.headers.remove(CONTENT_LENGTH);
    head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    head.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    let encoder = Some(GzEncoder::new(Vec::new(), Compression::fast()));
    Response::from_parts(head, Gzip { body, encoder, pending: Bytes::new() }.boxed_unsync())
}

struct Gzip {
    body: Body,
    /// None once everything was written.
    encoder: Option<GzEncoder<Vec<u8>>>,
    pending: Bytes,
}

impl Gzip {
    /// Compresses some of what waits; what came out of it, if anything yet.
    fn squeeze(&mut self) -> io::Result<Option<Bytes>> {
        let Some(encoder) = self.encoder.as_mut() else { return Ok(None) };
        let piece = self.pending.split_to(self.pending.len().min(PIECE));
        encoder.write_all(&piece)?;
        let out = std::mem::take(encoder.get_mut());
        Ok((!out.is_empty()).then(|| out.into()))
    }
}

impl HttpBody for Gzip {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            if self.pending.has_remaining() {
                if let Some(out) = self.squeeze().transpose() {
                    return Poll::Ready(Some(out.map(Frame::data)));
                }
                continue;
            }
            if self.encoder.is_none() {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => self.pending = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    let rest = self.encoder.take().map(GzEncoder::finish);
                    return Poll::Ready(rest.map(|rest| rest.map(|out| Frame::data(out.into()))));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::super::body::{JSON, answer};
    use super::*;

    #[tokio::test]
    async fn a_large_answer_is_the_same_after_unpacking() {
        let text = "some words, again and again; ".repeat(10_000);
        let response = compress(answer(200, JSON, text.clone()), 1_000);
        assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
        let packed = response.into_body().collect().await.unwrap().to_bytes();
        assert!(packed.len() < text.len() / 2);
        let mut unpacked = String::new();
        GzDecoder::new(packed.as_ref()).read_to_string(&mut unpacked).unwrap();
        assert_eq!(unpacked, text);
    }

    #[test]
    fn small_answers_and_refusals_are_left_alone() {
        let small = compress(answer(200, JSON, "x"), 1_000);
        let refused = compress(answer(404, JSON, "x".repeat(2_000)), 1_000);
        assert!([small, refused].iter().all(|r| !r.headers().contains_key(CONTENT_ENCODING)));
    }

    #[test]
    fn a_client_says_whether_it_takes_gzip() {
        let of = |text: &'static str| {
            HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(text))])
        };
        assert!(accepted(&of("gzip")) && accepted(&of("br;q=1, gzip;q=0.5")));
        assert!(!accepted(&of("gzip;q=0")) && !accepted(&of("identity")));
        assert!(!accepted(&HeaderMap::new()));
    }
}
