// SPDX-License-Identifier: Apache-2.0
//! What a request is about: `/api/v1/...` and `/apis/GROUP/VERSION/...`, or any other path.

use http::Method;

use super::query::decode;
use crate::{Error, Kind, Result};

/// The verbs of the Kubernetes API, by the words policies use.
pub(super) type Verb = &'static str;

/// A request on a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) resource: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) subresource: String,
    /// What follows `nodes/NAME/proxy/`, as it came.
    pub(super) rest: String,
    /// The deprecated `/watch/` form of the path.
    pub(super) legacy_watch: bool,
}

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// A resource of the API.
    Resource(Target),
    /// Discovery, health, documents.
    Other,
}

impl Target {
    /// The verb of `method` here; `watch` is what the query says.
    pub(super) fn verb(&self, method: &Method, watch: bool) -> Option<Verb> {
        let named = !self.name.is_empty();
        Some(match *method {
            Method::GET | Method::HEAD if self.legacy_watch || (watch && !named) => "watch",
            Method::GET | Method::HEAD if named => "get",
            Method::GET | Method::HEAD => "list",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE if named => "delete",
            Method::DELETE => "deletecollection",
            _ => return None,
        })
    }
}

/// Reads `path`.
pub(super) fn parse(path: &str) -> Result<Route> {
    let mut parts = path.split('/').filter(|part| !part.is_empty()).map(|part| decode(part, false));
    let mut next = || parts.next().transpose();
    let (group, version) = match next()?.as_deref() {
        Some("api") => (Some(String::new()), next()?),
        Some("apis") => (next()?, next()?),
        _ => return Ok(Route::Other),
    };
    let (Some(group), Some(version), Some(first)) = (group, version, next()?) else {
        return Ok(Route::Other);
    };
    let mut target = Target { group, version, ..Target::default() };
    target.legacy_watch = first == "watch";
    let first = if target.legacy_watch { next()? } else { Some(first) };
    let rest = std::iter::from_fn(|| next().transpose()).collect::<Result<Vec<String>>>()?;
    let Some(first) = first else { return Ok(Route::Other) };
    fill(&mut target, first, rest)?;
    if target.subresource == "proxy" {
        let below = path.splitn(4, '/').nth(3).and_then(|path| path.strip_prefix("nodes/"));
        let rest = below.and_then(|path| path.splitn(3, '/').nth(2));
        rest.unwrap_or_default().clone_into(&mut target.rest);
    }
    for part in [&target.namespace, &target.name, &target.resource, &target.subresource] {
        if part.contains('/') || part == "." || part == ".." || part.len() > 253 {
            return Err(Error::new(Kind::Invalid, format!("not a path segment: {part:?}")));
        }
    }
    Ok(Route::Resource(target))
}

/// Places the segments after the version: `namespaces/NS` is a scope unless the namespace itself is meant.
fn fill(target: &mut Target, first: String, rest: Vec<String>) -> Result<()> {
    let of_namespace = matches!(rest.get(1).map(String::as_str), Some("status" | "finalize"));
    let scoped = first == "namespaces" && target.group.is_empty() && rest.len() >= 2;
    let mut rest = rest.into_iter();
    let mut next = || rest.next().unwrap_or_default();
    if (scoped && !of_namespace) || (first == "namespaces" && !target.group.is_empty()) {
        target.namespace = next();
        target.resource = next();
    } else {
        target.resource = first;
    }
    target.name = next();
    target.subresource = next();
    let is_proxy = target.resource == "nodes" && target.subresource == "proxy";
    if (rest.next().is_some() && !is_proxy) || target.resource.is_empty() {
        return Err(Error::new(Kind::NotFound, "the server could not find the requested resource"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: &str) -> [String; 5] {
        let Route::Resource(found) = parse(path).unwrap() else { panic!("{path}") };
        [found.group, found.resource, found.namespace, found.name, found.subresource]
    }

    #[test]
    fn paths_name_their_resource() {
        for (path, want) in [
            ("/api/v1/pods", ["", "pods", "", "", ""]),
            ("/api/v1/nodes/n1", ["", "nodes", "", "n1", ""]),
            ("/api/v1/nodes/n1/status", ["", "nodes", "", "n1", "status"]),
            ("/api/v1/namespaces", ["", "namespaces", "", "", ""]),
            ("/api/v1/namespaces/a", ["", "namespaces", "", "a", ""]),
            ("/api/v1/namespaces/a/finalize", ["", "namespaces", "", "a", "finalize"]),
            ("/api/v1/namespaces/a/pods", ["", "pods", "a", "", ""]),
            ("/api/v1/namespaces/a/pods/p", ["", "pods", "a", "p", ""]),
            ("/api/v1/namespaces/a/pods/p/binding", ["", "pods", "a", "p", "binding"]),
            ("/apis/apps/v1/deployments", ["apps", "deployments", "", "", ""]),
            ("/apis/apps/v1/namespaces/a/deployments/d", ["apps", "deployments", "a", "d", ""]),
            ("/api/v1/watch/namespaces/a/pods", ["", "pods", "a", "", ""]),
            ("/api/v1/namespaces/a/pods/p%2Ex", ["", "pods", "a", "p.x", ""]),
        ] {
            assert_eq!(target(path), want, "{path}");
        }
    }

    #[test]
    fn other_paths_are_no_resources() {
        for path in ["/", "/healthz", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1"] {
            assert_eq!(parse(path).unwrap(), Route::Other, "{path}");
        }
    }

    #[test]
    fn a_segment_cannot_smuggle_a_slash_or_climb() {
        for path in ["/api/v1/namespaces/a/pods/..", "/api/v1/pods/a%2Fb", "/api/v1/nodes/%2e%2e"] {
            assert!(parse(path).is_err(), "{path}");
        }
        assert!(parse("/api/v1/namespaces/a/pods/p/log/more").is_err());
    }

    #[test]
    fn what_is_for_a_node_keeps_its_path_as_it_came() {
        for (path, name, rest) in [
            ("/api/v1/nodes/n1/proxy", "n1", ""),
            ("/api/v1/nodes/n1:10250/proxy/stats/summary", "n1:10250", "stats/summary"),
            ("/api/v1/nodes/proxy/proxy/a%3Fb/", "proxy", "a%3Fb/"),
        ] {
            let Route::Resource(found) = parse(path).unwrap() else { panic!("{path}") };
            assert_eq!((found.name.as_str(), found.rest.as_str()), (name, rest), "{path}");
        }
    }

    #[test]
    fn verbs_follow_method_and_name() {
        let Route::Resource(one) = parse("/api/v1/nodes/n").unwrap() else { panic!() };
        let Route::Resource(all) = parse("/api/v1/nodes").unwrap() else { panic!() };
        assert_eq!(one.verb(&Method::GET, false), Some("get"));
        assert_eq!(all.verb(&Method::GET, false), Some("list"));
        assert_eq!(all.verb(&Method::GET, true), Some("watch"));
        assert_eq!(one.verb(&Method::GET, true), Some("get"));
        assert_eq!(one.verb(&Method::DELETE, false), Some("delete"));
        assert_eq!(all.verb(&Method::DELETE, false), Some("deletecollection"));
        assert_eq!(all.verb(&Method::TRACE, false), None);
    }
}
