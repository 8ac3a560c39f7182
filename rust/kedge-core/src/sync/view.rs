// SPDX-License-Identifier: Apache-2.0
//! Which node sees what: one index over the mirror store for all nodes.
//!
//! A node's view is its Node, volumes' attachments to it, the pods bound to it, and what those need: `ServiceAccount`,
//! `ConfigMaps`, Secrets, and the tokens obtained for them; and what every node sees: who issues tokens. The index
//! is kept by the store's watch; a reverse index finds the nodes of a changed `ConfigMap`. It holds keys and versions, never values, and
//! produces changes only for nodes that are attached. It is also the rule of authorization: what is
//! not in a node's view does not leave for it, and what it reports is checked here.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::sync::attachments::{ATTACHMENTS, Attachments, STORAGE};
use crate::sync::collections::{CERTIFICATES, RBAC};
use crate::sync::emit::{Node, RANK_POD, base, delete, put};
use crate::sync::needs::{Flow, Needs};
use crate::sync::port::Changed;
use crate::sync::references::{self, PodNeeds, TOKEN_GROUP, TOKEN_RESOURCE};
use crate::sync::version::{self, Digest};
use crate::sync::{Change, Key};

pub use crate::sync::emit::{Emit, Read};

/// The kinds a view is made of; what others lead to is indexed before pods are.
pub const RESOURCES: [(&str, &str); 17] = [
    COMMON,
    ("", "nodes"),
    ("", "serviceaccounts"),
    ("", "configmaps"),
    ("", "secrets"),
    (TOKEN_GROUP, TOKEN_RESOURCE),
    ("", "persistentvolumeclaims"),
    ("", "persistentvolumes"),
    (CERTIFICATES, "clustertrustbundles"),
    ("node.k8s.io", "runtimeclasses"),
    (RBAC, "clusterroles"),
    (RBAC, "clusterrolebindings"),
    (RBAC, "roles"),
    (RBAC, "rolebindings"),
    (STORAGE, "csidrivers"),
    (STORAGE, ATTACHMENTS),
    ("", "pods"),
];

/// Objects that every node sees.
const COMMON: (&str, &str) = ("kedge.io", "tokenissuers");

/// Pods that are gone, remembered so that their last events are still their node's own.
const MAX_GONE: usize = 8192;

#[derive(Debug)]
struct Pod {
    node: Node,
    uid: Box<str>,
    needs: Box<[Arc<Key>]>,
    version: u64,
}

#[derive(Debug)]
struct Token {
    key: Arc<Key>,
    pod_uid: Box<str>,
    version: u64,
}

/// The index.
#[derive(Debug, Default)]
pub struct Views {
    pods: HashMap<Arc<Key>, Pod>,
    by_node: HashMap<Node, HashSet<Arc<Key>>>,
    needs: Needs,
    attachments: Attachments,
    /// By the key of their pod.
    tokens: HashMap<Key, Vec<Token>>,
    nodes: HashMap<Key, u64>,
    common: HashMap<Arc<Key>, u64>,
    attached: HashSet<Node>,
    gone: HashMap<Arc<Key>, Node>,
    gone_order: VecDeque<Arc<Key>>,
}

impl Views {
    /// Takes in a change of the mirror; gives what attached nodes get for it.
    pub fn apply(&mut self, changed: &Changed, read: Read<'_>) -> Vec<Emit> {
        let mut out = Vec::new();
        match (changed.key.group.as_str(), changed.key.resource.as_str()) {
            ("", "pods") => self.pod(changed, read, &mut out),
            ("", "nodes") => self.node(changed, &mut out),
            (TOKEN_GROUP, TOKEN_RESOURCE) => self.token(changed, &mut out),
            resource if resource == COMMON => self.common(changed, &mut out),
            (STORAGE, ATTACHMENTS) => {
                for (node, change) in self.attachments.changed(changed) {
                    self.emit(&node, change, &mut out);
                }
            }
            _ => {
                let flow = &mut Flow { attached: &self.attached, read, out: &mut out };
                self.needs.changed(changed, flow);
            }
        }
        out
    }

    /// From now on `apply` gives the changes of this node.
    pub fn attach(&mut self, node: &str) {
        self.attached.insert(node.into());
    }

    /// It does not any more.
    pub fn detach(&mut self, node: &str) {
        self.attached.remove(node);
    }

