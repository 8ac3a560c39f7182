// SPDX-License-Identifier: Apache-2.0
//! Which bytes of an object a node gets, and how two copies of a view are compared.
//!
//! A node needs what is asked of it, not what it reported itself, and a change that does not
//! concern it must not cross the link. So every object leaves without `metadata.managedFields`,
//! and Pods and Nodes also without `metadata.resourceVersion` and `status` (of a Pod that has
//! ended, `status.phase` stays; of one with readiness gates, whether their conditions hold; of a
//! Node, which attached volumes the cloud knows to be in use). The version of an object is the
//! hash of these bytes, so neither end stores one.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::sync::Key;
use crate::wire::pack;

/// How names of plugins' volumes begin.
const PLUGINS: &str = "kubernetes.io/";

/// The bytes of `value` that a node gets; none when it is not a JSON object.
pub fn project(key: &Key, value: &[u8]) -> Option<Bytes> {
    let mut object: Map<String, Value> = serde_json::from_slice(value).ok()?;
    let reported = key.group.is_empty() && matches!(key.resource.as_str(), "pods" | "nodes");
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.shift_remove("managedFields");
        if reported {
            metadata.shift_remove("resourceVersion");
        }
    }
    if reported && let Some(status) = object.shift_remove("status") {
        let mut kept = Map::new();
        let phase = status.get("phase").and_then(Value::as_str).unwrap_or_default();
        if matches!(phase, "Succeeded" | "Failed") {
            kept.insert("phase".into(), phase.into());
        }
        let gates = gates(&object, &status);
        if !gates.is_empty() {
            kept.insert("conditions".into(), gates.into());
        }
        let in_use = volumes_in_use(&status);
        if !in_use.is_empty() {
            kept.insert("volumesInUse".into(), in_use.into());
        }
        if !kept.is_empty() {
            object.insert("status".into(), kept.into());
        }
    }
    serde_json::to_vec(&object).ok().map(Bytes::from)
}

/// The volumes of plugins in `status.volumesInUse`: a node mounts one only when this says that the
/// cloud knows of it, and so will not detach it.
fn volumes_in_use(status: &Value) -> Vec<Value> {
    let names = status.get("volumesInUse").and_then(Value::as_array);
    let of_plugins = |one: &&Value| one.as_str().is_some_and(|name| name.starts_with(PLUGINS));
    names.into_iter().flatten().filter(of_plugins).cloned().collect()
}

/// Type and status of the conditions that a pod's readiness gates name: others write them, and the
/// node must know whether they hold.
fn gates(object: &Map<String, Value>, status: &Value) -> Vec<Value> {
    let list = |value: Option<&'_ Value>| value.and_then(Value::as_array).cloned();
    let Some(gates) = list(object.get("spec").and_then(|spec| spec.get("readinessGates"))) else {
        return Vec::new();
    };
    let conditions = list(status.get("conditions")).unwrap_or_default();
    let named =
        |one: &&Value| gates.iter().any(|gate| gate.get("conditionType") == one.get("type"));
    let short = |one: &Value| serde_json::json!({"type": one["type"], "status": one["status"]});
    conditions.iter().filter(named).map(short).collect()
}

/// The digest of a view: the same objects with the same versions give the same sum in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    sum: u128,
    /// How many objects.
    pub count: u32,
}

impl Digest {
    /// Adds an object.
    pub fn add(&mut self, key: &Key, version: u64) {
        self.sum = self.sum.wrapping_add(entry(key, version));
        self.count += 1;
    }

    /// The sixteen bytes sent.
    pub fn bytes(&self) -> [u8; 16] {
        self.sum.to_be_bytes()
    }
}

/// The first sixteen bytes of SHA-256 over the four parts of the key, each ended by a zero byte,
/// and the version, big-endian.
fn entry(key: &Key, version: u64) -> u128 {
    let mut text = Vec::with_capacity(96);
    for part in [&key.group, &key.resource, &key.namespace, &key.name] {
        text.extend_from_slice(part.as_bytes());
        text.push(0);
    }
    text.extend_from_slice(&version.to_be_bytes());
    let digest = ring::digest::digest(&ring::digest::SHA256, &text);
    let first = digest.as_ref().first_chunk::<16>().expect("SHA-256 has 32 bytes");
    u128::from_be_bytes(*first)
}

