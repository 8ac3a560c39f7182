// SPDX-License-Identifier: Apache-2.0
//! Single requests over a bounded number of kept connections.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::connect::{Connector, Options, Sender};
use crate::{Error, Kind, Result};

/// Requests at a time, and so connections; watches have their own.
const CONNECTIONS: usize = 32;
/// Answers larger than this are given up.
const ANSWER_BYTES: usize = 128 * 1024 * 1024;
const AGENT: &str = concat!("kedge/", env!("CARGO_PKG_VERSION"));

/// A client; clones share its connections.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    connector: Connector,
    idle: Mutex<Vec<Sender>>,
    permits: Semaphore,
    authorization: Mutex<Option<HeaderValue>>,
}

/// A request to send.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The HTTP method.
    pub method: Method,
    /// Path and query, from `/api` or `/apis` on.
    pub path: String,
    /// Of the body; empty when there is none.
    pub content_type: String,
    /// The whole body.
    pub body: Bytes,
}

/// What the server said.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The whole body.
    pub body: Bytes,
}

impl Ask {
    /// A request; `method` is a word as HTTP has it.
    pub fn new(method: &str, path: String, content_type: String, body: Vec<u8>) -> Result<Self> {
        let method = method.parse().map_err(|_error| {
            Error::new(Kind::Invalid, format!("method: not an HTTP method: {method:?}"))
        })?;
        Ok(Self { method, path, content_type, body: body.into() })
    }

    /// A GET of `path`.
    pub fn get(path: String) -> Self {
        Self { method: Method::GET, path, content_type: String::new(), body: Bytes::new() }
    }
}

impl Client {
    /// A client of the server in `options`, with a bearer `token` unless that is empty.
    pub fn new(options: &Options, token: &str) -> Result<Self> {
        let shared = Shared {
            connector: Connector::new(options)?,
            idle: Mutex::default(),
            permits: Semaphore::new(CONNECTIONS),
            authorization: Mutex::default(),
        };
        let client = Self { shared: Arc::new(shared) };
        client.set_token(token)?;
        Ok(client)
    }

    /// Replaces the bearer token; empty means none.
    pub fn set_token(&self, token: &str) -> Result<()> {
        let value = if token.is_empty() {
            None
        } else {
            let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_shown| {
                Error::new(Kind::Invalid, "token: holds characters that a header cannot")
            })?;
            value.set_sensitive(true);
            Some(value)
        };
        *self.shared.authorization.lock() = value;
        Ok(())
    }

    /// Sends `ask` and reads the whole answer, all within `allowed`.
    pub async fn request(&self, ask: Ask, allowed: Duration) -> Result<Answer> {
        timeout(allowed, self.exchange(ask)).await.map_err(|_elapsed| {
            let message = format!("no answer from {} in time", self.shared.connector.authority);
            Error::new(Kind::Timeout, message)
        })?
    }

    /// Sends `ask` on a connection of its own and hands over the answer while it comes.
    pub(super) async fn open(&self, ask: Ask) -> Result<Response<Incoming>> {
        let mut sender = self.shared.connector.connect().await?;
        let request = self.build(ask)?;
        let response = sender.send_request(request).await.map_err(|error| self.lost(&error))?;
        Ok(response)
    }

    async fn exchange(&self, ask: Ask) -> Result<Answer> {
        let _permit = self
            .shared
            .permits
            .acquire()
            .await
            .map_err(|_closed| Error::new(Kind::Closed, "the client is closed"))?;
        let mut request = self.build(ask)?;
        // A kept connection may have been closed by the server: then nothing was sent, and the
        // next one, or a fresh one, takes the request.
        loop {
            let kept = self.kept();
            let fresh = kept.is_none();
            let mut sender = match kept {
                Some(sender) => sender,
                None => self.shared.connector.connect().await?,
            };
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let answer = self.collect(response).await?;
                    self.keep(sender).await;
                    return Ok(answer);
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) if !fresh => request = unsent,
                    _ => return Err(self.lost(error.error())),
                },
            }
        }
    }

    fn kept(&self) -> Option<Sender> {
        let mut idle = self.shared.idle.lock();
        std::iter::from_fn(|| idle.pop()).find(Sender::is_ready)
    }

    async fn keep(&self, mut sender: Sender) {
        if sender.ready().await.is_ok() {
            self.shared.idle.lock().push(sender);
        }
    }

    fn build(&self, ask: Ask) -> Result<Request<Full<Bytes>>> {
        let connector = &self.shared.connector;
        let mut request = Request::builder()
            .method(ask.method)
            .uri(format!("{}{}", connector.prefix, ask.path))
            .header(HOST, &connector.authority)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, AGENT);
        if !ask.content_type.is_empty() {
            request = request.header(CONTENT_TYPE, ask.content_type);
        }
        if let Some(value) = self.shared.authorization.lock().clone() {
            request = request.header(AUTHORIZATION, value);
        }
        request
            .body(Full::new(ask.body))
            .map_err(|error| Error::new(Kind::Invalid, format!("request: {error}")))
    }

    async fn collect(&self, response: Response<Incoming>) -> Result<Answer> {
        let status = response.status().as_u16();
        let body = whole(response.into_body(), ANSWER_BYTES).await?;
        Ok(Answer { status, body })
    }

    fn lost(&self, error: &hyper::Error) -> Error {
        let message = format!("connection to {} lost: {error}", self.shared.connector.authority);
        Error::new(Kind::Disconnected, message)
    }
}

/// A whole body of at most `limit` bytes.
pub(super) async fn whole(mut body: Incoming, limit: usize) -> Result<Bytes> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Error::new(Kind::Disconnected, format!("the answer broke off: {error}"))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > limit {
            let message = format!("answer larger than {limit} bytes");
            return Err(Error::new(Kind::TooLarge, message));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}
