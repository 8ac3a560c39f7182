// SPDX-License-Identifier: Apache-2.0
//! What nodes see of a small cluster.

use bytes::Bytes;

use super::*;

/// A mirror of objects, and what `apply` made of each change.
#[derive(Default)]
struct Mirror {
    objects: HashMap<Key, (Bytes, u64)>,
    revision: u64,
    views: Views,
}

impl Mirror {
    fn put(&mut self, key: Key, json: &str) -> Vec<String> {
        self.change(key, Some(Bytes::copy_from_slice(json.as_bytes())))
    }

    fn change(&mut self, key: Key, value: Option<Bytes>) -> Vec<String> {
        self.revision += 1;
        let previous = self.objects.remove(&key).map(|(value, _)| value);
        if let Some(value) = &value {
            self.objects.insert(key.clone(), (value.clone(), self.revision));
        }
        let changed = Changed { key, value, previous, revision: self.revision };
        let objects = &self.objects;
        let emitted = self.views.apply(&changed, &|key| objects.get(key).cloned());
        emitted.iter().map(describe).collect()
    }

    fn config(&mut self, name: &str, data: &str) -> Vec<String> {
        self.put(
            Key::of("", "configmaps", "d", name),
            &format!(r#"{{"metadata":{{}},"data":"{data}"}}"#),
        )
    }

    fn pod(&mut self, name: &str, node: &str, config: &str) -> Vec<String> {
        let json = format!(
            r#"{{"metadata":{{"namespace":"d","uid":"u-{name}"}},"spec":{{"nodeName":"{node}","volumes":[{{"configMap":{{"name":"{config}"}}}}]}},"status":{{"n":{}}}}}"#,
            self.revision
        );
        self.put(Key::of("", "pods", "d", name), &json)
    }

    fn visible(&self, node: &str) -> Vec<String> {
        let mut names: Vec<String> =
            self.views.entries(node).iter().map(|(key, _)| key.name.clone()).collect();
        names.sort();
        names
    }
}

fn describe(emit: &Emit) -> String {
    let sign = if emit.change.value.is_some() { '+' } else { '-' };
    format!("{} {sign}{} {}", emit.node, emit.change.key.name, emit.change.rank)
}

fn mirror() -> Mirror {
    let mut mirror = Mirror::default();
    mirror.views.attach("n1");
    mirror.views.attach("n2");
    mirror
}

#[test]
fn a_pod_arrives_with_what_it_needs_first_and_leaves_before_it() {
    let mut m = mirror();
    assert!(m.config("c", "1").is_empty());
    assert_eq!(m.pod("p", "n1", "c"), ["n1 +c 0", "n1 +p 1"]);
    assert_eq!(m.visible("n1"), ["c", "p"]);
    assert!(m.visible("n2").is_empty());
    assert_eq!(m.change(Key::of("", "pods", "d", "p"), None), ["n1 -p 1", "n1 -c 2"]);
    assert!(m.visible("n1").is_empty());
    assert_eq!(m.views.gone_pod_of(&Key::of("", "pods", "d", "p")), Some("n1"));
}

#[test]
fn a_changed_config_map_goes_to_the_nodes_that_need_it_and_to_no_other() {
    let mut m = mirror();
    m.config("c", "1");
    m.pod("p1", "n1", "c");
    m.pod("p2", "n3", "c");
    assert_eq!(m.config("c", "2"), ["n1 +c 0"]);
    assert!(m.config("other", "2").is_empty());
    assert!(m.views.sees("n3", &Key::of("", "configmaps", "d", "c")));
    assert!(!m.views.sees("n2", &Key::of("", "configmaps", "d", "c")));
}

#[test]
fn what_a_node_reported_itself_does_not_come_back_to_it() {
    let mut m = mirror();
    m.pod("p", "n1", "c");
    assert!(m.pod("p", "n1", "c").is_empty());
    assert_eq!(m.pod("p", "n1", "d"), ["n1 +p 1"]);
}

#[test]
fn a_config_map_that_two_pods_need_stays_until_the_last_has_gone() {
    let mut m = mirror();
    m.config("c", "1");
    m.pod("p1", "n1", "c");
    assert_eq!(m.pod("p2", "n1", "c"), ["n1 +p2 1"]);
    assert_eq!(m.change(Key::of("", "pods", "d", "p1"), None), ["n1 -p1 1"]);
    assert_eq!(m.pod("p2", "n1", "x"), ["n1 +p2 1", "n1 -c 2"]);
}

#[test]
fn a_need_that_comes_into_being_later_follows_the_pod() {
    let mut m = mirror();
    m.pod("p", "n1", "c");
    assert_eq!(m.config("c", "1"), ["n1 +c 0"]);
    assert_eq!(m.change(Key::of("", "configmaps", "d", "c"), None), ["n1 -c 2"]);
}

#[test]
fn a_token_goes_only_to_the_node_of_the_pod_with_its_uid() {
    let mut m = mirror();
    let token = |uid: &str| format!(r#"{{"metadata":{{}},"spec":{{"podUID":"{uid}"}}}}"#);
    let key = Key::of(TOKEN_GROUP, TOKEN_RESOURCE, "d", "web.0.abc");
    assert!(m.put(key.clone(), &token("u-web.0")).is_empty());
    assert_eq!(m.pod("web.0", "n1", "c"), ["n1 +web.0 1", "n1 +web.0.abc 0"]);
    let foreign = Key::of(TOKEN_GROUP, TOKEN_RESOURCE, "d", "web.0.def");
    assert!(m.put(foreign, &token("u-else")).is_empty());
    assert_eq!(m.visible("n1"), ["web.0", "web.0.abc"]);
    assert_eq!(m.change(key, None), ["n1 -web.0.abc 2"]);
}

#[test]
fn a_pod_of_the_same_name_on_another_node_leaves_the_first() {
    let mut m = mirror();
    m.config("c", "1");
    m.pod("p", "n1", "c");
    assert_eq!(m.pod("p", "n2", "c"), ["n1 -p 1", "n1 -c 2", "n2 +c 0", "n2 +p 1"]);
}

#[test]
fn a_node_sees_its_own_node_object_without_status() {
    let mut m = mirror();
    let key = Key::of("", "nodes", "", "n1");
    assert_eq!(
        m.put(key.clone(), r#"{"metadata":{"resourceVersion":"1"},"status":{"a":1}}"#),
        ["n1 +n1 0"]
    );
    assert!(
        m.put(key.clone(), r#"{"metadata":{"resourceVersion":"2"},"status":{"a":2}}"#).is_empty()
    );
    assert!(m.views.sees("n1", &key) && !m.views.sees("n2", &key));
}

fn with_claim(m: &mut Mirror) {
    let claim = |volume: &str| format!(r#"{{"metadata":{{}},"spec":{{"volumeName":"{volume}"}}}}"#);
    let volume = |secret: &str| {
        format!(
            r#"{{"metadata":{{}},"spec":{{"csi":{{"driver":"drv","nodeStageSecretRef":{{"name":"{secret}","namespace":"s"}}}}}}}}"#
        )
    };
    m.put(Key::of("", "persistentvolumeclaims", "d", "c"), &claim("v"));
    m.put(Key::of("", "persistentvolumes", "", "v"), &volume("s1"));
    m.put(Key::of("", "persistentvolumes", "", "w"), &volume("s2"));
    m.put(Key::of("storage.k8s.io", "csidrivers", "", "drv"), r#"{"metadata":{},"spec":{}}"#);
    m.put(Key::of("", "secrets", "s", "s1"), r#"{"metadata":{},"data":{}}"#);
    m.put(Key::of("", "secrets", "s", "s2"), r#"{"metadata":{},"data":{}}"#);
}

const CLAIMING: &str = r#"{"metadata":{"namespace":"d","name":"p","uid":"u"},"spec":{"nodeName":"n1","volumes":[{"name":"x","persistentVolumeClaim":{"claimName":"c"}}]}}"#;

#[test]
fn a_claim_brings_its_volume_its_driver_and_its_secret() {
    let mut m = mirror();
    with_claim(&mut m);
    let pod = Key::of("", "pods", "d", "p");
    let mut got = m.put(pod.clone(), CLAIMING);
    assert_eq!(got.pop().unwrap(), "n1 +p 1");
    got.sort();
    assert_eq!(got, ["n1 +c 0", "n1 +drv 0", "n1 +s1 0", "n1 +v 0"]);
    assert_eq!(m.visible("n1"), ["c", "drv", "p", "s1", "v"]);
    let mut left = m.change(pod, None);
    assert_eq!(left.remove(0), "n1 -p 1");
    left.sort();
    assert_eq!(left, ["n1 -c 2", "n1 -drv 2", "n1 -s1 2", "n1 -v 2"]);
    assert!(m.visible("n1").is_empty());
}

#[test]
fn a_claim_that_is_bound_anew_leads_to_the_other_volume() {
    let mut m = mirror();
    with_claim(&mut m);
    m.put(Key::of("", "pods", "d", "p"), CLAIMING);
    let claim = Key::of("", "persistentvolumeclaims", "d", "c");
    let mut got = m.put(claim, r#"{"metadata":{},"spec":{"volumeName":"w"}}"#);
    got.sort();
    assert_eq!(got, ["n1 +c 0", "n1 +s2 0", "n1 +w 0", "n1 -s1 2", "n1 -v 2"]);
    assert_eq!(m.visible("n1"), ["c", "drv", "p", "s2", "w"]);
}

#[test]
fn an_account_brings_its_bindings_and_their_roles_whenever_they_come() {
    let mut m = mirror();
    let role = Key::of(RBAC, "roles", "d", "reader");
    m.put(role.clone(), r#"{"metadata":{},"rules":[]}"#);
    let pod = r#"{"metadata":{"namespace":"d","name":"p","uid":"u"},"spec":{"nodeName":"n1","serviceAccountName":"sa"}}"#;
    m.put(Key::of("", "pods", "d", "p"), pod);
    let binding = Key::of(RBAC, "rolebindings", "d", "b");
    let to = |account: &str| {
        format!(
            r#"{{"metadata":{{}},"roleRef":{{"kind":"Role","name":"reader"}},"subjects":[{{"kind":"ServiceAccount","name":"{account}"}}]}}"#
        )
    };
    assert_eq!(m.put(binding.clone(), &to("sa")), ["n1 +b 0", "n1 +reader 0"]);
    assert_eq!(m.put(role, r#"{"metadata":{},"rules":[1]}"#), ["n1 +reader 0"]);
    let mut left = m.put(binding.clone(), &to("other"));
    left.sort();
    assert_eq!(left, ["n1 +b 0", "n1 -b 2", "n1 -reader 2"]);
    assert_eq!(m.visible("n1"), ["p"]);
    assert_eq!(m.put(binding.clone(), &to("sa")), ["n1 +b 0", "n1 +reader 0"]);
    let mut gone = m.change(binding, None);
    gone.sort();
    assert_eq!(gone, ["n1 -b 2", "n1 -reader 2"]);
}

#[test]
fn every_node_sees_who_issues_tokens() {
    let mut mirror = Mirror::default();
    mirror.views.attach("n1");
    mirror.views.attach("n2");
    let key = Key::of("kedge.io", "tokenissuers", "", "cluster");
    let emitted = mirror.put(key.clone(), r#"{"metadata":{},"spec":{"issuer":"a"}}"#);
    assert_eq!(emitted.len(), 2, "{emitted:?}");
    assert!(mirror.put(key.clone(), r#"{"metadata":{},"spec":{"issuer":"a"}}"#).is_empty());
    assert!(mirror.views.sees("n3", &key));
    assert_eq!(mirror.views.entries("n3").len(), 1);
    assert_eq!(mirror.change(key.clone(), None).len(), 2);
    assert!(!mirror.views.sees("n3", &key));
}

#[test]
fn differences_make_any_copy_equal() {
    let mut m = mirror();
    m.config("c", "1");
    m.pod("p", "n1", "c");
    let objects = m.objects.clone();
    let read = |key: &Key| objects.get(key).cloned();
    let mut held: HashMap<Key, u64> =
        m.views.entries("n1").into_iter().map(|(key, version)| ((*key).clone(), version)).collect();
    assert!(m.views.differences("n1", &held, &read).is_empty());
    held.insert(Key::of("", "secrets", "d", "old"), 1);
    *held.get_mut(&Key::of("", "pods", "d", "p")).unwrap() += 1;
    let differences = m.views.differences("n1", &held, &read);
    let names: Vec<_> =
        differences.iter().map(|c| (c.key.name.as_str(), c.value.is_some())).collect();
    assert_eq!(names, [("p", true), ("old", false)]);
}
