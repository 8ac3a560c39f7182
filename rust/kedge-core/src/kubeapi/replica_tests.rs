// SPDX-License-Identifier: Apache-2.0
//! A node's server over its replica: tokens, what is shown of pods, and what is not to be had.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::ApiServer;
use super::tls::roots;
use crate::pki::{self, Issue, SigningKey, VerifyingKey};
use crate::runtime::Runtime;
use crate::store::{Expect, Key, Mode, Op, Options, Store};

const BASE: u64 = 1 << 50;

pub(super) struct Node {
    server: ApiServer,
    store: Store,
    ca: (String, String),
    cluster: SigningKey,
    own: SigningKey,
    runtime: Runtime,
    _directory: tempfile::TempDir,
}

fn key() -> (SigningKey, String) {
    let text = pki::new_key().unwrap();
    (SigningKey::from_pem(&text).unwrap(), pki::public_key(&text).unwrap())
}

pub(super) fn node() -> Node {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { mode: Mode::Replica, durable: false, ..Options::default() };
    let store = Store::open(directory.path(), options).unwrap();
    let ca = pki::create_ca("node", 1).unwrap();
    let issue = Issue {
        common_name: "node",
        ip_addresses: &["127.0.0.1".to_owned()],
        days: 1,
        server: true,
        ..Issue::default()
    };
    let (certificate, private) = pki::issue(&ca.0, &ca.1, &issue).unwrap();
    let ((cluster, cluster_public), (own, own_public)) = (key(), key());
    let row = |kind: &str, resource: &str, namespaced: bool| {
        json!({"group": "", "version": "v1",
        "kind": kind, "resource": resource, "namespaced": namespaced,
        "selectable": ["involvedObject.name", "status.phase"]})
    };
    let config = json!({
        "listen": "127.0.0.1:0",
        "certificate": certificate,
        "key": private,
        "service_account_keys": [own_public],
        "client_ca": ca.0,
        "issuer": "kedge-node:n1",
        "resources": [row("Pod", "pods", true), row("Secret", "secrets", true),
            row("ConfigMap", "configmaps", true), row("Event", "events", true)],
        "policy": [{"groups": ["system:serviceaccounts:d"], "verbs": ["*"],
            "resources": ["pods", "configmaps", "subjectaccessreviews.authorization.k8s.io",
                "tokenreviews.authentication.k8s.io"], "urls": ["/openapi*"]},
            {"groups": ["operators"], "verbs": ["*"], "resources": ["*"], "urls": ["*"]}],
        "replica": {"base": BASE, "kinds": [["", "pods"], ["", "secrets"], ["", "configmaps"]]},
    });
    let runtime = Runtime::new(2).unwrap();
    let server =
        ApiServer::start(&runtime, store.clone(), &config.to_string(), None, None).unwrap();
    let node = Node { server, store, ca, cluster, own, runtime, _directory: directory };
    node.trust(&cluster_public);
    node.put("", "serviceaccounts", "web", &json!({"metadata": {"name": "web", "uid": "u-web"}}));
    node.pod("p", "u-p");
    node
}

impl Node {
    fn put_at(&self, key: Key, value: &Value) {
        let op = Op::Put { key, value: value.to_string().into(), expect: Expect::Any };
        self.store.commit(vec![op]).unwrap();
    }

    pub(super) fn put(&self, group: &str, resource: &str, name: &str, value: &Value) {
        self.put_at(Key::new(group, resource, "d", name), value);
    }

    fn trust(&self, public: &str) {
        let keys = pki::jwks(&[VerifyingKey::from_pem(public).unwrap()]);
        let issuer = json!({"metadata": {"name": "cluster"},
            "spec": {"issuer": "https://cluster", "jwks": keys}});
        self.put_at(Key::new("kedge.io", "tokenissuers", "", "cluster"), &issuer);
    }

    fn pod(&self, name: &str, uid: &str) {
        let metadata = json!({"name": name, "namespace": "d", "uid": uid});
        self.put("", "pods", name, &json!({"metadata": metadata, "spec": {"nodeName": "n1"}}));
    }

    fn report(&self, name: &str, uid: &str, phase: &str) {
        let metadata = json!({"name": name, "namespace": "d", "uid": uid});
        let report = json!({"metadata": metadata, "status": {"phase": phase}});
        self.put("", "pods/status", name, &report);
    }

    pub(super) fn valid(&self) -> String {
        token(&self.cluster, "https://cluster", i64::MAX / 2)
    }

    async fn connect(&self) -> SendRequest<Full<Bytes>> {
        self.connect_as("").await
    }

