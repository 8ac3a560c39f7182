// SPDX-License-Identifier: Apache-2.0
//! Passing a request on to the cloud's API server through the node's link, upgrades included.
//!
//! A request has a connection of its own: opening one costs no round trip. Answers stream through as
//! they come, so that a watch is as fresh as the link.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as HttpBody, Frame, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::body::{Body, nothing};
use crate::hub::tunnels::TunnelIo;

/// The API server's name on the link.
pub(super) const SERVICE: &str = "api";
/// For the head of an answer: a little more than an API server gives itself.
const ANSWERING: Duration = Duration::from_secs(65);
const HEAD_BYTES: usize = 64 * 1024;
const BUFFER: usize = 16 << 10;
/// Who is asked, as far as HTTP is concerned.
const AUTHORITY: HeaderValue = HeaderValue::from_static("kubernetes.default.svc");
/// What is between two ends of one connection and goes no further.
const HOP_BY_HOP: [HeaderName; 7] =
    [CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

/// A request to pass on.
pub(super) enum Sent {
    /// With all of its body.
    Whole(Request<Full<Bytes>>),
    /// That wants to speak something else afterwards.
    Upgrade(Request<Incoming>),
}

/// Whether a client wants to speak something else than HTTP.
pub(super) fn is_upgrade<T>(request: &Request<T>) -> bool {
    let connection = request.headers().get(CONNECTION).and_then(|value| value.to_str().ok());
    let words = connection.unwrap_or_default().split(',');
    request.headers().contains_key(UPGRADE)
        && words.into_iter().any(|word| word.trim().eq_ignore_ascii_case("upgrade"))
}

/// Sends a request and gives its answer; `permit` is held to the answer's end. An error is why
/// there is none.
pub(super) async fn pass(
    connection: TunnelIo,
    sent: Sent,
    permit: OwnedSemaphorePermit,
) -> Result<Response<Body>, String> {
    let handshake =
        http1::Builder::new().max_buf_size(HEAD_BYTES).handshake(TokioIo::new(connection));
    match sent {
        Sent::Whole(request) => {
            let (mut sender, driver) = handshake.await.map_err(lost)?;
            tokio::spawn(driver);
            let (mut head, body) = request.into_parts();
            strip(&mut head.headers);
            head.headers.remove(CONTENT_LENGTH);
            address(&mut head.uri, &mut head.headers);
            head.version = http::Version::HTTP_11;
            let asked = sender.send_request(Request::from_parts(head, body));
            let answer = timeout(ANSWERING, asked).await.map_err(late)?.map_err(lost)?;
            let (mut head, body) = answer.into_parts();
            strip(&mut head.headers);
            // The connection lives as long as what can still be asked on it.
            let body = Passing { body, _kept: (permit, sender) };
            Ok(Response::from_parts(head, body.boxed_unsync()))
        }
        Sent::Upgrade(mut request) => {
            let (mut sender, driver) = handshake.await.map_err(lost)?;
            tokio::spawn(driver.with_upgrades());
            let ours = hyper::upgrade::on(&mut request);
            let (mut head, _) = request.into_parts();
            address(&mut head.uri, &mut head.headers);
            let asked = sender.send_request(Request::from_parts(head, Full::default()));
            let answer = timeout(ANSWERING, asked).await.map_err(late)?.map_err(lost)?;
            if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                let (head, body) = answer.into_parts();
                let body = Passing { body, _kept: (permit, sender) };
                return Ok(Response::from_parts(head, body.boxed_unsync()));
            }
            let mut switched = Response::new(nothing());
            *switched.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            switched.headers_mut().clone_from(answer.headers());
            let theirs = hyper::upgrade::on(answer);
            tokio::spawn(async move {
                let _permit = permit;
                let Ok((ours, theirs)) = tokio::try_join!(ours, theirs) else { return };
                let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
                // Either end may go at any point; the other then sees its stream end.
                let _ = copy_bidirectional_with_sizes(&mut ours, &mut theirs, BUFFER, BUFFER).await;
            });
            Ok(switched)
        }
    }
}

/// Makes the target of a request what HTTP/1.1 sends to a server.
fn address(uri: &mut Uri, headers: &mut HeaderMap) {
    let path = uri.path_and_query().cloned();
    *uri = path.unwrap_or_else(|| PathAndQuery::from_static("/")).into();
    headers.insert(HOST, AUTHORITY);
}

/// Takes out what goes no further.
fn strip(headers: &mut HeaderMap) {
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

fn late(_elapsed: Elapsed) -> String {
    "it did not answer within 65 s; whether a change was made is not known".to_owned()
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of map_err")]
fn lost(error: hyper::Error) -> String {
    format!("the link or the API server broke off, whether a change was made is not known: {error}")
}

/// A body that passes, with what has to last as long.
struct Passing<K> {
    body: Incoming,
    _kept: K,
}

impl<K: Unpin> HttpBody for Passing<K> {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        polled.map(|frame| frame.map(|frame| frame.map_err(std::io::Error::other)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}
