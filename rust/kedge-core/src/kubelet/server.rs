// SPDX-License-Identifier: Apache-2.0
//! Requests in, Python's decisions, answers out.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, header::CONTENT_TYPE};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};

use super::logs::{Ended, LogReader, LogRequest};
use super::{local, stream};
use crate::desk::{Desk, Unanswered};
use crate::hub::tunnels::{Services, TunnelIo};
use crate::runtime::Runtime;
use crate::stats::{Stats, World};
use crate::{Error, Kind, Result};

/// The service's name on the link.
const SERVICE: &str = "kubelet";
/// Requests that wait for Python.
const MAX_WAITING: usize = 256;
const DEADLINE: Duration = Duration::from_secs(60);
const MAX_BODY: usize = 64 * 1024;
const MAX_HEAD: usize = 64 * 1024;

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What a client wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The HTTP method.
    pub method: String,
    /// As it came, still encoded.
    pub path: String,
    /// The part after `?`.
    pub query: String,
    /// Whether it wants to be upgraded.
    pub is_upgrade: bool,
    /// The whole body; empty when it wants to be upgraded.
    pub body: Bytes,
}

/// Python's decision.
#[derive(Debug)]
pub enum Reply {
    /// This is the answer.
    Answer {
        /// The HTTP status.
        status: u16,
        /// The `Content-Type` header.
        content_type: String,
        /// The whole body.
        body: Bytes,
    },
    /// The answer is a log.
    Log(Box<LogRequest>, LogEnd),
    /// The answer is at the runtime's streaming server.
    Stream(String),
    /// The answer is what pods and containers use.
    Stats(Box<World>),
}

/// When the log that is followed ends.
#[derive(Debug, Default)]
pub struct LogEnd(Arc<Ended>);

/// The kubelet server of a node.
#[derive(Clone)]
pub struct KubeletServer {
    inner: Arc<Inner>,
    runtime: Runtime,
}

struct Inner {
    desk: Desk<Asked, Reply>,
    followed: Mutex<HashMap<String, Vec<Weak<Ended>>>>,
    /// One reading at a time: many who ask at once must not keep the machine busy.
    stats: tokio::sync::Mutex<Arc<Stats>>,
}

impl Services for KubeletServer {
    fn serve(&self, service: &str, connection: TunnelIo) {
        if service == SERVICE {
            self.serve_on(connection);
        }
    }
}

impl KubeletServer {
    /// A server without connections.
    pub fn new(runtime: &Runtime) -> Result<Self> {
        let desk = Desk::new(MAX_WAITING, DEADLINE)?;
        let inner = Arc::new(Inner {
            desk,
            followed: Mutex::default(),
            stats: tokio::sync::Mutex::default(),
        });
        Ok(Self { inner, runtime: runtime.clone() })
    }

    /// Serves one connection in a task.
    pub(crate) fn serve_on(
        &self,
        connection: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) {
        self.runtime.spawn(self.serve_to_end(connection));
    }

    /// Serves on a socket at `path`, which root alone may open.
    pub fn listen(&self, path: &Path) -> Result<()> {
        local::listen(self, &self.runtime, path)
    }

