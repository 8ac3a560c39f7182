// SPDX-License-Identifier: Apache-2.0
//! The audit log: who asked what, and what was answered, as lines of JSON.
//!
//! `policy` says which requests are written down and how much of them, `event` makes their lines, `log` has the file. A server
//! without a policy has none of this: a request costs the look whether there is one. Every request passes here, also those that
//! never reach Python. Not here: whom a policy file may name and what it may say (Python's), what controllers write.

mod event;
mod log;
mod policy;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use http::header::{HeaderName, HeaderValue, USER_AGENT};
use http::{Extensions, HeaderMap, Request, Response};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;

use self::event::{Event, Outcome};
use self::log::Log;
use self::policy::{Asked, Level, Policy, Recording, Stage};
use super::body::{Body, full};
use super::handler::{Answered, Handler, header};
use super::path::{self, Route};
use super::policy::Identity;
use super::query::Query;
use crate::Result;

const ID: HeaderName = HeaderName::from_static("audit-id");
const FORWARDED: HeaderName = HeaderName::from_static("x-forwarded-for");
const REAL: HeaderName = HeaderName::from_static("x-real-ip");
/// Addresses of one request that are written down.
const MAX_ADDRESSES: usize = 16;
/// The longest id that a client may give.
const MAX_ID: usize = 64;
/// Answers up to this size are looked into for a `Status`.
const SMALL: u64 = 16 * 1024;
/// Longer answers are not written down.
const LARGE: usize = 10 * 1024 * 1024;

/// What the server is told at its start.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    policy: Policy,
    log: log::Settings,
}

/// Where a request came from; with it, if there is an audit log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remote(pub(super) SocketAddr);

/// What whoever answers a request tells of it; with the request, if that is written down.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    body: Bytes,
    allowed: bool,
}

impl Seen {
    /// Tells that its sender may.
    pub(super) fn allowed(extensions: &Extensions) {
        if let Some(seen) = extensions.get::<Self>() {
            seen.0.lock().allowed = true;
        }
    }

    /// Tells its body.
    pub(super) fn body(extensions: &Extensions, body: &Bytes) {
        if let Some(seen) = extensions.get::<Self>() {
            seen.0.lock().body = body.clone();
        }
    }
}

/// Writes requests down.
pub(super) struct Audit {
    policy: Policy,
    log: Arc<Log>,
}

impl Audit {
    /// Opens the log.
    pub(super) fn open(config: Config) -> Result<Self> {
        Ok(Self { policy: config.policy, log: Arc::new(Log::open(config.log)?) })
    }

    /// Has `handler` answer a request, and writes down what the policy says.
    pub(super) async fn follow(
        &self,
        handler: &Handler,
        mut request: Request<Incoming>,
        peer: Option<&Identity>,
    ) -> Answered {
        let Some((event, recording)) = self.begin(handler, &request, peer) else {
            return Box::pin(handler.answered(request, peer)).await;
        };
        let seen = Seen::default();
        request.extensions_mut().insert(seen.clone());
        if recording.has(Stage::RequestReceived) {
            self.log.write(event.line(Stage::RequestReceived, event.received, None)).await;
        }
        let answered = Box::pin(handler.answered(request, peer)).await;
        let id = HeaderValue::from_str(&event.id).ok();
        let mut answered = self.end(event, &recording, &seen, answered).await;
        let (Answered::Whole(response) | Answered::Watch(response)) = &mut answered;
        if let Some(id) = id {
            response.headers_mut().insert(ID, id);
        }
        answered
    }

    fn begin(
        &self,
        handler: &Handler,
        request: &Request<Incoming>,
        peer: Option<&Identity>,
    ) -> Option<(Event, Recording)> {
        let (uri, headers) = (request.uri(), request.headers());
        let who = handler.authenticate(headers, peer).ok();
        let meant = handler.sender(headers, peer).ok().filter(|meant| Some(meant) != who.as_ref());
        let target = match path::parse(uri.path()) {
            Ok(Route::Resource(target)) if !handler.is_for_kubelet(request) => Some(target),
            _ => None,
        };
        let query = Query::parse(uri.query().unwrap_or_default());
        let is_watch = query.and_then(|query| query.flag("watch")).unwrap_or(false);
        let known = target.as_ref().and_then(|target| target.verb(request.method(), is_watch));
        let method = request.method().as_str().to_ascii_lowercase();
        let verb = known.map_or(method, str::to_owned);
        let asked =
            Asked { who: who.as_ref(), verb: &verb, path: uri.path(), target: target.as_ref() };
        let recording = self.policy.recording(asked)?;
        let event = Event {
            level: recording.level,
            id: id(headers),
            uri: uri.path_and_query().map_or_else(String::new, ToString::to_string),
            addresses: addresses(headers, request.extensions()),
            agent: header(headers, &USER_AGENT),
            received: OffsetDateTime::now_utc(),
            omit_managed_fields: recording.omit_managed_fields,
            verb,
            who,
            meant,
            target,
        };
        Some((event, recording))
    }

