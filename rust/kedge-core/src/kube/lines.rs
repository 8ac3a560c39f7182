// SPDX-License-Identifier: Apache-2.0
//! The lines of a watch, in batches of what has already arrived.

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use crate::{Error, Kind, Result};

/// An event larger than this ends the watch.
const LINE_BYTES: usize = 8 * 1024 * 1024;

/// Splits a body into lines.
pub(super) struct Lines<B = Incoming> {
    body: B,
    buffer: BytesMut,
    /// Where the search for the next line end goes on.
    searched: usize,
}

impl<B: Body<Data = Bytes> + Unpin> Lines<B>
where
    B::Error: std::fmt::Display,
{
    /// The lines of `body`.
    pub(super) fn new(body: B) -> Self {
        Self { body, buffer: BytesMut::new(), searched: 0 }
    }

    /// Waits for a line and takes up to `limit` of those there; empty at the end.
    pub(super) async fn batch(&mut self, limit: usize) -> Result<Vec<Bytes>> {
        let mut batch = Vec::new();
        while batch.len() < limit {
            if let Some(line) = self.split() {
                batch.push(line);
                continue;
            }
            let arrived = if batch.is_empty() {
                self.fill().await?
            } else {
                self.fill().now_or_never().unwrap_or(Ok(false))?
            };
            if !arrived {
                break;
            }
        }
        Ok(batch)
    }

    fn split(&mut self) -> Option<Bytes> {
        loop {
            let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
            let Some(position) = found else {
                self.searched = self.buffer.len();
                return None;
            };
            let line = self.buffer.split_to(self.searched + position + 1).freeze();
            self.searched = 0;
            let line = line.slice(..line.len() - 1);
            if !line.iter().all(u8::is_ascii_whitespace) {
                return Some(line);
            }
        }
    }

    /// Takes in what comes next; whether anything came.
    async fn fill(&mut self) -> Result<bool> {
        let Some(frame) = self.body.frame().await else { return Ok(false) };
        let frame = frame.map_err(|error| {
            Error::new(Kind::Disconnected, format!("the watch broke off: {error}"))
        })?;
        if let Ok(data) = frame.into_data() {
            if self.buffer.len() + data.len() > LINE_BYTES && self.split_pending() {
                let message = format!("watch event larger than {LINE_BYTES} bytes");
                return Err(Error::new(Kind::TooLarge, message));
            }
            self.buffer.extend_from_slice(&data);
        }
        Ok(true)
    }

    /// Whether the buffer holds only a part of one line.
    fn split_pending(&self) -> bool {
        self.searched == self.buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;

    fn lines(
        pieces: &[&'static str],
    ) -> Lines<impl Body<Data = Bytes, Error = Infallible> + Unpin> {
        let frames: Vec<_> = pieces
            .iter()
            .map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))))
            .collect();
        Lines::new(StreamBody::new(stream::iter(frames)))
    }

    #[tokio::test]
    async fn lines_come_whole_however_they_arrive() {
        let mut lines = lines(&["a", "b\nc", "\n\n", "d\ne"]);
        assert_eq!(lines.batch(2).await.unwrap(), ["ab", "c"]);
        assert_eq!(lines.batch(9).await.unwrap(), ["d"]);
        assert!(lines.batch(9).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_given_up() {
        let piece: &'static str = Box::leak("x".repeat(LINE_BYTES / 2 + 1).into_boxed_str());
        let error = lines(&[piece, piece]).batch(1).await.unwrap_err();
        assert_eq!(error.kind, Kind::TooLarge);
    }
}
