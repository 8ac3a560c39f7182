// SPDX-License-Identifier: Apache-2.0
//! Probes of small servers on the loopback.

use ::http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::grpc::SERVING;
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
        dns_names: &["elsewhere".into()],
        days: 1,
        server: true,
        ..pki::Issue::default()
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
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", HeaderValue::from_static("0"));
                    let data =
                        bytes::Bytes::from(vec![0, 0, 0, 0, 2, 8, u8::try_from(status).unwrap()]);
                    let body =
                        http_body_util::Full::new(data).with_trailers(async { Some(Ok(trailers)) });
                    let answer = Response::builder().header("content-type", "application/grpc");
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