    /// Serves one connection to its end.
    pub(super) fn serve_to_end(
        &self,
        connection: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let inner = Arc::clone(&self.inner);
        async move {
            let service = service_fn(move |request| {
                let inner = Arc::clone(&inner);
                async move { Ok::<_, Infallible>(Box::pin(inner.handle(request)).await) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .max_buf_size(MAX_HEAD)
                .serve_connection(TokioIo::new(connection), service)
                .with_upgrades();
            if let Err(error) = served.await {
                log::debug!("a connection to the kubelet server ended: {error}");
            }
        }
    }

    /// Readable while requests wait for Python.
    pub fn fileno(&self) -> RawFd {
        self.inner.desk.fileno()
    }

    /// Up to `limit` requests.
    pub fn drain(&self, limit: usize) -> Vec<(u64, Asked)> {
        self.inner.desk.drain(limit)
    }

    /// Answers a request.
    pub fn answer(&self, id: u64, status: u16, content_type: String, body: Bytes) {
        self.inner.desk.answer(id, Reply::Answer { status, content_type, body });
    }

    /// Answers with a log.
    pub fn answer_log(&self, id: u64, request: LogRequest) {
        let ended = Arc::new(Ended::default());
        if request.is_running {
            let mut followed = self.inner.followed.lock();
            followed.retain(|_, ends| {
                ends.retain(|end| end.strong_count() > 0);
                !ends.is_empty()
            });
            let ends = followed.entry(request.container.clone()).or_default();
            ends.push(Arc::downgrade(&ended));
        } else {
            ended.tell();
        }
        self.inner.desk.answer(id, Reply::Log(Box::new(request), LogEnd(ended)));
    }

    /// Answers with what is at `url`, a stream of the container runtime.
    pub fn answer_stream(&self, id: u64, url: String) {
        self.inner.desk.answer(id, Reply::Stream(url));
    }

    /// Answers with what the pods and containers of `world` use.
    pub fn answer_stats(&self, id: u64, world: World) {
        self.inner.desk.answer(id, Reply::Stats(Box::new(world)));
    }

    /// A container has ended: who follows its log reads the rest and ends too.
    pub fn log_ended(&self, container: &str) {
        let ends = self.inner.followed.lock().remove(container).unwrap_or_default();
        for end in ends.iter().filter_map(Weak::upgrade) {
            end.tell();
        }
    }

    /// Refuses what comes.
    pub fn close(&self) {
        self.inner.desk.close();
    }
}

impl Inner {
    async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        let answered = self.decide(request).await;
        answered.unwrap_or_else(|error| {
            let status = match error.kind {
                Kind::TooLarge => 413,
                Kind::NotFound => 404,
                Kind::Timeout => 503,
                Kind::Invalid => 400,
                _ => 500,
            };
            answer(status, "text/plain; charset=utf-8", format!("{}\n", error.message).into())
        })
    }

    async fn decide(&self, request: Request<Incoming>) -> Result<Response<Body>> {
        let mut asked = Asked {
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            is_upgrade: stream::is_upgrade(&request),
            body: Bytes::new(),
        };
        // A body may be wanted by the one who is asked next; then it must not be read here.
        let request = if asked.is_upgrade {
            Some(request)
        } else {
            asked.body = read_body(request).await?;
            None
        };
        let reply = self.desk.ask(asked).await.map_err(|why| {
            let what = match why {
                Unanswered::Busy => "too many requests at once",
                Unanswered::Closing => "the node's agent is stopping",
                Unanswered::Late => "the node's agent did not answer in time",
            };
            Error::new(Kind::Timeout, what)
        })?;
        match reply {
            Reply::Answer { status, content_type, body } => Ok(answer(status, &content_type, body)),
            Reply::Log(request, end) => log_answer(*request, end.0).await,
            Reply::Stats(world) => self.stats(world).await,
            Reply::Stream(url) => match request {
                Some(request) => stream::pass_on(request, &url).await,
                None => Err(Error::new(Kind::Invalid, "this request must be an upgrade")),
            },
        }
    }
}

impl Inner {
    async fn stats(&self, world: Box<World>) -> Result<Response<Body>> {
        let stats = self.stats.lock().await;
        let reader = Arc::clone(&stats);
        let read = tokio::task::spawn_blocking(move || reader.answer(&world)).await;
        let (content_type, body) =
            read.map_err(|error| Error::new(Kind::Internal, format!("stats: {error}")))??;
        Ok(answer(200, content_type, body.into()))
    }
}

async fn read_body(request: Request<Incoming>) -> Result<Bytes> {
    let collected = Limited::new(request.into_body(), MAX_BODY).collect().await;
    collected.map(http_body_util::Collected::to_bytes).map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            Error::new(Kind::TooLarge, format!("body: over {MAX_BODY} bytes"))
        } else {
            Error::new(Kind::Disconnected, format!("body: {error}"))
        }
    })
}

async fn log_answer(request: LogRequest, ended: Arc<Ended>) -> Result<Response<Body>> {
    let path = request.path.clone();
    let reader = LogReader::open(request, ended).await.map_err(|error| {
        let kind =
            if error.kind() == io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Internal };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Error::new(kind, format!("log {name}: {error}"))
    })?;
    let blocks = futures_util::stream::try_unfold(reader, |mut reader| async move {
        let block = reader.next().await?;
        Ok(block.map(|block| (Frame::data(block), reader)))
    });
    let mut response = Response::new(StreamBody::new(blocks).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
    Ok(response)
}

fn answer(status: u16, content_type: &str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() =
        http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(value) = content_type.parse() {
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    response
}

fn full(body: Bytes) -> Body {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}

/// A short text as a body.
pub(super) fn text(text: &'static str) -> Body {
    full(Bytes::from_static(text.as_bytes()))
}
