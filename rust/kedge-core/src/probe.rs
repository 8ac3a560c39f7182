// SPDX-License-Identifier: Apache-2.0
//! Network probes of containers, as the kubelet makes them: HTTP, HTTPS, TCP and gRPC, by ticket.
//!
//! HTTP: 200 to 399 is healthy; redirects are followed on the same host and count as healthy to
//! another (Kubernetes `pkg/probe/http`). A probe of HTTPS does not verify the certificate: it asks
//! whether the container answers, not who it is. gRPC: `grpc.health.v1.Health/Check` without TLS.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, CONNECTION, HOST, LOCATION, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Request, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use tonic::client::Grpc;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

use crate::bridge::Inbox;
use crate::runtime::Runtime;
use crate::{Error, Kind, Result};

const MAX_PROBES: usize = 256;
const MAX_WAITING: usize = 1024;
const MAX_REDIRECTS: usize = 10;
const MAX_BODY: usize = 10 * 1024;
const MAX_HEAD: usize = 16 * 1024;

/// What to ask.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// `http`, `https`, `tcp` or `grpc`.
    pub kind: String,
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// HTTP: path and query. gRPC: the service.
    #[serde(default)]
    pub path: String,
    /// HTTP: further headers.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// HTTP: any answer is a good one, as for the hooks of a container's life.
    #[serde(default)]
    pub any_status: bool,
}

/// Ticket, whether it is healthy, what to show if not.
pub type Row = (u64, bool, String);

/// Runs probes; their results come out of the inbox.
pub struct Probes {
    runtime: Runtime,
    inbox: Arc<Inbox<Row>>,
    slots: Arc<Semaphore>,
}

impl Probes {
    /// Probes that run on `runtime`.
    pub fn new(runtime: &Runtime) -> Result<Self> {
        Ok(Self {
            runtime: runtime.clone(),
            inbox: Arc::new(Inbox::new(MAX_WAITING)?),
            slots: Arc::new(Semaphore::new(MAX_PROBES)),
        })
    }

    /// Where results come out.
    pub fn inbox(&self) -> &Inbox<Row> {
        &self.inbox
    }

    /// Starts a probe (JSON of a [`Probe`]); its row comes under `ticket`.
    pub fn start(&self, ticket: u64, probe: &str, timeout: Duration) -> Result<()> {
        let probe: Probe = serde_json::from_str(probe)
            .map_err(|error| Error::new(Kind::Invalid, format!("probe: {error}")))?;
        if self.inbox.is_closed() || self.runtime.is_closed() {
            return Err(Error::new(Kind::Closed, "the prober is closed"));
        }
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            let message = format!("{MAX_PROBES} probes are under way already");
            return Err(Error::new(Kind::Runtime, message));
        };
        let inbox = Arc::clone(&self.inbox);
        self.runtime.spawn(async move {
            let result = match tokio::time::timeout(timeout, Box::pin(check(&probe))).await {
                Ok(result) => result,
                Err(_) => Err(format!("no answer within {} s", timeout.as_secs_f32())),
            };
            let (healthy, text) =
                result.map_or_else(|text| (false, text), |()| (true, String::new()));
            inbox.push_unbounded((ticket, healthy, text));
            drop(slot);
        });
        Ok(())
    }

    /// Refuses further probes.
    pub fn close(&self) {
        self.inbox.close();
    }
}

type Checked = std::result::Result<(), String>;

async fn check(probe: &Probe) -> Checked {
    match probe.kind.as_str() {
        "tcp" => connect(&probe.host, probe.port).await.map(drop),
        "http" | "https" => http(probe).await,
        "grpc" => grpc(probe).await,
        other => Err(format!("probe: wanted http, https, tcp or grpc, got: {other}")),
    }
}

async fn connect(host: &str, port: u16) -> std::result::Result<TcpStream, String> {
    TcpStream::connect((host, port)).await.map_err(|error| format!("{}: {error}", at(host, port)))
}

fn at(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

// HTTP

async fn http(probe: &Probe) -> Checked {
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

// TLS that does not ask who answers

#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn unverified() -> std::result::Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

// gRPC

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;

async fn grpc(probe: &Probe) -> Checked {
    let address = format!("http://{}", at(&probe.host, probe.port));
    let endpoint = Endpoint::from_shared(address).map_err(|error| error.to_string())?;
    let stream = connect(&probe.host, probe.port).await?;
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_: Uri| {
        let stream = stream.take();
        async move { stream.ok_or_else(|| std::io::Error::other("the connection was lost")) }
    });
    let channel = endpoint.connect_with_connector(connector).await.map_err(|e| e.to_string())?;
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|error| error.to_string())?;
    let request = tonic::Request::new(HealthCheckRequest { service: probe.path.clone() });
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let answer = client
        .unary(request, path, codec)
        .await
        .map_err(|status| format!("gRPC probe failed: {}: {}", status.code(), status.message()))?;
    match answer.into_inner().status {
        SERVING => Ok(()),
        other => Err(format!("service unhealthy (responded with {:?})", name(other))),
    }
}