    /// Everything a node sees, with versions.
    pub fn entries(&self, node: &str) -> Vec<(Arc<Key>, u64)> {
        let mut found: Vec<(Arc<Key>, u64)> = Vec::new();
        let own = Key::of("", "nodes", "", node);
        found.extend(self.nodes.get(&own).map(|version| (Arc::new(own), *version)));
        found.extend(self.common.iter().map(|(key, version)| (Arc::clone(key), *version)));
        found.extend(self.attachments.of(node));
        let mut seen: HashSet<&Arc<Key>> = HashSet::new();
        for key in self.by_node.get(node).into_iter().flatten() {
            let pod = &self.pods[key];
            found.push((Arc::clone(key), pod.version));
            found.extend(
                self.tokens_of(key, &pod.uid).map(|token| (Arc::clone(&token.key), token.version)),
            );
            pod.needs.iter().for_each(|need| self.needs.reach(need, &mut seen));
        }
        found.extend(
            seen.into_iter().filter_map(|need| Some((Arc::clone(need), self.needs.version(need)?))),
        );
        found
    }

    /// The digest of what a node sees.
    pub fn digest(&self, node: &str) -> Digest {
        let mut digest = Digest::default();
        self.entries(node).iter().for_each(|(key, version)| digest.add(key, *version));
        digest
    }

    /// The differences that make a node's copy, given as keys and versions, equal to its view.
    pub fn differences(&self, node: &str, held: &HashMap<Key, u64>, read: Read<'_>) -> Vec<Change> {
        let entries = self.entries(node);
        let mut changes = Vec::new();
        for (key, version) in &entries {
            if held.get(key.as_ref()) == Some(version) {
                continue;
            }
            let value = read(key).and_then(|(value, _)| version::project(key, &value));
            changes.extend(value.map(|value| put(key, value, None)));
        }
        let visible: HashSet<&Key> = entries.iter().map(|(key, _)| key.as_ref()).collect();
        let extra = held.keys().filter(|key| !visible.contains(key));
        changes.extend(extra.map(delete));
        changes
    }

    /// Whether a node's view holds an object.
    pub fn sees(&self, node: &str, key: &Key) -> bool {
        match (key.group.as_str(), key.resource.as_str()) {
            ("", "nodes") => key.namespace.is_empty() && key.name == node,
            ("", "pods") => self.pods.get(key).is_some_and(|pod| &*pod.node == node),
            (TOKEN_GROUP, TOKEN_RESOURCE) => {
                token_pod(key).is_some_and(|pod| self.sees(node, &pod))
            }
            resource if resource == COMMON => self.common.contains_key(key),
            (STORAGE, ATTACHMENTS) => self.attachments.sees(node, key),
            _ => self.needs.sees(node, key),
        }
    }

    /// The node and UID of a pod that is bound.
    pub fn pod_of(&self, key: &Key) -> Option<(&str, &str)> {
        self.pods.get(key).map(|pod| (&*pod.node, &*pod.uid))
    }

    /// The node of a pod that was there until lately.
    pub fn gone_pod_of(&self, key: &Key) -> Option<&str> {
        self.gone.get(key).map(AsRef::as_ref)
    }

    /// How many pods are indexed.
    pub fn len(&self) -> usize {
        self.pods.len()
    }

    /// Whether no pod is indexed.
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    fn node(&mut self, changed: &Changed, out: &mut Vec<Emit>) {
        let key = &changed.key;
        let value = changed.value.as_ref().and_then(|value| version::project(key, value));
        let now = value.as_ref().map(|value| version::version(value));
        let before = match now {
            Some(version) => self.nodes.insert(key.clone(), version),
            None => self.nodes.remove(key),
        };
        if before != now {
            let change = match value {
                Some(value) => put(key, value, base(changed)),
                None => delete(key),
            };
            self.emit(&Node::from(key.name.as_str()), change, out);
        }
    }

    fn common(&mut self, changed: &Changed, out: &mut Vec<Emit>) {
        let value = changed.value.as_ref().and_then(|value| version::project(&changed.key, value));
        let now = value.as_ref().map(|value| version::version(value));
        let before = match now {
            Some(version) => self.common.insert(Arc::new(changed.key.clone()), version),
            None => self.common.remove(&changed.key),
        };
        if before != now {
            let change = match value {
                Some(value) => put(&changed.key, value, base(changed)),
                None => delete(&changed.key),
            };
            out.extend(
                self.attached
                    .iter()
                    .map(|node| Emit { node: Node::clone(node), change: change.clone() }),
            );
        }
    }

    fn token(&mut self, changed: &Changed, out: &mut Vec<Emit>) {
        let Some(pod) = token_pod(&changed.key) else { return };
        let tokens = self.tokens.entry(pod.clone()).or_default();
        tokens.retain(|token| *token.key != changed.key);
        let value = changed.value.as_ref().and_then(|value| version::project(&changed.key, value));
        let uid = changed.value.as_ref().and_then(|value| references::token_pod_uid(value));
        if let (Some(value), Some(uid)) = (&value, &uid) {
            let version = version::version(value);
            let key = Arc::new(changed.key.clone());
            tokens.push(Token { key, pod_uid: uid.as_str().into(), version });
        }
        if tokens.is_empty() {
            self.tokens.remove(&pod);
        }
        let Some(owner) = self.pods.get(&pod) else { return };
        let change = match value {
            Some(value) if uid.as_deref() == Some(&owner.uid) => {
                put(&changed.key, value, base(changed))
            }
            Some(_) => return,
            None => delete(&changed.key),
        };
        let node = Node::clone(&owner.node);
        self.emit(&node, change, out);
    }

