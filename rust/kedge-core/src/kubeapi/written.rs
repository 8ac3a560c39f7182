// SPDX-License-Identifier: Apache-2.0
//! Versions in what is written through a node: the cluster's on the way up, this node's in the answer.
//!
//! A client writes what it read here. If that is what this node shows, its version becomes the
//! cluster's of the same state; else the object has changed and the write is a conflict. Objects
//! that come down with the cluster's version have it at hand; of Pods and Nodes, which come without,
//! the cloud is asked, and what it has must be what was shown. The answer waits for the change to come
//! down, so that its version is one that reads and watches here go on from.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE,
};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use serde_json::Value;
use tokio::time::timeout;

use super::body::{Body, full, is_json, refusal};
use super::handler::Handler;
use super::pass::{self, Sent};
use super::path::Target;
use super::query::Query;
use super::replica::Replicated;
use super::status::{Failure, qualified};
use super::versions::Versions;
use crate::store::{Key, Store, WatchQuery};
use crate::sync;

/// For a change to come down the link; after that the answer keeps the cluster's version.
const ARRIVING: Duration = Duration::from_secs(2);
/// Of an answer that is looked into: larger than any object.
const ANSWER_BYTES: usize = 4 << 20;
const CHANGED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// A write whose answer gets this node's version.
pub(super) struct Write {
    key: Key,
    is_delete: bool,
    /// Whether this node had the object, so that it will hear of the change.
    was_here: bool,
}

impl Handler {
    /// What has to be done with the answer to a write, if anything.
    pub(super) fn write(
        &self,
        target: &Target,
        head: &mut Parts,
    ) -> Result<Option<Write>, Failure> {
        let is_write =
            matches!(head.method, Method::POST | Method::PUT | Method::PATCH | Method::DELETE);
        let is_collection = target.name.is_empty() && head.method != Method::POST;
        // Of a status that others write, this node shows what it reports itself.
        let is_object = match target.subresource.as_str() {
            "" | "ephemeralcontainers" | "resize" => true,
            "status" => !is_reported(target),
            _ => false,
        };
        let query = Query::parse(head.uri.query().unwrap_or_default())?;
        if !is_write || is_collection || !is_object || !query.get("dryRun").is_empty() {
            return Ok(None);
        }
        head.headers.remove(ACCEPT_ENCODING);
        let key = Key::new(&target.group, &target.resource, &target.namespace, &target.name);
        let was_here = !target.name.is_empty() && self.store.get(&key)?.is_some();
        Ok(Some(Write { key, is_delete: head.method == Method::DELETE, was_here }))
    }

    /// The body of a write with the cluster's versions where it had this node's.
    pub(super) async fn with_cluster_versions(
        &self,
        replica: &Replicated,
        target: &Target,
        head: &Parts,
        body: Bytes,
    ) -> Result<Bytes, Failure> {
        if target.name.is_empty()
            || body.is_empty()
            || head.method == Method::POST && target.subresource.is_empty()
        {
            return Ok(body);
        }
        let kind = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_ours = |version: u64| version != 0 && self.face.revision(version).is_some();
        let mut versions = Versions::find(kind.unwrap_or_default(), &body, is_ours);
        let Some(version) = versions.only()? else { return Ok(body) };
        let upstream = self.cluster_version(replica, target, &head.headers, version).await?;
        Ok(versions.replaced(&upstream))
    }

    /// The cluster's version of the object that has this `version` here.
    async fn cluster_version(
        &self,
        replica: &Replicated,
        target: &Target,
        headers: &HeaderMap,
        version: u64,
    ) -> Result<String, Failure> {
        let key = Key::new(&target.group, &target.resource, &target.namespace, &target.name);
        if !is_reported(target) {
            let stored = self.store.get(&key)?;
            let stored = stored.filter(|object| self.face.version(object.revision) == version);
            let stored = stored.map(|object| serde_json::from_slice(&object.value));
            let stored: Value = stored.and_then(Result::ok).unwrap_or_default();
            return version_of(&stored).ok_or_else(|| conflict(target));
        }
        let shown = self.face.get(&self.store, &key)?;
        let Some(shown) = shown.filter(|object| self.face.version(object.revision) == version)
        else {
            return Err(conflict(target));
        };
        let theirs = self.ask_cloud(replica, target, headers).await?;
        let there: Value = serde_json::from_slice(&theirs).unwrap_or_default();
        let is_seen = is_same(&key, &theirs, &shown.value)
            && (target.subresource != "status" || {
                let here: Value = serde_json::from_slice(&shown.value).unwrap_or_default();
                here.get("status") == there.get("status")
            });
        version_of(&there).filter(|_| is_seen).ok_or_else(|| conflict(target))
    }

