// SPDX-License-Identifier: Apache-2.0
//! What plugins and monitoring agents may ask of the node, on a Unix socket only root can open.
//!
//! A request becomes a question for Python and its answer a message: HTTP/2 and gRPC framing are hyper's
//! and tonic's, the messages are those of `proto/`.

use std::convert::Infallible;
use std::os::fd::RawFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use super::authority::PlainAuthority;
use super::proto::{devices, resources};
use crate::desk::{Desk, Unanswered};
use crate::grpc::methods::{parse, write};
use crate::runtime::Runtime;
use crate::{Error, Kind, Result};

const MAX_WAITING: usize = 64;
const MAX_CONNECTIONS: usize = 64;
const MAX_STREAMS: u32 = 16;
const MAX_REQUEST_BYTES: usize = 1 << 20;
const DEADLINE: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(60);
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// A question: the method's path, such as `/v1.PodResourcesLister/List`, and the request as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Which method.
    pub method: &'static str,
    /// The request.
    pub request: Vec<u8>,
}

type Answer = Result<Vec<u8>, Status>;

/// A gRPC server whose answers Python gives.
pub struct Server {
    desk: Arc<Desk<Asked, Answer>>,
    accepting: AbortHandle,
}

impl Server {
    /// Listens at `path`; what was there is replaced.
    pub fn listen(runtime: &Runtime, path: &Path) -> Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(named(path, &error));
            }
            _ => {}
        }
        let bound = runtime.block_on(async { UnixListener::bind(path) })?;
        let listener = bound.map_err(|error| named(path, &error))?;
        let closed_to_others = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(path, closed_to_others).map_err(|error| named(path, &error))?;
        let desk = Arc::new(Desk::new(MAX_WAITING, DEADLINE)?);
        let accepting = runtime.spawn(accept(listener, Arc::clone(&desk))).abort_handle();
        Ok(Self { desk, accepting })
    }

    /// Readable while questions wait.
    pub fn fileno(&self) -> RawFd {
        self.desk.fileno()
    }

    /// Up to `limit` questions.
    pub fn drain(&self, limit: usize) -> Vec<(u64, Asked)> {
        self.desk.drain(limit)
    }

    /// Answers a question: code 0 and JSON, or a gRPC code and why.
    pub fn answer(&self, id: u64, code: i32, body: Vec<u8>) {
        let answer = match code {
            0 => Ok(body),
            code => Err(Status::new(Code::from_i32(code), String::from_utf8_lossy(&body))),
        };
        self.desk.answer(id, answer);
    }

    /// Stops listening and refuses what comes.
    pub fn close(&self) {
        self.accepting.abort();
        self.desk.close();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close();
    }
}

fn named(path: &Path, error: &std::io::Error) -> Error {
    Error::new(Kind::Internal, format!("cannot listen at {}: {error}", path.display()))
}

async fn accept(listener: UnixListener, desk: Arc<Desk<Asked, Answer>>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((connection, _)) => {
                let desk = Arc::clone(&desk);
                tokio::spawn(async move {
                    serve(connection, desk).await;
                    drop(place);
                });
            }
            Err(error) => {
                log::debug!("a plugin's connection cannot be taken: {error}");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn serve(connection: UnixStream, desk: Arc<Desk<Asked, Answer>>) {
    let service = service_fn(move |request| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(Box::pin(route(request, &desk)).await) }
    });
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(KEEP_ALIVE)
        .serve_connection(TokioIo::new(PlainAuthority::new(connection)), service);
    if let Err(error) = served.await {
        log::debug!("a plugin's connection ended: {error}");
    }
}

macro_rules! routes {
    ($($path:literal => $messages:ident $request:ident -> $response:ident),+ $(,)?) => {
        async fn route(
            request: Request<Incoming>,
            desk: &Desk<Asked, Answer>,
        ) -> Response<tonic::body::Body> {
            match request.uri().path() {
                $($path => {
                    ask::<$messages::$request, $messages::$response>($path, request, desk).await
                })+
                other => Status::unimplemented(format!("no such method: {other}")).into_http(),
            }
        }
    };
}

routes! {
    "/v1beta1.Registration/Register" => devices RegisterRequest -> Empty,
    "/v1.PodResourcesLister/List" => resources ListPodResourcesRequest -> ListPodResourcesResponse,
    "/v1.PodResourcesLister/GetAllocatableResources" =>
        resources AllocatableResourcesRequest -> AllocatableResourcesResponse,
    "/v1.PodResourcesLister/Get" => resources GetPodResourcesRequest -> GetPodResourcesResponse,
}

async fn ask<Q, A>(
    method: &'static str,
    request: Request<Incoming>,
    desk: &Desk<Asked, Answer>,
) -> Response<tonic::body::Body>
where
    Q: prost::Message + Default + Serialize + 'static,
    A: prost::Message + DeserializeOwned + 'static,
{
    let service = tower::service_fn(|request: tonic::Request<Q>| async move {
        let request = write(method, request.get_ref())?;
        let answer = desk.ask(Asked { method, request }).await.map_err(|why| match why {
            Unanswered::Busy => Status::resource_exhausted("too many requests at once"),
            Unanswered::Closing => Status::unavailable("the node's agent is stopping"),
            Unanswered::Late => {
                Status::deadline_exceeded("the node's agent did not answer in time")
            }
        })?;
        let answer: A = parse(method, &answer?)?;
        Ok::<_, Status>(tonic::Response::new(answer))
    });
    let codec = ProstCodec::<A, Q>::default();
    let mut grpc = tonic::server::Grpc::new(codec).max_decoding_message_size(MAX_REQUEST_BYTES);
    grpc.unary(service, request).await
}