    fn pod(&mut self, changed: &Changed, read: Read<'_>, out: &mut Vec<Emit>) {
        let key = Arc::new(changed.key.clone());
        let needs = changed.value.as_deref().and_then(references::pod_needs);
        let bound = needs.filter(|needs| !needs.node.is_empty());
        let old = self.pods.remove(&key);
        let Some((needs, value)) =
            bound.zip(changed.value.as_ref().and_then(|v| version::project(&key, v)))
        else {
            if let Some(old) = old {
                self.unbind(&key, old, read, out);
            }
            return;
        };
        let version = version::version(&value);
        let node = Node::from(needs.node.as_str());
        let same = old.as_ref().is_some_and(|old| old.node == node && *old.uid == *needs.uid);
        if same && old.as_ref().is_some_and(|old| old.version == version) {
            self.pods.extend(old.map(|old| (key, old)));
            return;
        }
        let base = base(changed).filter(|_| same);
        let old = if same {
            old
        } else {
            old.and_then(|old| {
                self.unbind(&key, old, read, out);
                None
            })
        };
        self.bind(&key, needs, version, read, out);
        self.emit(&node, put(&key, value, base), out);
        let flow = &mut Flow { attached: &self.attached, read, out };
        for need in old.iter().flat_map(|old| old.needs.iter()) {
            self.needs.release(need, &node, flow);
        }
        if !same {
            self.send_tokens(&key, read, out);
        }
    }

    fn bind(
        &mut self,
        key: &Arc<Key>,
        needs: PodNeeds,
        version: u64,
        read: Read<'_>,
        out: &mut Vec<Emit>,
    ) {
        let node = Node::from(needs.node.as_str());
        let flow = &mut Flow { attached: &self.attached, read, out };
        let needs_keys =
            needs.keys.into_iter().map(|need| self.needs.require(need, &node, flow)).collect();
        let pod =
            Pod { node: Node::clone(&node), uid: needs.uid.into(), needs: needs_keys, version };
        self.by_node.entry(node).or_default().insert(Arc::clone(key));
        self.pods.insert(Arc::clone(key), pod);
    }

    fn unbind(&mut self, key: &Arc<Key>, old: Pod, read: Read<'_>, out: &mut Vec<Emit>) {
        if let Some(pods) = self.by_node.get_mut(&old.node) {
            pods.remove(key);
            if pods.is_empty() {
                self.by_node.remove(&old.node);
            }
        }
        self.emit(&old.node, Change { rank: RANK_POD, ..delete(key) }, out);
        let tokens: Vec<Change> =
            self.tokens_of(key, &old.uid).map(|token| delete(&token.key)).collect();
        for change in tokens {
            self.emit(&old.node, change, out);
        }
        let flow = &mut Flow { attached: &self.attached, read, out };
        old.needs.iter().for_each(|need| self.needs.release(need, &old.node, flow));
        self.remember_gone(key, old.node);
    }

    fn send_tokens(&self, pod: &Arc<Key>, read: Read<'_>, out: &mut Vec<Emit>) {
        let Some(owner) = self.pods.get(pod).filter(|owner| self.attached.contains(&owner.node))
        else {
            return;
        };
        for token in self.tokens_of(pod, &owner.uid) {
            let value =
                read(&token.key).and_then(|(value, _)| version::project(&token.key, &value));
            out.extend(value.map(|value| Emit {
                node: Node::clone(&owner.node),
                change: put(&token.key, value, None),
            }));
        }
    }

    fn tokens_of<'a>(&'a self, pod: &Key, uid: &'a str) -> impl Iterator<Item = &'a Token> {
        self.tokens.get(pod).into_iter().flatten().filter(move |token| *token.pod_uid == *uid)
    }

    fn remember_gone(&mut self, key: &Arc<Key>, node: Node) {
        if self.gone.insert(Arc::clone(key), node).is_none() {
            self.gone_order.push_back(Arc::clone(key));
        }
        if self.gone_order.len() > MAX_GONE
            && let Some(oldest) = self.gone_order.pop_front()
        {
            self.gone.remove(&oldest);
        }
    }

    fn emit(&self, node: &Node, change: Change, out: &mut Vec<Emit>) {
        if self.attached.contains(node) {
            out.push(Emit { node: Node::clone(node), change });
        }
    }
}

/// The pod that a token is for: its name is `<pod name>.<anything without a dot>`.
fn token_pod(key: &Key) -> Option<Key> {
    let (pod, _) = key.name.rsplit_once('.')?;
    Some(Key::of("", "pods", &key.namespace, pod))
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