    /// The object as the cloud has it, for who sent `headers`.
    async fn ask_cloud(
        &self,
        replica: &Replicated,
        target: &Target,
        headers: &HeaderMap,
    ) -> Result<Bytes, Failure> {
        let (connection, permit) = self.to_cloud(replica, Some(target))?;
        let place = match target.namespace.as_str() {
            "" => String::new(),
            namespace => format!("namespaces/{namespace}/"),
        };
        let path = format!("/api/{}/{place}{}/{}", target.version, target.resource, target.name);
        let mut request = Request::get(path).body(Full::default()).map_err(|error| {
            Failure::new(400, "BadRequest", format!("not a name: {:?}: {error}", target.name))
        })?;
        if let Some(token) = headers.get(AUTHORIZATION) {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        let away = |why: String| super::replica::away(Some(target), &why);
        let answer = pass::pass(connection, Sent::Whole(request), permit).await.map_err(away)?;
        let code = answer.status().as_u16();
        let body = whole(answer.into_body()).await.map_err(away)?;
        if code == 200 {
            return Ok(body);
        }
        let status: Value = serde_json::from_slice(&body).unwrap_or_default();
        let message = status.get("message").and_then(Value::as_str).unwrap_or("no reason given");
        Err(match code {
            401 => Failure::new(401, "Unauthorized", message),
            403 => Failure::new(403, "Forbidden", format!("to compare versions: {message}")),
            404 => Failure::not_found(&target.resource, &target.group, &target.name),
            429 => Failure::busy(message, 1),
            _ => Failure::new(503, "ServiceUnavailable", format!("to compare versions: {message}")),
        })
    }

    /// The answer to a write, with this node's version once the change is here.
    pub(super) async fn with_own_version(
        &self,
        write: Write,
        answer: Response<Body>,
    ) -> Response<Body> {
        if !answer.status().is_success()
            || !is_json(answer.headers())
            || answer.headers().contains_key(CONTENT_ENCODING)
        {
            return answer;
        }
        let (mut head, body) = answer.into_parts();
        let body = match whole(body).await {
            Ok(body) => body,
            Err(why) => {
                let message = format!("the change was made, but its answer broke off: {why}");
                return refusal(&Failure::new(502, "InternalError", message));
            }
        };
        let here = timeout(ARRIVING, self.arrived(write, &body)).await.ok().flatten();
        head.headers.remove(CONTENT_LENGTH);
        Response::from_parts(head, full(here.unwrap_or(body)))
    }

    /// Waits for a change to be here; what was answered, as it is shown here.
    async fn arrived(&self, mut write: Write, body: &Bytes) -> Option<Bytes> {
        let answered: Value = serde_json::from_slice(body).ok()?;
        let text = |pointer: &str| answered.pointer(pointer).and_then(Value::as_str);
        let is_status = text("/kind") == Some("Status");
        if is_status {
            if !write.is_delete || !write.was_here {
                return None;
            }
        } else {
            let name = text("/metadata/name")?;
            if write.key.name.is_empty() {
                name.clone_into(&mut write.key.name);
                write.was_here = is_for(&self.store, text("/spec/nodeName")?);
            }
            if !write.was_here || write.key.name != name {
                return None;
            }
        }
        // Without a time of deletion in it, the answer is what was there before it went.
        let goes = write.is_delete && text("/metadata/deletionTimestamp").is_none();
        let uid = text(if is_status { "/details/uid" } else { "/metadata/uid" });
        let key = &write.key;
        let query = WatchQuery {
            resources: vec![(key.group.clone(), key.resource.clone())],
            namespace: key.namespace.clone(),
            fields: format!("metadata.name={}", key.name),
            ..WatchQuery::default()
        };
        let mut changes = self.store.watch(&query, self.store.revision()).ok()?;
        loop {
            let held = self.store.get(key).ok()?;
            match held {
                None if write.is_delete => return None,
                None => {}
                Some(held) => {
                    let object: Value = serde_json::from_slice(&held.value).ok()?;
                    let other = object.pointer("/metadata/uid").and_then(Value::as_str) != uid;
                    if other && write.is_delete || is_later(&object, &answered) {
                        return None;
                    }
                    if !goes && is_same(key, body, &held.value) {
                        let shown = self.face.shown(&self.store, key, body, held.revision);
                        return shown.ok().map(|object| object.value);
                    }
                }
            }
            changes.next().await.ok()?;
        }
    }
}

/// Whether an object's status is this node's own, and it comes down without a version.
fn is_reported(target: &Target) -> bool {
    target.group.is_empty() && matches!(target.resource.as_str(), "pods" | "nodes")
}

/// Whether a pod with this `spec.nodeName` will be here.
fn is_for(store: &Store, node: &str) -> bool {
    !node.is_empty() && store.get(&Key::new("", "nodes", "", node)).is_ok_and(|it| it.is_some())
}

/// Whether what the cloud has is what this node has, as far as it comes down.
fn is_same(key: &Key, theirs: &[u8], ours: &[u8]) -> bool {
    let wire = sync::Key::of(&key.group, &key.resource, &key.namespace, &key.name);
    let bare = |value: &[u8]| {
        let projected = sync::version::project(&wire, value)?;
        let mut object: Value = serde_json::from_slice(&projected).ok()?;
        let fields = object.as_object_mut()?;
        // Lists leave them out.
        fields.remove("kind");
        fields.remove("apiVersion");
        Some(object)
    };
    bare(theirs).is_some_and(|theirs| bare(ours) == Some(theirs))
}

/// Whether an object here is newer than the one that was answered.
fn is_later(here: &Value, answered: &Value) -> bool {
    let number = |value: &Value| version_of(value).and_then(|text| text.parse::<u64>().ok());
    number(here).zip(number(answered)).is_some_and(|(here, answered)| here > answered)
}

fn version_of(object: &Value) -> Option<String> {
    object.pointer("/metadata/resourceVersion").and_then(Value::as_str).map(str::to_owned)
}

fn conflict(target: &Target) -> Failure {
    let qualified = qualified(&target.resource, &target.group);
    let name = &target.name;
    let message = format!("Operation cannot be fulfilled on {qualified} {name:?}: {CHANGED}");
    Failure::new(409, "Conflict", message)
}

async fn whole(body: Body) -> Result<Bytes, String> {
    let collected = Limited::new(body, ANSWER_BYTES).collect().await;
    collected.map(http_body_util::Collected::to_bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_the_same_whatever_its_status_and_version_are() {
        let key = Key::new("", "pods", "d", "p");
        let ours = br#"{"metadata":{"uid":"u","name":"p","labels":{"a":"b"}},"spec":{"x":1}}"#;
        let theirs = |label: &str| {
            json!({"kind": "Pod", "apiVersion": "v1", "spec": {"x": 1},
            "metadata": {"name": "p", "uid": "u", "labels": {"a": label}, "resourceVersion": "7"},
            "status": {"phase": "Running"}})
            .to_string()
        };
        assert!(is_same(&key, theirs("b").as_bytes(), ours));
        assert!(!is_same(&key, theirs("c").as_bytes(), ours));
        assert!(!is_same(&key, b"[]", b"[]"));
    }

    #[test]
    fn other_objects_are_the_same_at_the_same_version_and_later_at_a_larger_one() {
        let key = Key::new("", "configmaps", "d", "c");
        let at = |version: &str| json!({"metadata": {"resourceVersion": version}});
        let same = |a: &str, b: &str| {
            is_same(&key, at(a).to_string().as_bytes(), at(b).to_string().as_bytes())
        };
        assert!(same("7", "7") && !same("7", "8"));
        assert!(is_later(&at("10"), &at("9")));
        assert!(!is_later(&at("9"), &at("9")) && !is_later(&json!({}), &at("9")));
    }
}
