// SPDX-License-Identifier: Apache-2.0
//! The whole server over loopback with HTTP/2, as kubectl speaks it.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::ApiServer;
use super::tls::{certificates, roots};
use crate::pki::{self, Issue};
use crate::runtime::Runtime;
use crate::store::{Expect, Key, Mode, Op, Options, Store};

type Sender = SendRequest<Empty<Bytes>>;

struct Served {
    server: ApiServer,
    store: Store,
    ca: (String, String),
    runtime: Runtime,
    _directory: tempfile::TempDir,
}

fn issued(ca: &(String, String), name: &str, group: &str, server: bool) -> (String, String) {
    let issue = Issue {
        common_name: name,
        organizations: &[group.to_owned()],
        ip_addresses: &["127.0.0.1".to_owned()],
        days: 1,
        server,
        client: !server,
        ..Issue::default()
    };
    pki::issue(&ca.0, &ca.1, &issue).unwrap()
}

fn serve() -> Served {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { mode: Mode::Primary, durable: false, ..Options::default() };
    let store = Store::open(directory.path(), options).unwrap();
    let ca = pki::create_ca("test", 1).unwrap();
    let (certificate, key) = issued(&ca, "server", "servers", true);
    let config = json!({
        "listen": "127.0.0.1:0",
        "certificate": certificate,
        "key": key,
        "client_ca": ca.0,
        "resources": [{"group": "", "version": "v1", "kind": "Pod", "resource": "pods",
            "namespaced": true}],
        "node_domain": "nodes.example",
        "policy": [
            {"groups": ["system:masters"], "verbs": ["*"], "resources": ["*"]},
            {"groups": ["scrapers"], "verbs": ["get"], "resources": ["nodes/metrics", "nodes/pods"]},
            {"groups": ["runners"], "verbs": ["get"], "resources": ["nodes/proxy"]},
        ],
    });
    let runtime = Runtime::new(2).unwrap();
    let server =
        ApiServer::start(&runtime, store.clone(), &config.to_string(), None, None).unwrap();
    Served { server, store, ca, runtime, _directory: directory }
}

impl Served {
    async fn connect(&self, group: &str) -> Sender {
        let client = issued(&self.ca, "somebody", group, false);
        let key = PrivateKeyDer::from_pem_slice(client.1.as_bytes()).unwrap();
        let mut tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots(&self.ca.0).unwrap())
            .with_client_auth_cert(certificates(&client.0).unwrap(), key)
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let tcp = TcpStream::connect(self.server.address()).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let stream = TlsConnector::from(Arc::new(tls)).connect(name, tcp).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        // The connection's end shows in the requests on it.
        tokio::spawn(async move { drop(connection.await) });
        sender
    }

    fn put(&self, kind: &str, namespace: &str, name: &str) {
        let metadata = json!({"name": name, "namespace": namespace});
        let value = json!({"apiVersion": "v1", "kind": kind, "metadata": metadata});
        let key = Key::new("", &format!("{}s", kind.to_lowercase()), namespace, name);
        let op = Op::Put { key, value: value.to_string().into(), expect: Expect::Any };
        self.store.commit(vec![op]).unwrap();
    }
}

fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("https://127.0.0.1{path}")).body(Empty::new()).unwrap()
}

