// SPDX-License-Identifier: Apache-2.0
//! The connection: one HTTP/2 channel that comes back by itself, unary calls and streams on it.

use std::time::Duration;

use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::client::Grpc;
use tonic::codec::Streaming;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::MAX_MESSAGE_BYTES;
use crate::{Error, Kind, Result};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a call that failed leaves: the gRPC code and the server's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// A gRPC status code, never 0.
    pub code: i32,
    /// For a person.
    pub message: String,
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let code = if is_transport(&status) { Code::Unavailable } else { status.code() };
        Self { code: code as i32, message: full_message(&status) }
    }
}

/// A connection to one server; clones share it.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
}

impl Client {
    /// A client of `endpoint`, which is `unix:///path` or a path. Must run on a tokio runtime;
    /// connects at the first call.
    pub fn new(endpoint: &str) -> Result<Self> {
        let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint).to_owned();
        if !path.starts_with('/') {
            let message = format!("endpoint: wanted unix:///PATH, got: {endpoint}");
            return Err(Error::new(Kind::Invalid, message));
        }
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        // The name is never looked up: it is what the Host header says.
        let channel = Endpoint::from_static("http://localhost")
            .connect_timeout(CONNECT_TIMEOUT)
            .connect_with_connector_lazy(connector);
        Ok(Self { channel })
    }

    pub(crate) async fn unary<Q, A>(
        &self,
        path: &'static str,
        request: Q,
        timeout: Duration,
    ) -> Result<A, Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut grpc = self.grpc().await?;
        let mut request = Request::new(request);
        // The caller keeps the deadline; this one only tells the server to give up soon after.
        request.set_timeout(timeout + Duration::from_secs(1));
        let codec = ProstCodec::<Q, A>::default();
        let answer = grpc.unary(request, PathAndQuery::from_static(path), codec).await?;
        Ok(answer.into_inner())
    }

    pub(crate) async fn stream<Q, A>(
        &self,
        path: &'static str,
        request: Q,
    ) -> Result<Streaming<A>, Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut grpc = self.grpc().await?;
        let codec = ProstCodec::<Q, A>::default();
        let path = PathAndQuery::from_static(path);
        Ok(grpc.server_streaming(Request::new(request), path, codec).await?.into_inner())
    }

    async fn grpc(&self) -> Result<Grpc<Channel>, Status> {
        let mut grpc = Grpc::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let ready = grpc.ready().await;
        ready.map_err(|error| Status::unavailable(chain(&error)))?;
        Ok(grpc)
    }
}

/// Waits for `done`, the answer of `method`, for at most `timeout`.
pub(crate) async fn within<A>(
    method: &str,
    timeout: Duration,
    done: impl Future<Output = Result<A, Status>>,
) -> Result<A, Failure> {
    match tokio::time::timeout(timeout, done).await {
        Ok(answer) => answer.map_err(Failure::from),
        Err(_elapsed) => {
            let message = format!("{method}: no answer within {} ms", timeout.as_millis());
            Err(Failure { code: Code::DeadlineExceeded as i32, message })
        }
    }
}

fn is_transport(status: &Status) -> bool {
    let source = std::error::Error::source(status);
    source.is_some_and(|error| error.is::<tonic::transport::Error>() || error.is::<hyper::Error>())
}

fn full_message(status: &Status) -> String {
    match std::error::Error::source(status) {
        Some(source) => format!("{}: {}", status.message(), chain(source)),
        None => status.message().to_owned(),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(inner) = next {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        next = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_endpoint_that_is_no_unix_path_is_refused_with_what_was_wanted() {
        let error = Client::new("tcp://127.0.0.1:1").map(|_| ()).unwrap_err();
        assert_eq!(error.kind, Kind::Invalid);
        assert!(error.message.contains("unix:///PATH"), "{}", error.message);
    }
}
