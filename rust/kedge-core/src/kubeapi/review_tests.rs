// SPDX-License-Identifier: Apache-2.0
//! A node without a link: what it says of itself, to its operator and to who asks what he may.

use serde_json::{Value, json};

use super::replica_tests::{Node, node, token_of};

const ACCESS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
const ACCESS_OF_OTHERS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
const RULES: &str = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
const TOKENS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const SELF: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

fn review(node: &Node, path: &str, spec: &Value) -> (u16, Value) {
    let body = json!({"spec": spec}).to_string();
    let (code, answer) = node.send("", "POST", path, &node.valid(), body);
    (code, if code == 201 { answer["status"].clone() } else { answer })
}

fn access(verb: &str, resource: &str) -> Value {
    json!({"resourceAttributes": {"verb": verb, "resource": resource, "namespace": "d"}})
}

#[test]
fn an_account_hears_who_it_is_and_what_it_may() {
    let node = node();
    let (_, who) = review(&node, SELF, &json!({}));
    assert_eq!(who["userInfo"]["username"], "system:serviceaccount:d:web");
    let (code, yes) = review(&node, ACCESS, &access("get", "pods"));
    assert_eq!((code, &yes["allowed"]), (201, &json!(true)));
    let (_, no) = review(&node, ACCESS, &access("get", "nodes"));
    assert_eq!(no["allowed"], false);
    assert!(no["reason"].as_str().unwrap().starts_with("by no role, as of"), "{no}");
    assert_eq!(no["evaluationError"], Value::Null, "all roles of its own accounts are here");
    let (_, rules) = review(&node, RULES, &json!({"namespace": "d"}));
    assert_eq!(rules["incomplete"], true);
    assert_eq!(rules["resourceRules"][0]["resources"], json!(["pods"]));
    assert_eq!(rules["nonResourceRules"][0]["nonResourceURLs"], json!(["/openapi*"]));
}

#[test]
fn what_is_not_known_of_others_is_said_to_be_so() {
    let node = node();
    let asked = |user: &str, groups: &[&str]| {
        let mut spec = access("get", "nodes");
        spec["user"] = user.into();
        spec["groups"] = json!(groups);
        review(&node, ACCESS_OF_OTHERS, &spec).1
    };
    let known = asked("system:serviceaccount:d:web", &["system:serviceaccounts:d"]);
    assert_eq!((&known["allowed"], &known["evaluationError"]), (&json!(false), &Value::Null));
    for (user, groups) in [
        ("somebody", vec![]),
        ("system:serviceaccount:d:elsewhere", vec![]),
        ("system:serviceaccount:d:web", vec!["another"]),
    ] {
        let unknown = asked(user, &groups);
        assert_eq!(unknown["allowed"], false, "{user}");
        assert!(unknown["evaluationError"].as_str().unwrap().contains("cannot tell"), "{user}");
    }
    assert_eq!(asked("somebody", &["operators"])["allowed"], true);
    let weak = token_of(&node, "e");
    for path in [ACCESS_OF_OTHERS, TOKENS] {
        assert_eq!(node.send("", "POST", path, &weak, "{}").0, 403, "{path}");
    }
}

#[test]
fn tokens_of_this_nodes_pods_are_reviewed() {
    let node = node();
    let (_, good) = review(&node, TOKENS, &json!({"token": node.valid()}));
    assert_eq!(good["authenticated"], true);
    assert_eq!(good["user"]["username"], "system:serviceaccount:d:web");
    assert_eq!(good["audiences"], json!([]));
    let several = json!({"token": node.valid(), "audiences": ["vault", "https://cluster"]});
    let (_, several) = review(&node, TOKENS, &several);
    assert_eq!(several["authenticated"], true);
    assert_eq!(several["audiences"], json!(["https://cluster"]), "those that it is for");
    let meant = json!({"token": node.valid(), "audiences": ["vault"]});
    for spec in [meant, json!({"token": "x.y.z"})] {
        let (_, bad) = review(&node, TOKENS, &spec);
        assert_eq!(bad["authenticated"], Value::Null);
        assert!(bad["error"].as_str().unwrap().contains("the cloud is away"), "{bad}");
    }
}

#[test]
fn a_review_that_is_none_is_refused() {
    let node = node();
    for (path, body, code) in [
        (ACCESS, "{}", 400),
        (ACCESS, "[]", 400),
        (ACCESS, "nonsense", 415),
        (ACCESS_OF_OTHERS, r#"{"spec": {"resourceAttributes": {}}}"#, 400),
        (RULES, "{}", 400),
        (TOKENS, "{}", 400),
    ] {
        assert_eq!(node.send("", "POST", path, &node.valid(), body).0, code, "{path} {body}");
    }
    for path in [ACCESS, ACCESS_OF_OTHERS, RULES, TOKENS, SELF] {
        assert_eq!(node.send("", "POST", path, "", "{}").0, 401, "{path}");
    }
}

#[test]
fn protobuf_asks_as_well() {
    let node = node();
    // SelfSubjectAccessReview{spec{resourceAttributes{namespace "d", verb "get", resource "pods"}}}
    let asked = b"\x0a\x01d\x12\x03get\x2a\x04pods";
    let spec = [&[0x0a, u8::try_from(asked.len()).unwrap()], asked.as_slice()].concat();
    let raw = [&[0x0a, 0, 0x12, u8::try_from(spec.len()).unwrap()], spec.as_slice()].concat();
    let body = [b"k8s\0\x12".as_slice(), &[u8::try_from(raw.len()).unwrap()], &raw].concat();
    let (code, answer) = node.send("", "POST", ACCESS, &node.valid(), body);
    assert_eq!((code, &answer["status"]["allowed"]), (201, &json!(true)));
    assert_eq!(answer["kind"], "SelfSubjectAccessReview");
}

#[test]
fn the_nodes_operator_reads_what_the_node_has_and_nothing_passes_for_him() {
    let node = node();
    let secret = json!({"metadata": {"name": "s", "namespace": "d"}});
    node.put("", "secrets", "s", &secret);
    let ask = |group: &str, method: &str, path: &str| node.send(group, method, path, "", "{}");
    let path = "/api/v1/namespaces/d/secrets/s";
    assert_eq!(ask("operators", "GET", path).0, 200);
    assert_eq!(ask("others", "GET", path).0, 403, "a certificate alone gives no rights");
    for (method, path) in
        [("POST", "/api/v1/namespaces/d/pods"), ("GET", "/apis/apps/v1/deployments")]
    {
        let (code, status) = ask("operators", method, path);
        assert_eq!(code, 403);
        assert!(status["message"].as_str().unwrap().contains("means nothing to it"), "{status}");
    }
    let body = json!({"spec": access("delete", "nodes")}).to_string();
    let (_, answer) = node.send("operators", "POST", ACCESS, "", body);
    assert_eq!(answer["status"]["allowed"], true);
}

#[test]
fn events_that_wait_for_the_cloud_are_listed() {
    let node = node();
    let event = json!({"metadata": {"name": "e", "namespace": "d"}, "reason": "Started",
        "involvedObject": {"name": "p"}});
    node.put("", "events", "e", &event);
    let path = "/api/v1/namespaces/d/events?fieldSelector=involvedObject.name%3Dp";
    let (code, list) = node.send("operators", "GET", path, "", "");
    assert_eq!((code, list["items"].as_array().map(Vec::len)), (200, Some(1)));
    assert_eq!(list["items"][0]["reason"], "Started");
    assert_eq!(node.send("", "GET", path, &node.valid(), "").0, 403);
}