    /// As a member of a group that the node's authority vouches for; empty is without a certificate.
    async fn connect_as(&self, group: &str) -> SendRequest<Full<Bytes>> {
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots(&self.ca.0).unwrap());
        let tls = if group.is_empty() {
            tls.with_no_client_auth()
        } else {
            let issue = Issue {
                common_name: "somebody",
                organizations: &[group.to_owned()],
                days: 1,
                client: true,
                ..Issue::default()
            };
            let (certificate, key) = pki::issue(&self.ca.0, &self.ca.1, &issue).unwrap();
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            tls.with_client_auth_cert(chain, key).unwrap()
        };
        let tcp = TcpStream::connect(self.server.address()).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let stream = TlsConnector::from(Arc::new(tls)).connect(name, tcp).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        // The connection's end shows in the requests on it.
        tokio::spawn(async move { drop(connection.await) });
        sender
    }

    fn ask(&self, method: &str, path: &str, token: &str) -> (u16, Value) {
        self.send("", method, path, token, Bytes::new())
    }

    pub(super) fn send(
        &self,
        group: &str,
        method: &str,
        path: &str,
        token: &str,
        body: impl Into<Bytes>,
    ) -> (u16, Value) {
        let asked = async {
            let mut sender = self.connect_as(group).await;
            let mut request = Request::builder().method(method).uri(path);
            if !token.is_empty() {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let request = request.body(Full::new(body.into())).unwrap();
            let answer = sender.send_request(request).await.unwrap();
            let status = answer.status().as_u16();
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            (status, serde_json::from_slice(&body).unwrap_or_default())
        };
        self.runtime.block_on(asked).unwrap()
    }

    fn get(&self, path: &str) -> (u16, Value) {
        self.ask("GET", path, &self.valid())
    }
}

/// A token for the pod `p`.
fn token(key: &SigningKey, issuer: &str, expires: i64) -> String {
    let claims = json!({
        "iss": issuer, "aud": [issuer], "exp": expires, "sub": "system:serviceaccount:d:web",
        "kubernetes.io": {"namespace": "d", "serviceaccount": {"name": "web", "uid": "u-web"},
            "pod": {"name": "p", "uid": "u-p"}},
    });
    pki::sign(key, &claims.to_string(), "").unwrap()
}

/// A token for an account of another namespace, which no policy knows.
pub(super) fn token_of(node: &Node, namespace: &str) -> String {
    let account = json!({"metadata": {"name": "web", "uid": "u-web"}});
    node.put_at(Key::new("", "serviceaccounts", namespace, "web"), &account);
    let claims = json!({
        "iss": "https://cluster", "aud": "https://cluster", "exp": i64::MAX / 2,
        "sub": format!("system:serviceaccount:{namespace}:web"),
        "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": "web", "uid": "u-web"}},
    });
    pki::sign(&node.cluster, &claims.to_string(), "").unwrap()
}

const POD: &str = "/api/v1/namespaces/d/pods/p";

#[test]
fn nothing_is_answered_without_a_token_that_holds() {
    let node = node();
    let expired = token(&node.cluster, "https://cluster", 1000);
    let forged = token(&node.own, "https://cluster", i64::MAX / 2);
    let elsewhere = token(&node.own, "kedge-node:n2", i64::MAX / 2);
    for token in ["", "x", &expired, &forged, &elsewhere] {
        for (method, path) in [
            ("GET", POD),
            ("GET", "/api/v1/pods?watch=1"),
            ("POST", "/api/v1/namespaces/d/pods"),
            ("GET", "/api"),
            ("GET", "/openapi/v2"),
            ("GET", "/metrics"),
            ("GET", "/apis/apps/v1/deployments"),
        ] {
            assert_eq!(node.ask(method, path, token).0, 401, "{method} {path} with {token:?}");
        }
    }
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        assert_eq!(node.ask("GET", path, "").0, 200, "{path}");
    }
}

#[test]
fn tokens_of_the_cluster_and_of_the_node_hold_while_their_pod_is_here() {
    let node = node();
    let own = token(&node.own, "kedge-node:n1", i64::MAX / 2);
    for token in [&node.valid(), &own] {
        assert_eq!(node.ask("GET", POD, token).0, 200);
    }
    node.pod("p", "another");
    for token in [&node.valid(), &own] {
        assert_eq!(node.ask("GET", POD, token).0, 401, "the pod was replaced");
    }
}

#[test]
fn a_new_key_of_the_cluster_counts_at_once_and_the_old_one_no_more() {
    let node = node();
    let old = node.valid();
    assert_eq!(node.ask("GET", POD, &old).0, 200);
    let (new, public) = key();
    node.trust(&public);
    assert_eq!(node.ask("GET", POD, &old).0, 401);
    let fresh = token(&new, "https://cluster", i64::MAX / 2);
    assert_eq!(node.ask("GET", POD, &fresh).0, 200);
}

