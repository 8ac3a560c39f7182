// SPDX-License-Identifier: Apache-2.0
//! Requests to a node by its own name, as to a kubelet: `https://NODE.DOMAIN:PORT/metrics/resource`.
//!
//! Who reads a node's address from its status, as metrics-server does, comes here instead of to an
//! open port of the node. Who may do what is decided as the kubelet decides it
//! (Kubernetes `pkg/kubelet/server/auth.go`, with the finer subresources of KEP-2862), but for
//! upgrades: whoever runs something in a pod needs "create", whatever the method.

use http::Request;
use http::header::{ACCEPT, HOST};
use http::uri::Authority;
use hyper::body::Incoming;

use super::About;
use super::handler::{Answered, Call, Handler, header, method_not_allowed};
use super::pass;
use super::path::Target;
use super::policy::Identity;
use super::query::Query;
use super::rights::forbidden;
use super::status::Failure;

impl Handler {
    /// Has the node answer that a request names by its host.
    pub(super) async fn as_kubelet(
        &self,
        node: &str,
        request: Request<Incoming>,
        peer: Option<&Identity>,
    ) -> Result<Answered, Failure> {
        let who = self.sender(request.headers(), peer)?;
        if !is_name(node) {
            return Err(Failure::new(404, "NotFound", "the host is no node's name"));
        }
        let path = request.uri().path();
        let target = target(node, path);
        let query = Query::parse(request.uri().query().unwrap_or_default())?;
        let verb = match target.verb(request.method(), false) {
            None => return Err(method_not_allowed(request.method())),
            Some(_) if pass::is_upgrade(&request) => "create",
            Some(verb) => verb,
        };
        let may = |subresource: &&str| {
            let about = About { resource: "nodes", subresource, name: node, ..About::default() };
            self.may(&who, verb, &about)
        };
        let wanted = subresources(path);
        if !wanted.iter().any(may) {
            let target = Target { subresource: wanted[0].to_owned(), ..target };
            return Err(forbidden(&who, verb, &target));
        }
        let accept = header(request.headers(), &ACCEPT);
        self.ask_node(&Call { verb, target, query, who, accept }, request).await
    }
}

/// The node that a request names by its host, if that is in `domain`; it need not be a name.
pub(super) fn node_of<B>(request: &Request<B>, domain: &str) -> Option<String> {
    if domain.is_empty() {
        return None;
    }
    let said = || request.headers().get(HOST)?.to_str().ok()?.parse::<Authority>().ok();
    let authority = request.uri().authority().cloned().or_else(said)?;
    let host = authority.host().to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    Some(host.strip_suffix(domain)?.strip_suffix('.')?.to_owned())
}

/// Whether a node may have this name; no port or scheme as in `nodes/https:NAME:10250/proxy`.
fn is_name(node: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    (1..=253).contains(&node.len()) && node.bytes().all(is_known)
}

/// What is asked of `node` by a path of its kubelet, in the words of the API.
fn target(node: &str, path: &str) -> Target {
    Target {
        version: "v1".to_owned(),
        resource: "nodes".to_owned(),
        name: node.to_owned(),
        subresource: "proxy".to_owned(),
        rest: path.strip_prefix('/').unwrap_or(path).to_owned(),
        ..Target::default()
    }
}

/// The subresources of nodes any one of which allows a path.
fn subresources(path: &str) -> &'static [&'static str] {
    match path.split('/').nth(1).unwrap_or_default() {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "checkpoint" => &["checkpoint"],
        "healthz" => &["healthz", "proxy"],
        "pods" | "runningpods" => &["pods", "proxy"],
        "configz" => &["configz", "proxy"],
        _ => &["proxy"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(uri: &str, host: &str) -> Option<String> {
        let request = Request::builder().uri(uri).header(HOST, host).body(()).unwrap();
        node_of(&request, "nodes.example")
    }

    #[test]
    fn a_host_of_the_domain_names_a_node() {
        for (uri, host, wanted) in [
            ("/metrics", "edge-1.nodes.example:6443", Some("edge-1")),
            ("/metrics", "Edge-1.Nodes.Example", Some("edge-1")),
            ("/metrics", "shop.7.nodes.example", Some("shop.7")),
            ("/metrics", "Edge-1.nodes.example.:6443", Some("edge-1")),
            ("https://edge-2.nodes.example:6443/metrics", "x", Some("edge-2")),
            ("https://edge-2.Nodes.Example./metrics", "x", Some("edge-2")),
            ("https://kubernetes:6443/metrics", "edge-1.nodes.example", None),
            ("/metrics", "nodes.example", None),
            ("/metrics", ".nodes.example", Some("")),
            ("/metrics", "edge-1.nodes.example.com", None),
            ("/metrics", "edge-1.nodes.example..", None),
            ("/metrics", "edge-1:10250.nodes.example", None),
            ("/metrics", "", None),
            ("/metrics", "edge-1-nodes.example", None),
            ("/metrics", "127.0.0.1:6443", None),
            ("/metrics", "[::1]:6443", None),
        ] {
            assert_eq!(node(uri, host).as_deref(), wanted, "{uri} {host}");
        }
        let request = Request::builder().header(HOST, "a.b").body(()).unwrap();
        assert_eq!(node_of(&request, ""), None, "no domain, no nodes");
    }

    #[test]
    fn a_port_or_a_scheme_is_no_part_of_a_name() {
        let long = "n".repeat(254);
        for (name, wanted) in [
            ("edge-1", true),
            ("shop.7", true),
            (&long[1..], true),
            ("", false),
            (&long, false),
            ("edge-1:10250", false),
            ("a/b", false),
            ("edge_1", false),
            ("k\u{e4}se", false),
        ] {
            assert_eq!(is_name(name), wanted, "{name}");
        }
    }

    #[test]
    fn a_path_needs_the_right_that_the_kubelet_wants() {
        for (path, wanted) in [
            ("/metrics/resource", "metrics"),
            ("/stats/summary", "stats"),
            ("/logs/", "log"),
            ("/pods", "pods"),
            ("/exec/ns/pod/main", "proxy"),
            ("/metricsx", "proxy"),
            ("/%6detrics", "proxy"),
            ("/", "proxy"),
            ("//metrics", "proxy"),
        ] {
            assert_eq!(subresources(path)[0], wanted, "{path}");
        }
        assert_eq!(target("n", "/metrics/resource").rest, "metrics/resource");
    }
}
