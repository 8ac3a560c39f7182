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
    ca: String,
    client: (String, String),
    runtime: Runtime,
    _directory: tempfile::TempDir,
}

fn issued(ca: &(String, String), name: &str, server: bool) -> (String, String) {
    let issue = Issue {
        common_name: name,
        organizations: &["system:masters".to_owned()],
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
    let (certificate, key) = issued(&ca, "server", true);
    let config = json!({
        "listen": "127.0.0.1:0",
        "certificate": certificate,
        "key": key,
        "client_ca": ca.0,
        "resources": [{"group": "", "version": "v1", "kind": "Pod", "resource": "pods",
            "namespaced": true}],
        "policy": [{"groups": ["system:masters"], "verbs": ["*"], "resources": ["*"]}],
    });
    let runtime = Runtime::new(2).unwrap();
    let server =
        ApiServer::start(&runtime, store.clone(), &config.to_string(), None, None).unwrap();
    let client = issued(&ca, "admin", false);
    Served { server, store, ca: ca.0, client, runtime, _directory: directory }
}

impl Served {
    async fn connect(&self) -> Sender {
        let key = PrivateKeyDer::from_pem_slice(self.client.1.as_bytes()).unwrap();
        let mut tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots(&self.ca).unwrap())
            .with_client_auth_cert(certificates(&self.client.0).unwrap(), key)
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

    fn put(&self, name: &str) {
        let metadata = json!({"name": name, "namespace": "d"});
        let value = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata});
        let key = Key::new("", "pods", "d", name);
        let op = Op::Put { key, value: value.to_string().into(), expect: Expect::Any };
        self.store.commit(vec![op]).unwrap();
    }
}

fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("https://127.0.0.1{path}")).body(Empty::new()).unwrap()
}

#[test]
fn http2_carries_many_requests_and_a_watch_on_one_connection() {
    let served = serve();
    served.put("a");
    let answers = served.runtime.block_on(async {
        let mut sender = served.connect().await;
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