fn name(status: i32) -> String {
    let names = HashMap::from([(0, "UNKNOWN"), (2, "NOT_SERVING"), (3, "SERVICE_UNKNOWN")]);
    names.get(&status).map_or_else(|| status.to_string(), |name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::pem::PemObject as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::pki;

    fn probe(kind: &str, port: u16, path: &str) -> Probe {
        let headers = vec![("X-Test".to_owned(), "1".to_owned())];
        let host = "127.0.0.1".into();
        Probe { kind: kind.into(), host, port, path: path.into(), headers, any_status: false }
    }

    async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, port: u16) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let line = match path.as_str() {
            "/ok" => "200 OK\r\n".to_owned(),
            "/here" => "302 Found\r\nlocation: ok\r\n".to_owned(),
            "/gone" => "302 Found\r\nlocation: /bad\r\n".to_owned(),
            "/there" => format!("301 Moved\r\nlocation: http://127.0.0.2:{port}/bad\r\n"),
            "/loop" => "302 Found\r\nlocation: /loop\r\n".to_owned(),
            _ => "503 No\r\n".to_owned(),
        };
        let body = "x".repeat(50_000);
        let text = format!("HTTP/1.1 {line}content-length: {}\r\n\r\n{body}", body.len());
        // The prober need not read all of it.
        let _ = stream.write_all(text.as_bytes()).await;
        head
    }

    async fn serve(tls: Option<tokio_rustls::TlsAcceptor>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let tls = tls.clone();
                tokio::spawn(async move {
                    let head = match tls {
                        Some(tls) => answer(tls.accept(stream).await.unwrap(), port).await,
                        None => answer(stream, port).await,
                    };
                    assert!(head.contains("x-test: 1\r\n"), "{head}");
                });
            }
        });
        port
    }

    async fn results(kind: &str, port: u16) {
        assert_eq!(check(&probe(kind, port, "/ok")).await, Ok(()));
        assert_eq!(check(&probe(kind, port, "here")).await, Ok(()));
        let failed = Err("HTTP probe failed with statuscode: 503".to_owned());
        assert_eq!(check(&probe(kind, port, "/gone")).await, failed);
        assert_eq!(check(&probe(kind, port, "/there")).await, Ok(()), "another host's affair");
        let error = check(&probe(kind, port, "/loop")).await.unwrap_err();
        assert!(error.contains("10 redirects"), "{error}");
    }

    #[tokio::test]
    async fn an_answer_from_200_to_399_is_healthy_and_redirects_are_followed_at_home() {
        results("http", serve(None).await).await;
    }

    #[tokio::test]
    async fn a_server_with_a_certificate_of_its_own_making_is_asked_over_tls() {
        let ca = pki::create_ca("of its own", 1).unwrap();
        let issue = pki::Issue {
            common_name: "x",
            organizations: &[],
            dns_names: &["elsewhere".into()],
            ip_addresses: &[],
            uris: &[],
            days: 1,
            server: true,
            client: false,
        };
        let (certificate, key) = pki::issue(&ca.0, &ca.1, &issue).unwrap();
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
            .collect::<std::result::Result<Vec<_>, _>>();
        let key = rustls_pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.unwrap(), key)
            .unwrap();
        let port = serve(Some(tokio_rustls::TlsAcceptor::from(Arc::new(config)))).await;
        let mut probe = probe("https", port, "/ok");
        assert_eq!(check(&probe).await, Ok(()));
        probe.path = "/bad".into();
        assert_eq!(check(&probe).await, Err("HTTP probe failed with statuscode: 503".to_owned()));
        probe.kind = "http".into();
        assert!(check(&probe).await.is_err(), "TLS only");
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_is_not_healthy() {
        let port = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap().port()
        };
        for kind in ["tcp", "http", "https", "grpc"] {
            let error = check(&probe(kind, port, "/")).await.unwrap_err();
            assert!(error.contains("refused"), "{kind}: {error}");
        }
        let port = serve(None).await;
        assert_eq!(check(&probe("tcp", port, "")).await, Ok(()));
    }

    #[test]
    fn one_that_never_answers_is_left_at_its_deadline() {
        let runtime = Runtime::new(1).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let probes = Probes::new(&runtime).unwrap();
        let text = format!(r#"{{"kind":"http","host":"127.0.0.1","port":{port}}}"#);
        probes.start(7, &text, Duration::from_millis(50)).unwrap();
        for _ in 0..1000 {
            if let Some(row) = probes.inbox().drain(1).pop() {
                assert_eq!(row, (7, false, "no answer within 0.05 s".to_owned()));
                return;
            }
            #[allow(clippy::disallowed_methods, reason = "the test thread waits for others")]
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("no result came");
    }

    #[test]
    fn what_is_no_probe_is_refused() {
        let probes = Probes::new(&Runtime::new(1).unwrap()).unwrap();
        let error = probes.start(1, r#"{"kind":"http"}"#, Duration::ZERO).unwrap_err();
        assert!(error.message.contains("missing field `host`"), "{error}");
    }

    #[tokio::test]
    async fn a_grpc_health_service_is_asked() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            for status in [SERVING, 2] {
                let (stream, _) = listener.accept().await.unwrap();
                let service = hyper::service::service_fn(
                    move |request: Request<hyper::body::Incoming>| async move {
                        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                        let mut trailers = http::HeaderMap::new();
                        trailers.insert("grpc-status", HeaderValue::from_static("0"));
                        let data = bytes::Bytes::from(vec![
                            0,
                            0,
                            0,
                            0,
                            2,
                            8,
                            u8::try_from(status).unwrap(),
                        ]);
                        let body = http_body_util::Full::new(data)
                            .with_trailers(async { Some(Ok(trailers)) });
                        let answer =
                            http::Response::builder().header("content-type", "application/grpc");
                        Ok::<_, std::convert::Infallible>(answer.body(body).unwrap())
                    },
                );
                let executor = hyper_util::rt::TokioExecutor::new();
                let _ = hyper::server::conn::http2::Builder::new(executor)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            }
        });
        assert_eq!(check(&probe("grpc", port, "x")).await, Ok(()));
        let error = check(&probe("grpc", port, "x")).await.unwrap_err();
        assert_eq!(error, "service unhealthy (responded with \"NOT_SERVING\")");
    }
}
