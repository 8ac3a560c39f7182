// SPDX-License-Identifier: Apache-2.0
//! Bodies in and out: bounded reading, answers from bytes or from a stream.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::status::Failure;

/// What every answer is made of. A stream that breaks off ends the connection.
pub(super) type Body = UnsyncBoxBody<Bytes, std::io::Error>;
/// The media type of nearly everything.
pub(super) const JSON: &str = "application/json";

/// An answer of `bytes`.
pub(super) fn answer(code: u16, media_type: &str, bytes: impl Into<Bytes>) -> Response<Body> {
    shell(code, media_type, full(bytes.into()))
}

/// `bytes` as a body.
pub(super) fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// Whether what goes with these headers is JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with(JSON))
}

/// No body at all.
pub(super) fn nothing() -> Body {
    full(Bytes::new())
}

/// An answer whose pieces come as `stream` yields them.
pub(super) fn streamed<S>(media_type: &str, stream: S) -> Response<Body>
where
    S: Stream<Item = std::io::Result<Bytes>> + Send + 'static,
{
    use futures_util::StreamExt as _;
    let frames = stream.map(|piece| piece.map(Frame::data));
    shell(200, media_type, StreamBody::new(frames).boxed_unsync())
}

/// A refusal.
pub(super) fn refusal(failure: &Failure) -> Response<Body> {
    let mut response = answer(failure.code, JSON, failure.body());
    if let Some(seconds) = failure.retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn shell(code: u16, media_type: &str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(media_type) {
        headers.insert(CONTENT_TYPE, value);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// Reads request bodies within a limit for each and a budget for all.
pub(super) struct BodyReader {
    limit: usize,
    budget: Arc<Semaphore>,
    timeout: Duration,
}

/// The budget is counted in these.
const UNIT: usize = 1024;

impl BodyReader {
    /// Bodies of at most `limit` bytes, `all` bytes together, each within `timeout`.
    pub(super) fn new(limit: usize, all: usize, timeout: Duration) -> Self {
        let units = (all / UNIT).clamp(limit / UNIT + 1, Semaphore::MAX_PERMITS);
        Self { limit, budget: Arc::new(Semaphore::new(units)), timeout }
    }

    /// The whole body; what is over the limit is refused before memory is taken for it.
    pub(super) async fn read(
        &self,
        headers: &HeaderMap,
        body: Incoming,
    ) -> Result<(Bytes, OwnedSemaphorePermit), Failure> {
        let declared = declared_length(headers);
        let expected = declared.unwrap_or(if body.is_end_stream() { 0 } else { self.limit });
        if expected > self.limit {
            return Err(Failure::too_large(self.limit));
        }
        let units = u32::try_from(expected.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.budget)
            .try_acquire_many_owned(units)
            .map_err(|_full| Failure::busy("too many request bodies at a time, try again", 1))?;
        let bytes =
            tokio::time::timeout(self.timeout, self.collect(body, declared)).await.map_err(
                |_elapsed| Failure::new(408, "Timeout", "the request body did not arrive in time"),
            )??;
        Ok((bytes, permit))
    }

    async fn collect(&self, mut body: Incoming, declared: Option<usize>) -> Result<Bytes, Failure> {
        let mut whole = BytesMut::with_capacity(declared.unwrap_or(0).min(64 * 1024));
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                Failure::new(400, "BadRequest", format!("the request body broke off: {error}"))
            })?;
            let Ok(data) = frame.into_data() else { continue };
            if whole.len() + data.len() > self.limit {
                return Err(Failure::too_large(self.limit));
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole.freeze())
    }
}

fn declared_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
