// SPDX-License-Identifier: Apache-2.0
//! Passing a request on to the runtime's streaming server on this machine, upgrades included.

use http::{Request, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HOST, UPGRADE};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::server::{Body, text};
use crate::{Error, Kind, Result};

/// Sends `request` to `url` and gives its answer; what is upgraded is carried in a task.
pub(super) async fn pass_on(mut request: Request<Incoming>, url: &str) -> Result<Response<Body>> {
    let uri: Uri = url.parse().map_err(|_error| wanted(url))?;
    if uri.scheme_str() != Some("http") {
        return Err(wanted(url));
    }
    let authority = uri.authority().ok_or_else(|| wanted(url))?.as_str().to_owned();
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let stream = TcpStream::connect(&authority).await.map_err(away)?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(away)?;
    // It ends with the request, or with what the request was upgraded to.
    tokio::spawn(connection.with_upgrades());
    let ours = hyper::upgrade::on(&mut request);
    let (mut parts, body) = request.into_parts();
    parts.uri = path.parse().map_err(|_error| wanted(url))?;
    parts.headers.insert(HOST, authority.parse().map_err(|_error| wanted(url))?);
    let answer = sender.send_request(Request::from_parts(parts, body)).await.map_err(away)?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(answer.map(|body| body.map_err(std::io::Error::other).boxed_unsync()));
    }
    let mut head = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
    for (name, value) in answer.headers() {
        head = head.header(name, value);
    }
    let theirs = hyper::upgrade::on(answer);
    tokio::spawn(async move {
        let Ok((ours, theirs)) = tokio::try_join!(ours, theirs) else { return };
        let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
        // Either end may go at any point; the other then sees its stream end.
        let _ =
            tokio::io::copy_bidirectional_with_sizes(&mut ours, &mut theirs, 16 << 10, 16 << 10)
                .await;
    });
    head.body(text("")).map_err(|error| Error::new(Kind::Internal, error.to_string()))
}

/// Whether the client wants to speak something else than HTTP.
pub(super) fn is_upgrade<T>(request: &Request<T>) -> bool {
    let headers = request.headers();
    let connection = headers.get(CONNECTION).and_then(|value| value.to_str().ok()).unwrap_or("");
    headers.contains_key(UPGRADE)
        && connection.split(',').any(|word| word.trim().eq_ignore_ascii_case("upgrade"))
}

fn wanted(url: &str) -> Error {
    // The rest of it is a secret.
    let start: String = url.chars().take(30).collect();
    Error::new(
        Kind::Runtime,
        format!("stream of the runtime: wanted http://ADDRESS/..., got: {start}..."),
    )
}

fn away(error: impl std::fmt::Display) -> Error {
    Error::new(Kind::Runtime, format!("the runtime's streaming server: {error}"))
}