/// The version of an object's bytes.
pub fn version(projected: &[u8]) -> u64 {
    pack::hash(projected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn projected(resource: &str, json: &str) -> String {
        let bytes = project(&Key::of("", resource, "d", "n"), json.as_bytes()).unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn a_pod_leaves_without_what_its_node_reported() {
        let pod = r#"{"metadata":{"name":"n","resourceVersion":"7","managedFields":[{}],"uid":"u"},"spec":{"b":1,"a":2},"status":{"phase":"Running"}}"#;
        assert_eq!(
            projected("pods", pod),
            r#"{"metadata":{"name":"n","uid":"u"},"spec":{"b":1,"a":2}}"#
        );
    }

    #[test]
    fn an_ended_pod_keeps_its_phase() {
        let pod = r#"{"metadata":{},"status":{"phase":"Succeeded","podIP":"x"}}"#;
        assert_eq!(projected("pods", pod), r#"{"metadata":{},"status":{"phase":"Succeeded"}}"#);
    }

    #[test]
    fn a_pod_keeps_what_its_readiness_gates_wait_for() {
        let pod = r#"{"metadata":{},"spec":{"readinessGates":[{"conditionType":"a/b"}]},"status":{"phase":"Running","conditions":[{"type":"Ready","status":"False"},{"type":"a/b","status":"True","lastTransitionTime":"x"}]}}"#;
        let kept = r#"{"metadata":{},"spec":{"readinessGates":[{"conditionType":"a/b"}]},"status":{"conditions":[{"type":"a/b","status":"True"}]}}"#;
        assert_eq!(projected("pods", pod), kept);
        let open = r#"{"metadata":{},"spec":{"readinessGates":[{"conditionType":"a/b"}]},"status":{"conditions":[]}}"#;
        assert!(!projected("pods", open).contains("status"));
    }

    #[test]
    fn a_node_keeps_which_attached_volumes_the_cloud_knows_to_be_in_use() {
        let node = r#"{"metadata":{},"status":{"capacity":{},"volumesInUse":["kedge.io/local-path/a","kubernetes.io/csi/d^v"]}}"#;
        let kept = r#"{"metadata":{},"status":{"volumesInUse":["kubernetes.io/csi/d^v"]}}"#;
        assert_eq!(projected("nodes", node), kept);
        let node = r#"{"metadata":{},"status":{"volumesInUse":["kedge.io/local-path/a"]}}"#;
        assert_eq!(projected("nodes", node), r#"{"metadata":{}}"#);
    }

    #[test]
    fn other_objects_keep_their_resource_version() {
        let map = r#"{"metadata":{"resourceVersion":"7","managedFields":[]},"data":{"n":1.0}}"#;
        assert_eq!(
            projected("configmaps", map),
            r#"{"metadata":{"resourceVersion":"7"},"data":{"n":1.0}}"#
        );
        assert!(project(&Key::of("", "pods", "d", "n"), b"[]").is_none());
    }

    #[test]
    fn a_digest_depends_on_every_object_and_version_but_not_on_order() {
        let (a, b) = (Key::of("", "pods", "d", "a"), Key::of("", "pods", "d", "b"));
        let digest = |entries: &[(&Key, u64)]| {
            let mut digest = Digest::default();
            for (key, version) in entries {
                digest.add(key, *version);
            }
            digest
        };
        assert_eq!(digest(&[(&a, 1), (&b, 2)]), digest(&[(&b, 2), (&a, 1)]));
        assert_ne!(digest(&[(&a, 1), (&b, 2)]), digest(&[(&a, 2), (&b, 1)]));
        assert_ne!(digest(&[(&a, 1)]), Digest::default());
    }
}
