// SPDX-License-Identifier: Apache-2.0
//! A probe over HTTP or HTTPS, redirects and all.

use http::header::{ACCEPT, CONNECTION, HOST, LOCATION, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Request, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::unverified::unverified;
use super::{Checked, Probe, at, connect};

const MAX_REDIRECTS: usize = 10;
const MAX_BODY: usize = 10 * 1024;
const MAX_HEAD: usize = 16 * 1024;

pub(super) async fn check(probe: &Probe) -> Checked {
    let path =
        if probe.path.starts_with('/') { probe.path.clone() } else { format!("/{}", probe.path) };
    let start = format!("{}://{}{path}", probe.kind, at(&probe.host, probe.port));
    let mut uri: Uri = start.parse().map_err(|error| format!("path {path:?}: {error}"))?;
    for _ in 0..=MAX_REDIRECTS {
        let (status, location) = get(&uri, &probe.headers).await?;
        if !(300..400).contains(&status) || location.is_empty() {
            let healthy = probe.any_status || (200..400).contains(&status);
            return if healthy {
                Ok(())
            } else {
                Err(format!("HTTP probe failed with statuscode: {status}"))
            };
        }
        let next = resolve(&uri, &location)?;
        if next.host() != uri.host() {
            return Ok(());
        }
        uri = next;
    }
    Err(format!("HTTP probe failed: stopped after {MAX_REDIRECTS} redirects"))
}

fn resolve(base: &Uri, location: &str) -> std::result::Result<Uri, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("redirect to {location:?}: {error}");
    let found: Uri = location.parse().map_err(|error: http::uri::InvalidUri| wrong(&error))?;
    if found.scheme().is_some() {
        return Ok(found);
    }
    let mut parts = base.clone().into_parts();
    let path = if location.starts_with('/') {
        location.to_owned()
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{folder}/{location}")
    };
    parts.path_and_query =
        Some(path.parse().map_err(|error: http::uri::InvalidUri| wrong(&error))?);
    Uri::from_parts(parts).map_err(|error| wrong(&error))
}

async fn get(
    uri: &Uri,
    headers: &[(String, String)],
) -> std::result::Result<(u16, String), String> {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let is_https = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
    let stream = connect(host, port).await?;
    let request = request(uri, headers)?;
    if is_https {
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        let connector = TlsConnector::from(unverified()?);
        let tls = connector.connect(name, stream).await;
        exchange(tls.map_err(|error| format!("TLS: {error}"))?, request).await
    } else {
        exchange(stream, request).await
    }
}

fn request(
    uri: &Uri,
    headers: &[(String, String)],
) -> std::result::Result<Request<Empty<&'static [u8]>>, String> {
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let authority = uri.authority().map_or("", http::uri::Authority::as_str);
    let mut request = Request::builder().uri(path).body(Empty::new()).map_err(|e| e.to_string())?;
    let found = request.headers_mut();
    let fixed = [
        (HOST, authority),
        (USER_AGENT, "kube-probe/kedge"),
        (ACCEPT, "*/*"),
        (CONNECTION, "close"),
    ];
    for (name, value) in fixed {
        found.insert(name, HeaderValue::from_str(value).map_err(|error| error.to_string())?);
    }
    for (name, value) in headers {
        let wrong = |error: &dyn std::fmt::Display| format!("header {name:?}: {error}");
        let key = HeaderName::try_from(name).map_err(|error| wrong(&error))?;
        let value = HeaderValue::from_str(value).map_err(|error| wrong(&error))?;
        if [HOST, USER_AGENT, ACCEPT].contains(&key) {
            found.insert(key, value);
        } else {
            found.append(key, value);
        }
    }
    Ok(request)
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Empty<&'static [u8]>>,
) -> std::result::Result<(u16, String), String> {
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.max_buf_size(MAX_HEAD);
    let (mut sender, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let answering = async {
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let found = (answer.status().as_u16(), location.unwrap_or_default().to_owned());
        // What is beyond the limit, or lost, changes nothing: the status has been seen.
        let _ = Limited::new(answer.into_body(), MAX_BODY).collect().await;
        Ok(found)
    };
    let mut answering = std::pin::pin!(answering);
    tokio::select! {
        biased;
        found = &mut answering => found,
        // All of the answer may have come by then; if not, the one who waits for it is told.
        ended = connection => match ended {
            Ok(()) => answering.await,
            Err(error) => Err(error.to_string()),
        },
    }
}
