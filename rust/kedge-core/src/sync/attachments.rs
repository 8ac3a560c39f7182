// SPDX-License-Identifier: Apache-2.0
//! Volumes' attachments by node: a node sees those that name it, and no others.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;

use crate::sync::emit::{Node, base, delete, put};
use crate::sync::port::Changed;
use crate::sync::version;
use crate::sync::{Change, Key};

/// The API group of `VolumeAttachment`.
pub(super) const STORAGE: &str = "storage.k8s.io";
/// Its resource.
pub(super) const ATTACHMENTS: &str = "volumeattachments";

/// The index.
#[derive(Debug, Default)]
pub(super) struct Attachments {
    by_node: HashMap<Node, HashMap<Arc<Key>, u64>>,
    node_of: HashMap<Key, Node>,
}

impl Attachments {
    /// Takes in a change; gives what which nodes get for it.
    pub(super) fn changed(&mut self, changed: &Changed) -> Vec<(Node, Change)> {
        let key = &changed.key;
        let node = changed.value.as_deref().and_then(node_of);
        let value = changed.value.as_ref().and_then(|value| version::project(key, value));
        let now = node.zip(value);
        let before = self.node_of.get(key).cloned();
        let mut out = Vec::new();
        let moved = before.filter(|old| now.as_ref().is_none_or(|(node, _)| node != old));
        if let Some(old) = moved {
            self.node_of.remove(key);
            if let Some(of_node) = self.by_node.get_mut(&old) {
                of_node.remove(key);
                if of_node.is_empty() {
                    self.by_node.remove(&old);
                }
            }
            out.push((old, delete(key)));
        }
        if let Some((node, value)) = now {
            let version = version::version(&value);
            self.node_of.insert(key.clone(), Node::clone(&node));
            let of_node = self.by_node.entry(Node::clone(&node)).or_default();
            let known = of_node.insert(Arc::new(key.clone()), version);
            if known != Some(version) {
                out.push((node, put(key, value, base(changed).filter(|_| known.is_some()))));
            }
        }
        out
    }

    /// What a node sees, with versions.
    pub(super) fn of(&self, node: &str) -> impl Iterator<Item = (Arc<Key>, u64)> {
        let found = self.by_node.get(node).into_iter().flatten();
        found.map(|(key, version)| (Arc::clone(key), *version))
    }

    /// Whether a node sees one.
    pub(super) fn sees(&self, node: &str, key: &Key) -> bool {
        self.node_of.get(key).is_some_and(|of| &**of == node)
    }
}

#[derive(Deserialize)]
struct Attachment {
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    node_name: String,
}

fn node_of(value: &[u8]) -> Option<Node> {
    let attachment = serde_json::from_slice::<Attachment>(value).ok()?;
    Some(Node::from(attachment.spec.node_name.as_str()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn change(index: &mut Attachments, json: Option<&'static str>) -> Vec<String> {
        let key = Key::of(STORAGE, ATTACHMENTS, "", "csi-1");
        let value = json.map(|json| Bytes::from_static(json.as_bytes()));
        let out = index.changed(&Changed { key, value, previous: None, revision: 1 });
        out.iter().map(|(node, change)| format!("{node} {}", change.value.is_some())).collect()
    }

    #[test]
    fn an_attachment_is_seen_by_the_node_that_it_names() {
        let mut index = Attachments::default();
        let key = Key::of(STORAGE, ATTACHMENTS, "", "csi-1");
        let on_first = r#"{"metadata":{},"spec":{"nodeName":"n1"}}"#;
        let attached = r#"{"metadata":{},"spec":{"nodeName":"n1"},"status":{"attached":true}}"#;
        let on_second = r#"{"metadata":{},"spec":{"nodeName":"n2"}}"#;
        assert_eq!(change(&mut index, Some(on_first)), ["n1 true"]);
        assert!(change(&mut index, Some(on_first)).is_empty());
        assert_eq!(change(&mut index, Some(attached)), ["n1 true"]);
        assert!(index.sees("n1", &key) && !index.sees("n2", &key));
        assert_eq!(index.of("n1").count(), 1);
        assert_eq!(change(&mut index, Some(on_second)), ["n1 false", "n2 true"]);
        assert_eq!(change(&mut index, None), ["n2 false"]);
        assert_eq!((index.of("n1").count(), index.of("n2").count()), (0, 0));
    }
}
