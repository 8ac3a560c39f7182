// SPDX-License-Identifier: Apache-2.0

use super::*;
use crate::store::{Expect, Key, Mode, Op, Options};

struct Cluster {
    store: Store,
    rbac: Rbac,
    _directory: tempfile::TempDir,
}

impl Cluster {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = Options { mode: Mode::Primary, durable: false, ..Options::default() };
        let store = Store::open(directory.path(), options).unwrap();
        Self { rbac: Rbac::new(store.clone()), store, _directory: directory }
    }

    fn put(&self, resource: &str, namespace: &str, name: &str, rest: &str) {
        let json =
            format!(r#"{{"metadata":{{"name":"{name}","namespace":"{namespace}"}},{rest}}}"#);
        let key = Key::new(GROUP, resource, namespace, name);
        self.store.commit(vec![Op::Put { key, value: json.into(), expect: Expect::Any }]).unwrap();
    }

    fn remove(&self, resource: &str, namespace: &str, name: &str) {
        let key = Key::new(GROUP, resource, namespace, name);
        self.store.commit(vec![Op::Delete { key, expect: Expect::Any }]).unwrap();
    }

    fn allows(&self, who: &Identity, verb: &str, namespace: &str) -> bool {
        let access =
            Access::Resource { verb, group: "", resource: "pods", subresource: "", name: "" };
        self.rbac.allows(who, namespace, &access)
    }
}

const READ: &str = r#""rules":[{"verbs":["get","list"],"apiGroups":[""],"resources":["pods"]}]"#;

fn account(namespace: &str, name: &str) -> Identity {
    Identity {
        user: format!("system:serviceaccount:{namespace}:{name}"),
        groups: vec!["system:serviceaccounts".into(), "system:authenticated".into()],
    }
}

fn to_role(kind: &str, role: &str, subject: &str) -> String {
    format!(r#""roleRef":{{"kind":"{kind}","name":"{role}"}},"subjects":[{subject}]"#)
}

#[test]
fn a_role_counts_in_its_namespace_and_a_cluster_role_everywhere() {
    let cluster = Cluster::new();
    let who = account("a", "sa");
    assert!(!cluster.allows(&who, "get", "a"));
    cluster.put("roles", "a", "reader", READ);
    let subject = r#"{"kind":"ServiceAccount","name":"sa"}"#;
    cluster.put("rolebindings", "a", "b", &to_role("Role", "reader", subject));
    assert!(cluster.allows(&who, "get", "a"));
    assert!(!cluster.allows(&who, "delete", "a"));
    assert!(!cluster.allows(&who, "get", "b") && !cluster.allows(&who, "list", ""));
    assert!(!cluster.allows(&account("b", "sa"), "get", "a"));
    cluster.put("clusterroles", "", "reader", READ);
    let group = r#"{"kind":"Group","name":"system:serviceaccounts"}"#;
    cluster.put("clusterrolebindings", "", "b", &to_role("ClusterRole", "reader", group));
    assert!(cluster.allows(&account("b", "sa"), "list", ""));
    cluster.remove("clusterrolebindings", "", "b");
    cluster.remove("rolebindings", "a", "b");
    assert!(!cluster.allows(&account("b", "sa"), "list", "") && !cluster.allows(&who, "get", "a"));
}

#[test]
fn a_role_that_changes_counts_at_once() {
    let cluster = Cluster::new();
    let who = Identity { user: "u".into(), groups: Vec::new() };
    let user = r#"{"kind":"User","name":"u"}"#;
    cluster.put("rolebindings", "a", "b", &to_role("ClusterRole", "reader", user));
    assert!(!cluster.allows(&who, "get", "a"));
    cluster.put("clusterroles", "", "reader", READ);
    assert!(cluster.allows(&who, "get", "a") && !cluster.allows(&who, "get", "b"));
    cluster.put("clusterroles", "", "reader", r#""rules":null"#);
    assert!(!cluster.allows(&who, "get", "a"));
}

#[test]
fn an_index_that_fell_behind_history_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let options =
        Options { mode: Mode::Primary, durable: false, history: 20, ..Options::default() };
    let store = Store::open(directory.path(), options).unwrap();
    let cluster = Cluster { rbac: Rbac::new(store.clone()), store, _directory: directory };
    let who = Identity { user: "u".into(), groups: Vec::new() };
    assert!(!cluster.allows(&who, "get", "a"));
    cluster.put("clusterroles", "", "reader", READ);
    let user = r#"{"kind":"User","name":"u"}"#;
    cluster.put("clusterrolebindings", "", "b", &to_role("ClusterRole", "reader", user));
    for number in 0..100 {
        cluster.put("roles", "x", &format!("r{number}"), READ);
    }
    assert!(cluster.allows(&who, "get", "a"));
}

#[test]
fn what_somebody_lacks_of_a_rule_is_told() {
    let cluster = Cluster::new();
    let who = Identity { user: "u".into(), groups: Vec::new() };
    cluster.put("clusterroles", "", "reader", READ);
    let user = r#"{"kind":"User","name":"u"}"#;
    cluster.put("clusterrolebindings", "", "b", &to_role("ClusterRole", "reader", user));
    let wanted = r#"[{"verbs":["get","delete"],"apiGroups":["","apps"],"resources":["pods"]},
        {"verbs":["get"],"nonResourceURLs":["/metrics"]}]"#;
    let missing = cluster.rbac.missing(&who, "a", wanted).unwrap();
    assert_eq!(missing, ["get pods.apps", "delete pods", "delete pods.apps", "get /metrics"]);
    let all = r#"[{"verbs":["*"],"apiGroups":["*"],"resources":["*"]}]"#;
    assert_eq!(cluster.rbac.missing(&who, "a", all).unwrap(), ["* *.*"]);
    assert!(cluster.rbac.missing(&who, "a", "7").is_err());
}