/// The status of an answer, and its message if it is a refusal.
async fn told(sender: &mut Sender, request: Request<Empty<Bytes>>) -> (u16, String) {
    let answer = sender.send_request(request).await.unwrap();
    let code = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let status: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    (code, status["message"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn http2_carries_many_requests_and_a_watch_on_one_connection() {
    let served = serve();
    served.put("Pod", "d", "a");
    let answers = served.runtime.block_on(async {
        let mut sender = served.connect("system:masters").await;
        let watch = sender.send_request(get("/api/v1/pods?watch=1")).await.unwrap();
        let mut lines = watch.into_body();
        let first = lines.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(first.starts_with(br#"{"type":"ADDED""#));
        let asked: Vec<_> = (0..50)
            .map(|_| tokio::spawn(sender.send_request(get("/api/v1/namespaces/d/pods/a"))))
            .collect();
        let mut statuses = Vec::new();
        for one in asked {
            statuses.push(one.await.unwrap().unwrap().status());
        }
        statuses
    });
    assert_eq!(answers.unwrap(), vec![StatusCode::OK; 50]);
    served.server.close();
    served.runtime.close();
}

#[test]
fn http2_answers_head_with_a_head_alone() {
    let served = serve();
    served.put("Pod", "d", "a");
    for (path, code) in [("/healthz", 200), ("/api/v1/namespaces/d/pods/a", 200), ("/x", 403)] {
        let request = Request::head(format!("https://127.0.0.1{path}")).body(Empty::new()).unwrap();
        let body = served.runtime.block_on(async {
            let answer =
                served.connect("system:masters").await.send_request(request).await.unwrap();
            (answer.status().as_u16(), answer.into_body().collect().await.unwrap().to_bytes())
        });
        assert_eq!(body.unwrap(), (code, Bytes::new()), "{path}");
    }
    served.server.close();
    served.runtime.close();
}

#[test]
fn a_node_is_asked_by_name_with_the_kubelets_rights() {
    let served = serve();
    served.put("Node", "", "edge-1");
    let of = |host: &str, path: &str| format!("https://{host}.nodes.example:6443{path}");
    let away = "node edge-1 cannot be reached: no cloud has been set up yet";
    let metrics = "cannot get resource \"nodes/metrics\"";
    let runs = "cannot create resource \"nodes/proxy\"";
    for (group, method, uri, code, message) in [
        ("scrapers", "GET", of("edge-1", "/metrics/resource"), 503, away),
        ("scrapers", "GET", of("EDGE-1", "/pods"), 503, away),
        ("scrapers", "GET", of("edge-2", "/metrics"), 404, "nodes \"edge-2\" not found"),
        ("scrapers", "GET", of("edge_1", "/metrics"), 404, "the host is no node's name"),
        ("scrapers", "GET", of("edge-1", "/healthz"), 403, "\"nodes/healthz\""),
        ("scrapers", "GET", of("edge-1", "/stats/summary"), 403, "\"nodes/stats\""),
        ("scrapers", "GET", of("edge-1", "//metrics"), 403, "\"nodes/proxy\""),
        ("scrapers", "GET", of("edge-1", "/%6detrics"), 403, "\"nodes/proxy\""),
        ("scrapers", "GET", of("edge-1", "/api/v1/nodes"), 403, "\"nodes/proxy\""),
        ("scrapers", "POST", of("edge-1", "/metrics"), 403, "cannot create"),
        ("scrapers", "TRACE", of("edge-1", "/metrics"), 405, "TRACE"),
        ("runners", "GET", of("edge-1", "/pods"), 503, away),
        ("runners", "GET", of("edge-1", "/metrics"), 403, metrics),
        ("runners", "POST", of("edge-1", "/exec/d/a/main"), 403, runs),
        ("nobody", "GET", of("edge-1", "/healthz"), 403, "\"nodes/healthz\""),
        ("nobody", "GET", of("edge-1", "/version"), 403, "\"nodes/proxy\""),
        ("nobody", "GET", "https://127.0.0.1/healthz".to_owned(), 200, ""),
        ("nobody", "GET", "https://nodes.example/healthz".to_owned(), 200, ""),
    ] {
        let request = Request::builder().method(method).uri(&uri).body(Empty::new()).unwrap();
        let (found, text) = served
            .runtime
            .block_on(async { told(&mut served.connect(group).await, request).await })
            .unwrap();
        assert_eq!(found, code, "{group} {method} {uri}: {text}");
        assert!(text.contains(message), "{group} {method} {uri}: {text}");
    }
    served.server.close();
    served.runtime.close();
}