#[test]
fn a_pod_is_shown_with_the_status_that_the_node_reports() {
    let node = node();
    let before = node.get(POD).1;
    assert_eq!(before["status"], Value::Null);
    node.report("p", "u-p", "Running");
    let pod = node.get(POD).1;
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(pod["kind"], "Pod");
    let version = |object: &Value| {
        object["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap()
    };
    assert!(version(&pod) > version(&before) && version(&before) > BASE);
    let list = node.get("/api/v1/pods?fieldSelector=status.phase%3DRunning").1;
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    assert!(version(&list) >= version(&pod));
    let none = node.get("/api/v1/pods?fieldSelector=status.phase%3DPending").1;
    assert!(none["items"].as_array().unwrap().is_empty());
    node.report("p", "of-another", "Failed");
    assert_eq!(node.get(POD).1["status"], Value::Null, "a report of another pod of that name");
}

#[test]
fn a_watch_tells_of_reports_and_resumes_from_any_version_it_gave() {
    let node = node();
    let from = node.get("/api/v1/pods").1["metadata"]["resourceVersion"].clone();
    node.report("p", "u-p", "Pending");
    node.report("p", "u-p", "Running");
    let key = Key::new("", "pods", "d", "p");
    node.store.commit(vec![Op::Delete { key, expect: Expect::Any }]).unwrap();
    let lines = |from: &str, query: &str| -> Vec<Value> {
        // Its own pod is gone, so that only a token without one still holds.
        let claims = json!({
            "iss": "https://cluster", "aud": "https://cluster", "exp": i64::MAX / 2,
            "sub": "system:serviceaccount:d:web",
            "kubernetes.io": {"namespace": "d", "serviceaccount": {"name": "web", "uid": "u-web"}},
        });
        let token = pki::sign(&node.cluster, &claims.to_string(), "").unwrap();
        let path = format!("/api/v1/pods?watch=1&timeoutSeconds=1&resourceVersion={from}{query}");
        let asked = async {
            let mut sender = node.connect().await;
            let request = Request::get(path)
                .header("authorization", format!("Bearer {token}"))
                .body(Full::default());
            let answer = sender.send_request(request.unwrap()).await.unwrap();
            answer.into_body().collect().await.unwrap().to_bytes()
        };
        let body = node.runtime.block_on(asked).unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let told = |lines: &[Value]| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        lines
            .iter()
            .map(|line| (text(&line["type"]), text(&line["object"]["status"]["phase"])))
            .collect()
    };
    // The pod went while nobody watched: its reports have nothing to be about any more.
    let all = lines(from.as_str().unwrap(), "&allowWatchBookmarks=true");
    assert_eq!(told(&all)[0], ("DELETED".into(), "Running".into()));
    assert_eq!(all.last().unwrap()["type"], "BOOKMARK");
    let last = all.last().unwrap()["object"]["metadata"]["resourceVersion"].as_str().unwrap();
    node.pod("q", "u-q");
    node.report("q", "u-q", "Running");
    let more = lines(last, "");
    assert_eq!(
        told(&more),
        [("ADDED".into(), "Running".into()), ("MODIFIED".into(), "Running".into())]
    );
    let foreign = lines("5", "");
    assert_eq!(
        (foreign[0]["type"].as_str(), foreign[0]["object"]["code"].as_u64()),
        (Some("ERROR"), Some(410))
    );
}

#[test]
fn what_only_the_cloud_can_answer_is_unavailable_at_once_without_a_link() {
    let node = node();
    for (method, path) in [
        ("GET", "/api/v1/namespaces/d/pods/elsewhere"),
        ("GET", "/apis/apps/v1/deployments"),
        ("GET", "/api/v1/nodes?watch=1"),
        ("POST", "/api/v1/namespaces/d/pods"),
        ("PATCH", POD),
        ("DELETE", POD),
        ("GET", "/openapi/v2"),
    ] {
        let (code, status) = node.ask(method, path, &node.valid());
        assert_eq!(
            (code, &status["reason"]),
            (503, &json!("ServiceUnavailable")),
            "{method} {path}"
        );
        let message = status["message"].as_str().unwrap_or_default();
        assert!(message.contains("this node has no link to its cloud"), "{message}");
    }
}

#[test]
fn the_policy_of_the_node_decides_what_is_read_from_its_store() {
    let node = node();
    node.put("", "secrets", "s", &json!({"metadata": {"name": "s"}}));
    for path in ["/api/v1/secrets", "/api/v1/namespaces/d/secrets/s", "/api/v1/secrets?watch=1"] {
        assert_eq!(node.get(path).0, 403, "{path}");
    }
}