    async fn end(
        &self,
        event: Event,
        recording: &Recording,
        seen: &Seen,
        answered: Answered,
    ) -> Answered {
        match answered {
            Answered::Whole(response) => {
                let mut outcome = outcome(seen, event.level, response.status().as_u16());
                let response = look(response, event.level, &mut outcome).await;
                if recording.has(Stage::ResponseComplete) {
                    let now = OffsetDateTime::now_utc();
                    let line = event.line(Stage::ResponseComplete, now, Some(&outcome));
                    self.log.write(line).await;
                }
                Answered::Whole(response)
            }
            Answered::Watch(response) => {
                let outcome = outcome(seen, event.level, response.status().as_u16());
                if recording.has(Stage::ResponseStarted) {
                    let now = OffsetDateTime::now_utc();
                    self.log.write(event.line(Stage::ResponseStarted, now, Some(&outcome))).await;
                }
                if !recording.has(Stage::ResponseComplete) {
                    return Answered::Watch(response);
                }
                let log = Arc::clone(&self.log);
                Answered::Watch(
                    response.map(|body| Ending { body, event, outcome, log }.boxed_unsync()),
                )
            }
        }
    }
}

fn outcome(seen: &Seen, level: Level, code: u16) -> Outcome {
    let told = seen.0.lock();
    let allowed = if told.allowed { Some(true) } else { (code == 403).then_some(false) };
    let wanted = level >= Level::Request && !told.body.is_empty();
    let request = wanted.then(|| serde_json::from_slice(&told.body).ok()).flatten();
    Outcome { code, allowed, request, ..Outcome::default() }
}

/// Takes out of an answer what is written down; the answer goes on as it was.
async fn look(response: Response<Body>, level: Level, outcome: &mut Outcome) -> Response<Body> {
    let is_wanted = level == Level::RequestResponse;
    let (head, mut body) = response.into_parts();
    if !is_wanted && body.size_hint().exact().is_none_or(|length| length > SMALL) {
        return Response::from_parts(head, body);
    }
    let mut held = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let broken = match frame.map(Frame::into_data) {
            Ok(Ok(data)) => {
                held.extend_from_slice(&data);
                None
            }
            Ok(Err(_trailers)) => None,
            Err(error) => Some(error),
        };
        if broken.is_some() || held.len() > LARGE {
            outcome.is_cut = true;
            let first = broken.map_or_else(|| Ok(Frame::data(held.freeze())), Err);
            let whole = stream::once(std::future::ready(first)).chain(BodyStream::new(body));
            return Response::from_parts(head, StreamBody::new(whole).boxed_unsync());
        }
    }
    let bytes = held.freeze();
    if let Ok(object) = serde_json::from_slice::<Value>(&bytes) {
        if object.get("kind").is_some_and(|kind| kind == "Status") {
            outcome.status = Some(object.clone());
        }
        outcome.response = is_wanted.then_some(object);
    }
    Response::from_parts(head, full(bytes))
}

/// A stream that is written down when it ends, in whatever way.
struct Ending {
    body: Body,
    event: Event,
    outcome: Outcome,
    log: Arc<Log>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let now = OffsetDateTime::now_utc();
        let line = self.event.line(Stage::ResponseComplete, now, Some(&self.outcome));
        self.log.write_later(line);
    }
}

impl HttpBody for Ending {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The client's own id of its request, or a new one.
fn id(headers: &HeaderMap) -> String {
    let given = header(headers, &ID);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !given.is_empty() && given.len() <= MAX_ID && given.bytes().all(is_plain) {
        return given;
    }
    let mut bytes = [0_u8; 16];
    if ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes).is_err() {
        return String::new();
    }
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let mut text = format!("{:032x}", u128::from_be_bytes(bytes));
    for position in [20, 16, 12, 8] {
        text.insert(position, '-');
    }
    text
}

/// Where a request comes from, as proxies on the way say it, and the last of them.
fn addresses(headers: &HeaderMap, extensions: &Extensions) -> Vec<String> {
    let said = [header(headers, &FORWARDED), header(headers, &REAL)].join(",");
    let said = said.split(',').filter_map(|text| text.trim().parse::<IpAddr>().ok());
    let last = extensions.get::<Remote>().map(|remote| remote.0.ip().to_canonical());
    let mut found: Vec<String> = Vec::new();
    for address in said.take(MAX_ADDRESSES).chain(last) {
        let text = address.to_string();
        if !found.contains(&text) {
            found.push(text);
        }
    }
    found
}
